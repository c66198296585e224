//! The one line of a document that is a public key, in OpenSSH's form without options and without a comment.

use crate::{Fingerprint, base64_decode};
use std::fmt;

/// The types of keys that can be pushed. A control plane takes the last five only where its settings say so, because
/// the stock host scripts know no line but one that begins with `ssh` (wire.md 3.5).
const TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// A public key as `type base64`, known to name the same type outside and inside.
///
/// Which of the types are taken, and of which sizes, is decided where a key enters (the control plane). Here the rule is
/// that the text can be nothing but a key: no options, no second line, no other type than its bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLine<'a> {
    text: &'a str,
    fingerprint: Fingerprint,
}

/// Why a text is not a key line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLineError {
    /// It does not begin with the type of a key that can be pushed, and a blank.
    Type,
    /// What follows is not base64 and nothing else, a comment included.
    Form,
    /// The base64 is not that of a key which names the same type.
    Blob,
}

impl fmt::Display for KeyLineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Type => "a key line begins with the type of an SSH key and one blank",
            Self::Form => "a key line ends with base64, without a comment",
            Self::Blob => "the key's base64 does not hold a key of the type before it",
        })
    }
}

impl std::error::Error for KeyLineError {}

impl<'a> KeyLine<'a> {
    /// Reads a key line, without a line feed.
    ///
    /// # Errors
    /// See [`KeyLineError`].
    pub fn parse(text: &'a str) -> Result<Self, KeyLineError> {
        let (key_type, base64) = text.split_once(' ').ok_or(KeyLineError::Type)?;
        if !TYPES.contains(&key_type) {
            return Err(KeyLineError::Type);
        }
        let blob = base64_decode(base64).ok_or(KeyLineError::Form)?;
        if type_within(&blob) != Some(key_type.as_bytes()) {
            return Err(KeyLineError::Blob);
        }
        Ok(Self { text, fingerprint: Fingerprint::of_blob(&blob) })
    }

    /// The line, without a line feed.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// The key's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

/// The type that a key blob names itself: its first string (RFC 4253 section 6.6), with something after it.
fn type_within(blob: &[u8]) -> Option<&[u8]> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (name, key) = rest.split_at_checked(length)?;
    (!key.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base64_encode;
    use proptest::prelude::*;

    /// The key of RFC 8032 section 7.1, test 1; the fingerprint is what `ssh-keygen -l` prints for it.
    const LINE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";

    fn blob(key_type: &str, key: &[u8]) -> String {
        let mut blob = u32::try_from(key_type.len()).unwrap().to_be_bytes().to_vec();
        blob.extend_from_slice(key_type.as_bytes());
        blob.extend_from_slice(key);
        base64_encode(&blob)
    }

    #[test]
    fn a_key_line_is_read_with_its_fingerprint() {
        let line = KeyLine::parse(LINE).unwrap();
        assert_eq!(line.as_str(), LINE);
        assert_eq!(line.fingerprint().to_string(), "SHA256:bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8");
    }

    #[test]
    fn anything_else_is_refused() {
        let base64 = LINE.split_once(' ').unwrap().1;
        let rows = [
            (String::new(), KeyLineError::Type),
            ("ssh-ed25519".to_owned(), KeyLineError::Type),
            (format!("command=\"id\" {LINE}"), KeyLineError::Type),
            (format!(" {LINE}"), KeyLineError::Type),
            (format!("ssh-ed25519\t{base64}"), KeyLineError::Type),
            (format!("ssh,\"ed25519 {base64}"), KeyLineError::Type),
            (format!("SSH-ed25519 {base64}"), KeyLineError::Type),
            (format!("ssh-dss {}", blob("ssh-dss", b"key")), KeyLineError::Type),
            (
                format!("ssh-rsa-cert-v01@openssh.com {}", blob("ssh-rsa-cert-v01@openssh.com", b"key")),
                KeyLineError::Type,
            ),
            (format!("{LINE} comment"), KeyLineError::Form),
            (format!("{LINE} "), KeyLineError::Form),
            (format!("{LINE}\n"), KeyLineError::Form),
            (format!("{LINE}\r"), KeyLineError::Form),
            (format!("{LINE}\0"), KeyLineError::Form),
            (format!("ssh-ed25519  {base64}"), KeyLineError::Form),
            (format!("ssh-rsa {base64}"), KeyLineError::Blob),
            (format!("ecdsa-sha2-nistp256 {base64}"), KeyLineError::Blob),
            (format!("ssh-ed25519 {}", blob("ssh-rsa", b"key")), KeyLineError::Blob),
            (format!("ssh-ed25519 {}", blob("ssh-ed25519", b"")), KeyLineError::Blob),
            (format!("ssh-ed25519 {}", base64_encode(&[0xff; 40])), KeyLineError::Blob),
            (format!("ssh-ed25519 {}", base64_encode(b"\0\0")), KeyLineError::Blob),
            ("ssh-ed25519 ".to_owned(), KeyLineError::Blob),
        ];
        for (text, expected) in rows {
            assert_eq!(KeyLine::parse(&text), Err(expected), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn one_blank_and_one_type_inside_and_outside(
            outside in prop::sample::select(TYPES.to_vec()),
            inside in prop::sample::select(TYPES.to_vec()),
            key: [u8; 8],
        ) {
            let text = format!("{outside} {}", blob(inside, &key));
            let parsed = KeyLine::parse(&text);
            prop_assert_eq!(parsed.map(|line| line.as_str()), if outside == inside { Ok(&*text) } else { Err(KeyLineError::Blob) });
        }
    }
}
