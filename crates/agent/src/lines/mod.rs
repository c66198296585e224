//! The serial lines that this machine owns: each is read all the time, whether somebody looks on or not, and whoever does is
//! brought to it by a stream of their own (docs/stream.md).

mod command;
mod config;
mod line;
mod session;
mod telnet;
mod wire;

pub use command::LineCommand;

use crate::connect::open_stream;
use crate::host::Watched;
use crate::run::random;
use crate::state::State;
use config::{LINES_FILE, LinesSettings};
use instance_connect_core::document::InstanceId;
use instance_connect_core::link::{
    BackoffSettings, LineMode, OpenStream, OwnedLine, ReportedLines, StreamRefusal, StreamRefused, limits,
};
use line::{Line, LineTask};
use serde::{Deserialize, Serialize};
use session::Session;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How the agent serves lines.
#[derive(Clone, Debug)]
pub struct LineTerms {
    /// The agent's own program: it starts the programs of lines ([`LineCommand`]).
    pub program: PathBuf,
    /// How long it waits before it opens a line again.
    pub backoff: BackoffSettings,
    /// Streams at a time.
    pub streams: usize,
    /// A stream on which this side has said nothing for so long is sent a ping.
    pub ping: Duration,
    /// A stream that is read and on which nothing was heard for so long is dead.
    pub silence: Duration,
    /// How long a session outlasts its line: a machine that is started anew closes and opens it.
    pub line_gone: Duration,
    /// How long last words may take, and the programs of lines to end.
    pub parting: Duration,
}

impl Default for LineTerms {
    fn default() -> Self {
        Self {
            program: "/proc/self/exe".into(),
            backoff: BackoffSettings { first: Duration::from_secs(1), longest: Duration::from_secs(30) },
            streams: limits::STREAMS,
            ping: Duration::from_secs(15),
            silence: Duration::from_secs(45),
            line_gone: Duration::from_secs(10),
            parting: Duration::from_secs(2),
        }
    }
}

/// What `status` tells of a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LineStatus {
    /// Whose line it is.
    pub(crate) instance: String,
    /// Which of its lines.
    pub(crate) port: u8,
    /// Where it is.
    pub(crate) place: String,
    /// Why it is not open.
    pub(crate) error: Option<String>,
}

/// A stream that could not be opened, and on which link it was asked for.
type Refused = (u64, StreamRefused);

/// All lines of this machine, and the streams to them. Dropped, it ends them without a word.
#[derive(Debug)]
pub(crate) struct Lines {
    file: Watched<Option<LinesSettings>>,
    /// What the lines were made by: the file, and whose its nameless lines are.
    made_by: Option<(LinesSettings, InstanceId)>,
    each: BTreeMap<OwnedLine, LineTask>,
    /// Those that are not served any more, as long as their programs take to end.
    ending: JoinSet<()>,
    streams: JoinSet<()>,
    refused: mpsc::Receiver<Refused>,
    refuse: mpsc::Sender<Refused>,
    /// Which link is open: a refusal is for the one that asked.
    link: u64,
    stop: watch::Sender<bool>,
    /// Where the identity is.
    state: PathBuf,
    terms: LineTerms,
}

impl Lines {
    /// None yet; [`Self::refresh`] reads the file.
    pub(crate) fn new(etc: &Path, state: PathBuf, terms: LineTerms) -> Self {
        let (refuse, refused) = mpsc::channel(limits::STREAMS);
        Self {
            file: watched(etc),
            made_by: None,
            each: BTreeMap::new(),
            ending: JoinSet::new(),
            streams: JoinSet::new(),
            refused,
            refuse,
            link: 0,
            stop: watch::Sender::new(false),
            state,
            terms,
        }
    }

    /// Whether there are any.
    pub(crate) fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// Reads the file again if it has changed. Where it cannot be used the lines stay as they are: it is logged why. Lines that
    /// stay as they were go on, with their sessions.
    pub(crate) fn refresh(&mut self, own: Option<&InstanceId>) {
        let (Some(settings), Some(own)) = (self.file.refresh(), own) else { return };
        let is_as_made = match (settings, &self.made_by) {
            (Some(settings), Some((made_by, made_for))) => settings == made_by && own == made_for,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if is_as_made {
            return;
        }
        self.made_by = settings.clone().map(|settings| (settings, own.clone()));
        let wanted = self
            .made_by
            .iter()
            .flat_map(|(settings, own)| settings.lines.iter().map(move |line| (line.line(own), line)));
        let mut earlier = std::mem::take(&mut self.each);
        let wanted: Vec<_> = wanted.map(|(line, config)| (line, config.clone())).collect();
        for (line, config) in wanted {
            if self.each.contains_key(&line) {
                tracing::error!(line = %name(&line), "lines.toml: the line is given twice, once by this machine's own id");
                continue;
            }
            let task = match earlier.remove(&line) {
                Some(task) if task.line.config == config => task,
                changed => {
                    self.end_lines(changed);
                    Line::start(line.clone(), config, self.terms.clone())
                }
            };
            self.each.insert(line, task);
        }
        tracing::info!(lines = self.each.len(), "serial lines");
        self.end_lines(earlier.into_values());
    }

    /// Ends them beside what else is done. A program that is told to end and does not has its time twice over.
    fn end_lines(&mut self, lines: impl IntoIterator<Item = LineTask>) {
        while self.ending.try_join_next().is_some() {}
        for task in lines {
            let limit = self.terms.parting.saturating_mul(2);
            self.ending.spawn(async move { drop(timeout(limit, task.end()).await) });
        }
    }

    /// What the control plane is told.
    pub(crate) fn report(&self) -> ReportedLines {
        ReportedLines { lines: self.each.keys().cloned().collect() }
    }

    /// What `status` shows.
    pub(crate) fn status(&self) -> Vec<LineStatus> {
        let status = |(name, task): (&OwnedLine, &LineTask)| LineStatus {
            instance: name.instance.to_string(),
            port: name.port,
            place: task.line.config.kind.to_string(),
            error: task.line.error(),
        };
        self.each.iter().map(status).collect()
    }

    /// Notes that another link is open: nobody waits any more for what was asked on the last.
    pub(crate) fn link_opened(&mut self) {
        self.link += 1;
    }

    /// Brings somebody to a line, if that can be.
    pub(crate) fn open(&mut self, request: &OpenStream) -> Result<(), StreamRefusal> {
        while self.streams.try_join_next().is_some() {}
        let task = self.each.get(&request.line).ok_or(StreamRefusal::NoSuchLine)?;
        if self.streams.len() >= self.terms.streams {
            return Err(StreamRefusal::Overloaded);
        }
        if task.line.error().is_some() {
            return Err(StreamRefusal::LineFailed);
        }
        let place = match request.mode {
            LineMode::Write => Some(task.line.take_place().ok_or(StreamRefusal::Occupied)?),
            LineMode::Watch => None,
        };
        let replay = usize::try_from(request.replay).unwrap_or(usize::MAX);
        let session = Session::new(Arc::clone(&task.line), place, replay, self.terms.clone());
        let (state, ticket, id) = (self.state.clone(), request.ticket.clone(), request.id);
        let (refused, link, stop) = (self.refuse.clone(), self.link, self.stop.subscribe());
        self.streams.spawn(async move {
            let opened = match State::load(&state) {
                Ok(state) => open_stream(&state, &ticket).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match opened {
                Ok(stream) => session.converse(stream, stop).await,
                Err(reason) => {
                    tracing::warn!(reason, "a stream that was asked for cannot be opened");
                    let refusal = StreamRefused { id, refusal: StreamRefusal::Unreachable };
                    // Where so many wait already that there is no room, whoever asked finds out by waiting.
                    let _ = refused.try_send((link, refusal));
                }
            }
        });
        Ok(())
    }

    /// The next refusal of a stream that was asked for on the link that is open.
    pub(crate) async fn next_refusal(&mut self) -> StreamRefused {
        loop {
            match self.refused.recv().await {
                Some((link, refusal)) if link == self.link => return refusal,
                Some(_) => {}
                // There is always a sender: ours.
                None => std::future::pending::<()>().await,
            }
        }
    }

    /// Ends all streams with a word, and then the lines.
    pub(crate) async fn stop(&mut self) {
        self.stop.send_replace(true);
        let all = async { while self.streams.join_next().await.is_some() {} };
        let _ = timeout(self.terms.parting, all).await;
        let each = std::mem::take(&mut self.each);
        self.end_lines(each.into_values());
        while self.ending.join_next().await.is_some() {}
    }
}

/// Whether root has named serial lines, in the file in that directory.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn are_wanted(etc: &Path) -> Result<bool, String> {
    let file = &mut watched(etc);
    file.read().map(Option::is_some)
}

fn watched(etc: &Path) -> Watched<Option<LinesSettings>> {
    Watched::new(etc.join(LINES_FILE), |text| text.map(LinesSettings::parse).transpose())
}

/// As people write it.
fn name(line: &OwnedLine) -> String {
    format!("{}.port{}", line.instance, line.port)
}

/// A wait before a line is opened again.
fn next_wait(backoff: &mut instance_connect_core::link::Backoff) -> Duration {
    backoff.next(random())
}
