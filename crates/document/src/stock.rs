//! A grant's document as the stock host scripts check it: the distributions' own host package reads it from the metadata
//! service and knows RSA signatures alone (wire.md 3.5).

use crate::base64_encode;
use crate::document::{DOCUMENT_LIMIT, Headers, split};
use crate::key_line::KeyLine;

/// Longest [`stock_entry`], in bytes: it has the 344 characters of an RSA-2048 signature where the document has 88.
pub const STOCK_ENTRY_LIMIT: usize = DOCUMENT_LIMIT + 256;

/// The header line of a document that names its algorithm.
const ALGORITHM: &str = "#Alg=ed25519\n";

/// What it becomes.
const STOCK_ALGORITHM: &str = "#Alg=rsa-pss\n";

/// What a grant's RSA-PSS signature is over: the header lines and the key line of its signed `document`, each with its line
/// feed, and `#Alg=rsa-pss` in the place of `#Alg=ed25519`. The document's own signature is not looked at.
///
/// `None` where it is no document, or its key is of a kind that the stock scripts do not know: for one entry whose key line
/// does not begin with `ssh` they give up all that they were shown with it.
pub fn stock_text(document: &str) -> Option<String> {
    let parts = split(document).ok()?;
    Headers::parse(parts.headers).ok()?;
    KeyLine::parse(parts.key_line).ok()?;
    let is_known = ["ssh-rsa ", "ssh-ed25519 "].iter().any(|kind| parts.key_line.starts_with(kind));
    // A line of its own: the caller may have a name that ends in one of these.
    let stock_line = |line| if line == ALGORITHM { STOCK_ALGORITHM } else { line };
    is_known.then(|| parts.signed.split_inclusive('\n').map(stock_line).collect())
}

/// One entry of what the metadata service shows for an OS user: the [`stock_text`], its signature on one unwrapped line, and a
/// blank line.
pub fn stock_entry(text: &str, signature: &[u8]) -> String {
    format!("{text}{}\n\n", base64_encode(signature))
}
