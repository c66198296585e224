//! The command line of `ssh`, or of `sftp`, which passes most of it on to `ssh`. ssh takes the first value it is given for an option, and the command line comes before its
//! files; so what must hold stands first, the caller's own options follow, and what is merely better stands last.

use super::place::{KNOWN_HOSTS, PUBLIC_KEY, SOCKET};
use super::route::Route;
use crate::failure::{Exit, Failure};
use instance_connect_core::shell;
use std::ffi::OsString;
use std::path::Path;
use tokio::process::Command;

/// The program that is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Ssh,
    Sftp,
    /// ssh, to a gateway that joins it with a serial line and does nothing else.
    Console,
}

impl Program {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ssh | Self::Console => "ssh",
            Self::Sftp => "sftp",
        }
    }

    /// The letters of its options that take a value (OpenSSH 9; ssh's `-P` took none before 9.4, when it did nothing).
    fn letters_with_value(self) -> &'static str {
        match self {
            Self::Ssh | Self::Console => "BbcDEeFIiJLlmOoPpQRSWw",
            Self::Sftp => "BbcDFiJloPRSsX",
        }
    }

    /// What to use instead of an option that has a place of its own on our command line: the program would take ours and ignore
    /// the other without a word.
    fn instead_of(self, letter: char) -> Option<&'static str> {
        match (self, letter) {
            (Self::Ssh, 'l') => Some("USER@INSTANCE or --os-user instead of -l"),
            (Self::Ssh, 'p') => Some("--port instead of -p"),
            (Self::Sftp, 'P') => Some("--port instead of -P"),
            (Self::Console, 'l') => {
                Some("INSTANCE instead of -l: the user name at the gateway is made of it")
            }
            (Self::Console, 'p') => Some("--gateway HOST:PORT instead of -p"),
            _ => None,
        }
    }
}

/// What a serial line has nothing of, whatever the caller's files say. A terminal is taken even where standard input is none: a line is
/// one. ssh's own escape character stays as it is set.
const LINE_ONLY: &[&str] = &[
    "RequestTTY=force",
    "RemoteCommand=none",
    "PermitLocalCommand=no",
    "PreferredAuthentications=publickey",
    "ClearAllForwardings=yes",
    "ForwardX11=no",
    "Tunnel=no",
];

/// The caller's arguments for ssh, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SshArguments {
    /// Options, each with its value.
    options: Vec<OsString>,
    /// Whether `-A` was among them: it is left out there.
    forward_agent: bool,
    /// The remote command.
    command: Vec<OsString>,
}

impl SshArguments {
    /// Options up to the first word that is none; the rest is the remote command.
    pub(crate) fn split(program: Program, arguments: &[OsString]) -> Result<Self, Failure> {
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
            let with_value = letters.find(|letter| program.letters_with_value().contains(letter));
            let (flags, value) = letters.split_at(with_value.unwrap_or(letters.len()));
            if let Some(instead) = value.chars().next().and_then(|letter| program.instead_of(letter)) {
                return Err(Failure::new(Exit::Parameter, format!("use {instead}")));
            }
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
        if program == Program::Sftp && !split.command.is_empty() {
            let message = "sftp takes no command here, but what it is told on standard input, or by -b FILE";
            return Err(Failure::new(Exit::Parameter, message));
        }
        if program == Program::Console && (split.forward_agent || !split.command.is_empty()) {
            let message = "a serial line runs no command and forwards nothing; what stands behind -- are options of ssh";
            return Err(Failure::new(Exit::Parameter, message));
        }
        Ok(split)
    }
}

/// The command, with the agent, the public key and the host keys in `place`.
pub(super) fn command(
    program: Program,
    place: &Path,
    route: &Route,
    arguments: &SshArguments,
) -> Result<Command, Failure> {
    let mut command = Command::new(program.name());
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
    if let Some(alias) = &route.alias {
        set(format!("HostKeyAlias={alias}"));
    }
    // The address as it is, whatever the caller's files make of it.
    set(format!("HostName={}", route.host.replace('%', "%%")));
    set("CanonicalizeHostname=no".to_owned());
    if program == Program::Console {
        for option in LINE_ONLY {
            set((*option).to_owned());
        }
    }
    let port = route.port.to_string();
    match program {
        Program::Ssh | Program::Console => command.args(["-p", &port, "-l", route.user.as_str()]),
        Program::Sftp => command.args(["-P", &port]),
    };

    command.args(&arguments.options);

    // A connection that is shared would outlive the key that was pushed for it, and may lead to another machine that has
    // the address now; an agent that is forwarded would be ours, with the one key. Both are there for who asks.
    for option in ["ControlMaster=no", "ControlPath=none"] {
        command.args(["-o", option]);
    }
    let forward = if arguments.forward_agent { callers_agent()? } else { "no".to_owned() };
    command.arg("-o").arg(format!("ForwardAgent={forward}"));

    // To sftp, what follows a colon is a path.
    let host = match program {
        Program::Sftp if route.host.contains(':') => format!("[{}]", route.host),
        Program::Ssh | Program::Sftp | Program::Console => route.host.clone(),
    };
    command.arg("--").arg(format!("{}@{host}", route.user));
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
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| shell::quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(arguments: &[&str]) -> Result<SshArguments, Failure> {
        split_for(Program::Ssh, arguments)
    }

    fn split_for(program: Program, arguments: &[&str]) -> Result<SshArguments, Failure> {
        SshArguments::split(program, &arguments.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_of_sftp() {
        let options = ["-q", "-b", "batch", "-l", "100", "-o", "SendEnv=X"];
        let split = split_for(Program::Sftp, &options).unwrap();
        assert_eq!((split.options, split.command.len()), (options.map(OsString::from).to_vec(), 0));
        for arguments in [&["-P", "22"][..], &["file"], &["--", "file"]] {
            assert_eq!(
                split_for(Program::Sftp, arguments).unwrap_err().exit,
                Exit::Parameter,
                "{arguments:?}"
            );
        }
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

    /// Neither a command nor anything that would be forwarded.
    #[test]
    fn options_of_a_serial_line() {
        let split = split_for(Program::Console, &["-v", "-e", "none"]).unwrap();
        assert_eq!(split.options, ["-v", "-e", "none"]);
        for arguments in [&["uptime"][..], &["--", "-v"], &["-A"], &["-vA"], &["-l", "root"], &["-p22"]] {
            let refused = split_for(Program::Console, arguments).unwrap_err();
            assert_eq!(refused.exit, Exit::Parameter, "{arguments:?}");
        }
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
        assert_eq!(shown(&command), r"ssh -p 22 a@b 'echo '\''x'\' ''");
    }
}
