//! Passing frames between whoever sits at a line and the agent that has it.

use super::{Ordered, ordered_end};
use instance_connect_core::console::{Mode, limits};
use instance_connect_core::stream::{End, EndCode, FrameReader, PAYLOAD, StreamFrame};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};

/// Bytes that wait in one direction: while there are more, nothing more is read for it.
const WAITING: usize = 4 * PAYLOAD;

/// Without a byte of the agent for so long it is gone; it pings more often.
const SILENCE: Duration = Duration::from_secs(45);

/// After so long without a byte to the agent it is sent a ping: it gives up whoever says nothing for as long as [`SILENCE`], and a
/// person who pauses is still there (docs/stream.md 3).
const PING: Duration = Duration::from_secs(15);

/// How long the last word may take to get out.
const PARTING: Duration = Duration::from_secs(2);

/// What has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// Bytes typed.
    pub(super) to_line: u64,
    /// Bytes of the line.
    pub(super) from_line: u64,
}

/// One side of it: what comes from there, and what is to go there.
struct Side<S> {
    stream: S,
    frames: FrameReader,
    waiting: VecDeque<u8>,
    is_flushed: bool,
    /// The number of the last ping from there that is not answered. Of several that wait only the last is: nobody fills our memory
    /// with answers.
    asked: Option<u64>,
    piece: Box<[u8; PAYLOAD]>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Side<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            frames: FrameReader::default(),
            waiting: VecDeque::new(),
            is_flushed: true,
            asked: None,
            piece: Box::new([0; PAYLOAD]),
        }
    }

    fn put(&mut self, frame: &StreamFrame<'_>) {
        let mut bytes = Vec::new();
        frame.append_to(&mut bytes);
        self.waiting.extend(bytes);
        self.is_flushed = false;
    }

    /// Answers a ping, as soon as there is room.
    fn answer(&mut self) {
        if !self.is_full()
            && let Some(number) = self.asked.take()
        {
            self.put(&StreamFrame::Pong(number));
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING
    }

    /// Writes of what waits, or else reads a piece: says how many bytes were read, of which none is the end.
    async fn step(&mut self, may_read: bool) -> io::Result<Option<usize>> {
        poll_fn(|context| self.poll_step(context, may_read)).await
    }

    fn poll_step(&mut self, context: &mut Context<'_>, may_read: bool) -> Poll<io::Result<Option<usize>>> {
        let mut stream = Pin::new(&mut self.stream);
        if !self.waiting.is_empty() {
            if let Poll::Ready(written) = stream.as_mut().poll_write(context, self.waiting.as_slices().0) {
                let written = written?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.waiting.drain(..written);
                return Poll::Ready(Ok(None));
            }
        } else if !self.is_flushed && stream.as_mut().poll_flush(context)?.is_ready() {
            self.is_flushed = true;
        }
        if !may_read {
            return Poll::Pending;
        }
        let mut piece = ReadBuf::new(self.piece.as_mut_slice());
        ready!(stream.poll_read(context, &mut piece))?;
        Poll::Ready(Ok(Some(piece.filled().len())))
    }

    /// The last frame, as far as it gets.
    async fn part(&mut self, end: &End) {
        self.put(&StreamFrame::End(end.clone()));
        let parting = async {
            let waiting = self.waiting.make_contiguous();
            self.stream.write_all(waiting).await?;
            self.stream.shutdown().await
        };
        let _ = timeout(PARTING, parting).await;
    }
}

/// Why passing stops, and to whom it still has to be said.
struct Stopped {
    end: End,
    tell_person: bool,
    tell_line: bool,
}

impl Stopped {
    fn here(code: EndCode, text: &str) -> Self {
        Self { end: End::new(code, text), tell_person: true, tell_line: true }
    }

    fn person_lost() -> Self {
        Self { tell_person: false, ..Self::here(EndCode::PersonLost, "The connection has gone.") }
    }

    fn agent_lost() -> Self {
        Self { tell_line: false, ..Self::here(EndCode::AgentLost, "The agent that has the line has gone.") }
    }
}

/// Passes frames on until one side ends it, or it is ordered to end.
pub(super) async fn run(
    person: impl AsyncRead + AsyncWrite + Unpin,
    said_first: &[u8],
    line: impl AsyncRead + AsyncWrite + Unpin,
    mode: Mode,
    Ordered { mut end, mut breaks }: Ordered,
    withdrawn: impl Future<Output = End>,
) -> (End, Passed) {
    let mut withdrawn = pin!(withdrawn);
    let (mut person, mut line) = (Side::new(person), Side::new(line));
    let mut passed = Passed::default();
    person.frames.push(said_first);
    let (mut heard, mut said) = (Instant::now(), Instant::now());
    // What people are told is the gateway's to keep; that a line is not held for good, ours.
    let longest = heard + limits::LONGEST_SESSION;
    let stopped = loop {
        // Before anything else passes.
        if end.borrow().is_some() {
            break Stopped { end: ordered_end(&mut end).await, tell_person: true, tell_line: true };
        }
        if let Err(stopped) = pass_on(&mut person, &mut line, mode, &mut passed) {
            break stopped;
        }
        person.answer();
        line.answer();
        // Who takes nothing is not read from either: what a slow person keeps waiting waits at the agent.
        let (may_read_person, may_read_line) = (!line.is_full(), !person.is_full());
        if !may_read_line {
            heard = Instant::now();
        }
        if !line.waiting.is_empty() {
            said = Instant::now();
        }
        tokio::select! {
            biased;
            end = ordered_end(&mut end) => break Stopped { end, tell_person: true, tell_line: true },
            end = withdrawn.as_mut() => break Stopped { end, tell_person: true, tell_line: true },
            () = sleep_until(longest) => break Stopped::here(EndCode::TimeLimit, "No session is longer."),
            step = person.step(may_read_person) => match step {
                Ok(Some(0)) | Err(_) => break Stopped::person_lost(),
                Ok(Some(count)) => person.frames.push(person.piece.get(..count).unwrap_or_default()),
                Ok(None) => {}
            },
            step = line.step(may_read_line) => match step {
                Ok(Some(0)) | Err(_) => break Stopped::agent_lost(),
                Ok(Some(count)) => {
                    heard = Instant::now();
                    line.frames.push(line.piece.get(..count).unwrap_or_default());
                }
                Ok(None) => {}
            },
            Some(milliseconds) = breaks.recv(), if may_read_person => {
                line.put(&StreamFrame::Break(milliseconds));
            }
            () = sleep_until(heard + SILENCE), if may_read_line => break Stopped::agent_lost(),
            () = sleep_until(said + PING) => {
                said = Instant::now();
                line.put(&StreamFrame::Ping(0));
            }
        }
    };
    let Stopped { end, tell_person, tell_line } = stopped;
    tokio::join!(
        async {
            if tell_person {
                person.part(&end).await
            }
        },
        async {
            if tell_line {
                line.part(&end).await
            }
        },
    );
    (end, passed)
}

/// Puts what has come from each side before the other, as far as it may pass.
fn pass_on<P, L>(
    person: &mut Side<P>,
    line: &mut Side<L>,
    mode: Mode,
    passed: &mut Passed,
) -> Result<(), Stopped>
where
    P: AsyncRead + AsyncWrite + Unpin,
    L: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |who: &str| Stopped::here(EndCode::ProtocolError, &format!("{who} broke the protocol."));
    while let Some(frame) = person.frames.next().map_err(|_| broken("The gateway"))? {
        match frame {
            StreamFrame::Data(_) | StreamFrame::Break(_) if mode == Mode::Watch => {
                return Err(broken("The gateway"));
            }
            StreamFrame::Data(data) => {
                passed.to_line += data.len() as u64;
                line.put(&frame);
            }
            StreamFrame::Break(_) | StreamFrame::Eof => line.put(&frame),
            StreamFrame::Ping(number) => person.asked = Some(number),
            StreamFrame::Pong(_) => {}
            StreamFrame::End(end) if end.code.is_of_person() => {
                return Err(Stopped { end, tell_person: false, tell_line: true });
            }
            StreamFrame::Ready | StreamFrame::End(_) | StreamFrame::Replay(_) | StreamFrame::Lost(_) => {
                return Err(broken("The gateway"));
            }
        }
    }
    while let Some(frame) = line.frames.next().map_err(|_| broken("The agent"))? {
        match frame {
            StreamFrame::Data(data) | StreamFrame::Replay(data) => {
                passed.from_line += data.len() as u64;
                person.put(&frame);
            }
            StreamFrame::Ready | StreamFrame::Lost(_) | StreamFrame::Eof => person.put(&frame),
            StreamFrame::Ping(number) => line.asked = Some(number),
            StreamFrame::Pong(_) => {}
            StreamFrame::End(end) if end.code.is_of_line() => {
                return Err(Stopped { end, tell_person: true, tell_line: false });
            }
            StreamFrame::End(_) | StreamFrame::Break(_) => return Err(broken("The agent")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
