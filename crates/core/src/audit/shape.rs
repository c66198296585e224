//! The shape of all lines. The parts below follow each other in CloudTrail's order of members (wire.md 8.1): [`Head`],
//! [`Failure`] if it failed, the request's parameters, [`Rest`]. `tlsDetails`, where there is TLS, comes last.

use super::line::{Line, Members, json};
use super::sampling::RefusalCounts;
use crate::iam::StatementRef;
use crate::ids::Region;
use crate::link::AgentUrn;
use crate::origin::TlsDetails;
use instance_connect_document::UnixSeconds;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use std::borrow::Cow;
use std::net::IpAddr;
use std::num::NonZeroU32;

/// What stands before the parameters.
const PARAMETERS: &str = r#","requestParameters":"#;

/// The source of pushes. The real events say this, and the model's trait is wrong (wire.md 1.1).
pub(super) const PUSH_EVENT_SOURCE: &str = "ec2-instance-connect.amazonaws.com";

/// The source of what AWS has no event for.
pub(super) const OUR_EVENT_SOURCE: &str = "instance-connect";

/// What stands in their place where the line would be longer than any reader takes.
const OMITTED: &[u8] = br#"{"omitted":true}"#;

/// What stands behind them.
const AFTER_PARAMETERS: &str = r#","responseElements":"#;

/// What all lines of one request share, as JSON.
#[derive(Debug)]
pub(super) struct Shared {
    head: Members,
    parameters: Cow<'static, [u8]>,
}

impl Shared {
    /// Without parameters.
    pub(super) fn new(head: &Head<'_>) -> Self {
        Self { head: Members::of(head), parameters: Cow::Borrowed(b"null") }
    }

    pub(super) fn set_parameters(&mut self, parameters: &impl Serialize) {
        self.parameters = json(parameters).into();
    }

    /// Reads it from a line that [`Shared::line`] has written, without a failure. What is looked for has quotation marks
    /// that are not escaped, so no text in the line contains it.
    pub(super) fn read(line: &str) -> Option<Self> {
        let (head, rest) = line.split_once(PARAMETERS)?;
        let (parameters, _) = rest.split_once(AFTER_PARAMETERS)?;
        Some(Self { head: Members::read(head), parameters: Cow::Owned(parameters.into()) })
    }

    /// The line. Where it would be longer than [`AUDIT_LINE`](crate::limits::AUDIT_LINE), it says that its parameters are left out.
    pub(super) fn line(&self, failure: Option<Failure<'_>>, rest: &Rest<'_>) -> Line {
        let line = self.line_with(&self.parameters, failure, rest);
        if line.is_too_long() { self.line_with(OMITTED, failure, rest) } else { line }
    }

    fn line_with(&self, parameters: &[u8], failure: Option<Failure<'_>>, rest: &Rest<'_>) -> Line {
        let mut line = self.head.copy();
        if let Some(failure) = failure {
            line.add(&failure);
        }
        line.add_json(PARAMETERS, parameters);
        line.add(rest);
        line.close()
    }
}

/// What a line begins with.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head<'a> {
    pub(super) event_version: &'static str,
    pub(super) user_identity: UserIdentity<'a>,
    pub(super) event_time: EventTime,
    pub(super) event_source: &'static str,
    pub(super) event_name: &'static str,
    pub(super) aws_region: &'a str,
    #[serde(rename = "sourceIPAddress", skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_agent: Option<&'a str>,
}

impl<'a> Head<'a> {
    /// Of an event of ours.
    pub(super) fn new(
        event_name: &'static str,
        user_identity: UserIdentity<'a>,
        time: UnixSeconds,
        region: &'a Region,
    ) -> Self {
        Self {
            event_version: "1.08",
            user_identity,
            event_time: EventTime(time),
            event_source: OUR_EVENT_SOURCE,
            event_name,
            aws_region: region.as_str(),
            source: None,
            user_agent: None,
        }
    }
}

/// Who did it.
#[derive(Serialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub(super) enum UserIdentity<'a> {
    #[serde(rename = "IAMUser")]
    IamUser {
        principal_id: &'a str,
        arn: &'a str,
        account_id: &'a str,
        access_key_id: &'a str,
        user_name: &'a str,
    },
    /// The account itself, which has no name.
    Root { principal_id: &'a str, arn: &'a str, account_id: &'a str, access_key_id: &'a str },
    /// A machine.
    #[serde(rename = "InstanceConnectAgent")]
    Agent { principal_id: &'a str, account_id: &'a str },
    /// Whoever holds a key that this principal has pushed.
    #[serde(rename = "InstanceConnectPushedKey")]
    PushedKey { arn: &'a str, account_id: &'a str },
    /// Nobody who is known. The key is the one that the request claims.
    Unknown {
        #[serde(skip_serializing_if = "Option::is_none")]
        access_key_id: Option<&'a str>,
    },
    /// Whoever ran a command on the control plane's machine.
    #[serde(rename = "InstanceConnectOperator")]
    Operator { principal_id: &'a str },
    /// This program.
    InstanceConnect,
}

/// Printed as `2031-02-11T02:05:06Z`.
pub(super) struct EventTime(UnixSeconds);

impl Serialize for EventTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&jiff::Timestamp::from_second(self.0.0).unwrap_or_default())
    }
}

/// What went wrong.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failure<'a> {
    pub(super) error_code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error_message: Option<&'a str>,
}

/// What stands behind the parameters.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rest<'a> {
    /// Null on errors.
    pub(super) response_elements: Option<ResponseElements<'a>>,
    #[serde(skip_serializing_if = "AdditionalEventData::is_empty")]
    pub(super) additional_event_data: AdditionalEventData<'a>,
    #[serde(rename = "requestID", skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<&'a str>,
    /// Every event has one; an intent is none yet.
    #[serde(rename = "eventID", skip_serializing_if = "Option::is_none")]
    pub(super) event_id: Option<&'a str>,
    pub(super) read_only: bool,
    pub(super) event_type: EventType,
    pub(super) management_event: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) recipient_account_id: Option<&'a str>,
    pub(super) event_category: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_details: Option<Tls<'a>>,
}

impl<'a> Rest<'a> {
    /// An event that concerns an instance, on record for the account that owns it.
    pub(super) fn of_instance(agent: &'a AgentUrn, event_id: &'a str) -> Self {
        Self {
            event_id: Some(event_id),
            recipient_account_id: Some(agent.account.as_str()),
            ..Self::new(EventType::Event)
        }
    }

    /// Says nothing but what kind of line it is.
    pub(super) fn new(event_type: EventType) -> Self {
        Self {
            response_elements: None,
            additional_event_data: AdditionalEventData::default(),
            request: None,
            event_id: None,
            read_only: false,
            event_type,
            management_event: true,
            recipient_account_id: None,
            event_category: "Management",
            tls_details: None,
        }
    }
}

/// The TLS that a request came over.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tls<'a> {
    #[serde(borrow)]
    tls_version: Cow<'a, str>,
    #[serde(borrow)]
    cipher_suite: Cow<'a, str>,
    #[serde(borrow)]
    client_provided_host_header: Cow<'a, str>,
}

impl<'a> From<&'a TlsDetails> for Tls<'a> {
    fn from(details: &'a TlsDetails) -> Self {
        Self {
            tls_version: details.version.into(),
            cipher_suite: details.cipher_suite.into(),
            client_provided_host_header: (&details.host).into(),
        }
    }
}

/// What kind of line it is.
#[derive(Clone, Copy, Serialize)]
pub(super) enum EventType {
    /// The record of a request of a verified caller, as CloudTrail has it.
    AwsApiCall,
    /// A push is allowed and begins now; its record follows. Named [`INTENT`].
    #[serde(rename = "InstanceConnectIntent")]
    Intent,
    /// Stands for the record of a push whose end this program did not live to see.
    #[serde(rename = "InstanceConnectInterrupted")]
    Interrupted,
    /// Something that AWS has no event for. Named [`EVENT`].
    #[serde(rename = "InstanceConnectEvent")]
    Event,
}

/// How [`EventType::Intent`] is written.
pub(super) const INTENT: &str = "InstanceConnectIntent";

/// How [`EventType::Event`] is written.
pub(super) const EVENT: &str = "InstanceConnectEvent";

/// What was answered.
#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub(super) enum ResponseElements<'a> {
    Pushed { request_id: &'a str, success: bool },
    Enrolled { generation: u64 },
    HostKeysReported { pinned: bool },
    ConsoleClosed { reason: &'static str, seconds: u64, bytes_typed: u64, bytes_shown: u64 },
    Administered(&'a Value),
}

/// What AWS has no member for. What does not apply is absent.
#[derive(Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AdditionalEventData<'a> {
    /// Whether the machine has the OS user, as far as its agent could tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) os_user_exists: Option<bool>,
    /// What became of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delivery: Option<Delivery>,
    /// Why the machine's agent refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decided_by: Option<DecidedBy<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refusals: Option<&'a RefusalCounts>,
    /// Of an event that several requests are behind: all of them.
    #[serde(rename = "requestIDs", skip_serializing_if = "Option::is_none")]
    pub(super) requests: Option<Vec<&'a str>>,
    /// Which login, named once in each boot of its machine.
    #[serde(rename = "sessionID", skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<String>,
    /// Where a login comes from, as its machine says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remote_host: Option<&'a str>,
    /// How many reports a machine's agent has dropped before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reports_lost: Option<NonZeroU32>,
    /// How many reports of a machine have come and are not on record before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reports_not_recorded: Option<NonZeroU32>,
}

impl AdditionalEventData<'_> {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The statement that allowed or denied a request.
#[derive(PartialEq, Serialize, Deserialize)]
pub(super) struct DecidedBy<'a> {
    #[serde(borrow)]
    policy: Cow<'a, str>,
    #[serde(borrow)]
    statement: Cow<'a, str>,
}

impl<'a> From<&'a StatementRef> for DecidedBy<'a> {
    fn from(decided_by: &'a StatementRef) -> Self {
        Self { policy: (&decided_by.policy).into(), statement: (&decided_by.statement).into() }
    }
}

/// What became of a key that may not be on its machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Delivery {
    /// It is not there.
    Refused,
    /// It may be there.
    Unknown,
    /// It was there, and a withdrawal follows it.
    Withdrawn,
}
