//! The link between an agent and the control plane, as decisions: frames and their codec, the agent's side of the
//! conversation, waiting before a reconnect, identities and enrolment. `docs/link.md` is the specification; sockets
//! and files are in `agent` and `server`.

mod admission;
mod agent;
mod backoff;
mod clock_watch;
mod codec;
mod codes;
mod enroll;
mod facts;
mod frame;
mod identity;
mod key_uses;
pub mod limits;
mod live;
mod renewal;
mod report;
mod stock;
mod streams;
#[cfg(test)]
mod tests;
mod text;
mod token;

pub use admission::{Admitted, MachineTerms, Signers, Withdrawals, admit};
pub use agent::{AgentEvent, AgentFacts, AgentLink};
pub use backoff::{Backoff, BackoffSettings};
pub use clock_watch::ClockWatch;
pub use codec::FrameError;
pub(crate) use codes::codes;
pub use codes::{Capabilities, GoodbyeCode, Refusal, StreamRefusal};
pub use enroll::{
    AnswerError, ENROLL_PATH, EnrollAnswer, EnrollError, EnrollErrorCode, EnrollRequest, LINK_PATH,
    UnknownErrorCode,
};
pub use frame::{
    Ack, AckOutcome, AgentFrame, Goodbye, Grant, GrantId, HeldAnchors, Hello, Ping, Pong, Renew, Renewed,
    ReportedHostKeys, ServerFrame, Signer, Welcome, Withdraw, WithdrawId, Withdrawn,
};
pub use identity::{AgentUrn, AgentUrnError};
pub use key_uses::KeyUses;
pub use live::LiveIndex;
pub use renewal::renewal_due;
pub use report::{ExpiredUnused, GuestKey, GuestReport, KeyUse, Offered, UseEvent};
pub use stock::{
    Domain, InstanceFacts, Staple, StapleBytes, StapleName, StockChain, StockSigner, StockSigners, Twin,
    TwinSignature,
};
pub use streams::{
    LineMode, OpenStream, OwnedLine, ReportedLines, STREAM_PATH, STREAM_PROTOCOL, StreamId, StreamRefused,
    StreamTicket, TICKET_HEADER,
};
pub use text::{
    AnchorSetText, CertificatesPem, DocumentText, GoodbyeText, HostKeyText, Line, Lines, RequestPem,
    StatementText, TextError, VersionText,
};
pub use token::{JoinTokenText, TokenError};
