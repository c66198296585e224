//! The http client of the exporter: one connection for each batch, bounded in time and in what is read.

use super::destination::Destination;
use anyhow::{Context as _, bail};
use async_trait::async_trait;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// Bytes of an answer. Only its status counts: a success that speaks of spans that were rejected all the same (OTLP's
/// `partial_success`) is one.
const LARGEST_ANSWER: usize = 64 * 1024;

/// A collector, as it is spoken to.
pub(super) struct Collector {
    tls: Option<TlsConnector>,
    timeout: Duration,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Collector {
    /// Nothing is connected yet; only the certificate authorities are read here.
    pub(super) fn at(destination: &Destination) -> anyhow::Result<Self> {
        let tls = if destination.url.is_tls() {
            Some(connector(destination.certificate.as_deref())?)
        } else {
            None
        };
        Ok(Self { tls, timeout: Duration::from_millis(destination.timeout) })
    }

    async fn exchange(&self, request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
        let (mut head, body) = request.into_parts();
        let authority = head.uri.authority().context("no host")?.clone();
        let default_port = if self.tls.is_some() { 443 } else { 80 };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        head.headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
        head.uri = head.uri.path_and_query().cloned().map_or_else(Uri::default, Uri::from);
        let request = Request::from_parts(head, Full::new(body));
        let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(default_port))).await?;
        match &self.tls {
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned())?;
                send(tls.connect(name, stream).await?, request).await
            }
            None => send(stream, request).await,
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = match tokio::time::timeout(self.timeout, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(anyhow::anyhow!("no answer in time")),
        };
        // The SDK keeps what it was to itself. The request is not shown: its headers are secret.
        answer.map_err(|error| {
            tracing::debug!(error = format!("{error:#}"), "no answer of the collector for traces");
            error.into()
        })
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Response<Bytes>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its errors reach the request. It ends with this function, whatever it waits for: the end of a TLS connection waits for
    // a collector that reads, which may never do so again.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(|error| anyhow::anyhow!(error))?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// A connector that trusts the authorities in `certificate`, else those of the system.
fn connector(certificate: Option<&str>) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    match certificate {
        Some(file) => {
            let refused = || format!("the certificate authorities in {file}");
            for certificate in CertificateDer::pem_file_iter(file).with_context(refused)? {
                roots.add(certificate.with_context(refused)?).with_context(refused)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        bail!(
            "no certificate authority vouches for the collector: name a file of them (OTEL_EXPORTER_OTLP_CERTIFICATE)"
        );
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use tokio::io::ReadBuf;
    use tokio::sync::mpsc;

    /// A connection to a collector that has stopped: nothing is read there, nor does it end. Its end is told.
    struct Stopped {
        _ended: mpsc::Sender<()>,
    }

    impl AsyncRead for Stopped {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Stopped {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_to_a_collector_that_has_stopped_is_dropped_with_its_batch() {
        let (ended, mut is_dropped) = mpsc::channel(1);
        let request = Request::post("/v1/traces").body(Full::new(Bytes::from_static(b"spans"))).unwrap();
        let sent = tokio::time::timeout(Duration::from_secs(10), send(Stopped { _ended: ended }, request));
        assert!(sent.await.is_err(), "it gives no answer");
        let dropped = tokio::time::timeout(Duration::from_secs(60), is_dropped.recv()).await;
        assert_eq!(dropped, Ok(None), "the connection goes on");
    }
}
