//! A decision, statement by statement, for operators who ask why.

use super::evaluate::{Decision, Denial, Found, PolicyKind, StatementRef, evaluate};
use super::key::ConditionKey;
use super::policy::Policy;
use super::request::{AccessRequest, Context};
use super::statement::{Effect, Mismatch};
use std::fmt;

/// What each statement said of a request, and what came of it.
///
/// Its [`Display`](fmt::Display) is for operators: one line for each statement. Texts of the request are quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The caller's ARN.
    pub caller: String,
    /// The action's name.
    pub action: &'static str,
    /// The resource's ARN.
    pub resource: String,
    /// The decision that [`evaluate`] makes.
    pub decision: Decision,
    /// Every statement: those of the identity policies, then those of the boundary.
    pub statements: Vec<StatementExplanation>,
}

/// What one statement said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementExplanation {
    /// Which one.
    pub statement: StatementRef,
    /// Its effect where it matches.
    pub effect: Effect,
    /// Whether it matches.
    pub outcome: Outcome,
}

/// Whether a statement matches, and if not, which part of it is the first that does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It matches.
    Matches,
    /// It is not about the action.
    OtherAction,
    /// It is not about the resource.
    OtherResource {
        /// A policy variable of it that stands for nothing.
        unresolved: Option<String>,
    },
    /// A condition does not hold.
    ConditionFails {
        /// The condition as written: operator, key and values.
        condition: String,
        /// What the request has for the key: nothing, one value, or those of tags that differ in case only.
        seen: Vec<String>,
        /// A policy variable of it that stands for nothing.
        unresolved: Option<String>,
    },
}

/// Explains what [`evaluate`] decides: what each statement of the caller's policies and boundary says, in their order.
///
/// ```
/// use instance_connect_core::document::UnixSeconds;
/// use instance_connect_core::iam::{AccessRequest, Outcome, Policy, RequestedAction, explain};
/// use instance_connect_core::inventory::{Status, User, UserKind};
/// use instance_connect_core::origin::Origin;
/// use std::{collections::BTreeMap, sync::Arc};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let push = r#"{"Statement": {"Sid": "Push", "Effect": "Allow", "Action": "*", "Resource": "*"}}"#;
/// let limit = r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*",
///     "Condition": {"StringEquals": {"ec2:osuser": "deploy"}}}}"#;
/// let alice = User {
///     kind: UserKind::IamUser,
///     id: "AIDAEXAMPLEEXAMPLE01".parse()?,
///     account: "111122223333".parse()?,
///     name: "alice".parse()?,
///     status: Status::Active,
///     tags: BTreeMap::new(),
///     policies: vec![Arc::new(Policy::parse("push", push)?)],
///     boundary: Some(Arc::new(Policy::parse("limit", limit)?)),
/// };
/// let explanation = explain(&AccessRequest {
///     caller: &alice,
///     action: RequestedAction::SendSshPublicKey { os_user: &"root".parse()? },
///     resource: "arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0",
///     resource_tags: None,
///     region: &"us-east-1".parse()?,
///     origin: &Origin {
///         request: "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse()?,
///         time: UnixSeconds(1_928_541_906),
///         source: "192.0.2.1".parse()?,
///         user_agent: String::new(),
///         tls: None,
///     },
/// });
/// assert_eq!(explanation.statements[0].outcome, Outcome::Matches);
/// assert_eq!(
///     explanation.to_string(),
///     r#"Denied: no permissions boundary allows it.
/// arn:aws:iam::111122223333:user/alice asks for ec2-instance-connect:SendSSHPublicKey on arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0.
/// - identity-based policy "push", statement Push (Allow): matches
/// - permissions boundary "limit", statement #0 (Allow): does not match, StringEquals ec2:osuser ["deploy"] does not hold: the request has "root"
/// "#
/// );
/// # Ok(())
/// # }
/// ```
pub fn explain(request: &AccessRequest<'_>) -> Explanation {
    let context = Context::new(request);
    let caller = request.caller;
    let of_policy = |kind: PolicyKind, policy: &Policy| -> Vec<StatementExplanation> {
        let explained = policy.statements().iter().map(|statement| StatementExplanation {
            statement: Found { policy, statement }.reference(kind),
            effect: statement.effect,
            outcome: Outcome::of(statement.judge(&context), &context),
        });
        explained.collect()
    };
    let identity = caller.policies.iter().flat_map(|policy| of_policy(PolicyKind::IdentityBased, policy));
    let boundary =
        caller.boundary.iter().flat_map(|policy| of_policy(PolicyKind::PermissionsBoundary, policy));
    Explanation {
        caller: context.principal_arn.clone(),
        action: request.action.action().as_str(),
        resource: request.resource.to_owned(),
        decision: evaluate(request),
        statements: identity.chain(boundary).collect(),
    }
}

impl Explanation {
    /// The Denies that do not match for a policy variable that stands for nothing. Their author may have meant them to:
    /// a default would say what it stands for then, and a negated operator denies.
    pub fn unresolved_denies(&self) -> impl Iterator<Item = &StatementExplanation> {
        let blames = |explained: &&StatementExplanation| match &explained.outcome {
            Outcome::Matches | Outcome::OtherAction => false,
            Outcome::OtherResource { unresolved } | Outcome::ConditionFails { unresolved, .. } => {
                unresolved.is_some()
            }
        };
        self.statements.iter().filter(|explained| explained.effect == Effect::Deny).filter(blames)
    }
}

impl Outcome {
    fn of(judged: Result<(), Mismatch<'_>>, context: &Context<'_>) -> Self {
        let name = |key: &ConditionKey| format!("${{{key}}}");
        match judged {
            Ok(()) => Self::Matches,
            Err(Mismatch::Action) => Self::OtherAction,
            Err(Mismatch::Resource { unresolved }) => {
                Self::OtherResource { unresolved: unresolved.map(|variable| name(variable.key())) }
            }
            Err(Mismatch::Condition { condition, unresolved }) => Self::ConditionFails {
                condition: condition.to_string(),
                seen: condition.seen(context).map(str::to_owned).collect(),
                unresolved: unresolved.map(|variable| name(variable.key())),
            },
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { caller, action, resource, decision, statements } = self;
        match decision {
            Decision::Allowed(Some(by)) => writeln!(f, "Allowed by {by}.")?,
            Decision::Allowed(None) => writeln!(f, "Allowed: the root may do what no statement denies.")?,
            Decision::Denied(Denial::Explicit(by)) => writeln!(f, "Denied by {by}.")?,
            Decision::Denied(Denial::Implicit(kind)) => writeln!(f, "Denied: no {kind} allows it.")?,
        }
        writeln!(f, "{caller} asks for {action} on {resource}.")?;
        for StatementExplanation { statement, effect, outcome } in statements {
            writeln!(f, "- {statement} ({effect:?}): {outcome}")?;
        }
        for StatementExplanation { statement, .. } in self.unresolved_denies() {
            writeln!(
                f,
                "Warning: {statement} cannot deny this, because a policy variable stands for nothing."
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unresolved = match self {
            Self::Matches => return f.write_str("matches"),
            Self::OtherAction => return f.write_str("is not about the action"),
            Self::OtherResource { unresolved } => {
                f.write_str("is not about the resource")?;
                unresolved
            }
            Self::ConditionFails { condition, seen, unresolved } => {
                write!(f, "does not match, {condition} does not hold: the request has ")?;
                match seen.as_slice() {
                    [] => f.write_str("no such key")?,
                    [seen] => write!(f, "{seen:?}")?,
                    several => write!(f, "{several:?} in tags that differ in case only")?,
                }
                unresolved
            }
        };
        match unresolved {
            Some(variable) => write!(f, "; {variable} stands for nothing"),
            None => Ok(()),
        }
    }
}
