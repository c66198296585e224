//! What the program in sshd's PAM stack tells the agent when a login begins and ends: one datagram each, of which nobody
//! waits for an answer. It is what proves that a pushed key was used, from where, and for how long.
//!
//! ```text
//! SessionOpened v1
//! User=<OS user>
//! Session=<process>-<start>   sshd's process of this login, and when it started, in ticks since the boot
//! Fingerprint=SHA256:<base64>
//! From=<address or name>
//! At=<CLOCK_BOOTTIME in nanoseconds>
//! ```
//! ```text
//! SessionClosed v1
//! User=…
//! Session=…
//! At=…
//! ```
//! It is a claim of this machine, and opens nothing.

use crate::time::BootInstant;
use crate::{Fingerprint, OsUser, datagram, decimal};
use instance_connect_planted::parser_entered;
use std::fmt;
use std::str::FromStr;

/// Where the agent listens, in the run directory: a datagram socket of its own, for root only.
pub const SESSIONS_SOCKET: &str = "sessions.sock";

/// Largest datagram, in bytes.
pub const SESSION_LIMIT: usize = 1024;

const OPENED: &str = "SessionOpened v1";
const CLOSED: &str = "SessionClosed v1";

/// One login, named once in each boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// sshd's process that watches over the login.
    pub process: u32,
    /// When that process started, in clock ticks since the boot.
    pub started: u64,
}

/// Where a login comes from, as sshd says: an address, or a name where sshd looks it up. Printable, without blanks, and
/// of at most 253 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteHost(String);

/// Something that happened to a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEvent {
    /// Whose account.
    pub user: OsUser,
    /// Which login.
    pub session: SessionId,
    /// Whether it begins or ends.
    pub change: SessionChange,
    /// When, on the machine's boot clock.
    pub at: BootInstant,
}

/// What happened to a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionChange {
    /// It begins.
    Opened {
        /// The key that has opened it.
        fingerprint: Fingerprint,
        /// Where it comes from.
        from: RemoteHost,
    },
    /// It ends.
    Closed,
}

/// The text is not of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionError;

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a session is SessionOpened v1, User, Session, Fingerprint, From, At; or SessionClosed v1, User, Session, At")
    }
}

impl std::error::Error for SessionError {}

impl RemoteHost {
    /// What sshd itself says of a connection that has no address.
    pub fn unknown() -> Self {
        Self("UNKNOWN".to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RemoteHost {
    type Err = SessionError;

    fn from_str(text: &str) -> Result<Self, SessionError> {
        let fits = (1..=253).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text.to_owned())) } else { Err(SessionError) }
    }
}

impl fmt::Display for RemoteHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.process, self.started)
    }
}

impl FromStr for SessionId {
    type Err = SessionError;

    fn from_str(text: &str) -> Result<Self, SessionError> {
        let (process, started) = text.split_once('-').ok_or(SessionError)?;
        let process = decimal::parse(process).ok_or(SessionError)?;
        Ok(Self { process, started: decimal::parse(started).ok_or(SessionError)? })
    }
}

impl SessionEvent {
    /// The datagram.
    pub fn encode(&self) -> String {
        let Self { user, session, change, at } = self;
        let (first, opened) = match change {
            SessionChange::Opened { fingerprint, from } => {
                (OPENED, format!("Fingerprint={fingerprint}\nFrom={from}\n"))
            }
            SessionChange::Closed => (CLOSED, String::new()),
        };
        format!("{first}\nUser={user}\nSession={session}\n{opened}At={}\n", at.0)
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// Anything that [`Self::encode`] would not have written.
    pub fn parse(datagram: &[u8]) -> Result<Self, SessionError> {
        parser_entered(datagram);
        let mut lines = datagram::lines(datagram, SESSION_LIMIT).ok_or(SessionError)?;
        let opens = match lines.next() {
            Some(OPENED) => true,
            Some(CLOSED) => false,
            _ => return Err(SessionError),
        };
        let user = field(lines.next(), "User=")?.parse().map_err(|_| SessionError)?;
        let session = field(lines.next(), "Session=")?.parse()?;
        let change = if opens {
            let fingerprint = field(lines.next(), "Fingerprint=")?.parse().map_err(|_| SessionError)?;
            SessionChange::Opened { fingerprint, from: field(lines.next(), "From=")?.parse()? }
        } else {
            SessionChange::Closed
        };
        let at = decimal::parse(field(lines.next(), "At=")?).map(BootInstant).ok_or(SessionError)?;
        if lines.next().is_some() { Err(SessionError) } else { Ok(Self { user, session, change, at }) }
    }
}

fn field<'a>(line: Option<&'a str>, name: &str) -> Result<&'a str, SessionError> {
    line.and_then(|line| line.strip_prefix(name)).ok_or(SessionError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(opens: bool) -> SessionEvent {
        let fingerprint = Fingerprint::from_bytes([7; 32]);
        SessionEvent {
            user: "alice".parse().unwrap(),
            session: SessionId { process: 4711, started: 3_578_050 },
            change: if opens {
                SessionChange::Opened { fingerprint, from: "192.0.2.7".parse().unwrap() }
            } else {
                SessionChange::Closed
            },
            at: BootInstant(1_234_567_890),
        }
    }

    #[test]
    fn the_datagrams_are_these() {
        let expected = "SessionOpened v1\nUser=alice\nSession=4711-3578050\n\
            Fingerprint=SHA256:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc\nFrom=192.0.2.7\nAt=1234567890\n";
        assert_eq!(event(true).encode(), expected);
        assert_eq!(
            event(false).encode(),
            "SessionClosed v1\nUser=alice\nSession=4711-3578050\nAt=1234567890\n"
        );
        for opens in [true, false] {
            assert_eq!(SessionEvent::parse(event(opens).encode().as_bytes()), Ok(event(opens)));
        }
    }

    #[test]
    fn other_datagrams_are_refused() {
        let good = event(true).encode();
        for text in [
            "",
            "\n",
            good.trim_end(),
            &good.replace("v1", "v2"),
            &good.replace("SessionOpened", "SessionClosed"),
            &event(false).encode().replace("SessionClosed", "SessionOpened"),
            &good.replace("alice", "al ice"),
            &good.replace("4711-", "04711-"),
            &good.replace("4711-3578050", "4711"),
            &good.replace("4711", "99999999999"),
            &good.replace("192.0.2.7", ""),
            &good.replace("192.0.2.7", "a b"),
            &good.replace("192.0.2.7", "a\u{1b}"),
            &good.replace("192.0.2.7", &"x".repeat(254)),
            &good.replace('\n', "\r\n"),
            &format!("{good}At=1\n"),
            &"x".repeat(SESSION_LIMIT + 1),
        ] {
            assert_eq!(SessionEvent::parse(text.as_bytes()), Err(SessionError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn session_parser_never_panics(datagram: Vec<u8>) {
            let _ = SessionEvent::parse(&datagram);
        }

        #[test]
        fn one_datagram_for_each_event(opens: bool, position in 0usize..140, byte: u8) {
            let mut datagram = event(opens).encode().into_bytes();
            if let Some(slot) = datagram.get_mut(position) {
                *slot = byte;
            }
            if let Ok(event) = SessionEvent::parse(&datagram) {
                prop_assert_eq!(event.encode().into_bytes(), datagram);
            }
        }
    }
}
