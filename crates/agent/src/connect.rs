//! Getting to the agents listener: TCP, TLS, and the upgrade to a WebSocket.

use crate::server_url::ServerUrl;
use crate::state::State;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use instance_connect_core::link::{
    EnrollError, GoodbyeText, LINK_PATH, STREAM_PATH, STREAM_PROTOCOL, StreamTicket, TICKET_HEADER, limits,
};
use rustls::ClientConfig;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as WebSocketError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// A link's connection.
pub(crate) type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Bytes that may wait to be written before a write fails: more than everything an agent could be sending.
const WRITE_BUFFER: usize = 4 * limits::FRAME;

/// Bytes read at a time. Frames are small, and most agents are idle.
const READ_BUFFER: usize = 4 * 1024;

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Not within [`limits::CONNECT`].
    #[error("no connection within 10 s")]
    Timeout,
    /// The network or TLS said no.
    #[error("{0}")]
    Network(#[from] io::Error),
    /// The agents listener said no.
    #[error("the server answered {status}: {text}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The reason it gave, made printable.
        text: GoodbyeText,
    },
    /// The answer was no upgrade.
    #[error("no upgrade: {0}")]
    Upgrade(String),
}

impl ConnectError {
    /// Whether coming back soon cannot help.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            Self::Refused { status, .. } => status.is_client_error(),
            Self::Timeout | Self::Network(_) | Self::Upgrade(_) => false,
        }
    }
}

/// Opens the connection of a link.
pub(crate) async fn connect(state: &State) -> Result<Socket, ConnectError> {
    let opening = async {
        let stream = connect_tls(&state.server, Arc::clone(&state.tls)).await?;
        upgrade(&state.server, stream).await
    };
    timeout(limits::CONNECT, opening).await.map_err(|_| ConnectError::Timeout)?
}

/// TCP and TLS.
pub(crate) async fn connect_tls(
    server: &ServerUrl,
    tls: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect((server.host(), server.port())).await?;
    // An ack is one small write that a push is waiting for.
    stream.set_nodelay(true)?;
    TlsConnector::from(tls).connect(server.name().clone(), stream).await
}

async fn upgrade(server: &ServerUrl, stream: TlsStream<TcpStream>) -> Result<Socket, ConnectError> {
    let request = format!("wss://{}{LINK_PATH}", server.authority())
        .into_client_request()
        .map_err(|error| ConnectError::Upgrade(error.to_string()))?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits::FRAME))
        .max_frame_size(Some(limits::FRAME))
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER);
    match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(WebSocketError::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            let text = EnrollError::from_json(body).map(|error| error.to_string()).unwrap_or_default();
            Err(ConnectError::Refused { status: response.status(), text: GoodbyeText::lossy(&text) })
        }
        Err(WebSocketError::Io(error)) => Err(ConnectError::Network(error)),
        Err(error) => Err(ConnectError::Upgrade(error.to_string())),
    }
}

/// Opens the connection of a stream (docs/stream.md 1).
pub(crate) async fn open_stream(
    state: &State,
    ticket: &StreamTicket,
) -> Result<TokioIo<Upgraded>, ConnectError> {
    let opening = async {
        let stream = connect_tls(&state.server, Arc::clone(&state.tls)).await?;
        // What is behind waits with us, where newer bytes can take its place, rather than in the kernel.
        let _ = socket2::SockRef::from(stream.get_ref().0).set_tcp_notsent_lowat(NOT_SENT);
        upgrade_to_stream(&state.server, stream, ticket).await
    };
    timeout(limits::CONNECT, opening).await.map_err(|_| ConnectError::Timeout)?
}

/// Bytes of a stream that the kernel holds and the network has not taken yet.
const NOT_SENT: u32 = 32 * 1024;

async fn upgrade_to_stream(
    server: &ServerUrl,
    stream: TlsStream<TcpStream>,
    ticket: &StreamTicket,
) -> Result<TokioIo<Upgraded>, ConnectError> {
    let no_upgrade = |error: &dyn ToString| ConnectError::Upgrade(error.to_string());
    let mut header = http::HeaderValue::try_from(ticket.header()).map_err(|error| no_upgrade(&error))?;
    header.set_sensitive(true);
    let request = Request::get(STREAM_PATH)
        .header(HOST, server.authority())
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, STREAM_PROTOCOL)
        .header(TICKET_HEADER, header)
        .body(Empty::<Bytes>::new())
        .map_err(|error| no_upgrade(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| no_upgrade(&error))?;
    let answering = async {
        let response = sender.send_request(request).await.map_err(|error| no_upgrade(&error))?;
        let status = response.status();
        let protocol = response.headers().get(UPGRADE).map(http::HeaderValue::as_bytes);
        if status == StatusCode::SWITCHING_PROTOCOLS && protocol == Some(STREAM_PROTOCOL.as_bytes()) {
            let upgraded = hyper::upgrade::on(response).await;
            return upgraded.map(TokioIo::new).map_err(|error| no_upgrade(&error));
        }
        let body = Limited::new(response.into_body(), limits::ENROLL_BODY).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let text = EnrollError::from_json(&body).map(|error| error.to_string()).unwrap_or_default();
        Err(ConnectError::Refused { status, text: GoodbyeText::lossy(&text) })
    };
    tokio::pin!(answering);
    tokio::select! {
        answered = &mut answering => answered,
        // The connection is driven until it is handed over, or has ended in another way: the answer says in which.
        _ = connection.with_upgrades() => answering.await,
    }
}
