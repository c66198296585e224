//! What the listeners share: serving HTTP/1.1 on their connections.

use crate::connections::Connection;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use instance_connect_core::sigv4::{MalformedHead, RequestHead};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// From the end of the headers to the end of the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How late an answer marked [`Late`] is sent.
const LATE: Duration = Duration::from_secs(1);

/// Bytes of one request head; botocore's is about 1 KiB.
const HEAD_BYTES: usize = 32 * 1024;

/// Headers of one request.
const HEADERS: usize = 64;

/// The body of every answer.
pub(crate) type Body = Full<Bytes>;

/// In a response: it is to be sent late. For a client that asks again as soon as it is answered, and so would be answered
/// as often as there is processor time for it. Meanwhile its connection may be closed for another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Late;

/// A request as listeners' services get it: with its body, or why that is not there.
pub(crate) type Whole = Request<Result<Bytes, BodyError>>;

/// Serves HTTP/1.1 on one connection: one request after the other, also where a client sends several without waiting.
pub(crate) async fn serve<F, E>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connection: Connection,
    body_limit: usize,
    service: impl Fn(Whole) -> F + Send + Sync + 'static,
) where
    F: Future<Output = Result<Response<Body>, E>> + Send,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = connection.watch(stream);
    let shared = Arc::new((connection, service));
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move {
            let (connection, service) = &*shared;
            connection.head_arrived();
            let (parts, body) = request.into_parts();
            let body = read_body(body, body_limit).await;
            let is_whole = body.is_ok();
            if connection.works().is_err() {
                // Closed for another connection: this one is about to be dropped.
                std::future::pending::<()>().await;
            }
            let mut response = service(Request::from_parts(parts, body)).await?;
            // What may follow of a body that is not whole must not be taken for another request.
            if !is_whole || connection.is_draining() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            connection.worked();
            if response.extensions().get::<Late>().is_some() {
                tokio::time::sleep(LATE).await;
            }
            connection.answers();
            Ok::<_, E>(response)
        }
    });
    let connection = http1::Builder::new()
        // It would start when the connection begins to be idle; `connections` has the deadlines.
        .header_read_timeout(None)
        // A client may close its side once it has asked, and still read. Whether it has gone altogether shows when it is
        // answered; until then work for it has a place, so that there is never more work than places.
        .half_close(true)
        .max_buf_size(HEAD_BYTES)
        // The buffer may hold more than its limit says.
        .max_header_size(HEAD_BYTES)
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
    /// Cut off, or malformed.
    Incomplete,
    /// Not there in time.
    TooSlow,
}

/// Reads a body of at most `limit` bytes.
async fn read_body(
    mut body: impl hyper::body::Body<Data = Bytes> + Unpin,
    limit: usize,
) -> Result<Bytes, BodyError> {
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(BodyError::TooLarge);
    }
    let whole = async {
        // A frame holds the whole buffer that it was received in, so that a body sent byte by byte would hold many times
        // its size: what is in it is copied, and it goes.
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| BodyError::Incomplete)?;
            let Some(part) = frame.data_ref() else { continue };
            if part.len() > limit - bytes.len() {
                return Err(BodyError::TooLarge);
            }
            bytes.extend_from_slice(part);
        }
        Ok(bytes.into())
    };
    tokio::time::timeout(BODY_TIMEOUT, whole).await.unwrap_or(Err(BodyError::TooSlow))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream::{self, StreamExt as _};
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use std::convert::Infallible;

    /// A part of a body, of one byte, and the buffer that it was received in.
    struct Received(#[expect(dead_code, reason = "it is counted")] Arc<()>);

    impl AsRef<[u8]> for Received {
        fn as_ref(&self) -> &[u8] {
            b"x"
        }
    }

    #[tokio::test]
    async fn a_body_sent_byte_by_byte_holds_one_buffer_at_a_time() {
        for (limit, expected) in [(1000, Ok("x".repeat(1000).into())), (999, Err(BodyError::TooLarge))] {
            let buffers = Arc::new(());
            let parts = stream::repeat_with(|| {
                assert_eq!(Arc::strong_count(&buffers), 1, "buffers are kept while the body is read");
                let part = Bytes::from_owner(Received(Arc::clone(&buffers)));
                Ok::<_, Infallible>(Frame::data(part))
            });
            assert_eq!(read_body(StreamBody::new(parts.take(1000)), limit).await, expected);
            assert_eq!(Arc::strong_count(&buffers), 1, "what was read keeps buffers");
        }
    }
}
