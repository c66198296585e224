//! Whether the log can go on being written, as far as that can be seen from outside of its writer.

use super::files::LogFile;
use rustix::fs::{Access, access};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The file that is written to: where it should be, and which one it is.
#[derive(Debug)]
pub(super) struct LiveFile {
    path: PathBuf,
    inode: AtomicU64,
}

/// Why records do not reach the disk, or not where they are looked for.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum AuditProblem {
    /// A write has failed.
    #[error("it cannot be written; nothing is done until the service is restarted")]
    Failed,
    /// Its directory takes no more files: the next one cannot begin.
    #[error("its directory cannot be written")]
    Directory,
    /// It was moved or removed.
    #[error("its file was moved, replaced or removed by somebody else; restart the service")]
    Moved,
}

impl LiveFile {
    pub(super) fn of(file: &LogFile) -> io::Result<Self> {
        let live = Self { path: file.paths().live.clone(), inode: AtomicU64::new(0) };
        live.is(file)?;
        Ok(live)
    }

    /// Notes which file it is.
    pub(super) fn is(&self, file: &LogFile) -> io::Result<()> {
        self.inode.store(file.inode()?, Ordering::Relaxed);
        Ok(())
    }

    /// # Errors
    /// [`AuditProblem`].
    pub(super) fn check(&self) -> Result<(), AuditProblem> {
        let inode = fs::metadata(&self.path).map(|metadata| metadata.ino());
        if inode.ok() != Some(self.inode.load(Ordering::Relaxed)) {
            return Err(AuditProblem::Moved);
        }
        let directory = self.path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let writable =
            access(directory.unwrap_or_else(|| Path::new(".")), Access::WRITE_OK | Access::EXEC_OK);
        writable.map_err(|_| AuditProblem::Directory)
    }
}
