//! The audit log on disk: what is committed here has reached the disk before anyone goes on.
//!
//! One thread writes. It takes all lines that wait, writes them and syncs once, so that many requests share one sync
//! (group commit).

use anyhow::Context as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use tokio::sync::{mpsc, oneshot};

/// Lines that may wait for the writer; more than that and requests wait.
const QUEUE: usize = 1024;

/// Lines in one write.
const BATCH: usize = 256;

/// A handle to the log.
#[derive(Clone, Debug)]
pub(crate) struct AuditLog {
    queue: mpsc::Sender<Entry>,
}

/// The log cannot be written. No audit, no action: whatever was to be recorded must not happen.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the audit log cannot be written")]
pub(crate) struct AuditUnavailable;

struct Entry {
    line: String,
    committed: oneshot::Sender<()>,
}

impl AuditLog {
    /// Opens the log for appending, readable by its owner only, and starts its writer.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("cannot open the audit log {}", path.display()))?;
        let (queue, entries) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || write_batches(file, entries))
            .context("cannot start the audit log's writer")?;
        Ok(Self { queue })
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
        let (committed, on_disk) = oneshot::channel();
        self.queue.send(Entry { line, committed }).await.map_err(|_| AuditUnavailable)?;
        on_disk.await.map_err(|_| AuditUnavailable)
    }
}

fn write_batches(mut file: File, mut entries: mpsc::Receiver<Entry>) {
    let mut batch = Vec::with_capacity(BATCH);
    while let Some(first) = entries.blocking_recv() {
        batch.push(first);
        while batch.len() < BATCH
            && let Ok(entry) = entries.try_recv()
        {
            batch.push(entry);
        }
        let lines: String = batch.iter().map(|entry| entry.line.as_str()).collect();
        if let Err(error) = file.write_all(lines.as_bytes()).and_then(|()| file.sync_data()) {
            // Dropping the receiver fails everyone who waits, and everyone who comes.
            tracing::error!(%error, "the audit log cannot be written; refusing requests until restarted");
            return;
        }
        for entry in batch.drain(..) {
            // Whoever waited may have gone; the line stays.
            let _ = entry.committed.send(());
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
    async fn a_full_disk_refuses_everyone() {
        // A device that takes no byte stands for a full disk.
        let log = AuditLog::open(Path::new("/dev/full")).unwrap();
        assert!(log.commit("line\n".into()).await.is_err());
        assert!(log.commit("line\n".into()).await.is_err());
    }
}
