//! A server that answers as a test tells it and keeps what it was sent.

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use instance_connect_client::{Client, Config, Credentials, Environment, Secret, UnixSeconds};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

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

impl Server {
    /// Answers every request with `reply`.
    pub(crate) async fn start(reply: Reply) -> Self {
        Self::start_with(reply, None).await
    }

    /// The same over TLS.
    pub(crate) async fn start_with(reply: Reply, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let server = Self { url, received: Arc::default(), connections: Arc::default() };
        let (received, connections) = (Arc::clone(&server.received), Arc::clone(&server.connections));
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                let (reply, received, tls) = (reply.clone(), Arc::clone(&received), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(tcp, reply, received).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(tcp).await {
                                serve(stream, reply, received).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(Config::new())
    }

    pub(crate) fn client_with(&self, config: Config) -> Client {
        client_of(&self.url, config)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A client of `url` with example credentials and a fixed time.
pub(crate) fn client_of(url: &str, config: Config) -> Client {
    let config = config.region("us-east-1").endpoint_url(url).credentials(credentials());
    let config = config.clock(|| UnixSeconds(1_772_368_496));
    Client::new(config.resolve(&Environment::default()).unwrap()).unwrap()
}

pub(crate) fn credentials() -> Credentials {
    Credentials {
        access_key_id: "AKIDEXAMPLE".to_owned(),
        secret_access_key: Secret::new(b"wJalrXUtnFEMI".to_vec()),
        session_token: Some(Secret::new(b"TOKEN-EXAMPLE".to_vec())),
    }
}

async fn serve<Stream>(stream: Stream, reply: Reply, received: Arc<Mutex<Vec<Received>>>)
where
    Stream: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let answer = service_fn(|request: Request<Incoming>| async {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        received.lock().unwrap().push(Received {
            method: head.method.to_string(),
            target: head.uri.to_string(),
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        });
        let mut response = Response::builder().status(reply.status);
        for (name, value) in &reply.headers {
            response = response.header(*name, *value);
        }
        Ok::<_, Infallible>(response.body(Full::new(Bytes::from(reply.body.clone()))).unwrap())
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

/// A server that reads one request per connection, answers these bytes and closes. With `None` it never answers.
/// Returns its address, and counts connections.
pub(crate) async fn raw(answer: Option<Vec<u8>>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            tokio::spawn(async move {
                read_request(&mut tcp).await;
                match answer {
                    // The client may have heard enough before the end.
                    Some(answer) => drop(tcp.write_all(&answer).await),
                    None => std::future::pending().await,
                }
            });
        }
    });
    (address, connections)
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
