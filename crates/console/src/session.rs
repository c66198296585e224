//! A session: bytes of the line to the screen, and what is typed to the line.
//!
//! Nothing is kept for a slow reader but a few frames: more is read from the control plane only as the client takes it, and there
//! the line runs ahead of whoever does not keep up. What is typed waits the other way round, up to [`TYPED`] bytes; behind that the
//! SSH library waits too, and shows what the line says only as room for the next key comes.

use crate::client::{Arrival, Input};
use crate::door::{Attachment, DoorFailure};
use crate::gateway::Gateway;
use crate::settings::Settings;
use crate::words;
use instance_connect_core::console::door::Attach;
use instance_connect_core::console::{Charset, EscapeFilter, InBand, InBandAction, Mode};
use instance_connect_core::stream::{BREAK, End, EndCode, FrameReader, PAYLOAD, StreamFrame};
use instance_connect_planted::planted;
use russh::ChannelId;
use russh::server::Handle;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Bytes typed that wait for the control plane to take them. Then the client waits.
const TYPED: usize = 64 * 1024;

/// Bytes read from the control plane at a time.
const PIECE: usize = 8 * 1024;

/// Answers to pings that wait while the control plane takes nothing. More are not owed: it has asked and not listened.
const PONGS: usize = 4;

/// How long the control plane may take to take the last frame.
const LAST_FRAME: Duration = Duration::from_secs(1);

/// How a session ends, as the person is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parting {
    pub(crate) text: String,
    /// The exit status that ssh ends with.
    pub(crate) status: u32,
}

impl Parting {
    fn regular(text: impl Into<String>) -> Self {
        Self { text: text.into(), status: 0 }
    }

    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self { text: text.into(), status: 1 }
    }

    /// As the other side has ended it: without words of its own, its code is said.
    fn there(end: &End) -> Self {
        let text = if end.text.as_str().is_empty() { end.code.name() } else { end.text.as_str() };
        if is_regular(end.code) { Self::regular(text) } else { Self::failed(text) }
    }
}

/// Whether a session that ends so has come to its end. Otherwise it was cut short, and a script has to know.
const fn is_regular(code: EndCode) -> bool {
    match code {
        EndCode::Left | EndCode::LineClosed | EndCode::Terminated | EndCode::Idle | EndCode::TimeLimit => {
            true
        }
        EndCode::LineFailed
        | EndCode::ShuttingDown
        | EndCode::AgentLost
        | EndCode::PersonLost
        | EndCode::ProtocolError
        | EndCode::Revoked
        | EndCode::Overloaded
        | EndCode::InternalError
        | EndCode::Other(_) => false,
    }
}

/// What a person sees.
#[derive(Debug)]
pub(crate) struct Screen {
    handle: Handle,
    channel: ChannelId,
}

impl Screen {
    pub(crate) fn new(handle: Handle, channel: ChannelId) -> Self {
        Self { handle, channel }
    }

    /// Shows bytes. Waits while the client has no room for those before.
    pub(crate) async fn show(&self, bytes: Vec<u8>) -> Result<(), ()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.handle.data(self.channel, bytes).await.map_err(|_| ())
    }
}

/// Has the control plane attach a session, and sees to it until it ends.
pub(crate) async fn attend(
    Arrival { door, offer, name, charset, .. }: Arrival,
    input: mpsc::Receiver<Input>,
    screen: &Screen,
    gateway: &Gateway,
) -> Parting {
    let Some(door) = door else { return Parting::failed(words::CONTROL_PLANE_GONE) };
    let address = offer.address.clone();
    let attached = tokio::select! {
        attached = door.attach(Attach { offer, client: name }) => attached,
        () = gateway.ended() => return Parting::failed(words::ENDING),
    };
    match attached {
        Ok(Attachment::Session { attached, stream, first }) => {
            tracing::info!(%address, session = attached.session.as_str(), mode = attached.mode.as_str(), "a session begins");
            if screen.show(words::banner(&address, attached.mode, attached.notice.as_str())).await.is_err() {
                return Parting::regular(words::LEFT);
            }
            Session::new(attached.mode, charset, stream, first).run(input, screen, gateway).await
        }
        Ok(Attachment::Refused(refused)) => Parting::failed(refused.reason.as_str()),
        Err(error) => {
            tracing::warn!(%address, %error, "the control plane did not attach a session");
            Parting::failed(match error {
                DoorFailure::Io(_) | DoorFailure::Late => words::CONTROL_PLANE_GONE,
                DoorFailure::Message(_) | DoorFailure::Other => words::BROKEN,
            })
        }
    }
}

/// An attached session.
struct Session {
    mode: Mode,
    charset: Charset,
    from_line: OwnedReadHalf,
    to_line: OwnedWriteHalf,
    first: Vec<u8>,
}

impl Session {
    fn new(mode: Mode, charset: Charset, stream: UnixStream, first: Vec<u8>) -> Self {
        let (from_line, to_line) = stream.into_split();
        Self { mode, charset, from_line, to_line, first }
    }

    async fn run(mut self, input: mpsc::Receiver<Input>, screen: &Screen, gateway: &Gateway) -> Parting {
        let settings = &gateway.settings;
        let (pong, pongs) = mpsc::channel(PONGS);
        let typed = LastTyped::default();
        let mut outgoing = Vec::new();
        let shown =
            show_line(&mut self.from_line, self.first, View::new(self.mode, self.charset), screen, pong);
        let sent = send_typed(&mut self.to_line, &mut outgoing, input, pongs, self.mode, screen, &typed);
        let idle = settings.idle.filter(|_| self.mode == Mode::Write);
        let ending = tokio::select! {
            ending = shown => ending,
            ending = sent => ending,
            () = sleep(settings.longest_session) => Ending::Here(EndCode::TimeLimit),
            () = typed.long_ago(idle) => Ending::Here(EndCode::Idle),
            () = gateway.ended() => Ending::Here(EndCode::ShuttingDown),
        };
        if let Ending::Here(code) = &ending {
            // Behind the rest of a frame that was being sent.
            StreamFrame::End(End::new(*code, "")).append_to(&mut outgoing);
            let _ = timeout(LAST_FRAME, self.to_line.write_all(&outgoing)).await;
        }
        ending.parting(settings)
    }
}

/// Who ends a session.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ending {
    /// The other side, and says why.
    There(End),
    /// The other side, without a word.
    Lost,
    /// The other side, with what is no frame for a gateway.
    Broken,
    /// This side.
    Here(EndCode),
}

impl Ending {
    fn parting(self, settings: &Settings) -> Parting {
        match self {
            Self::There(end) => Parting::there(&end),
            Self::Lost => Parting::failed(words::CONTROL_PLANE_GONE),
            Self::Broken => Parting::failed(words::BROKEN),
            Self::Here(EndCode::TimeLimit) => {
                Parting::regular(words::time_limit(settings.longest_session.as_secs()))
            }
            Self::Here(EndCode::Idle) => {
                Parting::regular(words::idle(settings.idle.unwrap_or_default().as_secs()))
            }
            Self::Here(EndCode::ShuttingDown) => Parting::failed(words::ENDING),
            Self::Here(_) => Parting::regular(words::LEFT),
        }
    }
}

/// Shows what the line says, as fast as the client takes it.
async fn show_line(
    from_line: &mut OwnedReadHalf,
    first: Vec<u8>,
    mut view: View,
    screen: &Screen,
    pong: mpsc::Sender<u64>,
) -> Ending {
    let (mut reader, mut piece) = (FrameReader::default(), vec![0; PIECE]);
    reader.push(&first);
    drop(first);
    loop {
        loop {
            let seen = match reader.next() {
                Ok(Some(frame)) => view.of(frame),
                Ok(None) => break,
                Err(_) => return Ending::Broken,
            };
            match seen {
                Seen::Bytes(bytes) => {
                    if screen.show(bytes).await.is_err() {
                        return Ending::Here(EndCode::PersonLost);
                    }
                }
                Seen::Ping(number) => {
                    let _ = pong.try_send(number);
                }
                Seen::Ending(ending) => return ending,
            }
        }
        match from_line.read(&mut piece).await {
            Ok(0) | Err(_) => return Ending::Lost,
            Ok(length) => reader.push(piece.get(..length).unwrap_or_default()),
        }
    }
}

/// What frames look like on a screen.
#[derive(Debug)]
struct View {
    filter: EscapeFilter,
    mode: Mode,
}

/// What a frame is to the gateway.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Bytes(Vec<u8>),
    Ping(u64),
    Ending(Ending),
}

impl View {
    fn new(mode: Mode, charset: Charset) -> Self {
        Self { filter: EscapeFilter::new(charset), mode }
    }

    /// What the line says to whoever writes is theirs as it is. What it said before, and what watchers see, must not make their
    /// terminals answer: what a terminal answers is typed.
    fn of(&mut self, frame: StreamFrame<'_>) -> Seen {
        match (frame, self.mode) {
            (StreamFrame::Data(data), Mode::Write) => Seen::Bytes(data.to_vec()),
            (StreamFrame::Data(data), Mode::Watch) | (StreamFrame::Replay(data), _) => {
                let mut shown = Vec::with_capacity(data.len());
                self.filter.filter(data, &mut shown);
                Seen::Bytes(shown)
            }
            (StreamFrame::Lost(bytes), _) => Seen::Bytes(words::line(&words::lost(bytes))),
            (StreamFrame::Ping(number), _) => Seen::Ping(number),
            (StreamFrame::End(end), _) => Seen::Ending(Ending::There(end)),
            // The line says nothing more; an end follows, or keys are all there is.
            (StreamFrame::Ready | StreamFrame::Pong(_) | StreamFrame::Eof, _) => Seen::Bytes(Vec::new()),
            // Only persons break.
            (StreamFrame::Break(_), _) => Seen::Ending(Ending::Broken),
        }
    }
}

/// Sends what is typed, as fast as the control plane takes it. That it takes no more is no ending: why it does not may be among what
/// is still to be read. Until that is shown, what is typed goes nowhere, and whoever types can leave.
async fn send_typed(
    to_line: &mut OwnedWriteHalf,
    outgoing: &mut Vec<u8>,
    mut input: mpsc::Receiver<Input>,
    mut pongs: mpsc::Receiver<u64>,
    mode: Mode,
    screen: &Screen,
    last_typed: &LastTyped,
) -> Ending {
    let mut keyboard = Keyboard::new(mode);
    let mut is_taken = true;
    loop {
        if !is_taken {
            outgoing.clear();
        }
        let (is_empty, has_room) = (outgoing.is_empty(), outgoing.len() < TYPED);
        tokio::select! {
            biased;
            Some(number) = pongs.recv(), if has_room => StreamFrame::Pong(number).append_to(outgoing),
            written = to_line.write(outgoing), if !is_empty => match written {
                Ok(0) | Err(_) => is_taken = false,
                Ok(length) => drop(outgoing.drain(..length)),
            },
            typed = input.recv(), if has_room => {
                last_typed.now();
                // The connection is gone: whoever serves it notices at once, and ends this.
                let Some(typed) = typed else { return std::future::pending().await };
                let Pressed { told, left } = keyboard.press(typed, outgoing);
                if screen.show(told).await.is_err() {
                    return Ending::Here(EndCode::PersonLost);
                }
                if left {
                    return Ending::Here(EndCode::Left);
                }
            }
        }
    }
}

/// What keys mean.
#[derive(Debug)]
struct Keyboard {
    in_band: InBand,
    mode: Mode,
}

/// What keys do here; what they do there is in the frames.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pressed {
    told: Vec<u8>,
    left: bool,
}

impl Keyboard {
    fn new(mode: Mode) -> Self {
        Self { in_band: InBand::new(), mode }
    }

    /// Appends frames of what was typed. Whoever watches types nothing, and can leave.
    fn press(&mut self, input: Input, frames: &mut Vec<u8>) -> Pressed {
        let mut pressed = Pressed::default();
        let bytes = match input {
            Input::Bytes(bytes) => bytes,
            Input::Eof => {
                if self.mode == Mode::Write {
                    StreamFrame::Eof.append_to(frames);
                }
                return pressed;
            }
            Input::Closed => {
                pressed.left = true;
                return pressed;
            }
        };
        for action in self.in_band.take(&bytes) {
            match (action, self.mode) {
                (InBandAction::Bytes(bytes), mode) if mode == Mode::Write || planted("watchers-type") => {
                    bytes.chunks(PAYLOAD).for_each(|data| StreamFrame::Data(data).append_to(frames));
                }
                (InBandAction::Bytes(_), Mode::Write | Mode::Watch) => {}
                (InBandAction::Break, Mode::Write) => {
                    let milliseconds = u16::try_from(BREAK.as_millis()).unwrap_or(u16::MAX);
                    StreamFrame::Break(milliseconds).append_to(frames);
                    pressed.told.extend(words::line(words::BREAK));
                }
                (InBandAction::Break, Mode::Watch) => pressed.told.extend(words::line(words::NO_BREAK)),
                (InBandAction::Help, _) => pressed.told.extend_from_slice(InBand::HELP.as_bytes()),
                (InBandAction::Leave, _) => pressed.left = true,
            }
        }
        pressed
    }
}

/// When something was last typed.
#[derive(Debug)]
struct LastTyped(Mutex<Instant>);

impl Default for LastTyped {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl LastTyped {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when nothing was typed for so long; never without a limit.
    async fn long_ago(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        loop {
            let last = self.last();
            sleep_until(last + limit).await;
            if self.last() == last {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_whether_a_session_was_cut_short() {
        for (code, name, status) in [
            (EndCode::Left, "left", 0),
            (EndCode::LineClosed, "line_closed", 0),
            (EndCode::LineFailed, "line_failed", 1),
            (EndCode::Terminated, "terminated", 0),
            (EndCode::Idle, "idle", 0),
            (EndCode::TimeLimit, "time_limit", 0),
            (EndCode::ShuttingDown, "shutting_down", 1),
            (EndCode::AgentLost, "agent_lost", 1),
            (EndCode::PersonLost, "person_lost", 1),
            (EndCode::ProtocolError, "protocol_error", 1),
            (EndCode::Revoked, "revoked", 1),
            (EndCode::Overloaded, "overloaded", 1),
            (EndCode::InternalError, "internal_error", 1),
            (EndCode::Other(200), "unknown_code", 1),
        ] {
            for (said, text) in [("", name), ("So it is.", "So it is.")] {
                let parting = Ending::There(End::new(code, said)).parting(&Settings::default());
                assert_eq!(parting, Parting { text: text.to_owned(), status }, "{code}");
            }
        }
    }
}
