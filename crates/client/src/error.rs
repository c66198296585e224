//! Everything that can go wrong with a call, in one enum, and how an error answer is read.

use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// Why a call failed.
///
/// The variants with a [`Fault`] are answers of the service; their names are those of the API without `Exception`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `AuthException`: bad credentials, or no access to the instance.
    #[error("{0}")]
    Auth(Box<Fault>),
    /// `EC2InstanceNotFoundException`: no such instance.
    #[error("{0}")]
    Ec2InstanceNotFound(Box<Fault>),
    /// `EC2InstanceStateInvalidException`: the instance is not in a state that can be connected to, such as stopped.
    #[error("{0}")]
    Ec2InstanceStateInvalid(Box<Fault>),
    /// `EC2InstanceTypeInvalidException`: the instance's type has no serial console.
    #[error("{0}")]
    Ec2InstanceTypeInvalid(Box<Fault>),
    /// `EC2InstanceUnavailableException`: the instance cannot be reached now; try again in some minutes.
    #[error("{0}")]
    Ec2InstanceUnavailable(Box<Fault>),
    /// `InvalidArgsException`: a parameter is not valid.
    #[error("{0}")]
    InvalidArgs(Box<Fault>),
    /// `SerialConsoleAccessDisabledException`: the account has not switched the serial console on.
    #[error("{0}")]
    SerialConsoleAccessDisabled(Box<Fault>),
    /// `SerialConsoleSessionLimitExceededException`: the instance's one session is taken.
    #[error("{0}")]
    SerialConsoleSessionLimitExceeded(Box<Fault>),
    /// `SerialConsoleSessionUnavailableException`: the session could not be started; try again.
    #[error("{0}")]
    SerialConsoleSessionUnavailable(Box<Fault>),
    /// `SerialConsoleSessionUnsupportedException`: the instance must be rebooted or updated before it has a console.
    #[error("{0}")]
    SerialConsoleSessionUnsupported(Box<Fault>),
    /// `ServiceException`: the service failed.
    #[error("{0}")]
    ServiceFailure(Box<Fault>),
    /// `ThrottlingException`: too many requests.
    #[error("{0}")]
    Throttling(Box<Fault>),

    /// `AccessDeniedException`: the credentials are good, but no policy allows this.
    #[error("{0}")]
    AccessDenied(Box<Fault>),
    /// `UnrecognizedClientException`: the access key or the session token is not known.
    #[error("{0}")]
    UnrecognizedClient(Box<Fault>),
    /// `InvalidSignatureException`: a wrong secret key, or a clock that is minutes off.
    #[error("{0}")]
    InvalidSignature(Box<Fault>),
    /// `MissingAuthenticationTokenException`: the request came without a signature.
    #[error("{0}")]
    MissingAuthenticationToken(Box<Fault>),
    /// `IncompleteSignatureException`: parts of the signature are missing.
    #[error("{0}")]
    IncompleteSignature(Box<Fault>),
    /// `ExpiredTokenException`: the temporary credentials have expired.
    #[error("{0}")]
    ExpiredToken(Box<Fault>),
    /// Any other error answer. Its code is the HTTP status where the body does not give one.
    #[error("{0}")]
    Service(Box<Fault>),

    /// A success that cannot be read.
    #[error("the answer is not one of EC2 Instance Connect: {reason}")]
    InvalidAnswer {
        /// What is wrong with it.
        reason: String,
        /// The service's id of the request, when it came.
        request_id: Option<String>,
    },
    /// The request or its answer did not get through.
    #[error("{action}")]
    Transport {
        /// What could not be done, such as `cannot connect to …`.
        action: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("{action} took longer than {} s", limit.as_secs_f32())]
    Timeout {
        /// What took too long.
        action: String,
        /// The limit that was passed.
        limit: Duration,
    },
    /// No usable credentials.
    #[error("{0}")]
    Credentials(String),
    /// The configuration is incomplete or contradicts itself.
    #[error("{0}")]
    Configuration(String),
}

/// An error answer of the service.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// The error code, such as `InvalidArgsException`.
    pub code: String,
    /// The message as it came. It is text from outside: [`Display`](fmt::Display) escapes what a terminal would obey.
    pub message: String,
    /// The service's id of the request.
    pub request_id: Option<String>,
    /// The HTTP status.
    pub status: u16,
}

impl Error {
    /// The service's answer, for the errors that are one.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Auth(fault)
            | Self::Ec2InstanceNotFound(fault)
            | Self::Ec2InstanceStateInvalid(fault)
            | Self::Ec2InstanceTypeInvalid(fault)
            | Self::Ec2InstanceUnavailable(fault)
            | Self::InvalidArgs(fault)
            | Self::SerialConsoleAccessDisabled(fault)
            | Self::SerialConsoleSessionLimitExceeded(fault)
            | Self::SerialConsoleSessionUnavailable(fault)
            | Self::SerialConsoleSessionUnsupported(fault)
            | Self::ServiceFailure(fault)
            | Self::Throttling(fault)
            | Self::AccessDenied(fault)
            | Self::UnrecognizedClient(fault)
            | Self::InvalidSignature(fault)
            | Self::MissingAuthenticationToken(fault)
            | Self::IncompleteSignature(fault)
            | Self::ExpiredToken(fault)
            | Self::Service(fault) => Some(fault),
            Self::InvalidAnswer { .. }
            | Self::Transport { .. }
            | Self::Timeout { .. }
            | Self::Credentials(_)
            | Self::Configuration(_) => None,
        }
    }

    /// The service's id of the request, when there was an answer.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::InvalidAnswer { request_id, .. } => request_id.as_deref(),
            _ => self.fault()?.request_id.as_deref(),
        }
    }

    /// Whether the same call may succeed if made again. The client itself makes one attempt.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Throttling(_) | Self::ServiceFailure(_) | Self::SerialConsoleSessionUnavailable(_) => true,
            Self::Service(fault) => matches!(fault.status, 429 | 500 | 502 | 503 | 504),
            Self::Transport { .. } | Self::Timeout { .. } => true,
            _ => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |f: &mut fmt::Formatter<'_>, text: &str| {
            text.chars().try_for_each(|symbol| {
                if symbol.is_control() {
                    write!(f, "{}", symbol.escape_default())
                } else {
                    write!(f, "{symbol}")
                }
            })
        };
        shown(f, &self.code)?;
        if !self.message.is_empty() {
            f.write_str(": ")?;
            shown(f, &self.message)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, message, request_id, status } = self;
        write!(f, "Fault {{ {status} {code:?}: {message:?}, request id {request_id:?} }}")
    }
}

/// The longest part of a body without a code that becomes the message.
const MESSAGE_OF_FOREIGN_BODY: usize = 200;

/// Reads an error answer as the SDKs do (wire.md 1.9): the code from the header, else from the body's `__type` or
/// `code`; the message from `message`, else `Message`.
pub(crate) fn from_answer(
    status: u16,
    type_header: Option<&str>,
    request_id: Option<String>,
    body: &[u8],
) -> Error {
    let body_code;
    let message;
    match serde_json::from_slice::<Map<String, Value>>(body) {
        Ok(members) => {
            body_code = text_member(&members, ["__type", "code"]);
            // Services spell it either way: modelled errors with a capital, those of the framework without.
            message = text_member(&members, ["message", "Message"]).unwrap_or_default();
        }
        Err(_) => (body_code, message) = (None, foreign_message(body)),
    }
    let code = type_header.or(body_code.as_deref()).map(bare_code).filter(|code| !code.is_empty());
    let code = code.map_or_else(|| status.to_string(), str::to_owned);
    classify(Fault { code, message, request_id, status })
}

/// The first of `names` that is a text.
fn text_member(members: &Map<String, Value>, names: [&str; 2]) -> Option<String> {
    names.iter().find_map(|name| members.get(*name)?.as_str()).map(str::to_owned)
}

/// `com.amazon.coral.service#Name:http://…` is `Name`: cut at the first colon, then keep what follows the last `#`.
fn bare_code(code: &str) -> &str {
    let code = code.split(':').next().unwrap_or_default();
    code.rsplit('#').next().unwrap_or_default().trim()
}

/// A proxy's page or the like: its beginning, on one line.
fn foreign_message(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(MESSAGE_OF_FOREIGN_BODY).collect()
}

fn classify(fault: Fault) -> Error {
    let variant: fn(Box<Fault>) -> Error = match fault.code.as_str() {
        "AuthException" => Error::Auth,
        "EC2InstanceNotFoundException" => Error::Ec2InstanceNotFound,
        "EC2InstanceStateInvalidException" => Error::Ec2InstanceStateInvalid,
        "EC2InstanceTypeInvalidException" => Error::Ec2InstanceTypeInvalid,
        "EC2InstanceUnavailableException" => Error::Ec2InstanceUnavailable,
        "InvalidArgsException" => Error::InvalidArgs,
        "SerialConsoleAccessDisabledException" => Error::SerialConsoleAccessDisabled,
        "SerialConsoleSessionLimitExceededException" => Error::SerialConsoleSessionLimitExceeded,
        "SerialConsoleSessionUnavailableException" => Error::SerialConsoleSessionUnavailable,
        "SerialConsoleSessionUnsupportedException" => Error::SerialConsoleSessionUnsupported,
        "ServiceException" => Error::ServiceFailure,
        "ThrottlingException" => Error::Throttling,
        "AccessDeniedException" => Error::AccessDenied,
        "UnrecognizedClientException" => Error::UnrecognizedClient,
        "InvalidSignatureException" => Error::InvalidSignature,
        "MissingAuthenticationTokenException" => Error::MissingAuthenticationToken,
        "IncompleteSignatureException" => Error::IncompleteSignature,
        "ExpiredTokenException" => Error::ExpiredToken,
        _ => Error::Service,
    };
    variant(Box::new(fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(status: u16, header: Option<&str>, body: &str) -> Fault {
        from_answer(status, header, Some("id".to_owned()), body.as_bytes()).fault().unwrap().clone()
    }

    #[test]
    fn code_and_message_are_found_where_sdks_find_them() {
        let cases: &[(Option<&str>, &str, &str, &str)] = &[
            (None, r#"{"__type":"A","Message":"m"}"#, "A", "m"),
            (None, r#"{"__type":"com.amazon.coral.service#A","message":"m"}"#, "A", "m"),
            (None, r#"{"__type":"x#A:http://internal/","message":"m","Message":"n"}"#, "A", "m"),
            (None, r#"{"code":"A"}"#, "A", ""),
            (Some("A"), r#"{"__type":"A"}"#, "A", ""),
            (Some("ns#A:http://internal.amazon.com/coral/"), "{}", "A", ""),
            (Some(""), r#"{"Message":"m"}"#, "400", "m"),
            (None, r##"{"__type":"#:","Message":"m"}"##, "400", "m"),
            (None, "", "400", ""),
            (None, "<html>\n  <b>no\u{1}</b>", "400", "<html> <b>no\u{1}</b>"),
            (None, r#"{"__type":5,"message":"m"}"#, "400", "m"),
            (None, "[]", "400", "[]"),
        ];
        for (header, body, code, message) in cases {
            let fault = fault(400, *header, body);
            assert_eq!((fault.code.as_str(), fault.message.as_str()), (*code, *message), "{header:?} {body}");
        }
    }

    #[test]
    fn foreign_bodies_are_cut() {
        assert_eq!(fault(502, None, &"x".repeat(70_000)).message.len(), MESSAGE_OF_FOREIGN_BODY);
    }

    #[test]
    fn control_characters_are_not_shown() {
        let fault = fault(400, None, r#"{"__type":"A\u001b[2J","Message":"m\u0007\u009b\nerror: none"}"#);
        assert_eq!(fault.to_string(), r"A\u{1b}[2J: m\u{7}\u{9b}\nerror: none");
    }
}
