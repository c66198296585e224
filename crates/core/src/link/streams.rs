//! Asking for a stream over the link (docs/stream.md): which lines there are, the request, and its refusal. The stream itself is a
//! connection of its own, so that its bytes never delay an acknowledgement.

use super::codec::{FrameError, Reader, Writer};
use super::codes::StreamRefusal;
use super::limits;
use super::token::{from_base64url, to_base64url};
pub use crate::console::Mode as LineMode;
use crate::console::Mode;
use crate::ids::InstanceId;
use std::fmt;

/// Where an agent brings a stream that it was asked for.
pub const STREAM_PATH: &str = "/stream";

/// What that request upgrades to.
pub const STREAM_PROTOCOL: &str = "instance-connect-stream";

/// The header that has the ticket.
pub const TICKET_HEADER: &str = "instance-connect-ticket";

/// The server's name for one request for a stream. Only echoed by the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(pub u64);

/// What proves that a connection is the stream that was asked for: random, used once, and by nobody but the agent that was asked.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamTicket([u8; 32]);

impl StreamTicket {
    /// A ticket of these random bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As it stands in [`TICKET_HEADER`].
    pub fn header(&self) -> String {
        to_base64url(&self.0)
    }

    /// Out of [`TICKET_HEADER`]; `None` for anything that [`Self::header`] does not write.
    pub fn from_header(text: &str) -> Option<Self> {
        from_base64url(text).map(Self)
    }
}

impl fmt::Debug for StreamTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamTicket(..)")
    }
}

/// A serial line, as its instance and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnedLine {
    /// Whose line it is.
    pub instance: InstanceId,
    /// Which of its lines.
    pub port: u8,
}

/// The serial lines that an agent owns, as it claims. Whether it may own that of another instance the server judges. Only the first
/// [`limits::LINES`] are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedLines {
    /// Each.
    pub lines: Vec<OwnedLine>,
}

/// A request for a stream to a serial line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenStream {
    /// What a refusal will name.
    pub id: StreamId,
    /// What the stream's connection has to show.
    pub ticket: StreamTicket,
    /// Where to.
    pub line: OwnedLine,
    /// What the person may do there.
    pub mode: Mode,
    /// How much of the line's past to send first, in bytes at most.
    pub replay: u32,
}

/// The answer to a request for a stream that cannot be had. One that can is answered by the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamRefused {
    /// Which request.
    pub id: StreamId,
    /// Why.
    pub refusal: StreamRefusal,
}

impl OwnedLine {
    fn write(&self, writer: Writer) -> Writer {
        writer.text8(self.instance.as_str()).u8(self.port)
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self { instance: body.text8("instance id")?, port: body.u8()? })
    }
}

impl ReportedLines {
    pub(super) fn encode(&self, kind: u8) -> Vec<u8> {
        let lines = self.lines.get(..limits::LINES).unwrap_or(&self.lines);
        let writer = Writer::new(kind).u16(u16::try_from(lines.len()).unwrap_or(u16::MAX));
        lines.iter().fold(writer, |writer, line| line.write(writer)).finish()
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        let count = usize::from(body.u16()?);
        if count > limits::LINES {
            return Err(FrameError::Malformed("line count"));
        }
        let lines = (0..count).map(|_| OwnedLine::read(body)).collect::<Result<_, _>>()?;
        Ok(Self { lines })
    }
}

impl OpenStream {
    pub(super) fn encode(&self, kind: u8) -> Vec<u8> {
        let writer = Writer::new(kind).u64(self.id.0).hash(self.ticket.as_bytes());
        let mode = match self.mode {
            Mode::Write => 0,
            Mode::Watch => 1,
        };
        self.line.write(writer).u8(mode).u32(self.replay).finish()
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self {
            id: StreamId(body.u64()?),
            ticket: StreamTicket(body.hash()?),
            line: OwnedLine::read(body)?,
            mode: match body.u8()? {
                0 => Mode::Write,
                1 => Mode::Watch,
                _ => return Err(FrameError::Malformed("mode")),
            },
            replay: body.u32()?,
        })
    }
}

impl StreamRefused {
    pub(super) fn encode(self, kind: u8) -> Vec<u8> {
        Writer::new(kind).u64(self.id.0).u8(self.refusal.code()).finish()
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self { id: StreamId(body.u64()?), refusal: StreamRefusal::from_code(body.u8()?) })
    }
}
