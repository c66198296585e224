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
const OFFERS_MODE: u32 = 0o660;

/// The agent; and root, whom no mode keeps out.
const SESSIONS_MODE: u32 = 0o600;

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

/// The reports that came, in a bounded queue.
#[derive(Debug)]
pub(crate) struct HostReports {
    queue: mpsc::Receiver<HostReport>,
    lost: Arc<AtomicU32>,
    /// Ended with this.
    _receiving: JoinSet<()>,
}

impl HostReports {
    /// Binds the sockets in the run directory, in place of those that an earlier agent left.
    pub(crate) fn bind(run: &Path) -> io::Result<Self> {
        let (sender, queue) = mpsc::channel(limits::OFFERED_QUEUE);
        let lost = Arc::new(AtomicU32::new(0));
        let mut receiving = JoinSet::new();
        let offers = bind(&run.join(OFFERS_SOCKET), OFFERS_MODE)?;
        let offer = |datagram: &[u8]| Offer::parse(datagram).ok().map(HostReport::Offered);
        receiving.spawn(receive(offers, offer, sender.clone(), Arc::clone(&lost)));
        let sessions = bind(&run.join(SESSIONS_SOCKET), SESSIONS_MODE)?;
        let session = |datagram: &[u8]| SessionEvent::parse(datagram).ok().map(HostReport::Session);
        receiving.spawn(receive(sessions, session, sender, Arc::clone(&lost)));
        Ok(Self { queue, lost, _receiving: receiving })
    }

    /// The next report. Waits for one: for ever, once the sockets have failed.
    pub(crate) async fn next(&mut self) -> HostReport {
        match self.queue.recv().await {
            Some(report) => report,
            None => std::future::pending().await,
        }
    }

    /// How many reports were dropped since this was last asked.
    pub(crate) fn take_lost(&self) -> u32 {
        self.lost.swap(0, Ordering::Relaxed)
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
