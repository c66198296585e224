//! What the listeners share: accepting connections, and serving HTTP/1.1 on them with every wait bounded.

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use instance_connect_core::sigv4::{MalformedHead, RequestHead};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections open at one listener at a time; each costs a descriptor and some KiB.
const CONNECTIONS: usize = 10_000;

/// How long a listener rests when it cannot accept.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// From the first byte of a request, or from the end of the one before, to the end of its headers.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// From the end of the headers to the end of the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of one request head; botocore's is about 1 KiB.
const HEAD_BYTES: usize = 32 * 1024;

/// Headers of one request.
const HEADERS: usize = 64;

/// The body of every answer.
pub(crate) type Body = Full<Bytes>;

/// Accepts connections until the process ends and serves each in a task of its own.
pub(crate) async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream, SocketAddr) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are small and whole; waiting to fill a packet only delays them.
                let _ = stream.set_nodelay(true);
                let connection = serve(stream, peer);
                tokio::spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: the next accept would fail at once, again and again.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves HTTP/1.1 on one connection.
pub(crate) async fn serve<S>(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: S)
where
    S: HttpService<Incoming, ResBody = Body> + Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Reads a head that leaves no doubt what the request is and where it ends. `target` is the text of its URI.
///
/// hyper has refused what is no HTTP, such as lengths that contradict each other, with a bare 400 and the end of the
/// connection. What it lets through in silence has to be caught here: of `Content-Length` beside `Transfer-Encoding` it
/// drops the length, in either order, so that the two cannot be told from `Transfer-Encoding` alone. Every
/// `Transfer-Encoding` is therefore refused; no AWS client sends one to this API.
pub(crate) fn read_head<'a>(parts: &'a Parts, target: &'a str) -> Result<RequestHead<'a>, MalformedHead> {
    let headers = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    RequestHead::read(parts.method.as_str(), target, headers)
}

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// Longer than may be.
    TooLarge,
    /// Cut off, malformed or too slow.
    Incomplete,
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read_body(body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await;
    match read {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) | Err(_) => Err(BodyError::Incomplete),
    }
}

/// The one form of a source address that policies, limits and records see: `::ffff:a.b.c.d` is IPv4.
pub(crate) fn source(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}
