//! What can be made to go wrong, as JSON and as a flag say it.

use instance_connect_core::api::{ApiError, Operation, Protocol};
use instance_connect_core::ids::InstanceId;
use instance_connect_core::limits;
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::time::Duration;

/// How late a call can be made, in milliseconds: later than any SDK waits, unless told to.
const LONGEST_DELAY: u64 = 120_000;

/// How far the clock can be moved, in seconds: ten years of 365 days.
const LARGEST_CLOCK_OFFSET: i64 = 10 * 365 * 24 * 60 * 60;

/// How often a fault can be told to happen; without a number it happens until it is removed.
const MOST_TIMES: u32 = 1_000_000;

/// A fault: what happens, to which calls, how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub(crate) struct Fault {
    pub(super) effect: Effect,
    operation: Option<Named>,
    instance: Option<InstanceId>,
    /// How many calls it still happens to; without it, to all.
    times: Option<u32>,
}

/// The operations of one name: EC2's and administration's, where both have it, or one of them by its full name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named(String);

impl Named {
    fn is(&self, operation: Operation) -> bool {
        self.0 == operation.name() || self.0 == operation.full_name()
    }
}

/// What happens. Nothing here lets a call succeed that would have failed, or a key live longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// The call fails with the error of this name, where its protocol has it. Nothing is done.
    Error(&'static str),
    /// The call counts as made so much later.
    Delay(Duration),
    /// The call's signature has to be good by a clock that is so many seconds ahead as well.
    ClockOffset(i64),
    /// The key that is pushed ends so soon.
    KeyLifetime(Duration),
}

/// A fault as it is written, in JSON and in flags.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_offset_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_lifetime_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u32>,
}

impl Fault {
    /// Whether it happens to calls of this operation about these instances.
    pub(super) fn is_for(&self, operation: Option<Operation>, instances: &[InstanceId]) -> bool {
        self.operation.as_ref().is_none_or(|named| operation.is_some_and(|operation| named.is(operation)))
            && self.instance.as_ref().is_none_or(|instance| instances.contains(instance))
    }

    /// It has happened once. Gives whether it can again.
    pub(super) fn happened(&mut self) -> bool {
        self.times = self.times.map(|times| times.saturating_sub(1));
        self.times != Some(0)
    }
}

impl TryFrom<Written> for Fault {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written {
            error,
            delay_ms,
            clock_offset_seconds,
            key_lifetime_seconds,
            operation,
            instance,
            times,
        } = written;
        let operation = operation.map(named).transpose()?;
        let effects = [
            error.map(|name| error_named(&name, operation.as_ref()).map(Effect::Error)).transpose()?,
            delay_ms
                .map(|delay| within("delay_ms", delay, 1, LONGEST_DELAY))
                .transpose()?
                .map(|delay| Effect::Delay(Duration::from_millis(delay))),
            clock_offset_seconds
                .map(|offset| {
                    within("clock_offset_seconds", offset, -LARGEST_CLOCK_OFFSET, LARGEST_CLOCK_OFFSET)
                })
                .transpose()?
                .map(Effect::ClockOffset),
            key_lifetime_seconds
                .map(|lifetime| within("key_lifetime_seconds", lifetime, 1, limits::GRANT_LIFETIME.as_secs()))
                .transpose()?
                .map(|lifetime| Effect::KeyLifetime(Duration::from_secs(lifetime))),
        ];
        let mut effects = effects.into_iter().flatten();
        let (Some(effect), None) = (effects.next(), effects.next()) else {
            return Err(
                "a fault has one of error, delay_ms, clock_offset_seconds, key_lifetime_seconds".to_owned()
            );
        };
        if matches!(effect, Effect::KeyLifetime(_))
            && !operation.as_ref().is_none_or(|named| named.is(Operation::SendSshPublicKey))
        {
            return Err("key_lifetime_seconds: SendSSHPublicKey alone pushes such keys".to_owned());
        }
        let instance = instance.map(|id| id.parse().map_err(|error| format!("instance: {error}")));
        Ok(Self {
            effect,
            operation,
            instance: instance.transpose()?,
            times: times.map(|times| within("times", times, 1, MOST_TIMES)).transpose()?,
        })
    }
}

impl From<Fault> for Written {
    fn from(fault: Fault) -> Self {
        let Fault { effect, operation, instance, times } = fault;
        let mut written = Self {
            operation: operation.map(|Named(name)| name),
            instance: instance.map(|id| id.to_string()),
            times,
            ..Self::default()
        };
        match effect {
            Effect::Error(name) => written.error = Some(name.to_owned()),
            Effect::Delay(delay) => written.delay_ms = delay.as_millis().try_into().ok(),
            Effect::ClockOffset(seconds) => written.clock_offset_seconds = Some(seconds),
            Effect::KeyLifetime(lifetime) => written.key_lifetime_seconds = Some(lifetime.as_secs()),
        }
        written
    }
}

/// As a flag has it: the members of the JSON object, such as `error=ThrottlingException,times=2`.
impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut members = serde_json::Map::new();
        for member in text.split(',') {
            let (name, value) =
                member.split_once('=').ok_or_else(|| format!("{member:?} is not NAME=VALUE"))?;
            let value = value.parse::<i64>().map_or_else(|_| value.into(), serde_json::Value::from);
            if members.insert(name.to_owned(), value).is_some() {
                return Err(format!("{name} stands twice"));
            }
        }
        serde_json::from_value(members.into()).map_err(|error| error.to_string())
    }
}

fn within<N: Copy + PartialOrd + std::fmt::Display>(
    name: &str,
    number: N,
    least: N,
    most: N,
) -> Result<N, String> {
    if number >= least && number <= most {
        Ok(number)
    } else {
        Err(format!("{name}: {number} is not from {least} to {most}"))
    }
}

/// The name of an error that calls of these operations may get, as the one table of errors has it.
fn error_named(name: &str, operations: Option<&Named>) -> Result<&'static str, String> {
    let is_meant = |operation: &Operation| operations.is_none_or(|named| named.is(*operation));
    let protocols: Vec<Protocol> = Operation::all().filter(is_meant).map(Operation::protocol).collect();
    let asked = Protocol::ALL.into_iter().filter(|protocol| protocols.contains(protocol));
    let known: Vec<&'static str> = asked
        .flat_map(|protocol| {
            ApiError::of_protocol(protocol, "").into_iter().map(move |error| error.code(protocol))
        })
        .collect();
    let found = known.iter().copied().find(|known| *known == name);
    found.ok_or_else(|| match operations {
        None => format!("error: there is no {name:?}. There are {}", known.join(", ")),
        Some(Named(operation)) => format!("error: {operation} has no {name:?}. It has {}", known.join(", ")),
    })
}

fn named(name: String) -> Result<Named, String> {
    let named = Named(name);
    if Operation::all().any(|operation| named.is(operation)) {
        return Ok(named);
    }
    let known: Vec<_> = Operation::all().map(Operation::full_name).collect();
    Err(format!("operation: there is no {:?}. There are {}", named.0, known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use instance_connect_core::{administration, query};

    #[test]
    fn json_and_flags_say_the_same() {
        let id = "i-0123456789abcdef0";
        for (flag, json) in [
            ("error=ThrottlingException".to_owned(), r#"{"error":"ThrottlingException"}"#.to_owned()),
            (
                format!(
                    "times=2,error=EC2InstanceNotFoundException,instance={id},operation=SendSSHPublicKey"
                ),
                format!(
                    r#"{{"error":"EC2InstanceNotFoundException","operation":"SendSSHPublicKey","instance":"{id}","times":2}}"#
                ),
            ),
            ("delay_ms=120000".to_owned(), r#"{"delay_ms":120000}"#.to_owned()),
            ("clock_offset_seconds=-600".to_owned(), r#"{"clock_offset_seconds":-600}"#.to_owned()),
            (
                "key_lifetime_seconds=60,times=1".to_owned(),
                r#"{"key_lifetime_seconds":60,"times":1}"#.to_owned(),
            ),
        ] {
            let fault: Fault = flag.parse().unwrap();
            assert_eq!(serde_json::to_string(&fault).unwrap(), json);
            assert_eq!(serde_json::from_str::<Fault>(&json).unwrap(), fault);
        }
    }

    #[test]
    fn a_name_that_two_services_have_means_both_unless_it_says_which() {
        let (ec2, ours) = (
            Operation::Query(query::Operation::DescribeInstances),
            Operation::Administer(administration::Operation::DescribeInstances),
        );
        for (flag, for_ec2, for_ours, for_no_operation) in [
            ("delay_ms=1", true, true, true),
            ("delay_ms=1,operation=DescribeInstances", true, true, false),
            ("delay_ms=1,operation=ec2:DescribeInstances", true, false, false),
            ("delay_ms=1,operation=instance-connect:DescribeInstances", false, true, false),
            ("delay_ms=1,operation=StopInstances", false, false, false),
        ] {
            let fault: Fault = flag.parse().unwrap();
            let is_for = [Some(ec2), Some(ours), None].map(|operation| fault.is_for(operation, &[]));
            assert_eq!(is_for, [for_ec2, for_ours, for_no_operation], "{flag}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let one_of = "a fault has one of error, delay_ms, clock_offset_seconds, key_lifetime_seconds";
        for (flag, message) in [
            ("", r#""" is not NAME=VALUE"#),
            ("error", r#""error" is not NAME=VALUE"#),
            ("times=1", one_of),
            ("error=AuthException,delay_ms=1", one_of),
            ("error=AuthException,error=AuthException", "error stands twice"),
            ("error=Throttled", r#"error: there is no "Throttled". There are AuthException, "#),
            (
                "error=AuthException,operation=Push",
                r#"operation: there is no "Push". There are ec2-instance-connect:SendSSHPublicKey, "#,
            ),
            (
                "error=IncorrectInstanceState,operation=SendSSHPublicKey",
                r#"error: SendSSHPublicKey has no "IncorrectInstanceState". It has AuthException, "#,
            ),
            (
                "error=ThrottlingException,operation=ec2:DescribeInstances",
                r#"error: ec2:DescribeInstances has no "ThrottlingException". It has AuthFailure, "#,
            ),
            (
                "key_lifetime_seconds=1,operation=ec2:DescribeInstances",
                "key_lifetime_seconds: SendSSHPublicKey alone pushes such keys",
            ),
            ("error=Throttling,operation=sts:DescribeInstances", "operation: there is no "),
            ("error=AuthException,instance=i-1", "instance: "),
            ("error=AuthException,times=0", "times: 0 is not from 1 to 1000000"),
            ("error=AuthException,times=1000001", "times: 1000001 is not from 1 to 1000000"),
            ("error=AuthException,times=-1", "invalid value: integer `-1`"),
            ("delay_ms=0", "delay_ms: 0 is not from 1 to 120000"),
            ("delay_ms=120001", "delay_ms: 120001 is not from 1 to 120000"),
            ("delay_ms=soon", "invalid type: string"),
            (
                "clock_offset_seconds=315360001",
                "clock_offset_seconds: 315360001 is not from -315360000 to 315360000",
            ),
            ("clock_offset_seconds=-315360001", "clock_offset_seconds: -315360001 is not"),
            // A fault never lets a key live longer.
            ("key_lifetime_seconds=61", "key_lifetime_seconds: 61 is not from 1 to 60"),
            ("key_lifetime_seconds=0", "key_lifetime_seconds: 0 is not from 1 to 60"),
            ("success=true", "unknown field `success`, expected one of `error`, `delay_ms`, "),
        ] {
            let error = flag.parse::<Fault>().unwrap_err();
            assert!(error.starts_with(message), "{flag}: {error}");
        }
    }
}
