//! The frames of a stream: what a person, the control plane and the agent that owns a serial line say to each other
//! (docs/stream.md).
//!
//! Each frame is its kind, the length of what follows in two bytes, and that. Bulk is carried without copying: a frame that was read
//! borrows from its reader.

use crate::link::{Line, TextError};
use instance_connect_planted::parser_entered;
use std::str::FromStr;
use std::time::Duration;

/// Most bytes behind the head of a frame.
pub const PAYLOAD: usize = 16 * 1024;

/// Bytes of a frame's head: kind and length.
const HEAD: usize = 3;

/// Longest text that says why a stream ends: one line for a person.
pub const END_TEXT: usize = 200;

/// Longest BREAK. Receivers see a break after some 10 ms at any speed; more than a few seconds only hold the line.
pub const LONGEST_BREAK: Duration = Duration::from_secs(3);

/// A BREAK as people mean it who do not say how long (RFC 4335 leaves it to the server; 250 ms is what terminal servers send).
pub const BREAK: Duration = Duration::from_millis(250);

mod kind {
    pub(super) const DATA: u8 = 0x00;
    pub(super) const BREAK: u8 = 0x01;
    pub(super) const REPLAY: u8 = 0x02;
    pub(super) const LOST: u8 = 0x03;
    pub(super) const END: u8 = 0x04;
    pub(super) const READY: u8 = 0x05;
    pub(super) const PING: u8 = 0x06;
    pub(super) const PONG: u8 = 0x07;
    pub(super) const EOF: u8 = 0x08;
}

/// One frame of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamFrame<'a> {
    /// The agent has attached what the stream leads to; its first frame.
    Ready,
    /// Bytes of the line as they come, or of the person as they are typed. At most [`PAYLOAD`].
    Data(&'a [u8]),
    /// What the line said before the stream was attached. At most [`PAYLOAD`].
    Replay(&'a [u8]),
    /// So many bytes of the line were not sent here, since the reader was too slow.
    Lost(u64),
    /// Hold the line in the BREAK state for so many milliseconds: 1 to [`LONGEST_BREAK`].
    Break(u16),
    /// Whether there is somebody at the other end.
    Ping(u64),
    /// There is: the ping's number.
    Pong(u64),
    /// Nothing more comes in this direction.
    Eof,
    /// The last frame.
    End(End),
}

/// Why a stream ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// For programs.
    pub code: EndCode,
    /// For people.
    pub text: EndText,
}

/// The reason in an end.
pub type EndText = Line<END_TEXT>;

impl End {
    /// An end with this text, made printable and cut to what fits.
    pub fn new(code: EndCode, text: &str) -> Self {
        Self { code, text: EndText::lossy(text) }
    }
}

crate::link::codes! {
    /// Why a stream ends.
    EndCode, "unknown_code", {
        /// The person has left.
        Left = 1, "left";
        /// The line has hung up, or its program has ended.
        LineClosed = 2, "line_closed";
        /// The line cannot be read or written.
        LineFailed = 3, "line_failed";
        /// Somebody with the right to has ended the session.
        Terminated = 4, "terminated";
        /// Nothing was typed for too long.
        Idle = 5, "idle";
        /// The session has lasted as long as one may.
        TimeLimit = 6, "time_limit";
        /// The process ends or drains.
        ShuttingDown = 7, "shutting_down";
        /// The agent is gone, without a word.
        AgentLost = 8, "agent_lost";
        /// The gateway is gone, without a word, or the person's connection is.
        PersonLost = 9, "person_lost";
        /// The other side broke the protocol.
        ProtocolError = 10, "protocol_error";
        /// The right to it was taken away.
        Revoked = 11, "revoked";
        /// Too many streams, or the other side takes no bytes.
        Overloaded = 12, "overloaded";
        /// Something failed on this side.
        InternalError = 13, "internal_error";
    }
}

impl EndCode {
    /// Whether a person's side may give this reason. What is on record as an administrator's doing is not for it to say.
    pub const fn is_of_person(self) -> bool {
        matches!(
            self,
            Self::Left
                | Self::Idle
                | Self::TimeLimit
                | Self::PersonLost
                | Self::ShuttingDown
                | Self::ProtocolError
        )
    }

    /// Whether the side that has the line may.
    pub const fn is_of_line(self) -> bool {
        matches!(
            self,
            Self::LineClosed
                | Self::LineFailed
                | Self::ShuttingDown
                | Self::PersonLost
                | Self::ProtocolError
                | Self::Overloaded
                | Self::InternalError
        )
    }
}

/// Why bytes are no frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A kind that is none.
    #[error("a frame of unknown kind {0:#04x}")]
    UnknownKind(u8),
    /// A length that this kind cannot have.
    #[error("a frame of kind {0:#04x} with the wrong length")]
    Length(u8),
    /// A field that holds what it may not.
    #[error("a frame with a malformed {0}")]
    Malformed(&'static str),
}

impl StreamFrame<'_> {
    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.payload_length());
        self.append_to(&mut bytes);
        bytes
    }

    /// Appends the frame's bytes. What is longer than a frame may be is cut; types and callers keep it below.
    pub fn append_to(&self, bytes: &mut Vec<u8>) {
        let frame = |kind: u8, payload: &[u8], bytes: &mut Vec<u8>| {
            let payload = payload.get(..PAYLOAD).unwrap_or(payload);
            bytes.push(kind);
            bytes.extend(u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend_from_slice(payload);
        };
        match self {
            Self::Ready => frame(kind::READY, &[], bytes),
            Self::Data(data) => frame(kind::DATA, data, bytes),
            Self::Replay(data) => frame(kind::REPLAY, data, bytes),
            Self::Lost(count) => frame(kind::LOST, &count.to_be_bytes(), bytes),
            Self::Break(milliseconds) => frame(kind::BREAK, &milliseconds.to_be_bytes(), bytes),
            Self::Ping(number) => frame(kind::PING, &number.to_be_bytes(), bytes),
            Self::Pong(number) => frame(kind::PONG, &number.to_be_bytes(), bytes),
            Self::Eof => frame(kind::EOF, &[], bytes),
            Self::End(end) => {
                let payload = [&[end.code.code()], end.text.as_str().as_bytes()].concat();
                frame(kind::END, &payload, bytes);
            }
        }
    }

    fn payload_length(&self) -> usize {
        match self {
            Self::Data(data) | Self::Replay(data) => data.len(),
            Self::End(end) => 1 + end.text.as_str().len(),
            Self::Lost(_) | Self::Ping(_) | Self::Pong(_) => 8,
            Self::Break(_) => 2,
            Self::Ready | Self::Eof => 0,
        }
    }
}

impl<'a> StreamFrame<'a> {
    fn decode(kind: u8, payload: &'a [u8]) -> Result<Self, StreamError> {
        let number = || Ok(u64::from_be_bytes(payload.try_into().map_err(|_| StreamError::Length(kind))?));
        let nothing = |frame| if payload.is_empty() { Ok(frame) } else { Err(StreamError::Length(kind)) };
        match kind {
            kind::READY => nothing(Self::Ready),
            kind::EOF => nothing(Self::Eof),
            kind::DATA => Ok(Self::Data(payload)),
            kind::REPLAY => Ok(Self::Replay(payload)),
            kind::LOST => number().map(Self::Lost),
            kind::PING => number().map(Self::Ping),
            kind::PONG => number().map(Self::Pong),
            kind::BREAK => {
                let milliseconds = payload.try_into().map_err(|_| StreamError::Length(kind))?;
                let milliseconds = u16::from_be_bytes(milliseconds);
                let is_possible = (1..=LONGEST_BREAK.as_millis()).contains(&milliseconds.into());
                if is_possible { Ok(Self::Break(milliseconds)) } else { Err(StreamError::Malformed("break")) }
            }
            kind::END => {
                let (code, text) = payload.split_first().ok_or(StreamError::Length(kind))?;
                let text = std::str::from_utf8(text).map_err(|_| StreamError::Malformed("end"))?;
                let text = EndText::from_str(text).map_err(|_: TextError| StreamError::Malformed("end"))?;
                Ok(Self::End(End { code: EndCode::from_code(*code), text }))
            }
            kind => Err(StreamError::UnknownKind(kind)),
        }
    }
}

/// Frames out of bytes that come in any pieces.
///
/// It keeps what was pushed and is not read yet: whoever reads all frames there are before pushing more keeps less than a frame in it,
/// and one piece.
#[derive(Debug, Default)]
pub struct FrameReader {
    bytes: Vec<u8>,
    read: usize,
}

impl FrameReader {
    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(piece);
    }

    /// The next frame, once it is there whole.
    ///
    /// # Errors
    /// What can be no frame, as soon as its head is there. The stream has to end then: where the next one begins is not known.
    // Not an iterator: each frame borrows from the reader.
    #[expect(clippy::should_implement_trait, reason = "an iterator's items cannot borrow from it")]
    pub fn next(&mut self) -> Result<Option<StreamFrame<'_>>, StreamError> {
        let rest = self.bytes.get(self.read..).unwrap_or_default();
        parser_entered(rest);
        let Some((&[kind, high, low], rest)) = rest.split_first_chunk::<HEAD>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind > kind::EOF {
            return Err(StreamError::UnknownKind(kind));
        }
        if length > PAYLOAD {
            return Err(StreamError::Length(kind));
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        self.read += HEAD + length;
        StreamFrame::decode(kind, payload).map(Some)
    }

    /// Bytes that were pushed and are not read yet.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_bytes_of_each_frame() {
        let ended = End::new(EndCode::Idle, "idle\n");
        for (frame, bytes) in [
            (StreamFrame::Ready, "050000"),
            (StreamFrame::Data(b"ls\r"), "0000036c730d"),
            (StreamFrame::Data(b""), "000000"),
            (StreamFrame::Replay(b"x"), "02000178"),
            (StreamFrame::Lost(258), "0300080000000000000102"),
            (StreamFrame::Break(250), "01000200fa"),
            (StreamFrame::Ping(1), "0600080000000000000001"),
            (StreamFrame::Pong(1), "0700080000000000000001"),
            (StreamFrame::Eof, "080000"),
            (StreamFrame::End(ended), "0400060569646c653f"),
        ] {
            assert_eq!(hex(&frame.encode()), bytes, "{frame:?}");
            let mut reader = FrameReader::default();
            reader.push(&frame.encode());
            assert_eq!(reader.next(), Ok(Some(frame)));
            assert_eq!(reader.next(), Ok(None));
            assert_eq!(reader.pending(), 0);
        }
    }

    /// `docs/stream.md` is the specification.
    #[test]
    fn the_specification_quotes_these_codes() {
        let specification = include_str!("../../../docs/stream.md");
        for code in EndCode::ALL {
            assert_eq!(EndCode::from_code(code.code()), *code);
            let row = format!("| {} | `{}` |", code.code(), code.name());
            assert!(specification.contains(&row), "{row}");
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_at_its_head() {
        for (bytes, error) in [
            (&[9, 0, 0][..], StreamError::UnknownKind(9)),
            (&[0xff, 0xff, 0xff], StreamError::UnknownKind(0xff)),
            (&[0, 0x40, 1], StreamError::Length(0)),
            (&[5, 0, 1, 0], StreamError::Length(5)),
            (&[8, 0, 1, 0], StreamError::Length(8)),
            (&[3, 0, 7, 0, 0, 0, 0, 0, 0, 0], StreamError::Length(3)),
            (&[4, 0, 0], StreamError::Length(4)),
            (&[4, 0, 2, 1, 10], StreamError::Malformed("end")),
            (&[4, 0, 2, 1, 0xff], StreamError::Malformed("end")),
            (&[1, 0, 2, 0, 0], StreamError::Malformed("break")),
            (&[1, 0, 2, 0x0b, 0xb9], StreamError::Malformed("break")),
            (&[1, 0, 1, 1], StreamError::Length(1)),
        ] {
            let mut reader = FrameReader::default();
            reader.push(bytes);
            assert_eq!(reader.next(), Err(error), "{bytes:?}");
        }
        let mut longest = FrameReader::default();
        longest.push(&StreamFrame::Data(&[7; PAYLOAD]).encode());
        assert_eq!(longest.next(), Ok(Some(StreamFrame::Data(&[7; PAYLOAD]))));
    }

    proptest! {
        /// However the bytes come, the frames are the same, and what waits stays small.
        #[test]
        fn pieces_do_not_matter(
            data in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
            cuts in proptest::collection::vec(1..9usize, 1..20),
        ) {
            let bytes: Vec<u8> = data.iter().flat_map(|data| StreamFrame::Data(data).encode()).collect();
            let (mut reader, mut read, mut rest) = (FrameReader::default(), Vec::new(), &bytes[..]);
            for cut in cuts.iter().cycle() {
                let (piece, left) = rest.split_at(rest.len().min(*cut));
                reader.push(piece);
                rest = left;
                while let Some(frame) = reader.next().unwrap() {
                    let StreamFrame::Data(data) = frame else { panic!("{frame:?}") };
                    read.push(data.to_vec());
                }
                prop_assert!(reader.pending() < HEAD + 40);
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(read, data);
        }

        /// One spelling: what is read is what would have been written. Catches `parser-panics`.
        #[test]
        fn any_bytes_are_refused_or_stream_frames(kind in 0..12u8, body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let length = u8::try_from(body.len()).unwrap();
            let bytes = [&[kind, 0, length][..], &body].concat();
            let mut reader = FrameReader::default();
            reader.push(&bytes);
            if let Ok(Some(frame)) = reader.next() {
                prop_assert_eq!(frame.encode(), bytes);
            }
        }
    }
}
