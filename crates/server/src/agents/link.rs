//! One link, from its hello to its goodbye: the server's side of docs/link.md.

mod anchors;
mod metadata;

use super::identity::overtaken;
use super::{AgentConnection, Agents, host_facts, host_keys};
use crate::inventory::StaleInventory;
use crate::links::{CAPABILITIES, Link, NotOpened, Opened, OpeningPlace, Probe, Slot, Wanted};
use crate::new_ids;
use crate::pki::{AgentKey, StatementOf};
use anchors::AnchorSets;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use instance_connect_core::audit::{self, CloneEvidence, LinkClaim, Proof};
use instance_connect_core::host_facts::HostFacts;
use instance_connect_core::host_key::{HostKeys, claimed};
use instance_connect_core::ids::InstanceId;
use instance_connect_core::inventory::AgentStanding;
use instance_connect_core::link::{
    AgentFrame, AgentUrn, Capabilities, Goodbye, GoodbyeCode, Hello, HostKeyText, Pong, ServerFrame,
    VersionText, Welcome, Withdraw, limits,
};
use instance_connect_kill_point::kill_point;
use std::convert::Infallible;
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
    pub(super) opening: OpeningPlace,
    /// Whether its certificate was stale when it began: then it shows a copy, whatever comes of it.
    pub(super) is_stale: bool,
}

/// Why a link ends.
#[derive(Debug)]
enum Ended {
    /// This side ends it, with a word to the agent.
    Here(Goodbye),
    /// The agent has said goodbye, or closed the WebSocket.
    ByAgent,
    /// The connection is gone, without a word.
    Broken,
    /// The agent takes no more bytes.
    Stalled,
}

impl Ended {
    /// For the metric.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Here(goodbye) => goodbye.code.name(),
            Self::ByAgent => "closed_by_agent",
            Self::Broken => "broken",
            Self::Stalled => "stalled",
        }
    }

    fn with(code: GoodbyeCode, text: &str) -> Self {
        Self::Here(Goodbye::new(code, text))
    }
}

/// Runs a link until it ends.
pub(super) async fn run(agents: &Arc<Agents>, agent: &AgentConnection, upgraded: Upgraded, places: Places) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(limits::FRAME)
        .max_write_buffer_size(limits::FRAME * limits::SERVER_QUEUE)
        .max_message_size(Some(limits::FRAME))
        .max_frame_size(Some(limits::FRAME));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let mut conversation = Conversation {
        agents,
        agent,
        identity: &agent.certificate.identity,
        socket,
        signer_sent: None,
        metadata: None,
        anchor_sets: None,
        probes: Probes::default(),
        reported: None,
        facts: None,
    };
    let Places { link: _place, opening, is_stale } = places;
    let Err(ended) = conversation.hold(opening, is_stale).await;
    agents.metrics.link_ended(ended.reason());
    let Ended::Here(goodbye) = ended else { return };
    let instance = &agent.certificate.identity.instance;
    tracing::info!(%instance, code = %goodbye.code, text = goodbye.text.as_str(), "closing a link");
    let _ = conversation.send(&ServerFrame::Goodbye(goodbye)).await;
    let _ = timeout(limits::WRITE_STALL, conversation.socket.close(None)).await;
}

struct Conversation<'a> {
    agents: &'a Arc<Agents>,
    agent: &'a AgentConnection,
    /// The agent's.
    identity: &'a AgentUrn,
    socket: WebSocketStream<TokioIo<Upgraded>>,
    /// The signer statement that it was sent last.
    signer_sent: Option<StatementOf>,
    /// What the machine's metadata service was told, if it has one.
    metadata: Option<metadata::Told>,
    /// None before the machine has said which it trusts.
    anchor_sets: Option<AnchorSets>,
    probes: Probes,
    /// The agent's last report of host keys, until it is taken.
    reported: Option<HostKeys>,
    /// Its last report of host facts, until it is taken.
    facts: Option<Box<HostFacts>>,
}

/// The pings that are to show whether there is somebody at the other end, by what is in them.
#[derive(Default)]
struct Probes {
    sent: u64,
    waiting: Vec<(u64, Probe)>,
}

impl Conversation<'_> {
    /// Opens the link, puts it in its instance's place, and holds it.
    async fn hold(&mut self, mut opening: OpeningPlace, is_stale: bool) -> Result<Infallible, Ended> {
        // From here on no change goes unseen: what is checked below holds for as long as the link does.
        let changes = self.agents.inventory.changes();
        let instance = &self.identity.instance;
        let slot = self.agents.links.slot(instance);
        let said_hello = tokio::select! {
            said_hello = self.say_hello(&slot) => said_hello,
            () = opening.lost() => {
                Err(Ended::with(GoodbyeCode::Overloaded, "too many links of this identity are opening"))
            }
        };
        let (hello, turn) = match said_hello {
            Err(no_hello) if is_stale => {
                tracing::debug!(?no_hello, "a stale certificate, and no hello");
                return Err(Ended::Here(self.agents.end_stale(self.agent, None).await));
            }
            said_hello => said_hello?,
        };
        drop(opening);
        let claim = LinkClaim {
            boot_id: hello.boot_id.clone(),
            source: self.agent.source,
            generation: self.identity.generation,
        };
        let has_metadata = hello.capabilities.contains(Capabilities::METADATA);
        self.metadata = has_metadata.then(metadata::Told::default);
        let (link, wanted) = Link::new(claim, self.agent.accepted_at, has_metadata);
        if !hello.capabilities.contains(Capabilities::STREAMS) {
            // It has no serial lines, and says nothing of them.
            link.owns_now(Vec::new());
        }
        let Opened { replaced, withdrawals } = self.take_place(&slot, &link).await?;
        self.agents.metrics.link_opened();
        tracing::info!(%instance, boot = %hello.boot_id, agent_version = hello.agent_version.as_str(), "link open");
        match replaced {
            Some(replaced) => self.end_replaced(replaced, &link, turn),
            None => drop(turn),
        }
        let asks_for_renewal =
            hello.capabilities.contains(Capabilities::RENEWAL) && self.agents.is_renewal_due(self.identity);
        let Err(ended) = self.converse((&slot, &link), withdrawals, asks_for_renewal, wanted, changes).await;
        slot.close(&link);
        self.agents.metrics.link_closed();
        tracing::info!(%instance, "link closed");
        Err(ended)
    }

    /// Waits for hello, and then for a turn to take the place of another link.
    async fn say_hello(&mut self, slot: &Slot) -> Result<(Hello, Option<OwnedSemaphorePermit>), Ended> {
        let hello = timeout(limits::OPENING, self.open()).await;
        let hello = hello.map_err(|_| Ended::with(GoodbyeCode::Idle, "no hello in time"))??;
        Ok((hello, slot.turn().await))
    }

    /// Ends the link that this one has replaced, in a task of its own: the machine does not wait until its last link is
    /// known to be silent.
    fn end_replaced(&self, replaced: Arc<Link>, by: &Arc<Link>, turn: Option<OwnedSemaphorePermit>) {
        tracing::warn!(instance = %self.identity.instance, "a second link of one identity; the first is closed");
        let by = Arc::clone(by);
        self.aside(|agents, identity| async move {
            let _until_then = turn;
            agents.end_replaced(&replaced, &identity, &by).await;
        });
    }

    /// Hello, welcome, signer.
    async fn open(&mut self) -> Result<Hello, Ended> {
        let Some(AgentFrame::Hello(hello)) = self.receive().await? else {
            return Err(Ended::with(GoodbyeCode::ProtocolError, "the first frame is not hello"));
        };
        let Some(version) = hello.common_version() else {
            let text = format!("this server speaks version {}", limits::VERSION_MAX);
            return Err(Ended::with(GoodbyeCode::VersionUnsupported, &text));
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
        self.write_signer().await?;
        self.flush().await?;
        Ok(hello)
    }

    /// Puts the link in its instance's place, unless its certificate is not good or another machine is in that place.
    async fn take_place(&mut self, slot: &Slot, link: &Arc<Link>) -> Result<Opened, Ended> {
        let (agents, identity) = (self.agents, self.identity);
        let mut silent: Option<Arc<Link>> = None;
        loop {
            // The identity may have been replaced since the upgrade, and must not replace its successor.
            if self.standing()? == AgentStanding::Stale {
                return Err(Ended::Here(agents.end_stale(self.agent, Some(&link.claim().boot_id)).await));
            }
            agents.begin_to_use(self.agent).await.map_err(|error| {
                tracing::error!(%error, instance = %identity.instance, "a certificate cannot be used");
                Ended::with(GoodbyeCode::InternalError, "the identity cannot be used now")
            })?;
            match slot.open(link, silent.as_ref(), agents.links.clock().monotonic()) {
                Ok(opened) => return Ok(opened),
                Err(NotOpened::Overtaken) => return Err(Ended::Here(overtaken())),
                // This connection is the later one, so whoever is at the other one's end is another machine.
                Err(NotOpened::Rival(rival)) if rival.answers().await => {
                    let (evidence, open) = (CloneEvidence::TwoLinks, Some(rival.as_ref()));
                    return Err(Ended::Here(agents.suspend(evidence, identity, link.shown(), open).await));
                }
                Err(NotOpened::Rival(rival)) => silent = Some(rival),
            }
        }
    }

    /// What the link's certificate is worth now.
    ///
    /// # Errors
    /// The certificate has ended, or its identity is suspended or revoked, or the store does not answer.
    fn standing(&self) -> Result<AgentStanding, Ended> {
        self.check_expiry()?;
        let (code, text) = match self.agents.standing(self.identity) {
            Ok(standing @ (AgentStanding::Good | AgentStanding::Stale)) => return Ok(standing),
            Ok(AgentStanding::Suspended) => {
                (GoodbyeCode::IdentitySuspended, "two machines hold this identity")
            }
            Ok(AgentStanding::Revoked) => {
                (GoodbyeCode::IdentityRevoked, "this identity is no longer the instance's")
            }
            Err(StaleInventory) => (GoodbyeCode::InternalError, "the store does not answer"),
        };
        Err(Ended::with(code, text))
    }

    /// TLS has asked this once, at the beginning.
    fn check_expiry(&self) -> Result<(), Ended> {
        if self.agents.links.clock().wall() <= self.agent.certificate.not_after {
            return Ok(());
        }
        let text = "the certificate has ended, and was not renewed; enrol the machine again";
        Err(Ended::with(GoodbyeCode::CertificateExpired, text))
    }

    /// Sends what is owed and asked for, and then speaks until one side ends it.
    async fn converse(
        &mut self,
        (slot, link): (&Slot, &Arc<Link>),
        withdrawals: Vec<Withdraw>,
        asks_for_renewal: bool,
        Wanted { mut frames, mut probes }: Wanted,
        mut changes: watch::Receiver<u64>,
    ) -> Result<Infallible, Ended> {
        for withdraw in withdrawals {
            self.send(&ServerFrame::Withdraw(withdraw)).await?;
        }
        if asks_for_renewal {
            self.send(&ServerFrame::Renew).await?;
        }
        let mut signers_change = self.metadata.is_some().then(|| self.agents.links.stock().changes());
        self.write_instances().await?;
        self.write_stock_signers().await?;
        self.flush().await?;
        let mut silent_since = Instant::now();
        loop {
            tokio::select! {
                received = self.receive() => {
                    silent_since = Instant::now();
                    // Something is heard every 30 s at the least, so it ends in time without a timer of its own, which
                    // would not follow the wall clock.
                    self.check_expiry()?;
                    if let Some(frame) = received? {
                        self.take(slot, link, frame).await?;
                    }
                }
                // The link itself holds a sender of both, so they do not end before it.
                Some(frame) = frames.recv() => self.send_all(frame, &mut frames, link).await?,
                Some(probe) = probes.recv() => self.probe(probe).await?,
                () = changed(&mut changes) => {
                    // Stale it only becomes by the link that is about to replace this one.
                    self.standing()?;
                    self.write_instances().await?;
                    self.flush().await?;
                }
                () = changed_if_any(signers_change.as_mut()) => {
                    self.write_stock_signers().await?;
                    self.flush().await?;
                }
                () = tokio::time::sleep_until(silent_since + limits::SILENCE) => {
                    return Err(Ended::with(GoodbyeCode::Idle, "nothing heard for too long"));
                }
            }
        }
    }

    /// Acts on one frame of the agent.
    async fn take(&mut self, slot: &Slot, link: &Arc<Link>, frame: AgentFrame) -> Result<(), Ended> {
        match frame {
            AgentFrame::Ping(ping) => {
                self.take_host_keys(slot);
                self.take_host_facts(slot);
                self.note_anchors(slot);
                let server_time = self.agents.links.clock().monotonic();
                self.send(&ServerFrame::Pong(Pong { sent_at: ping.sent_at, server_time })).await?;
                self.send_anchors().await
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
                self.record(slot, &self.identity.instance, Proof::Offered(&offered));
                Ok(())
            }
            AgentFrame::KeyUse(key_use) => {
                self.record(slot, &self.identity.instance, Proof::KeyUse(&key_use));
                Ok(())
            }
            AgentFrame::ExpiredUnused(unused) => {
                self.record(slot, &self.identity.instance, Proof::ExpiredUnused(&unused));
                Ok(())
            }
            AgentFrame::GuestReport(report) => {
                self.take_guest_report(&report);
                Ok(())
            }
            AgentFrame::HostKeys(host_keys) => {
                self.reported = Some(claimed(host_keys.lines.iter().map(HostKeyText::as_str)));
                self.take_host_keys(slot);
                Ok(())
            }
            AgentFrame::HostFacts(facts) => {
                self.facts = Some(facts);
                self.take_host_facts(slot);
                Ok(())
            }
            AgentFrame::Anchors(held) => self.take_anchors(slot, held).await,
            AgentFrame::Lines(reported) => {
                link.owns_now(reported.lines);
                Ok(())
            }
            AgentFrame::StreamRefused(refused) => {
                self.agents.streams.refused(&self.identity.instance, refused.id, refused.refusal);
                Ok(())
            }
            AgentFrame::Renew(renew) => self.renew(slot, link, renew.request.as_str()),
            AgentFrame::Goodbye(goodbye) => {
                let (instance, code) = (&self.identity.instance, goodbye.code);
                tracing::info!(%instance, %code, text = goodbye.text.as_str(), "the agent closes its link");
                Err(Ended::ByAgent)
            }
            AgentFrame::Hello(_) => Err(Ended::with(GoodbyeCode::ProtocolError, "a second hello")),
        }
    }

    /// Does work in a task of its own: acknowledgements do not wait for it, and the end of the control plane does.
    fn aside<W, F>(&self, work: W)
    where
        W: FnOnce(Arc<Agents>, AgentUrn) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let under_way = self.agents.drain.under_way();
        let work = work(Arc::clone(self.agents), self.identity.clone());
        tokio::spawn(async move {
            let _under_way = under_way;
            work.await;
        });
    }

    /// Takes what waits, if it is time. There is at most one of each instance, and few.
    fn take_host_keys(&mut self, slot: &Slot) {
        if self.reported.is_none() || !slot.host_keys.permits(self.agents.links.clock().monotonic()) {
            return;
        }
        if let Some(keys) = self.reported.take() {
            self.aside(
                |agents, identity| async move { host_keys::take_or_log(&agents, &identity, &keys).await },
            );
        }
    }

    /// The same for host facts.
    fn take_host_facts(&mut self, slot: &Slot) {
        if self.facts.is_none() || !slot.host_facts.permits(self.agents.links.clock().monotonic()) {
            return;
        }
        if let Some(facts) = self.facts.take() {
            self.aside(|agents, identity| async move {
                host_facts::take_or_log(&agents, &identity, &facts).await
            });
        }
    }

    /// Answers a request for the next certificate, unless one was issued just now.
    fn renew(&self, slot: &Slot, link: &Arc<Link>, request: &str) -> Result<(), Ended> {
        let refused = |error| Ended::with(GoodbyeCode::ProtocolError, &format!("{error:#}"));
        let key = AgentKey::from_request(request).map_err(refused)?;
        let instance = &self.identity.instance;
        if !slot.renewals.permits(self.agents.links.clock().monotonic()) {
            tracing::warn!(%instance, "an agent renews its certificate again and again");
            return Ok(());
        }
        let link = Arc::clone(link);
        self.aside(|agents, identity| async move {
            // Without an answer it asks again; until then its certificate is as good as it was.
            match agents.renew(&identity, link.claim(), &key).await {
                Ok(renewed) => {
                    link.send(ServerFrame::Renewed(renewed));
                }
                Err(error) => {
                    let (error, instance) = (format!("{error:#}"), &identity.instance);
                    tracing::error!(error, %instance, "a certificate cannot be renewed");
                }
            }
        });
        Ok(())
    }

    /// Asks whether there is somebody at the other end.
    async fn probe(&mut self, probe: Probe) -> Result<(), Ended> {
        self.probes.sent += 1;
        self.probes.waiting.retain(|(_, probe)| !probe.is_closed());
        self.probes.waiting.push((self.probes.sent, probe));
        let ping = Message::Ping(self.probes.sent.to_be_bytes().to_vec().into());
        written(self.socket.send(ping)).await
    }

    /// An agent's word for what became of a key: a line for the auditor, with the requests that pushed it. No push waits for it.
    fn record(&self, slot: &Slot, of: &InstanceId, proof: Proof<'_>) {
        let Agents { links, audit, random, region, .. } = self.agents.as_ref();
        let clock = links.clock();
        slot.record(clock.monotonic(), |not_recorded| {
            audit.record_soon(|| {
                let event_id = new_ids::uuid(random.as_ref());
                audit::proof(proof, not_recorded, (self.identity, of), clock.wall(), region, &event_id)
            })
        });
    }

    /// The agent's next frame; `None` for one that means nothing to us.
    async fn receive(&mut self) -> Result<Option<AgentFrame>, Ended> {
        let message = match self.socket.next().await {
            Some(Ok(message)) => message,
            Some(Err(WebSocketError::Capacity(_))) => {
                return Err(Ended::with(GoodbyeCode::ProtocolError, "a frame of more than 16384 bytes"));
            }
            Some(Err(error)) => {
                tracing::debug!(%error, instance = %self.identity.instance, "a link broke");
                return Err(Ended::Broken);
            }
            None => return Err(Ended::Broken),
        };
        match message {
            Message::Binary(bytes) => AgentFrame::decode(&bytes).map_err(|error| Ended::Here(error.into())),
            Message::Ping(_) => Ok(None),
            Message::Pong(bytes) => {
                self.probes.answered(&bytes);
                Ok(None)
            }
            Message::Close(_) => Err(Ended::ByAgent),
            Message::Text(_) | Message::Frame(_) => {
                Err(Ended::with(GoodbyeCode::ProtocolError, "a message that is not binary"))
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
                return Err(Ended::Here(goodbye));
            }
            if !link.is_moot(&frame) {
                // Whatever signed a grant is known here when the grant comes by, or was sent before.
                if matches!(frame, ServerFrame::Grant(_)) {
                    self.write_signer().await?;
                    self.write_instances().await?;
                    self.write_stock_signers().await?;
                }
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
        written(self.socket.feed(Message::binary(frame.encode()))).await
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        written(self.socket.flush()).await
    }
}

impl Probes {
    /// Tells who has asked, if this is the answer to that.
    fn answered(&mut self, pong: &[u8]) {
        let is_answer = |(id, _): &mut (u64, Probe)| id.to_be_bytes() == pong;
        for (_, probe) in self.waiting.extract_if(.., is_answer) {
            let _ = probe.send(());
        }
    }
}

/// Gives a write the time there is for it.
async fn written(write: impl Future<Output = Result<(), WebSocketError>>) -> Result<(), Ended> {
    let written = timeout(limits::WRITE_STALL, write).await;
    written.map_err(|_| Ended::Stalled)?.map_err(|_| Ended::Broken)
}

/// Waits for the next change; for ever once nobody can announce one.
async fn changed(changes: &mut watch::Receiver<u64>) {
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The same, of what a link may have no use for.
async fn changed_if_any(changes: Option<&mut watch::Receiver<u64>>) {
    match changes {
        Some(changes) => changed(changes).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_takes_no_bytes_is_told_from_a_broken_connection() {
        assert!(matches!(written(std::future::pending()).await, Err(Ended::Stalled)));
        let broken = std::future::ready(Err(WebSocketError::ConnectionClosed));
        assert!(matches!(written(broken).await, Err(Ended::Broken)));
        assert!(matches!(written(std::future::ready(Ok(()))).await, Ok(())));
    }
}
