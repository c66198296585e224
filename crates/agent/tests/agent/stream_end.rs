//! The control plane's end of a stream, and a machine with serial lines.

use crate::control_plane::{ControlPlane, INSTANCE, PATIENCE, ServerLink};
use crate::machine::Machine;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use instance_connect_core::link::{
    AgentFrame, Capabilities, LineMode, OpenStream, OwnedLine, ServerFrame, StreamId, StreamRefusal,
    StreamTicket,
};
use instance_connect_core::stream::{End, FrameReader, StreamFrame};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

/// A machine with these lines, its agent, and the link to it.
pub(crate) struct Console {
    pub(crate) control_plane: ControlPlane,
    pub(crate) machine: Machine,
    pub(crate) link: ServerLink,
    pub(crate) reported: Vec<OwnedLine>,
    asked: u64,
}

/// A program with a terminal: what is typed comes back from the terminal, and what it answers from the program.
pub(crate) const SHELL: &str = r#"
[[line]]
command = ["sh", "-c", "echo booted; while read word; do echo heard $word; done"]
terminal = true
"#;

/// This machine's own is number 0; others are its guests'.
pub(crate) fn line(number: u8) -> OwnedLine {
    let instance = if number == 0 { INSTANCE.to_owned() } else { guest(number) };
    OwnedLine { instance: instance.parse().unwrap(), port: 0 }
}

/// An instance that stands behind the machine's own.
pub(crate) fn guest(number: u8) -> String {
    format!("i-1{number:016x}")
}

impl Console {
    pub(crate) async fn start(lines: &str) -> Self {
        Self::start_with(lines, |_| {}).await
    }

    /// The same, where `set` says more of the machine.
    pub(crate) async fn start_with(lines: &str, set: impl FnOnce(&mut Machine)) -> Self {
        let control_plane = ControlPlane::start().await;
        let mut machine = Machine::new(&control_plane);
        machine.write_lines(lines);
        set(&mut machine);
        machine.start_agent();
        Self::of(control_plane, machine).await
    }

    pub(crate) async fn of(mut control_plane: ControlPlane, machine: Machine) -> Self {
        let (link, reported) = Self::accept(&mut control_plane, &machine).await;
        Self { control_plane, machine, link, reported, asked: 0 }
    }

    async fn accept(control_plane: &mut ControlPlane, machine: &Machine) -> (ServerLink, Vec<OwnedLine>) {
        let mut link = control_plane.accept_raw().await;
        let streams = Capabilities::RENEWAL.with(Capabilities::STREAMS);
        let hello = link.welcome_with(streams, &*machine.clock).await;
        assert!(hello.capabilities.contains(Capabilities::STREAMS));
        let AgentFrame::Lines(reported) = link.receive().await else { panic!("no lines") };
        (link, reported.lines)
    }

    /// Waits for the agent's next link.
    pub(crate) async fn relink(&mut self) {
        (self.link, self.reported) = Self::accept(&mut self.control_plane, &self.machine).await;
    }

    /// Asks for a stream; says which number it has.
    pub(crate) async fn ask(&mut self, line: OwnedLine, mode: LineMode, replay: u32) -> StreamId {
        self.asked += 1;
        let id = StreamId(self.asked);
        let open = OpenStream { id, ticket: ticket(id), line, mode, replay };
        self.link.send(ServerFrame::OpenStream(open)).await;
        id
    }

    /// Attaches somebody to a line. One that is only just being opened is asked for again.
    pub(crate) async fn attach(&mut self, line: OwnedLine, mode: LineMode, replay: u32) -> StreamEnd {
        loop {
            match self.try_attach(line.clone(), mode, replay).await {
                Ok(stream) => return stream,
                Err(refusal) => assert_eq!(refusal, StreamRefusal::LineFailed),
            }
        }
    }

    /// The same, or the refusal. Reports of lines that come first are kept.
    pub(crate) async fn try_attach(
        &mut self,
        line: OwnedLine,
        mode: LineMode,
        replay: u32,
    ) -> Result<StreamEnd, StreamRefusal> {
        let id = self.ask(line, mode, replay).await;
        loop {
            tokio::select! {
                (shown, stream) = self.control_plane.accept_stream() => {
                    assert!(shown == ticket(id));
                    let mut end = StreamEnd { stream, frames: FrameReader::default() };
                    assert_eq!(end.next().await, Some(Owned::Ready));
                    return Ok(end);
                }
                frame = self.link.receive() => match frame {
                    AgentFrame::StreamRefused(refused) => {
                        assert_eq!(refused.id, id);
                        return Err(refused.refusal);
                    }
                    AgentFrame::Lines(lines) => self.reported = lines.lines,
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    /// The next report of lines.
    pub(crate) async fn next_report(&mut self) -> Vec<OwnedLine> {
        let AgentFrame::Lines(reported) = self.link.receive().await else { panic!("no lines") };
        reported.lines
    }

    /// Asks for a stream that cannot be had.
    pub(crate) async fn refusal(&mut self, line: OwnedLine, mode: LineMode) -> StreamRefusal {
        let id = self.ask(line, mode, 0).await;
        let AgentFrame::StreamRefused(refused) = self.link.receive().await else { panic!("no refusal") };
        assert_eq!(refused.id, id);
        refused.refusal
    }
}

fn ticket(id: StreamId) -> StreamTicket {
    StreamTicket::from_bytes([u8::try_from(id.0 % 251).unwrap(); 32])
}

/// What came in a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Owned {
    Ready,
    Data(Vec<u8>),
    Replay(Vec<u8>),
    Lost(u64),
    Ping(u64),
    Pong(u64),
    End(End),
}

/// The control plane's end of a stream.
pub(crate) struct StreamEnd {
    stream: TokioIo<Upgraded>,
    frames: FrameReader,
}

impl StreamEnd {
    pub(crate) async fn send(&mut self, frame: StreamFrame<'_>) {
        self.send_bytes(&frame.encode()).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.unwrap().unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends as much of it as is taken, and says whether that was all within a moment.
    pub(crate) async fn try_send(&mut self, frame: StreamFrame<'_>, moment: Duration) -> bool {
        timeout(moment, self.stream.write_all(&frame.encode())).await.is_ok()
    }

    /// The next frame; `None` where the stream ends.
    pub(crate) async fn next(&mut self) -> Option<Owned> {
        timeout(PATIENCE, self.next_ever()).await.unwrap()
    }

    async fn next_ever(&mut self) -> Option<Owned> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            if let Some(frame) = self.frames.next().unwrap() {
                return Some(match frame {
                    StreamFrame::Ready => Owned::Ready,
                    StreamFrame::Data(bytes) => Owned::Data(bytes.to_vec()),
                    StreamFrame::Replay(bytes) => Owned::Replay(bytes.to_vec()),
                    StreamFrame::Lost(count) => Owned::Lost(count),
                    StreamFrame::Ping(number) => Owned::Ping(number),
                    StreamFrame::Pong(number) => Owned::Pong(number),
                    StreamFrame::End(end) => Owned::End(end),
                    other => panic!("{other:?}"),
                });
            }
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.frames.push(buffer.get(..length).unwrap()),
            }
        }
    }

    /// Reads what the line says, replays included, until it has said this. Says how much was lost on the way.
    pub(crate) async fn read_until(&mut self, text: &str) -> (String, u64) {
        let (mut said, mut lost) = (Vec::new(), 0);
        while !String::from_utf8_lossy(&said).contains(text) {
            match self.next().await {
                Some(Owned::Data(bytes) | Owned::Replay(bytes)) => said.extend(bytes),
                Some(Owned::Lost(count)) => lost += count,
                Some(Owned::Ping(_)) => {}
                other => panic!("{other:?} behind {:?}", String::from_utf8_lossy(&said)),
            }
        }
        (String::from_utf8_lossy(&said).into_owned(), lost)
    }

    /// The end, whatever the line says before.
    pub(crate) async fn end(mut self) -> Option<End> {
        loop {
            match self.next().await {
                Some(Owned::End(end)) => {
                    assert_eq!(self.next().await, None, "an end is the last frame");
                    return Some(end);
                }
                Some(_) => {}
                None => return None,
            }
        }
    }
}
