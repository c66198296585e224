//! The canonical request and the string to sign, block by block as AWS's guide names them.

use aws_lc_rs::digest::{SHA256, digest};
use std::fmt::Write as _;

/// The algorithm name, the first line of a string to sign.
pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The terminator of a credential scope.
pub(crate) const TERMINATOR: &str = "aws4_request";

/// What goes into a canonical request. Headers are lower-case names with their values as received, sorted by name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CanonicalRequest<'a> {
    /// The method, upper case.
    pub(crate) method: &'a str,
    /// The canonical URI ([`canonical_uri`]).
    pub(crate) uri: &'a str,
    /// The canonical query ([`Query::canonical`](super::Query::canonical)).
    pub(crate) query: &'a str,
    /// The signed headers, sorted, each name once.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// SHA-256 of the body.
    pub(crate) payload_hash: [u8; 32],
}

impl CanonicalRequest<'_> {
    /// The names of the signed headers joined by `;`.
    pub(crate) fn signed_headers(&self) -> String {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| *name).collect();
        names.join(";")
    }

    /// The canonical request as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::with_capacity(512);
        // <HTTPMethod>\n
        text.push_str(self.method);
        text.push('\n');
        // <CanonicalURI>\n
        text.push_str(self.uri);
        text.push('\n');
        // <CanonicalQueryString>\n
        text.push_str(self.query);
        text.push('\n');
        // <CanonicalHeaders>\n
        for (name, value) in self.headers {
            text.push_str(name);
            text.push(':');
            push_folded(&mut text, value);
            text.push('\n');
        }
        text.push('\n');
        // <SignedHeaders>\n
        text.push_str(&self.signed_headers());
        text.push('\n');
        // <HashedPayload>
        push_hex(&mut text, &self.payload_hash);
        text
    }

    /// The string to sign for this request at `amz_date` in `scope` (`date/region/service/aws4_request`).
    pub(crate) fn string_to_sign(&self, amz_date: &str, scope: &str) -> String {
        let mut text = format!("{ALGORITHM}\n{amz_date}\n{scope}\n");
        push_hex(&mut text, &sha256(self.text().as_bytes()));
        text
    }
}

/// `date/region/service/aws4_request`.
pub(crate) fn credential_scope(day: &str, region: &str, service: &str) -> String {
    format!("{day}/{region}/{service}/{TERMINATOR}")
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// SHA-256, in lower-case hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    push_hex(&mut text, &sha256(bytes));
    text
}

/// Lower-case hex.
pub(crate) fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
}

/// Leading and trailing blanks dropped, runs of blanks inside folded into one.
fn push_folded(text: &mut String, value: &str) {
    for (position, word) in value.split([' ', '\t']).filter(|word| !word.is_empty()).enumerate() {
        if position > 0 {
            text.push(' ');
        }
        text.push_str(word);
    }
}

/// The canonical URI of a path as it stands on the request line: dot segments resolved, empty segments dropped, and
/// every segment percent-encoded once more, as every service but S3 does it. An empty path is `/`.
pub(crate) fn canonical_uri(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    let mut uri = String::with_capacity(path.len() + 1);
    for segment in &segments {
        uri.push('/');
        push_encoded(&mut uri, segment.as_bytes());
    }
    let names_a_directory = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    if uri.is_empty() || names_a_directory {
        uri.push('/');
    }
    uri
}

/// Percent-encodes everything but RFC 3986's unreserved characters, with upper-case hex.
pub fn push_encoded(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
}
