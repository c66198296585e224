//! Frames: what each side may send, and their bytes. Which side a frame comes from is its type, so a frame that runs
//! the wrong way is an unknown one.

use super::codec::{FrameError, Reader, Writer};
use super::codes::{Capabilities, GoodbyeCode, Refusal};
use super::limits;
use super::report::{ExpiredUnused, GuestReport, KeyUse, Offered};
use super::stock::{InstanceFacts, StockSigners, Twin};
use super::streams::{OpenStream, ReportedLines, StreamRefused};
use super::text::{
    AnchorSetText, CertificatesPem, DocumentText, GoodbyeText, HostKeyText, RequestPem, StatementText,
    VersionText,
};
use crate::host_facts::HostFacts;
use instance_connect_document::{
    Anchors, BootId, BootInstant, Fingerprint, OsUser, RequestId, ServerInstant,
};

/// The kinds of protocol version 1. The high bit makes a kind critical.
mod kind {
    pub(super) const HELLO: u8 = 0x81;
    pub(super) const WELCOME: u8 = 0x82;
    pub(super) const PING: u8 = 0x83;
    pub(super) const PONG: u8 = 0x84;
    pub(super) const SIGNER: u8 = 0x85;
    pub(super) const GRANT: u8 = 0x86;
    pub(super) const ACK: u8 = 0x87;
    pub(super) const WITHDRAW: u8 = 0x88;
    pub(super) const WITHDRAWN: u8 = 0x89;
    pub(super) const OFFERED: u8 = 0x0a;
    pub(super) const KEY_USE: u8 = 0x0c;
    pub(super) const EXPIRED_UNUSED: u8 = 0x0d;
    pub(super) const GUEST_REPORT: u8 = 0x14;
    pub(super) const GOODBYE: u8 = 0x8b;
    pub(super) const HOST_KEYS: u8 = 0x11;
    pub(super) const HOST_FACTS: u8 = 0x15;
    pub(super) const RENEW: u8 = 0x8e;
    pub(super) const RENEWED: u8 = 0x8f;
    pub(super) const ANCHORS: u8 = 0x90;
    pub(super) const TWINNED_GRANT: u8 = 0x91;
    pub(super) const STOCK_SIGNERS: u8 = 0x92;
    pub(super) const INSTANCE: u8 = 0x93;
    pub(super) const LINES: u8 = 0x16;
    pub(super) const OPEN_STREAM: u8 = 0x97;
    pub(super) const STREAM_REFUSED: u8 = 0x98;

    /// Whether a receiver that does not know the kind must close.
    pub(super) const fn is_critical(kind: u8) -> bool {
        kind & 0x80 != 0
    }
}

/// A frame from an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentFrame {
    /// The first frame of a link.
    Hello(Hello),
    /// A question for the server's clock.
    Ping(Ping),
    /// The answer to a grant.
    Ack(Ack),
    /// The answer to a withdrawal.
    Withdrawn(Withdrawn),
    /// A report that the sshd command printed a key.
    Offered(Offered),
    /// A report of the machine's SSH host keys.
    HostKeys(ReportedHostKeys),
    /// A report of what the machine is, and where.
    HostFacts(Box<HostFacts>),
    /// A request for the agent's next certificate.
    Renew(Renew),
    /// A report that a key was used to log in.
    KeyUse(KeyUse),
    /// A report that a key's time ended without sshd having been given it.
    ExpiredUnused(ExpiredUnused),
    /// A report on a key of a guest.
    GuestReport(GuestReport),
    /// Which anchors the machine trusts.
    Anchors(HeldAnchors),
    /// A report of the serial lines that it owns.
    Lines(ReportedLines),
    /// The answer to a request for a stream that cannot be had.
    StreamRefused(StreamRefused),
    /// The last frame of a link.
    Goodbye(Goodbye),
}

/// A frame from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFrame {
    /// The answer to hello.
    Welcome(Welcome),
    /// The answer to a ping.
    Pong(Pong),
    /// A signer that grants may come under.
    Signer(Signer),
    /// A key to install.
    Grant(Grant),
    /// A key to remove again.
    Withdraw(Withdraw),
    /// The agent is to renew its certificate now.
    Renew,
    /// The agent's next certificate.
    Renewed(Renewed),
    /// An anchor set for the machine.
    Anchors(AnchorSetText),
    /// Who may sign the documents of the metadata service from now on.
    StockSigners(StockSigners),
    /// What the metadata service says of an instance from now on.
    Instance(InstanceFacts),
    /// A stream to open.
    OpenStream(OpenStream),
    /// The last frame of a link.
    Goodbye(Goodbye),
}

/// The agent introduces itself, and asks for the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The lowest protocol version it speaks.
    pub version_min: u8,
    /// The highest protocol version it speaks.
    pub version_max: u8,
    /// What it can do beyond that.
    pub capabilities: Capabilities,
    /// Its clock when it sent this.
    pub sent_at: BootInstant,
    /// The boot its clock belongs to.
    pub boot_id: BootId,
    /// Its program version.
    pub agent_version: VersionText,
}

/// The server accepts the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The protocol version of this link.
    pub version: u8,
    /// What the server can do beyond that.
    pub capabilities: Capabilities,
    /// The agent's clock, from its hello.
    pub sent_at: BootInstant,
    /// The server's clock, read after the hello had arrived.
    pub server_time: ServerInstant,
    /// Which clock that is: the boot of the machine it belongs to. Links with the same one can be compared.
    pub server_clock: BootId,
    /// The server's program version.
    pub server_version: VersionText,
}

/// The agent asks for the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Its own clock when it sent this.
    pub sent_at: BootInstant,
}

/// The server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pong {
    /// The agent's clock, from its ping.
    pub sent_at: BootInstant,
    /// The server's clock, read after the ping had arrived.
    pub server_time: ServerInstant,
}

/// A signer that grants may come under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The signer statement: a line that an anchor signed.
    pub statement: StatementText,
}

/// The server's name for one delivery on one link. Only echoed by the agent, never compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GrantId(pub u64);

/// A key to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What the ack will name.
    pub id: GrantId,
    /// Until when the key may be offered, on the clock of the process that holds the link.
    pub deadline: ServerInstant,
    /// One signed document section.
    pub document: DocumentText,
    /// Its signatures for the metadata service: none where the agent has none, and none of a key that the stock host scripts
    /// do not know. Only the first [`limits::STOCK_SIGNERS`] are sent.
    pub twins: Vec<Twin>,
}

/// The answer to a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Which grant.
    pub id: GrantId,
    /// What became of it.
    pub outcome: AckOutcome,
}

/// What became of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckOutcome {
    /// The key is on the machine: the next login finds it.
    Installed {
        /// False when the machine is sure that it has no such user.
        os_user_exists: bool,
    },
    /// The key is not on the machine.
    Refused(Refusal),
}

/// The server's name for one withdrawal. Only echoed by the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WithdrawId(pub u64);

/// A key to remove again: one request's section of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdraw {
    /// What the answer will name.
    pub id: WithdrawId,
    /// The request that pushed it.
    pub request_id: RequestId,
    /// The key.
    pub fingerprint: Fingerprint,
    /// For whom it was pushed.
    pub os_user: OsUser,
}

/// The answer to a withdrawal: that request's key is not on the machine, and will not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawn {
    /// Which withdrawal.
    pub id: WithdrawId,
    /// Whether there was something to remove.
    pub removed: bool,
}

/// The machine's SSH host keys, as its agent claims. Only the first [`limits::HOST_KEYS`] are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedHostKeys {
    /// Lines as in a `.pub` file. Of what type they are the server judges, so that a new one does not cost the link.
    pub lines: Vec<HostKeyText>,
}

/// A request for the agent's next certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renew {
    /// PKCS#10 in PEM, of a new key.
    pub request: RequestPem,
}

/// The agent's next certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The agent's certificate, then the agents intermediate.
    pub chain: CertificatesPem,
    /// Whom the agent trusts to vouch for servers from now on: the nodes intermediate, then the root.
    pub server_ca: CertificatesPem,
}

/// The anchors file of a machine, as its agent claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldAnchors {
    /// The number of its anchor set; 0 for anchors that are no set.
    pub set: u32,
    /// SHA-256 of the file: whoever has an anchor of the machine can sign another set with that number.
    pub sha256: [u8; 32],
}

impl HeldAnchors {
    /// What is said of these.
    pub const fn of(anchors: &Anchors) -> Self {
        Self { set: anchors.set(), sha256: *anchors.sha256() }
    }
}

/// The last frame of a side, which then closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goodbye {
    /// Why.
    pub code: GoodbyeCode,
    /// The same in words, for the peer's log.
    pub text: GoodbyeText,
}

impl Goodbye {
    /// A goodbye with this text, made printable and cut to what fits.
    pub fn new(code: GoodbyeCode, text: &str) -> Self {
        Self { code, text: GoodbyeText::lossy(text) }
    }
}

impl From<FrameError> for Goodbye {
    /// What to tell a peer whose frame could not be taken.
    fn from(error: FrameError) -> Self {
        let code = match error {
            FrameError::UnknownCritical(_) => GoodbyeCode::UnknownFrame,
            FrameError::Empty
            | FrameError::TooLong
            | FrameError::Truncated
            | FrameError::Trailing
            | FrameError::Malformed(_) => GoodbyeCode::ProtocolError,
        };
        Self::new(code, &error.to_string())
    }
}

impl AgentFrame {
    /// The frame's bytes: one binary WebSocket message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(hello) => hello.encode(),
            Self::Ping(ping) => Writer::new(kind::PING).boot(ping.sent_at).finish(),
            Self::Ack(ack) => ack.encode(),
            Self::Withdrawn(withdrawn) => {
                Writer::new(kind::WITHDRAWN).u64(withdrawn.id.0).u8(withdrawn.removed.into()).finish()
            }
            Self::Offered(offered) => offered.encode(kind::OFFERED),
            Self::KeyUse(key_use) => key_use.encode(kind::KEY_USE),
            Self::ExpiredUnused(unused) => unused.encode(kind::EXPIRED_UNUSED),
            Self::GuestReport(report) => report.encode(kind::GUEST_REPORT),
            Self::HostKeys(host_keys) => host_keys.encode(),
            Self::HostFacts(facts) => facts.encode(kind::HOST_FACTS),
            Self::Renew(renew) => Writer::new(kind::RENEW).text16(renew.request.as_str()).finish(),
            Self::Anchors(held) => Writer::new(kind::ANCHORS).u32(held.set).hash(&held.sha256).finish(),
            Self::Lines(lines) => lines.encode(kind::LINES),
            Self::StreamRefused(refused) => refused.encode(kind::STREAM_REFUSED),
            Self::Goodbye(goodbye) => goodbye.encode(),
        }
    }

    /// Reads a frame as a server receives it. `None` for an optional frame it does not know.
    ///
    /// # Errors
    /// Anything that [`AgentFrame::encode`] would not have written; the peer is then told and the link closed.
    pub fn decode(frame: &[u8]) -> Result<Option<Self>, FrameError> {
        let (kind, mut body) = Reader::new(frame)?;
        let frame = match kind {
            kind::HELLO => Self::Hello(Hello::decode(&mut body)?),
            kind::PING => Self::Ping(Ping { sent_at: body.boot()? }),
            kind::ACK => Self::Ack(Ack::decode(&mut body)?),
            kind::WITHDRAWN => Self::Withdrawn(Withdrawn::decode(&mut body)?),
            kind::OFFERED => Self::Offered(Offered::decode(&mut body)?),
            kind::HOST_KEYS => Self::HostKeys(ReportedHostKeys::decode(&mut body)?),
            kind::HOST_FACTS => Self::HostFacts(Box::new(HostFacts::decode(&mut body)?)),
            kind::RENEW => Self::Renew(Renew { request: body.text16("certificate request")? }),
            kind::KEY_USE => Self::KeyUse(KeyUse::decode(&mut body)?),
            kind::EXPIRED_UNUSED => Self::ExpiredUnused(ExpiredUnused::decode(&mut body)?),
            kind::GUEST_REPORT => Self::GuestReport(GuestReport::decode(&mut body)?),
            kind::ANCHORS => Self::Anchors(HeldAnchors { set: body.u32()?, sha256: body.hash()? }),
            kind::LINES => Self::Lines(ReportedLines::decode(&mut body)?),
            kind::STREAM_REFUSED => Self::StreamRefused(StreamRefused::decode(&mut body)?),
            kind::GOODBYE => Self::Goodbye(Goodbye::decode(&mut body)?),
            kind if kind::is_critical(kind) => return Err(FrameError::UnknownCritical(kind)),
            _ => return Ok(None),
        };
        body.finish()?;
        Ok(Some(frame))
    }
}

impl ServerFrame {
    /// The frame's bytes: one binary WebSocket message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Welcome(welcome) => welcome.encode(),
            Self::Pong(pong) => Writer::new(kind::PONG).boot(pong.sent_at).server(pong.server_time).finish(),
            Self::Signer(signer) => Writer::new(kind::SIGNER).text16(signer.statement.as_str()).finish(),
            Self::Grant(grant) => grant.encode(),
            Self::Withdraw(withdraw) => withdraw.encode(),
            Self::Renew => Writer::new(kind::RENEW).finish(),
            Self::Renewed(renewed) => renewed.encode(),
            Self::Anchors(set) => Writer::new(kind::ANCHORS).text16(set.as_str()).finish(),
            Self::StockSigners(signers) => signers.encode(kind::STOCK_SIGNERS),
            Self::Instance(facts) => facts.encode(kind::INSTANCE),
            Self::OpenStream(open) => open.encode(kind::OPEN_STREAM),
            Self::Goodbye(goodbye) => goodbye.encode(),
        }
    }

    /// Reads a frame as an agent receives it. `None` for an optional frame it does not know.
    ///
    /// # Errors
    /// Anything that [`ServerFrame::encode`] would not have written; the peer is then told and the link closed.
    pub fn decode(frame: &[u8]) -> Result<Option<Self>, FrameError> {
        let (kind, mut body) = Reader::new(frame)?;
        let frame = match kind {
            kind::WELCOME => Self::Welcome(Welcome::decode(&mut body)?),
            kind::PONG => Self::Pong(Pong { sent_at: body.boot()?, server_time: body.server()? }),
            kind::SIGNER => Self::Signer(Signer { statement: body.text16("statement")? }),
            kind::GRANT => Self::Grant(Grant::decode(&mut body)?),
            kind::TWINNED_GRANT => Self::Grant(Grant::decode_twinned(&mut body)?),
            kind::WITHDRAW => Self::Withdraw(Withdraw::decode(&mut body)?),
            kind::RENEW => Self::Renew,
            kind::RENEWED => Self::Renewed(Renewed::decode(&mut body)?),
            kind::ANCHORS => Self::Anchors(body.text16("anchor set")?),
            kind::STOCK_SIGNERS => Self::StockSigners(StockSigners::decode(&mut body)?),
            kind::INSTANCE => Self::Instance(InstanceFacts::decode(&mut body)?),
            kind::OPEN_STREAM => Self::OpenStream(OpenStream::decode(&mut body)?),
            kind::GOODBYE => Self::Goodbye(Goodbye::decode(&mut body)?),
            kind if kind::is_critical(kind) => return Err(FrameError::UnknownCritical(kind)),
            _ => return Ok(None),
        };
        body.finish()?;
        Ok(Some(frame))
    }
}

impl Hello {
    fn encode(&self) -> Vec<u8> {
        Writer::new(kind::HELLO)
            .u8(self.version_min)
            .u8(self.version_max)
            .u32(self.capabilities.0)
            .boot(self.sent_at)
            .uuid(self.boot_id.as_str())
            .text8(self.agent_version.as_str())
            .finish()
    }

    fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        let hello = Self {
            version_min: body.u8()?,
            version_max: body.u8()?,
            capabilities: Capabilities(body.u32()?),
            sent_at: body.boot()?,
            boot_id: body.uuid("boot id")?,
            agent_version: body.text8("agent version")?,
        };
        let in_order = hello.version_min <= hello.version_max;
        if in_order { Ok(hello) } else { Err(FrameError::Malformed("version range")) }
    }

    /// The protocol version for a link with this agent: the highest both sides speak.
    pub fn common_version(&self) -> Option<u8> {
        let highest = self.version_max.min(limits::VERSION_MAX);
        (highest >= self.version_min.max(limits::VERSION_MIN)).then_some(highest)
    }
}

impl Welcome {
    fn encode(&self) -> Vec<u8> {
        Writer::new(kind::WELCOME)
            .u8(self.version)
            .u32(self.capabilities.0)
            .boot(self.sent_at)
            .server(self.server_time)
            .uuid(self.server_clock.as_str())
            .text8(self.server_version.as_str())
            .finish()
    }

    fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self {
            version: body.u8()?,
            capabilities: Capabilities(body.u32()?),
            sent_at: body.boot()?,
            server_time: body.server()?,
            server_clock: body.uuid("server clock")?,
            server_version: body.text8("server version")?,
        })
    }
}

impl Grant {
    fn encode(&self) -> Vec<u8> {
        let terms =
            |kind| Writer::new(kind).u64(self.id.0).server(self.deadline).text16(self.document.as_str());
        if self.twins.is_empty() {
            return terms(kind::GRANT).finish();
        }
        Twin::encode_all(&self.twins, terms(kind::TWINNED_GRANT)).finish()
    }

    fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        let (id, deadline) = (GrantId(body.u64()?), body.server()?);
        Ok(Self { id, deadline, document: body.text16("document")?, twins: Vec::new() })
    }

    fn decode_twinned(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        let grant = Self::decode(body)?;
        match Twin::decode_all(body)? {
            twins if twins.is_empty() => Err(FrameError::Malformed("signature count")),
            twins => Ok(Self { twins, ..grant }),
        }
    }
}

impl Ack {
    fn encode(self) -> Vec<u8> {
        let (outcome, detail) = match self.outcome {
            AckOutcome::Installed { os_user_exists } => (0, u8::from(!os_user_exists)),
            AckOutcome::Refused(refusal) => (1, refusal.code()),
        };
        Writer::new(kind::ACK).u64(self.id.0).u8(outcome).u8(detail).finish()
    }

    fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        let id = GrantId(body.u64()?);
        let outcome = match (body.u8()?, body.u8()?) {
            (0, 0) => AckOutcome::Installed { os_user_exists: true },
            (0, 1) => AckOutcome::Installed { os_user_exists: false },
            (1, reason) => AckOutcome::Refused(Refusal::from_code(reason)),
            _ => return Err(FrameError::Malformed("ack outcome")),
        };
        Ok(Self { id, outcome })
    }
}

impl Withdraw {
    fn encode(&self) -> Vec<u8> {
        Writer::new(kind::WITHDRAW)
            .u64(self.id.0)
            .uuid(self.request_id.as_str())
            .fingerprint(&self.fingerprint)
            .text8(self.os_user.as_str())
            .finish()
    }

    fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self {
            id: WithdrawId(body.u64()?),
            request_id: body.uuid("request id")?,
            fingerprint: body.fingerprint()?,
            os_user: body.text8("OS user")?,
        })
    }
}

impl Withdrawn {
    fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        let id = WithdrawId(body.u64()?);
        match body.u8()? {
            0 => Ok(Self { id, removed: false }),
            1 => Ok(Self { id, removed: true }),
            _ => Err(FrameError::Malformed("withdrawn outcome")),
        }
    }
}

impl ReportedHostKeys {
    fn encode(&self) -> Vec<u8> {
        let lines = self.lines.iter().take(limits::HOST_KEYS);
        let writer = Writer::new(kind::HOST_KEYS).count(lines.len());
        lines.fold(writer, |writer, line| writer.text16(line.as_str())).finish()
    }

    fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        let count = body.count(limits::HOST_KEYS, "host key count")?;
        let lines = (0..count).map(|_| body.text16("host key")).collect::<Result<_, _>>()?;
        Ok(Self { lines })
    }
}

impl Renewed {
    fn encode(&self) -> Vec<u8> {
        Writer::new(kind::RENEWED).text16(self.chain.as_str()).text16(self.server_ca.as_str()).finish()
    }

    fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self { chain: body.text16("certificate chain")?, server_ca: body.text16("server CA")? })
    }
}

impl Goodbye {
    fn encode(&self) -> Vec<u8> {
        Writer::new(kind::GOODBYE).u8(self.code.code()).text8(self.text.as_str()).finish()
    }

    fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self { code: GoodbyeCode::from_code(body.u8()?), text: body.text8("goodbye text")? })
    }
}
