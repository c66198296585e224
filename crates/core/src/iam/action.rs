//! Our actions, and which of them a statement is about.

use super::pattern::{Pattern, Syntax};
use crate::administration::{self, Operation};
use crate::query;

/// An action that policies allow or deny (wire.md 7.1, 7.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Push a key for one OS user of one instance.
    SendSshPublicKey,
    /// Push a key for an instance's serial console.
    SendSerialConsoleSshPublicKey,
    /// Open a tunnel through an endpoint.
    OpenTunnel,
    /// Administer an account.
    Administer(Operation),
    /// One of EC2's.
    Query(query::Operation),
}

/// The parts before the colon of the names that are ours alone. Of EC2's and STS's actions others are not ours, and what a
/// policy says of those concerns nobody here.
const SERVICES: [&str; 2] = ["ec2-instance-connect", administration::SERVICE];

/// What an action is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceType {
    /// `arn:aws:ec2:<region>:<account>:instance/<id>`
    Instance,
    /// `arn:aws:ec2:<region>:<account>:instance-connect-endpoint/<id>`
    InstanceConnectEndpoint,
    /// `arn:aws:iam::<account>:user/<name>`
    User,
    /// `arn:aws:iam::<account>:group/<name>`
    Group,
    /// `arn:aws:iam::<account>:policy/<name>`
    Policy,
    /// `arn:aws:instance-connect::<account>:account`
    Account,
    /// Nothing in particular: `*`.
    Any,
}

impl ResourceType {
    /// A pattern of all there are: the form of its ARNs.
    pub(super) const fn pattern(self) -> &'static str {
        match self {
            Self::Instance => "arn:aws:ec2:*:*:instance/*",
            Self::InstanceConnectEndpoint => "arn:aws:ec2:*:*:instance-connect-endpoint/*",
            Self::User => "arn:aws:iam::*:user/*",
            Self::Group => "arn:aws:iam::*:group/*",
            Self::Policy => "arn:aws:iam::*:policy/*",
            Self::Account => "arn:aws:instance-connect::*:account",
            Self::Any => "*",
        }
    }
}

/// The pushes and the tunnel: those of AWS's own service.
const OF_AWS: [Action; 3] =
    [Action::SendSshPublicKey, Action::SendSerialConsoleSshPublicKey, Action::OpenTunnel];

impl Action {
    /// Every action there is.
    pub fn all() -> impl Iterator<Item = Self> {
        let administration = Operation::ALL.iter().copied().map(Self::Administer);
        let query = query::Operation::ALL.iter().copied().filter(|operation| operation.is_judged());
        OF_AWS.into_iter().chain(administration).chain(query.map(Self::Query))
    }

    /// Its name, as in policies and denials.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SendSshPublicKey => "ec2-instance-connect:SendSSHPublicKey",
            Self::SendSerialConsoleSshPublicKey => "ec2-instance-connect:SendSerialConsoleSSHPublicKey",
            Self::OpenTunnel => "ec2-instance-connect:OpenTunnel",
            Self::Administer(operation) => operation.action(),
            Self::Query(operation) => operation.action(),
        }
    }

    /// What stands behind the colon.
    fn name(self) -> &'static str {
        self.as_str().split_once(':').map_or("", |(_, name)| name)
    }

    /// What it is about.
    pub(super) const fn resource_type(self) -> ResourceType {
        match self {
            Self::SendSshPublicKey | Self::SendSerialConsoleSshPublicKey => ResourceType::Instance,
            Self::OpenTunnel => ResourceType::InstanceConnectEndpoint,
            Self::Administer(operation) => operation.resource_type(),
            Self::Query(operation) => operation.resource_type(),
        }
    }

    /// Its place in an [`ActionSet`].
    const fn position(self) -> usize {
        match self {
            Self::SendSshPublicKey => 0,
            Self::SendSerialConsoleSshPublicKey => 1,
            Self::OpenTunnel => 2,
            Self::Administer(operation) => OF_AWS.len() + operation as usize,
            Self::Query(operation) => OF_AWS.len() + Operation::ALL.len() + operation as usize,
        }
    }
}

/// Whether every action that these patterns stand for is one of ours.
pub(super) fn are_ours(patterns: &[String]) -> bool {
    let is_ours = |service: &str| SERVICES.iter().any(|ours| service.eq_ignore_ascii_case(ours));
    patterns.iter().all(|pattern| pattern.split_once(':').is_some_and(|(service, _)| is_ours(service)))
}

/// Some of our actions. What a policy says of the actions of other services concerns nobody here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ActionSet(u128);

/// Names in one message: more of them tell nobody anything.
const NAMES: usize = 4;

impl ActionSet {
    pub(super) const NONE: Self = Self(0);
    pub(super) const ALL: Self = {
        let actions = OF_AWS.len() + Operation::ALL.len() + query::Operation::ALL.len();
        assert!(actions < 128, "an action needs a bit of its own");
        let [ours, ec2] = [Self::of(Operation::ALL), Self::of_query(query::Operation::ALL)];
        Self(((1 << OF_AWS.len()) - 1) | ours.0 | ec2.0)
    };

    pub(super) const fn only(action: Action) -> Self {
        Self(1 << action.position())
    }

    /// These operations.
    pub(super) const fn of(operations: &[Operation]) -> Self {
        let (mut bits, mut rest) = (0, operations);
        while let [operation, others @ ..] = rest {
            bits |= 1 << Action::Administer(*operation).position();
            rest = others;
        }
        Self(bits)
    }

    /// These operations of the query protocol, as far as policies are asked about them.
    pub(super) const fn of_query(operations: &[query::Operation]) -> Self {
        let (mut bits, mut rest) = (0, operations);
        while let [operation, others @ ..] = rest {
            if operation.is_judged() {
                bits |= 1 << Action::Query(*operation).position();
            }
            rest = others;
        }
        Self(bits)
    }

    pub(super) fn contains(self, action: Action) -> bool {
        self.0 & Self::only(action).0 != 0
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Their names, for messages.
    pub(super) fn names(self) -> String {
        let all: Vec<&str> =
            Action::all().filter(|&action| self.contains(action)).map(Action::as_str).collect();
        match all.get(..NAMES) {
            Some(first) if all.len() > NAMES => {
                format!("{} and {} more", first.join(", "), all.len() - NAMES)
            }
            _ => all.join(", "),
        }
    }

    /// Those of our actions that the patterns of an `Action` or `NotAction` element stand for. That is known when the
    /// policy is loaded, so an evaluation compares no action's name.
    ///
    /// # Errors
    /// A pattern that is no action's, in words for the author.
    pub(super) fn matched_by(patterns: &[String]) -> Result<Self, String> {
        patterns.iter().try_fold(Self::NONE, |all, pattern| Ok(all.with(Self::matched_by_one(pattern)?)))
    }

    fn matched_by_one(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::ALL);
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'*' | b'?');
        let (service, name) = text.split_once(':').unwrap_or_default();
        if service.is_empty() || name.is_empty() || !service.bytes().chain(name.bytes()).all(fits) {
            return Err(format!(
                "{text:?} is no action; write \"*\", or service:Name such as ec2-instance-connect:*"
            ));
        }
        // Actions compare without regard to case.
        let pattern =
            Pattern::parse(&text.to_ascii_lowercase(), Syntax { wildcards: true, variables: false })?;
        let matched = Action::all()
            .filter(|action| pattern.matches_text(&action.as_str().to_ascii_lowercase()))
            .fold(Self::NONE, |all, action| all.with(Self::only(action)));
        if matched.is_empty()
            && let Some(ours) = SERVICES.into_iter().find(|ours| service.eq_ignore_ascii_case(ours))
        {
            let of_it = Action::all().filter(|action| action.as_str().split(':').next() == Some(ours));
            let of_it = of_it.fold(Self::NONE, |all, action| all.with(Self::only(action)));
            return Err(format!("{text:?} is no action; {ours} has {}", of_it.names()));
        }
        if let Some(meant) = OF_AWS.into_iter().find(|meant| name.eq_ignore_ascii_case(meant.name()))
            && matched.is_empty()
        {
            return Err(format!("{text:?} is no action; write {}", meant.as_str()));
        }
        Ok(matched)
    }
}
