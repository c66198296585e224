//! The operations: how a request names one, its parameters as types, and its answer.

use super::error::ApiError;
use super::validate::{Constraint, Violations};
use crate::ids::{AvailabilityZone, InstanceId, OsUser, RequestId};
use crate::sigv4::RequestHead;
use crate::ssh_key::{KeyError, PublicKey};
use serde::Deserialize;
use std::borrow::Cow;

/// The content type of requests and answers.
pub const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// The operations of the control API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Push a key for one OS user of one instance.
    SendSshPublicKey,
    /// Push a key for an instance's serial console.
    SendSerialConsoleSshPublicKey,
}

impl Operation {
    /// Every operation, so that tests can be generated from the router.
    pub const ALL: [Self; 2] = [Self::SendSshPublicKey, Self::SendSerialConsoleSshPublicKey];

    /// The name in the target header and in the audit log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SendSshPublicKey => "SendSSHPublicKey",
            Self::SendSerialConsoleSshPublicKey => "SendSerialConsoleSSHPublicKey",
        }
    }

    /// The IAM action.
    pub const fn action(self) -> &'static str {
        match self {
            Self::SendSshPublicKey => "ec2-instance-connect:SendSSHPublicKey",
            Self::SendSerialConsoleSshPublicKey => "ec2-instance-connect:SendSerialConsoleSSHPublicKey",
        }
    }
}

/// Whether a request speaks AWS JSON 1.1: rule 1 of wire.md 1.10.
///
/// # Errors
/// [`ApiError::NotThisProtocol`].
pub fn speaks_json(head: &RequestHead<'_>) -> Result<(), ApiError> {
    // Parameters behind the media type (`; charset=utf-8`) change nothing in JSON 1.1.
    let media_type =
        head.header("content-type").map(|value| value.split(';').next().unwrap_or_default().trim());
    let fits =
        head.method == "POST" && media_type.is_some_and(|value| value.eq_ignore_ascii_case(CONTENT_TYPE));
    if fits { Ok(()) } else { Err(ApiError::NotThisProtocol) }
}

/// Finds the operation a request names: rule 3 of wire.md 1.10.
///
/// # Errors
/// [`ApiError::UnknownOperation`].
pub fn route(head: &RequestHead<'_>) -> Result<Operation, ApiError> {
    // An old agent sends a dotted prefix before the service name (wire.md 1.1).
    let (service, operation) = head
        .header("x-amz-target")
        .and_then(|target| target.rsplit_once('.'))
        .ok_or(ApiError::UnknownOperation)?;
    let service = service.rsplit('.').next().unwrap_or_default();
    Operation::ALL
        .into_iter()
        .find(|known| service == "AWSEC2InstanceConnectService" && known.name() == operation)
        .ok_or(ApiError::UnknownOperation)
}

/// The parameters of `SendSSHPublicKey` (wire.md 1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendSshPublicKey {
    /// The instance.
    pub instance: InstanceId,
    /// The OS user. Whether the machine has one of that name is not checked here (wire.md 1.3).
    pub os_user: OsUser,
    /// The key.
    pub key: PublicKey,
    /// The key's text as received, for the audit record.
    pub key_text: String,
    /// The zone the caller believes the instance is in.
    pub availability_zone: Option<AvailabilityZone>,
}

/// The parameters of `SendSerialConsoleSSHPublicKey` (wire.md 1.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendSerialConsoleSshPublicKey {
    /// The instance.
    pub instance: InstanceId,
    /// The key.
    pub key: PublicKey,
    /// The key's text as received, for the audit record.
    pub key_text: String,
}

/// The members as JSON has them. Members the model does not know are ignored, as AWS JSON services do.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendSshPublicKeyText<'a> {
    #[serde(borrow, default)]
    instance_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "InstanceOSUser")]
    instance_os_user: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "SSHPublicKey")]
    ssh_public_key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    availability_zone: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendSerialConsoleSshPublicKeyText<'a> {
    #[serde(borrow, default)]
    instance_id: Option<Cow<'a, str>>,
    #[serde(default)]
    serial_port: Option<i64>,
    #[serde(borrow, default, rename = "SSHPublicKey")]
    ssh_public_key: Option<Cow<'a, str>>,
}

const INSTANCE_ID: &[Constraint] = &[
    Constraint::AtMost(32),
    Constraint::AtLeast(10),
    Constraint::Pattern("^i-[a-f0-9]+$", |text| {
        text.strip_prefix("i-")
            .is_some_and(|hex| !hex.is_empty() && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
    }),
];

const OS_USER: &[Constraint] = &[
    Constraint::AtMost(32),
    Constraint::AtLeast(1),
    Constraint::Pattern(
        r"(^[A-Za-z_][A-Za-z0-9\@\._-]{0,30}[A-Za-z0-9\$_-]?$)|(^(?=.{2,32}$)[0-9]{1,32}[A-Za-z\@\._-][A-Za-z0-9\@\._-]*[A-Za-z0-9\$_-]?$)",
        |text| text.parse::<OsUser>().is_ok(),
    ),
];

const SSH_PUBLIC_KEY: &[Constraint] = &[Constraint::AtMost(4096), Constraint::AtLeast(80)];

const AVAILABILITY_ZONE: &[Constraint] = &[
    Constraint::AtMost(32),
    Constraint::AtLeast(6),
    Constraint::Pattern(r"^(\w+-){2,3}\d+\w+$", is_zone_name),
];

impl SendSshPublicKey {
    /// Reads and checks the parameters.
    ///
    /// # Errors
    /// [`ApiError::Serialization`] for a member of another JSON type, [`ApiError::InvalidArgs`] for values the model
    /// does not allow: all violations in one message, in the model's order.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let text: SendSshPublicKeyText<'_> = members(body)?;
        let mut violations = Violations::default();
        let instance = violations.required("instanceId", text.instance_id.as_deref(), INSTANCE_ID);
        let os_user = violations.required("instanceOSUser", text.instance_os_user.as_deref(), OS_USER);
        let key_text = violations.required("sSHPublicKey", text.ssh_public_key.as_deref(), SSH_PUBLIC_KEY);
        let zone =
            violations.optional("availabilityZone", text.availability_zone.as_deref(), AVAILABILITY_ZONE);
        violations.into_result()?;
        Ok(Self {
            instance: parsed(instance)?,
            os_user: parsed(os_user)?,
            key: parse_key(key_text)?,
            key_text: key_text.to_owned(),
            availability_zone: zone.map(parsed).transpose()?,
        })
    }
}

impl SendSerialConsoleSshPublicKey {
    /// Reads and checks the parameters.
    ///
    /// # Errors
    /// As for [`SendSshPublicKey::parse`].
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let text: SendSerialConsoleSshPublicKeyText<'_> = members(body)?;
        let mut violations = Violations::default();
        let instance = violations.required("instanceId", text.instance_id.as_deref(), INSTANCE_ID);
        violations.number("serialPort", text.serial_port.unwrap_or(0), 0, 0);
        let key_text = violations.required("sSHPublicKey", text.ssh_public_key.as_deref(), SSH_PUBLIC_KEY);
        violations.into_result()?;
        Ok(Self { instance: parsed(instance)?, key: parse_key(key_text)?, key_text: key_text.to_owned() })
    }
}

/// Reads the members of a body that is [`super::well_formed`].
fn members<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|_| ApiError::Serialization)
}

/// The body of a successful answer of either operation (wire.md 1.5).
pub fn success_body(request: &RequestId) -> String {
    format!(r#"{{"RequestId":"{request}","Success":true}}"#)
}

/// Into an id type whose rule the constraints above have already spelled out.
fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|error: T::Err| ApiError::InvalidArgs(error.to_string()))
}

/// AWS's two sentences for a bad key (wire.md 1.7), and behind them in our words what was wrong with it.
fn parse_key(text: &str) -> Result<PublicKey, ApiError> {
    PublicKey::parse(text).map_err(|error| {
        let sentence = match error {
            KeyError::OddRsa => "RSA - SSH Public key is invalid",
            KeyError::NotOneLine
            | KeyError::NotAKeyLine
            | KeyError::UnsupportedType
            | KeyError::Damaged
            | KeyError::ZeroEd25519 => "SSH Public key is invalid",
        };
        ApiError::InvalidArgs(format!(
            "Invalid input parameter received for Illegal argument exception: {sentence}"
        ))
    })
}

/// `^(\w+-){2,3}\d+\w+$`.
fn is_zone_name(text: &str) -> bool {
    let words: Vec<&str> = text.split('-').collect();
    let is_word =
        |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let last = words.last().copied().unwrap_or_default();
    matches!(words.len(), 3 | 4)
        && words.iter().all(is_word)
        && last.len() >= 2
        && last.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp";

    fn head<'a>(method: &'a str, headers: &'a [(&'a str, &'a str)]) -> RequestHead<'a> {
        RequestHead { method, path: "/", query: "", headers }
    }

    #[test]
    fn routes() {
        const TYPE: (&str, &str) = ("content-type", CONTENT_TYPE);
        let target = |value| ("x-amz-target", value);
        let send = "AWSEC2InstanceConnectService.SendSSHPublicKey";
        for (method, headers, expected) in [
            ("POST", vec![TYPE, target(send)], Ok(Operation::SendSshPublicKey)),
            (
                "POST",
                vec![("content-type", "Application/X-Amz-JSON-1.1; charset=utf-8"), target(send)],
                Ok(Operation::SendSshPublicKey),
            ),
            (
                "POST",
                vec![
                    TYPE,
                    target(
                        "com.amazon.aws.sshaccessproxyservice.AWSEC2InstanceConnectService.SendSSHPublicKey",
                    ),
                ],
                Ok(Operation::SendSshPublicKey),
            ),
            (
                "POST",
                vec![TYPE, target("AWSEC2InstanceConnectService.SendSerialConsoleSSHPublicKey")],
                Ok(Operation::SendSerialConsoleSshPublicKey),
            ),
            ("GET", vec![TYPE, target(send)], Err(ApiError::NotThisProtocol)),
            ("POST", vec![target(send)], Err(ApiError::NotThisProtocol)),
            (
                "POST",
                vec![("content-type", "application/json"), target(send)],
                Err(ApiError::NotThisProtocol),
            ),
            ("POST", vec![TYPE, TYPE, target(send)], Err(ApiError::NotThisProtocol)),
            ("POST", vec![TYPE], Err(ApiError::UnknownOperation)),
            ("POST", vec![TYPE, target(send), target(send)], Err(ApiError::UnknownOperation)),
            ("POST", vec![TYPE, target("SendSSHPublicKey")], Err(ApiError::UnknownOperation)),
            (
                "POST",
                vec![TYPE, target("AWSEC2InstanceConnectService.sendSSHPublicKey")],
                Err(ApiError::UnknownOperation),
            ),
            (
                "POST",
                vec![TYPE, target("AWSEC2InstanceConnectService.PutEC2HostKeys")],
                Err(ApiError::UnknownOperation),
            ),
            ("POST", vec![TYPE, target("Other.SendSSHPublicKey")], Err(ApiError::UnknownOperation)),
        ] {
            let head = head(method, &headers);
            assert_eq!(speaks_json(&head).and_then(|()| route(&head)), expected, "{method} {headers:?}");
        }
    }

    fn good() -> serde_json::Value {
        json!({ "InstanceId": "i-0123456789abcdef0", "InstanceOSUser": "ec2-user", "SSHPublicKey": KEY })
    }

    fn send(change: &serde_json::Value) -> Result<SendSshPublicKey, ApiError> {
        let mut body = good();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        SendSshPublicKey::parse(body.to_string().as_bytes())
    }

    #[test]
    fn parameters_into_types() {
        let parameters = send(&json!({ "AvailabilityZone": "us-gov-west-1a", "Unknown": [1] })).unwrap();
        assert_eq!(parameters.instance.as_str(), "i-0123456789abcdef0");
        assert_eq!(parameters.os_user.as_str(), "ec2-user");
        assert_eq!(parameters.key.line(), KEY);
        assert_eq!(parameters.availability_zone.unwrap().as_str(), "us-gov-west-1a");
        assert_eq!(
            send(&json!({ "SSHPublicKey": format!("{KEY} me\\n@\u{fc}\n") })).unwrap().key.line(),
            KEY
        );
    }

    #[test]
    fn violations_in_the_framework_s_words() {
        let text = |error: ApiError| {
            if let ApiError::InvalidArgs(text) = error { text } else { panic!("{error:?}") }
        };
        // wire.md 1.7, mludvig/aws-ssm-tools#44.
        assert_eq!(
            text(send(&json!({ "InstanceId": "mi-0123456789abcdef0" })).unwrap_err()),
            "1 validation error detected: Value 'mi-0123456789abcdef0' at 'instanceId' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: ^i-[a-f0-9]+$"
        );
        assert_eq!(
            text(
                send(
                    &json!({ "InstanceId": null, "SSHPublicKey": "key.pub", "AvailabilityZone": "nowhere" })
                )
                .unwrap_err()
            ),
            "3 validation errors detected: \
             Value null at 'instanceId' failed to satisfy constraint: Member must not be null; \
             Value 'key.pub' at 'sSHPublicKey' failed to satisfy constraint: Member must have length greater than or equal to 80; \
             Value 'nowhere' at 'availabilityZone' failed to satisfy constraint: Member must satisfy regular expression pattern: ^(\\w+-){2,3}\\d+\\w+$"
        );
        for user in ["", "12", "a b", "-x", "root\n"] {
            assert!(
                text(send(&json!({ "InstanceOSUser": user })).unwrap_err()).contains("'instanceOSUser'"),
                "{user}"
            );
        }
        let odd = format!("ssh-ed25519 {}", "A".repeat(80));
        assert_eq!(
            text(send(&json!({ "SSHPublicKey": odd })).unwrap_err()),
            "Invalid input parameter received for Illegal argument exception: SSH Public key is invalid"
        );
        let private = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{}", "secret".repeat(1000));
        assert!(!text(send(&json!({ "SSHPublicKey": private })).unwrap_err()).contains("secret"));
        let putty = format!("PuTTY-User-Key-File-3: ssh-rsa\nPrivate-Lines: 14\n{}", "secret".repeat(1000));
        assert!(!text(send(&json!({ "SSHPublicKey": putty })).unwrap_err()).contains("secret"));
        let long = "x".repeat(60_000);
        assert!(text(send(&json!({ "InstanceId": long, "InstanceOSUser": long })).unwrap_err()).len() < 4096);
    }

    #[test]
    fn members_of_another_type() {
        for change in
            [json!({ "InstanceId": 7 }), json!({ "SSHPublicKey": [KEY] }), json!({ "AvailabilityZone": {} })]
        {
            assert_eq!(send(&change).unwrap_err(), ApiError::Serialization, "{change}");
        }
    }

    #[test]
    fn serial_parameters() {
        let parse =
            |body: serde_json::Value| SendSerialConsoleSshPublicKey::parse(body.to_string().as_bytes());
        assert!(parse(good()).is_ok());
        assert!(
            parse(json!({ "InstanceId": "i-0123456789abcdef0", "SSHPublicKey": KEY, "SerialPort": 0 }))
                .is_ok()
        );
        let error =
            parse(json!({ "InstanceId": "i-0123456789abcdef0", "SSHPublicKey": KEY, "SerialPort": 1 }))
                .unwrap_err();
        let text = "1 validation error detected: Value '1' at 'serialPort' failed to satisfy constraint: Member must have value less than or equal to 0";
        assert_eq!(error, ApiError::InvalidArgs(text.into()));
    }
}
