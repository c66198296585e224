//! A link with nothing behind it: it is opened as an agent opens it, and answers without doing what is asked.

use crate::clock;
use anyhow::{Context as _, anyhow, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use instance_connect_agent::VERSION;
use instance_connect_core::document::BootId;
use instance_connect_core::link::{
    Ack, AckOutcome, AgentEvent, AgentFacts, AgentFrame, AgentLink, Capabilities, LINK_PATH, Ping,
    ServerFrame, VersionText, limits,
};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Message};

pub(crate) struct BareLink {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    link: AgentLink,
}

impl BareLink {
    /// Opens a link with the identity in an agent's state directory.
    pub(crate) async fn open(state: &Path, boot: &BootId) -> anyhow::Result<Self> {
        let link: Value = serde_json::from_slice(&std::fs::read(state.join("link.json"))?)?;
        let url = link.get("server").and_then(Value::as_str).context("link.json names no server")?;
        let authority = url.strip_prefix("https://").context("the server is not https")?;
        let (host, _) = authority.rsplit_once(':').context("the server has no port")?;
        let tcp = TcpStream::connect(authority).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned())?;
        let tls = TlsConnector::from(Arc::new(tls(state)?)).connect(name, tcp).await?;
        // As the agent sets it.
        let config = WebSocketConfig::default().read_buffer_size(4 * 1024).write_buffer_size(0);
        let request = format!("wss://{authority}{LINK_PATH}");
        let (socket, _) = tokio_tungstenite::client_async_with_config(request, tls, Some(config)).await?;
        let facts = AgentFacts {
            boot_id: boot.clone(),
            capabilities: Capabilities::NONE,
            agent_version: VersionText::lossy(VERSION),
            ping_interval: limits::PING_INTERVAL,
        };
        let (link, hello) = AgentLink::start(&facts, clock::boot());
        let mut opened = Self { socket, link };
        opened.send(&hello).await?;
        // It comes after the welcome.
        while !matches!(opened.next().await?, AgentEvent::Signer(_)) {}
        Ok(opened)
    }

    /// Says of every grant that it is installed, until the link ends.
    pub(crate) async fn acknowledge_everything(mut self) -> anyhow::Result<()> {
        let mut ticks = interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                event = self.next() => {
                    if let AgentEvent::Grant { grant, .. } = event? {
                        let outcome = AckOutcome::Installed { os_user_exists: true };
                        self.send(&AgentFrame::Ack(Ack { id: grant.id, outcome })).await?;
                    }
                }
                _ = ticks.tick() => {
                    let ping = self.link.on_tick(clock::boot()).map_err(|goodbye| anyhow!("{goodbye:?}"))?;
                    if let Some(ping) = ping {
                        self.send(&ping).await?;
                    }
                }
            }
        }
    }

    /// From a ping sent to its pong received.
    pub(crate) async fn round_trip(&mut self) -> anyhow::Result<Duration> {
        let (start, sent_at) = (clock::now(), clock::boot());
        self.send(&AgentFrame::Ping(Ping { sent_at })).await?;
        // The `AgentLink` knows nothing of this ping, so it is not asked.
        let received = timeout(limits::SILENCE, self.socket.next()).await?.context("the link ended")??;
        match ServerFrame::decode(&received.into_data()) {
            Ok(Some(ServerFrame::Pong(pong))) if pong.sent_at == sent_at => Ok(start.elapsed()),
            other => bail!("not the pong: {other:?}"),
        }
    }

    async fn next(&mut self) -> anyhow::Result<AgentEvent> {
        loop {
            match self.socket.next().await.context("the link ended")?? {
                Message::Binary(frame) => {
                    let event = self.link.on_message(&frame, clock::boot());
                    return event.map_err(|goodbye| anyhow!("{goodbye:?}"));
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => bail!("a message that is no frame: {other:?}"),
            }
        }
    }

    async fn send(&mut self, frame: &AgentFrame) -> anyhow::Result<()> {
        Ok(self.socket.send(Message::Binary(Bytes::from(frame.encode()))).await?)
    }
}

fn tls(state: &Path) -> anyhow::Result<ClientConfig> {
    let certificates = |file: &str| -> anyhow::Result<Vec<CertificateDer<'static>>> {
        Ok(CertificateDer::pem_file_iter(state.join(file))?.collect::<Result<_, _>>()?)
    };
    let mut anchors = RootCertStore::empty();
    for certificate in certificates("server-ca.pem")? {
        anchors.add(certificate)?;
    }
    let key = PrivateKeyDer::from_pem_file(state.join("identity.pem"))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(anchors)
        .with_client_auth_cert(certificates("identity.pem")?, key)?;
    config.resumption = Resumption::disabled();
    Ok(config)
}
