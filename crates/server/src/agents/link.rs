//! One link, from its hello to its goodbye: the server's side of docs/link.md.

use super::{Agents, host_keys};
use crate::inventory::StaleInventory;
use crate::links::{CAPABILITIES, Link, Slot};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use instance_connect_core::document::UnixDay;
use instance_connect_core::host_key::claimed;
use instance_connect_core::link::{
    AgentFrame, AgentUrn, Goodbye, GoodbyeCode, Hello, HostKeyText, Offered, Pong, ReportedHostKeys,
    ServerFrame, Signer, VersionText, Welcome, limits,
};
use instance_connect_kill_point::kill_point;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};

/// A link's places among those there may be.
pub(super) struct Places {
    /// Among all links, for as long as it lives.
    pub(super) link: OwnedSemaphorePermit,
    /// Among those of its identity that have not said hello.
    pub(super) opening: OwnedSemaphorePermit,
}

/// Why a link ends: what is said to the agent, or nothing where it cannot hear it any more.
type Ended = Option<Goodbye>;

/// Runs a link until it ends.
pub(super) async fn run(agents: &Arc<Agents>, identity: &AgentUrn, upgraded: Upgraded, places: Places) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(limits::FRAME)
        .max_write_buffer_size(limits::FRAME * limits::SERVER_QUEUE)
        .max_message_size(Some(limits::FRAME))
        .max_frame_size(Some(limits::FRAME));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let mut conversation = Conversation { agents, identity, socket, signer_day: None };
    let Places { link: _place, opening } = places;
    let Some(goodbye) = conversation.hold(opening).await else { return };
    tracing::info!(instance = %identity.instance, code = %goodbye.code, text = goodbye.text.as_str(), "closing a link");
    let _ = conversation.send(&ServerFrame::Goodbye(goodbye)).await;
    let _ = timeout(limits::WRITE_STALL, conversation.socket.close(None)).await;
}

struct Conversation<'a> {
    agents: &'a Arc<Agents>,
    identity: &'a AgentUrn,
    socket: WebSocketStream<TokioIo<Upgraded>>,
    /// The day its signer statement was sent on; none yet at first.
    signer_day: Option<UnixDay>,
}

impl Conversation<'_> {
    /// Opens the link, puts it in its instance's place, and holds it.
    async fn hold(&mut self, opening: OwnedSemaphorePermit) -> Ended {
        // From here on no change goes unseen: what is checked below holds for as long as the link does.
        let changes = self.agents.inventory.changes();
        let hello = match timeout(limits::OPENING, self.open()).await {
            Ok(Ok(hello)) => hello,
            Ok(Err(ended)) => return ended,
            Err(_) => return Some(Goodbye::new(GoodbyeCode::Idle, "no hello in time")),
        };
        // The identity may have been replaced between the upgrade and now, and must not replace its successor.
        if let Err(ended) = self.still_current() {
            return ended;
        }
        drop(opening);
        let instance = &self.identity.instance;
        let slot = self.agents.links.slot(instance);
        let (link, queue) = Link::new(hello.boot_id.clone());
        let (replaced, withdrawals) = slot.open(&link, self.agents.links.clock().monotonic());
        if let Some(replaced) = replaced {
            tracing::warn!(%instance, "a second link of one identity; the first is closed");
            replaced.send(ServerFrame::Goodbye(Goodbye::new(
                GoodbyeCode::Replaced,
                "the same identity opened another link",
            )));
        }
        tracing::info!(%instance, boot = %hello.boot_id, agent_version = hello.agent_version.as_str(), "link open");
        let mut ended = Ok(());
        for withdraw in withdrawals {
            ended = ended.and(self.send(&ServerFrame::Withdraw(withdraw)).await);
        }
        let ended = match ended {
            Ok(()) => self.converse(&slot, &link, queue, changes).await,
            Err(ended) => ended,
        };
        slot.close(&link);
        tracing::info!(%instance, "link closed");
        ended
    }

    /// Hello, welcome, signer.
    async fn open(&mut self) -> Result<Hello, Ended> {
        let Some(AgentFrame::Hello(hello)) = self.receive().await? else {
            return Err(Some(Goodbye::new(GoodbyeCode::ProtocolError, "the first frame is not hello")));
        };
        let Some(version) = hello.common_version() else {
            let text = format!("this server speaks version {}", limits::VERSION_MAX);
            return Err(Some(Goodbye::new(GoodbyeCode::VersionUnsupported, &text)));
        };
        self.send(&ServerFrame::Welcome(Welcome {
            version,
            capabilities: CAPABILITIES,
            sent_at: hello.sent_at,
            server_time: self.agents.links.clock().monotonic(),
            server_clock: self.agents.clock_id.clone(),
            server_version: VersionText::lossy(env!("CARGO_PKG_VERSION")),
        }))
        .await?;
        self.send_signer().await?;
        Ok(hello)
    }

    /// Ends a link whose identity is no longer its instance's.
    fn still_current(&self) -> Result<(), Ended> {
        match self.agents.is_current(self.identity) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let text = "this identity is no longer the instance's";
                Err(Some(Goodbye::new(GoodbyeCode::IdentityRevoked, text)))
            }
            Err(StaleInventory) => {
                Err(Some(Goodbye::new(GoodbyeCode::InternalError, "the store does not answer")))
            }
        }
    }

    async fn converse(
        &mut self,
        slot: &Slot,
        link: &Arc<Link>,
        mut queue: mpsc::Receiver<ServerFrame>,
        mut changes: watch::Receiver<u64>,
    ) -> Ended {
        let mut silent_since = Instant::now();
        loop {
            tokio::select! {
                received = self.receive() => {
                    silent_since = Instant::now();
                    match received {
                        Ok(Some(frame)) => match self.take(slot, link, frame).await {
                            Ok(()) => {}
                            Err(ended) => return ended,
                        },
                        Ok(None) => {}
                        Err(ended) => return ended,
                    }
                }
                frame = queue.recv() => {
                    // The link itself holds a sender, so the queue does not end before it.
                    if let Err(ended) = self.send_all(frame?, &mut queue, link).await {
                        return ended;
                    }
                }
                () = changed(&mut changes) => {
                    if let Err(ended) = self.still_current() {
                        return ended;
                    }
                }
                () = tokio::time::sleep_until(silent_since + limits::SILENCE) => {
                    return Some(Goodbye::new(GoodbyeCode::Idle, "nothing heard for too long"));
                }
            }
        }
    }

    /// Acts on one frame of the agent.
    async fn take(&mut self, slot: &Slot, link: &Link, frame: AgentFrame) -> Result<(), Ended> {
        match frame {
            AgentFrame::Ping(ping) => {
                let server_time = self.agents.links.clock().monotonic();
                self.send(&ServerFrame::Pong(Pong { sent_at: ping.sent_at, server_time })).await?;
                self.send_signer().await
            }
            AgentFrame::Ack(ack) => {
                link.acknowledged(ack.id, ack.outcome);
                Ok(())
            }
            AgentFrame::Withdrawn(withdrawn) => {
                slot.withdrawn(withdrawn.id);
                Ok(())
            }
            AgentFrame::Offered(offered) => {
                self.record_offer(&offered);
                Ok(())
            }
            AgentFrame::HostKeys(host_keys) => {
                self.take_host_keys(slot, &host_keys);
                Ok(())
            }
            AgentFrame::Goodbye(goodbye) => {
                let (instance, code) = (&self.identity.instance, goodbye.code);
                tracing::info!(%instance, %code, text = goodbye.text.as_str(), "the agent closes its link");
                Err(None)
            }
            AgentFrame::Hello(_) => Err(Some(Goodbye::new(GoodbyeCode::ProtocolError, "a second hello"))),
        }
    }

    /// In a task of its own: acknowledgements do not wait for the store. At most one at a time of each instance, and few.
    fn take_host_keys(&self, slot: &Slot, host_keys: &ReportedHostKeys) {
        if !slot.takes_host_keys(self.agents.links.clock().monotonic()) {
            return tracing::debug!(instance = %self.identity.instance, "reports of host keys come too often");
        }
        let keys = claimed(host_keys.lines.iter().map(HostKeyText::as_str));
        let (agents, identity) = (Arc::clone(self.agents), self.identity.clone());
        tokio::spawn(async move { host_keys::take_or_log(&agents, &identity, &keys).await });
    }

    /// An agent's word that a key was offered to sshd: a line for the operator, with the requests that pushed it.
    fn record_offer(&self, offered: &Offered) {
        let requests: Vec<&str> = offered.request_ids.iter().map(|id| id.as_str()).collect();
        tracing::info!(
            instance = %self.identity.instance,
            os_user = %offered.os_user,
            fingerprint = %offered.fingerprint,
            requests = requests.join(","),
            lost = offered.lost,
            "key offered"
        );
    }

    /// Sends today's signer statement, if it was not sent yet.
    async fn send_signer(&mut self) -> Result<(), Ended> {
        let (pki, now) = (self.agents.links.pki(), self.agents.links.clock().wall());
        let today = now.day();
        if Some(today) == self.signer_day {
            return Ok(());
        }
        self.signer_day = Some(today);
        let statement = pki.signer_statement(now).to_string();
        let too_long = |_| Some(Goodbye::new(GoodbyeCode::InternalError, "no signer statement"));
        let statement = statement.parse().map_err(too_long)?;
        self.send(&ServerFrame::Signer(Signer { statement })).await
    }

    /// The agent's next frame; `None` for one that means nothing to us.
    async fn receive(&mut self) -> Result<Option<AgentFrame>, Ended> {
        let message = match self.socket.next().await {
            Some(Ok(message)) => message,
            Some(Err(WebSocketError::Capacity(_))) => {
                return Err(Some(Goodbye::new(
                    GoodbyeCode::ProtocolError,
                    "a frame of more than 16384 bytes",
                )));
            }
            Some(Err(error)) => {
                tracing::debug!(%error, instance = %self.identity.instance, "a link broke");
                return Err(None);
            }
            None => return Err(None),
        };
        match message {
            Message::Binary(bytes) => AgentFrame::decode(&bytes).map_err(|error| Some(error.into())),
            Message::Ping(_) | Message::Pong(_) => Ok(None),
            Message::Close(_) => Err(None),
            Message::Text(_) | Message::Frame(_) => {
                Err(Some(Goodbye::new(GoodbyeCode::ProtocolError, "a message that is not binary")))
            }
        }
    }

    async fn send(&mut self, frame: &ServerFrame) -> Result<(), Ended> {
        self.write(frame).await?;
        self.flush().await
    }

    /// Sends a frame and all that wait behind it in one go.
    async fn send_all(
        &mut self,
        first: ServerFrame,
        queue: &mut mpsc::Receiver<ServerFrame>,
        link: &Link,
    ) -> Result<(), Ended> {
        let mut next = Some(first);
        while let Some(frame) = next {
            if let ServerFrame::Goodbye(goodbye) = frame {
                return Err(Some(goodbye));
            }
            if !link.is_moot(&frame) {
                kill_point("send-before");
                self.write(&frame).await?;
            }
            next = queue.try_recv().ok();
        }
        self.flush().await?;
        kill_point("send-after");
        Ok(())
    }

    async fn write(&mut self, frame: &ServerFrame) -> Result<(), Ended> {
        let sent = timeout(limits::WRITE_STALL, self.socket.feed(Message::binary(frame.encode()))).await;
        if matches!(sent, Ok(Ok(()))) { Ok(()) } else { Err(None) }
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        let flushed = timeout(limits::WRITE_STALL, self.socket.flush()).await;
        if matches!(flushed, Ok(Ok(()))) { Ok(()) } else { Err(None) }
    }
}

/// Waits for the next change; for ever once nobody can announce one.
async fn changed(changes: &mut watch::Receiver<u64>) {
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
