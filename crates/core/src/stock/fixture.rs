//! Signers and grants for tests. RSA keys take long to make, so there are three.

use super::Signer;
use crate::link::{Staple, StapleBytes, StapleName, StockSigner, Twin};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PSS_SHA256, RsaEncoding};
use instance_connect_document::{
    BootInstant, DocumentTerms, RequestId, SigningKey, UnixSeconds, base64_encode, stock_text,
};
use std::sync::LazyLock;

pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";
pub(crate) const OTHER_INSTANCE: &str = "i-0123456789abcdef1";
pub(crate) const NOW: BootInstant = BootInstant(1_000_000_000_000);

static KEYS: LazyLock<[KeyPair; 3]> =
    LazyLock::new(|| std::array::from_fn(|_| KeyPair::generate(KeySize::Rsa2048).unwrap()));

pub(crate) fn seconds(seconds: u64) -> std::time::Duration {
    std::time::Duration::from_secs(seconds)
}

pub(crate) fn public_key(key: usize) -> Vec<u8> {
    KEYS[key].public_key().as_ref().to_vec()
}

/// A signer with the key of that number. Its chain says which.
pub(crate) fn signer(generation: u32, key: usize, is_revoked: bool) -> Signer {
    let staple = |certificate: u8| Staple {
        name: StapleName([0xa0 + certificate; 20]),
        response: StapleBytes::new(&[certificate, key.try_into().unwrap()]).unwrap(),
    };
    let announced = StockSigner {
        generation,
        is_revoked,
        chain: format!("leaf of key {key}\nintermediate\nroot\n").parse().unwrap(),
        staples: vec![staple(0), staple(1)],
    };
    Signer { announced, public_key: public_key(key) }
}

pub(crate) fn sign_with(encoding: &'static dyn RsaEncoding, key: usize, text: &str) -> Box<[u8; 256]> {
    let mut signature = Box::new([0; 256]);
    KEYS[key].sign(encoding, &SystemRandom::new(), text.as_bytes(), signature.as_mut_slice()).unwrap();
    signature
}

pub(crate) fn twin(generation: u32, key: usize, document: &str) -> Twin {
    let text = stock_text(document).unwrap();
    Twin { generation, signature: sign_with(&RSA_PSS_SHA256, key, &text) }
}

pub(crate) fn request(number: u32) -> RequestId {
    format!("0b7f1c52-6a0e-4c11-9d0b-{number:012x}").parse().unwrap()
}

pub(crate) fn key_line(kind: &str, number: u32) -> String {
    let length = u32::try_from(kind.len()).unwrap().to_be_bytes();
    format!("{kind} {}", base64_encode(&[&length[..], kind.as_bytes(), &number.to_be_bytes()].concat()))
}

pub(crate) fn document(instance: &str, user: &str, number: u32, key_line: &str) -> String {
    let terms = DocumentTerms {
        expires_at: UnixSeconds(1_928_541_906),
        instance: &instance.parse().unwrap(),
        caller: "arn:aws:sts::111122223333:assumed-role/ops/#Alg=ed25519",
        request: &request(number),
        user: &user.parse().unwrap(),
        boot: &"5c0c6f9e-3f60-4c11-9d0b-1c5a6f0e9a11".parse().unwrap(),
        key_line,
    };
    terms.sign(&SigningKey::from_seed(&[7; 32]).unwrap()).unwrap()
}
