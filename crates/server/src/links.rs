//! The links to the agents, and the way of one grant over them: delivered and acknowledged, or withdrawn.

mod revoke;

use crate::pki::Pki;
use crate::stock::StockSigners;
use instance_connect_core::audit::{LinkClaim, ShownBy};
use instance_connect_core::document::{ServerInstant, stock_text};
use instance_connect_core::environment::Clock;
use instance_connect_core::grant::Grant;
use instance_connect_core::ids::InstanceId;
use instance_connect_core::limits;
use instance_connect_core::link::{
    self, AckOutcome, Capabilities, DocumentText, Goodbye, GrantId, OwnedLine, Refusal, ServerFrame, Twin,
    Withdraw, WithdrawId,
};
use instance_connect_core::throttle::Bucket;
use instance_connect_planted::planted;
use revoke::{Full, LiveKey, LiveKeys};
pub(crate) use revoke::{Revoked, Selection};
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

/// Links of one identity that may be opening at a time, or asked whether somebody is there: an agent has one, and the one
/// before it that is still timing out.
const OPENING_LINKS: usize = 4;

/// All links, by the instance they lead to.
#[derive(Debug)]
pub(crate) struct Links {
    slots: Mutex<HashMap<InstanceId, Arc<Slot>>>,
    last_id: AtomicU64,
    pki: Arc<Pki>,
    stock: Arc<StockSigners>,
    clock: Arc<dyn Clock>,
}

/// One instance's place: its link, if it has one now, and what is under way to it.
#[derive(Debug)]
pub(crate) struct Slot {
    link: watch::Sender<Option<Arc<Link>>>,
    in_flight: Semaphore,
    opening: OpeningLinks,
    /// Those with a stale certificate have places of their own: a copy must not take those of the right machine.
    opening_stale: OpeningLinks,
    /// Turns to take the place of another link.
    turns: Arc<Semaphore>,
    /// The latest connection that was let in here.
    opened: Latest,
    /// The connection that made older certificates stale.
    pub(crate) used: Latest,
    owed: Mutex<Vec<OwedWithdrawal>>,
    /// Told whenever a withdrawal is not owed any more.
    confirmations: watch::Sender<()>,
    live: LiveKeys,
    pub(crate) host_keys: Spaced,
    pub(crate) host_facts: Spaced,
    pub(crate) anchors: Spaced,
    pub(crate) renewals: Spaced,
    reports: Mutex<Reports>,
}

/// The places of links that have not said hello, oldest first.
#[derive(Debug, Default)]
struct OpeningLinks(Mutex<VecDeque<oneshot::Sender<Infallible>>>);

/// The place of a link that has not said hello.
#[derive(Debug)]
pub(crate) struct OpeningPlace(oneshot::Receiver<Infallible>);

/// What an instance's agent may ask for at intervals only, over all its links.
#[derive(Debug)]
pub(crate) struct Spaced {
    interval: Duration,
    last: Mutex<Option<ServerInstant>>,
}

/// How many of an instance's reports are recorded, over all its links.
#[derive(Debug)]
struct Reports {
    rate: Bucket,
    /// Since the last one that was.
    not_recorded: u32,
}

/// When the latest of some connections was accepted.
///
/// An agent has closed its connection before it makes the next, but what it sent on it may come later: it was lost at first,
/// or somebody has kept it back. Whatever comes on a connection that was accepted before the agent's next one shows nothing,
/// then; on a later one there is somebody, since TLS needs both sides.
#[derive(Debug, Default)]
pub(crate) struct Latest(Mutex<Option<ServerInstant>>);

/// An open link, as pushes and other links of its identity see it.
#[derive(Debug)]
pub(crate) struct Link {
    claim: LinkClaim,
    /// When its connection was accepted, before TLS.
    accepted_at: ServerInstant,
    /// Whether its machine has a metadata service, which shows what it is sent with twins.
    has_metadata: bool,
    /// The serial lines that its machine says it owns; `None` until it has said so, where it may.
    lines: Mutex<Option<Vec<OwnedLine>>>,
    frames: mpsc::Sender<ServerFrame>,
    probes: mpsc::Sender<Probe>,
    unacknowledged: Mutex<HashMap<GrantId, oneshot::Sender<AckOutcome>>>,
}

/// Where to say that there is somebody at the other end of a link.
pub(crate) type Probe = oneshot::Sender<()>;

/// What others want of a link.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Frames to send.
    pub(crate) frames: mpsc::Receiver<ServerFrame>,
    /// Whether there is somebody at its other end.
    pub(crate) probes: mpsc::Receiver<Probe>,
}

/// What a link found in its place.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The link that was there before.
    pub(crate) replaced: Option<Arc<Link>>,
    /// The withdrawals still owed, to be sent before any grant.
    pub(crate) withdrawals: Vec<Withdraw>,
}

/// Why a link does not get its instance's place.
#[derive(Debug)]
pub(crate) enum NotOpened {
    /// A connection that was accepted later is before it.
    Overtaken,
    /// The link in the place is of another boot, so there may be two machines.
    Rival(Arc<Link>),
}

#[derive(Clone, Debug)]
struct OwedWithdrawal {
    withdraw: Withdraw,
    until: ServerInstant,
}

/// The key is on the machine.
#[derive(Debug)]
pub(crate) struct Delivered {
    /// What was delivered.
    pub(crate) grant: Grant,
    /// False when the machine is sure that it has no such OS user.
    pub(crate) os_user_exists: bool,
}

/// Why a key is not known to be on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// No acknowledgement in time. The machine may have the key; a withdrawal follows it until it has expired.
    #[error("not acknowledged in time")]
    Unknown,
    /// The agent refused it.
    #[error("refused by the agent: {0}")]
    Refused(Refusal),
    /// As many pushes to this instance are under way as may be.
    #[error("too many pushes to this instance are under way")]
    Busy,
    /// The grant cannot be written as a document, or not signed. What was parsed into types always can.
    #[error("the grant cannot be written as a document")]
    Encoding,
}

impl Links {
    pub(crate) fn new(pki: Arc<Pki>, stock: Arc<StockSigners>, clock: Arc<dyn Clock>) -> Self {
        Self { slots: Mutex::default(), last_id: AtomicU64::new(0), pki, stock, clock }
    }

    /// Who signs what the metadata service shows.
    pub(crate) const fn stock(&self) -> &Arc<StockSigners> {
        &self.stock
    }

    /// Delivers a grant and waits for the machine's acknowledgement, through a reconnect if need be, for
    /// [`limits::DELIVERY_WAIT`] in all.
    pub(crate) async fn deliver(&self, grant: Grant) -> Result<Delivered, DeliveryError> {
        let (slot, machine) = (self.slot(grant.instance()), self.slot(grant.machine()));
        let _place = slot.in_flight.try_acquire().map_err(|_| DeliveryError::Busy)?;
        slot.live.begin(&grant, self.clock.monotonic()).map_err(|Full| DeliveryError::Busy)?;
        // Whether some attempt went out and was never answered.
        let in_doubt = AtomicBool::new(false);
        let delivery = self.deliver_over(&machine, &grant, &in_doubt);
        let in_time = tokio::time::timeout(limits::DELIVERY_WAIT, delivery).await;
        match in_time.unwrap_or(Err(DeliveryError::Unknown)) {
            Ok(os_user_exists) => Ok(Delivered { grant, os_user_exists }),
            Err(error) => {
                // It may be on the machine by an attempt over an earlier link, whatever the last one says.
                if in_doubt.into_inner() {
                    self.withdraw(&grant);
                    return Err(DeliveryError::Unknown);
                }
                slot.live.end(grant.request());
                Err(error)
            }
        }
    }

    /// Tries one link after the other. Gives whether the OS user exists.
    async fn deliver_over(
        &self,
        machine: &Slot,
        grant: &Grant,
        in_doubt: &AtomicBool,
    ) -> Result<bool, DeliveryError> {
        let mut links = machine.link.subscribe();
        loop {
            // Waits for an agent that is between two links.
            let link = match links.wait_for(Option::is_some).await {
                Ok(link) => link.clone(),
                Err(_) => return Err(DeliveryError::Unknown),
            };
            let Some(link) = link else { continue };
            let outcome = tokio::select! {
                biased;
                outcome = self.attempt(&link, grant, in_doubt) => outcome?,
                // Over a link that was replaced no acknowledgement is to be expected.
                _ = links.changed() => continue,
            };
            match outcome {
                Some(AckOutcome::Installed { os_user_exists }) => return Ok(os_user_exists),
                Some(AckOutcome::Refused(reason)) => return Err(DeliveryError::Refused(reason)),
                // That link ended before its acknowledgement, or took no more frames: only another one can help.
                None if links.changed().await.is_err() => return Err(DeliveryError::Unknown),
                None => {}
            }
        }
    }

    /// Sends the grant over one link. `None` when that link takes no frames or ends first.
    async fn attempt(
        &self,
        link: &Link,
        grant: &Grant,
        in_doubt: &AtomicBool,
    ) -> Result<Option<AckOutcome>, DeliveryError> {
        let document = self.pki.sign(grant, &link.claim.boot_id).map_err(|_| DeliveryError::Encoding)?;
        let twins = if link.has_metadata { self.twins(&document).await? } else { Vec::new() };
        let document: DocumentText = document.parse().map_err(|_| DeliveryError::Encoding)?;
        let id = GrantId(self.next_id());
        let (acknowledge, acknowledged) = oneshot::channel();
        lock(&link.unacknowledged).insert(id, acknowledge);
        let _forget = ForgetGrant { link, id };
        let frame = ServerFrame::Grant(link::Grant { id, deadline: grant.deadline(), document, twins });
        if link.frames.try_send(frame).is_err() {
            return Ok(None);
        }
        let earlier = in_doubt.swap(true, Ordering::Relaxed);
        let outcome = acknowledged.await.ok();
        in_doubt.store(earlier || outcome.is_none(), Ordering::Relaxed);
        Ok(outcome)
    }

    /// The signatures over what the machine's metadata service shows of a document: none where the stock host scripts
    /// would not take its key.
    async fn twins(&self, document: &str) -> Result<Vec<Twin>, DeliveryError> {
        let Some(text) = stock_text(document) else { return Ok(Vec::new()) };
        self.stock.sign(text).await.map_err(|error| {
            tracing::error!(
                error = format!("{error:#}"),
                "a document cannot be signed for a metadata service"
            );
            DeliveryError::Encoding
        })
    }

    /// Withdraws a grant that is, or may be, on the machine: now, and at each reconnect until it has expired.
    pub(crate) fn withdraw(&self, grant: &Grant) {
        let machine = self.slot(grant.machine());
        let withdraw = self.owe(&machine, &LiveKey::of(grant), self.clock.monotonic());
        if let Some(link) = machine.link.borrow().as_ref() {
            // A full queue drops it here; it stays owed to the next link.
            let _ = link.frames.try_send(ServerFrame::Withdraw(withdraw));
        }
    }

    /// Owes the machine a withdrawal. Owed first, then sent: a link that opens in between sends it too, and twice does no
    /// harm.
    fn owe(&self, machine: &Slot, key: &LiveKey, now: ServerInstant) -> Withdraw {
        let withdraw = Withdraw {
            id: WithdrawId(self.next_id()),
            request_id: key.request.clone(),
            fingerprint: key.fingerprint,
            os_user: key.os_user.clone(),
        };
        let mut owed = lock(&machine.owed);
        owed.retain(|owed| owed.until > now);
        owed.push(OwedWithdrawal { withdraw: withdraw.clone(), until: key.until });
        withdraw
    }

    /// Ends all links. An agent that cannot be told finds its link broken.
    pub(crate) fn end_all(&self, goodbye: &Goodbye) {
        for slot in lock(&self.slots).values() {
            if let Some(link) = slot.link.borrow().as_ref() {
                link.send(ServerFrame::Goodbye(goodbye.clone()));
            }
        }
    }

    /// Whether an instance's agent has an open link.
    pub(crate) fn is_open(&self, instance: &InstanceId) -> bool {
        lock(&self.slots).get(instance).is_some_and(|slot| slot.link.borrow().is_some())
    }

    /// The place of an instance. Only instances of the inventory get one, so there are never more.
    pub(crate) fn slot(&self, instance: &InstanceId) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        let slot = slots.entry(instance.clone()).or_insert_with(|| {
            Arc::new(Slot {
                link: watch::Sender::new(None),
                in_flight: Semaphore::new(limits::PUSHES_IN_FLIGHT_PER_INSTANCE),
                opening: OpeningLinks::default(),
                opening_stale: OpeningLinks::default(),
                turns: Arc::new(Semaphore::new(OPENING_LINKS)),
                opened: Latest::default(),
                used: Latest::default(),
                owed: Mutex::default(),
                confirmations: watch::Sender::new(()),
                live: LiveKeys::default(),
                host_keys: Spaced::by(link::limits::HOST_KEY_REPORTS),
                host_facts: Spaced::by(link::limits::HOST_FACT_REPORTS),
                anchors: Spaced::by(link::limits::ANCHOR_REPORTS),
                renewals: Spaced::by(link::limits::RENEWAL_INTERVAL),
                reports: Mutex::new(Reports {
                    rate: Bucket::new(link::limits::REPORTS_RECORDED_RATE),
                    not_recorded: 0,
                }),
            })
        });
        Arc::clone(slot)
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits until an instance's agent has an open link.
    #[cfg(test)]
    pub(crate) async fn connected(&self, instance: &InstanceId) {
        // The slot keeps its sender, so the wait ends with a link or not at all.
        let _ = self.slot(instance).link.subscribe().wait_for(Option::is_some).await;
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    pub(crate) fn pki(&self) -> &Pki {
        &self.pki
    }
}

impl Slot {
    /// A place for a link that has not said hello yet.
    pub(crate) fn opening(&self, is_stale: bool) -> OpeningPlace {
        if is_stale { self.opening_stale.take() } else { self.opening.take() }
    }

    /// Waits for a turn to take the place of another link. It is kept until that one is told to end, so that links which are
    /// replaced again and again do not become many. There is always a next one.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// Puts a link in its place. One of another boot is replaced only if it is known to be `silent`.
    pub(crate) fn open(
        &self,
        link: &Arc<Link>,
        silent: Option<&Arc<Link>>,
        now: ServerInstant,
    ) -> Result<Opened, NotOpened> {
        let mut owed = lock(&self.owed);
        if self.opened.is_after(link.accepted_at) {
            return Err(NotOpened::Overtaken);
        }
        let may_replace = |current: &Arc<Link>| {
            current.claim.boot_id == link.claim.boot_id
                || silent.is_some_and(|silent| Arc::ptr_eq(silent, current))
        };
        let mut replaced = Ok(None);
        self.link.send_if_modified(|current| {
            replaced = match current.take() {
                Some(rival) if !may_replace(&rival) => {
                    *current = Some(Arc::clone(&rival));
                    Err(NotOpened::Rival(rival))
                }
                before => {
                    *current = Some(Arc::clone(link));
                    Ok(before)
                }
            };
            replaced.is_ok()
        });
        let replaced = replaced?;
        self.opened.note(link.accepted_at);
        owed.retain(|owed| owed.until > now);
        let withdrawals = owed.iter().map(|owed| owed.withdraw.clone()).collect();
        Ok(Opened { replaced, withdrawals })
    }

    /// The link that is open now.
    pub(crate) fn current(&self) -> Option<Arc<Link>> {
        self.link.borrow().clone()
    }

    /// Takes a link out of its place, unless another has taken it.
    pub(crate) fn close(&self, link: &Arc<Link>) {
        self.link.send_if_modified(|current| {
            let is_ours = current.as_ref().is_some_and(|current| Arc::ptr_eq(current, link));
            if is_ours {
                *current = None;
            }
            is_ours
        });
        // Whoever waits for an acknowledgement over this link learns that none will come.
        lock(&link.unacknowledged).clear();
    }

    /// Records a report of the machine, unless there are too many: with how many were not recorded before it. A machine
    /// that lies must not fill the disk.
    pub(crate) fn record(&self, now: ServerInstant, record: impl FnOnce(u32) -> bool) {
        let now = now.since(ServerInstant(0));
        let mut reports = lock(&self.reports);
        if reports.rate.has_token(now) && record(reports.not_recorded) {
            let _ = reports.rate.take(now);
            reports.not_recorded = 0;
        } else {
            reports.not_recorded = reports.not_recorded.saturating_add(1);
        }
    }

    /// The machine says that a withdrawn key is not there.
    pub(crate) fn withdrawn(&self, id: WithdrawId) {
        lock(&self.owed).retain(|owed| owed.withdraw.id != id);
        self.confirmations.send_replace(());
    }
}

impl Latest {
    /// Whether it was accepted after that.
    pub(crate) fn is_after(&self, accepted_at: ServerInstant) -> bool {
        *lock(&self.0) > Some(accepted_at) && !planted("late-hellos-believed")
    }

    /// One was accepted then.
    pub(crate) fn note(&self, accepted_at: ServerInstant) {
        let mut latest = lock(&self.0);
        *latest = (*latest).max(Some(accepted_at));
    }
}

impl OpeningLinks {
    /// Takes a place. Where there is none left, the oldest link gives way: an agent says hello at once, so whoever holds
    /// places without a word must not keep it out.
    fn take(&self) -> OpeningPlace {
        let (held, place) = oneshot::channel();
        let mut places = lock(&self.0);
        places.retain(|place| !place.is_closed());
        if places.len() >= OPENING_LINKS {
            places.pop_front();
        }
        places.push_back(held);
        OpeningPlace(place)
    }
}

impl OpeningPlace {
    /// Returns when a newer link has taken it.
    pub(crate) async fn lost(&mut self) {
        let Err(_) = (&mut self.0).await;
    }
}

impl Spaced {
    fn by(interval: Duration) -> Self {
        Self { interval, last: Mutex::default() }
    }

    /// Whether it may be now; then it counts as done.
    pub(crate) fn permits(&self, now: ServerInstant) -> bool {
        let mut last = lock(&self.last);
        let is_due = last.is_none_or(|last| now >= last.after(self.interval));
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

impl Link {
    /// A link of a machine that says this of itself, on a connection that was accepted then, and what others want of it.
    pub(crate) fn new(
        claim: LinkClaim,
        accepted_at: ServerInstant,
        has_metadata: bool,
    ) -> (Arc<Self>, Wanted) {
        let (frames, wanted_frames) = mpsc::channel(link::limits::SERVER_QUEUE);
        let (probes, wanted_probes) = mpsc::channel(OPENING_LINKS);
        let link = Self {
            claim,
            accepted_at,
            has_metadata,
            lines: Mutex::default(),
            frames,
            probes,
            unacknowledged: Mutex::default(),
        };
        (Arc::new(link), Wanted { frames: wanted_frames, probes: wanted_probes })
    }

    /// What the machine says of itself.
    pub(crate) fn claim(&self) -> &LinkClaim {
        &self.claim
    }

    /// What the audit log says of it where it shows that there are two machines.
    pub(crate) const fn shown(&self) -> ShownBy<'_> {
        ShownBy { boot_id: Some(&self.claim.boot_id), source: self.claim.source }
    }

    /// Whether there is somebody at its other end, now.
    pub(crate) async fn answers(&self) -> bool {
        if planted("clones-unnoticed") {
            return false;
        }
        let (answer, answered) = oneshot::channel();
        let asked = async { self.probes.send(answer).await.is_ok() && answered.await.is_ok() };
        tokio::time::timeout(link::limits::PROBE, asked).await.unwrap_or(false)
    }

    /// Sends a frame; false when the queue is full.
    pub(crate) fn send(&self, frame: ServerFrame) -> bool {
        self.frames.try_send(frame).is_ok()
    }

    /// The machine says which serial lines it owns.
    pub(crate) fn owns_now(&self, lines: Vec<OwnedLine>) {
        *lock(&self.lines) = Some(lines);
    }

    /// Whether it has said so of any, or of none.
    pub(crate) fn has_spoken_of_lines(&self) -> bool {
        lock(&self.lines).is_some()
    }

    /// Whether it says so of this line.
    pub(crate) fn owns(&self, line: &OwnedLine) -> bool {
        lock(&self.lines).as_ref().is_some_and(|lines| lines.contains(line))
    }

    /// Whether a queued frame is of no use any more: a grant whose push has given up while the frame waited. Sent now, it
    /// would put a key on the machine that nobody was told of.
    pub(crate) fn is_moot(&self, frame: &ServerFrame) -> bool {
        matches!(frame, ServerFrame::Grant(grant) if !lock(&self.unacknowledged).contains_key(&grant.id))
    }

    /// The machine's answer to a grant. One that nobody waits for (acknowledged twice, or too late) is ignored.
    pub(crate) fn acknowledged(&self, id: GrantId, outcome: AckOutcome) {
        if let Some(waiting) = lock(&self.unacknowledged).remove(&id) {
            let _ = waiting.send(outcome);
        }
    }
}

/// Forgets a grant that is no longer waited for, also when its push was abandoned.
struct ForgetGrant<'a> {
    link: &'a Link,
    id: GrantId,
}

impl Drop for ForgetGrant<'_> {
    fn drop(&mut self) {
        lock(&self.link.unacknowledged).remove(&self.id);
    }
}

/// What this server can do beyond protocol version 1.
pub(crate) const CAPABILITIES: Capabilities = Capabilities::RENEWAL
    .with(Capabilities::HOST_KEYS)
    .with(Capabilities::METADATA)
    .with(Capabilities::HOST_FACTS)
    .with(Capabilities::STREAMS);

/// No code of this crate can panic while it holds one of its locks with what is in it half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
