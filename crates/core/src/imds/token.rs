//! The tokens of the metadata service. They are sealed and not kept: there is no table to fill, and whoever has the key reads
//! them after a restart.
//!
//! A token is the base64 of `version 1 | nonce 12 | expiry 8 | generation 4 | key 8 | tag 16`, of which what is between nonce and
//! tag is sealed with AES-256-GCM. The instance's id is authenticated, so a token opens for no other instance. Nonces are
//! random: 2^32 tokens under one key are the bound for that (NIST SP 800-38D section 8.3), a thousand a second for 49 days on one machine.

use super::View;
use crate::environment::Random;
use crate::stock::Signer;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use instance_connect_document::{BootInstant, base64_decode, base64_encode};
use instance_connect_planted::planted;
use std::fmt;
use zeroize::Zeroizing;

const VERSION: u8 = 1;

/// The length of every token.
const LENGTH: usize = (1 + NONCE_LEN + CLAIMS_LENGTH + 16).div_ceil(3) * 4;

const CLAIMS_LENGTH: usize = 8 + 4 + 8;

/// What tokens are sealed with. Whoever has it can read an instance's metadata, which is what everybody on it can.
#[derive(Clone)]
pub struct TokenKey(Zeroizing<[u8; 32]>);

/// Whom a good token belongs to.
pub(super) struct Reader<'a> {
    /// The signer whose chain and documents it sees; `None` where there was none when it began.
    pub(super) signer: Option<&'a Signer>,
}

impl TokenKey {
    /// The key with these bytes, which have to come from a cryptographically strong source.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A token that is good until `expires_at` for the instance of the view. It names the generation of the signer that its
    /// holder shall see. `None` where the cipher fails, which it does not.
    pub(super) fn seal(
        &self,
        view: &View<'_>,
        expires_at: BootInstant,
        now: BootInstant,
        random: &dyn Random,
    ) -> Option<String> {
        let signer = view.stock.generation(now).and_then(|generation| view.stock.signer(generation));
        // Generations are counted from 1.
        let (generation, key) =
            signer.map_or((0, [0; 8]), |signer| (signer.announced.generation, key_mark(signer)));
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce);
        let mut sealed = [&expires_at.0.to_be_bytes()[..], &generation.to_be_bytes(), &key].concat();
        let cipher_nonce = Nonce::assume_unique_for_key(nonce);
        self.cipher()?.seal_in_place_append_tag(cipher_nonce, associated(view), &mut sealed).ok()?;
        Some(base64_encode(&[&[VERSION], &nonce[..], &sealed].concat()))
    }

    /// Opens a token; `None` where it was not made by this key for the instance of the view, is over, or names a signer that is
    /// not announced any more.
    pub(super) fn open<'a>(&self, token: &[u8], view: &View<'a>, now: BootInstant) -> Option<Reader<'a>> {
        if token.len() != LENGTH {
            return None;
        }
        let bytes = base64_decode(std::str::from_utf8(token).ok()?)?;
        let (version, sealed) = bytes.split_first()?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        if *version != VERSION {
            return None;
        }
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let claims = self.cipher()?.open_in_place(nonce, associated(view), &mut sealed).ok()?;
        let (expires_at, claims) = claims.split_first_chunk()?;
        let (generation, key) = claims.split_first_chunk()?;
        if BootInstant(u64::from_be_bytes(*expires_at)) <= now {
            return None;
        }
        let signer = match u32::from_be_bytes(*generation) {
            0 => None,
            // A number that came back with another key is another generation.
            generation => Some(view.stock.signer(generation).filter(|signer| key_mark(signer) == *key)?),
        };
        Some(Reader { signer })
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, self.0.as_slice()).ok()?))
    }
}

fn associated<'a>(view: &View<'a>) -> Aad<&'a [u8]> {
    let instance = view.instance.as_str().as_bytes();
    Aad::from(if planted("tokens-of-others") { b"" } else { instance })
}

/// The first bytes of the hash of a signer's key: enough to tell two that were given the same number.
fn key_mark(signer: &Signer) -> [u8; 8] {
    let hash = digest(&SHA256, &signer.public_key);
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(…)")
    }
}
