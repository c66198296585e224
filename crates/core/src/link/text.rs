//! Texts that frames carry, each with its bound in the type: what exists can be encoded.

use super::limits;
use std::fmt;
use std::str::FromStr;

/// Why a text cannot be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// More bytes than the field may have.
    #[error("the text is too long for its field")]
    TooLong,
    /// Something else than printable ASCII in a line.
    #[error("the text is not one line of printable ASCII")]
    NotPrintable,
}

/// One line of at most `MAX` printable ASCII characters, which can be logged as it is.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Line<const MAX: usize>(Box<str>);

/// A program version in hello and welcome.
pub type VersionText = Line<{ limits::VERSION_TEXT }>;

/// The reason in a goodbye, for a log.
pub type GoodbyeText = Line<{ limits::GOODBYE_TEXT }>;

/// A signer statement.
pub type StatementText = Line<{ limits::STATEMENT }>;

/// A line that is claimed to be an SSH host key.
pub type HostKeyText = Line<{ limits::HOST_KEY_LINE }>;

impl<const MAX: usize> Line<MAX> {
    /// The text with everything but printable ASCII replaced by `?`, cut to what fits.
    pub fn lossy(text: &str) -> Self {
        let printable = |c: char| if is_printable(c) { c } else { '?' };
        Self(text.chars().take(MAX).map(printable).collect())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> FromStr for Line<MAX> {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if text.len() > MAX {
            return Err(TextError::TooLong);
        }
        if !text.chars().all(is_printable) {
            return Err(TextError::NotPrintable);
        }
        Ok(Self(text.into()))
    }
}

impl<const MAX: usize> fmt::Display for Line<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX: usize> fmt::Debug for Line<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// At most `MAX` bytes of printable ASCII in lines. What is in it is judged by whoever uses it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Lines<const MAX: usize>(Box<str>);

/// A certificate request in a renew.
pub type RequestPem = Lines<{ limits::REQUEST }>;

/// Certificates in a renewed.
pub type CertificatesPem = Lines<{ limits::CERTIFICATES }>;

/// An anchor set.
pub type AnchorSetText = Lines<{ limits::ANCHOR_SET }>;

impl<const MAX: usize> Lines<MAX> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> FromStr for Lines<MAX> {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if text.len() > MAX {
            return Err(TextError::TooLong);
        }
        if !text.chars().all(|c| is_printable(c) || c == '\n') {
            return Err(TextError::NotPrintable);
        }
        Ok(Self(text.into()))
    }
}

impl<const MAX: usize> fmt::Debug for Lines<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~')
}

/// A grant's document: at most [`limits::DOCUMENT`] bytes. What is in it is judged by the document's verifier, so that
/// a malformed one is refused by an ack and does not cost the link.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DocumentText(Box<str>);

impl DocumentText {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DocumentText {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if text.len() > limits::DOCUMENT { Err(TextError::TooLong) } else { Ok(Self(text.into())) }
    }
}

impl fmt::Debug for DocumentText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
