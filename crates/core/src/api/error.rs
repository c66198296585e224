//! The one table from what went wrong to what the wire says (wire.md 1.6, 1.7, 1.8, 1.10).
//!
//! Statuses follow the API Reference and the two real traces (400 for the caller's faults, 500 for ours), not the
//! Smithy model's `httpError` numbers. Framework errors have a namespaced `__type` and a lower-case `message`; errors
//! of the service's model have a bare `__type` and `Message`.

use super::protocol::Protocol;
use crate::administration::timestamp;
use crate::iam::{Action, Denial, PolicyKind, StatementRef};
use crate::ids::RequestId;
use crate::inventory::InstanceState;
use crate::link::Refusal;
use crate::query::{Service, Xml};
use crate::sigv4::{AuthenticationError, MalformedHead, in_signatures};
use instance_connect_document::UnixSeconds;
use serde_json::json;
use std::time::Duration;

/// Why a request is not answered with success. What only we should know stays out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// Rule 0: the head can be understood in more than one way. The connection has to end with this answer.
    MalformedHead(MalformedHead),
    /// Rule 1: not a POST, or not of the one content type.
    NotThisProtocol,
    /// Rule 2: the body is not JSON, or a member has another JSON type than the model's.
    Serialization,
    /// Rule 3: no target, or one that is no operation.
    UnknownOperation,
    /// The body is larger than any request can be.
    RequestTooLarge,
    /// The body did not arrive in time.
    RequestTimeout,
    /// Rules 4 to 12: not authenticated.
    Authentication(AuthenticationError),
    /// Rule 13: authenticated, and not allowed.
    AccessDenied(Box<AccessDenied>),
    /// `AuthException`: the account or the user is suspended.
    Suspended,
    /// `InvalidSignatureException`: the push was signed before keys like it were revoked: this one, all of its
    /// caller's or all of the instance's. The name is that
    /// of a signature whose time is over, on which SDKs look to their clocks and sign anew.
    SignedBeforeRevocation {
        /// When it was signed.
        signed_at: UnixSeconds,
        /// When that was revoked.
        revoked_at: UnixSeconds,
    },
    /// `EC2InstanceNotFoundException`.
    InstanceNotFound {
        /// The id as asked for.
        instance: String,
    },
    /// `EC2InstanceStateInvalidException`: the instance is not running.
    InstanceStateInvalid {
        /// Its state.
        state: &'static str,
    },
    /// `EC2InstanceUnavailableException`: the machine did not acknowledge in time. It may have the key.
    InstanceUnavailable,
    /// The machine's agent refused the key. By the reason it is `AuthException` (its `host.toml` does not let this OS user
    /// be opened), `ThrottlingException` (it has as many keys as it may have) or `EC2InstanceUnavailableException`.
    Refused(Refusal),
    /// `InvalidArgsException`, with AWS's sentence.
    InvalidArgs(String),
    /// `SerialConsoleAccessDisabledException`: the account has not switched the serial console on.
    SerialConsoleAccessDisabled,
    /// The serial console cannot be had now, or not on this instance.
    SerialConsole(SerialConsoleError),
    /// `SerialConsoleSessionLimitExceededException`, with who has the one session there is: for a member of the instance's account.
    SerialConsoleInUse {
        /// The ARN of who has it.
        by: String,
        /// Since when.
        since: UnixSeconds,
        /// How, and since when, in words that the time follows.
        what: &'static str,
    },
    /// `ServiceException`: our fault. The reason is in the log, under the request id.
    Service,
    /// `ThrottlingException`: asked too often. Nothing was done.
    Throttling,
    /// An administrative operation was refused, in IAM's terms.
    Administration {
        /// Why.
        code: AdministrationErrorCode,
        /// The same in words.
        message: String,
    },
    /// A request of the query protocol was refused, in EC2's terms.
    Query {
        /// Why.
        code: QueryErrorCode,
        /// The same in words.
        message: String,
    },
    /// `ThrottlingException`: the instance has as many pushes under way as it may have.
    Busy,
    /// EC2's `RequestLimitExceeded`: a change that was signed just now, whose signature was used by its like in the same second.
    /// Whoever means it tries again, as all SDKs do at this error, and thereby signs it anew.
    SignatureUsed,
}

/// Why an instance's serial console cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SerialConsoleError {
    /// `EC2InstanceTypeInvalidException`: it has none.
    InstanceType,
    /// `SerialConsoleSessionLimitExceededException`: its one session is taken.
    LimitExceeded,
    /// `SerialConsoleSessionUnavailableException`: the session could not be started.
    Unavailable,
    /// `SerialConsoleSessionUnsupportedException`: it has to be rebooted first.
    Unsupported,
}

/// Why a request of the query protocol is refused: EC2's names of it (wire.md 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryErrorCode {
    /// It may be done, and `DryRun` says not to.
    DryRunOperation,
    /// An instance is in a state for which this is not.
    IncorrectInstanceState,
    /// An action that the service does not have.
    InvalidAction,
    /// The id of something that this is not for.
    InvalidId,
    /// What is no instance's id.
    InvalidInstanceIdMalformed,
    /// Instances that the account does not have.
    InvalidInstanceIdNotFound,
    /// What is no instance type.
    InvalidInstanceType,
    /// Parameters that do not go together.
    InvalidParameterCombination,
    /// A value that a parameter cannot have.
    InvalidParameterValue,
    /// A form that cannot be read.
    MalformedQueryString,
    /// No action.
    MissingAction,
    /// A parameter that has to be there.
    MissingParameter,
    /// A version that the service does not speak.
    NoSuchVersion,
    /// More tags than there may be.
    TagLimitExceeded,
    /// A parameter that the action does not have.
    UnknownParameter,
}

impl QueryErrorCode {
    /// Every one there is.
    const ALL: [Self; 15] = [
        Self::DryRunOperation,
        Self::IncorrectInstanceState,
        Self::InvalidAction,
        Self::InvalidId,
        Self::InvalidInstanceIdMalformed,
        Self::InvalidInstanceIdNotFound,
        Self::InvalidInstanceType,
        Self::InvalidParameterCombination,
        Self::InvalidParameterValue,
        Self::MalformedQueryString,
        Self::MissingAction,
        Self::MissingParameter,
        Self::NoSuchVersion,
        Self::TagLimitExceeded,
        Self::UnknownParameter,
    ];

    /// What is said of it to a caller whose request gave no reason for it.
    fn example(self, instance: &str) -> String {
        match self {
            Self::IncorrectInstanceState => {
                format!("The instance '{instance}' is not in a state from which it can be started.")
            }
            Self::InvalidInstanceIdMalformed => format!("Invalid id: \"{instance}\""),
            Self::InvalidInstanceIdNotFound => format!("The instance ID '{instance}' does not exist"),
            _ => format!("{} was asked for.", self.row().1),
        }
    }

    const fn row(self) -> (u16, &'static str) {
        match self {
            Self::DryRunOperation => (412, "DryRunOperation"),
            Self::IncorrectInstanceState => (400, "IncorrectInstanceState"),
            Self::InvalidAction => (400, "InvalidAction"),
            Self::InvalidId => (400, "InvalidID"),
            Self::InvalidInstanceIdMalformed => (400, "InvalidInstanceID.Malformed"),
            Self::InvalidInstanceIdNotFound => (400, "InvalidInstanceID.NotFound"),
            Self::InvalidInstanceType => (400, "InvalidInstanceType"),
            Self::InvalidParameterCombination => (400, "InvalidParameterCombination"),
            Self::InvalidParameterValue => (400, "InvalidParameterValue"),
            Self::MalformedQueryString => (400, "MalformedQueryString"),
            Self::MissingAction => (400, "MissingAction"),
            Self::MissingParameter => (400, "MissingParameter"),
            Self::NoSuchVersion => (400, "NoSuchVersion"),
            Self::TagLimitExceeded => (400, "TagLimitExceeded"),
            Self::UnknownParameter => (400, "UnknownParameter"),
        }
    }
}

/// Why an administrative operation is refused: IAM's names of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdministrationErrorCode {
    /// Only principals of the management account may do this.
    AccessDenied,
    /// What is to be deleted is in use.
    DeleteConflict,
    /// Something of this name or id exists.
    EntityAlreadyExists,
    /// Parameters that are right one by one do not go together, or not with what they are about.
    InvalidInput,
    /// More than there may be.
    LimitExceeded,
    /// A policy that could not be evaluated fully.
    MalformedPolicyDocument,
    /// What the request is about does not exist.
    NoSuchEntity,
    /// A signature that was used before.
    RequestReplayed,
    /// A parameter that the model does not allow.
    ValidationError,
}

impl AdministrationErrorCode {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDeniedException",
            Self::DeleteConflict => "DeleteConflict",
            Self::EntityAlreadyExists => "EntityAlreadyExists",
            Self::InvalidInput => "InvalidInput",
            Self::LimitExceeded => "LimitExceeded",
            Self::MalformedPolicyDocument => "MalformedPolicyDocument",
            Self::NoSuchEntity => "NoSuchEntity",
            Self::RequestReplayed => "RequestReplayed",
            Self::ValidationError => "ValidationError",
        }
    }
}

/// Who is not allowed what, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessDenied {
    /// The caller's ARN.
    pub caller: String,
    /// The action asked for.
    pub action: Action,
    /// The resource's ARN.
    pub resource: String,
    /// Why. The wire tells the kind of policy, and never names one.
    pub denial: Denial,
}

/// An error as the wire shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError {
    /// The HTTP status.
    pub status: u16,
    /// The bare error name, as SDKs show it; also the value of `x-amzn-ErrorType`.
    pub code: &'static str,
    /// The message; empty where AWS sends none.
    pub message: String,
    /// The body.
    pub body: String,
}

/// Whose shape an error has.
enum Shape {
    /// No JSON.
    Xml,
    Framework,
    Modelled,
}

impl ApiError {
    /// Errors that calls of a protocol may get, one of each name, as one about this instance would: for tests that ask for
    /// one by its name. In JSON they are those of the service's model (wire.md 1.6). What signatures and policies decide is not among
    /// them: tests have callers who may not, and a clock that is off.
    pub fn of_protocol(protocol: Protocol, instance: &str) -> Vec<Self> {
        match protocol {
            Protocol::Json => vec![
                Self::Suspended,
                Self::InstanceNotFound { instance: instance.to_owned() },
                Self::InstanceStateInvalid { state: InstanceState::Stopped.as_str() },
                Self::SerialConsole(SerialConsoleError::InstanceType),
                Self::InstanceUnavailable,
                Self::InvalidArgs("The request has an invalid argument.".to_owned()),
                Self::SerialConsoleAccessDisabled,
                Self::SerialConsole(SerialConsoleError::LimitExceeded),
                Self::SerialConsole(SerialConsoleError::Unavailable),
                Self::SerialConsole(SerialConsoleError::Unsupported),
                Self::Service,
                Self::Throttling,
            ],
            Protocol::Query(Service::Ec2) => {
                let codes = QueryErrorCode::ALL.into_iter();
                let refused = codes.map(|code| Self::Query { code, message: code.example(instance) });
                [Self::Suspended, Self::Service, Self::Throttling].into_iter().chain(refused).collect()
            }
            Protocol::Query(Service::Sts) => vec![Self::Suspended, Self::Service, Self::Throttling],
        }
    }

    /// The statement that denied the request, if one did: for the audit log, since the wire does not name it.
    pub fn denied_by(&self) -> Option<&StatementRef> {
        let Self::AccessDenied(denied) = self else { return None };
        match &denied.denial {
            Denial::Explicit(statement) => Some(statement),
            Denial::Implicit(_) => None,
        }
    }

    /// How long whoever tries again has to wait, where that is known.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            // Signatures say the second in which they were made: in the next one it is another.
            Self::SignatureUsed => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// The bare error name.
    pub fn code(&self, protocol: Protocol) -> &'static str {
        match protocol {
            Protocol::Json => self.row().1,
            Protocol::Query(service) => self.query_row(service).1,
        }
    }

    /// The error as the wire shows it, in answer to this request.
    pub fn to_wire(&self, protocol: Protocol, request: &RequestId) -> WireError {
        match protocol {
            Protocol::Json => self.to_json(),
            Protocol::Query(service) => self.to_xml(service, request),
        }
    }

    fn to_json(&self) -> WireError {
        let ((status, code, shape), message) = (self.row(), self.message());
        let body = match shape {
            Shape::Xml => format!("<{code}/>\n"),
            Shape::Framework => {
                let mut body = json!({ "__type": format!("com.amazon.coral.service#{code}") });
                if let (false, Some(body)) = (message.is_empty(), body.as_object_mut()) {
                    body.insert("message".to_owned(), message.as_str().into());
                }
                body.to_string()
            }
            // serde_json keeps the members sorted: capital letters stand before `_`, and AWS sends the type first.
            Shape::Modelled => modelled_body(code, &message),
        };
        WireError { status, code, message, body }
    }

    fn to_xml(&self, service: Service, request: &RequestId) -> WireError {
        let ((status, code), message) = (self.query_row(service), self.query_message(service));
        let body = match service {
            Service::Ec2 => Xml::document("Response", None, |xml| {
                xml.element("Errors", |xml| {
                    xml.element("Error", |xml| {
                        xml.text("Code", code);
                        xml.text("Message", &message);
                    });
                });
                xml.text("RequestID", request.as_str());
            }),
            Service::Sts => Xml::document("ErrorResponse", Some(Service::Sts.namespace()), |xml| {
                xml.element("Error", |xml| {
                    xml.text("Type", if status < 500 { "Sender" } else { "Receiver" });
                    xml.text("Code", code);
                    xml.text("Message", &message);
                });
                xml.text("RequestId", request.as_str());
            }),
        };
        WireError { status, code, message, body }
    }

    /// The error's row of the query protocol's table: HTTP status and name.
    const fn query_row(&self, service: Service) -> (u16, &'static str) {
        use Service::{Ec2, Sts};
        match (self, service) {
            (Self::Query { code, .. }, _) => code.row(),
            (Self::Authentication(error), Ec2) => match error {
                AuthenticationError::MissingToken => (403, "MissingAuthenticationToken"),
                AuthenticationError::Incomplete(_) => (400, "IncompleteSignature"),
                AuthenticationError::OutsideClockWindow(_) => (400, "RequestExpired"),
                AuthenticationError::BothHeaderAndQuery
                | AuthenticationError::WrongScope(_)
                | AuthenticationError::HostNotSigned
                | AuthenticationError::UnsignedPayload
                | AuthenticationError::UnknownKey
                | AuthenticationError::Mismatch => (401, "AuthFailure"),
            },
            (Self::Authentication(error), Sts) => match error {
                AuthenticationError::MissingToken => (403, "MissingAuthenticationToken"),
                AuthenticationError::Incomplete(_) => (400, "IncompleteSignature"),
                AuthenticationError::UnknownKey => (403, "InvalidClientTokenId"),
                AuthenticationError::OutsideClockWindow(_)
                | AuthenticationError::BothHeaderAndQuery
                | AuthenticationError::WrongScope(_)
                | AuthenticationError::HostNotSigned
                | AuthenticationError::UnsignedPayload
                | AuthenticationError::Mismatch => (403, "SignatureDoesNotMatch"),
            },
            (Self::AccessDenied(_), Ec2) => (403, "UnauthorizedOperation"),
            (Self::Suspended, Ec2) => (401, "AuthFailure"),
            (Self::AccessDenied(_) | Self::Suspended, Sts) => (403, "AccessDenied"),
            (Self::Throttling | Self::Busy | Self::SignatureUsed, Ec2) => (503, "RequestLimitExceeded"),
            (Self::Throttling | Self::Busy | Self::SignatureUsed, Sts) => (400, "Throttling"),
            (Self::RequestTooLarge, _) => (413, "RequestEntityTooLarge"),
            (Self::RequestTimeout, _) => (408, "RequestTimeout"),
            (Self::Serialization, _) => QueryErrorCode::MalformedQueryString.row(),
            // The others are not told here: they are about heads that nobody could read, and operations in JSON.
            (
                Self::Service
                | Self::MalformedHead(_)
                | Self::NotThisProtocol
                | Self::UnknownOperation
                | Self::SignedBeforeRevocation { .. }
                | Self::InstanceNotFound { .. }
                | Self::InstanceStateInvalid { .. }
                | Self::InstanceUnavailable
                | Self::Refused(_)
                | Self::InvalidArgs(_)
                | Self::SerialConsoleAccessDisabled
                | Self::SerialConsole(_)
                | Self::SerialConsoleInUse { .. }
                | Self::Administration { .. },
                Ec2,
            ) => (500, "InternalError"),
            (_, Sts) => (500, "InternalFailure"),
        }
    }

    /// What is said beside the name, in the query protocol.
    fn query_message(&self, service: Service) -> String {
        match (self, self.query_row(service).1) {
            (Self::AccessDenied(denied), _) => {
                format!("You are not authorized to perform this operation. {}", denied.message())
            }
            (Self::Authentication(AuthenticationError::WrongScope(why)), _) => why.trim_end().to_owned(),
            // EC2 does not say which of both it was, the key or the signature.
            (
                Self::Authentication(AuthenticationError::UnknownKey | AuthenticationError::Mismatch),
                "AuthFailure",
            ) => "AWS was not able to validate the provided access credentials".to_owned(),
            (Self::Throttling | Self::Busy, _) => "Request limit exceeded.".to_owned(),
            (Self::Serialization, _) => "The request did not arrive completely.".to_owned(),
            (_, "InternalError" | "InternalFailure") => Self::Service.message(),
            _ => self.message(),
        }
    }

    /// The error's row of the table: HTTP status, bare name, shape.
    const fn row(&self) -> (u16, &'static str, Shape) {
        use Shape::{Framework, Modelled, Xml};
        match self {
            Self::NotThisProtocol => (404, "UnknownOperationException", Xml),
            Self::MalformedHead(_) => (400, "MalformedHttpRequestException", Framework),
            Self::Serialization => (400, "SerializationException", Framework),
            Self::UnknownOperation => (400, "UnknownOperationException", Framework),
            Self::RequestTooLarge => (413, "RequestEntityTooLargeException", Framework),
            Self::RequestTimeout => (408, "RequestTimeoutException", Framework),
            Self::Authentication(error) => (400, authentication_code(error), Framework),
            Self::SignedBeforeRevocation { .. } => (400, "InvalidSignatureException", Framework),
            Self::AccessDenied(_) => (400, "AccessDeniedException", Modelled),
            Self::Suspended | Self::Refused(Refusal::Vetoed) => (400, "AuthException", Modelled),
            Self::InstanceNotFound { .. } => (400, "EC2InstanceNotFoundException", Modelled),
            Self::InstanceStateInvalid { .. } => (400, "EC2InstanceStateInvalidException", Modelled),
            Self::InstanceUnavailable
            | Self::Refused(
                Refusal::NoClock
                | Refusal::Expired
                | Refusal::TooLong
                | Refusal::Malformed
                | Refusal::SignerUntrusted
                | Refusal::BadSignature
                | Refusal::WrongInstance
                | Refusal::WrongBoot
                | Refusal::Withdrawn
                | Refusal::Storage
                | Refusal::Busy
                | Refusal::StockSignature
                | Refusal::NotServed
                | Refusal::Other(_),
            ) => (400, "EC2InstanceUnavailableException", Modelled),
            Self::InvalidArgs(_) => (400, "InvalidArgsException", Modelled),
            Self::SerialConsoleAccessDisabled => (400, "SerialConsoleAccessDisabledException", Modelled),
            Self::SerialConsole(error) => {
                let (status, code) = error.row();
                (status, code, Modelled)
            }
            Self::SerialConsoleInUse { .. } => {
                let (status, code) = SerialConsoleError::LimitExceeded.row();
                (status, code, Modelled)
            }
            Self::Service => (500, "ServiceException", Modelled),
            Self::Administration { code, .. } => (400, code.as_str(), Modelled),
            // Told in XML alone.
            Self::Query { code, .. } => (code.row().0, code.row().1, Modelled),
            Self::Throttling
            | Self::Busy
            | Self::SignatureUsed
            | Self::Refused(Refusal::UserFull | Refusal::InstanceFull) => {
                (400, "ThrottlingException", Modelled)
            }
        }
    }

    /// What is said beside the name; empty where AWS says nothing.
    fn message(&self) -> String {
        match self {
            Self::NotThisProtocol | Self::Serialization | Self::UnknownOperation => String::new(),
            Self::MalformedHead(error) => error.to_string(),
            Self::RequestTooLarge => "Request entity is too large.".to_owned(),
            Self::RequestTimeout => "The request did not arrive completely in time.".to_owned(),
            Self::Authentication(error) => error.to_string(),
            Self::AccessDenied(denied) => denied.message(),
            Self::SignedBeforeRevocation { signed_at, revoked_at } => format!(
                "Signature expired: {} is not later than {}, when this key was revoked, alone or with others. Sign the \
                 request again.",
                in_signatures(*signed_at),
                in_signatures(*revoked_at)
            ),
            Self::Suspended => "The account or the user of these credentials is suspended.".to_owned(),
            Self::Refused(Refusal::Vetoed) => {
                "The instance does not allow access to this OS user.".to_owned()
            }
            Self::InstanceNotFound { instance } => format!("The instance {instance} was not found."),
            Self::InstanceStateInvalid { state } => {
                format!("The instance must be running to connect to it; it is {state}.")
            }
            Self::Throttling | Self::Busy | Self::Refused(Refusal::UserFull | Refusal::InstanceFull) => {
                "Server is busy! Please retry after a moment.".to_owned()
            }
            Self::SignatureUsed => {
                "Request limit exceeded: this request was made already. Sign it again to repeat it."
                    .to_owned()
            }
            Self::InstanceUnavailable | Self::Refused(_) => {
                "The instance did not confirm the key in time. Wait a moment and push again.".to_owned()
            }
            Self::InvalidArgs(message)
            | Self::Administration { message, .. }
            | Self::Query { message, .. } => message.clone(),
            Self::SerialConsoleAccessDisabled => {
                "Serial console access is not enabled for this account.".to_owned()
            }
            Self::SerialConsole(error) => error.message().to_owned(),
            Self::SerialConsoleInUse { by, since, what } => {
                format!("{} {by} {what} {}.", SerialConsoleError::LimitExceeded.message(), timestamp(*since))
            }
            Self::Service => {
                "The service could not complete the request. Retry, and report the request id.".to_owned()
            }
        }
    }
}

impl SerialConsoleError {
    const fn row(self) -> (u16, &'static str) {
        match self {
            Self::InstanceType => (400, "EC2InstanceTypeInvalidException"),
            Self::LimitExceeded => (400, "SerialConsoleSessionLimitExceededException"),
            Self::Unavailable => (500, "SerialConsoleSessionUnavailableException"),
            Self::Unsupported => (400, "SerialConsoleSessionUnsupportedException"),
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::InstanceType => "The instance has no serial console.",
            Self::LimitExceeded => "The instance's serial console is in use. It has one session at a time.",
            Self::Unavailable => {
                "The serial console session could not be started. Wait a moment and try again."
            }
            Self::Unsupported => "The instance has to be rebooted before it has a serial console.",
        }
    }
}

impl AccessDenied {
    fn message(&self) -> String {
        let Self { caller, action, resource, denial } = self;
        let action = action.as_str();
        let why = match denial {
            Denial::Explicit(StatementRef { kind, .. }) => {
                let article = match kind {
                    PolicyKind::IdentityBased => "an",
                    PolicyKind::PermissionsBoundary => "a",
                };
                format!("with an explicit deny in {article} {kind}")
            }
            Denial::Implicit(kind) => format!("because no {kind} allows the {action} action"),
        };
        // EC2 names no resource for what is about none in particular.
        let on = if resource == "*" && matches!(self.action, Action::Query(_)) {
            String::new()
        } else {
            format!(" on resource: {resource}")
        };
        format!("User: {caller} is not authorized to perform: {action}{on} {why}")
    }
}

fn modelled_body(code: &str, message: &str) -> String {
    format!(r#"{{"__type":"{code}","Message":{}}}"#, json!(message))
}

const fn authentication_code(error: &AuthenticationError) -> &'static str {
    use AuthenticationError as E;
    match error {
        E::MissingToken => "MissingAuthenticationTokenException",
        E::Incomplete(_) => "IncompleteSignatureException",
        E::BothHeaderAndQuery
        | E::WrongScope(_)
        | E::OutsideClockWindow(_)
        | E::HostNotSigned
        | E::UnsignedPayload
        | E::Mismatch => "InvalidSignatureException",
        E::UnknownKey => "UnrecognizedClientException",
    }
}

impl From<MalformedHead> for ApiError {
    fn from(error: MalformedHead) -> Self {
        Self::MalformedHead(error)
    }
}

impl From<AuthenticationError> for ApiError {
    fn from(error: AuthenticationError) -> Self {
        Self::Authentication(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn golden_bodies() {
        let denied = |denial| {
            ApiError::AccessDenied(Box::new(AccessDenied {
                caller: "arn:aws:iam::111122223333:user/alice".into(),
                action: Action::SendSshPublicKey,
                resource: "arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0".into(),
                denial,
            }))
        };
        let by = |kind| StatementRef { kind, policy: "secret".into(), statement: "secret".into() };
        for (error, status, body) in [
            (ApiError::NotThisProtocol, 404, "<UnknownOperationException/>\n"),
            (
                MalformedHead::NoHost.into(),
                400,
                r#"{"__type":"com.amazon.coral.service#MalformedHttpRequestException","message":"The request must have a 'host' header."}"#,
            ),
            (
                ApiError::SignedBeforeRevocation {
                    signed_at: UnixSeconds(1_928_541_906),
                    revoked_at: UnixSeconds(1_928_541_910),
                },
                400,
                r#"{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"Signature expired: 20310211T020506Z is not later than 20310211T020510Z, when this key was revoked, alone or with others. Sign the request again."}"#,
            ),
            (ApiError::Serialization, 400, r#"{"__type":"com.amazon.coral.service#SerializationException"}"#),
            (
                ApiError::UnknownOperation,
                400,
                r#"{"__type":"com.amazon.coral.service#UnknownOperationException"}"#,
            ),
            (
                ApiError::RequestTooLarge,
                413,
                r#"{"__type":"com.amazon.coral.service#RequestEntityTooLargeException","message":"Request entity is too large."}"#,
            ),
            (
                ApiError::RequestTimeout,
                408,
                r#"{"__type":"com.amazon.coral.service#RequestTimeoutException","message":"The request did not arrive completely in time."}"#,
            ),
            (
                AuthenticationError::MissingToken.into(),
                400,
                r#"{"__type":"com.amazon.coral.service#MissingAuthenticationTokenException","message":"Request is missing Authentication Token"}"#,
            ),
            (
                AuthenticationError::UnknownKey.into(),
                400,
                r#"{"__type":"com.amazon.coral.service#UnrecognizedClientException","message":"The security token included in the request is invalid."}"#,
            ),
            (
                AuthenticationError::Mismatch.into(),
                400,
                r#"{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."}"#,
            ),
            (
                AuthenticationError::Incomplete("a \"b\"".into()).into(),
                400,
                r#"{"__type":"com.amazon.coral.service#IncompleteSignatureException","message":"a \"b\""}"#,
            ),
            (
                denied(Denial::Implicit(PolicyKind::IdentityBased)),
                400,
                r#"{"__type":"AccessDeniedException","Message":"User: arn:aws:iam::111122223333:user/alice is not authorized to perform: ec2-instance-connect:SendSSHPublicKey on resource: arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0 because no identity-based policy allows the ec2-instance-connect:SendSSHPublicKey action"}"#,
            ),
            (
                denied(Denial::Implicit(PolicyKind::PermissionsBoundary)),
                400,
                r#"{"__type":"AccessDeniedException","Message":"User: arn:aws:iam::111122223333:user/alice is not authorized to perform: ec2-instance-connect:SendSSHPublicKey on resource: arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0 because no permissions boundary allows the ec2-instance-connect:SendSSHPublicKey action"}"#,
            ),
            (
                denied(Denial::Explicit(by(PolicyKind::PermissionsBoundary))),
                400,
                r#"{"__type":"AccessDeniedException","Message":"User: arn:aws:iam::111122223333:user/alice is not authorized to perform: ec2-instance-connect:SendSSHPublicKey on resource: arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0 with an explicit deny in a permissions boundary"}"#,
            ),
            (
                denied(Denial::Explicit(by(PolicyKind::IdentityBased))),
                400,
                r#"{"__type":"AccessDeniedException","Message":"User: arn:aws:iam::111122223333:user/alice is not authorized to perform: ec2-instance-connect:SendSSHPublicKey on resource: arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0 with an explicit deny in an identity-based policy"}"#,
            ),
            (
                ApiError::Suspended,
                400,
                r#"{"__type":"AuthException","Message":"The account or the user of these credentials is suspended."}"#,
            ),
            (
                ApiError::Refused(Refusal::Vetoed),
                400,
                r#"{"__type":"AuthException","Message":"The instance does not allow access to this OS user."}"#,
            ),
            (
                ApiError::InstanceNotFound { instance: "i-0123456789abcdef0".into() },
                400,
                r#"{"__type":"EC2InstanceNotFoundException","Message":"The instance i-0123456789abcdef0 was not found."}"#,
            ),
            (
                ApiError::InstanceStateInvalid { state: "stopped" },
                400,
                r#"{"__type":"EC2InstanceStateInvalidException","Message":"The instance must be running to connect to it; it is stopped."}"#,
            ),
            (
                ApiError::InstanceUnavailable,
                400,
                r#"{"__type":"EC2InstanceUnavailableException","Message":"The instance did not confirm the key in time. Wait a moment and push again."}"#,
            ),
            (
                ApiError::InvalidArgs("x\n\"".into()),
                400,
                r#"{"__type":"InvalidArgsException","Message":"x\n\""}"#,
            ),
            (
                ApiError::SerialConsoleAccessDisabled,
                400,
                r#"{"__type":"SerialConsoleAccessDisabledException","Message":"Serial console access is not enabled for this account."}"#,
            ),
            (
                ApiError::SerialConsole(SerialConsoleError::InstanceType),
                400,
                r#"{"__type":"EC2InstanceTypeInvalidException","Message":"The instance has no serial console."}"#,
            ),
            (
                ApiError::SerialConsole(SerialConsoleError::LimitExceeded),
                400,
                r#"{"__type":"SerialConsoleSessionLimitExceededException","Message":"The instance's serial console is in use. It has one session at a time."}"#,
            ),
            (
                ApiError::SerialConsoleInUse {
                    by: "arn:aws:iam::111122223333:user/alice".into(),
                    since: UnixSeconds(1_928_628_306),
                    what: "has had it since",
                },
                400,
                r#"{"__type":"SerialConsoleSessionLimitExceededException","Message":"The instance's serial console is in use. It has one session at a time. arn:aws:iam::111122223333:user/alice has had it since 2031-02-12T02:05:06Z."}"#,
            ),
            (
                ApiError::SerialConsole(SerialConsoleError::Unavailable),
                500,
                r#"{"__type":"SerialConsoleSessionUnavailableException","Message":"The serial console session could not be started. Wait a moment and try again."}"#,
            ),
            (
                ApiError::SerialConsole(SerialConsoleError::Unsupported),
                400,
                r#"{"__type":"SerialConsoleSessionUnsupportedException","Message":"The instance has to be rebooted before it has a serial console."}"#,
            ),
            (
                ApiError::Administration {
                    code: AdministrationErrorCode::NoSuchEntity,
                    message: "The user with name bob cannot be found.".into(),
                },
                400,
                r#"{"__type":"NoSuchEntity","Message":"The user with name bob cannot be found."}"#,
            ),
            (
                ApiError::Service,
                500,
                r#"{"__type":"ServiceException","Message":"The service could not complete the request. Retry, and report the request id."}"#,
            ),
        ] {
            let wire = error.to_json();
            assert_eq!((wire.status, wire.body.as_str()), (status, body), "{error:?}");
            assert!(wire.body.contains(wire.code));
        }
    }

    #[test]
    fn the_statement_that_denied_is_for_the_audit_log() {
        let by = StatementRef { kind: PolicyKind::IdentityBased, policy: "p".into(), statement: "s".into() };
        let denied = |denial| {
            let (caller, resource) = (String::new(), String::new());
            let action = Action::SendSshPublicKey;
            ApiError::AccessDenied(Box::new(AccessDenied { caller, action, resource, denial }))
        };
        assert_eq!(denied(Denial::Explicit(by.clone())).denied_by(), Some(&by));
        assert_eq!(denied(Denial::Implicit(PolicyKind::IdentityBased)).denied_by(), None);
        assert_eq!(ApiError::Throttling.denied_by(), None);
    }

    /// What a caller is not told of the machine's reason, its record says.
    #[test]
    fn a_machines_refusal_is_told_as_one_of_three_errors() {
        let unavailable = ApiError::InstanceUnavailable.to_json();
        for &refusal in Refusal::ALL.iter().chain(&[Refusal::Other(200)]) {
            let expected = match refusal {
                // One of the golden bodies.
                Refusal::Vetoed => continue,
                Refusal::UserFull | Refusal::InstanceFull => ApiError::Throttling.to_json(),
                _ => unavailable.clone(),
            };
            assert_eq!(ApiError::Refused(refusal).to_json(), expected, "{refusal}");
        }
    }

    /// Names of one protocol mean one error each, and none of another protocol: a fault is told by its name alone.
    #[test]
    fn errors_on_demand_are_told_apart_by_their_names() {
        let errors =
            Protocol::ALL.map(|protocol| (protocol, ApiError::of_protocol(protocol, "i-0123456789abcdef0")));
        let names: Vec<&str> = errors
            .iter()
            .flat_map(|(protocol, errors)| errors.iter().map(|error| error.code(*protocol)))
            .collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        for code in ["InternalError", "InternalFailure"] {
            assert_eq!(
                names.iter().filter(|name| **name == code).count(),
                1,
                "what no protocol has is told as our fault"
            );
        }
    }

    #[test]
    fn each_modelled_error_has_a_name_of_its_own() {
        let modelled = ApiError::of_protocol(Protocol::Json, "i-0123456789abcdef0");
        let mut names: Vec<&str> = modelled.iter().map(|error| error.code(Protocol::Json)).collect();
        names.sort_unstable();
        // botocore's model of the service names these, in this order.
        let expected = [
            "AuthException",
            "EC2InstanceNotFoundException",
            "EC2InstanceStateInvalidException",
            "EC2InstanceTypeInvalidException",
            "EC2InstanceUnavailableException",
            "InvalidArgsException",
            "SerialConsoleAccessDisabledException",
            "SerialConsoleSessionLimitExceededException",
            "SerialConsoleSessionUnavailableException",
            "SerialConsoleSessionUnsupportedException",
            "ServiceException",
            "ThrottlingException",
        ];
        assert_eq!(names, expected);
        for error in modelled {
            assert!(error.to_json().body.starts_with(r#"{"__type":""#), "{error:?}");
        }
    }

    #[test]
    fn the_throttling_body_of_the_real_trace() {
        // wire.md 1.8: the trace has Content-Length 89.
        for error in [ApiError::Throttling, ApiError::Busy] {
            let wire = error.to_json();
            assert_eq!(
                wire.body,
                r#"{"__type":"ThrottlingException","Message":"Server is busy! Please retry after a moment."}"#
            );
            assert_eq!((wire.status, wire.body.len()), (400, 89));
        }
    }
}
