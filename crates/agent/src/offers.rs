//! The socket on which the sshd command says that it gave sshd a key. What comes here is a claim of whoever may write
//! to the socket: it is bounded, and adds to the record only.

use instance_connect_core::document::{OFFER_LIMIT, OFFERS_SOCKET, Offer};
use instance_connect_core::link::limits;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The agent and the group of the sshd command.
const SOCKET_MODE: u32 = 0o660;

/// The reports that came, in a bounded queue.
#[derive(Debug)]
pub(crate) struct Offers {
    queue: mpsc::Receiver<Offer>,
    lost: Arc<AtomicU32>,
    receiving: JoinHandle<()>,
}

impl Offers {
    /// Binds the socket in the run directory, in place of one that an earlier agent left.
    pub(crate) fn bind(run: &Path) -> io::Result<Self> {
        let path = run.join(OFFERS_SOCKET);
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
            fs::remove_file(&path)?;
        }
        let socket = UnixDatagram::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(SOCKET_MODE))?;
        let (sender, queue) = mpsc::channel(limits::OFFERED_QUEUE);
        let lost = Arc::new(AtomicU32::new(0));
        let receiving = tokio::spawn(receive(socket, sender, Arc::clone(&lost)));
        Ok(Self { queue, lost, receiving })
    }

    /// The next report. Waits for one: for ever, once the socket has failed.
    pub(crate) async fn next(&mut self) -> Offer {
        match self.queue.recv().await {
            Some(offer) => offer,
            None => std::future::pending().await,
        }
    }

    /// How many reports were dropped since this was last asked.
    pub(crate) fn take_lost(&self) -> u32 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Offers {
    fn drop(&mut self) {
        self.receiving.abort();
    }
}

async fn receive(socket: UnixDatagram, queue: mpsc::Sender<Offer>, lost: Arc<AtomicU32>) {
    // One byte more than an offer may have, so that a longer one is seen to be.
    let mut datagram = [0; OFFER_LIMIT + 1];
    loop {
        let length = match socket.recv(&mut datagram).await {
            Ok(length) => length,
            Err(error) => {
                tracing::error!(%error, "the socket of the sshd command failed; logins are not reported any more");
                return;
            }
        };
        let Some(Ok(offer)) = datagram.get(..length).map(Offer::parse) else {
            tracing::debug!(length, "a datagram that is no offer");
            continue;
        };
        if queue.try_send(offer).is_err() {
            lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
