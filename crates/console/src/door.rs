//! The gateway's end of a connection to the control plane.

use instance_connect_core::console::door::{
    Answer, Attach, Attached, DoorError, MessageReader, Offer, Refused, Request, Serve, encode,
};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long the control plane may take to say whether a key is expected, or that it has seen the gateway: it looks into its memory.
const ANSWER: Duration = Duration::from_secs(3);

/// How long it may take to attach a session: an agent has ten seconds to open the stream, and the audit log is written before.
const ATTACH: Duration = Duration::from_secs(20);

/// A connection to the control plane.
#[derive(Debug)]
pub(crate) struct Door {
    stream: UnixStream,
    reader: MessageReader,
}

/// Why the control plane has not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoorFailure {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Message(#[from] DoorError),
    #[error("no answer in time")]
    Late,
    #[error("an answer to another question")]
    Other,
}

/// The answer to an attach.
#[derive(Debug)]
pub(crate) enum Attachment {
    /// A session: the connection carries frames from now on. Of these, `first` came with the answer.
    Session { attached: Attached, stream: UnixStream, first: Vec<u8> },
    /// None, and why.
    Refused(Refused),
}

impl Door {
    pub(crate) async fn open(socket: &Path) -> Result<Self, DoorFailure> {
        let stream = in_time(ANSWER, async { Ok(UnixStream::connect(socket).await?) }).await?;
        Ok(Self { stream, reader: MessageReader::default() })
    }

    /// Says that the gateway is there.
    pub(crate) async fn serve(&mut self, serve: Serve) -> Result<(), DoorFailure> {
        match in_time(ANSWER, self.ask(&Request::Serve(serve))).await? {
            Answer::Serving {} => Ok(()),
            Answer::Expected(_) | Answer::Attached(_) | Answer::Refused(_) => Err(DoorFailure::Other),
        }
    }

    /// Asks whether a key is expected. After a failure the connection is of no more use: an answer may come late.
    pub(crate) async fn expects(&mut self, offer: &Offer) -> Result<bool, DoorFailure> {
        match in_time(ANSWER, self.ask(&Request::Offer(offer.clone()))).await? {
            Answer::Expected(is_expected) => Ok(is_expected),
            Answer::Serving {} | Answer::Attached(_) | Answer::Refused(_) => Err(DoorFailure::Other),
        }
    }

    /// Has a session attached.
    pub(crate) async fn attach(mut self, attach: Attach) -> Result<Attachment, DoorFailure> {
        match in_time(ATTACH, self.ask(&Request::Attach(attach))).await? {
            Answer::Attached(attached) => {
                let first = self.reader.into_rest();
                Ok(Attachment::Session { attached, stream: self.stream, first })
            }
            Answer::Refused(refused) => Ok(Attachment::Refused(refused)),
            Answer::Serving {} | Answer::Expected(_) => Err(DoorFailure::Other),
        }
    }

    /// Ends when the control plane ends the connection, or says what nobody asked for.
    pub(crate) async fn closed(mut self) {
        let _ = self.stream.read(&mut [0]).await;
    }

    async fn ask(&mut self, request: &Request) -> Result<Answer, DoorFailure> {
        self.stream.write_all(&encode(request)?).await?;
        let mut piece = [0; 4096];
        loop {
            if let Some(answer) = self.reader.next()? {
                return Ok(answer);
            }
            match self.stream.read(&mut piece).await? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                length => self.reader.push(piece.get(..length).unwrap_or_default()),
            }
        }
    }
}

async fn in_time<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, DoorFailure>>,
) -> Result<T, DoorFailure> {
    timeout(limit, answer).await.unwrap_or(Err(DoorFailure::Late))
}
