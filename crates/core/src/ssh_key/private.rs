//! Private keys and other secrets, which people send by mistake.

use super::algorithm::Algorithm;

/// Marks of private keys as OpenSSH, OpenSSL, PuTTY and PGP write them. The last one is how the base64 of OpenSSH's format
/// begins, whatever has become of the lines around it.
const MARKS: [&str; 6] = [
    "PRIVATE KEY",
    "PuTTY-User-Key-File",
    "Private-Lines:",
    "Private-MAC:",
    "Private-Hash:",
    "b3BlbnNzaC1rZXktdjE",
];

/// Whether a text has the mark of a private key anywhere in it.
pub fn holds_private_key(text: &str) -> bool {
    MARKS.iter().any(|mark| text.contains(mark))
}

/// Length of the shortest secret that is told from a word by its length: a secret access key of AWS.
const SHORTEST_SECRET: usize = 40;

/// How the base64 of public keys begins: the lengths and the first letters of `ssh-rsa`, `ssh-ed25519` and `ecdsa-`. The
/// lengths alone would not do: a private key without its marks can begin with one too, as PuTTY's do.
const PUBLIC_BLOBS: [&str; 3] = ["AAAAB3NzaC1", "AAAAC3NzaC1", "AAAAE2Vj"];

/// Whether a text may have a secret in it: one that is marked as a private key, or base64 (of either alphabet) of a
/// secret's length that does not begin as a public key's does.
pub(crate) fn may_hold_secret(text: &str) -> bool {
    let is_symbol = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_');
    let is_secret = |run: &str| run.len() >= SHORTEST_SECRET && !begins_public_blob(run);
    holds_private_key(text) || text.split(|c| !is_symbol(c)).any(is_secret)
}

/// Whether a text begins with the type of a key, and goes on as its public key does or ends too soon for a secret.
pub(crate) fn begins_public_key(text: &str) -> bool {
    let (name, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    Algorithm::is_name(name) && (begins_public_blob(rest) || rest.len() < SHORTEST_SECRET)
}

fn begins_public_blob(base64: &str) -> bool {
    PUBLIC_BLOBS.iter().any(|begin| base64.starts_with(begin))
}
