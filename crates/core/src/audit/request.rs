//! The lines of a request of a verified caller: the record, and before it the intent of what is allowed.

use super::line::Line;
use super::shape::{
    AdditionalEventData, DecidedBy, Delivery, EventType, Failure, Head, OUR_EVENT_SOURCE, PUSH_EVENT_SOURCE,
    ResponseElements, Rest, Shared, Tls, UserIdentity,
};
use crate::api::{ApiError, Operation, Protocol, SendSerialConsoleSshPublicKey, SendSshPublicKey};
use crate::authz::Caller;
use crate::iam::StatementRef;
use crate::ids::{AccountId, AvailabilityZone, Region, RequestId};
use crate::inventory::UserKind;
use crate::origin::{Origin, TlsDetails};
use crate::query::Service;
use serde::Serialize;
use serde_json::Value;

/// The event source of the API. Administration has one of its own.
const fn event_source(operation: Operation) -> &'static str {
    match operation {
        Operation::SendSshPublicKey | Operation::SendSerialConsoleSshPublicKey => PUSH_EVENT_SOURCE,
        Operation::Administer(_) => OUR_EVENT_SOURCE,
        Operation::Query(operation) => match operation.service() {
            Service::Ec2 => "ec2.amazonaws.com",
            Service::Sts => "sts.amazonaws.com",
        },
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// Answered with success: the key is on the machine.
    Success {
        /// Whether the machine has the OS user, as far as its agent could tell.
        os_user_exists: Option<bool>,
    },
    /// Administration, or EC2's API, answered with success.
    Administered {
        /// What the answer said, without secrets; `None` for nothing, or nothing but what was read.
        response_elements: Option<&'a Value>,
    },
    /// Answered with an error.
    Failure(&'a ApiError),
}

/// A request of a verified caller as its lines show it. What they share is put into JSON once.
#[derive(Debug)]
pub struct AuditedRequest {
    request: RequestId,
    account: AccountId,
    shared: Shared,
    protocol: Protocol,
    read_only: bool,
    decided_by: Option<StatementRef>,
    delivery: Option<Delivery>,
    tls: Option<TlsDetails>,
}

impl AuditedRequest {
    /// A request whose parameters have not been read.
    pub fn new(origin: &Origin, caller: &Caller, operation: Operation, region: &Region) -> Self {
        let user = &caller.user;
        let (account_id, access_key_id) = (user.account.as_str(), caller.access_key.as_str());
        let arn = &user.arn();
        let user_identity = match user.kind {
            UserKind::IamUser => {
                let (principal_id, user_name) = (user.id.as_str(), user.name.as_str());
                UserIdentity::IamUser { principal_id, arn, account_id, access_key_id, user_name }
            }
            UserKind::Root => UserIdentity::Root { principal_id: account_id, arn, account_id, access_key_id },
        };
        let head = Head {
            event_source: event_source(operation),
            source: Some(origin.source),
            user_agent: Some(&origin.user_agent),
            ..Head::new(operation.name(), user_identity, origin.time, region)
        };
        Self {
            request: origin.request.clone(),
            account: user.account.clone(),
            shared: Shared::new(&head),
            protocol: operation.protocol(),
            read_only: match operation {
                Operation::Administer(operation) => operation.is_read_only(),
                Operation::Query(operation) => operation.is_read_only(),
                Operation::SendSshPublicKey | Operation::SendSerialConsoleSshPublicKey => false,
            },
            decided_by: None,
            delivery: None,
            tls: origin.tls.clone(),
        }
    }

    /// The protocol in which the request is answered.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Shows the parameters. Without them they are null: they could not be read.
    pub fn parameters(&mut self, parameters: &impl Parameters) {
        self.shared.set_parameters(&parameters.recorded());
    }

    /// Shows the parameters of an administrative operation or one of EC2's, spelled as a record has them.
    pub fn administered(&mut self, parameters: &Value) {
        self.shared.set_parameters(parameters);
    }

    /// Names the statement that allowed the request, if one had to.
    pub fn decided_by(&mut self, statement: Option<&StatementRef>) {
        self.decided_by = statement.cloned();
    }

    /// The machine has acknowledged the key, and is told to remove it all the same.
    pub fn withdrawn(&mut self) {
        self.delivery = Some(Delivery::Withdrawn);
    }

    /// The intent of an authorised push or change: on disk before the key leaves for the machine, or anything is changed.
    pub fn intent(&self) -> Line {
        self.shared.line(None, &self.rest(EventType::Intent))
    }

    /// The record of the request: on disk before its answer. `event_id` is a fresh UUID.
    pub fn record(&self, outcome: Outcome<'_>, event_id: &str) -> Line {
        let mut rest = Rest { event_id: Some(event_id), ..self.rest(EventType::AwsApiCall) };
        match outcome {
            Outcome::Success { os_user_exists } => {
                rest.additional_event_data.os_user_exists = os_user_exists;
                rest.response_elements =
                    Some(ResponseElements::Pushed { request_id: self.request.as_str(), success: true });
                self.shared.line(None, &rest)
            }
            Outcome::Administered { response_elements } => {
                rest.response_elements = response_elements.map(ResponseElements::Administered);
                self.shared.line(None, &rest)
            }
            Outcome::Failure(error) => {
                if let ApiError::Refused(refusal) = error {
                    rest.additional_event_data.delivery = Some(Delivery::Refused);
                    rest.additional_event_data.reason = Some(refusal.name());
                }
                if let ApiError::InstanceUnavailable = error {
                    // If it was sent, a withdrawal follows it.
                    rest.additional_event_data.delivery = Some(Delivery::Unknown);
                }
                if let Some(statement) = error.denied_by() {
                    rest.additional_event_data.decided_by = Some(DecidedBy::from(statement));
                }
                let wire = error.to_wire(self.protocol, &self.request);
                let error_message = Some(wire.message.as_str()).filter(|message| !message.is_empty());
                // EC2's records say whose fault it was, and of asking too often it is the caller's (wire.md 8.4).
                let asks_too_often =
                    matches!(error, ApiError::Throttling | ApiError::Busy | ApiError::SignatureUsed);
                let whose = match self.protocol {
                    Protocol::Query(Service::Ec2) if wire.status < 500 || asks_too_often => "Client.",
                    Protocol::Query(Service::Ec2) => "Server.",
                    Protocol::Query(Service::Sts) | Protocol::Json => "",
                };
                let error_code = &format!("{whose}{}", wire.code);
                self.shared.line(Some(Failure { error_code, error_message }), &rest)
            }
        }
    }

    fn rest(&self, event_type: EventType) -> Rest<'_> {
        let decided_by = self.decided_by.as_ref().map(DecidedBy::from);
        Rest {
            additional_event_data: AdditionalEventData {
                decided_by,
                delivery: self.delivery,
                ..AdditionalEventData::default()
            },
            request: Some(self.request.as_str()),
            recipient_account_id: Some(self.account.as_str()),
            tls_details: self.tls.as_ref().map(Tls::from),
            read_only: self.read_only,
            ..Rest::new(event_type)
        }
    }
}

/// The parameters of a request as its record shows them.
pub trait Parameters {
    /// Member names keep the model's spelling with the first letter lowered (wire.md 8.1).
    fn recorded(&self) -> impl Serialize;
}

impl Parameters for SendSshPublicKey {
    fn recorded(&self) -> impl Serialize {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Recorded<'a> {
            instance_id: &'a str,
            #[serde(rename = "instanceOSUser")]
            os_user: &'a str,
            #[serde(rename = "sSHPublicKey")]
            key: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            availability_zone: Option<&'a str>,
        }
        Recorded {
            instance_id: self.instance.as_str(),
            os_user: self.os_user.as_str(),
            key: &self.key_text,
            availability_zone: self.availability_zone.as_ref().map(AvailabilityZone::as_str),
        }
    }
}

impl Parameters for SendSerialConsoleSshPublicKey {
    fn recorded(&self) -> impl Serialize {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Recorded<'a> {
            instance_id: &'a str,
            monitor_mode: bool,
            serial_port: u32,
            #[serde(rename = "sSHPublicKey")]
            key: &'a str,
        }
        // `serialPort` and `monitorMode` are shown although no caller sends them (wire.md 8.2).
        Recorded {
            instance_id: self.instance.as_str(),
            monitor_mode: false,
            serial_port: 0,
            key: &self.key_text,
        }
    }
}
