//! Why a command failed, for people: what happened, what to do, and the exit code.

use instance_connect_client::Error;
use std::error::Error as _;

/// Exit codes, as the AWS CLI has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Parameter = 252,
    Configuration = 253,
    Service = 254,
    General = 255,
}

/// A failure as it is shown.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// With what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Configuration(_) | Error::Credentials(_) => Exit::Configuration,
            Error::Transport { .. } | Error::Timeout { .. } | Error::InvalidAnswer { .. } => Exit::General,
            _ => Exit::Service,
        };
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        if let Some(id) = error.request_id() {
            message = format!("{message} (request id {})", id.escape_default());
        }
        Self { exit, hint: hint_for(&error, &message).map(str::to_owned), message }
    }
}

/// What usually helps. The service's own text stays in front; this is only a pointer.
fn hint_for(error: &Error, message: &str) -> Option<&'static str> {
    match error {
        Error::AccessDenied(_) => Some(
            "ask for a policy that allows ec2-instance-connect:SendSSHPublicKey on this instance for this OS user",
        ),
        Error::UnrecognizedClient(_) => Some(
            "this service does not know the access key; --debug shows which key and which endpoint were used",
        ),
        Error::InvalidSignature(_) if message.contains("expired") || message.contains("not yet current") => {
            Some("this machine's clock differs from the service's; set it, for example by NTP")
        }
        Error::InvalidSignature(_) => Some(
            "the secret key may belong to another access key, or the region to another service; see --debug",
        ),
        Error::ExpiredToken(_) => Some("get new temporary credentials"),
        Error::Ec2InstanceNotFound(_) => Some("check the instance id and the region (--region)"),
        Error::Ec2InstanceStateInvalid(_) => Some("the instance must be running"),
        Error::Ec2InstanceUnavailable(_) => {
            Some("the instance cannot be reached at the moment; try again shortly")
        }
        Error::Throttling(_) => Some("wait a moment and try again"),
        Error::Transport { .. } if message.contains("UnknownIssuer") => {
            Some("name the service's certificate authority with --ca-bundle or AWS_CA_BUNDLE")
        }
        Error::Transport { .. } | Error::Timeout { .. } => Some(
            "is the service there? its URL comes from --endpoint-url, AWS_ENDPOINT_URL or the profile; see --debug",
        ),
        Error::Configuration(text) if text.starts_with("no region") => {
            Some("give --region, such as --region us-east-1")
        }
        Error::Configuration(text) if text.contains("plain http") => {
            Some("--allow-plain-http allows it, for networks where nobody can listen")
        }
        Error::Credentials(text) if text.starts_with("no credentials") => {
            Some("set the two variables, or run `aws configure`, or name a profile with --profile")
        }
        _ => None,
    }
}
