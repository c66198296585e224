//! Private keys, which people send by mistake.

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
