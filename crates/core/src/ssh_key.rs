//! SSH public keys as callers push them, parsed into a type from which the machine's line is made anew.
//!
//! We read the line and the blob ourselves. The common libraries take a newline in a comment (a second
//! `authorized_keys` line), negative or tiny RSA moduli and an all-zero ED25519 point; what is accepted here is a
//! short list, and reading it takes less code than refusing the rest would.

use crate::ids::Fingerprint;
use crate::planted;
use instance_connect_document::{base64_decode, base64_encode};

/// An accepted public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    blob: Vec<u8>,
}

/// The kinds of keys accepted (wire.md 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `ssh-rsa` with a modulus of exactly 2048, 3072 or 4096 bits.
    Rsa {
        /// Length of the modulus.
        bits: usize,
    },
    /// `ssh-ed25519`.
    Ed25519,
}

/// Why a key is refused. AWS says only which of two sentences applies (wire.md 1.7); the rest is for our own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text holds something a key line cannot: control characters, or more than one line.
    #[error("the key must be one line without control characters")]
    NotOneLine,
    /// The text is not `type base64 [comment]`.
    #[error("the key must be of the form 'ssh-ed25519 AAAA… [comment]' or 'ssh-rsa AAAA… [comment]'")]
    NotAKeyLine,
    /// The type is none of those accepted.
    #[error("the key type must be ssh-ed25519 or ssh-rsa")]
    UnsupportedType,
    /// The base64 part does not decode to a key of the type named before it.
    #[error("the key's base64 part is not a key of the type it names")]
    Damaged,
    /// An RSA key of another size, or with an unsound exponent.
    #[error("an RSA key must have 2048, 3072 or 4096 bits and an odd exponent of at least 3")]
    OddRsa,
    /// An ED25519 key that no private key has.
    #[error("the ED25519 key is all zero")]
    ZeroEd25519,
}

impl PublicKey {
    /// Parses an OpenSSH public key line: `type base64 [comment]`, with blanks between and a line end behind allowed.
    ///
    /// # Errors
    /// The [`KeyError`] that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        planted::parser_entered(text.as_bytes());
        // The web console itself sends a line end (wire.md 2.1); anything else that is not printable is refused.
        let line = text.trim_matches([' ', '\t', '\r', '\n']);
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(KeyError::NotOneLine);
        }
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let (Some(name), Some(encoded)) = (words.next(), words.next()) else {
            return Err(KeyError::NotAKeyLine);
        };
        if name != "ssh-ed25519" && name != "ssh-rsa" {
            return Err(KeyError::UnsupportedType);
        }
        let blob = base64_decode(encoded).ok_or(KeyError::Damaged)?;
        let algorithm = read_blob(&blob)?;
        if algorithm.name() != name {
            return Err(KeyError::Damaged);
        }
        Ok(Self { algorithm, blob })
    }

    /// Its kind.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its fingerprint, as sshd passes it in `%f`.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_blob(&self.blob)
    }

    /// `type base64`, made from the parsed key: never a byte of what was received around it, comment included.
    pub fn line(&self) -> String {
        format!("{} {}", self.algorithm.name(), base64_encode(&self.blob))
    }
}

impl Algorithm {
    /// The name in the key line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rsa { .. } => "ssh-rsa",
            Self::Ed25519 => "ssh-ed25519",
        }
    }
}

/// Reads a key in SSH wire form (RFC 4253 section 6.6, RFC 8709 section 4).
fn read_blob(blob: &[u8]) -> Result<Algorithm, KeyError> {
    let mut rest = blob;
    let name = read_string(&mut rest).ok_or(KeyError::Damaged)?;
    let algorithm = match name {
        b"ssh-ed25519" => {
            let point = read_string(&mut rest).filter(|point| point.len() == 32).ok_or(KeyError::Damaged)?;
            if point.iter().all(|byte| *byte == 0) {
                return Err(KeyError::ZeroEd25519);
            }
            Algorithm::Ed25519
        }
        b"ssh-rsa" => {
            let exponent = read_positive(&mut rest)?;
            let modulus = read_positive(&mut rest)?;
            let bits = bit_length(modulus);
            let tiny_exponent = bit_length(exponent) < 2;
            if !matches!(bits, 2048 | 3072 | 4096) || is_even(modulus) || is_even(exponent) || tiny_exponent {
                return Err(KeyError::OddRsa);
            }
            Algorithm::Rsa { bits }
        }
        _ => return Err(KeyError::UnsupportedType),
    };
    if rest.is_empty() { Ok(algorithm) } else { Err(KeyError::Damaged) }
}

/// A length-prefixed byte string (RFC 4251 section 5).
fn read_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (string, after) = after.split_at_checked(u32::from_be_bytes(*length).try_into().ok()?)?;
    *rest = after;
    Some(string)
}

/// An `mpint` that is positive and has no needless leading zero, without its sign byte.
fn read_positive<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], KeyError> {
    match read_string(rest).ok_or(KeyError::Damaged)? {
        [0, magnitude @ ..] if magnitude.first().is_some_and(|first| *first >= 0x80) => Ok(magnitude),
        magnitude @ [1..=0x7f, ..] => Ok(magnitude),
        _ => Err(KeyError::OddRsa),
    }
}

fn bit_length(magnitude: &[u8]) -> usize {
    magnitude.first().map_or(0, |first| magnitude.len() * 8 - first.leading_zeros() as usize)
}

fn is_even(magnitude: &[u8]) -> bool {
    magnitude.last().is_none_or(|last| last.is_multiple_of(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn string(bytes: &[u8]) -> Vec<u8> {
        let mut string = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        string.extend_from_slice(bytes);
        string
    }

    fn line(name: &str, parts: &[&[u8]]) -> String {
        let mut blob = string(name.as_bytes());
        parts.iter().for_each(|part| blob.extend(string(part)));
        format!("{name} {}", base64_encode(&blob))
    }

    fn rsa(exponent: &[u8], bits: usize) -> String {
        let mut modulus = vec![0xffu8; bits.div_ceil(8)];
        modulus[0] = 0xff >> ((8 - bits % 8) % 8);
        if bits.is_multiple_of(8) {
            modulus.insert(0, 0);
        }
        line("ssh-rsa", &[exponent, &modulus])
    }

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp";

    #[test]
    fn accepted_and_made_anew() {
        let key = PublicKey::parse(ED25519).unwrap();
        // ssh-keygen -l of the line above.
        assert_eq!(key.algorithm(), Algorithm::Ed25519);
        assert_eq!(key.line(), ED25519);
        for text in [
            format!("{ED25519}\n"),
            format!("{ED25519}\r\n"),
            format!("  {ED25519}"),
            format!("{ED25519} a comment with blanks"),
            ED25519.replace(' ', "\t "),
        ] {
            assert_eq!(PublicKey::parse(&text).unwrap().line(), ED25519, "{text:?}");
        }
        for bits in [2048, 3072, 4096] {
            assert_eq!(
                PublicKey::parse(&rsa(&[1, 0, 1], bits)).unwrap().algorithm(),
                Algorithm::Rsa { bits }
            );
        }
        assert!(PublicKey::parse(&rsa(&[3], 2048)).is_ok());
    }

    #[test]
    fn refused() {
        use KeyError::*;
        for (text, expected) in [
            (String::new(), NotAKeyLine),
            ("ssh-ed25519".to_owned(), NotAKeyLine),
            ("id_ed25519.pub".to_owned(), NotAKeyLine),
            (format!("{ED25519} evil\nssh-ed25519 AAAA"), NotOneLine),
            (format!("{ED25519} nul\0"), NotOneLine),
            (format!("{ED25519} \u{85}"), NotOneLine),
            (format!("command=\"id\" {ED25519}"), UnsupportedType),
            (ED25519.replace("ssh-ed25519 ", "ssh-dss "), UnsupportedType),
            (ED25519.replace("ssh-ed25519 ", "ssh-rsa "), Damaged),
            (ED25519.replace("AAAAC3", "AAAAC4"), UnsupportedType),
            (ED25519[..ED25519.len() - 4].to_owned(), Damaged),
            (format!("{ED25519}AAAA"), Damaged),
            (format!("{ED25519}="), Damaged),
            (line("ssh-ed25519", &[&[0; 32]]), ZeroEd25519),
            (line("ssh-ed25519", &[&[1; 31]]), Damaged),
            (line("ssh-ed25519", &[&[1; 32], &[]]), Damaged),
            (rsa(&[1, 0, 1], 1024), OddRsa),
            (rsa(&[1, 0, 1], 2047), OddRsa),
            (rsa(&[1, 0, 1], 4092), OddRsa),
            (rsa(&[1, 0, 1], 8192), OddRsa),
            (rsa(&[1], 2048), OddRsa),
            (rsa(&[4], 2048), OddRsa),
            (rsa(&[0, 3], 2048), OddRsa),
            (rsa(&[0x81], 2048), OddRsa),
            (rsa(&[], 2048), OddRsa),
            (line("ssh-rsa", &[&[1, 0, 1], &[0xff; 256]]), OddRsa),
            (line("ssh-rsa", &[&[1, 0, 1]]), Damaged),
        ] {
            assert_eq!(PublicKey::parse(&text), Err(expected), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn key_never_panics_and_prints_one_line(text: String) {
            if let Ok(key) = PublicKey::parse(&text) {
                prop_assert!(!key.line().contains(char::is_control));
            }
        }

        #[test]
        fn damaged_blobs_never_panic(mut blob in prop::collection::vec(any::<u8>(), 0..600), cut in 0usize..600) {
            blob.truncate(cut);
            let _ = read_blob(&blob);
            let mut named = string(b"ssh-rsa");
            named.extend(blob);
            let _ = read_blob(&named);
        }
    }
}
