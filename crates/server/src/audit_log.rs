//! The audit log on disk: what is committed here has reached the disk before anyone goes on (docs/audit.md).
//!
//! All lines that wait are written and synced at once, so that many requests share one sync (group commit). One task
//! gathers them and tells those who wait; one thread writes, since a sync blocks.

mod files;
mod live;
mod lookup;
mod recovery;
#[cfg(test)]
mod tests;

use crate::metrics::Histogram;
use crate::new_ids;
use anyhow::Context as _;
use files::{LogFile, Paths};
use instance_connect_core::audit::{self, Line, Sampler, Share};
use instance_connect_core::environment::{Clock, Random};
use instance_connect_core::ids::Region;
use instance_connect_core::limits;
use instance_connect_planted::planted;
pub(crate) use live::AuditProblem;
use live::LiveFile;
pub(crate) use lookup::{Found, Wanted};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::MissedTickBehavior;

/// Lines that may wait for the writer; more than that and requests wait.
const QUEUE: usize = 1024;

/// Lines in one write.
const BATCH: usize = 256;

/// How long refused requests are counted into one record.
const MINUTE: Duration = Duration::from_secs(60);

/// Where the audit log is kept.
#[derive(Clone, Debug)]
pub(crate) struct AuditSettings {
    /// The file that is written to. Finished ones are beside it.
    pub(crate) path: PathBuf,
    /// How long a file grows, in bytes, before another one begins.
    pub(crate) max_bytes: FileSize,
}

/// How long a file grows, in bytes: from [`limits::SMALLEST_AUDIT_FILE`] to [`limits::LARGEST_AUDIT_FILE`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileSize(u64);

/// Every push would begin another file, or a start would read for too long.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "a file of the audit log has {} to {} bytes",
    limits::SMALLEST_AUDIT_FILE,
    limits::LARGEST_AUDIT_FILE
)]
pub(crate) struct FileSizeError;

impl Default for FileSize {
    fn default() -> Self {
        Self(limits::AUDIT_FILE)
    }
}

impl TryFrom<u64> for FileSize {
    type Error = FileSizeError;

    fn try_from(bytes: u64) -> Result<Self, FileSizeError> {
        let fits = (limits::SMALLEST_AUDIT_FILE..=limits::LARGEST_AUDIT_FILE).contains(&bytes);
        if fits { Ok(Self(bytes)) } else { Err(FileSizeError) }
    }
}

impl From<FileSize> for u64 {
    fn from(size: FileSize) -> Self {
        size.0
    }
}

impl fmt::Display for FileSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A handle to the log.
#[derive(Clone, Debug)]
pub(crate) struct AuditLog {
    queue: mpsc::Sender<Entry>,
    refused: Arc<Mutex<Sampler>>,
    live: Arc<LiveFile>,
    syncs: Histogram,
    /// Where it is read.
    paths: Paths,
    lookups: Arc<Semaphore>,
    #[cfg(test)]
    failing: Arc<std::sync::atomic::AtomicBool>,
}

/// The log cannot be written. No audit, no action: whatever was to be recorded must not happen.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the audit log cannot be written")]
pub(crate) struct AuditUnavailable;

struct Entry {
    line: Line,
    /// Whom to tell, if anybody waits.
    committed: Option<oneshot::Sender<()>>,
}

/// Lines for the disk, and where to say what became of them.
struct Batch {
    lines: Vec<Line>,
    written: oneshot::Sender<std::io::Result<()>>,
}

impl AuditLog {
    /// Opens the log, closes the intents that were left open, and starts the log's writer. Called within a runtime;
    /// blocks on the disk.
    pub(crate) fn open(
        settings: &AuditSettings,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> anyhow::Result<Self> {
        let path = settings.path.display();
        let mut file = LogFile::open(settings).with_context(|| format!("cannot use the audit log {path}"))?;
        let closed = recovery::recover(&mut file, clock.wall(), random)
            .with_context(|| format!("cannot go on with the audit log {path}"))?;
        if closed > 0 {
            tracing::warn!(
                pushes = closed,
                "pushes were interrupted when the service ended; they are on record"
            );
        }
        Self::start(file, clock)
    }

    fn start(file: LogFile, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let live = Arc::new(LiveFile::of(&file)?);
        let syncs = Histogram::default();
        let (written, durations) = (Arc::clone(&live), syncs.clone());
        let paths = file.paths().clone();
        let (to_disk, batches) = blocking::sync_channel(1);
        std::thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || write_batches(file, &batches, clock.as_ref(), &written, &durations))
            .context("cannot start the audit log's writer")?;
        let (queue, entries) = mpsc::channel(QUEUE);
        tokio::spawn(gather(entries, to_disk));
        Ok(Self {
            queue,
            refused: Arc::default(),
            live,
            syncs,
            paths,
            lookups: Arc::new(Semaphore::new(limits::LOOKUPS)),
            #[cfg(test)]
            failing: Arc::default(),
        })
    }

    /// A log whose disk takes no byte.
    #[cfg(test)]
    pub(crate) fn on_a_full_disk(clock: Arc<dyn Clock>) -> Self {
        Self::start(LogFile::on_a_full_disk(), clock).unwrap()
    }

    /// From now on nothing can be committed.
    #[cfg(test)]
    pub(crate) fn fail(&self) {
        self.failing.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// Commits one line: returns when it is on disk.
    ///
    /// # Errors
    /// [`AuditUnavailable`] when it cannot be written, now or before: the writer never goes on past a failure, since
    /// what is on disk is then unknown. A line that is too long to be read back is not written, and stops no other.
    pub(crate) async fn commit(&self, line: Line) -> Result<(), AuditUnavailable> {
        if planted("audit-skipped") && String::from_utf8_lossy(line.as_bytes()).contains("AwsApiCall") {
            return Ok(());
        }
        #[cfg(test)]
        if self.failing.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(AuditUnavailable);
        }
        if line.is_too_long() {
            // Whoever reads the log would stop here, or pass it over.
            return Err(AuditUnavailable);
        }
        let (committed, on_disk) = oneshot::channel();
        let entry = Entry { line, committed: Some(committed) };
        self.queue.send(entry).await.map_err(|_| AuditUnavailable)?;
        on_disk.await.map_err(|_| AuditUnavailable)
    }

    /// Whether the next record can be expected to reach the disk, and in the file it belongs in.
    ///
    /// # Errors
    /// [`AuditProblem`].
    pub(crate) fn check(&self) -> Result<(), AuditProblem> {
        if self.queue.is_closed() {
            return Err(AuditProblem::Failed);
        }
        self.live.check()
    }

    /// How many lines wait for the writer.
    pub(crate) fn waiting(&self) -> usize {
        QUEUE - self.queue.capacity()
    }

    /// How long writes have taken.
    pub(crate) fn syncs(&self) -> Histogram {
        self.syncs.clone()
    }

    /// Looks for events, newest first. It reads the files as anybody could, apart from the writer, and a bounded part of them.
    /// `None` while others look.
    pub(crate) async fn lookup(&self, wanted: Wanted) -> anyhow::Result<Option<Found>> {
        let Ok(_turn) = self.lookups.try_acquire() else { return Ok(None) };
        let paths = self.paths.clone();
        tokio::task::spawn_blocking(move || lookup::lookup(&paths, &wanted)).await?.map(Some)
    }

    /// Counts a refused request, and records a few of them with the line that is made for it. Nobody waits for that.
    pub(crate) fn refuse(
        &self,
        share: Share,
        source: IpAddr,
        error_code: &'static str,
        line: impl FnOnce() -> Line,
    ) {
        let mut refused = self.refused();
        if refused.pick(share, source, error_code) && !self.record_soon(line) {
            refused.lose();
        }
    }

    /// Records what nobody waits for. False where others wait for the log, or it cannot be written: then it is left to them.
    pub(crate) fn record_soon(&self, line: impl FnOnce() -> Line) -> bool {
        let has_room = self.queue.capacity() > QUEUE / 2;
        let entry = || Entry { line: line(), committed: None };
        has_room && self.queue.try_send(entry()).is_ok()
    }

    /// Records the counts of refused requests, a minute at a time, until the process ends or the log fails.
    pub(crate) async fn record_refusals(
        self,
        region: Region,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) {
        let mut minutes = tokio::time::interval(MINUTE);
        minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            minutes.tick().await;
            if self.record_refusals_so_far(&region, clock.as_ref(), random.as_ref()).await.is_err() {
                return;
            }
        }
    }

    /// Records the counts of refused requests since the last time. With them everything is on disk that was recorded
    /// before.
    ///
    /// # Errors
    /// [`AuditUnavailable`].
    pub(crate) async fn record_refusals_so_far(
        &self,
        region: &Region,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<(), AuditUnavailable> {
        let counts = self.refused().end_minute();
        let Some(counts) = counts else { return Ok(()) };
        let line = audit::refusal_counts(&counts, clock.wall(), region, &new_ids::uuid(random));
        self.commit(line).await
    }

    /// Nothing that holds this lock can panic with the counts half changed.
    fn refused(&self) -> MutexGuard<'_, Sampler> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gathers lines into batches, one at a time on its way to the disk, and tells everyone whose line has arrived there.
async fn gather(mut entries: mpsc::Receiver<Entry>, to_disk: blocking::SyncSender<Batch>) {
    let mut waiting = Vec::with_capacity(BATCH);
    while let Some(first) = entries.recv().await {
        let mut lines = vec![first.line];
        waiting.extend(first.committed);
        // Whoever is about to commit shares the sync. Nobody is waited for: where nothing else runs, this goes on at once.
        yield_now().await;
        for _ in 1..BATCH {
            let Ok(entry) = entries.try_recv() else { break };
            lines.push(entry.line);
            waiting.extend(entry.committed);
        }
        let (written, outcome) = oneshot::channel();
        // There is room for it: the one before has been written. Without a writer the outcome says so.
        let _ = to_disk.send(Batch { lines, written });
        match outcome.await {
            Ok(Ok(())) => {}
            // Dropping the receiver fails everyone who waits, and everyone who comes.
            Ok(Err(error)) => {
                return tracing::error!(%error, "the audit log cannot be written; refusing requests until restarted");
            }
            Err(_) => {
                return tracing::error!("the audit log's writer is gone; refusing requests until restarted");
            }
        }
        for committed in waiting.drain(..) {
            // Whoever waited may have gone; the line stays.
            let _ = committed.send(());
        }
    }
}

fn write_batches(
    mut file: LogFile,
    batches: &blocking::Receiver<Batch>,
    clock: &dyn Clock,
    live: &LiveFile,
    durations: &Histogram,
) {
    while let Ok(Batch { lines, written }) = batches.recv() {
        let begun = clock.monotonic();
        let result = file.append(&lines, clock.wall()).and_then(|()| live.is(&file));
        durations.observe(clock.monotonic().since(begun));
        let failed = result.is_err();
        let _ = written.send(result);
        if failed {
            return;
        }
    }
}
