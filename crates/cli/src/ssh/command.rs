//! The `ssh` command line. ssh takes the first value it is given for an option, and the command line comes before its
//! files; so what must hold stands first, the caller's own options follow, and what is merely better stands last.

use super::place::{KNOWN_HOSTS, PUBLIC_KEY, SOCKET};
use super::route::Route;
use crate::failure::{Exit, Failure};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use tokio::process::Command;

/// The letters of ssh's options that take a value (OpenSSH 9; `-P` took none before 9.4, when it did nothing).
const LETTERS_WITH_VALUE: &str = "BbcDEeFIiJLlmOoPpQRSWw";

/// The caller's arguments for ssh, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SshArguments {
    /// Options, each with its value.
    options: Vec<OsString>,
    /// Whether `-A` was among them: it is left out there.
    forward_agent: bool,
    /// The remote command.
    command: Vec<OsString>,
}

impl SshArguments {
    /// Options up to the first word that is none; the rest is the remote command.
    pub(super) fn split(arguments: &[OsString]) -> Result<Self, Failure> {
        let mut split = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(letters) =
                argument.to_str().and_then(|text| text.strip_prefix('-')).filter(|l| !l.is_empty())
            else {
                split.command.push(argument.clone());
                break;
            };
            if letters == "-" {
                break;
            }
            let with_value = letters.find(|letter| LETTERS_WITH_VALUE.contains(letter));
            let (flags, value) = letters.split_at(with_value.unwrap_or(letters.len()));
            refuse_ours(value)?;
            if flags.contains('A') {
                split.forward_agent = true;
            }
            let kept: String = argument.to_str().unwrap_or_default().to_owned();
            let kept = if flags.contains('A') { format!("-{}{value}", flags.replace('A', "")) } else { kept };
            if kept != "-" {
                split.options.push(kept.into());
            }
            if value.len() == 1 {
                split.options.extend(rest.next().cloned());
            }
        }
        split.command.extend(rest.cloned());
        Ok(split)
    }
}

/// Options with a place of their own on our command line; ssh would take ours and ignore these without a word.
fn refuse_ours(option: &str) -> Result<(), Failure> {
    let instead = match option.chars().next() {
        Some('l') => "USER@INSTANCE or --os-user instead of -l",
        Some('p') => "--port instead of -p",
        _ => return Ok(()),
    };
    Err(Failure::new(Exit::Parameter, format!("use {instead}")))
}

/// The command, with the agent, the public key and the host keys in `place`.
pub(super) fn ssh_command(place: &Path, route: &Route, arguments: &SshArguments) -> Result<Command, Failure> {
    let mut command = Command::new("ssh");
    let mut set = |option: String| {
        command.arg("-o").arg(option);
    };
    // The key of this login, from our agent, before any other.
    set(format!("IdentityAgent={}", in_place(place, SOCKET)));
    set(format!("IdentityFile={}", in_place(place, PUBLIC_KEY)));
    for option in
        ["IdentitiesOnly=yes", "PubkeyAuthentication=yes", "PKCS11Provider=none", "AddKeysToAgent=no"]
    {
        set(option.to_owned());
    }
    // The machine proves itself with a key that is known, or there is no login.
    for option in ["StrictHostKeyChecking=yes", "NoHostAuthenticationForLocalhost=no", "VerifyHostKeyDNS=no"]
    {
        set(option.to_owned());
    }
    if route.known_hosts.is_some() {
        set(format!("UserKnownHostsFile={}", in_place(place, KNOWN_HOSTS)));
        for option in ["GlobalKnownHostsFile=/dev/null", "KnownHostsCommand=none", "UpdateHostKeys=no"] {
            set(option.to_owned());
        }
    }
    if route.by_instance_id {
        set(format!("HostKeyAlias={}", route.instance));
    }
    // The address as it is, whatever the caller's files make of it.
    set(format!("HostName={}", route.host.replace('%', "%%")));
    set("CanonicalizeHostname=no".to_owned());
    command.args(["-p", &route.port.to_string(), "-l", route.user.as_str()]);

    command.args(&arguments.options);

    // A connection that is shared would outlive the key that was pushed for it, and may lead to another machine that has
    // the address now; an agent that is forwarded would be ours, with the one key. Both are there for who asks.
    for option in ["ControlMaster=no", "ControlPath=none"] {
        command.args(["-o", option]);
    }
    let forward = if arguments.forward_agent { callers_agent()? } else { "no".to_owned() };
    command.arg("-o").arg(format!("ForwardAgent={forward}"));

    command.arg("--").arg(format!("{}@{}", route.user, route.host));
    command.args(&arguments.command);
    Ok(command)
}

/// A file in our directory as the value of an ssh option: quoted, and with its percent signs doubled.
fn in_place(place: &Path, name: &str) -> String {
    format!("\"{}\"", place.join(name).display().to_string().replace('%', "%%"))
}

/// The caller's own agent, which is what `-A` means.
fn callers_agent() -> Result<String, Failure> {
    let socket = std::env::var("SSH_AUTH_SOCK").unwrap_or_default();
    if socket.starts_with('/') && !socket.contains(['"', '\\', '$']) && !socket.contains(char::is_control) {
        return Ok(format!("\"{}\"", socket.replace('%', "%%")));
    }
    Err(Failure::new(Exit::Parameter, "-A: there is no agent to forward")
        .hint("SSH_AUTH_SOCK must name its socket"))
}

/// The command as one would type it.
pub(super) fn shown(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted);
    words.collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_=./:@%+,".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(arguments: &[&str]) -> Result<SshArguments, Failure> {
        SshArguments::split(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_and_command() {
        for (arguments, options, command) in [
            (&[][..], &[][..], &[][..]),
            (&["uptime"], &[], &["uptime"]),
            (&["ls", "-l", "-p"], &[], &["ls", "-l", "-p"]),
            (&["-v", "uptime"], &["-v"], &["uptime"]),
            (&["-L", "1:b:2", "uptime"], &["-L", "1:b:2"], &["uptime"]),
            (&["-L1:b:2", "-N"], &["-L1:b:2", "-N"], &[]),
            (&["-vNL", "1:b:2", "uptime"], &["-vNL", "1:b:2"], &["uptime"]),
            (&["-o", "-x", "-t", "sudo", "-i"], &["-o", "-x", "-t"], &["sudo", "-i"]),
            (&["-v", "--", "-odd"], &["-v"], &["-odd"]),
            (&["-o"], &["-o"], &[]),
            (&["-", "x"], &[], &["-", "x"]),
            (&["", "x"], &[], &["", "x"]),
        ] {
            let split = split(arguments).unwrap();
            assert_eq!(split.options, options, "{arguments:?}");
            assert_eq!(split.command, command, "{arguments:?}");
            assert!(!split.forward_agent);
        }
    }

    #[test]
    fn agent_forwarding_is_taken_out() {
        for (arguments, options) in
            [(&["-A"][..], &[][..]), (&["-vA", "-t"], &["-v", "-t"]), (&["-AL", "1:b:2"], &["-L", "1:b:2"])]
        {
            let split = split(arguments).unwrap();
            assert!(split.forward_agent);
            assert_eq!(split.options, options, "{arguments:?}");
        }
        assert!(!split(&["-i", "-A"]).unwrap().forward_agent);
        assert!(!split(&["echo", "-A"]).unwrap().forward_agent);
    }

    #[test]
    fn options_that_are_ours() {
        for arguments in [&["-l", "root"][..], &["-lroot"], &["-vp", "22"], &["-p22"]] {
            assert_eq!(split(arguments).unwrap_err().exit, Exit::Parameter, "{arguments:?}");
        }
    }

    #[test]
    fn shown_as_typed() {
        let mut command = Command::new("ssh");
        command.args(["-p", "22", "a@b", "echo 'x'", ""]);
        assert_eq!(shown(&command), r"ssh -p 22 a@b 'echo '\''x'\''' ''");
    }
}
