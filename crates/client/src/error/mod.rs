//! Everything that can go wrong with a call, in one enum.

mod answer;

#[cfg(feature = "ec2")]
pub(crate) use answer::Said;
pub(crate) use answer::from_answer;

use crate::clock::skew_behind;
use crate::retry::Retryable;
use instance_connect_core::printable::printable;
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
    /// `ThrottlingException`, or another code by which AWS or a proxy says that there are too many requests.
    #[error("{0}")]
    Throttling(Box<Fault>),

    /// The credentials are good, but no policy allows this: `AccessDeniedException`.
    #[error("{0}")]
    AccessDenied(Box<Fault>),
    /// The access key or the session token is not known: `UnrecognizedClientException`, `InvalidClientTokenId`.
    #[error("{0}")]
    UnrecognizedClient(Box<Fault>),
    /// The temporary credentials have expired: `ExpiredTokenException`.
    #[error("{0}")]
    ExpiredToken(Box<Fault>),
    /// The signature is not right, or did not arrive whole: `InvalidSignatureException`, `SignatureDoesNotMatch`,
    /// `IncompleteSignatureException`, `MissingAuthenticationTokenException`.
    #[error("{0}")]
    InvalidSignature(Box<Fault>),
    /// The signature's time is not the service's: `RequestTimeTooSkewed`, `RequestExpired`, `RequestInTheFuture`, and
    /// `InvalidSignatureException` where its text says so. [`Fault::clock_skew`] is by how much.
    #[error("{0}")]
    ClockSkew(Box<Fault>),
    /// The service has no such operation: `UnknownOperationException`. Another service may be listening there.
    #[error("{0}")]
    UnknownOperation(Box<Fault>),
    /// Any other error answer. Its code is the HTTP status where the answer does not give one.
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
    /// The other side could not prove that it is the service, or its TLS does not go with ours.
    #[error("{action}")]
    Tls {
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
        /// Why the attempt before it failed, when the limit was one for all attempts together.
        #[source]
        before: Option<Box<Self>>,
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
    /// How long the service asks to wait before another attempt: `x-amz-retry-after`, else `Retry-After`.
    pub retry_after: Option<Duration>,
    /// How many seconds the service's clock is ahead of this machine's, by the answer's `Date`, or where it has none by the words of a
    /// refusal; negative when behind.
    pub clock_skew: Option<i64>,
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
            | Self::ExpiredToken(fault)
            | Self::InvalidSignature(fault)
            | Self::ClockSkew(fault)
            | Self::UnknownOperation(fault)
            | Self::Service(fault) => Some(fault),
            Self::InvalidAnswer { .. }
            | Self::Transport { .. }
            | Self::Tls { .. }
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

    /// Whether the same call may succeed if made again. The client has made that attempt itself, as often as its settings
    /// allow.
    pub fn is_retryable(&self) -> bool {
        self.retryable().is_some()
    }

    /// How many seconds the service's clock is ahead of this machine's, negative when behind, where that is why a signature
    /// was refused.
    pub fn wrong_clock(&self) -> Option<i64> {
        skew_behind(self, 0)
    }

    /// Whether the service has said that it refused before it did anything: too many requests, or a signature that is not
    /// good, as when a clock is wrong.
    pub(crate) fn says_nothing_was_done(&self) -> bool {
        matches!(self, Self::Throttling(_) | Self::ClockSkew(_) | Self::InvalidSignature(_))
    }

    /// What the failure says about another attempt: the SDKs' rule (wire.md 1.13). `EC2InstanceUnavailableException` is
    /// none of them, since it comes with status 400 and means minutes.
    pub(crate) fn retryable(&self) -> Option<Retryable> {
        let transient = match self.fault() {
            Some(_) if matches!(self, Self::Throttling(_)) => return Some(Retryable::Throttled),
            Some(fault) => fault.is_transient(),
            None => matches!(self, Self::Transport { .. } | Self::Timeout { .. }),
        };
        transient.then_some(Retryable::Transient)
    }
}

impl Fault {
    fn is_transient(&self) -> bool {
        matches!(self.status, 500 | 502 | 503 | 504)
            || matches!(self.code.as_str(), "RequestTimeout" | "RequestTimeoutException")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.code))?;
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", printable(&self.message)) }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, message, request_id, status, .. } = self;
        write!(f, "Fault {{ {status} {code:?}: {message:?}, request id {request_id:?} }}")
    }
}
