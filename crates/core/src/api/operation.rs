//! The operations: how a request names one, its parameters as types, and its answer.

use super::error::ApiError;
use super::protocol::Protocol;
use super::validate::{Constraint, Violations};
use crate::administration;
use crate::ids::{AvailabilityZone, InstanceId, OsUser, RequestId};
use crate::limits;
use crate::query;
use crate::sigv4::RequestHead;
use crate::ssh_key::{KeyError, KeyTypes, PublicKey};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
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
    /// Administer an account.
    Administer(administration::Operation),
    /// One of EC2's or STS's.
    Query(query::Operation),
}

impl Operation {
    /// Every operation, so that tests can be generated from the router.
    pub fn all() -> impl Iterator<Item = Self> {
        let pushes = [Self::SendSshPublicKey, Self::SendSerialConsoleSshPublicKey];
        let administration = administration::Operation::ALL.iter().copied().map(Self::Administer);
        pushes.into_iter().chain(administration).chain(query::Operation::ALL.iter().copied().map(Self::Query))
    }

    /// The name in the target header or the parameter `Action`, and in the audit log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SendSshPublicKey => "SendSSHPublicKey",
            Self::SendSerialConsoleSshPublicKey => "SendSerialConsoleSSHPublicKey",
            Self::Administer(operation) => operation.name(),
            Self::Query(operation) => operation.name(),
        }
    }

    /// What stands before the name in the target header; `None` for those that no target names.
    pub const fn target(self) -> Option<&'static str> {
        match self {
            Self::SendSshPublicKey | Self::SendSerialConsoleSshPublicKey => {
                Some("AWSEC2InstanceConnectService")
            }
            Self::Administer(_) => Some(administration::TARGET),
            Self::Query(_) => None,
        }
    }

    /// The protocol in which it is asked for and answered.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::SendSshPublicKey | Self::SendSerialConsoleSshPublicKey | Self::Administer(_) => {
                Protocol::Json
            }
            Self::Query(operation) => Protocol::Query(operation.service()),
        }
    }

    /// The name and whose it is, such as `ec2:DescribeInstances`: some of EC2's names are administration's, too.
    pub fn full_name(self) -> String {
        format!("{}:{}", self.service(), self.name())
    }

    /// The signing name that its requests must be scoped to.
    pub const fn service(self) -> &'static str {
        match self {
            Self::SendSshPublicKey | Self::SendSerialConsoleSshPublicKey => "ec2-instance-connect",
            Self::Administer(_) => administration::SERVICE,
            Self::Query(operation) => operation.service().signing_name(),
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
        head.method() == "POST" && media_type.is_some_and(|value| value.eq_ignore_ascii_case(CONTENT_TYPE));
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
    Operation::all()
        .find(|known| known.target() == Some(service) && known.name() == operation)
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
    serial_port: Option<Integer>,
    #[serde(borrow, default, rename = "SSHPublicKey")]
    ssh_public_key: Option<Cow<'a, str>>,
}

/// An integer of the model: 32 bits. JSON knows one kind of number, so `0.0` and `0e0` are written for 0 as well; a
/// fraction, or what does not fit, is of another type.
#[derive(Clone, Copy, Default)]
struct Integer(i32);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        // The cast saturates and cuts, so only what it has not changed was such an integer.
        #[expect(clippy::cast_possible_truncation, reason = "compared with the number it came from")]
        let integer = number as i32;
        if f64::from(integer) == number {
            Ok(Self(integer))
        } else {
            Err(D::Error::custom("not a 32-bit integer"))
        }
    }
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

const SSH_PUBLIC_KEY: &[Constraint] = &[Constraint::AtMost(limits::KEY_TEXT), Constraint::AtLeast(80)];

const AVAILABILITY_ZONE: &[Constraint] = &[
    Constraint::AtMost(32),
    Constraint::AtLeast(6),
    Constraint::Pattern(r"^(\w+-){2,3}\d+\w+$", is_zone_name),
];

impl SendSshPublicKey {
    /// Reads and checks the parameters, with a key of an `accepted` type.
    ///
    /// # Errors
    /// [`ApiError::Serialization`] for a member of another JSON type or one that stands twice, [`ApiError::InvalidArgs`]
    /// for values the model does not allow: all violations in one message, in the model's order.
    pub fn parse(body: &[u8], accepted: &KeyTypes) -> Result<Self, ApiError> {
        let text: SendSshPublicKeyText<'_> = members(body)?;
        let mut violations = Violations::default();
        let instance = violations.required("instanceId", text.instance_id.as_deref(), INSTANCE_ID);
        let os_user = violations.required("instanceOSUser", text.instance_os_user.as_deref(), OS_USER);
        let (key_text, key) = read_key(&mut violations, text.ssh_public_key.as_deref(), accepted);
        let zone =
            violations.optional("availabilityZone", text.availability_zone.as_deref(), AVAILABILITY_ZONE);
        violations.into_result()?;
        Ok(Self {
            instance: parsed(instance)?,
            os_user: parsed(os_user)?,
            key: key.map_err(invalid_key)?,
            key_text: key_text.to_owned(),
            availability_zone: zone.map(parsed).transpose()?,
        })
    }
}

impl SendSerialConsoleSshPublicKey {
    /// Reads and checks the parameters, with a key of an `accepted` type.
    ///
    /// # Errors
    /// As for [`SendSshPublicKey::parse`].
    pub fn parse(body: &[u8], accepted: &KeyTypes) -> Result<Self, ApiError> {
        let text: SendSerialConsoleSshPublicKeyText<'_> = members(body)?;
        let mut violations = Violations::default();
        let instance = violations.required("instanceId", text.instance_id.as_deref(), INSTANCE_ID);
        violations.number("serialPort", text.serial_port.unwrap_or_default().0, 0, 0);
        let (key_text, key) = read_key(&mut violations, text.ssh_public_key.as_deref(), accepted);
        violations.into_result()?;
        Ok(Self {
            instance: parsed(instance)?,
            key: key.map_err(invalid_key)?,
            key_text: key_text.to_owned(),
        })
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

/// The key, as text and parsed. Where its length breaks the model already, as a file's name does, the framework's words
/// are said of it, and behind them what it looks like.
fn read_key<'a>(
    violations: &mut Violations,
    text: Option<&'a str>,
    accepted: &KeyTypes,
) -> (&'a str, Result<PublicKey, KeyError>) {
    let before = violations.count();
    let given = text.unwrap_or_default();
    let key = PublicKey::parse(given, accepted);
    violations.key("sSHPublicKey", text, &key, SSH_PUBLIC_KEY);
    if let (Some(_), Err(error)) = (text, &key)
        && violations.count() > before
        && let Some(words) = our_words(*error)
    {
        violations.hint(format!("SSHPublicKey {words}"));
    }
    (given, key)
}

/// One of AWS's two sentences for a bad key (wire.md 1.7), and behind it in our words what was wrong.
fn invalid_key(error: KeyError) -> ApiError {
    let prefix = if matches!(error, KeyError::RsaSize | KeyError::UnsoundRsa) { "RSA - " } else { "" };
    let words = our_words(error).map(|words| format!(". It {words}")).unwrap_or_default();
    ApiError::InvalidArgs(format!(
        "Invalid input parameter received for Illegal argument exception: {prefix}SSH Public key is invalid{words}"
    ))
}

/// What is wrong with a key and what to do about it. `None` where AWS's whole answer was seen (wire.md 1.7): ours is the
/// same to the byte.
fn our_words(error: KeyError) -> Option<String> {
    let aws_says_it_all = matches!(error, KeyError::RsaSize | KeyError::TypeNotAccepted);
    (!aws_says_it_all).then(|| format!("{}; {}.", error.problem(), error.advice()))
}

/// `^(\w+-){2,3}\d+\w+$`.
pub(crate) fn is_zone_name(text: &str) -> bool {
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
mod tests;
