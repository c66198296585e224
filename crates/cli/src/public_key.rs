//! The public key a caller names: a file, standard input, or the key itself. Whether it is a good key is the service's
//! to say; what is caught here are the mistakes people make, above all naming the private key.

use crate::failure::{Exit, Failure};
use std::fs::File;
use std::io::Read;
use zeroize::Zeroizing;

/// Four times the longest key the API takes; also far more than any private key.
const LARGEST_FILE: u64 = 16 * 1024;

/// How a public key begins, options in front of it excluded.
const KEY_TYPES: [&str; 5] = ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-", "sk-", "ssh-dss"];

/// How a key in an SSH2 block begins (RFC 4716).
const SSH2_BLOCK: &str = "---- BEGIN SSH2 PUBLIC KEY";

/// Reads the key that `argument` names. No message repeats what was read.
pub(crate) fn read(argument: &str) -> Result<String, Failure> {
    let (name, text) = if is_key(argument) {
        ("the key", Zeroizing::new(argument.to_owned()))
    } else if is_private(argument) {
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

fn is_key(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    text.starts_with(SSH2_BLOCK)
        || (text.contains(' ') && KEY_TYPES.iter().any(|key_type| first.starts_with(key_type)))
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

fn check(name: &str, text: &str) -> Result<String, Failure> {
    let refuse = |why: &str| Failure::new(Exit::Parameter, format!("{name}: {why}"));
    let key = text.trim();
    if is_private(key) {
        return Err(private_key(name, Some(name)));
    }
    if key.is_empty() {
        return Err(refuse("there is no key in it"));
    }
    if key.starts_with(SSH2_BLOCK) {
        return Ok(key.to_owned());
    }
    if key.starts_with("-----BEGIN ") {
        let hint =
            format!("`ssh-keygen -i -m PKCS8 -f {name}` (or `-m PEM`) prints the key as OpenSSH writes it");
        return Err(refuse("a public key in another format than OpenSSH's").hint(hint));
    }
    if key.lines().count() > 1 {
        return Err(
            refuse("more than one line").hint("a push takes one key; give a file with that key alone")
        );
    }
    let mut words = key.split_whitespace();
    let first = words.next().unwrap_or_default();
    if first.contains("-cert-v01@openssh.com") {
        let hint = "give the file of the key itself, usually without `-cert` in its name";
        return Err(refuse("a certificate, not a key").hint(hint));
    }
    if KEY_TYPES.iter().any(|key_type| first.starts_with(key_type)) {
        return Ok(key.to_owned());
    }
    if words.any(|word| KEY_TYPES.iter().any(|key_type| word.starts_with(key_type))) {
        return Err(refuse("something stands before the key").hint("leave options of authorized_keys out"));
    }
    Err(refuse("not a public key").hint("a public key begins with its type, such as ssh-ed25519"))
}

/// The marks of private keys as OpenSSH, OpenSSL and PuTTY write them.
pub(crate) fn is_private(text: &str) -> bool {
    text.contains("PRIVATE KEY--") || text.starts_with("PuTTY-User-Key-File")
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
        for argument in [KEY, "ecdsa-sha2-nistp256 AAAA", "sk-ssh-ed25519@openssh.com AAAA me@host"] {
            assert_eq!(read(argument).unwrap(), argument);
        }
        let block = format!("{SSH2_BLOCK} ----\nAAAA\n---- END SSH2 PUBLIC KEY ----");
        assert_eq!(read(&block).unwrap(), block);
    }

    #[test]
    fn mistakes() {
        for (text, part) in [
            ("", "there is no key in it"),
            (" \n", "there is no key in it"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n", "is a private key"),
            ("-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n", "is a private key"),
            ("PuTTY-User-Key-File-3: ssh-ed25519\nc2VjcmV0\n", "is a private key"),
            ("-----BEGIN PUBLIC KEY-----\nc2VjcmV0\n", "another format"),
            ("ssh-ed25519 c2VjcmV0\nssh-ed25519 c2VjcmV0\n", "more than one line"),
            ("ssh-ed25519-cert-v01@openssh.com c2VjcmV0", "a certificate"),
            ("restrict,pty ssh-ed25519 c2VjcmV0", "before the key"),
            ("c2VjcmV0", "not a public key"),
        ] {
            let Failure { exit, message, hint } = check("~/.ssh/id", text).unwrap_err();
            assert!(message.contains(part), "{text:?}: {message}");
            assert!(!format!("{message} {hint:?}").contains("c2VjcmV0"), "{message}");
            assert_eq!(exit, Exit::Parameter);
        }
        let error = read("-----BEGIN OPENSSH PRIVATE KEY----- c2VjcmV0").unwrap_err();
        assert!(error.message.contains("is a private key") && !error.message.contains("c2VjcmV0"));
    }
}
