//! Connections to one endpoint: opened with a time limit, kept and used again, answers bounded.

use crate::config::Settings;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::exchange::Answer;
use crate::observe::{Event, Observer};
use crate::tls;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use instance_connect_planted::planted;
use rustls::pki_types::ServerName;
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

/// Largest head of an answer, roughly: it is checked each time more has been read.
const LARGEST_HEAD: usize = 64 * 1024;

/// Connections kept for the next call; more calls than this at once open their own each time.
const KEPT_CONNECTIONS: usize = 64;

/// How long a connection is kept without a call. Firewalls and load balancers forget one silently after a minute or so.
const KEPT_FOR: Duration = Duration::from_secs(50);

type Sender = SendRequest<Full<Bytes>>;

/// Where requests go.
#[derive(Debug)]
pub(crate) struct Transport {
    endpoint: Endpoint,
    tls: Option<Tls>,
    connect_timeout: Duration,
    observer: Option<Observer>,
    kept: Mutex<Vec<Kept>>,
}

struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// A connection waiting for its next request.
#[derive(Debug)]
struct Kept {
    sender: Sender,
    since: Instant,
}

impl Transport {
    /// Nothing is connected yet; only the certificate authorities are read here.
    pub(crate) fn new(endpoint: Endpoint, settings: &Settings) -> Result<Self, Error> {
        let tls = if endpoint.tls {
            let host = endpoint.host.clone();
            let name = ServerName::try_from(host)
                .map_err(|_| Error::Configuration(format!("{:?} is not a host name", endpoint.host)))?;
            Some(Tls { connector: tls::connector(settings.ca_bundle.as_deref())?, name })
        } else {
            None
        };
        Ok(Self {
            endpoint,
            tls,
            connect_timeout: settings.connect_timeout,
            observer: settings.observer.clone(),
            kept: Mutex::default(),
        })
    }

    /// Where they go.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends a request and reads its answer whole, if that has at most `largest` bytes.
    pub(crate) async fn exchange(
        &self,
        mut request: Request<Full<Bytes>>,
        largest: usize,
    ) -> Result<Answer, Error> {
        while let Some(mut sender) = self.take_kept() {
            if sender.ready().await.is_err() {
                continue;
            }
            // The server may have closed it just now. A request that never left goes out on another connection; one that
            // did leave may have been carried out, so another one is another attempt.
            match sender.try_send_request(request).await {
                Ok(response) => return self.read(response, sender, largest).await,
                Err(mut failure) => match failure.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(self.lost(failure.into_error())),
                },
            }
        }
        let mut sender = self.connect().await?;
        match sender.send_request(request).await {
            Ok(response) => self.read(response, sender, largest).await,
            Err(error) => Err(self.lost(error)),
        }
    }

    async fn read(
        &self,
        response: Response<Incoming>,
        sender: Sender,
        largest: usize,
    ) -> Result<Answer, Error> {
        let (head, body) = response.into_parts();
        match Limited::new(body, largest).collect().await {
            Ok(body) => {
                self.keep(sender);
                Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
            }
            Err(error) if error.is::<LengthLimitError>() => {
                let reason = format!("it is longer than {largest} bytes");
                Err(Error::InvalidAnswer { reason, request_id: None })
            }
            Err(error) => Err(self.lost(error)),
        }
    }

    /// Opens a connection within the time limit and leaves it to a task of its own.
    async fn connect(&self) -> Result<Sender, Error> {
        let action = || format!("cannot connect to {}", self.endpoint.address());
        match timeout(self.connect_timeout, self.open()).await {
            Ok(Ok(sender)) => Ok(sender),
            Ok(Err(source)) if is_about_tls(&*source) => Err(Error::Tls { action: action(), source }),
            Ok(Err(source)) => Err(Error::Transport { action: action(), source }),
            Err(_) => {
                let action = format!("connecting to {}", self.endpoint.address());
                Err(Error::Timeout { action, limit: self.connect_timeout, before: None })
            }
        }
    }

    async fn open(&self) -> Result<Sender, Box<dyn StdError + Send + Sync>> {
        let addresses = lookup_host((self.endpoint.host.as_str(), self.endpoint.port)).await?;
        self.open_to(&addresses.collect::<Vec<_>>()).await
    }

    /// Connects to the first of the host's addresses that answers; to none, if one of them is not to be connected to.
    async fn open_to(&self, addresses: &[SocketAddr]) -> Result<Sender, Box<dyn StdError + Send + Sync>> {
        let elsewhere = addresses.iter().find(|address| !self.endpoint.admits(address.ip()));
        if let Some(elsewhere) = elsewhere
            && !planted("any-peer-admitted")
        {
            let host = &self.endpoint.host;
            return Err(format!("{host} leads to {elsewhere}, which is not this machine").into());
        }
        let tcp = TcpStream::connect(addresses).await?;
        // A request is written in one go; waiting to fill a segment would only delay it.
        tcp.set_nodelay(true)?;
        let peer = tcp.peer_addr()?;
        let Some(tls) = &self.tls else {
            self.observe(&Event::Connected { peer, tls: None });
            return Ok(handshake(tcp).await?);
        };
        let stream = tls.connector.connect(tls.name.clone(), tcp).await?;
        let version = stream.get_ref().1.protocol_version().and_then(|version| version.as_str());
        self.observe(&Event::Connected { peer, tls: Some(version.unwrap_or("TLS")) });
        Ok(handshake(stream).await?)
    }

    fn take_kept(&self) -> Option<Sender> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // The newest first: old ones get older and are dropped.
        let now = Instant::now();
        while let Some(Kept { sender, since }) = kept.pop() {
            if !sender.is_closed() && now.duration_since(since) < KEPT_FOR {
                return Some(sender);
            }
        }
        None
    }

    fn keep(&self, sender: Sender) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_CONNECTIONS {
            kept.remove(0);
        }
        kept.push(Kept { sender, since: Instant::now() });
    }

    fn lost(&self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        let action = format!("the connection to {} broke off", self.endpoint.address());
        Error::Transport { action, source: source.into() }
    }

    fn observe(&self, event: &Event<'_>) {
        if let Some(observer) = &self.observer {
            observer.0(event);
        }
    }
}

/// Whether TLS itself failed, which it will again, rather than the connection below it.
fn is_about_tls(error: &(dyn StdError + 'static)) -> bool {
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    inner.is_some_and(|inner| inner.is::<rustls::Error>())
}

async fn handshake<Stream>(stream: Stream) -> hyper::Result<Sender>
where
    TokioIo<Stream>: Read + Write,
    Stream: Send + Unpin + 'static,
{
    let (sender, connection) =
        Builder::new().max_buf_size(LARGEST_HEAD).handshake(TokioIo::new(stream)).await?;
    // Its errors reach the request that was under way; without one there is nobody to tell.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::net::TcpListener;

    /// Whatever a resolver makes of `localhost`, nothing goes to another machine, nor to this one while that is in doubt.
    #[tokio::test]
    async fn a_plain_loopback_endpoint_connects_nowhere_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let here = listener.local_addr().unwrap();
        let elsewhere = "192.0.2.1:80".parse().unwrap();
        let transport = Transport {
            endpoint: Endpoint::parse("http://localhost").unwrap(),
            tls: None,
            connect_timeout: Duration::from_secs(20),
            observer: None,
            kept: Mutex::default(),
        };
        for addresses in [&[here, elsewhere], &[elsewhere, here]] {
            let error = transport.open_to(addresses).await.unwrap_err().to_string();
            assert_eq!(error, "localhost leads to 192.0.2.1:80, which is not this machine");
        }
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        transport.open_to(&[here]).await.unwrap();
        listener.accept().unwrap();
    }
}
