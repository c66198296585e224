//! The command line, as sshd gives it: options, then `%u %f %U`, then perhaps another command to ask.

use crate::chained::Chained;
use instance_connect_document::{Fingerprint, OsUser};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// What `--help` prints.
pub const USAGE: &str = "\
Prints the SSH public key that may open an account right now, for sshd to compare with the one it was offered.

Usage: instance-connect-authorized-keys [options] USER [FINGERPRINT [UID]] [--chain COMMAND [ARGUMENT...]]

sshd runs it; `instance-connect-agent install` puts this where sshd reads it:
    AuthorizedKeysCommand /usr/libexec/instance-connect/instance-connect-authorized-keys %u %f %U
    AuthorizedKeysCommandUser instance-connect-keys

  USER         the account (%u)
  FINGERPRINT  SHA256:... of the offered key (%f); without it, all live keys of the account are printed
  UID          the account's numeric user id (%U); without it, root is known by its name only
  COMMAND      asked next where no pushed key was found, with its arguments: the AuthorizedKeysCommand that was
               here before. It must be root's like this one, and has 5 seconds and 256 KiB to answer

  --etc DIR      instance-id, anchors and host.toml (default /etc/instance-connect)
  --run DIR      what the agent hands over (default /run/instance-connect)
  --syslog PATH  the system log's socket (default /dev/log)
  --help, --version

Exit status: 0 for a key, for no key and for a refused key (the system log says why);
             1 when the installation or the command line is broken, sshd does not take the key,
             or the chained command was asked and failed.
To see what it would say for a key: run it as AuthorizedKeysCommandUser with
    USER \"$(ssh-keygen -lf key.pub | cut -d' ' -f2)\" \"$(id -u USER)\"
";

/// What the command is asked to do.
#[derive(Debug)]
pub enum Invocation {
    /// Answer sshd.
    Login(Box<Login>),
    /// Do nothing: no key can have been pushed for what is no OS user name of the API.
    UnknownUser,
    /// Print [`USAGE`].
    Help,
    /// Print the version.
    Version,
}

/// One question of sshd, and where to look for the answer.
#[derive(Debug)]
pub struct Login {
    /// What root has set up.
    pub etc: PathBuf,
    /// What the agent hands over.
    pub run: PathBuf,
    /// The account.
    pub user: OsUser,
    /// The offered key, unless sshd spelled it in another way than SHA-256.
    pub fingerprint: Option<Fingerprint>,
    /// The account's uid, unless it is missing or no number.
    pub uid: Option<u32>,
}

/// Why a command line cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentsError {
    /// There is no user.
    Insufficient,
    /// The user is an empty text.
    EmptyUser,
    /// There is an option that does not exist.
    UnknownOption,
    /// An option has no value.
    NoValue,
    /// There is a fourth argument.
    TooMany,
}

impl fmt::Display for ArgumentsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            // The first two texts are those of the stock host scripts (wire.md 3.4), two blanks and all.
            Self::Insufficient => {
                "Unable to run EC2 Instance Connect: insufficient args provided.  Please check your sshd configuration."
            }
            Self::EmptyUser => "EC2 Instance Connect was invoked without a user to authorize and will do nothing.",
            Self::UnknownOption => {
                "Unable to run EC2 Instance Connect: unknown option. Please check your sshd configuration (--help lists them)."
            }
            Self::NoValue => {
                "Unable to run EC2 Instance Connect: an option has no value. Please check your sshd configuration."
            }
            Self::TooMany => {
                "Unable to run EC2 Instance Connect: more args than %u %f %U. Please check your sshd configuration."
            }
        })
    }
}

impl std::error::Error for ArgumentsError {}

/// A command line, read.
#[derive(Debug)]
pub struct CommandLine {
    /// What the command is asked to do, or why that is not clear.
    pub invocation: Result<Invocation, ArgumentsError>,
    /// The system log's socket.
    pub syslog: PathBuf,
    /// Whom to ask next. Also where the rest cannot be followed: what worked before us is not to fail with us.
    pub chained: Option<Chained>,
}

impl CommandLine {
    /// Reads a command line, the program's name left out.
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Self {
        let mut own: Vec<OsString> = arguments.collect();
        let chain = own.iter().position(|argument| argument == "--chain").map(|at| own.split_off(at));
        let mut syslog = PathBuf::from("/dev/log");
        let mut invocation = parse(own, &mut syslog);
        let mut chained = None;
        if let Some(chain) = chain {
            let mut command = chain.into_iter().skip(1);
            match command.next() {
                Some(program) => {
                    chained = Some(Chained { program: program.into(), arguments: command.collect() });
                }
                None => invocation = Err(ArgumentsError::NoValue),
            }
        }
        Self { invocation, syslog, chained }
    }
}

fn parse(arguments: Vec<OsString>, syslog: &mut PathBuf) -> Result<Invocation, ArgumentsError> {
    let mut arguments = arguments.into_iter().peekable();
    let mut etc = PathBuf::from("/etc/instance-connect");
    let mut run = PathBuf::from("/run/instance-connect");
    while let Some(option) = arguments.next_if(|argument| argument.as_encoded_bytes().starts_with(b"-")) {
        let place = match option.to_str() {
            Some("--etc") => &mut etc,
            Some("--run") => &mut run,
            Some("--syslog") => &mut *syslog,
            Some("--help") => return Ok(Invocation::Help),
            Some("--version") => return Ok(Invocation::Version),
            Some("--") => break,
            _ => return Err(ArgumentsError::UnknownOption),
        };
        *place = arguments.next().ok_or(ArgumentsError::NoValue)?.into();
    }
    let user = arguments.next().ok_or(ArgumentsError::Insufficient)?;
    let (fingerprint, uid) = (arguments.next(), arguments.next());
    if arguments.next().is_some() {
        return Err(ArgumentsError::TooMany);
    }
    if user.is_empty() {
        return Err(ArgumentsError::EmptyUser);
    }
    let Some(user) = user.to_str().and_then(|user| user.parse().ok()) else {
        return Ok(Invocation::UnknownUser);
    };
    // sshd spells fingerprints otherwise where FingerprintHash is md5, and older ones do not know %U: what is odd here
    // counts as missing.
    let fingerprint = fingerprint.and_then(|text| text.to_str()?.parse().ok());
    let uid = uid.and_then(|text| text.to_str()?.parse().ok());
    Ok(Invocation::Login(Box::new(Login { etc, run, user, fingerprint, uid })))
}
