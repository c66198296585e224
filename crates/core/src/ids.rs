//! The ids of the control plane, parsed once. Those a document carries are in `document`.

pub use instance_connect_document::{BootId, Fingerprint, InstanceId, OsUser, Region, RequestId};
use std::fmt;
use std::str::FromStr;

/// Why a text is not the id it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IdError(&'static str);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $reason:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let valid: fn(&[u8]) -> bool = $valid;
                if valid(text.as_bytes()) { Ok(Self(text.into())) } else { Err(IdError($reason)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// An AWS account id: 12 digits.
    AccountId, "an account id is 12 digits", |b| b.len() == 12 && b.iter().all(u8::is_ascii_digit)
}

text_id! {
    /// An availability zone as an instance has it, such as `us-east-1a`.
    AvailabilityZone, "an availability zone is 6 to 32 letters, digits, hyphens and underscores, such as us-east-1a",
    |b| (6..=32).contains(&b.len()) && b.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

text_id! {
    /// An access key id: 16 to 128 word characters (the IAM model).
    AccessKeyId, "an access key id is 16 to 128 letters, digits and underscores",
    |b| (16..=128).contains(&b.len()) && b.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

text_id! {
    /// The unique id of a user, such as `AIDA…` (the IAM model).
    UserId, "a user id is 16 to 128 letters, digits and underscores",
    |b| (16..=128).contains(&b.len()) && b.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

text_id! {
    /// The name of a user within an account (the IAM model).
    UserName, "a user name is 1 to 64 letters, digits or any of + = , . @ _ -",
    |b| (1..=64).contains(&b.len())
        && b.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'=' | b',' | b'.' | b'@' | b'_' | b'-'))
}
