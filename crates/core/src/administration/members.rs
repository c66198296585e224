//! The members of a request's body: read one by one into types, with the sentences of AWS's framework for what is not
//! right, and none left over.
//!
//! A member that the operation does not know is refused, other than at AWS: a boundary that is misspelled must not become
//! a user without one.

use super::policy_arn::PolicyArn;
use super::request::{PolicyDocument, Tags};
use crate::api::{AdministrationErrorCode, ApiError, Constraint, Violations};
use crate::audit::{AttributeKey, LogPosition};
use crate::ids::{
    AccessKeyId, AccountId, AvailabilityZone, Fingerprint, GroupName, ImageId, InstanceId, InstanceType,
    OsUser, PolicyName, UserName,
};
use crate::inventory::{InstanceState, Status};
use crate::{limits, link};
use instance_connect_document::UnixSeconds;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The members that have not been read yet.
pub(super) struct Members(Map<String, Value>);

/// What a member can be read as.
pub(super) trait Member: Sized {
    fn read(name: &str, value: &Value) -> Result<Self, ApiError>;
}

impl Members {
    /// The members of a body that is [`crate::api::well_formed`].
    pub(super) fn of(body: &[u8]) -> Result<(Self, Value), ApiError> {
        let Unique(members) = serde_json::from_slice(body).map_err(|_| ApiError::Serialization)?;
        let all = Value::Object(members.clone());
        Ok((Self(members), all))
    }

    /// The members of an object within one.
    pub(super) fn with(members: Map<String, Value>) -> Self {
        Self(members)
    }

    /// A member that must be there.
    pub(super) fn required<T: Member>(&mut self, name: &str) -> Result<T, ApiError> {
        match self.optional(name)? {
            Some(value) => Ok(value),
            None => Err(invalid(format!(
                "1 validation error detected: Value null at '{}' failed to satisfy constraint: Member must not be null",
                super::first_lowered(name)
            ))),
        }
    }

    /// A member that may be missing. `null` is as good as that.
    pub(super) fn optional<T: Member>(&mut self, name: &str) -> Result<Option<T>, ApiError> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::read(name, &value).map(Some),
        }
    }

    /// Refuses what has not been read.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => {
                let name: String = name.chars().take(limits::TAG_KEY).collect();
                Err(invalid(format!("Unknown member {name:?}; this operation has no such parameter")))
            }
        }
    }
}

pub(super) fn invalid(message: String) -> ApiError {
    ApiError::Administration { code: AdministrationErrorCode::ValidationError, message }
}

/// A text within constraints, read as the type that they describe.
fn text<T: std::str::FromStr<Err: fmt::Display>>(
    name: &str,
    value: &Value,
    constraints: &[Constraint],
) -> Result<T, ApiError> {
    let Value::String(text) = value else { return Err(ApiError::Serialization) };
    let mut violations = Violations::default();
    violations.required(&super::first_lowered(name), Some(text), constraints);
    if let Some(message) = violations.message() {
        return Err(invalid(message));
    }
    text.parse().map_err(|error: T::Err| invalid(error.to_string()))
}

/// One of several words.
fn word<T: Copy>(name: &str, value: &Value, words: &[(&str, T)]) -> Result<T, ApiError> {
    let Value::String(text) = value else { return Err(ApiError::Serialization) };
    let found = words.iter().find(|(word, _)| word == text).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let mut violations = Violations::default();
        violations.one_of(&super::first_lowered(name), text, &words);
        invalid(violations.message().unwrap_or_default())
    })
}

/// At most so many members of a list.
pub(super) fn list<'v>(name: &str, value: &'v Value, most: usize) -> Result<&'v [Value], ApiError> {
    let Value::Array(values) = value else { return Err(ApiError::Serialization) };
    if (1..=most).contains(&values.len()) {
        return Ok(values);
    }
    let name = super::first_lowered(name);
    Err(invalid(format!(
        "1 validation error detected: Value at '{name}' failed to satisfy constraint: Member must have length from 1 to {most}"
    )))
}

const fn is_iam_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'=' | b',' | b'.' | b'@' | b'-')
}

const IAM_NAME: Constraint = Constraint::Pattern(r"[\w+=,.@-]+", |text| text.bytes().all(is_iam_name));

/// Texts that have a type of their own: its constraints in AWS's words, in the order of its framework.
macro_rules! text_members {
    ($($type:ty: [$($constraint:expr),*];)*) => {
        $(impl Member for $type {
            fn read(name: &str, value: &Value) -> Result<Self, ApiError> {
                text(name, value, &[$($constraint),*])
            }
        })*
    };
}

text_members! {
    UserName: [Constraint::AtMost(64), Constraint::AtLeast(1), IAM_NAME];
    GroupName: [Constraint::AtMost(128), Constraint::AtLeast(1), IAM_NAME];
    PolicyName: [Constraint::AtMost(128), Constraint::AtLeast(1), IAM_NAME];
    PolicyArn: [
        Constraint::AtMost(2048),
        Constraint::AtLeast(20),
        Constraint::Pattern("^arn:aws:iam::\\d{12}:policy/[\\w+=,.@-]+$", |text| text.parse::<PolicyArn>().is_ok())
    ];
    AccessKeyId: [
        Constraint::AtMost(128),
        Constraint::AtLeast(16),
        Constraint::Pattern(r"[\w]+", |text| text.parse::<AccessKeyId>().is_ok())
    ];
    AccountId: [Constraint::Pattern(r"^\d{12}$", |text| text.parse::<AccountId>().is_ok())];
    Fingerprint: [
        Constraint::AtMost(50),
        Constraint::AtLeast(50),
        Constraint::Pattern("^SHA256:[A-Za-z0-9+/]{43}$", |text| text.parse::<Fingerprint>().is_ok())
    ];
    InstanceId: [
        Constraint::AtMost(32),
        Constraint::AtLeast(10),
        Constraint::Pattern("^i-[a-f0-9]+$", |text| text.parse::<InstanceId>().is_ok())
    ];
    OsUser: [
        Constraint::AtMost(32),
        Constraint::AtLeast(1),
        Constraint::Pattern("the one of SendSSHPublicKey", |text| text.parse::<OsUser>().is_ok())
    ];
    AvailabilityZone: [
        Constraint::AtMost(32),
        Constraint::AtLeast(6),
        Constraint::Pattern(r"^(\w+-){2,3}\d+\w+$", crate::api::is_zone_name)
    ];
}

/// Texts whose own sentence says what they are: EC2's model has no constraint for them.
macro_rules! parsed_members {
    ($($type:ty,)*) => {
        $(impl Member for $type {
            fn read(name: &str, value: &Value) -> Result<Self, ApiError> {
                let text: String = text(name, value, &[Constraint::AtMost(limits::INSTANCE_DETAIL)])?;
                text.parse().map_err(|error| invalid(format!("{name}: {error}")))
            }
        })*
    };
}

parsed_members! { InstanceType, ImageId, Ipv4Addr, Ipv6Addr, }

/// Text that is bounded, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bounded<const LONGEST: usize>(pub(super) String);

impl<const LONGEST: usize> Member for Bounded<LONGEST> {
    fn read(name: &str, value: &Value) -> Result<Self, ApiError> {
        text(name, value, &[Constraint::AtMost(LONGEST), Constraint::AtLeast(1)]).map(Self)
    }
}

impl Member for PolicyDocument {
    fn read(name: &str, value: &Value) -> Result<Self, ApiError> {
        let text: String =
            text(name, value, &[Constraint::AtMost(limits::POLICY_TEXT), Constraint::AtLeast(1)])?;
        Self::parse(text).map_err(|error| ApiError::Administration {
            code: AdministrationErrorCode::MalformedPolicyDocument,
            message: error.to_string(),
        })
    }
}

/// How IAM and Organizations call it. `Inactive` is what IAM calls an access key.
impl Member for Status {
    fn read(name: &str, value: &Value) -> Result<Self, ApiError> {
        let words = [("Active", Self::Active), ("Suspended", Self::Suspended), ("Inactive", Self::Suspended)];
        word(name, value, &words)
    }
}

impl Member for InstanceState {
    fn read(name: &str, value: &Value) -> Result<Self, ApiError> {
        word(name, value, &Self::ALL.map(|state| (state.as_str(), state)))
    }
}

impl Member for u32 {
    fn read(_: &str, value: &Value) -> Result<Self, ApiError> {
        value.as_u64().and_then(|number| number.try_into().ok()).ok_or(ApiError::Serialization)
    }
}

impl Member for Tags {
    /// `[{"Key": …, "Value": …}]`
    fn read(name: &str, value: &Value) -> Result<Self, ApiError> {
        let mut tags = Self::new();
        for tag in list(name, value, limits::TAGS)? {
            let Value::Object(tag) = tag else { return Err(ApiError::Serialization) };
            let mut tag = Members(tag.clone());
            let Bounded(key) = tag.required::<Bounded<{ limits::TAG_KEY }>>("Key")?;
            let value = tag.0.remove("Value").unwrap_or_else(|| Value::String(String::new()));
            let value = text("Value", &value, &[Constraint::AtMost(limits::TAG_VALUE)])?;
            tag.finish()?;
            if tags.insert(key, value).is_some() {
                return Err(invalid(
                    "Duplicate tag keys found. Please note that Tag keys are case insensitive.".to_owned(),
                ));
            }
        }
        Ok(tags)
    }
}

/// The keys of tags.
impl Member for BTreeSet<String> {
    fn read(name: &str, value: &Value) -> Result<Self, ApiError> {
        let keys = list(name, value, limits::TAGS)?.iter();
        keys.map(|key| Bounded::<{ limits::TAG_KEY }>::read("Key", key).map(|Bounded(key)| key)).collect()
    }
}

impl Member for Vec<InstanceId> {
    fn read(name: &str, value: &Value) -> Result<Self, ApiError> {
        list(name, value, limits::PAGE)?.iter().map(|id| InstanceId::read(name, id)).collect()
    }
}

/// The fingerprints of a machine's host keys.
impl Member for BTreeSet<Fingerprint> {
    fn read(name: &str, value: &Value) -> Result<Self, ApiError> {
        let fingerprints = list(name, value, link::limits::HOST_KEYS)?.iter();
        fingerprints.map(|fingerprint| Fingerprint::read(name, fingerprint)).collect()
    }
}

/// Seconds since 1970, as AWS's JSON has times; whole ones, as records have them.
impl Member for UnixSeconds {
    fn read(_: &str, value: &Value) -> Result<Self, ApiError> {
        value.as_i64().map(Self).ok_or(ApiError::Serialization)
    }
}

/// `[{"AttributeKey": …, "AttributeValue": …}]`
impl Member for Vec<(AttributeKey, String)> {
    fn read(name: &str, value: &Value) -> Result<Self, ApiError> {
        let attributes = list(name, value, AttributeKey::ALL.len())?.iter();
        let attributes = attributes.map(|attribute| {
            let Value::Object(attribute) = attribute else { return Err(ApiError::Serialization) };
            let mut attribute = Members(attribute.clone());
            let key = attribute.required("AttributeKey")?;
            let Bounded(value) = attribute.required::<Bounded<{ limits::ATTRIBUTE }>>("AttributeValue")?;
            attribute.finish()?;
            Ok((key, value))
        });
        attributes.collect()
    }
}

impl Member for AttributeKey {
    fn read(name: &str, value: &Value) -> Result<Self, ApiError> {
        word(name, value, &Self::ALL.map(|key| (key.as_str(), key)))
    }
}

impl Member for LogPosition {
    fn read(name: &str, value: &Value) -> Result<Self, ApiError> {
        text(name, value, &[Constraint::AtMost(limits::MARKER), Constraint::AtLeast(1)])
    }
}

/// A JSON object in which no name stands twice: which one would be meant?
struct Unique(Map<String, Value>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member stands twice"));
                    }
                }
                Ok(Unique(members))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}
