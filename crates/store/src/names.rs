//! Names that only the store gives meaning to, parsed once.

use std::fmt;
use std::str::FromStr;

/// Why a text is not the name it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(&'static str);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $longest:literal, $reason:literal, $valid:pat) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let valid = (1..=$longest).contains(&text.len()) && text.bytes().all(|b| matches!(b, $valid));
                if valid { Ok(Self(text.into())) } else { Err(NameError($reason)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of a policy of one user (the IAM model).
    PolicyName, 128, "a policy name is 1 to 128 letters, digits or any of + = , . @ _ -",
    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'=' | b',' | b'.' | b'@' | b'_' | b'-'
}

name! {
    /// The name of a key pair the control plane signs with, such as `agents-ca`, or `anchor.2` once anchors roll over.
    AuthorityName, 64, "an authority name is 1 to 64 lower-case letters, digits, hyphens and dots",
    b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_plain() {
        for text in ["a", "Push-To_Web", "+=,.@_-", &"x".repeat(128)] {
            assert_eq!(text.parse::<PolicyName>().unwrap().as_str(), text);
        }
        for text in ["", "a b", "a/b", "a\n", "ä", &"x".repeat(129)] {
            assert!(text.parse::<PolicyName>().is_err(), "{text:?}");
        }
        for text in ["agents-ca", "anchor.2", &"x".repeat(64)] {
            assert_eq!(text.parse::<AuthorityName>().unwrap().as_str(), text);
        }
        for text in ["", "Root", "a/b", "a_b", &"x".repeat(65)] {
            assert!(text.parse::<AuthorityName>().is_err(), "{text:?}");
        }
    }
}
