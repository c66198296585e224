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
    /// Whether the same may go well a little later.
    pub(crate) may_pass: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, may_pass: false }
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
            Error::Transport { .. }
            | Error::Tls { .. }
            | Error::Timeout { .. }
            | Error::InvalidAnswer { .. } => Exit::General,
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
        Self { exit, hint: hint_for(&error, &message), message, may_pass: error.is_retryable() }
    }
}

/// What is wrong with a clock; `service_ahead` is in seconds, negative where the service's is behind.
pub(crate) fn wrong_clock(service_ahead: i64) -> String {
    let which = if service_ahead > 0 { "behind" } else { "ahead of" };
    let (amount, unit) = match service_ahead.unsigned_abs() / 60 {
        minutes @ 0..120 => (minutes, "minutes"),
        minutes @ 120..2880 => (minutes / 60, "hours"),
        minutes => (minutes / 60 / 24, "days"),
    };
    format!("this machine's clock is {amount} {unit} {which} the service's; set it, for example by NTP")
}

/// What usually helps. The service's own text stays in front; this is only a pointer.
fn hint_for(error: &Error, message: &str) -> Option<String> {
    if let Some(service_ahead) = error.wrong_clock() {
        return Some(wrong_clock(service_ahead));
    }
    let hint = match error {
        Error::AccessDenied(fault) if fault.message.contains(" to perform: instance-connect:") => {
            "ask an administrator for a policy that allows this action on this resource"
        }
        Error::AccessDenied(_) => {
            "ask for a policy that allows ec2-instance-connect:SendSSHPublicKey on this instance for this OS user"
        }
        Error::UnrecognizedClient(_) => {
            "this service does not know the access key; --debug shows which key and which endpoint were used"
        }
        Error::ClockSkew(_) => "this machine's clock may be wrong; set it, for example by NTP",
        Error::InvalidSignature(_) => {
            "the secret key may belong to another access key, or the region to another service; see --debug"
        }
        Error::ExpiredToken(_) => "get new temporary credentials",
        Error::UnknownOperation(_) => "another service may be listening there; see --debug",
        Error::Ec2InstanceNotFound(_) => "check the instance id and the region (--region)",
        Error::Ec2InstanceStateInvalid(_) => "the instance must be running",
        Error::Ec2InstanceUnavailable(_) => "the instance cannot be reached at the moment; try again shortly",
        Error::Throttling(_) => "wait a moment and try again",
        Error::Tls { .. } if message.contains("UnknownIssuer") => {
            "name the service's certificate authority with --ca-bundle or AWS_CA_BUNDLE"
        }
        Error::Transport { .. } | Error::Tls { .. } | Error::Timeout { .. } => {
            "is the service there? its URL comes from --endpoint-url, AWS_ENDPOINT_URL or the profile; see --debug"
        }
        Error::Configuration(text) if text.starts_with("no region") => {
            "give --region, such as --region us-east-1"
        }
        Error::Configuration(text) if text.contains("plain http") => {
            "--allow-plain-http allows it, for networks where nobody can listen"
        }
        Error::Credentials(text) if text.starts_with("no credentials") => {
            "set the two variables, or run `aws configure`, or name a profile with --profile"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks() {
        for (seconds, expected) in [
            (600, "10 minutes behind"),
            (-719, "11 minutes ahead of"),
            (7200, "2 hours behind"),
            (-86_400 * 400, "400 days ahead of"),
            (i64::MIN, "106751991167300 days ahead of"),
        ] {
            let expected =
                format!("this machine's clock is {expected} the service's; set it, for example by NTP");
            assert_eq!(wrong_clock(seconds), expected);
        }
    }
}
