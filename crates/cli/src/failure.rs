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

/// What is always left to do where the service has answered, and nobody knows better.
pub(crate) const FIND_THE_REQUEST: &str = "--debug shows what was asked and answered; the service's operators find the request by its id in the audit log";

/// What to look at where the service has no such instance.
pub(crate) const CHECK_THE_INSTANCE: &str = "check the instance id and the region (--region)";

/// What usually helps. The service's own text stays in front; this is only a pointer.
fn hint_for(error: &Error, message: &str) -> Option<String> {
    if let Some(service_ahead) = error.wrong_clock() {
        return Some(wrong_clock(service_ahead));
    }
    let hint = match error {
        Error::AccessDenied(fault) if fault.message.contains(" to perform: instance-connect:") => {
            "ask an administrator for a policy that allows this action on this resource"
        }
        Error::AccessDenied(fault) if fault.code == "UnauthorizedOperation" => {
            "ask for a policy that allows this of EC2's actions, such as ec2:DescribeInstances, which finds instances"
        }
        Error::AccessDenied(fault) if fault.message.contains(":SendSerialConsoleSSHPublicKey ") => {
            "ask for a policy that allows ec2-instance-connect:SendSerialConsoleSSHPublicKey on this instance"
        }
        Error::AccessDenied(_) => {
            "ask for a policy that allows ec2-instance-connect:SendSSHPublicKey on this instance for this OS user"
        }
        Error::UnrecognizedClient(fault) if fault.code == "AuthFailure" => {
            "EC2's API does not say which of it is wrong: the access key, its secret or the region; see --debug"
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
        Error::Ec2InstanceNotFound(_) => CHECK_THE_INSTANCE,
        Error::Ec2InstanceStateInvalid(_) => "the instance must be running",
        Error::Ec2InstanceUnavailable(_) => "the instance cannot be reached at the moment; try again shortly",
        Error::Ec2InstanceTypeInvalid(_) => {
            "no line is set up for this instance: its machine, or the one that answers for it, says which it has in /etc/instance-connect/lines.toml (docs/console.md)"
        }
        Error::SerialConsoleAccessDisabled(_) => {
            "an administrator of the account switches it on: instance-connect account serial-console enable"
        }
        Error::SerialConsoleSessionLimitExceeded(fault) if fault.message.contains(" has left it ") => {
            "the line is let go half a minute after a session, unless the service is set otherwise: try again then"
        }
        Error::SerialConsoleSessionLimitExceeded(_) => {
            "`instance-connect console INSTANCE --watch` looks on meanwhile; `--terminate` instead ends the session, for who may do that"
        }
        Error::SerialConsoleSessionUnavailable(_) => {
            "try again shortly; `instance-connect instance show INSTANCE` says whether its agent's link is open, and `instance-connect console fingerprint` whether a gateway is running"
        }
        Error::SerialConsoleSessionUnsupported(_) => "reboot the instance, then try again",
        Error::Throttling(_) => "wait a moment and try again",
        Error::Auth(_) => "`instance-connect whoami` says whose credentials these are",
        Error::InvalidArgs(_) => "--debug shows what was sent",
        Error::InvalidAnswer { .. } => "another service may be listening there; see --debug",
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
        Error::Configuration(_) => {
            "`instance-connect --help` has the options, variables and files that the configuration is taken from"
        }
        Error::Credentials(text) => hint_for_credentials(text),
        error if error.fault().is_some_and(|fault| fault.status >= 500) => {
            "the service itself failed: try again shortly; its operators find the request by its id"
        }
        error if error.fault().is_some() => FIND_THE_REQUEST,
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What usually helps where there are no credentials. Where people run the AWS CLI themselves, it has to do without our endpoint and our
/// certificate authority, which their shell may export: our service would get the token by which they sign in.
fn hint_for_credentials(text: &str) -> &'static str {
    if text.starts_with("no credentials") {
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`, or name a profile with --profile";
    }
    if text.starts_with("the credential_process of ") {
        return "the profile in ~/.aws/config names the program; run it by itself, and it may say more";
    }
    if !text.starts_with("`aws ") {
        return "give AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or a profile that has both";
    }
    if text.contains(" on the PATH") {
        return "install it, or have another machine's asked by a profile with \
            `credential_process = ssh HOST env -u AWS_CA_BUNDLE AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true \
            aws configure export-credentials --format process --profile NAME`";
    }
    let said = text.split_once(" failed (").map_or("", |(_, said)| said).to_ascii_lowercase();
    let refused = said.contains("an error occurred (") && !said.contains("expired");
    if !refused && ["sso", "token", "login", "expired"].iter().any(|word| said.contains(word)) {
        return "sign in first: `env -u AWS_CA_BUNDLE AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true aws sso login --profile NAME`, \
            or the same with `login` for `sso login`";
    }
    "see whether the profile works by itself: `env -u AWS_CA_BUNDLE AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true \
        aws sts get-caller-identity --profile NAME`; what it assumes and by what is in ~/.aws/config"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_where_there_are_no_credentials() {
        for (text, expected) in [
            ("no credentials: AWS_ACCESS_KEY_ID is not set", "set AWS_ACCESS_KEY_ID and"),
            ("AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY", "give AWS_ACCESS_KEY_ID with"),
            ("the credential_process of profile x failed (exit status: 1): no token", "the profile in"),
            ("`aws x` cannot be asked: there is no AWS CLI, version 2, on the PATH", "install it, or"),
            ("`aws x` failed (exit status: 255): Error loading SSO Token", "sign in first: "),
            ("`aws x` failed (exit status: 255): Your session has expired.", "sign in first: "),
            (
                "`aws x` failed (exit status: 255): An error occurred (ExpiredToken) when calling",
                "sign in first: ",
            ),
            // To sign in does not help a role that nobody may assume.
            (
                "`aws --profile sso` failed (exit status: 255): An error occurred (AccessDenied) when calling the AssumeRole \
                 operation: User: x is not authorized to perform: sts:AssumeRole",
                "see whether the profile works",
            ),
            (
                "`aws x` failed (exit status: 255): An error occurred (InvalidClientTokenId) when calling",
                "see whether the profile works",
            ),
            ("`aws --profile sso` took longer than 60 s and said nothing", "see whether the profile works"),
            ("`aws x` printed no credentials in JSON (line 1, column 1)", "see whether the profile works"),
        ] {
            let failure = Failure::from(Error::Credentials(text.to_owned()));
            let hint = failure.hint.unwrap();
            assert!(hint.starts_with(expected), "{text}: {hint}");
            assert!(!signs_in_at_our_service(&hint), "{hint}");
        }
    }

    /// Neither do the documents tell anybody to show their sign-in to our service.
    #[test]
    fn the_documents_sign_in_elsewhere() {
        for text in [
            include_str!("../../../docs/command-line.md"),
            include_str!("../../../docs/ssh.md"),
            include_str!("../../../docs/ansible.md"),
            include_str!("../../client/README.md"),
        ] {
            assert!(!signs_in_at_our_service(text));
        }
        assert!(signs_in_at_our_service("`aws sso login`"));
    }

    /// Whether a command of the AWS CLI that signs in, or needs it, is said without what keeps it away from our service.
    fn signs_in_at_our_service(text: &str) -> bool {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let commands = [
            "aws sso login --profile",
            "`aws sso login`",
            "aws configure export-credentials --format",
            "aws sts get-caller-identity --profile",
        ];
        let alone = "env -u AWS_CA_BUNDLE AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true ";
        commands.iter().any(|command| {
            let mut before = words.split(command).collect::<Vec<_>>();
            before.pop();
            before.iter().any(|before| !before.ends_with(alone))
        })
    }

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
