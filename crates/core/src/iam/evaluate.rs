//! The decision: an explicit Deny anywhere refuses; else the root may; else identity policies and boundary have to allow.

use super::policy::Policy;
use super::request::{AccessRequest, Context};
use super::statement::{Effect, Statement};
use crate::inventory::UserKind;
use instance_connect_planted::planted;
use std::fmt;
use std::iter;

/// What kind of policy one is, by what it is to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// The caller's own, one attached to it, or one of its groups.
    IdentityBased,
    /// The caller's permissions boundary.
    PermissionsBoundary,
}

/// A statement that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementRef {
    /// The kind of policy.
    pub kind: PolicyKind,
    /// The policy's name.
    pub policy: String,
    /// The statement's `Sid`, or `#` and its position in the policy, from 0.
    pub statement: String,
}

/// The answer to an [`AccessRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// Allowed by this statement of an identity policy, and not denied. `None` for the root, which needs no Allow.
    Allowed(Option<StatementRef>),
    /// Denied.
    Denied(Denial),
}

/// Why a request is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// This statement denies it, whatever others allow.
    Explicit(StatementRef),
    /// No statement of this kind of policy allows it.
    Implicit(PolicyKind),
}

/// Judges a request by the caller's policies and boundary.
///
/// It takes time linear in the number of statements, and allocates only for the request and the answer.
pub fn evaluate(request: &AccessRequest<'_>) -> Decision {
    let context = Context::new(request);
    let caller = request.caller;
    let identity = Verdict::of(caller.policies.iter().map(AsRef::as_ref), &context);
    let boundary = caller.boundary.as_deref().filter(|_| !planted("boundary-ignored"));
    let boundary = boundary.map(|boundary| Verdict::of(iter::once(boundary), &context));
    match (identity, boundary) {
        (Verdict::Denied(by), _) => {
            Decision::Denied(Denial::Explicit(by.reference(PolicyKind::IdentityBased)))
        }
        (_, Some(Verdict::Denied(by))) => {
            Decision::Denied(Denial::Explicit(by.reference(PolicyKind::PermissionsBoundary)))
        }
        (Verdict::Allowed(_) | Verdict::Silent, _) if caller.kind == UserKind::Root => {
            Decision::Allowed(None)
        }
        (Verdict::Silent, _) => Decision::Denied(Denial::Implicit(PolicyKind::IdentityBased)),
        (Verdict::Allowed(_), Some(Verdict::Silent)) => {
            Decision::Denied(Denial::Implicit(PolicyKind::PermissionsBoundary))
        }
        (Verdict::Allowed(by), None | Some(Verdict::Allowed(_))) => {
            Decision::Allowed(Some(by.reference(PolicyKind::IdentityBased)))
        }
    }
}

/// What policies of one kind say together.
enum Verdict<'p> {
    Denied(Found<'p>),
    Allowed(Found<'p>),
    Silent,
}

impl<'p> Verdict<'p> {
    fn of(policies: impl Iterator<Item = &'p Policy>, context: &Context<'_>) -> Self {
        let mut allowed = None;
        for policy in policies {
            for statement in policy.statements() {
                if statement.judge(context).is_err() {
                    continue;
                }
                match statement.effect {
                    Effect::Deny if allowed.is_some() && planted("allow-beats-deny") => {}
                    Effect::Deny => return Self::Denied(Found { policy, statement }),
                    Effect::Allow => allowed = allowed.or(Some(Found { policy, statement })),
                }
            }
        }
        allowed.map_or(Self::Silent, Self::Allowed)
    }
}

/// A statement that matches, in its policy.
#[derive(Clone, Copy)]
pub(super) struct Found<'p> {
    pub(super) policy: &'p Policy,
    pub(super) statement: &'p Statement,
}

impl Found<'_> {
    pub(super) fn reference(self, kind: PolicyKind) -> StatementRef {
        StatementRef { kind, policy: self.policy.name().to_owned(), statement: self.statement.name.clone() }
    }
}

/// AWS's words for it (wire.md 1.7).
impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IdentityBased => "identity-based policy",
            Self::PermissionsBoundary => "permissions boundary",
        })
    }
}

impl fmt::Display for StatementRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}, statement {}", self.kind, self.policy, self.statement)
    }
}
