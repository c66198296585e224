//! Writing and reading the fields of a frame. Reading is strict: nothing is cut, padded or skipped.

use super::limits;
use instance_connect_document::{BootInstant, Fingerprint, ServerInstant};
use instance_connect_planted::parser_entered;
use std::str::FromStr;

/// Why bytes are not a frame this side can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No bytes at all, so no kind either.
    #[error("an empty frame")]
    Empty,
    /// More bytes than any frame may have.
    #[error("a frame of more than {} bytes", limits::FRAME)]
    TooLong,
    /// A kind this side does not know, of those it must.
    #[error("an unknown critical frame, kind {0:#04x}")]
    UnknownCritical(u8),
    /// The body ends within a field.
    #[error("a frame that ends too early")]
    Truncated,
    /// The body goes on behind its last field.
    #[error("a frame with trailing bytes")]
    Trailing,
    /// A field holds what it may not; the name is that in `docs/link.md`.
    #[error("a frame with a malformed {0}")]
    Malformed(&'static str),
}

/// A frame under construction.
#[derive(Debug)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(kind: u8) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(kind);
        Self(bytes)
    }

    pub(super) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn boot(self, value: BootInstant) -> Self {
        self.u64(value.0)
    }

    pub(super) fn server(self, value: ServerInstant) -> Self {
        self.u64(value.0)
    }

    pub(super) fn hash(self, value: &[u8; 32]) -> Self {
        self.array(value)
    }

    pub(super) fn array<const N: usize>(mut self, value: &[u8; N]) -> Self {
        self.0.extend(value);
        self
    }

    /// How many of something follow: a number that has a bound under 256.
    pub(super) fn count(self, count: usize) -> Self {
        self.u8(u8::try_from(count).unwrap_or(u8::MAX))
    }

    pub(super) fn fingerprint(self, value: &Fingerprint) -> Self {
        self.hash(value.as_bytes())
    }

    /// A UUID: its 36 characters, without a length.
    pub(super) fn uuid(mut self, text: &str) -> Self {
        self.0.extend(text.as_bytes());
        self
    }

    /// A text whose type keeps it under 256 bytes.
    pub(super) fn text8(self, text: &str) -> Self {
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
        self.u8(length).bytes(text.as_bytes(), length.into())
    }

    /// A text whose type keeps it under 65,536 bytes.
    pub(super) fn text16(self, text: &str) -> Self {
        self.bytes16(text.as_bytes())
    }

    /// Bytes that their type keeps under 65,536.
    pub(super) fn bytes16(mut self, bytes: &[u8]) -> Self {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_be_bytes());
        self.bytes(bytes, length.into())
    }

    /// What another writer has made.
    pub(super) fn rest(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    fn bytes(mut self, bytes: &[u8], length: usize) -> Self {
        self.0.extend(bytes.iter().take(length));
        self
    }
}

/// The rest of a frame's body.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The kind of a frame and its body.
    pub(super) fn new(frame: &'a [u8]) -> Result<(u8, Self), FrameError> {
        if frame.len() > limits::FRAME {
            return Err(FrameError::TooLong);
        }
        parser_entered(frame);
        let (kind, body) = frame.split_first().ok_or(FrameError::Empty)?;
        Ok((*kind, Self(body)))
    }

    pub(super) fn u8(&mut self) -> Result<u8, FrameError> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, FrameError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, FrameError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, FrameError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn boot(&mut self) -> Result<BootInstant, FrameError> {
        self.u64().map(BootInstant)
    }

    pub(super) fn server(&mut self) -> Result<ServerInstant, FrameError> {
        self.u64().map(ServerInstant)
    }

    pub(super) fn hash(&mut self) -> Result<[u8; 32], FrameError> {
        self.array()
    }

    pub(super) fn fingerprint(&mut self) -> Result<Fingerprint, FrameError> {
        self.hash().map(Fingerprint::from_bytes)
    }

    pub(super) fn uuid<T: FromStr>(&mut self, field: &'static str) -> Result<T, FrameError> {
        self.text(36, field)
    }

    pub(super) fn text8<T: FromStr>(&mut self, field: &'static str) -> Result<T, FrameError> {
        let length = self.u8()?;
        self.text(length.into(), field)
    }

    pub(super) fn text16<T: FromStr>(&mut self, field: &'static str) -> Result<T, FrameError> {
        let length = self.u16()?;
        self.text(length.into(), field)
    }

    /// A number of fields that follow, up to a bound.
    pub(super) fn count(&mut self, most: usize, field: &'static str) -> Result<usize, FrameError> {
        let count = usize::from(self.u8()?);
        if count > most { Err(FrameError::Malformed(field)) } else { Ok(count) }
    }

    pub(super) fn bytes16(&mut self) -> Result<&'a [u8], FrameError> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// Whatever the body held has been read; anything left is an error.
    pub(super) const fn finish(self) -> Result<(), FrameError> {
        if self.0.is_empty() { Ok(()) } else { Err(FrameError::Trailing) }
    }

    fn text<T: FromStr>(&mut self, length: usize, field: &'static str) -> Result<T, FrameError> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| FrameError::Malformed(field))?;
        text.parse().map_err(|_| FrameError::Malformed(field))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        self.take(N)?.try_into().map_err(|_| FrameError::Truncated)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], FrameError> {
        let (field, rest) = self.0.split_at_checked(length).ok_or(FrameError::Truncated)?;
        self.0 = rest;
        Ok(field)
    }
}
