//! The public key a caller names: a file, standard input, or the key itself. Whether its type is accepted is the service's
//! to say; what is caught here are the mistakes people make, above all naming the private key.

use crate::failure::{Exit, Failure};
use instance_connect_core::ssh_key::{KeyError, KeyTypes, PublicKey, holds_private_key};
use std::fs::File;
use std::io::Read;
use zeroize::Zeroizing;

/// Four times the longest key the API takes; also far more than any private key.
const LARGEST_FILE: u64 = 16 * 1024;

/// Reads the key that `argument` names. No message repeats what was read.
pub(crate) fn read(argument: &str) -> Result<String, Failure> {
    let (name, text) = if is_key(argument) {
        ("the key", Zeroizing::new(argument.to_owned()))
    } else if holds_private_key(argument) {
        return Err(private_key("the argument", None));
    } else if argument == "-" {
        ("standard input", bounded("standard input", std::io::stdin().lock())?)
    } else {
        // The AWS CLI wants this prefix, so people type it.
        let path = argument.strip_prefix("file://").unwrap_or(argument);
        let file = File::open(path).map_err(|error| {
            Failure::new(Exit::Parameter, format!("--ssh-public-key {path:?}: {error}"))
                .hint("give the file of a public key, such as ~/.ssh/id_ed25519.pub")
        })?;
        (path, bounded(path, file)?)
    };
    check(name, &text)
}

/// Whether the argument is a key itself, good or bad, and not the name of a file.
fn is_key(text: &str) -> bool {
    !matches!(parse(text), Err(KeyError::FileName | KeyError::NotAKey | KeyError::PrivateKey))
}

fn parse(text: &str) -> Result<PublicKey, KeyError> {
    PublicKey::parse(text, &KeyTypes::all())
}

fn bounded(name: &str, source: impl Read) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let refuse = |why: &str| Failure::new(Exit::Parameter, format!("{name}: {why}"));
    match source.take(LARGEST_FILE + 1).read_to_string(&mut text) {
        Err(error) => Err(refuse(&error.to_string())),
        Ok(_) if text.len() as u64 > LARGEST_FILE => Err(refuse("too long for a public key")),
        Ok(_) => Ok(text),
    }
}

/// The text as it is, if it is a key.
fn check(name: &str, text: &str) -> Result<String, Failure> {
    match parse(text) {
        Ok(_) => Ok(text.trim().to_owned()),
        Err(KeyError::PrivateKey) => Err(private_key(name, Some(name))),
        Err(error) => {
            // One word is taken for a file's name, but here it was in a file.
            let error = if error == KeyError::FileName { KeyError::NotAKey } else { error };
            Err(Failure::new(Exit::Parameter, format!("{name} {}", error.problem())).hint(error.advice()))
        }
    }
}

/// Says what it is and what to give instead.
pub(crate) fn private_key(name: &str, file: Option<&str>) -> Failure {
    let hint = match file {
        Some(file) if file.starts_with('/') || file.contains(['/', '.', '_']) => {
            format!("give the public key, usually {file}.pub; `ssh-keygen -y -f {file}` prints it")
        }
        _ => "give the public key; `ssh-keygen -y -f FILE` prints the one that belongs to a private key"
            .to_owned(),
    };
    Failure::new(
        Exit::Parameter,
        format!("{name} is a private key, which must never leave this machine; not sent"),
    )
    .hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

    #[test]
    fn keys_are_sent_as_they_are() {
        for text in [KEY, &format!("{KEY}\n"), &format!("\n{KEY} me@host\r\n")] {
            assert_eq!(check("k", text).unwrap(), text.trim());
        }
        let (_, base64) = KEY.split_once(' ').unwrap();
        let block = format!("---- BEGIN SSH2 PUBLIC KEY ----\n{base64}\n---- END SSH2 PUBLIC KEY ----");
        for argument in [KEY, &block] {
            assert_eq!(read(argument).unwrap(), argument);
        }
    }

    #[test]
    fn mistakes() {
        for (text, part) in [
            ("", "~/.ssh/id is not a public key"),
            (" \n", "~/.ssh/id is not a public key"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n", "~/.ssh/id is a private key"),
            ("-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n", "~/.ssh/id is a private key"),
            ("PuTTY-User-Key-File-3: ssh-ed25519\nc2VjcmV0\n", "~/.ssh/id is a private key"),
            ("-----BEGIN PUBLIC KEY-----\nc2VjcmV0\n", "~/.ssh/id is in PEM format"),
            ("ssh-ed25519 c2VjcmV0\nssh-ed25519 c2VjcmV0\n", "~/.ssh/id holds several keys"),
            ("ssh-ed25519-cert-v01@openssh.com c2VjcmV0", "~/.ssh/id is a certificate"),
            ("restrict,pty ssh-ed25519 c2VjcmV0", "~/.ssh/id begins with authorized_keys options"),
            ("sk-ssh-ed25519@openssh.com c2VjcmV0", "~/.ssh/id has base64 that is not a key of its type"),
            ("c2VjcmV0", "~/.ssh/id is not a public key"),
        ] {
            let Failure { exit, message, hint, .. } = check("~/.ssh/id", text).unwrap_err();
            assert!(message.starts_with(part), "{text:?}: {message}");
            assert!(!format!("{message} {hint:?}").contains("c2VjcmV0"), "{message}");
            assert_eq!(exit, Exit::Parameter);
        }
        let error = read("-----BEGIN OPENSSH PRIVATE KEY----- c2VjcmV0").unwrap_err();
        assert!(error.message.contains("is a private key") && !error.message.contains("c2VjcmV0"));
    }
}
