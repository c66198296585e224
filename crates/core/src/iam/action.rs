//! The actions of this service, and which of them a statement is about.

use super::pattern::{Pattern, Syntax};

/// An action that policies allow or deny (wire.md 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Push a key for one OS user of one instance.
    SendSshPublicKey,
    /// Push a key for an instance's serial console.
    SendSerialConsoleSshPublicKey,
    /// Open a tunnel through an endpoint.
    OpenTunnel,
}

/// The part of an action's name before the colon.
const SERVICE: &str = "ec2-instance-connect";

impl Action {
    /// Every action there is.
    pub const ALL: [Self; 3] =
        [Self::SendSshPublicKey, Self::SendSerialConsoleSshPublicKey, Self::OpenTunnel];

    /// Its name, as in policies and denials.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SendSshPublicKey => "ec2-instance-connect:SendSSHPublicKey",
            Self::SendSerialConsoleSshPublicKey => "ec2-instance-connect:SendSerialConsoleSSHPublicKey",
            Self::OpenTunnel => "ec2-instance-connect:OpenTunnel",
        }
    }

    /// What stands behind the colon.
    fn name(self) -> &'static str {
        self.as_str().split_once(':').map_or("", |(_, name)| name)
    }

    /// The type of the resources that it is about, as in their ARNs.
    pub(super) const fn resource_type(self) -> &'static str {
        match self {
            Self::SendSshPublicKey | Self::SendSerialConsoleSshPublicKey => "instance",
            Self::OpenTunnel => "instance-connect-endpoint",
        }
    }
}

/// Whether every action that these patterns stand for is one of this service.
pub(super) fn are_of_this_service(patterns: &[String]) -> bool {
    patterns.iter().all(|pattern| {
        pattern.split_once(':').is_some_and(|(service, _)| service.eq_ignore_ascii_case(SERVICE))
    })
}

/// Some of our actions. What a policy says of the actions of other services concerns nobody here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ActionSet(u8);

impl ActionSet {
    pub(super) const NONE: Self = Self(0);
    pub(super) const ALL: Self = Self((1 << Action::ALL.len()) - 1);

    pub(super) const fn only(action: Action) -> Self {
        Self(1 << action as u8)
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
        let names: Vec<&str> =
            Action::ALL.into_iter().filter(|&action| self.contains(action)).map(Action::as_str).collect();
        names.join(", ")
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
            return Err(format!("{text:?} is no action; write \"*\", or service:Name such as {SERVICE}:*"));
        }
        // Actions compare without regard to case.
        let pattern =
            Pattern::parse(&text.to_ascii_lowercase(), Syntax { wildcards: true, variables: false })?;
        let matched = Action::ALL
            .into_iter()
            .filter(|action| pattern.matches_text(&action.as_str().to_ascii_lowercase()))
            .fold(Self::NONE, |all, action| all.with(Self::only(action)));
        if matched.is_empty() && service.eq_ignore_ascii_case(SERVICE) {
            return Err(format!("{text:?} is no action; {SERVICE} has {}", Self::ALL.names()));
        }
        if let Some(meant) = Action::ALL.into_iter().find(|meant| name.eq_ignore_ascii_case(meant.name()))
            && matched.is_empty()
        {
            return Err(format!("{text:?} is no action; write {}", meant.as_str()));
        }
        Ok(matched)
    }
}
