//! The service's HTTP: connections within limits, one request after the other.

use super::Metadata;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_ip_ttl;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Connections at a time: each login opens a dozen, one after the other.
const CONNECTIONS: usize = 64;

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

/// How long until an address is tried again that cannot be listened on: it may not be there yet.
const LISTEN_AGAIN: Duration = Duration::from_secs(10);

/// The name of the passed socket.
const PASSED: &str = "metadata";

/// The socket on which the service manager wants the metadata service served (sd_listen_fds(3)). Called once, before
/// anything else opens descriptors.
///
/// # Errors
/// The environment is malformed, or there is a socket of another name: nobody would accept from it.
pub fn passed_metadata_socket() -> io::Result<Option<Arc<StdListener>>> {
    let mut metadata = None;
    for (name, socket) in sd_listen_fds::get().map_err(io::Error::other)? {
        match name.as_deref() {
            Some(PASSED) if metadata.is_none() => metadata = Some(Arc::new(StdListener::from(socket))),
            other => {
                return Err(io::Error::other(format!(
                    "{other:?}: the agent takes one socket, of the name {PASSED}"
                )));
            }
        }
    }
    Ok(metadata)
}

/// Serves on the socket that was passed, if it is one of this address, or on one of its own, until it is dropped. While
/// the address is not there it is tried again: what the link brings is kept meanwhile.
pub(super) async fn listen_and_serve(
    metadata: Arc<Metadata>,
    address: SocketAddr,
    passed: Option<Arc<StdListener>>,
) {
    let passed = passed.filter(|socket| socket.local_addr().is_ok_and(|own| own == address));
    let mut is_told = false;
    let listener = loop {
        let socket = match &passed {
            Some(passed) => passed.try_clone(),
            None => StdListener::bind(address),
        };
        match socket.and_then(prepared) {
            Ok(listener) => break listener,
            Err(error) if !is_told => {
                is_told = true;
                tracing::error!(
                    %address, %error,
                    "the metadata service cannot listen, and is not there; is instance-connect-metadata.socket enabled?"
                );
            }
            Err(_) => {}
        }
        sleep(LISTEN_AGAIN).await;
    };
    tracing::info!(%address, "the metadata service listens");
    serve(listener, metadata).await;
}

fn prepared(socket: StdListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    set_ip_ttl(&socket, HOPS)?;
    TcpListener::from_std(socket)
}

/// Serves until it is dropped. Where there is no place for another connection the oldest gives way: a request takes
/// milliseconds, so whoever holds places without a word must not keep a login waiting.
async fn serve(listener: TcpListener, metadata: Arc<Metadata>) {
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection to the metadata service cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        oldest_first.retain(|connection| !connection.is_finished());
        if oldest_first.len() >= CONNECTIONS
            && let Some(oldest) = oldest_first.pop_front()
        {
            oldest.abort();
        }
        let served = timeout(CONNECTION, serve_one(stream, Arc::clone(&metadata)));
        oldest_first.push_back(connections.spawn(served));
    }
}

async fn serve_one(stream: TcpStream, metadata: Arc<Metadata>) {
    if let Err(error) = set_ip_ttl(&stream, HOPS) {
        tracing::debug!(%error, "a connection to the metadata service");
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let response = metadata.answer(&request);
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
