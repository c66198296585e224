//! SSH public keys as callers push them, parsed into a type from which the machine's line is made anew.
//!
//! We read the text and the blob ourselves. The common libraries take a newline in a comment (a second
//! `authorized_keys` line), negative or tiny RSA moduli and an all-zero ED25519 point; what is accepted here is a
//! short list, and reading it takes less code than refusing the rest would. Whatever is refused, nothing of the text is
//! kept: it may be a private key, sent by mistake.

mod algorithm;
mod blob;
mod error;
mod line;
mod private;
mod ssh2;
#[cfg(test)]
mod tests;

use crate::ids::Fingerprint;
use algorithm::Algorithm;
pub use algorithm::{KeyType, KeyTypes};
pub use error::KeyError;
use instance_connect_document::{base64_decode, base64_encode};
use instance_connect_planted::parser_entered;
pub(crate) use line::looks_like_a_path;
pub use private::holds_private_key;
pub(crate) use private::{begins_public_key, may_hold_secret};

/// An accepted public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    blob: Vec<u8>,
}

impl PublicKey {
    /// Parses the text of one public key of an `accepted` type: an OpenSSH line `type base64 [comment]`, with blanks
    /// between and line ends around it allowed, or an SSH2 block (RFC 4716).
    ///
    /// # Errors
    /// The [`KeyError`] that says what the text is instead.
    pub fn parse(text: &str, accepted: &KeyTypes) -> Result<Self, KeyError> {
        parser_entered(text.as_bytes());
        if holds_private_key(text) {
            return Err(KeyError::PrivateKey);
        }
        // The web console itself sends a line end (wire.md 2.1).
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        let (algorithm, blob) = if text.starts_with(ssh2::BEGIN) {
            let blob = ssh2::read(text)?;
            (Algorithm::accepted(blob::type_name(&blob)?, accepted)?, blob)
        } else {
            let (name, base64) = line::split(text)?;
            // The type comes first, as with AWS: of a type that is not taken, the rest does not matter.
            let algorithm = Algorithm::accepted(name.as_bytes(), accepted)?;
            (algorithm, base64_decode(base64).ok_or(KeyError::Damaged)?)
        };
        blob::check(algorithm, &blob)?;
        Ok(Self { algorithm, blob })
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
