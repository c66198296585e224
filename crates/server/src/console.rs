//! The serial console: keys that are pushed for lines, and the sessions that they open (docs/console.md).
//!
//! The gateway that people reach by SSH is a program of its own, without any secret of ours. It asks here which keys are
//! expected, and brings whoever has proved to hold one.

mod door;
mod relay;

use crate::audit_log::AuditLog;
use crate::drain::Drain;
use crate::inventory::LiveInventory;
use crate::links::lock;
use crate::new_ids;
use crate::streams::{NoStream, Stream, Streams};
pub(crate) use door::DoorSettings;
use instance_connect_core::api::{ApiError, SerialConsoleError};
use instance_connect_core::audit::{ConsoleEvent, ConsoleVisit, console_event};
use instance_connect_core::console::door::{Attach, Offer, Serve};
use instance_connect_core::console::{
    Attached, ConsolePush, ConsoleSessions, ConsoleSettings, Mode, NotAttached, Occupancy, Occupant,
    ReserveError, Selection, SessionId,
};
use instance_connect_core::document::{ServerInstant, UnixSeconds};
use instance_connect_core::environment::{Clock, Random};
use instance_connect_core::ids::{Fingerprint, InstanceId, Region, RequestId};
use instance_connect_core::inventory::{AgentState, Instance, InstanceState, Inventory, Status};
use instance_connect_core::link::OwnedLine;
use instance_connect_core::ssh_key::{KeyTypes, PublicKey};
use instance_connect_core::stream::{End, EndCode};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

/// Past output of a line that a session begins with, in bytes at most: all that agents keep.
const REPLAY: u32 = 1024 * 1024;

/// BREAKs for one session that wait.
const BREAKS: usize = 4;

/// The lines, who is at them, and who may come.
#[derive(Debug)]
pub(crate) struct Console {
    region: Region,
    inventory: Arc<LiveInventory>,
    streams: Arc<Streams>,
    audit: AuditLog,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    sessions: Mutex<ConsoleSessions>,
    running: Mutex<HashMap<SessionId, Orders>>,
    /// Those that are there now; any of them serves any line.
    gateways: Mutex<Vec<Arc<Serve>>>,
    /// The end of sessions.
    drain: Drain,
}

/// Where others say what they want of a session. That it is to end has a place of its own, and is heard whatever else waits.
#[derive(Debug)]
struct Orders {
    end: watch::Sender<Option<End>>,
    breaks: mpsc::Sender<u16>,
}

/// What others want of a session.
#[derive(Debug)]
struct Ordered {
    end: watch::Receiver<Option<End>>,
    /// BREAKs, in milliseconds.
    breaks: mpsc::Receiver<u16>,
}

impl Orders {
    fn new() -> (Self, Ordered) {
        let (end, ended) = watch::channel(None);
        let (breaks, wanted) = mpsc::channel(BREAKS);
        (Self { end, breaks }, Ordered { end: ended, breaks: wanted })
    }

    fn end(&self, end: End) {
        self.end.send_replace(Some(end));
    }
}

/// Returns when a session is to end.
async fn ordered_end(end: &mut watch::Receiver<Option<End>>) -> End {
    match end.wait_for(Option::is_some).await.map(|end| end.clone()) {
        Ok(Some(end)) => end,
        Ok(None) | Err(_) => End::new(EndCode::InternalError, "The session was lost."),
    }
}

/// Who is at a line.
#[derive(Debug)]
pub(crate) struct AtLine {
    /// Who has the place of the writer, and since when.
    pub(crate) writer: Option<(UnixSeconds, Occupant)>,
    /// Who watches, or may come to.
    pub(crate) watchers: Vec<Arc<ConsolePush>>,
}

/// What a console is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) region: Region,
    pub(crate) inventory: Arc<LiveInventory>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) audit: AuditLog,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
}

impl Console {
    pub(crate) fn new(parts: Parts, settings: ConsoleSettings) -> Self {
        let Parts { region, inventory, streams, audit, clock, random } = parts;
        Self {
            region,
            inventory,
            streams,
            audit,
            clock,
            random,
            sessions: Mutex::new(ConsoleSessions::new(settings)),
            running: Mutex::default(),
            gateways: Mutex::default(),
            drain: Drain::default(),
        }
    }

    /// Reserves the one session of an instance for whoever holds this key, or lets them watch.
    pub(crate) fn reserve(&self, push: ConsolePush, mode: Mode) -> Result<(), ApiError> {
        let (mut sessions, now) = (lock(&self.sessions), self.clock.monotonic());
        let reserved = match mode {
            Mode::Write => sessions.reserve(push, now),
            Mode::Watch => sessions.reserve_watcher(push, now),
        };
        drop(sessions);
        reserved.map(drop).map_err(|error| self.refused(error))
    }

    /// Takes a reservation back, of a push that is not on record.
    pub(crate) fn release(&self, request: &RequestId) {
        lock(&self.sessions).release(request);
        // Somebody may have come with it already.
        if let Some(orders) = lock(&self.running).get(request) {
            orders.end(End::new(EndCode::Revoked, "The push of this key did not succeed."));
        }
    }

    /// Has a BREAK sent to an instance's line by the session that writes there; false where there is none.
    pub(crate) fn send_break(&self, instance: &InstanceId, milliseconds: u16) -> bool {
        let occupant = lock(&self.sessions).occupant(instance, self.clock.monotonic());
        let running = lock(&self.running);
        let orders = occupant.and_then(|occupant| running.get(&occupant.push.request));
        // Where several wait already, one more is no other BREAK.
        orders.is_some_and(|orders| {
            !matches!(orders.breaks.try_send(milliseconds), Err(TrySendError::Closed(_)))
        })
    }

    /// Takes the place of the writer from whoever has it, and says who that was.
    pub(crate) fn terminate(&self, instance: &InstanceId) -> Option<Arc<ConsolePush>> {
        let mut withdrawn = lock(&self.sessions).terminate(instance, self.clock.monotonic());
        self.end_each(&withdrawn.sessions, EndCode::Terminated, "An administrator has ended this session.");
        let session = withdrawn.sessions.pop().map(|attached| attached.push);
        session.or_else(|| withdrawn.unused.pop())
    }

    /// The gateways that people can reach, and whom they should meet there.
    pub(crate) fn gateways(&self) -> Vec<Arc<Serve>> {
        lock(&self.gateways).clone()
    }

    /// Who has an instance's line, since when, and who watches.
    pub(crate) fn who_is_at(&self, instance: &InstanceId) -> AtLine {
        let sessions = lock(&self.sessions);
        let occupant = sessions.occupant(instance, self.clock.monotonic());
        let writer = occupant.map(|occupant| (self.wall(occupant.since), occupant));
        AtLine { writer, watchers: sessions.watchers(instance).cloned().collect() }
    }

    /// Takes keys back, and ends the sessions that they have opened.
    pub(crate) fn revoke(&self, selection: Selection<'_>) {
        let withdrawn = lock(&self.sessions).revoke(selection, self.clock.monotonic());
        self.end_each(&withdrawn.sessions, EndCode::Revoked, "The key of this session was revoked.");
    }

    fn end_each(&self, sessions: &[Attached], code: EndCode, text: &str) {
        let running = lock(&self.running);
        for orders in sessions.iter().filter_map(|attached| running.get(&attached.push.request)) {
            orders.end(End::new(code, text));
        }
    }

    /// Whether an instance's line can be had at all, now.
    pub(crate) fn check(&self, instance: &Instance, inventory: &Inventory) -> Result<(), ApiError> {
        let account = inventory.accounts.get(&instance.account);
        if account.is_none_or(|account| !account.serial_console_access) {
            return Err(ApiError::SerialConsoleAccessDisabled);
        }
        if instance.state != InstanceState::Running {
            return Err(ApiError::InstanceStateInvalid { state: instance.state.as_str() });
        }
        let (owner, line) = line_of(instance);
        if self.streams.is_owned(owner, &line) {
            return match lock(&self.gateways).is_empty() {
                true => Err(ApiError::SerialConsole(SerialConsoleError::Unavailable)),
                false => Ok(()),
            };
        }
        // An agent that has said which lines it owns will own no other the next time either; one that has not, or is not there, may.
        let may_come = !self.streams.has_spoken(owner) && inventory.agents.contains_key(owner);
        let error = if may_come { SerialConsoleError::Unavailable } else { SerialConsoleError::InstanceType };
        Err(ApiError::SerialConsole(error))
    }

    fn refused(&self, error: ReserveError) -> ApiError {
        match error {
            ReserveError::Occupied(Occupant { push, occupancy, since }) => ApiError::SerialConsoleInUse {
                by: push.principal.clone(),
                since: self.wall(since),
                what: match occupancy {
                    Occupancy::Reserved { .. } => "has reserved it since",
                    Occupancy::Attached => "has had it since",
                    Occupancy::Ending { .. } => "has left it a moment ago, at",
                },
            },
            ReserveError::Throttled => ApiError::Busy,
            ReserveError::WatchersFull | ReserveError::Full => {
                ApiError::SerialConsole(SerialConsoleError::Unavailable)
            }
        }
    }

    /// When something was, for people.
    fn wall(&self, then: ServerInstant) -> UnixSeconds {
        let ago = self.clock.monotonic().since(then).as_secs();
        UnixSeconds(self.clock.wall().0.saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX)))
    }

    /// A gateway has come, as long as this is kept.
    fn serve(self: &Arc<Self>, serve: Serve) -> Presence {
        let gateway = Arc::new(serve);
        lock(&self.gateways).push(Arc::clone(&gateway));
        Presence { console: Arc::clone(self), gateway }
    }

    /// Whether a key is expected for a line.
    fn is_expected(&self, offer: &Offer) -> bool {
        let now = self.clock.monotonic();
        fingerprint(offer).is_some_and(|key| lock(&self.sessions).offered(&offer.address, key, now))
    }

    /// Brings somebody to a line: the key is used up, the session is on record, and the agent has opened its stream.
    async fn attach(self: &Arc<Self>, attach: &Attach) -> Result<Session, Refusal> {
        let key = fingerprint(&attach.offer).ok_or(Refusal::NotExpected)?;
        let (orders, ordered) = Orders::new();
        let Attached { mode, push } = {
            let mut sessions = lock(&self.sessions);
            if self.drain.has_begun() {
                return Err(Refusal::Unavailable);
            }
            let attached = sessions.attach(&attach.offer.address, key, self.clock.monotonic())?;
            // Whoever ends sessions finds this one from here on: who has it is not seen without how to end it.
            lock(&self.running).insert(attached.push.request.clone(), orders);
            attached
        };
        let (console, name) = (Arc::clone(self), String::new());
        let mut session = Running { console, push, mode, visit: attach.clone(), name };
        let inventory = self.inventory.current().map_err(|_| Refusal::Unavailable)?;
        let instance = inventory.instances.get(attach.offer.address.instance()).ok_or(Refusal::Gone)?;
        session.name = instance.tags.get("Name").cloned().unwrap_or_default();
        // It was pushed a while ago.
        if let Some(text) = ended_by(&inventory, &instance.id, None) {
            return Err(Refusal::Withdrawn(text));
        }
        let account = inventory.accounts.get(&instance.account);
        if account.is_none_or(|account| !account.serial_console_access) {
            return Err(Refusal::Withdrawn("Serial console access was switched off."));
        }
        let held = held_by(&inventory, instance);
        session.record(ConsoleEvent::Opened).await?;
        let (owner, line) = line_of(instance);
        let begun = self.clock.monotonic();
        let stream = match self.streams.open(owner, line, mode, REPLAY).await {
            Ok(stream) => stream,
            Err(error) => {
                session.close(End::new(EndCode::from(error), ""), begun, relay::Passed::default()).await;
                return Err(error.into());
            }
        };
        Ok(Session { running: session, stream, ordered, begun, held })
    }

    /// Returns when nobody is to be at an instance's line any more, whatever their key was good for, with the words for who is.
    async fn withdrawn(&self, instance: &InstanceId, held: Option<&Held>) -> End {
        let mut changes = self.inventory.changes();
        loop {
            if let Some(text) =
                self.inventory.current().ok().and_then(|inventory| ended_by(&inventory, instance, held))
            {
                return End::new(EndCode::Revoked, text);
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Ends all sessions with a word to those who are at them. Returns when that is done.
    pub(crate) async fn end(&self) {
        self.drain.begin();
        let end = End::new(EndCode::ShuttingDown, "The control plane stops or restarts.");
        {
            // Whoever is being attached is there now, or will not be.
            let _sessions = lock(&self.sessions);
            lock(&self.running).values().for_each(|orders| orders.end(end.clone()));
        }
        self.drain.idle().await;
    }
}

/// What in the inventory ends sessions at an instance's line. That it is stopped does not: people want to see it start.
fn ended_by(inventory: &Inventory, instance: &InstanceId, held: Option<&Held>) -> Option<&'static str> {
    let Some(instance) = inventory.instances.get(instance) else { return Some("The instance is gone.") };
    if instance.state == InstanceState::Terminated {
        return Some("The instance is terminated.");
    }
    let account = inventory.accounts.get(&instance.account);
    if account.is_none_or(|account| account.status != Status::Active) {
        return Some("The account is suspended.");
    }
    let now = held_by(inventory, instance);
    let is_trusted = now.is_some() && (held.is_none() || held == now.as_ref());
    (!is_trusted).then_some("The agent that has the line is not trusted with it any more.")
}

/// Which agent has an instance's line, by which enrolment: another one has to be asked anew.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    agent: InstanceId,
    enrolled: u64,
}

/// `None` where the agent is not to be trusted.
fn held_by(inventory: &Inventory, instance: &Instance) -> Option<Held> {
    let (agent, _) = line_of(instance);
    let identity = inventory.agents.get(agent).filter(|identity| identity.state == AgentState::Active)?;
    Some(Held { agent: agent.clone(), enrolled: identity.enrolled })
}

/// The agent that has an instance's line, and the line.
fn line_of(instance: &Instance) -> (&InstanceId, OwnedLine) {
    (instance.machine(), OwnedLine { instance: instance.id.clone(), port: 0 })
}

/// The key's, as the push had it. The gateway's word on it counts for nothing but this.
fn fingerprint(offer: &Offer) -> Option<Fingerprint> {
    PublicKey::parse(offer.key.as_str(), &KeyTypes::all()).ok().map(|key| key.fingerprint())
}

/// A gateway that is there.
#[derive(Debug)]
struct Presence {
    console: Arc<Console>,
    gateway: Arc<Serve>,
}

impl Drop for Presence {
    fn drop(&mut self) {
        lock(&self.console.gateways).retain(|gateway| !Arc::ptr_eq(gateway, &self.gateway));
    }
}

/// Why somebody is not brought to a line, though the key was right.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Refusal {
    #[error("This key is no longer expected here. Push it again.")]
    NotExpected,
    #[error("There are as many console sessions as there may be. Try again in a while.")]
    Full,
    #[error("The instance is gone.")]
    Gone,
    #[error("{0}")]
    Withdrawn(&'static str),
    #[error("The session could not be put on record, so there is none.")]
    NotRecorded,
    #[error("The service is not available now. Push the key again in a moment.")]
    Unavailable,
    #[error("The serial line cannot be reached: {0}.")]
    NoStream(#[from] NoStream),
}

impl From<NotAttached> for Refusal {
    fn from(error: NotAttached) -> Self {
        match error {
            NotAttached::NotExpected => Self::NotExpected,
            NotAttached::Full => Self::Full,
        }
    }
}

/// Somebody at a line, and the line.
#[derive(Debug)]
struct Session {
    running: Running,
    stream: Stream,
    ordered: Ordered,
    begun: ServerInstant,
    /// By whom the line is held.
    held: Option<Held>,
}

/// Has its place among the sessions until it is dropped, however that comes about.
#[derive(Debug)]
struct Running {
    console: Arc<Console>,
    push: Arc<ConsolePush>,
    mode: Mode,
    visit: Attach,
    /// What people call the instance.
    name: String,
}

impl Running {
    async fn record(&self, event: ConsoleEvent) -> Result<(), Refusal> {
        let Console { audit, clock, random, region, .. } = self.console.as_ref();
        let visit = ConsoleVisit {
            push: &self.push,
            mode: self.mode,
            source: self.visit.offer.source,
            client: self.visit.client.as_str(),
        };
        let event_id = new_ids::uuid(random.as_ref());
        let line = console_event(visit, event, clock.wall(), region, &event_id);
        audit.commit(line).await.map_err(|error| {
            tracing::error!(%error, "a console session cannot be recorded");
            Refusal::NotRecorded
        })
    }

    /// Puts the end on record.
    async fn close(&self, end: End, begun: ServerInstant, passed: relay::Passed) {
        let lasted = self.console.clock.monotonic().since(begun);
        let relay::Passed { to_line, from_line } = passed;
        // What it says is logged; there is nobody left to be refused anything.
        let _ = self.record(ConsoleEvent::Closed { reason: end.code, lasted, to_line, from_line }).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.console.running).remove(&self.push.request);
        lock(&self.console.sessions).end(&self.push.request, self.console.clock.monotonic());
    }
}
