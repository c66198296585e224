//! Why would a login with a pushed key fail on this machine? `doctor` looks at everything between a push and a shell, and
//! says in plain words what it found, why that matters and what mends it.
//!
//! `survey` looks; the other modules judge what was seen, without looking themselves.

mod account;
mod agent;
mod check;
mod metadata;
mod record;
mod sshd;
mod survey;
mod units;

pub use check::Diagnosis;

use instance_connect_core::document::UnixSeconds;
use units::UnitFacts;

/// Looks at this machine, and at one of its accounts if one is named.
///
/// Everything is seen by root only; what others cannot see comes as a note.
pub async fn doctor(os_user: Option<String>, now: UnixSeconds) -> Diagnosis {
    let facts = survey::survey(os_user.as_deref(), now).await;
    let mut checks = facts.sshd.checks(os_user.as_deref());
    checks.extend(facts.agent.checks());
    checks.extend(facts.units.iter().flat_map(UnitFacts::checks));
    let effective = facts.sshd.effective.as_ref().and_then(|effective| effective.as_ref().ok());
    if let Some(metadata) = &facts.metadata {
        checks.extend(metadata.checks(facts.sshd.asks_scripts()));
    }
    checks.extend(facts.record.checks(effective));
    if let Some(account) = &facts.account {
        checks.extend(account.checks(effective));
    }
    Diagnosis::new(os_user, checks)
}
