//! A key as an SSH2 block (RFC 4716): what `ssh-keygen -e` and PuTTY write.

use super::error::KeyError;
use instance_connect_document::base64_decode;

/// The first line.
pub(super) const BEGIN: &str = "---- BEGIN SSH2 PUBLIC KEY ----";

const END: &str = "---- END SSH2 PUBLIC KEY ----";

/// Longest header, in bytes: 64 for its tag, 1024 for its value, continuation lines joined (RFC 4716 section 3.3).
const LONGEST_HEADER: usize = 64 + 1024;

/// The key's blob, from a text that begins with [`BEGIN`] and has no line ends around it. Lines may end with any of LF,
/// CR LF and CR, and headers say nothing that we need.
pub(super) fn read(text: &str) -> Result<Vec<u8>, KeyError> {
    if text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\r' | '\n')) {
        return Err(KeyError::ControlCharacter);
    }
    if text.matches(BEGIN).count() > 1 {
        return Err(KeyError::SeveralKeys);
    }
    let mut lines =
        text.split(['\r', '\n']).map(str::trim_ascii_end).filter(|line| !line.is_empty()).peekable();
    if lines.next() != Some(BEGIN) {
        return Err(KeyError::Ssh2Block);
    }
    while let Some(header) = lines.next_if(|line| line.contains(':')) {
        skip_header(header, &mut lines)?;
    }
    let mut base64 = String::with_capacity(text.len());
    for line in &mut lines {
        if line == END {
            let nothing_behind = lines.next().is_none();
            return if nothing_behind {
                base64_decode(&base64).ok_or(KeyError::Damaged)
            } else {
                Err(KeyError::Ssh2Block)
            };
        }
        base64.push_str(line);
    }
    Err(KeyError::Ssh2Block)
}

/// Passes the lines that continue a header: those behind one that ends with a backslash.
fn skip_header<'a>(header: &'a str, lines: &mut impl Iterator<Item = &'a str>) -> Result<(), KeyError> {
    let (mut line, mut length) = (header, header.len());
    while line.ends_with('\\') && length <= LONGEST_HEADER {
        line = lines.next().ok_or(KeyError::Ssh2Block)?;
        length += line.len();
    }
    if length <= LONGEST_HEADER { Ok(()) } else { Err(KeyError::Ssh2Block) }
}
