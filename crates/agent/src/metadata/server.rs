//! The service's HTTP: connections within limits, one request after the other.

#[cfg(test)]
mod tests;

use super::Metadata;
use super::settings::Interface;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use instance_connect_core::document::InstanceId;
use rustix::net::sockopt::set_ip_ttl;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Connections to the machine's own listener at a time: each login opens a dozen, one after the other.
const CONNECTIONS: usize = 64;

/// Connections to a guest's: fewer, so that it takes many guests together to use up those that there are in all.
const CONNECTIONS_OF_GUESTS: usize = 16;

/// How long one connection may last: the scripts give each request a second.
const CONNECTION: Duration = Duration::from_secs(60);

/// From the beginning of a connection, or of waiting for another request on it, to the end of the request's head.
const HEAD: Duration = Duration::from_secs(5);

/// Bytes of a request's head; hyper takes no less. curl's is about 200.
const HEAD_BYTES: usize = 8 * 1024;

/// Headers of one request.
const HEADERS: usize = 32;

/// How far an answer goes: no router forwards it (wire.md 3.2).
const HOPS: u32 = 1;

/// After an error of accept, such as being out of descriptors, which would come again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whom a listener answers: the machine itself, or the guests behind an interface.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) metadata: Arc<Metadata>,
    pub(super) interface: Option<Interface>,
}

impl Asker {
    /// Which instance it is that asks from that address; `None` for nobody of ours.
    fn instance(&self, peer: SocketAddr) -> Option<InstanceId> {
        match (&self.interface, peer.ip().to_canonical()) {
            (None, _) => Some(self.metadata.own().clone()),
            // What a machine sends to an address of its own counts as come from the interface that has the address. From outside
            // nothing with a source of this machine's gets through.
            (Some(_), source) if is_of_this_machine(source) => {
                self.metadata.has_own().then(|| self.metadata.own().clone())
            }
            (Some(interface), IpAddr::V4(source)) => self.metadata.guest_at(interface, source),
            (Some(_), IpAddr::V6(_)) => None,
        }
    }
}

/// Whether an address is one of this machine's: only those can be bound to.
fn is_of_this_machine(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// What every listener of the service has.
pub(super) fn prepare(socket: &StdListener) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    Ok(set_ip_ttl(socket, HOPS)?)
}

/// Serves until it is dropped. Where there is no place for another connection the oldest gives way: a request takes
/// milliseconds, so whoever holds places without a word must not keep a login waiting.
pub(super) async fn serve(listener: TcpListener, asker: Asker, in_all: Arc<Semaphore>) {
    let places = if asker.interface.is_some() { CONNECTIONS_OF_GUESTS } else { CONNECTIONS };
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection to the metadata service cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(instance) = asker.instance(peer) else {
            tracing::debug!(%peer, "nobody of ours asks for metadata");
            continue;
        };
        while connections.try_join_next().is_some() {}
        oldest_first.retain(|connection| !connection.is_finished());
        if oldest_first.len() >= places
            && let Some(oldest) = oldest_first.pop_front()
        {
            oldest.abort();
        }
        let Ok(place) = Arc::clone(&in_all).try_acquire_owned() else {
            tracing::debug!(%peer, "there are too many connections to the metadata service");
            continue;
        };
        let served = timeout(CONNECTION, serve_one(stream, Arc::clone(&asker.metadata), instance, place));
        oldest_first.push_back(connections.spawn(served));
    }
}

async fn serve_one(
    stream: TcpStream,
    metadata: Arc<Metadata>,
    instance: InstanceId,
    _place: OwnedSemaphorePermit,
) {
    if let Err(error) = set_ip_ttl(&stream, HOPS) {
        tracing::debug!(%error, "a connection to the metadata service");
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let response = metadata.answer(&instance, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the metadata service");
    }
}
