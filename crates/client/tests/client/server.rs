//! A server that answers as a test tells it and keeps what it was sent.

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use instance_connect_client::{
    Client, ClientBuilder, Credentials, Environment, Secret, Surroundings, UnixSeconds,
};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// 2026-03-01T12:34:56Z
pub(crate) const NOW: UnixSeconds = UnixSeconds(1_772_368_496);

/// A request as it came over the wire.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// What the server answers.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &str) -> Self {
        let headers = vec![("content-type", "application/x-amz-json-1.1"), ("x-amzn-requestid", "id-1")];
        Self { status, headers, body: body.to_owned() }
    }

    pub(crate) fn success() -> Self {
        Self::json(200, r#"{"RequestId":"id-1","Success":true}"#)
    }
}

pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) received: Arc<Mutex<Vec<Received>>>,
    pub(crate) connections: Arc<AtomicUsize>,
}

/// What a server answers to a request.
type Decide = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;

impl Server {
    /// Answers every request with `reply`.
    pub(crate) async fn start(reply: Reply) -> Self {
        Self::start_with(reply, None).await
    }

    /// The same over TLS.
    pub(crate) async fn start_with(reply: Reply, tls: Option<TlsAcceptor>) -> Self {
        Self::run(Arc::new(move |_| reply.clone()), tls).await
    }

    /// Answers as `decide` says.
    pub(crate) async fn deciding(decide: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::run(Arc::new(decide), None).await
    }

    async fn run(decide: Decide, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let server = Self { url, received: Arc::default(), connections: Arc::default() };
        let (received, connections) = (Arc::clone(&server.received), Arc::clone(&server.connections));
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                let (decide, received, tls) = (Arc::clone(&decide), Arc::clone(&received), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(tcp, decide, received).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(tcp).await {
                                serve(stream, decide, received).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(Client::builder())
    }

    pub(crate) fn client_with(&self, builder: ClientBuilder) -> Client {
        client_of(&self.url, builder)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A client of `url` with example credentials and the surroundings of a [`Stage`].
pub(crate) fn client_of(url: &str, builder: ClientBuilder) -> Client {
    client_on(&Arc::default(), url, builder)
}

/// The same on this stage.
pub(crate) fn client_on(stage: &Arc<Stage>, url: &str, builder: ClientBuilder) -> Client {
    let surroundings = Arc::clone(stage) as Arc<dyn Surroundings>;
    let builder = builder.region("us-east-1").endpoint_url(url).credentials(credentials());
    Client::new(builder.surroundings(surroundings).resolve(&Environment::default()).unwrap()).unwrap()
}

/// A time that stands, the longest pauses, and no waiting for them.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) now: AtomicI64,
    pub(crate) random: u32,
    pub(crate) pauses: Mutex<Vec<Duration>>,
}

impl Default for Stage {
    fn default() -> Self {
        Self { now: AtomicI64::new(NOW.0), random: u32::MAX, pauses: Mutex::default() }
    }
}

impl Surroundings for Stage {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(self.now.load(Ordering::SeqCst))
    }

    fn random(&self) -> u32 {
        self.random
    }

    fn pause(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.pauses.lock().unwrap().push(duration);
        Box::pin(std::future::ready(()))
    }
}

pub(crate) fn credentials() -> Credentials {
    Credentials {
        access_key_id: "AKIDEXAMPLE".to_owned(),
        secret_access_key: Secret::new(b"wJalrXUtnFEMI".to_vec()),
        session_token: Some(Secret::new(b"TOKEN-EXAMPLE".to_vec())),
    }
}

async fn serve<Stream>(stream: Stream, decide: Decide, received: Arc<Mutex<Vec<Received>>>)
where
    Stream: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let answer = service_fn(|request: Request<Incoming>| async {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let request = Received {
            method: head.method.to_string(),
            target: head.uri.to_string(),
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        };
        let reply = decide(&request);
        received.lock().unwrap().push(request);
        let mut response = Response::builder().status(reply.status);
        for (name, value) in &reply.headers {
            response = response.header(*name, *value);
        }
        Ok::<_, Infallible>(response.body(Full::new(Bytes::from(reply.body))).unwrap())
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

/// What a server does on one connection.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// It reads one request, writes these bytes and closes.
    Write(Vec<u8>),
    /// The same, but it closes with a reset.
    Reset(Vec<u8>),
    /// It reads one request and never answers.
    Silence,
}

/// A server that does one of `acts` after the other, one a connection, and begins again when all are done. Returns its
/// address, and counts connections.
pub(crate) async fn acting(acts: Vec<Act>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        for act in acts.into_iter().cycle() {
            let (tcp, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(perform(act, tcp));
        }
    });
    (address, connections)
}

async fn perform(act: Act, mut tcp: TcpStream) {
    read_request(&mut tcp).await;
    match act {
        // The client may have heard enough before the end.
        Act::Write(bytes) => drop(tcp.write_all(&bytes).await),
        Act::Reset(bytes) => {
            tcp.write_all(&bytes).await.unwrap();
            tcp.set_zero_linger().unwrap();
        }
        Act::Silence => std::future::pending().await,
    }
}

/// An answer as bytes. It says that the connection is closed behind it, which would otherwise be tried once more.
pub(crate) fn http(status: u16, head: &str, body: &str) -> Act {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{head}\r\n");
    Act::Write([head.as_bytes(), body.as_bytes()].concat())
}

/// Reads until the body is complete; what the client sends ends with the JSON object.
async fn read_request(tcp: &mut TcpStream) {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"}") {
        match tcp.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(length) => request.extend_from_slice(&piece[..length]),
        }
    }
}
