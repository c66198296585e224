//! The audit log's lines: records in CloudTrail's shape (wire.md 8) and what is ours beside them (docs/audit.md), as
//! text. Where they are kept is the server's business.

mod chain;
mod console;
mod finished;
mod line;
mod lookup;
mod operator;
mod own;
mod proof;
mod recovery;
mod request;
mod sampling;
mod shape;
#[cfg(test)]
mod tests;

pub use chain::{Chain, ChainValue, NotAChainValue, Tie};
pub use console::{ConsoleEvent, ConsoleVisit, console_event};
pub use finished::{FinishedFile, LogNames, NotAFinishedFile};
pub use line::Line;
pub use lookup::{AttributeKey, Event, EventFilter, LogPosition, NotALogPosition, parse_time};
pub use operator::{OperatorAction, OperatorEvent};
pub use own::{
    CloneEvidence, LinkClaim, Refused, ShownBy, enrolment, host_facts_report, host_key_report, refusal,
    refusal_counts, renewal, suspension,
};
pub use proof::{Proof, proof};
pub use recovery::{OpenIntents, OpenIntentsError};
pub use request::{AuditedRequest, Outcome, Parameters};
pub use sampling::{RefusalCounts, Sampler, Share};
