//! The ids a document carries, each parsed once into a type that cannot hold anything else.

use aws_lc_rs::digest::{SHA256, digest};
use std::fmt;
use std::str::FromStr;

/// Why a text is not the id it should be. The text itself is left out: it may come from anyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdError(&'static str);

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for IdError {}

impl IdError {
    /// The error that says this. For [`text_id!`](crate::text_id).
    pub const fn new(reason: &'static str) -> Self {
        Self(reason)
    }
}

/// Defines an id: a type of text that only its rule lets in. The rule is a `fn(&str) -> bool`, the sentence is what its
/// [`IdError`] says.
#[macro_export]
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $valid:expr, $reason:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(::std::sync::Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::IdError;

            fn from_str(text: &str) -> Result<Self, $crate::IdError> {
                let is_valid: fn(&str) -> bool = $valid;
                if is_valid(text) { Ok(Self(text.into())) } else { Err($crate::IdError::new($reason)) }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// An instance id: `^i-[a-f0-9]+$`, 10 to 32 characters (the botocore model).
    InstanceId, is_instance_id, "an instance id is i- and 8 to 30 lower-case hex digits"
}

text_id! {
    /// An OS user name as the API takes it: 1 to 32 characters in either of the two patterns of the botocore model.
    OsUser, is_os_user, "an OS user name is 1 to 32 letters, digits or any of @ . _ -, and not digits alone"
}

text_id! {
    /// One boot of one machine: the UUID that Linux shows in `/proc/sys/kernel/random/boot_id`.
    BootId, is_uuid, "a boot id is a lower-case hyphenated UUID"
}

text_id! {
    /// One API request: a lower-case hyphenated UUID, the same in the answer, the audit record and the document.
    RequestId, is_uuid, "a request id is a lower-case hyphenated UUID"
}

text_id! {
    /// A region name such as `us-east-1`.
    Region, is_region, "a region is 3 to 32 lower-case letters, digits and hyphens, such as us-east-1"
}

/// Where Linux shows the id of the boot it is in.
pub const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

fn is_region(text: &str) -> bool {
    (3..=32).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

fn is_instance_id(text: &str) -> bool {
    (10..=32).contains(&text.len())
        && text
            .strip_prefix("i-")
            .is_some_and(|hex| hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// Two plain patterns and a length instead of the model's one with a look-ahead:
/// `^[A-Za-z_][A-Za-z0-9@._-]{0,30}[A-Za-z0-9$_-]?$` or, for 2 to 32 characters,
/// `^[0-9]{1,32}[A-Za-z@._-][A-Za-z0-9@._-]*[A-Za-z0-9$_-]?$`.
fn is_os_user(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'@' | b'.' | b'_' | b'-');
    let Some((last, before)) = text.as_bytes().split_last() else { return false };
    let Some(first) = text.bytes().next() else { return false };
    let after_digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let last_is_plain = inner(*last);
    let ends_well = last_is_plain || *last == b'$';
    let all_inner = before.iter().all(|b| inner(*b)) && ends_well;
    if first.is_ascii_digit() {
        // `1a$` matches and `1$` does not: the character behind the digits is never `$`.
        text.len() <= 32 && all_inner && !after_digits.is_empty() && !after_digits.starts_with('$')
    } else {
        let starts_well = first.is_ascii_alphabetic() || first == b'_';
        // A 32nd character is the pattern's last class, which has neither `@` nor `.`.
        let fits = text.len() <= 31 || (text.len() == 32 && !matches!(last, b'@' | b'.'));
        starts_well && all_inner && fits
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(position, b)| match position {
            8 | 13 | 18 | 23 => b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// The SHA-256 fingerprint of a public key blob, as `ssh-keygen -l` prints it and sshd passes it in `%f`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a key in SSH wire form (RFC 4253 section 6.6).
    pub fn of_blob(blob: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, blob).as_ref());
        Self(bytes)
    }

    /// The fingerprint with these 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Fingerprint {
    type Err = IdError;

    /// Reads `SHA256:` and 43 characters of unpadded base64.
    fn from_str(text: &str) -> Result<Self, IdError> {
        const REASON: IdError = IdError("a fingerprint is SHA256: and 43 characters of base64");
        let body = text.strip_prefix("SHA256:").filter(|body| body.len() == 43).ok_or(REASON)?;
        let bytes = crate::base64_decode(&format!("{body}=")).ok_or(REASON)?;
        bytes.try_into().map(Self).map_err(|_| REASON)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", crate::base64_encode(&self.0).trim_end_matches('='))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_ids() {
        let long = format!("i-{}", "0".repeat(31));
        for text in ["i-12345678", "i-0123456789abcdef0", &long[..32]] {
            assert_eq!(text.parse::<InstanceId>().unwrap().as_str(), text);
        }
        for text in ["", "i-", "i-1234567", "i-1234567G", "i-1234567A", "mi-12345678", "i-12345678\n", &long]
        {
            assert!(text.parse::<InstanceId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn os_users_of_both_patterns() {
        let thirty_one = "a".repeat(31);
        let accepted = [
            "root",
            "_",
            "a",
            "A.b@c-d_e",
            "svc$",
            "a@",
            "a.",
            "1a",
            "12a",
            "1a$",
            "1@",
            "1.",
            "9-9",
            "1_",
            &thirty_one,
            &format!("{thirty_one}a"),
            &format!("{thirty_one}$"),
            &format!("1{thirty_one}"),
        ];
        for text in accepted {
            assert!(text.parse::<OsUser>().is_ok(), "{text:?}");
        }
        let refused = [
            "",
            "1",
            "12",
            "1$",
            "$",
            "-a",
            ".a",
            "@a",
            "a$b",
            "a b",
            "a/b",
            "a\n",
            "ä",
            "a\0",
            &format!("{thirty_one}@"),
            &format!("{thirty_one}."),
            &format!("{thirty_one}aa"),
        ];
        for text in refused {
            assert!(text.parse::<OsUser>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn regions() {
        for text in ["us-east-1", "lab", "eu-isoe-west-1"] {
            assert!(text.parse::<Region>().is_ok(), "{text:?}");
        }
        for text in ["", "us", "US-EAST-1", "us east", "us-east-1\n", &"a".repeat(33)] {
            assert!(text.parse::<Region>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn uuids() {
        assert!("0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse::<RequestId>().is_ok());
        for text in [
            "",
            "0B7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11",
            "0b7f1c526a0e4c119d0b1c5a6f0e9a11",
            "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a1g",
        ] {
            assert!(text.parse::<BootId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn fingerprints_read_and_print_as_openssh_does() {
        let fingerprint = Fingerprint::of_blob(b"");
        let text = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
        assert_eq!(fingerprint.to_string(), text);
        assert_eq!(text.parse::<Fingerprint>().unwrap(), fingerprint);
        for text in [
            "",
            "SHA256:",
            "MD5:aa",
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            &format!("{text}="),
            &format!("{text}A"),
        ] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text:?}");
        }
    }
}
