//! Who has the line of an instance: the one writer, from the push that reserves the place until some time after the session,
//! and those who watch.
//!
//! A place is never taken from whoever has it (wire.md 6.3). All is kept in memory: a session ends with the process it
//! passes through, and so does what is known of it.

use super::address::ConsoleAddress;
use super::limits;
use crate::api::SendSerialConsoleSshPublicKey;
use crate::authz::Authorized;
use crate::ids::{AccountId, Fingerprint, InstanceId, RequestId};
use instance_connect_document::ServerInstant;
use instance_connect_planted::planted;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A session is known by the push that opened it: a key opens one session.
pub type SessionId = RequestId;

/// What operators may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleSettings {
    /// How long after a session the next one may be reserved. 0 is none.
    pub teardown_delay: Duration,
}

impl Default for ConsoleSettings {
    fn default() -> Self {
        Self { teardown_delay: limits::TEARDOWN_DELAY }
    }
}

/// A key that somebody who may has pushed for an instance's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsolePush {
    /// The instance.
    pub instance: InstanceId,
    /// The account of the instance, and of who has pushed.
    pub account: AccountId,
    /// The ARN of who has pushed.
    pub principal: String,
    /// The key.
    pub fingerprint: Fingerprint,
    /// The request that pushed it.
    pub request: RequestId,
}

impl ConsolePush {
    /// What somebody pushes who may: it takes the authorization.
    pub fn of(authorized: &Authorized<SendSerialConsoleSshPublicKey>, request: RequestId) -> Self {
        let instance = authorized.instance();
        Self {
            instance: instance.id.clone(),
            account: instance.account.clone(),
            principal: authorized.caller().user.arn(),
            fingerprint: authorized.operation().key.fingerprint(),
            request,
        }
    }
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Reading and writing: one at a time.
    Write,
    /// Reading.
    Watch,
}

impl Mode {
    /// `write` or `watch`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Watch => "watch",
        }
    }
}

/// A key was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// When it is not good any more.
    pub until: ServerInstant,
    /// The principal's own push whose key is not good from here on.
    pub replaced: Option<RequestId>,
}

/// Who has the place of the writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupant {
    /// The push it came by. The instance is its account's, so this is for members of that account alone.
    pub push: Arc<ConsolePush>,
    /// How far it is.
    pub occupancy: Occupancy,
    /// Since when it is so far.
    pub since: ServerInstant,
}

/// How far a writer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupancy {
    /// The key was pushed and nobody has come yet.
    Reserved {
        /// When the key ends.
        until: ServerInstant,
    },
    /// The session.
    Attached,
    /// It has ended, and the place is not free yet.
    Ending {
        /// When it is.
        until: ServerInstant,
    },
}

impl Occupancy {
    /// `reserved`, `attached` or `ending`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved { .. } => "reserved",
            Self::Attached => "attached",
            Self::Ending { .. } => "ending",
        }
    }
}

/// Why a key was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReserveError {
    /// Somebody has the place.
    Occupied(Occupant),
    /// Too many keys of this principal for this instance were never used.
    Throttled,
    /// As many watch this line as may.
    WatchersFull,
    /// There are as many lines in use as may be.
    Full,
}

/// Somebody came with a key that was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// What for.
    pub mode: Mode,
    /// The push; its request names the session.
    pub push: Arc<ConsolePush>,
}

/// Why nobody was attached. The key is as good as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAttached {
    /// This key is not expected for this address, not any more, or has been used.
    #[error("this key is not expected here: push it first, and come within a minute")]
    NotExpected,
    /// There are as many sessions as may be.
    #[error("there are too many sessions; try again in a moment")]
    Full,
}

/// Which keys and sessions of an account are meant: those that fit in every respect that is given.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// Of this account.
    pub account: &'a AccountId,
    /// For this instance.
    pub instance: Option<&'a InstanceId>,
    /// Pushed by whom this ARN names.
    pub principal: Option<&'a str>,
    /// With this fingerprint.
    pub fingerprint: Option<Fingerprint>,
}

/// What is not to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withdrawn {
    /// Keys that nobody has come with. They are not good any more.
    pub unused: Vec<Arc<ConsolePush>>,
    /// Sessions, which have to be ended: each has its place until [`ConsoleSessions::end`].
    pub sessions: Vec<Attached>,
}

/// The lines of a control plane, as far as anybody has one or had it lately.
#[derive(Debug)]
pub struct ConsoleSessions {
    settings: ConsoleSettings,
    lines: HashMap<InstanceId, Line>,
    /// Where each session is: as many as there are.
    sessions: HashMap<SessionId, InstanceId>,
    /// How many lines may be kept until those are looked for of which nothing is left.
    sweep_at: usize,
}

/// What is remembered of one line.
#[derive(Debug, Default)]
struct Line {
    writer: Option<Writer>,
    watchers: Vec<Watcher>,
    unused: VecDeque<Unused>,
}

#[derive(Debug)]
struct Writer {
    push: Arc<ConsolePush>,
    occupancy: Occupancy,
    since: ServerInstant,
}

#[derive(Debug)]
struct Watcher {
    push: Arc<ConsolePush>,
    /// When its key ends; `None` once it has come.
    waits_until: Option<ServerInstant>,
}

/// A reservation that nobody came with.
#[derive(Debug)]
struct Unused {
    push: Arc<ConsolePush>,
    /// When it expired or was replaced.
    at: ServerInstant,
}

impl ConsoleSessions {
    /// Looking for lines that are over among fewer than this is not worth it.
    const SWEEP_AT_LEAST: usize = 1024;

    /// With all lines free.
    pub fn new(settings: ConsoleSettings) -> Self {
        Self { settings, lines: HashMap::new(), sessions: HashMap::new(), sweep_at: Self::SWEEP_AT_LEAST }
    }

    /// Reserves the place of the writer for [`limits::RESERVATION`]. The principal's own reservation that is still unused is
    /// replaced, and so is its watcher's key if it is the same: what a key was last pushed for is what it is good for.
    ///
    /// # Errors
    /// [`ReserveError::Occupied`], [`ReserveError::Throttled`] after too many unused ones, or [`ReserveError::Full`].
    pub fn reserve(&mut self, push: ConsolePush, now: ServerInstant) -> Result<Reserved, ReserveError> {
        let line = self.line(&push.instance, now)?;
        let own = match &line.writer {
            Some(writer) if writer.is_unused_of(&push.principal) => true,
            Some(_) if planted("consoles-taken-over") => true,
            Some(writer) => return Err(ReserveError::Occupied(writer.occupant())),
            None => false,
        };
        if line.unused_of(&push.principal) + usize::from(own) >= limits::UNUSED_RESERVATIONS
            || line.unused.len() >= limits::UNUSED_REMEMBERED
        {
            return Err(ReserveError::Throttled);
        }
        let replaced = line.writer.take().map(|writer| line.unused_at(writer.push, now));
        line.watchers.retain(|watcher| !(watcher.waits() && is_same_key(&watcher.push, &push)));
        let until = now.after(limits::RESERVATION);
        let occupancy = Occupancy::Reserved { until };
        line.writer = Some(Writer { push: Arc::new(push), occupancy, since: now });
        Ok(Reserved { until, replaced })
    }

    /// Takes a key that is to watch with, for [`limits::RESERVATION`]. It never has the place of the writer. The principal's
    /// own unused key for the same is replaced, and its reservation as a writer, if it is of the same key.
    ///
    /// # Errors
    /// [`ReserveError::WatchersFull`] or [`ReserveError::Full`].
    pub fn reserve_watcher(
        &mut self,
        push: ConsolePush,
        now: ServerInstant,
    ) -> Result<Reserved, ReserveError> {
        let line = self.line(&push.instance, now)?;
        let own = line.watchers.iter().position(|it| it.waits() && it.push.principal == push.principal);
        if own.is_none() && line.watchers.len() >= limits::WATCHERS {
            return Err(ReserveError::WatchersFull);
        }
        let replaced = own.map(|own| line.watchers.swap_remove(own).push.request.clone());
        let writer = line.writer.take_if(|writer| writer.waits() && is_same_key(&writer.push, &push));
        let replaced = writer.map(|writer| line.unused_at(writer.push, now)).or(replaced);
        let until = now.after(limits::RESERVATION);
        line.watchers.push(Watcher { push: Arc::new(push), waits_until: Some(until) });
        Ok(Reserved { until, replaced })
    }

    /// Withdraws a key that nobody has come with: its push could not be recorded. It counts for nothing.
    pub fn release(&mut self, request: &RequestId) {
        // Rare enough to look at every line.
        for line in self.lines.values_mut() {
            line.writer.take_if(|writer| writer.waits() && writer.push.request == *request);
            line.watchers.retain(|watcher| !(watcher.waits() && watcher.push.request == *request));
        }
    }

    /// Whether this key opens this address now.
    pub fn offered(&self, address: &ConsoleAddress, key: Fingerprint, now: ServerInstant) -> bool {
        self.lines.get(address.instance()).is_some_and(|line| line.expected(key, now).is_some())
    }

    /// Opens a session by a key, which opens nothing from here on.
    ///
    /// # Errors
    /// [`NotAttached`].
    pub fn attach(
        &mut self,
        address: &ConsoleAddress,
        key: Fingerprint,
        now: ServerInstant,
    ) -> Result<Attached, NotAttached> {
        let line = self.lines.get_mut(address.instance()).ok_or(NotAttached::NotExpected)?;
        let mode = line.expected(key, now).ok_or(NotAttached::NotExpected)?;
        if self.sessions.len() >= limits::SESSIONS {
            return Err(NotAttached::Full);
        }
        let push = line.attach(mode, key, now).ok_or(NotAttached::NotExpected)?;
        self.sessions.insert(push.request.clone(), push.instance.clone());
        Ok(Attached { mode, push })
    }

    /// A session has ended; of a writer the place is free when the teardown delay is over. What is no session, or not any
    /// more, changes nothing.
    pub fn end(&mut self, session: &SessionId, now: ServerInstant) {
        let Some(instance) = self.sessions.remove(session) else { return };
        let Some(line) = self.lines.get_mut(&instance) else { return };
        line.watchers.retain(|watcher| watcher.waits() || watcher.push.request != *session);
        if let Some(writer) = line.writer.as_mut().filter(|writer| writer.is_session(session)) {
            let until = now.after(self.settings.teardown_delay);
            (writer.occupancy, writer.since) = (Occupancy::Ending { until }, now);
        }
        line.pass(now);
        if line.is_over() {
            self.lines.remove(&instance);
        }
    }

    /// Takes the place from the writer of an instance: a reservation is gone at once, a session is to be ended, and has its
    /// place until then.
    pub fn terminate(&mut self, instance: &InstanceId, now: ServerInstant) -> Withdrawn {
        let mut withdrawn = Withdrawn::default();
        if let Some(line) = self.lines.get_mut(instance) {
            line.pass(now);
            line.withdraw_writer(|_| true, &mut withdrawn);
        }
        withdrawn
    }

    /// Withdraws what is meant, of writers and of those who watch: keys are gone at once, sessions are to be ended.
    pub fn revoke(&mut self, selection: Selection<'_>, now: ServerInstant) -> Withdrawn {
        let mut withdrawn = Withdrawn::default();
        let lines = self.lines.iter_mut();
        for (_, line) in lines.filter(|(of, _)| selection.instance.is_none_or(|instance| instance == *of)) {
            line.pass(now);
            line.withdraw_writer(|push| selection.means(push), &mut withdrawn);
            line.withdraw_watchers(|push| selection.means(push), &mut withdrawn);
        }
        withdrawn
    }

    /// Who has the place of an instance's writer.
    pub fn occupant(&self, instance: &InstanceId, now: ServerInstant) -> Option<Occupant> {
        let writer = self.lines.get(instance)?.writer.as_ref()?;
        (!writer.is_over(now)).then(|| writer.occupant())
    }

    /// Who watches an instance's line.
    pub fn watchers(&self, instance: &InstanceId) -> impl Iterator<Item = &Arc<ConsolePush>> {
        let watchers = self.lines.get(instance).into_iter().flat_map(|line| &line.watchers);
        watchers.filter(|watcher| !watcher.waits()).map(|watcher| &watcher.push)
    }

    /// Sessions there are, those that watch included.
    pub fn count(&self) -> usize {
        self.sessions.len()
    }

    /// The line of an instance as it is now.
    fn line(&mut self, instance: &InstanceId, now: ServerInstant) -> Result<&mut Line, ReserveError> {
        if !self.lines.contains_key(instance) {
            self.sweep(now);
            if self.lines.len() >= limits::LINES {
                return Err(ReserveError::Full);
            }
        }
        let line = self.lines.entry(instance.clone()).or_default();
        line.pass(now);
        Ok(line)
    }

    /// Forgets lines of which nothing is left, each time there are twice as many as were left the last time, which is a
    /// constant number of steps for each insertion. Where there is no place, what has only been unused is forgotten too.
    fn sweep(&mut self, now: ServerInstant) {
        if self.lines.len() < self.sweep_at {
            return;
        }
        let forget = |line: &mut Line, unused_too: bool| {
            line.pass(now);
            line.is_over() || (unused_too && line.is_free())
        };
        self.lines.retain(|_, line| !forget(line, false));
        if self.lines.len() >= limits::LINES {
            self.lines.retain(|_, line| !forget(line, true));
        }
        self.sweep_at = (2 * self.lines.len()).clamp(Self::SWEEP_AT_LEAST, limits::LINES);
        self.lines.shrink_to(self.sweep_at);
    }
}

impl Line {
    /// Lets time pass: what has ended by now is gone.
    fn pass(&mut self, now: ServerInstant) {
        if let Some(over) = self.writer.take_if(|writer| writer.is_over(now))
            && let Occupancy::Reserved { until } = over.occupancy
        {
            self.unused_at(over.push, until);
        }
        self.watchers.retain(|watcher| watcher.waits_until.is_none_or(|until| now < until));
        self.unused.retain(|unused| now.since(unused.at) < limits::UNUSED_WINDOW);
    }

    /// Nobody has come with this key, nor will.
    fn unused_at(&mut self, push: Arc<ConsolePush>, at: ServerInstant) -> RequestId {
        let request = push.request.clone();
        self.unused.push_back(Unused { push, at });
        request
    }

    fn unused_of(&self, principal: &str) -> usize {
        self.unused.iter().filter(|unused| unused.push.principal == principal).count()
    }

    /// Nobody writes and nobody watches, or is expected to.
    fn is_free(&self) -> bool {
        self.writer.is_none() && self.watchers.is_empty()
    }

    fn is_over(&self) -> bool {
        self.is_free() && self.unused.is_empty()
    }

    /// What this key is expected for. Whoever has the key of a writer writes, also if somebody else lets it watch.
    fn expected(&self, key: Fingerprint, now: ServerInstant) -> Option<Mode> {
        if self.writer.as_ref().is_some_and(|writer| writer.expects(key, now)) {
            Some(Mode::Write)
        } else if self.watchers.iter().any(|watcher| watcher.expects(key, now)) {
            Some(Mode::Watch)
        } else {
            None
        }
    }

    fn attach(&mut self, mode: Mode, key: Fingerprint, now: ServerInstant) -> Option<Arc<ConsolePush>> {
        match mode {
            Mode::Write => {
                let writer = self.writer.as_mut()?;
                (writer.occupancy, writer.since) = (Occupancy::Attached, now);
                Some(Arc::clone(&writer.push))
            }
            Mode::Watch => {
                let watcher = self.watchers.iter_mut().find(|watcher| watcher.expects(key, now))?;
                watcher.waits_until = None;
                Some(Arc::clone(&watcher.push))
            }
        }
    }

    fn withdraw_writer(&mut self, is_meant: impl Fn(&ConsolePush) -> bool, withdrawn: &mut Withdrawn) {
        let Some(writer) = self.writer.as_ref().filter(|writer| is_meant(&writer.push)) else { return };
        let push = Arc::clone(&writer.push);
        match writer.occupancy {
            Occupancy::Reserved { .. } => {
                self.writer = None;
                withdrawn.unused.push(push);
            }
            Occupancy::Attached => withdrawn.sessions.push(Attached { mode: Mode::Write, push }),
            Occupancy::Ending { .. } => {}
        }
    }

    fn withdraw_watchers(&mut self, is_meant: impl Fn(&ConsolePush) -> bool, withdrawn: &mut Withdrawn) {
        for watcher in self.watchers.extract_if(.., |watcher| watcher.waits() && is_meant(&watcher.push)) {
            withdrawn.unused.push(watcher.push);
        }
        let meant = self.watchers.iter().filter(|watcher| !watcher.waits() && is_meant(&watcher.push));
        let sessions = meant.map(|watcher| Attached { mode: Mode::Watch, push: Arc::clone(&watcher.push) });
        withdrawn.sessions.extend(sessions);
    }
}

impl Writer {
    fn occupant(&self) -> Occupant {
        Occupant { push: Arc::clone(&self.push), occupancy: self.occupancy, since: self.since }
    }

    fn waits(&self) -> bool {
        matches!(self.occupancy, Occupancy::Reserved { .. })
    }

    fn is_unused_of(&self, principal: &str) -> bool {
        self.waits() && self.push.principal == principal
    }

    fn is_session(&self, session: &SessionId) -> bool {
        self.occupancy == Occupancy::Attached && self.push.request == *session
    }

    fn expects(&self, key: Fingerprint, now: ServerInstant) -> bool {
        self.waits() && !self.is_over(now) && self.push.fingerprint == key
    }

    /// At the very instant when it ends it has ended.
    fn is_over(&self, now: ServerInstant) -> bool {
        match self.occupancy {
            Occupancy::Reserved { until } | Occupancy::Ending { until } => until <= now,
            Occupancy::Attached => false,
        }
    }
}

impl Watcher {
    fn waits(&self) -> bool {
        self.waits_until.is_some()
    }

    fn expects(&self, key: Fingerprint, now: ServerInstant) -> bool {
        self.waits_until.is_some_and(|until| now < until) && self.push.fingerprint == key
    }
}

impl Selection<'_> {
    fn means(&self, push: &ConsolePush) -> bool {
        *self.account == push.account
            && self.instance.is_none_or(|instance| *instance == push.instance)
            && self.principal.is_none_or(|principal| *principal == push.principal)
            && self.fingerprint.is_none_or(|fingerprint| fingerprint == push.fingerprint)
    }
}

/// The same key of the same principal.
fn is_same_key(one: &ConsolePush, other: &ConsolePush) -> bool {
    one.principal == other.principal && one.fingerprint == other.fingerprint
}

#[cfg(test)]
mod tests;
