//! Join tokens as text. What a store keeps of one is `inventory::JoinToken`.

use crate::ids::InstanceId;
use aws_lc_rs::digest::{SHA256, digest};
use instance_connect_document::{base64_decode, base64_encode};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

const PREFIX: &str = "ict1_";

/// 32 bytes in unpadded base64url.
const ENCODED: usize = 43;

/// A join token: `ict1_<instance-id>_<secret>_<CA hash>`. The secret is shown nowhere and wiped when dropped.
#[derive(Clone)]
pub struct JoinTokenText {
    instance: InstanceId,
    secret: Zeroizing<[u8; 32]>,
    ca_sha256: [u8; 32],
}

/// Why a text is not a join token. The text itself is left out, it may be a mistyped secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a join token is ict1_<instance-id>_<43 characters>_<43 characters>, on one line")]
pub struct TokenError;

impl JoinTokenText {
    /// A token for this instance, of 32 fresh random bytes and the SHA-256 of the CA's root certificate (DER).
    pub const fn new(instance: InstanceId, secret: Zeroizing<[u8; 32]>, ca_sha256: [u8; 32]) -> Self {
        Self { instance, secret, ca_sha256 }
    }

    /// The instance the token is bound to.
    pub const fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// SHA-256 of the CA's root certificate, for the first contact.
    pub const fn ca_sha256(&self) -> &[u8; 32] {
        &self.ca_sha256
    }

    /// SHA-256 of the secret: what a store keeps and looks the token up by.
    pub fn secret_hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, self.secret.as_slice()).as_ref());
        hash
    }

    /// The token itself, to be shown once or sent.
    pub fn expose(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(to_base64url(&self.secret));
        Zeroizing::new(format!("{PREFIX}{}_{}_{}", self.instance, *secret, to_base64url(&self.ca_sha256)))
    }
}

impl FromStr for JoinTokenText {
    type Err = TokenError;

    /// Cuts the parts by length from the end, since base64url contains `_` itself.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let rest = text.strip_prefix(PREFIX).ok_or(TokenError)?;
        let (rest, ca) = split_last_part(rest).ok_or(TokenError)?;
        let (instance, secret) = split_last_part(rest).ok_or(TokenError)?;
        Ok(Self {
            instance: instance.parse().map_err(|_| TokenError)?,
            secret: Zeroizing::new(from_base64url(secret).ok_or(TokenError)?),
            ca_sha256: from_base64url(ca).ok_or(TokenError)?,
        })
    }
}

impl fmt::Debug for JoinTokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinTokenText({PREFIX}{}_…)", self.instance)
    }
}

fn split_last_part(text: &str) -> Option<(&str, &str)> {
    let (before, part) = text.split_at_checked(text.len().checked_sub(ENCODED)?)?;
    Some((before.strip_suffix('_')?, part))
}

pub(super) fn to_base64url(bytes: &[u8; 32]) -> String {
    base64_encode(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

pub(super) fn from_base64url(text: &str) -> Option<[u8; 32]> {
    if text.contains(['+', '/', '=']) {
        return None;
    }
    let standard = Zeroizing::new(format!("{}=", text.replace('-', "+").replace('_', "/")));
    Zeroizing::new(base64_decode(&standard)?).as_slice().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(secret: [u8; 32], ca: [u8; 32]) -> JoinTokenText {
        JoinTokenText::new("i-0123456789abcdef0".parse().unwrap(), Zeroizing::new(secret), ca)
    }

    #[test]
    fn golden() {
        let token = token([0xff; 32], [0; 32]);
        let text = format!("ict1_i-0123456789abcdef0_{}8_{}", "_".repeat(42), "A".repeat(43));
        assert_eq!(*token.expose(), text);
        let parsed: JoinTokenText = text.parse().unwrap();
        assert_eq!(parsed.secret_hash(), token.secret_hash());
        assert_eq!(parsed.ca_sha256(), &[0; 32]);
        assert_eq!(parsed.instance().as_str(), "i-0123456789abcdef0");
    }

    #[test]
    fn the_secret_is_not_shown() {
        assert_eq!(format!("{:?}", token([0xff; 32], [0; 32])), "JoinTokenText(ict1_i-0123456789abcdef0_…)");
    }

    #[test]
    fn other_texts_are_refused() {
        let good = token([7; 32], [9; 32]).expose();
        let respelled = format!("{}B", &good[..good.len() - 1]);
        for text in [
            "",
            "ict1_",
            &good[1..],
            &good[..good.len() - 1],
            &format!("{}\n", *good),
            &format!(" {}", *good),
            &good.replacen("ict1", "ict2", 1),
            &good.replacen("i-0123456789abcdef0_", "i-_", 1),
            &good.replacen("i-0123456789abcdef0_", "", 1),
            &respelled,
            &good.replace(char::is_alphabetic, "ä"),
        ] {
            assert!(text.parse::<JoinTokenText>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn parse_inverts_format(secret: [u8; 32], ca: [u8; 32]) {
            let token = token(secret, ca);
            let parsed: JoinTokenText = token.expose().parse().unwrap();
            prop_assert_eq!(parsed.expose(), token.expose());
        }

        #[test]
        fn one_spelling(text in "ict1_i-[0-9a-f]{8}_[A-Za-z0-9_+/=-]{41,44}_[A-Za-z0-9_-]{43}") {
            if let Ok(token) = text.parse::<JoinTokenText>() {
                prop_assert_eq!(&*token.expose(), &text);
            }
        }
    }
}
