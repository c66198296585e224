//! One line: read all the time into its history, written to by one person at a time, opened again whenever it is lost.

use super::config::LineConfig;
use super::wire::Wire;
use super::{LineTerms, name, next_wait};
use instance_connect_core::console::History;
use instance_connect_core::console::limits::TYPED;
use instance_connect_core::link::{Backoff, OwnedLine};
use instance_connect_core::stream::{PAYLOAD, StreamFrame};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// What a message of typed bytes counts at least, so that [`TYPED`] bounds the messages, too.
const LEAST: usize = 64;

/// How much a line may say in how much time: 8 MiB a second, far more than a port can. A program that says more waits; it would
/// otherwise keep the agent from everything else.
const FLOOD: (usize, Duration) = (256 * 1024, Duration::from_millis(32));

/// A line open for so long was a good one: the next failure starts with the short waits again.
const STABLE: Duration = Duration::from_secs(10);

/// One line, as its task and its sessions see it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: OwnedLine,
    pub(super) config: LineConfig,
    history: Mutex<History>,
    view: watch::Sender<View>,
    typed: mpsc::Sender<Typed>,
    room: Arc<Semaphore>,
    writer: Mutex<WriterPlaceState>,
}

/// What sessions wait for.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// How far the line's history goes.
    pub(super) end: u64,
    pub(super) state: LineState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LineState {
    Open,
    /// It is not open, for this reason; it may be soon.
    Down {
        why: Arc<str>,
        /// It was open, and has ended as lines do.
        has_hung_up: bool,
    },
    /// It is no line of this machine any more.
    Gone,
}

/// What a person sends.
#[derive(Debug)]
struct Typed {
    what: Input,
    /// Whether it is to be thrown away.
    abandoned: watch::Receiver<bool>,
    _room: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(super) enum Input {
    Bytes(Vec<u8>),
    Break(Duration),
}

#[derive(Debug, Default)]
struct WriterPlaceState {
    is_taken: bool,
    /// Of what the last writer has typed.
    abandon: Option<watch::Sender<bool>>,
}

/// The right to write, held by one session at a time.
#[derive(Debug)]
pub(super) struct WriterPlace {
    line: Arc<Line>,
    abandon: watch::Sender<bool>,
}

impl WriterPlace {
    /// Waits until there is room for it in what the line has not taken yet. Where the line is closed it is lost, as is what is
    /// typed on one that is not plugged in.
    pub(super) async fn send(&self, what: Input) {
        let size = match &what {
            Input::Bytes(bytes) => bytes.len().clamp(LEAST, PAYLOAD),
            Input::Break(_) => LEAST,
        };
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.line.room).acquire_many_owned(size).await else { return };
        let typed = Typed { what, abandoned: self.abandon.subscribe(), _room: room };
        let _ = self.line.typed.send(typed).await;
    }

    /// Throws away what the line has not taken yet.
    pub(super) fn abandon(&self) {
        self.abandon.send_replace(true);
    }
}

impl Drop for WriterPlace {
    fn drop(&mut self) {
        lock(&self.line.writer).is_taken = false;
    }
}

/// A line's task. Dropped, it ends at once; its sessions are told.
#[derive(Debug)]
pub(super) struct LineTask {
    pub(super) line: Arc<Line>,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl LineTask {
    /// Ends it: its sessions are told, and its program is given the time to end by itself.
    pub(super) async fn end(mut self) {
        self.line.set_gone();
        self.stop.send_replace(true);
        let _ = (&mut self.running).await;
    }
}

impl Drop for LineTask {
    fn drop(&mut self) {
        self.running.abort();
        self.line.set_gone();
    }
}

impl Line {
    /// Begins to read it.
    pub(super) fn start(name: OwnedLine, config: LineConfig, terms: LineTerms) -> LineTask {
        let (typed, inputs) = mpsc::channel(TYPED / LEAST);
        let state = LineState::Down { why: "it is being opened".into(), has_hung_up: false };
        let line = Arc::new(Self {
            history: Mutex::new(History::new(config.history)),
            view: watch::Sender::new(View { end: 0, state }),
            typed,
            room: Arc::new(Semaphore::new(TYPED)),
            writer: Mutex::default(),
            name,
            config,
        });
        let (stop, stopping) = watch::channel(false);
        let running = tokio::spawn(Arc::clone(&line).run(inputs, terms, stopping));
        LineTask { line, stop, running }
    }

    /// Why it is not open; `None` where it is.
    pub(super) fn error(&self) -> Option<String> {
        match &self.view.borrow().state {
            LineState::Open => None,
            LineState::Down { why, .. } => Some(why.to_string()),
            LineState::Gone => Some("it is not served any more".to_owned()),
        }
    }

    /// What becomes of it.
    pub(super) fn watch(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// The place of the one who writes, if nobody has it. What an earlier one has typed and the line not taken is thrown away.
    pub(super) fn take_place(self: &Arc<Self>) -> Option<WriterPlace> {
        let mut writer = lock(&self.writer);
        if writer.is_taken {
            return None;
        }
        writer.is_taken = true;
        let abandon = watch::Sender::new(false);
        if let Some(earlier) = writer.abandon.replace(abandon.clone()) {
            earlier.send_replace(true);
        }
        Some(WriterPlace { line: Arc::clone(self), abandon })
    }

    /// Where a session begins that wants so much of the past, and where the present begins.
    pub(super) fn attach(&self, replay: usize) -> (u64, u64) {
        let history = lock(&self.history);
        (history.tail(replay), history.end())
    }

    /// Appends the frames of what the line has said at a position, if it has, and moves the position on. There is no more than a
    /// frame's payload in them.
    pub(super) fn read(&self, position: &mut u64, replay_end: u64, frames: &mut Vec<u8>) {
        let history = lock(&self.history);
        let is_replay = *position < replay_end;
        let to_present = usize::try_from(replay_end.saturating_sub(*position)).unwrap_or(PAYLOAD);
        let most = if is_replay { to_present.min(PAYLOAD) } else { PAYLOAD };
        let passage = history.read_from(*position, most);
        if passage.lost > 0 {
            StreamFrame::Lost(passage.lost).append_to(frames);
        }
        for piece in passage.pieces.into_iter().filter(|piece| !piece.is_empty()) {
            let frame = if is_replay { StreamFrame::Replay(piece) } else { StreamFrame::Data(piece) };
            frame.append_to(frames);
        }
        *position += passage.advance();
    }

    async fn run(
        self: Arc<Self>,
        mut inputs: mpsc::Receiver<Typed>,
        terms: LineTerms,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut backoff = Backoff::new(terms.backoff);
        loop {
            let opened = tokio::select! {
                opened = Wire::open(&self.config.kind, &terms) => opened,
                () = told(&mut stop) => return,
            };
            let (why, has_hung_up) = match opened {
                Ok(wire) => {
                    let opened_at = Instant::now();
                    let is_told = tokio::select! {
                        served = self.serve(&wire, &mut inputs) => Err(served),
                        () = told(&mut stop) => Ok(()),
                    };
                    let how = wire.close(&terms).await;
                    let why = match (is_told, how) {
                        (Ok(()), _) => return,
                        (Err(Ok(())), None) => ("it has hung up".to_owned(), true),
                        (Err(Ok(())), Some(how)) => (format!("the program has ended: {how}"), true),
                        (Err(Err(error)), _) => (format!("{}: {error}", self.config.kind), false),
                    };
                    if opened_at.elapsed() >= STABLE {
                        backoff.reset();
                    }
                    why
                }
                Err(why) => (why, false),
            };
            self.set_down(why, has_hung_up);
            let mut over = std::pin::pin!(sleep(next_wait(&mut backoff)));
            loop {
                tokio::select! {
                    () = over.as_mut() => break,
                    () = told(&mut stop) => return,
                    // Nobody is there to read it.
                    Some(_) = inputs.recv() => {}
                }
            }
        }
    }

    fn set_gone(&self) {
        self.view.send_modify(|view| view.state = LineState::Gone);
    }

    fn set_down(&self, why: String, has_hung_up: bool) {
        self.view.send_if_modified(|view| {
            // A line that was open and cannot be opened again has ended for the first of these reasons.
            let has_hung_up = has_hung_up || matches!(view.state, LineState::Down { has_hung_up: true, .. });
            let state = LineState::Down { why: why.into(), has_hung_up };
            if view.state == state {
                return false;
            }
            if let LineState::Down { why, .. } = &state {
                tracing::warn!(line = %name(&self.name), %why, "a serial line is not open");
            }
            view.state = state;
            true
        });
    }

    /// Both directions, until the line hangs up or fails.
    async fn serve(&self, wire: &Wire, inputs: &mut mpsc::Receiver<Typed>) -> std::io::Result<()> {
        // What was typed while it was being opened was for what was there before.
        while inputs.try_recv().is_ok() {}
        tracing::info!(line = %name(&self.name), place = %self.config.kind, "a serial line is open");
        self.view.send_modify(|view| view.state = LineState::Open);
        tokio::select! {
            read = self.hear(wire) => read,
            written = self.take(wire, inputs) => written,
        }
    }

    async fn hear(&self, wire: &Wire) -> std::io::Result<()> {
        let (mut buffer, mut line) = (vec![0; PAYLOAD], Vec::new());
        let (flood, window) = FLOOD;
        let (mut since, mut said) = (Instant::now(), 0);
        loop {
            let length = wire.read(&mut buffer).await?;
            let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
            let bytes = wire.decode(bytes, &mut line)?;
            let end = {
                let mut history = lock(&self.history);
                history.push(bytes);
                history.end()
            };
            self.view.send_modify(|view| view.end = end);
            if since.elapsed() >= window {
                (since, said) = (Instant::now(), 0);
            }
            said += length;
            if said >= flood {
                sleep_until(since + window).await;
            }
        }
    }

    async fn take(&self, wire: &Wire, inputs: &mut mpsc::Receiver<Typed>) -> std::io::Result<()> {
        loop {
            let mut typed = tokio::select! {
                Some(typed) = inputs.recv() => typed,
                () = wire.owes() => {
                    wire.pay().await?;
                    continue;
                }
            };
            if *typed.abandoned.borrow() {
                continue;
            }
            match &typed.what {
                // First whether it is still wanted, so that none of it goes where the line takes some just as it is abandoned.
                Input::Bytes(bytes) => tokio::select! {
                    biased;
                    () = told(&mut typed.abandoned) => {}
                    written = wire.write(bytes) => written?,
                },
                Input::Break(duration) => match wire.send_break(*duration).await? {
                    Ok(()) => tracing::info!(line = %name(&self.name), ms = duration.as_millis(), "BREAK"),
                    Err(reason) => tracing::warn!(line = %name(&self.name), reason, "no BREAK was sent"),
                },
            }
        }
    }
}

/// Until it is said. Where nobody is left who could, for ever.
pub(super) async fn told(said: &mut watch::Receiver<bool>) {
    if said.wait_for(|said| *said).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A panic elsewhere leaves nothing half done in what these locks hold.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
