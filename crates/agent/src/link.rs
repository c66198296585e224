//! One link, from hello to goodbye: messages in, files changed, acks out.

use crate::clock::MachineClock;
use crate::connect::Socket;
use crate::host::HostFiles;
use crate::host_facts;
use crate::host_keys;
use crate::host_reports::{HostReport, HostReports};
use crate::lines::Lines;
use crate::live_keys::LiveKeys;
use crate::metadata::{Guest, Metadata, Serving};
use crate::os_users::OsUsers;
use crate::renewal::Renewal;
use crate::run::{local_address, random};
use crate::status::StatusFile;
use futures_util::{SinkExt as _, StreamExt as _};
use instance_connect_core::document::{BootId, BootInstant, DeadlineRefusal, OsUser};
use instance_connect_core::host_facts::HostFacts;
use instance_connect_core::link::{
    Ack, AckOutcome, AgentEvent, AgentFacts, AgentFrame, AgentLink, Capabilities, ClockWatch, Goodbye,
    GoodbyeCode, Grant, GrantId, HeldAnchors, MachineTerms, OpenStream, Refusal, Renew, Renewed,
    ReportedHostKeys, ReportedLines, Signers, StreamRefused, Withdraw, Withdrawn, admit, limits,
};
use instance_connect_core::throttle::Bucket;
use instance_connect_kill_point::kill_point;
use instance_connect_notify::{NotifySocket, State};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::{Bytes, Error as WebSocketError, Message};

/// How long saying goodbye may take.
const PARTING: Duration = Duration::from_secs(1);

/// What outlasts a link: the machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) facts: AgentFacts,
    /// Where its identity is.
    pub(crate) state: PathBuf,
    pub(crate) clock: Arc<dyn MachineClock>,
    pub(crate) host: HostFiles,
    /// Where sshd's host keys are.
    pub(crate) ssh_host_keys: PathBuf,
    /// Where the distribution says which it is.
    pub(crate) os_release: PathBuf,
    pub(crate) keys: LiveKeys,
    pub(crate) users: OsUsers,
    pub(crate) reports: HostReports,
    /// The metadata service, if root wants one.
    pub(crate) metadata: Option<Serving>,
    /// Whether the server of the link signs for it.
    pub(crate) is_told_of_twins: bool,
    /// The serial lines that this machine owns.
    pub(crate) lines: Lines,
    pub(crate) report_rate: Bucket,
    pub(crate) clock_watch: ClockWatch,
    pub(crate) signers: Signers,
    /// What `status` and `doctor` tell people.
    pub(crate) status: StatusFile,
    /// How often time is looked at: pings, silence, files past their deadline.
    pub(crate) tick: Duration,
    /// Who is still to be told that a link is open.
    pub(crate) notify: Option<NotifySocket>,
}

/// How a link ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The agent is to stop.
    Stopped,
    /// The machine has its next certificate, and is to open a link with that.
    Renewed,
    /// The link is gone, and another is to be opened.
    Lost {
        /// For the log.
        why: String,
        /// Whether coming back soon cannot help.
        lasting: bool,
        /// Whether it had been a good one.
        stable: bool,
    },
}

/// Speaks on a connection until one side ends it, or `stop` is ready.
pub(crate) async fn converse(
    socket: Socket,
    machine: &mut Machine,
    mut stop: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> End {
    machine.lines.link_opened();
    let serves_streams = !machine.lines.is_empty();
    let mut facts = machine.facts.clone();
    if serves_streams {
        facts.capabilities = facts.capabilities.with(Capabilities::STREAMS);
    }
    let (link, hello) = AgentLink::start(&facts, machine.clock.boot());
    let renewal = Renewal::new(machine.state.clone());
    let mut conversation = Conversation {
        socket,
        link,
        machine,
        renewal,
        anchors_told: None,
        facts_told: None,
        serves_streams,
        lines_told: None,
        lookups: JoinSet::new(),
        server_clock: None,
    };
    let mut ticks = interval(conversation.machine.tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut going = conversation.send(&hello).await;
    while going.is_ok() {
        let wake = conversation.wait(&mut ticks, stop.as_mut()).await;
        going = conversation.on_wake(wake).await;
    }
    conversation.part(going.err().unwrap_or(Parting::Stop)).await
}

struct Conversation<'a> {
    socket: Socket,
    link: AgentLink,
    machine: &'a mut Machine,
    renewal: Renewal,
    /// Whether the server knows of renewals and anchor sets, and the anchors that it was told of last.
    anchors_told: Option<Option<HeldAnchors>>,
    /// What the server was told of this machine, and when that was looked at; nothing where it does not take it.
    facts_told: Option<(HostFacts, BootInstant)>,
    /// Whether the server was told that this machine has serial lines.
    serves_streams: bool,
    /// Whether it takes streams, and the lines that it was told of last.
    lines_told: Option<Option<ReportedLines>>,
    /// Acks that wait to hear whether their OS user exists.
    lookups: JoinSet<(GrantId, OsUser, Option<bool>)>,
    /// The server's clock, once it has welcomed us.
    server_clock: Option<BootId>,
}

/// What there is to do next.
enum Wake {
    Message(Option<Result<Message, WebSocketError>>),
    LookedUp(GrantId, OsUser, Option<bool>),
    HostReport(HostReport),
    Refused(StreamRefused),
    MayReport,
    Tick,
    Stop,
}

/// Why this side leaves.
enum Parting {
    /// The agent is to stop.
    Stop,
    /// Only to come back with the next certificate, or with serial lines that there were none of.
    Renewed,
    /// With a last word to the server.
    Goodbye(Goodbye),
    /// There is nobody left to talk to, or the server said goodbye.
    Gone { why: String, lasting: bool },
}

impl Parting {
    fn gone(why: &dyn ToString) -> Self {
        Self::Gone { why: why.to_string(), lasting: false }
    }
}

impl From<Goodbye> for Parting {
    fn from(goodbye: Goodbye) -> Self {
        Self::Goodbye(goodbye)
    }
}

impl Conversation<'_> {
    async fn wait(
        &mut self,
        ticks: &mut tokio::time::Interval,
        stop: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Wake {
        let may_report = self.server_clock.is_some()
            && self.machine.has_report()
            && self.machine.report_rate.has_token(self.machine.since_boot());
        tokio::select! {
            message = self.socket.next() => Wake::Message(message),
            Some(looked_up) = self.lookups.join_next() => match looked_up {
                Ok((id, user, exists)) => Wake::LookedUp(id, user, exists),
                // A look-up neither panics nor is cancelled while the conversation goes on.
                Err(_) => Wake::Tick,
            },
            report = self.machine.reports.next() => Wake::HostReport(report),
            refused = self.machine.lines.next_refusal() => Wake::Refused(refused),
            () = std::future::ready(()), if may_report => Wake::MayReport,
            _ = ticks.tick() => Wake::Tick,
            () = stop => Wake::Stop,
        }
    }

    async fn on_wake(&mut self, wake: Wake) -> Result<(), Parting> {
        match wake {
            Wake::Message(Some(Ok(message))) => self.on_message(message).await,
            Wake::Message(Some(Err(WebSocketError::Capacity(_)))) => {
                Err(Goodbye::new(GoodbyeCode::ProtocolError, "a frame of more than 16384 bytes").into())
            }
            Wake::Message(Some(Err(error))) => Err(Parting::gone(&error)),
            Wake::Message(None) => Err(Parting::gone(&"the server closed the connection")),
            Wake::LookedUp(id, user, exists) => self.on_looked_up(id, user, exists).await,
            Wake::HostReport(report) => {
                self.machine.take_report(report);
                Ok(())
            }
            Wake::Refused(refused) => self.send(&AgentFrame::StreamRefused(refused)).await,
            Wake::MayReport => self.send_report().await,
            Wake::Tick => self.on_tick().await,
            Wake::Stop => Err(Parting::Stop),
        }
    }

    async fn on_message(&mut self, message: Message) -> Result<(), Parting> {
        let now = self.machine.clock.boot();
        match message {
            Message::Binary(frame) => {
                let event = self.link.on_message(&frame, now)?;
                self.on_event(event).await
            }
            Message::Ping(_) | Message::Pong(_) => {
                self.link.on_bytes(now);
                Ok(())
            }
            Message::Close(_) => Err(Parting::gone(&"the server closed the link")),
            Message::Text(_) | Message::Frame(_) => {
                Err(Goodbye::new(GoodbyeCode::ProtocolError, "a message that is not binary").into())
            }
        }
    }

    async fn on_event(&mut self, event: AgentEvent) -> Result<(), Parting> {
        match event {
            AgentEvent::Opened(welcome) => {
                self.server_clock = Some(welcome.server_clock);
                tracing::info!(version = welcome.version, server = %welcome.server_version, "the link is open");
                self.machine.status.opened(self.machine.clock.now().wall);
                self.machine.is_told_of_twins = welcome.capabilities.contains(Capabilities::METADATA);
                if self.machine.metadata.is_some() && !self.machine.is_told_of_twins {
                    tracing::warn!(
                        "this control plane is older than metadata services: the host scripts are shown no keys"
                    );
                }
                self.machine.say_ready();
                self.make_up_for_lost_time()?;
                if welcome.capabilities.contains(Capabilities::RENEWAL) {
                    self.renewal.enable(random());
                    self.anchors_told = Some(None);
                    self.tell_anchors().await?;
                }
                if welcome.capabilities.contains(Capabilities::HOST_KEYS) {
                    self.report_host_keys().await?;
                }
                if welcome.capabilities.contains(Capabilities::HOST_FACTS) {
                    self.report_host_facts().await?;
                }
                if self.serves_streams && welcome.capabilities.contains(Capabilities::STREAMS) {
                    self.lines_told = Some(None);
                    self.tell_lines().await?;
                }
                Ok(())
            }
            AgentEvent::ClockRead => self.make_up_for_lost_time(),
            AgentEvent::Signer(statement) => {
                tracing::info!(%statement, "a signer");
                self.machine.status.signer(&statement.to_string());
                Ok(())
            }
            AgentEvent::Grant { grant, deadline } => self.on_grant(&grant, deadline).await,
            AgentEvent::Withdraw(withdraw) => self.on_withdraw(&withdraw).await,
            AgentEvent::Anchors(set) => {
                let kept = match self.machine.host.anchors() {
                    Some(current) => crate::anchors::keep(&self.machine.state, current, set.as_str()),
                    None => Err("the anchors of this machine cannot be read".to_owned()),
                };
                match kept {
                    Ok(set) => {
                        tracing::info!(set, "anchors for root to take: instance-connect-agent update-anchors")
                    }
                    Err(reason) => tracing::warn!(reason, "anchors that were sent are not taken"),
                }
                Ok(())
            }
            AgentEvent::StockSigners(signers) => {
                self.machine.with_metadata(|metadata| metadata.set_signers(&signers))
            }
            AgentEvent::Instance(facts) => self.machine.with_metadata(|metadata| metadata.set_facts(facts)),
            AgentEvent::OpenStream(open) => self.on_open_stream(&open).await,
            AgentEvent::RenewalAsked => {
                let request = self.renewal.request(self.machine.clock.boot());
                self.renew(request).await
            }
            AgentEvent::Renewed(renewed) => self.on_renewed(&renewed).await,
            AgentEvent::Goodbye(Goodbye { code, text }) => {
                let why = format!("the server said goodbye: {code}: {text}");
                Err(Parting::Gone { why, lasting: code.is_lasting() })
            }
            AgentEvent::Ignored => {
                tracing::debug!("a frame of a later version, ignored");
                Ok(())
            }
        }
    }

    /// With each link: keys change rarely, and where a report was lost the next link makes it good.
    async fn report_host_keys(&mut self) -> Result<(), Parting> {
        let keys = host_keys::read(&self.machine.ssh_host_keys);
        let lines = keys.iter().filter_map(|key| key.line().parse().ok()).collect();
        self.send(&AgentFrame::HostKeys(ReportedHostKeys { lines })).await
    }

    async fn report_host_facts(&mut self) -> Result<(), Parting> {
        let facts = host_facts::read(&self.machine.os_release, local_address(&self.socket));
        let is_told = self.facts_told.as_ref().is_some_and(|(told, _)| *told == facts);
        self.facts_told = Some((facts.clone(), self.machine.clock.boot()));
        if is_told { Ok(()) } else { self.send(&AgentFrame::HostFacts(Box::new(facts))).await }
    }

    /// The ack comes after the file, always.
    async fn on_grant(
        &mut self,
        grant: &Grant,
        deadline: Result<BootInstant, DeadlineRefusal>,
    ) -> Result<(), Parting> {
        let user = match self.machine.take(&self.link, grant, deadline) {
            Ok(Some(user)) => user,
            // Nobody here knows the users of a guest.
            Ok(None) => return self.ack(grant.id, AckOutcome::Installed { os_user_exists: true }).await,
            Err(refusal) => {
                tracing::warn!(%refusal, "a grant is refused");
                return self.ack(grant.id, AckOutcome::Refused(refusal)).await;
            }
        };
        match self.machine.users.known(&user, self.machine.clock.boot()) {
            Some(os_user_exists) => self.ack(grant.id, AckOutcome::Installed { os_user_exists }).await,
            None if self.lookups.len() < limits::ACKS_WAITING => {
                let (id, asking) = (grant.id, self.machine.users.ask(&user));
                self.lookups.spawn(async move { (id, user, asking.await) });
                Ok(())
            }
            None => self.ack(grant.id, AckOutcome::Installed { os_user_exists: true }).await,
        }
    }

    /// After each clock sample: a machine that was paused has keys that should have ended meanwhile.
    fn make_up_for_lost_time(&mut self) -> Result<(), Parting> {
        let (Some(server_clock), Some(sample)) = (&self.server_clock, self.link.sample()) else {
            return Ok(());
        };
        let now = self.machine.clock.boot();
        let lost = self.machine.clock_watch.lost(server_clock, sample, now);
        if lost.is_zero() {
            return Ok(());
        }
        tracing::warn!(
            seconds = lost.as_secs(),
            "this machine was paused; its live keys end that much earlier"
        );
        self.machine.shorten(lost).map_err(|error| {
            tracing::error!(%error, "live keys cannot be shortened");
            Goodbye::new(GoodbyeCode::InternalError, "live keys cannot be shortened").into()
        })
    }

    async fn on_looked_up(&mut self, id: GrantId, user: OsUser, exists: Option<bool>) -> Result<(), Parting> {
        if let Some(exists) = exists {
            self.machine.users.remember(user, exists, self.machine.clock.boot());
        }
        self.ack(id, AckOutcome::Installed { os_user_exists: exists.unwrap_or(true) }).await
    }

    async fn on_withdraw(&mut self, withdraw: &Withdraw) -> Result<(), Parting> {
        let Withdraw { id, request_id, .. } = withdraw;
        match self.machine.withdraw(withdraw) {
            Ok(removed) => {
                tracing::info!(%request_id, removed, "a grant is withdrawn");
                self.send(&AgentFrame::Withdrawn(Withdrawn { id: *id, removed })).await
            }
            Err(error) => {
                // No answer: the server withdraws again on the next link.
                tracing::error!(%request_id, %error, "a grant cannot be withdrawn");
                Err(Goodbye::new(GoodbyeCode::InternalError, "a withdrawn key cannot be removed").into())
            }
        }
    }

    async fn send_report(&mut self) -> Result<(), Parting> {
        let now = self.machine.since_boot();
        if !self.machine.report_rate.take(now) {
            return Ok(());
        }
        let Some(report) = self.machine.next_report() else { return Ok(()) };
        self.send(&report).await
    }

    async fn on_tick(&mut self) -> Result<(), Parting> {
        self.machine.keep_house();
        if let Some(ping) = self.link.on_tick(self.machine.clock.boot())? {
            self.send(&ping).await?;
        }
        self.tell_anchors().await?;
        self.tell_lines().await?;
        let looked_at = self.facts_told.as_ref().map(|(_, looked_at)| *looked_at);
        if looked_at.is_some_and(|at| self.machine.clock.boot().since(at) >= limits::HOST_FACTS_LOOKED_AT) {
            self.report_host_facts().await?;
        }
        let request = self.renewal.request_if_due(self.machine.clock.now());
        self.renew(request).await
    }

    /// Says which anchors this machine trusts, where that is news to the server.
    async fn tell_anchors(&mut self) -> Result<(), Parting> {
        let Some(told) = self.anchors_told else { return Ok(()) };
        match self.machine.host.anchors().map(HeldAnchors::of) {
            Some(held) if told != Some(held) => {
                self.anchors_told = Some(Some(held));
                self.send(&AgentFrame::Anchors(held)).await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Says which serial lines this machine owns, where that is news to the server. A link that began without any is opened
    /// anew, since it was said with its first frame.
    async fn tell_lines(&mut self) -> Result<(), Parting> {
        if !self.serves_streams && !self.machine.lines.is_empty() {
            return Err(Parting::Renewed);
        }
        let Some(told) = &self.lines_told else { return Ok(()) };
        let lines = self.machine.lines.report();
        if told.as_ref() == Some(&lines) {
            return Ok(());
        }
        self.lines_told = Some(Some(lines.clone()));
        self.send(&AgentFrame::Lines(lines)).await
    }

    async fn on_open_stream(&mut self, request: &OpenStream) -> Result<(), Parting> {
        match self.machine.lines.open(request) {
            Ok(()) => Ok(()),
            Err(refusal) => {
                tracing::warn!(%refusal, "a stream that was asked for is refused");
                self.send(&AgentFrame::StreamRefused(StreamRefused { id: request.id, refusal })).await
            }
        }
    }

    async fn renew(&mut self, request: Option<Renew>) -> Result<(), Parting> {
        let Some(request) = request else { return Ok(()) };
        tracing::info!("asking for the next certificate");
        self.send(&AgentFrame::Renew(request)).await
    }

    /// The next link is opened with the next certificate, at once. What was installed here is acknowledged here.
    async fn on_renewed(&mut self, renewed: &Renewed) -> Result<(), Parting> {
        match self.renewal.take(renewed, self.machine.clock.now().wall) {
            Ok(identity) => tracing::info!(%identity, "the certificate is renewed"),
            Err(reason) => {
                tracing::error!(reason, "the next certificate cannot be used");
                return Ok(());
            }
        }
        while let Some(looked_up) = self.lookups.join_next().await {
            if let Ok((id, user, exists)) = looked_up {
                self.on_looked_up(id, user, exists).await?;
            }
        }
        Err(Parting::Renewed)
    }

    async fn ack(&mut self, id: GrantId, outcome: AckOutcome) -> Result<(), Parting> {
        kill_point("acknowledgement-before");
        self.send(&AgentFrame::Ack(Ack { id, outcome })).await?;
        kill_point("acknowledgement-after");
        Ok(())
    }

    /// Sends at once. While the server takes nothing, nothing more is read from it either: acks are never dropped.
    async fn send(&mut self, frame: &AgentFrame) -> Result<(), Parting> {
        let message = Message::Binary(Bytes::from(frame.encode()));
        match timeout(limits::WRITE_STALL, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Parting::gone(&error)),
            Err(_) => Err(Parting::gone(&"the server takes no bytes")),
        }
    }

    async fn part(mut self, parting: Parting) -> End {
        let stable = self.link.is_stable(self.machine.clock.boot());
        let (goodbye, end) = match parting {
            Parting::Stop => (Some(Goodbye::new(GoodbyeCode::ShuttingDown, "the agent stops")), End::Stopped),
            Parting::Renewed => {
                let goodbye = Goodbye::new(GoodbyeCode::ShuttingDown, "coming back with something new");
                (Some(goodbye), End::Renewed)
            }
            Parting::Goodbye(goodbye) => {
                let (why, lasting) =
                    (format!("{}: {}", goodbye.code, goodbye.text), goodbye.code.is_lasting());
                (Some(goodbye), End::Lost { why, lasting, stable })
            }
            Parting::Gone { why, lasting } => (None, End::Lost { why, lasting, stable }),
        };
        let last_words = async {
            if let Some(goodbye) = goodbye {
                let message = Message::Binary(Bytes::from(AgentFrame::Goodbye(goodbye).encode()));
                self.socket.send(message).await?;
            }
            self.socket.close(None).await
        };
        // Whether the server hears them makes no difference any more.
        let _ = timeout(PARTING, last_words).await;
        end
    }
}

impl Machine {
    /// Says once that this machine can be reached. Where that fails, the next link tries again.
    fn say_ready(&mut self) {
        match self.notify.as_ref().map(|socket| socket.tell(State::Ready)) {
            Some(Err(error)) => tracing::warn!(%error, "cannot tell NOTIFY_SOCKET that the link is open"),
            Some(Ok(())) | None => self.notify = None,
        }
    }

    fn has_report(&self) -> bool {
        self.keys.uses.has_report() || self.metadata.as_ref().is_some_and(|metadata| metadata.has_report())
    }

    /// The next report: on a key of this machine, then on those of its guests.
    fn next_report(&mut self) -> Option<AgentFrame> {
        let own = self.keys.uses.next_report();
        own.or_else(|| self.metadata.as_ref()?.next_report())
    }

    fn since_boot(&self) -> Duration {
        self.clock.boot().since(BootInstant(0))
    }

    /// Hears what a program of this machine reports.
    pub(crate) fn take_report(&mut self, report: HostReport) {
        let uses = &mut self.keys.uses;
        uses.lose(self.reports.take_lost());
        match report {
            HostReport::Offered(offer) => {
                tracing::info!(user = %offer.user, fingerprint = %offer.fingerprint, "a key was offered to sshd");
                uses.offered(offer);
            }
            HostReport::Session(event) => {
                tracing::debug!(user = %event.user, session = %event.session, "a login began or ended");
                uses.session(event);
            }
        }
    }

    /// Removes keys whose time is over, and notes which of them nobody has used.
    pub(crate) fn keep_house(&mut self) {
        let now = self.clock.boot();
        self.keys.sweep(now);
        self.lines.refresh(self.host.instance().ok().as_ref());
        self.status.lines(self.lines.status());
        if let Some(metadata) = &self.metadata {
            metadata.sweep(now);
            self.status.metadata(metadata.status());
        }
    }

    /// Removes what one request put on this machine. Says whether there was anything.
    fn withdraw(&mut self, withdraw: &Withdraw) -> io::Result<bool> {
        let was_shown =
            self.metadata.as_ref().map_or(Ok(false), |metadata| metadata.withdraw(&withdraw.request_id));
        // Both are tried, whatever becomes of the first.
        let was_live = self.keys.withdraw(withdraw, self.clock.boot());
        Ok(was_shown? | was_live?)
    }

    /// Ends every live key earlier by the time that this machine has lost.
    fn shorten(&mut self, by: Duration) -> io::Result<()> {
        let now = self.clock.boot();
        let shown = self.metadata.as_ref().map_or(Ok(()), |metadata| metadata.shorten(by));
        self.keys.shorten(by, now).and(shown)
    }

    /// Has the metadata service take what the server says.
    fn with_metadata(&self, take: impl FnOnce(&Metadata) -> io::Result<()>) -> Result<(), Parting> {
        match self.metadata.as_deref().map(take) {
            Some(Err(error)) => {
                tracing::error!(%error, "the metadata service cannot keep what it was told");
                Err(Goodbye::new(GoodbyeCode::InternalError, "a file cannot be written").into())
            }
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Checks a grant and writes its files. Says for which user of this machine it is, if it is one of this machine's.
    fn take(
        &mut self,
        link: &AgentLink,
        grant: &Grant,
        deadline: Result<BootInstant, DeadlineRefusal>,
    ) -> Result<Option<OsUser>, Refusal> {
        if let Some(guest) = self.metadata.as_ref().and_then(|metadata| metadata.guest(grant)) {
            return self.take_for(&guest, link, grant, deadline).map(|()| None);
        }
        let now = self.clock.now();
        let terms = self.host.terms(&self.facts.boot_id)?;
        self.users.refresh();
        let uid = |user: &OsUser| self.users.local_uid(user);
        let admitted =
            admit(&grant.document, deadline, link.statements(), &mut self.signers, &terms, uid, now)?;
        // Both documents, or neither. What the scripts would be kept from is refused before anything is written.
        self.keys.permits(admitted.request(), now.boot)?;
        let shown = self.metadata.as_ref().filter(|metadata| metadata.has_own() && self.is_told_of_twins);
        if let Some(metadata) = shown
            && let Some(entry) = metadata.admit(grant)?
        {
            metadata.install(entry, grant, admitted.section().deadline)?;
        }
        if let Err(refusal) = self.keys.install(&admitted, now.boot) {
            if let Some(metadata) = shown {
                metadata.give_up(admitted.request());
            }
            return Err(refusal);
        }
        tracing::info!(
            request_id = %admitted.request(),
            user = %admitted.user(),
            fingerprint = %admitted.fingerprint(),
            seconds = admitted.section().deadline.since(now.boot).as_secs(),
            "a key is live"
        );
        Ok(Some(admitted.user().clone()))
    }

    /// The same for a guest, which has nothing of ours: what its metadata service shows is all that it gets.
    fn take_for(
        &mut self,
        guest: &Guest,
        link: &AgentLink,
        grant: &Grant,
        deadline: Result<BootInstant, DeadlineRefusal>,
    ) -> Result<(), Refusal> {
        let now = self.clock.now();
        let host = self.host.terms(&self.facts.boot_id)?;
        let terms = MachineTerms { instance: &guest.instance, veto: &guest.veto, ..host };
        // Which uid a user has there nobody here knows.
        let uid = |_: &OsUser| None;
        let admitted =
            admit(&grant.document, deadline, link.statements(), &mut self.signers, &terms, uid, now)?;
        self.keys.permits(admitted.request(), now.boot)?;
        let metadata = self.metadata.as_ref().ok_or(Refusal::WrongInstance)?;
        metadata.serves(guest)?;
        let entry = metadata.admit(grant)?.ok_or(Refusal::StockSignature)?;
        metadata.install(entry, grant, admitted.section().deadline)?;
        tracing::info!(
            request_id = %admitted.request(),
            guest = %guest.instance,
            user = %admitted.user(),
            fingerprint = %admitted.fingerprint(),
            "a guest's key is live"
        );
        Ok(())
    }
}
