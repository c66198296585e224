//! Telling others what happened: the system's log and the agent. Each line is one datagram that never waits, and
//! nobody's absence keeps a login from going on.

use instance_connect_document::{OFFERS_SOCKET, Offer, SESSIONS_SOCKET, SessionEvent};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Facility `authpriv`, severity `info`, as RFC 3164 section 4.1.1 counts them.
const PRIORITY: u8 = 10 * 8 + 6;

/// The tag of the stock host scripts (wire.md 3.4).
const TAG: &str = "ec2-instance-connect";

/// Sends what there is to report.
#[derive(Debug)]
pub struct Reporter {
    /// `None` where there is not even a socket to be had: then nothing is reported.
    socket: Option<UnixDatagram>,
    syslog: PathBuf,
}

impl Reporter {
    /// A reporter to the system log's socket at `syslog`.
    pub fn new(syslog: PathBuf) -> Self {
        let socket = UnixDatagram::unbound().ok().filter(|socket| socket.set_nonblocking(true).is_ok());
        Self { socket, syslog }
    }

    /// Sends one line to the system's log.
    pub fn log(&self, line: &str) {
        let datagram = format!("<{PRIORITY}>{TAG}[{}]: {line}", std::process::id());
        self.send(&datagram, &self.syslog);
    }

    /// Tells the agent whose run directory is `run` that sshd was given a key.
    pub fn key_offered(&self, offer: &Offer, run: &Path) {
        self.send(&offer.encode(), &run.join(OFFERS_SOCKET));
    }

    /// Tells the agent whose run directory is `run` that a login begins or ends.
    pub fn session_changed(&self, event: &SessionEvent, run: &Path) {
        self.send(&event.encode(), &run.join(SESSIONS_SOCKET));
    }

    /// A full or absent receiver loses the datagram: waiting for it would hold up the login.
    fn send(&self, datagram: &str, path: &Path) {
        if let Some(socket) = &self.socket {
            let _ = socket.send_to(datagram.as_bytes(), path);
        }
    }
}
