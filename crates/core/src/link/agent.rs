//! The agent's side of the conversation: opening, clock samples, silence. It takes messages and instants and says
//! what they mean; what a grant does to files is the agent's own matter.

use super::codes::{Capabilities, GoodbyeCode};
use super::frame::{AgentFrame, Goodbye, Grant, Hello, Ping, Renewed, ServerFrame, Welcome, Withdraw};
use super::limits;
use super::stock::{InstanceFacts, StockSigners};
use super::streams::OpenStream;
use super::text::{AnchorSetText, StatementText, VersionText};
use instance_connect_document::{BootId, BootInstant, ClockSample, DeadlineRefusal, ServerInstant, transfer};
use std::collections::VecDeque;
use std::time::Duration;

/// What an agent says about itself.
#[derive(Clone, Debug)]
pub struct AgentFacts {
    /// The boot it runs in.
    pub boot_id: BootId,
    /// What it can do beyond the protocol version.
    pub capabilities: Capabilities,
    /// Its program version.
    pub agent_version: VersionText,
    /// How often it asks for the clock; [`limits::PING_INTERVAL`] but in tests.
    pub ping_interval: Duration,
}

/// What a message of the server means to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentEvent {
    /// The link is open.
    Opened(Welcome),
    /// The server's clock was read; nothing to do.
    ClockRead,
    /// Grants may come under this signer; the link keeps the statement.
    Signer(StatementText),
    /// A key to install until `deadline` on this machine's clock, or to refuse.
    Grant {
        /// The frame.
        grant: Grant,
        /// Its deadline on this machine's clock.
        deadline: Result<BootInstant, DeadlineRefusal>,
    },
    /// A key to remove.
    Withdraw(Withdraw),
    /// The certificate is to be renewed now.
    RenewalAsked,
    /// The next certificate.
    Renewed(Renewed),
    /// An anchor set for the machine.
    Anchors(AnchorSetText),
    /// Who may sign the documents of the metadata service from now on.
    StockSigners(StockSigners),
    /// What the metadata service says of an instance from now on.
    Instance(InstanceFacts),
    /// A stream to open.
    OpenStream(OpenStream),
    /// The server ends the link; close without an answer.
    Goodbye(Goodbye),
    /// An optional frame of a later version.
    Ignored,
}

/// One link, seen from the agent.
#[derive(Debug)]
pub struct AgentLink {
    ping_interval: Duration,
    started_at: BootInstant,
    opened_at: Option<BootInstant>,
    heard_at: BootInstant,
    pinged_at: BootInstant,
    /// The pings not answered yet, oldest first. The hello is one.
    unanswered: VecDeque<BootInstant>,
    sample: Option<ClockSample>,
    /// Newest first.
    statements: VecDeque<StatementText>,
}

impl AgentLink {
    /// Begins a link at `now`: the frame is the first to send.
    pub fn start(facts: &AgentFacts, now: BootInstant) -> (Self, AgentFrame) {
        let link = Self {
            ping_interval: facts.ping_interval,
            started_at: now,
            opened_at: None,
            heard_at: now,
            pinged_at: now,
            unanswered: VecDeque::from([now]),
            sample: None,
            statements: VecDeque::new(),
        };
        let hello = Hello {
            version_min: limits::VERSION_MIN,
            version_max: limits::VERSION_MAX,
            capabilities: facts.capabilities,
            sent_at: now,
            boot_id: facts.boot_id.clone(),
            agent_version: facts.agent_version.clone(),
        };
        (link, AgentFrame::Hello(hello))
    }

    /// Takes one binary message.
    ///
    /// # Errors
    /// The server broke the protocol: send this and close.
    pub fn on_message(&mut self, message: &[u8], now: BootInstant) -> Result<AgentEvent, Goodbye> {
        self.on_bytes(now);
        let Some(frame) = ServerFrame::decode(message)? else { return Ok(AgentEvent::Ignored) };
        if let ServerFrame::Goodbye(goodbye) = frame {
            return Ok(AgentEvent::Goodbye(goodbye));
        }
        match (frame, self.opened_at.is_some()) {
            (ServerFrame::Welcome(welcome), false) => self.on_welcome(welcome, now),
            (ServerFrame::Welcome(_), true) => Err(protocol_error("a second welcome")),
            (_, false) => Err(protocol_error("a frame before welcome")),
            (ServerFrame::Pong(pong), true) => self.on_clock(pong.sent_at, pong.server_time),
            (ServerFrame::Signer(signer), true) => Ok(self.on_signer(signer.statement)),
            (ServerFrame::Grant(grant), true) => {
                let deadline = transfer(self.sample, grant.deadline, now);
                Ok(AgentEvent::Grant { grant, deadline })
            }
            (ServerFrame::Withdraw(withdraw), true) => Ok(AgentEvent::Withdraw(withdraw)),
            (ServerFrame::Renew, true) => Ok(AgentEvent::RenewalAsked),
            (ServerFrame::Renewed(renewed), true) => Ok(AgentEvent::Renewed(renewed)),
            (ServerFrame::Anchors(set), true) => Ok(AgentEvent::Anchors(set)),
            (ServerFrame::StockSigners(signers), true) => Ok(AgentEvent::StockSigners(signers)),
            (ServerFrame::Instance(facts), true) => Ok(AgentEvent::Instance(facts)),
            (ServerFrame::OpenStream(open), true) => Ok(AgentEvent::OpenStream(open)),
            (ServerFrame::Goodbye(goodbye), true) => Ok(AgentEvent::Goodbye(goodbye)),
        }
    }

    /// Notes that bytes came which are no frame: the control frames of WebSocket.
    pub fn on_bytes(&mut self, now: BootInstant) {
        self.heard_at = self.heard_at.max(now);
    }

    /// Takes the passing of time; to be called about once a second. The frame, if there is one, is a ping to send.
    ///
    /// # Errors
    /// The server is silent for too long: send this, if it still can be, and close.
    pub fn on_tick(&mut self, now: BootInstant) -> Result<Option<AgentFrame>, Goodbye> {
        if now.since(self.heard_at) >= limits::SILENCE {
            return Err(Goodbye::new(GoodbyeCode::Idle, "nothing heard for 30 s"));
        }
        if self.opened_at.is_none() {
            let late = now.since(self.started_at) >= limits::OPENING;
            return if late { Err(Goodbye::new(GoodbyeCode::Idle, "no welcome for 10 s")) } else { Ok(None) };
        }
        let due = now.since(self.pinged_at) >= self.ping_interval;
        if !due || self.unanswered.len() >= limits::PINGS_UNANSWERED {
            return Ok(None);
        }
        self.pinged_at = now;
        self.unanswered.push_back(now);
        Ok(Some(AgentFrame::Ping(Ping { sent_at: now })))
    }

    /// Whether the link has been open for long enough to call it good, so that a reconnect may begin with short waits.
    pub fn is_stable(&self, now: BootInstant) -> bool {
        self.opened_at.is_some_and(|opened_at| now.since(opened_at) >= limits::LINK_STABLE)
    }

    /// The newest clock sample of this link.
    pub const fn sample(&self) -> Option<ClockSample> {
        self.sample
    }

    /// The signer statements of this link, newest first: at most [`limits::STATEMENTS_KEPT`].
    pub const fn statements(&self) -> &VecDeque<StatementText> {
        &self.statements
    }

    fn on_signer(&mut self, statement: StatementText) -> AgentEvent {
        self.statements.retain(|kept| *kept != statement);
        self.statements.push_front(statement.clone());
        self.statements.truncate(limits::STATEMENTS_KEPT);
        AgentEvent::Signer(statement)
    }

    fn on_welcome(&mut self, welcome: Welcome, now: BootInstant) -> Result<AgentEvent, Goodbye> {
        if !(limits::VERSION_MIN..=limits::VERSION_MAX).contains(&welcome.version) {
            return Err(Goodbye::new(GoodbyeCode::VersionUnsupported, "a version outside the hello's range"));
        }
        self.on_clock(welcome.sent_at, welcome.server_time)?;
        self.opened_at = Some(now);
        Ok(AgentEvent::Opened(welcome))
    }

    /// The answer to the ping of `sent_at`. Pings before that one are given up: their answers would be older samples.
    fn on_clock(&mut self, sent_at: BootInstant, server: ServerInstant) -> Result<AgentEvent, Goodbye> {
        let superseded = self.sample.is_some_and(|sample| sent_at < sample.sent);
        if superseded {
            return Ok(AgentEvent::ClockRead);
        }
        let Some(position) = self.unanswered.iter().position(|ping| *ping == sent_at) else {
            return Err(protocol_error("a clock answer to no ping"));
        };
        if self.sample.is_some_and(|sample| server < sample.server) {
            return Err(protocol_error("a clock that runs backwards"));
        }
        self.unanswered.drain(..=position);
        self.sample = Some(ClockSample { sent: sent_at, server });
        Ok(AgentEvent::ClockRead)
    }
}

fn protocol_error(text: &str) -> Goodbye {
    Goodbye::new(GoodbyeCode::ProtocolError, text)
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Pong, Signer};
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn start(now: u64) -> AgentLink {
        let facts = AgentFacts {
            boot_id: "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap(),
            capabilities: Capabilities::NONE,
            agent_version: VersionText::lossy("0.1.0"),
            ping_interval: limits::PING_INTERVAL,
        };
        let (link, frame) = AgentLink::start(&facts, BootInstant(now));
        assert!(matches!(frame, AgentFrame::Hello(hello) if hello.sent_at == BootInstant(now)));
        link
    }

    fn welcome(version: u8, a0: u64, s1: u64) -> ServerFrame {
        ServerFrame::Welcome(Welcome {
            version,
            capabilities: Capabilities::NONE,
            sent_at: BootInstant(a0),
            server_time: ServerInstant(s1),
            server_clock: "1b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap(),
            server_version: VersionText::lossy("0.1.0"),
        })
    }

    fn open(a0: u64, s1: u64) -> AgentLink {
        let mut link = start(a0);
        let event = link.on_message(&welcome(1, a0, s1).encode(), BootInstant(a0 + 1));
        assert!(matches!(event, Ok(AgentEvent::Opened(_))));
        link
    }

    fn pong(link: &mut AgentLink, a0: u64, s1: u64, now: u64) -> Result<AgentEvent, GoodbyeCode> {
        let frame = ServerFrame::Pong(Pong { sent_at: BootInstant(a0), server_time: ServerInstant(s1) });
        link.on_message(&frame.encode(), BootInstant(now)).map_err(|goodbye| goodbye.code)
    }

    fn ping(link: &mut AgentLink, now: u64) {
        let sent = link.on_tick(BootInstant(now));
        assert_eq!(sent, Ok(Some(AgentFrame::Ping(Ping { sent_at: BootInstant(now) }))));
    }

    fn deadline(link: &mut AgentLink, d: u64, now: u64) -> Result<BootInstant, DeadlineRefusal> {
        let grant = Grant {
            id: super::super::GrantId(1),
            deadline: ServerInstant(d),
            document: "#".parse().unwrap(),
            twins: Vec::new(),
        };
        match link.on_message(&ServerFrame::Grant(grant).encode(), BootInstant(now)) {
            Ok(AgentEvent::Grant { deadline, .. }) => deadline,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_grant_finds_a_sample() {
        let mut link = open(100, 5000);
        assert_eq!(deadline(&mut link, 5000 + 60 * SECOND, 200), Ok(BootInstant(100 + 60 * SECOND)));
    }

    #[test]
    fn a_sample_lasts_thirty_seconds_from_its_ping() {
        let mut link = open(100, 5000);
        let (d, last) = (5000 + 60 * SECOND, 100 + 30 * SECOND);
        assert!(deadline(&mut link, d, last).is_ok());
        assert_eq!(deadline(&mut link, d, last + 1), Err(DeadlineRefusal::StaleSample));
    }

    #[test]
    fn nothing_comes_before_welcome_or_welcome_twice() {
        let signer = ServerFrame::Signer(Signer { statement: StatementText::lossy("x") }).encode();
        let code = |result: Result<AgentEvent, Goodbye>| result.unwrap_err().code;
        assert_eq!(code(start(1).on_message(&signer, BootInstant(2))), GoodbyeCode::ProtocolError);
        let again = open(1, 1).on_message(&welcome(1, 1, 1).encode(), BootInstant(2));
        assert_eq!(code(again), GoodbyeCode::ProtocolError);
        let version = start(1).on_message(&welcome(2, 1, 1).encode(), BootInstant(2));
        assert_eq!(code(version), GoodbyeCode::VersionUnsupported);
        let echo = start(1).on_message(&welcome(1, 2, 1).encode(), BootInstant(2));
        assert_eq!(code(echo), GoodbyeCode::ProtocolError);
        let goodbye = ServerFrame::Goodbye(Goodbye::new(GoodbyeCode::Overloaded, "full"));
        assert!(matches!(start(1).on_message(&goodbye.encode(), BootInstant(2)), Ok(AgentEvent::Goodbye(_))));
    }

    #[test]
    fn pongs_are_matched_to_their_pings() {
        let mut link = open(0, 0);
        ping(&mut link, 7 * SECOND);
        ping(&mut link, 14 * SECOND);
        ping(&mut link, 21 * SECOND);
        // The second answer first: it supersedes the first, which is then ignored when it comes.
        assert_eq!(pong(&mut link, 14 * SECOND, 50, 22 * SECOND), Ok(AgentEvent::ClockRead));
        assert_eq!(pong(&mut link, 7 * SECOND, 40, 22 * SECOND), Ok(AgentEvent::ClockRead));
        assert_eq!(deadline(&mut link, 50 + SECOND, 14 * SECOND), Ok(BootInstant(15 * SECOND)));
        assert_eq!(pong(&mut link, 21 * SECOND, 49, 23 * SECOND), Err(GoodbyeCode::ProtocolError));
        assert_eq!(pong(&mut link, 20 * SECOND, 60, 23 * SECOND), Err(GoodbyeCode::ProtocolError));
        assert_eq!(pong(&mut link, 21 * SECOND, 50, 23 * SECOND), Ok(AgentEvent::ClockRead));
        assert_eq!(pong(&mut link, 21 * SECOND, 50, 23 * SECOND), Err(GoodbyeCode::ProtocolError));
    }

    #[test]
    fn pings_stop_while_too_many_are_unanswered() {
        let mut link = open(0, 0);
        for position in 1..=4 {
            link.on_bytes(BootInstant(position * 7 * SECOND));
            ping(&mut link, position * 7 * SECOND);
        }
        assert_eq!(link.on_tick(BootInstant(35 * SECOND)), Ok(None));
        pong(&mut link, 7 * SECOND, 1, 36 * SECOND).unwrap();
        ping(&mut link, 37 * SECOND);
    }

    #[test]
    fn the_last_four_statements_are_kept_newest_first() {
        let mut link = open(0, 0);
        for text in ["a", "b", "c", "d", "b", "e"] {
            let signer = ServerFrame::Signer(Signer { statement: StatementText::lossy(text) });
            link.on_message(&signer.encode(), BootInstant(1)).unwrap();
        }
        let kept: Vec<&str> = link.statements().iter().map(StatementText::as_str).collect();
        assert_eq!(kept, ["e", "b", "d", "c"]);
    }

    #[test]
    fn silence_ends_the_link() {
        let code =
            |link: &mut AgentLink, now: u64| link.on_tick(BootInstant(now)).map_err(|goodbye| goodbye.code);
        let mut opening = start(0);
        assert_eq!(code(&mut opening, 10 * SECOND - 1), Ok(None));
        assert_eq!(code(&mut opening, 10 * SECOND), Err(GoodbyeCode::Idle));
        let mut link = open(0, 0);
        link.on_bytes(BootInstant(5 * SECOND));
        assert!(code(&mut link, 35 * SECOND - 1).is_ok());
        assert_eq!(code(&mut link, 35 * SECOND), Err(GoodbyeCode::Idle));
        assert!(!link.is_stable(BootInstant(10 * SECOND)));
        assert!(link.is_stable(BootInstant(10 * SECOND + 1)));
    }
}
