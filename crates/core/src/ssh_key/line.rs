//! A key as OpenSSH writes it, on one line, and what people send in place of it.

use super::algorithm::Algorithm;
use super::error::KeyError;

/// How every key's blob begins in base64: with the length of its type's name, which is short.
const BLOB_BEGINS: &str = "AAAA";

/// The type and the base64 of a key line, without blanks around it. What stands behind them is a comment and does not
/// matter, but for what no line of text has.
pub(super) fn split(text: &str) -> Result<(&str, &str), KeyError> {
    if text.starts_with("-----BEGIN ") {
        return Err(KeyError::Pem);
    }
    if text.contains(['\r', '\n']) {
        let several =
            text.split(['\r', '\n']).filter(|line| line.split(is_blank).any(Algorithm::is_name)).count() > 1;
        return Err(if several { KeyError::SeveralKeys } else { KeyError::BrokenLine });
    }
    if text.chars().any(|c| c.is_control() && !is_blank(c)) {
        return Err(KeyError::ControlCharacter);
    }
    let mut words = text.split(is_blank).filter(|word| !word.is_empty());
    match (words.next(), words.next()) {
        (Some(name), Some(base64)) if Algorithm::is_name(name) => Ok((name, base64)),
        _ if text.split(is_blank).skip(1).any(Algorithm::is_name) => Err(KeyError::Options),
        (Some(first), _) if first.starts_with(BLOB_BEGINS) => Err(KeyError::TypeMissing),
        (Some(name), Some(base64)) if base64.starts_with(BLOB_BEGINS) => Ok((name, base64)),
        _ if names_a_file(text) => Err(KeyError::FileName),
        _ => Err(KeyError::NotAKey),
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// A path, or one word alone: no key is that short, and people forget `file://` or send it where nobody reads it.
fn names_a_file(text: &str) -> bool {
    let is_one_word = !text.is_empty() && !text.contains(is_blank) && !Algorithm::is_name(text);
    is_one_word || looks_like_a_path(text)
}

/// What only a file is called; one word alone may as well be a password.
pub(crate) fn looks_like_a_path(text: &str) -> bool {
    let begins =
        text.starts_with(['/', '~', '.', '@']) || text.starts_with("file:") || text.starts_with("fileb:");
    let is_on_a_drive = text.chars().nth(1) == Some(':');
    begins || is_on_a_drive || text.ends_with(".pub")
}
