//! The files of a database: who may reach them.

use crate::StoreError;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const DATABASE: &str = "inventory.sqlite";
const LOCK: &str = "inventory.lock";
const OPEN: &str = "inventory.open";

/// The files of one database while it is being opened.
pub(super) struct Files {
    pub(super) database: PathBuf,
    /// Locked together with everybody else who has the database open.
    pub(super) open: File,
    /// Held until this is dropped.
    _lock: File,
}

impl Files {
    /// Makes sure that nobody else has the database open, or opens it before this is dropped.
    pub(super) fn own_alone(&self) -> Result<(), StoreError> {
        match self.open.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => {
                Err(StoreError::Unavailable("another process has the database open; stop it first"))
            }
            Err(TryLockError::Error(error)) => Err(internal(error)),
        }
    }
}

/// Makes sure of a directory and a database file that only their owner can use. Waits for other programs that are opening
/// the same database: SQLite's own waiting does not cover the switch of a new database to WAL mode.
///
/// The file is made here, not by SQLite, so that its permissions depend on no umask; SQLite gives `-wal` and `-shm`
/// those of the database. What exists with wider permissions is refused instead of narrowed: an operator should know
/// that it was open.
pub(super) fn prepare(directory: &Path) -> Result<Files, StoreError> {
    prepare_directory(directory)?;
    // A file of its own and not the directory: whoever can open the directory could keep a lock on it.
    let lock = private().create(true).truncate(false).open(directory.join(LOCK)).map_err(internal)?;
    lock.lock().map_err(internal)?;
    let database = database(directory);
    match private().create_new(true).open(&database) {
        // The umask may have taken bits away from the owner.
        Ok(file) => file.set_permissions(Permissions::from_mode(0o600)).map_err(internal)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Not opened: closing it would drop the locks of every other connection of this process (POSIX locks).
            let mode = std::fs::metadata(&database).map_err(internal)?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(unusable(
                    &database,
                    "others may read or write this file; check who did, then chmod 600",
                ));
            }
        }
        Err(error) => return Err(internal(error)),
    }
    let open = private().create(true).truncate(false).open(directory.join(OPEN)).map_err(internal)?;
    open.lock_shared().map_err(internal)?;
    Ok(Files { database, open, _lock: lock })
}

/// Where the database of a directory is.
pub(super) fn database(directory: &Path) -> PathBuf {
    directory.join(DATABASE)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn prepare_directory(directory: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => std::fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(internal),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mode = std::fs::metadata(directory).map_err(internal)?.permissions().mode();
            // Reading the directory gives nothing away; whoever can write to it can put another database in place.
            if mode & 0o022 == 0 {
                Ok(())
            } else {
                Err(unusable(directory, "others may write to this directory; check who did, then chmod 700"))
            }
        }
        Err(error) => Err(internal(error)),
    }
}

fn unusable(path: &Path, reason: &'static str) -> StoreError {
    StoreError::Unusable { path: path.to_owned(), reason }
}

fn internal(error: io::Error) -> StoreError {
    StoreError::Internal(Box::new(error))
}
