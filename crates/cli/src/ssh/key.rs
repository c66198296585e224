//! A key for one login. Its private half is never written down, not even in memory of our own making.

use super::cannot;
use crate::failure::Failure;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use instance_connect_core::document::base64_encode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The name of the algorithm, in key lines and in blobs.
pub(super) const ALGORITHM: &str = "ssh-ed25519";

/// An Ed25519 key pair. The library wipes the private key when it is dropped.
pub(super) struct Key {
    pair: Ed25519KeyPair,
    blob: Vec<u8>,
    /// Whether it has signed. ssh asks for that once the other side has proved itself and expects this key.
    has_signed: Arc<AtomicBool>,
}

impl Key {
    pub(super) fn generate() -> Result<Self, Failure> {
        let pair = Ed25519KeyPair::generate().map_err(|error| cannot("make a key", error))?;
        let mut blob = Vec::new();
        push_string(&mut blob, ALGORITHM.as_bytes());
        push_string(&mut blob, pair.public_key().as_ref());
        Ok(Self { pair, blob, has_signed: Arc::default() })
    }

    /// The public key in SSH wire form (RFC 8709).
    pub(super) fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The public key as one line, without a comment.
    pub(super) fn line(&self) -> String {
        format!("{ALGORITHM} {}", base64_encode(&self.blob))
    }

    /// Whether it has signed, also to know when the key is gone.
    pub(super) fn has_signed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.has_signed)
    }

    /// A signature in SSH wire form.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.has_signed.store(true, Ordering::Relaxed);
        let mut signature = Vec::new();
        push_string(&mut signature, ALGORITHM.as_bytes());
        push_string(&mut signature, self.pair.sign(message).as_ref());
        signature
    }
}

/// Appends a string as RFC 4251 has it: its length in four bytes, then itself. Ours are all short.
pub(super) fn push_string(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}
