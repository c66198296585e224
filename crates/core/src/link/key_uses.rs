//! What becomes of the keys on a machine: offered, used to log in, or neither. It joins what the sshd command and sshd's
//! PAM stack say to the requests that pushed the keys, and says what there is to report.

use super::frame::AgentFrame;
use super::limits;
use super::report::{ExpiredUnused, KeyUse, Offered, UseEvent};
use instance_connect_document::{
    BootInstant, Fingerprint, Offer, OsUser, RemoteHost, RequestId, SessionChange, SessionEvent, SessionId,
};
use std::collections::VecDeque;
use std::time::Duration;

/// The keys of a machine, its logins with them, and the reports that have not been sent. All are bounded; what there is
/// no room for is not proved.
#[derive(Debug, Default)]
pub struct KeyUses {
    keys: VecDeque<Key>,
    logins: VecDeque<Login>,
    reports: VecDeque<AgentFrame>,
    lost: u32,
}

/// What one request has pushed.
#[derive(Debug)]
struct Key {
    request: RequestId,
    user: OsUser,
    fingerprint: Fingerprint,
    ends: BootInstant,
    /// Whether sshd was given it.
    offered: bool,
    /// Whether somebody has logged in with it.
    used: bool,
    /// Whether nothing is to be said when its time ends: it was said, it was taken away, or nobody knows what was before.
    settled: bool,
}

/// A login with a pushed key.
#[derive(Debug)]
struct Login {
    session: SessionId,
    user: OsUser,
    fingerprint: Fingerprint,
    from: RemoteHost,
    requests: Vec<RequestId>,
}

impl KeyUses {
    /// A key is on the machine from now until it ends.
    pub fn installed(
        &mut self,
        request: &RequestId,
        user: &OsUser,
        fingerprint: Fingerprint,
        ends: BootInstant,
    ) {
        self.watch(request, user, fingerprint, ends, false);
    }

    /// A key was on the machine when the agent started: what became of it before is not known.
    pub fn found(&mut self, request: &RequestId, user: &OsUser, fingerprint: Fingerprint, ends: BootInstant) {
        self.watch(request, user, fingerprint, ends, true);
    }

    fn watch(
        &mut self,
        request: &RequestId,
        user: &OsUser,
        fingerprint: Fingerprint,
        ends: BootInstant,
        settled: bool,
    ) {
        // Delivered again over another link.
        if let Some(key) = self.keys.iter_mut().find(|key| key.request == *request) {
            key.ends = ends;
            return;
        }
        if self.keys.len() >= limits::KEYS_WATCHED {
            self.keys.pop_front();
        }
        let (request, user) = (request.clone(), user.clone());
        self.keys.push_back(Key { request, user, fingerprint, ends, offered: false, used: false, settled });
    }

    /// A key was taken away before its time.
    pub fn withdrawn(&mut self, request: &RequestId) {
        self.keys.iter_mut().filter(|key| key.request == *request).for_each(|key| key.settled = true);
    }

    /// All keys end that much earlier.
    pub fn shortened(&mut self, by: Duration) {
        self.keys.iter_mut().for_each(|key| key.ends = key.ends.before(by));
    }

    /// The sshd command says that it gave sshd a key. One login asks more than once: what these requests pushed is reported
    /// when it is offered for the first time.
    pub fn offered(&mut self, offer: Offer) {
        let mut is_news = false;
        for request in &offer.requests {
            match self.keys.iter_mut().find(|key| key.request == *request) {
                Some(key) => is_news |= !std::mem::replace(&mut key.offered, true),
                None => is_news = true,
            }
        }
        if is_news {
            self.report(AgentFrame::Offered(Offered {
                offered_at: offer.at,
                lost: 0,
                fingerprint: offer.fingerprint,
                os_user: offer.user,
                request_ids: offer.requests,
            }));
        }
    }

    /// sshd's PAM stack says that a login begins or ends. Logins with other keys are nobody's business here.
    pub fn session(&mut self, event: SessionEvent) {
        match event.change {
            SessionChange::Opened { fingerprint, from } => {
                self.opened(
                    Login {
                        session: event.session,
                        user: event.user,
                        fingerprint,
                        from,
                        requests: Vec::new(),
                    },
                    event.at,
                );
            }
            SessionChange::Closed => {
                let is_it = |login: &Login| login.session == event.session && login.user == event.user;
                while let Some(position) = self.logins.iter().position(is_it) {
                    if let Some(login) = self.logins.remove(position) {
                        self.report(login.report(UseEvent::Closed, event.at, login.requests.clone()));
                    }
                }
            }
        }
    }

    fn opened(&mut self, mut login: Login, at: BootInstant) {
        let is_it = |key: &&mut Key| key.user == login.user && key.fingerprint == login.fingerprint;
        let mut keys: Vec<&mut Key> = self.keys.iter_mut().filter(is_it).collect();
        // Of a key that several have pushed, those that sshd was given.
        if keys.iter().any(|key| key.offered) {
            keys.retain(|key| key.offered);
        }
        if keys.is_empty() {
            return;
        }
        let first: Vec<RequestId> =
            keys.iter().filter(|key| !key.used).map(|key| key.request.clone()).collect();
        login.requests = keys.iter().map(|key| key.request.clone()).take(limits::OFFERED_REQUESTS).collect();
        for key in keys {
            (key.used, key.settled) = (true, true);
        }
        if !first.is_empty() {
            self.report(login.report(UseEvent::Used, at, first));
        }
        self.report(login.report(UseEvent::Opened, at, login.requests.clone()));
        if self.logins.len() >= limits::LOGINS_WATCHED {
            self.logins.pop_front();
        }
        self.logins.push_back(login);
    }

    /// Takes the passing of time: keys that end without having been offered are reported, and forgotten once no login that
    /// began with them can be under way any more.
    pub fn tick(&mut self, now: BootInstant) {
        let mut unused = Vec::new();
        for key in self.keys.iter_mut().filter(|key| key.ends <= now) {
            if !std::mem::replace(&mut key.settled, true) && !key.offered {
                unused.push(AgentFrame::ExpiredUnused(ExpiredUnused {
                    at: key.ends,
                    lost: 0,
                    fingerprint: key.fingerprint,
                    os_user: key.user.clone(),
                    request_id: key.request.clone(),
                }));
            }
        }
        unused.into_iter().for_each(|report| self.report(report));
        self.keys.retain(|key| now.since(key.ends) < limits::LOGIN_GRACE || key.ends > now);
    }

    /// Reports that others could not take: they count as lost.
    pub fn lose(&mut self, reports: u32) {
        self.lost = self.lost.saturating_add(reports);
    }

    fn report(&mut self, report: AgentFrame) {
        // The group of the sshd command can claim any offer; what root says of logins has half of the places to itself.
        let places = match report {
            AgentFrame::Offered(_) => limits::OFFERED_QUEUE / 2,
            _ => limits::OFFERED_QUEUE,
        };
        if self.reports.len() < places {
            self.reports.push_back(report);
        } else {
            self.lose(1);
        }
    }

    /// Whether there is something to report.
    pub fn has_report(&self) -> bool {
        !self.reports.is_empty()
    }

    /// The next report, oldest first, with how many were lost since the one before.
    pub fn next_report(&mut self) -> Option<AgentFrame> {
        let mut report = self.reports.pop_front()?;
        if let AgentFrame::Offered(Offered { lost, .. })
        | AgentFrame::KeyUse(KeyUse { lost, .. })
        | AgentFrame::ExpiredUnused(ExpiredUnused { lost, .. }) = &mut report
        {
            *lost = std::mem::take(&mut self.lost);
        }
        Some(report)
    }
}

impl Login {
    fn report(&self, event: UseEvent, at: BootInstant, request_ids: Vec<RequestId>) -> AgentFrame {
        AgentFrame::KeyUse(KeyUse {
            event,
            at,
            lost: 0,
            session: self.session,
            fingerprint: self.fingerprint,
            os_user: self.user.clone(),
            from: self.from.clone(),
            request_ids,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Fingerprint = Fingerprint::from_bytes([7; 32]);
    const SESSION: SessionId = SessionId { process: 7, started: 9 };
    const MINUTE: BootInstant = BootInstant(60_000_000_000);

    fn request(n: usize) -> RequestId {
        format!("0b7f1c52-6a0e-4c11-9d0b-{n:012x}").parse().unwrap()
    }

    fn user() -> OsUser {
        "alice".parse().unwrap()
    }

    fn installed(requests: usize) -> KeyUses {
        let mut uses = KeyUses::default();
        (0..requests).for_each(|n| uses.installed(&request(n), &user(), KEY, MINUTE));
        uses
    }

    fn offer(requests: Vec<RequestId>) -> Offer {
        Offer { user: user(), fingerprint: KEY, requests, at: BootInstant(1) }
    }

    fn event(change: SessionChange) -> SessionEvent {
        SessionEvent { user: user(), session: SESSION, change, at: BootInstant(2) }
    }

    fn opens(fingerprint: Fingerprint) -> SessionEvent {
        event(SessionChange::Opened { fingerprint, from: RemoteHost::unknown() })
    }

    /// What is reported, and for which requests.
    fn reports(uses: &mut KeyUses) -> Vec<(&'static str, Vec<RequestId>)> {
        let mut reports = Vec::new();
        while let Some(report) = uses.next_report() {
            reports.push(match report {
                AgentFrame::Offered(offered) => ("offered", offered.request_ids),
                AgentFrame::KeyUse(KeyUse { event: UseEvent::Used, request_ids, .. }) => {
                    ("used", request_ids)
                }
                AgentFrame::KeyUse(KeyUse { event: UseEvent::Opened, request_ids, .. }) => {
                    ("opened", request_ids)
                }
                AgentFrame::KeyUse(KeyUse { event: UseEvent::Closed, request_ids, .. }) => {
                    ("closed", request_ids)
                }
                AgentFrame::ExpiredUnused(unused) => ("unused", vec![unused.request_id]),
                other => panic!("{other:?}"),
            });
        }
        reports
    }

    #[test]
    fn a_login_is_told_from_offer_to_end() {
        let mut uses = installed(1);
        // sshd asks twice for one login.
        uses.offered(offer(vec![request(0)]));
        uses.offered(offer(vec![request(0)]));
        uses.session(opens(KEY));
        uses.tick(MINUTE);
        uses.session(event(SessionChange::Closed));
        uses.session(event(SessionChange::Closed));
        let of = |what| (what, vec![request(0)]);
        assert_eq!(reports(&mut uses), [of("offered"), of("used"), of("opened"), of("closed")]);
        // A second login with it is no first use.
        uses.session(opens(KEY));
        assert_eq!(reports(&mut uses), [of("opened")]);
    }

    #[test]
    fn a_key_that_nobody_used_is_told_once() {
        let mut uses = installed(4);
        uses.withdrawn(&request(1));
        uses.offered(offer(vec![request(2)]));
        uses.shortened(Duration::from_secs(10));
        uses.found(&request(9), &user(), KEY, MINUTE);
        uses.tick(BootInstant(49_999_999_999));
        assert_eq!(reports(&mut uses), [("offered", vec![request(2)])]);
        uses.tick(BootInstant(50_000_000_000));
        uses.tick(MINUTE);
        assert_eq!(reports(&mut uses), [("unused", vec![request(0)]), ("unused", vec![request(3)])]);
    }

    #[test]
    fn logins_with_other_keys_and_those_too_late_are_not_told() {
        let mut uses = installed(2);
        uses.session(opens(Fingerprint::from_bytes([8; 32])));
        uses.session(event(SessionChange::Closed));
        uses.session(SessionEvent { user: "bob".parse().unwrap(), ..opens(KEY) });
        assert_eq!(reports(&mut uses), []);
        // One that began with the last moment of the key.
        let last = MINUTE.after(limits::LOGIN_GRACE);
        uses.offered(offer(vec![request(1)]));
        uses.tick(last.before(Duration::from_nanos(1)));
        uses.session(opens(KEY));
        let of = |what| (what, vec![request(1)]);
        assert_eq!(
            reports(&mut uses),
            [of("offered"), ("unused", vec![request(0)]), of("used"), of("opened")]
        );
        uses.tick(last);
        uses.session(opens(KEY));
        assert_eq!(reports(&mut uses), []);
    }

    /// While there is no link, whoever runs as the sshd command's group claims offers without end.
    #[test]
    fn offers_do_not_push_out_logins() {
        let mut uses = installed(1);
        for n in 1..=limits::OFFERED_QUEUE {
            uses.offered(offer(vec![request(n)]));
        }
        uses.session(opens(KEY));
        uses.session(event(SessionChange::Closed));
        let told = reports(&mut uses).split_off(limits::OFFERED_QUEUE / 2);
        assert_eq!(told, ["used", "opened", "closed"].map(|what| (what, vec![request(0)])));
    }

    #[test]
    fn everything_is_bounded_and_what_is_lost_is_counted() {
        let mut uses = KeyUses::default();
        for n in 0..limits::KEYS_WATCHED + 10 {
            uses.installed(&request(n), &user(), KEY, MINUTE);
        }
        assert_eq!(uses.keys.len(), limits::KEYS_WATCHED);
        for process in 0..2 * u32::try_from(limits::LOGINS_WATCHED).unwrap() {
            uses.session(SessionEvent { session: SessionId { process, started: 1 }, ..opens(KEY) });
        }
        assert_eq!((uses.logins.len(), uses.reports.len()), (limits::LOGINS_WATCHED, limits::OFFERED_QUEUE));
        let Some(AgentFrame::KeyUse(first)) = uses.next_report() else { panic!() };
        assert_eq!(first.lost as usize, 1 + 2 * limits::LOGINS_WATCHED - limits::OFFERED_QUEUE);
        let Some(AgentFrame::KeyUse(second)) = uses.next_report() else { panic!() };
        assert_eq!((second.lost, second.request_ids.len()), (0, limits::OFFERED_REQUESTS));
    }
}
