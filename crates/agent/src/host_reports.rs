//! The sockets on which the sshd command says that it gave sshd a key, and sshd's PAM stack that a login began or ended.
//! What comes here is a claim of whoever may write to the socket: it is bounded, and adds to the record only.

use instance_connect_core::document::{
    OFFER_LIMIT, OFFERS_SOCKET, Offer, SESSION_LIMIT, SESSIONS_SOCKET, SessionEvent,
};
use instance_connect_core::link::limits;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The agent and the group of the sshd command.
pub(crate) const OFFERS_MODE: u32 = 0o660;

/// The agent; and root, whom no mode keeps out.
pub(crate) const SESSIONS_MODE: u32 = 0o600;

/// Largest datagram of both, and one byte more, so that a longer one is seen to be.
const DATAGRAM: usize = if OFFER_LIMIT > SESSION_LIMIT { OFFER_LIMIT } else { SESSION_LIMIT } + 1;

/// What this machine's programs report.
#[derive(Debug)]
pub(crate) enum HostReport {
    /// The sshd command gave sshd a key.
    Offered(Offer),
    /// A login began or ended.
    Session(SessionEvent),
}

/// The reports that came, in bounded queues: the group of the sshd command writes to one of the sockets, and must not be able to
/// push out what root says on the other.
#[derive(Debug)]
pub(crate) struct HostReports {
    sessions: mpsc::Receiver<HostReport>,
    offers: mpsc::Receiver<HostReport>,
    /// What the metadata service says of itself: that it showed keys.
    readings: (mpsc::Sender<HostReport>, mpsc::Receiver<HostReport>),
    lost: Arc<AtomicU32>,
    /// Ended with this.
    _receiving: JoinSet<()>,
}

impl HostReports {
    /// Binds the sockets in the run directory, in place of those that an earlier agent left.
    pub(crate) fn bind(run: &Path) -> io::Result<Self> {
        let lost = Arc::new(AtomicU32::new(0));
        let mut receiving = JoinSet::new();
        let (sender, offers) = mpsc::channel(limits::OFFERED_QUEUE);
        let socket = bind(&run.join(OFFERS_SOCKET), OFFERS_MODE)?;
        let offer = |datagram: &[u8]| Offer::parse(datagram).ok().map(HostReport::Offered);
        receiving.spawn(receive(socket, offer, sender, Arc::clone(&lost)));
        let (sender, sessions) = mpsc::channel(limits::OFFERED_QUEUE);
        let socket = bind(&run.join(SESSIONS_SOCKET), SESSIONS_MODE)?;
        let session = |datagram: &[u8]| SessionEvent::parse(datagram).ok().map(HostReport::Session);
        receiving.spawn(receive(socket, session, sender, Arc::clone(&lost)));
        let readings = mpsc::channel(limits::OFFERED_QUEUE);
        Ok(Self { sessions, offers, readings, lost, _receiving: receiving })
    }

    /// Where the metadata service reports.
    pub(crate) fn readings(&self) -> Readings {
        Readings { reports: self.readings.0.clone(), lost: Arc::clone(&self.lost) }
    }

    /// The next report, of either socket. Waits for one: for ever, once the sockets have failed.
    pub(crate) async fn next(&mut self) -> HostReport {
        tokio::select! {
            Some(report) = self.sessions.recv() => report,
            Some(report) = self.offers.recv() => report,
            Some(report) = self.readings.1.recv() => report,
            else => std::future::pending().await,
        }
    }

    /// How many reports were dropped since this was last asked.
    pub(crate) fn take_lost(&self) -> u32 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

/// Where the metadata service says which keys it has shown.
#[derive(Clone, Debug)]
pub(crate) struct Readings {
    reports: mpsc::Sender<HostReport>,
    lost: Arc<AtomicU32>,
}

impl Readings {
    /// A key was shown.
    pub(crate) fn shown(&self, offer: Offer) {
        if self.reports.try_send(HostReport::Offered(offer)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn bind(path: &Path, mode: u32) -> io::Result<UnixDatagram> {
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let socket = UnixDatagram::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(socket)
}

async fn receive(
    socket: UnixDatagram,
    parse: impl Fn(&[u8]) -> Option<HostReport> + Send,
    queue: mpsc::Sender<HostReport>,
    lost: Arc<AtomicU32>,
) {
    let mut datagram = [0; DATAGRAM];
    loop {
        let length = match socket.recv(&mut datagram).await {
            Ok(length) => length,
            Err(error) => {
                return tracing::error!(%error, "a socket for reports failed; logins are not reported any more");
            }
        };
        let Some(report) = datagram.get(..length).and_then(&parse) else {
            tracing::debug!(length, "a datagram that is no report");
            continue;
        };
        if queue.try_send(report).is_err() {
            lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram as Sender;

    /// Whoever runs as the sshd command's group sends as many offers as it likes.
    #[tokio::test]
    async fn offers_do_not_push_out_what_root_says_of_logins() {
        let run = tempfile::tempdir().unwrap();
        let mut reports = HostReports::bind(run.path()).unwrap();
        let sender = Sender::unbound().unwrap();
        let send =
            |text: &str, socket: &str| sender.send_to(text.as_bytes(), run.path().join(socket)).map(drop);
        let fingerprint = format!("SHA256:{}", "A".repeat(43));
        let offer = format!(
            "KeyOffered v1\nUser=alice\nFingerprint={fingerprint}\nRequest=0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11\nAt=1\n"
        );
        let login = format!(
            "SessionOpened v1\nUser=alice\nSession=7-9\nFingerprint={fingerprint}\nFrom=192.0.2.7\nAt=1\n"
        );
        while reports.lost.load(Ordering::Relaxed) == 0 {
            if send(&offer, OFFERS_SOCKET).is_ok() {
                tokio::task::yield_now().await;
            }
        }
        send(&login, SESSIONS_SOCKET).unwrap();
        while reports.sessions.is_empty() {
            tokio::task::yield_now().await;
        }
        let is_waiting = |reports: &HostReports| !reports.sessions.is_empty() || !reports.offers.is_empty();
        let mut is_heard = false;
        while !is_heard && is_waiting(&reports) {
            is_heard = matches!(reports.next().await, HostReport::Session(_));
        }
        assert!(is_heard);
    }
}
