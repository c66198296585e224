//! Audit records in CloudTrail's shape (wire.md 8).
//!
//! A record is one line of JSON. Text that came from outside stands in JSON strings only, where control characters
//! and line ends are escaped, so that nobody writes a second line into the log.

use crate::api::{ApiError, Operation, SendSerialConsoleSshPublicKey, SendSshPublicKey};
use crate::authz::Caller;
use crate::ids::Region;
use crate::link::AgentUrn;
use crate::origin::Origin;
use instance_connect_document::UnixSeconds;
use serde_json::{Map, Value, json};

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// Answered with success: the key is on the machine.
    Success {
        /// Whether the machine has the OS user, as far as its agent could tell.
        os_user_exists: bool,
    },
    /// Answered with an error.
    Failure(&'a ApiError),
}

/// A request's parameters, as the record shows them.
pub trait Parameters {
    /// Member names keep the model's spelling with the first letter lowered (wire.md 8.1).
    fn recorded(&self) -> Value;
}

impl Parameters for SendSshPublicKey {
    fn recorded(&self) -> Value {
        let mut members = Map::new();
        members.insert("instanceId".into(), self.instance.as_str().into());
        members.insert("instanceOSUser".into(), self.os_user.as_str().into());
        members.insert("sSHPublicKey".into(), self.key_text.as_str().into());
        if let Some(zone) = &self.availability_zone {
            members.insert("availabilityZone".into(), zone.as_str().into());
        }
        members.into()
    }
}

impl Parameters for SendSerialConsoleSshPublicKey {
    fn recorded(&self) -> Value {
        // `serialPort` and `monitorMode` are shown although no caller sends them (wire.md 8.2).
        json!({
            "instanceId": self.instance.as_str(),
            "monitorMode": false,
            "serialPort": 0,
            "sSHPublicKey": self.key_text,
        })
    }
}

/// The intent of an authorised push: on disk before the key leaves for the machine.
pub fn intent(
    origin: &Origin,
    caller: &Caller,
    operation: Operation,
    parameters: &Value,
    region: &Region,
) -> String {
    let mut record = envelope(origin, caller, operation, region);
    record.insert("eventType".into(), "InstanceConnectIntent".into());
    record.insert("requestParameters".into(), parameters.clone());
    line(record)
}

/// The record of an answered request: on disk before the answer. `parameters` is null where they could not be read.
/// `event_id` is a fresh UUID.
pub fn record(
    origin: &Origin,
    caller: &Caller,
    operation: Operation,
    parameters: Value,
    region: &Region,
    outcome: Outcome<'_>,
    event_id: &str,
) -> String {
    let mut record = envelope(origin, caller, operation, region);
    record.insert("eventType".into(), "AwsApiCall".into());
    record.insert("eventID".into(), event_id.into());
    record.insert("requestParameters".into(), parameters);
    let response = match outcome {
        Outcome::Success { os_user_exists } => {
            record.insert("additionalEventData".into(), json!({ "osUserExists": os_user_exists }));
            json!({ "requestId": origin.request.as_str(), "success": true })
        }
        Outcome::Failure(error) => {
            let wire = error.to_wire();
            record.insert("errorCode".into(), wire.code.into());
            record.insert("errorMessage".into(), wire.message.into());
            if let ApiError::InstanceUnavailable { refused } = error {
                let delivery = match refused {
                    Some(reason) => json!({ "delivery": "refused", "reason": reason }),
                    // The machine may have the key although it did not say so; a withdrawal follows it.
                    None => json!({ "delivery": "unknown" }),
                };
                record.insert("additionalEventData".into(), delivery);
            }
            Value::Null
        }
    };
    record.insert("responseElements".into(), response);
    record.insert("readOnly".into(), false.into());
    record.insert("managementEvent".into(), true.into());
    record.insert("recipientAccountId".into(), caller.user.account.as_str().into());
    record.insert("eventCategory".into(), "Management".into());
    line(record)
}

/// The record of an enrolment, on disk before the machine has its certificate. A generation above 1 has replaced, and
/// so revoked, the identity before it.
pub fn enrolment(
    request: &str,
    time: UnixSeconds,
    source: std::net::IpAddr,
    identity: &AgentUrn,
    event_id: &str,
) -> String {
    let record = json!({
        "eventVersion": "1.08",
        "eventTime": event_time(time),
        "eventSource": "instance-connect",
        "eventName": "EnrollAgent",
        "eventType": "InstanceConnectEvent",
        "eventID": event_id,
        "requestID": request,
        "awsRegion": identity.region.as_str(),
        "sourceIPAddress": source.to_string(),
        "recipientAccountId": identity.account.as_str(),
        "requestParameters": { "instanceId": identity.instance.as_str() },
        "responseElements": { "generation": identity.generation },
    });
    format!("{record}\n")
}

fn event_time(time: UnixSeconds) -> String {
    jiff::Timestamp::from_second(time.0).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn envelope(origin: &Origin, caller: &Caller, operation: Operation, region: &Region) -> Map<String, Value> {
    let mut record = Map::new();
    record.insert("eventVersion".into(), "1.08".into());
    record.insert(
        "userIdentity".into(),
        json!({
            "type": "IAMUser",
            "principalId": caller.user.id.as_str(),
            "arn": caller.user.arn(),
            "accountId": caller.user.account.as_str(),
            "accessKeyId": caller.access_key.as_str(),
            "userName": caller.user.name.as_str(),
        }),
    );
    record.insert("eventTime".into(), event_time(origin.time).into());
    // The real events say this, and the model's trait is wrong (wire.md 1.1).
    record.insert("eventSource".into(), "ec2-instance-connect.amazonaws.com".into());
    record.insert("eventName".into(), operation.name().into());
    record.insert("awsRegion".into(), region.as_str().into());
    record.insert("sourceIPAddress".into(), origin.source.to_string().into());
    record.insert("userAgent".into(), origin.user_agent.as_str().into());
    record.insert("requestID".into(), origin.request.as_str().into());
    record
}

fn line(record: Map<String, Value>) -> String {
    let mut line = Value::Object(record).to_string();
    line.push('\n');
    line
}
