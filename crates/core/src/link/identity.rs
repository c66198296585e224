//! Who an agent is, as its certificate says it.

use crate::ids::{AccountId, InstanceId, Region};
use instance_connect_document::decimal;
use std::fmt;
use std::str::FromStr;

/// The name in an agent's certificate: `urn:instance-connect:<region>:<account>:agent:<instance-id>:<generation>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentUrn {
    /// The region, which is the cell.
    pub region: Region,
    /// The account that owns the instance.
    pub account: AccountId,
    /// The instance the agent speaks for.
    pub instance: InstanceId,
    /// Which of the instance's certificates this is, from 1: each enrolment and each renewal raises it.
    pub generation: u64,
}

/// Why a text is not an agent's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an agent is urn:instance-connect:<region>:<account>:agent:<instance-id>:<generation>")]
pub struct AgentUrnError;

impl fmt::Display for AgentUrn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, account, instance, generation } = self;
        write!(f, "urn:instance-connect:{region}:{account}:agent:{instance}:{generation}")
    }
}

impl FromStr for AgentUrn {
    type Err = AgentUrnError;

    /// Takes exactly what `Display` writes: a name has one spelling.
    fn from_str(text: &str) -> Result<Self, AgentUrnError> {
        let rest = text.strip_prefix("urn:instance-connect:").ok_or(AgentUrnError)?;
        let mut parts = rest.split(':');
        let mut next = || parts.next().ok_or(AgentUrnError);
        let region = next()?.parse().map_err(|_| AgentUrnError)?;
        let account = next()?.parse().map_err(|_| AgentUrnError)?;
        let class = next()?;
        let instance = next()?.parse().map_err(|_| AgentUrnError)?;
        let generation = generation(next()?).ok_or(AgentUrnError)?;
        if class != "agent" || parts.next().is_some() {
            return Err(AgentUrnError);
        }
        Ok(Self { region, account, instance, generation })
    }
}

fn generation(text: &str) -> Option<u64> {
    decimal::parse(text).filter(|generation| *generation > 0)
}

#[cfg(test)]
mod tests {
    use super::AgentUrn;

    #[test]
    fn one_spelling() {
        let text =
            "urn:instance-connect:us-east-1:123456789012:agent:i-0123456789abcdef0:18446744073709551615";
        let urn: AgentUrn = text.parse().unwrap();
        assert_eq!(urn.generation, u64::MAX);
        assert_eq!(urn.to_string(), text);
        for text in [
            "",
            "urn:instance-connect:us-east-1:123456789012:agent:i-0123456789abcdef0",
            "urn:instance-connect:us-east-1:123456789012:agent:i-0123456789abcdef0:",
            "urn:instance-connect:us-east-1:123456789012:agent:i-0123456789abcdef0:0",
            "urn:instance-connect:us-east-1:123456789012:agent:i-0123456789abcdef0:01",
            "urn:instance-connect:us-east-1:123456789012:agent:i-0123456789abcdef0:+1",
            "urn:instance-connect:us-east-1:123456789012:agent:i-0123456789abcdef0:1:",
            "urn:instance-connect:us-east-1:123456789012:agent:i-0123456789abcdef0:18446744073709551616",
            "urn:instance-connect:us-east-1:123456789012:node:i-0123456789abcdef0:1",
            "urn:instance-connect:us-east-1:12345678901:agent:i-0123456789abcdef0:1",
            "urn:instance-connect::123456789012:agent:i-0123456789abcdef0:1",
            "URN:instance-connect:us-east-1:123456789012:agent:i-0123456789abcdef0:1",
            " urn:instance-connect:us-east-1:123456789012:agent:i-0123456789abcdef0:1",
        ] {
            assert!(text.parse::<AgentUrn>().is_err(), "{text:?}");
        }
    }
}
