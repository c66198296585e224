//! Administration over the control API: the operations by which an account is run, as types. What is like IAM's or EC2's
//! has their names, members, limits and error codes, in AWS JSON 1.1.
//!
//! [`Operation`] is the one table: name, action, what its resource is, and whether it only reads. [`Request`] is an
//! operation with its parameters, and says which resource it is about.

mod members;
mod operation;
mod parameters;
mod policy_arn;
mod request;
mod simulation;
#[cfg(test)]
mod tests;

pub use operation::Operation;
pub use policy_arn::{PolicyArn, PolicyArnError};
pub use request::{
    About, AtConsole, Change, ConsoleOperation, Page, PolicyDocument, Read, Request, Resource, Revoke, Tags,
};

use instance_connect_document::UnixSeconds;
use serde_json::{Map, Value};
pub use simulation::{SimulatedContext, SimulatedPush};

/// What the targets of administrative operations begin with.
pub const TARGET: &str = "InstanceConnect";

/// The signing name of administration, and the part of its actions before the colon.
pub const SERVICE: &str = "instance-connect";

/// Members as a record shows them: their names with the first letter lowered (wire.md 8.1), at every depth.
pub fn recorded(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let lowered = members.iter().map(|(name, value)| (first_lowered(name), recorded(value)));
            Value::Object(lowered.collect::<Map<_, _>>())
        }
        Value::Array(values) => values.iter().map(recorded).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// `UserName` as `userName`.
fn first_lowered(name: &str) -> String {
    let mut characters = name.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_ascii_lowercase().to_string() + characters.as_str())
}

/// A time as answers show it: `2031-02-11T02:05:06Z`.
pub fn timestamp(time: UnixSeconds) -> String {
    jiff::Timestamp::from_second(time.0).unwrap_or_default().to_string()
}
