//! What is spoken on the SSH side: few algorithms, all of them current.
//!
//! OpenSSH has had one of each kind since 2014, and mlkem768x25519 since 9.9. Left out on purpose: SHA-1, CBC, MACs over the plain
//! text, compression (its decoder would be in reach of strangers), NIST's curves for the key exchange, which ssh-audit fails, and
//! finite-field Diffie-Hellman, whose exponentiation costs a server more than it costs whoever asks for it (CVE-2002-20001).
//! Strict key exchange (CVE-2023-48795) is on wherever the client knows it.

use crate::host_keys::HostKeys;
use crate::settings::Settings;
use instance_connect_core::console::limits;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};
use russh::server::Config;
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac};
use std::borrow::Cow;
use std::time::Duration;

/// What a server says of itself. Not its version: whoever looks for old ones learns nothing here.
const SERVER_ID: &str = "SSH-2.0-InstanceConnect";

/// How long a refusal takes, whatever it was for: the control plane has answered by then, so that the time tells nobody whether
/// there is such an instance. Short, because ssh offers the keys of its agent one after the other.
pub(crate) const REFUSAL: Duration = Duration::from_millis(200);

/// Bytes that a client may send ahead.
const WINDOW: u32 = 64 * 1024;

/// Largest packet of data, in bytes, that a client may send. Every implementation has to take that much (RFC 4253, 6.1).
const PACKET: u32 = 32 * 1024;

/// Messages to a client that wait in the SSH library for room in the client's window: with one that it holds already, at most three
/// frames of a stream.
const WAITING_MESSAGES: usize = 2;

const KEY_EXCHANGES: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    // Not algorithms: they say that the server knows RFC 8308 and strict key exchange.
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

/// Of keys: those that people come in with, of which the host keys are some. Not those of FIDO devices: the SSH library does not say
/// whether somebody has touched the device.
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

const CIPHERS: &[cipher::Name] = &[
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];

/// How the SSH library is to behave.
pub(crate) fn config(keys: &HostKeys, settings: &Settings) -> Config {
    Config {
        server_id: SshId::Standard(Cow::Borrowed(SERVER_ID)),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: REFUSAL,
        // Clients ask with the method `none` what there is, before anything else.
        auth_rejection_time_initial: Some(Duration::ZERO),
        // Asking with `none` counts too.
        max_auth_attempts: limits::OFFERED_KEYS + 1,
        keys: keys.private().to_vec(),
        preferred: Preferred {
            kex: Cow::Borrowed(KEY_EXCHANGES),
            key: Cow::Borrowed(KEYS),
            host_key_certificates: Cow::Borrowed(&[]),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Borrowed(MACS),
            compression: Cow::Borrowed(&[compression::NONE]),
        },
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        event_buffer_size: WAITING_MESSAGES,
        // Whoever looks at a line that says nothing stays; keep-alives find out who has gone.
        inactivity_timeout: None,
        keepalive_interval: Some(settings.keep_alive),
        keepalive_max: usize::try_from(settings.keep_alives_unanswered).unwrap_or(usize::MAX),
        ..Config::default()
    }
}

/// Whether a key may be used to come in with this algorithm. RSA with SHA-1 may not, whatever the key: RFC 8332's names stand for SHA-2.
pub(crate) fn is_accepted(algorithm: &Algorithm) -> bool {
    KEYS.contains(algorithm)
}

/// The key as `type base64`.
pub(crate) fn line(key: &russh::keys::PublicKey) -> Option<String> {
    let text = key.to_openssh().ok()?;
    let mut parts = text.split(' ');
    Some(format!("{} {}", parts.next()?, parts.next()?))
}

/// The public half of a host key, as `type base64`.
pub(crate) fn public_line(key: &PrivateKey) -> Option<String> {
    line(key.public_key())
}
