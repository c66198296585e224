//! The embedded store: one SQLite database in a directory of its own.
//!
//! SQL is in three places: `schema` makes the tables, `changes` writes them, `load` reads them back. `methods` is the
//! trait.

mod changes;
mod files;
mod load;
mod methods;
mod owner;
mod rotate;
mod schema;
mod worker;

use crate::limits::BUSY;
use crate::seal::{SealedRow, Sealer};
use crate::{MasterKey, StoreError};
use instance_connect_core::environment::Random;
use instance_connect_core::secret::Secret;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use worker::Worker;

/// The inventory in one SQLite database. Several processes of one machine may have it open at the same time.
///
/// Dropping it waits for calls under way and closes the database.
#[derive(Debug)]
pub struct SqliteStore {
    worker: Worker,
    sealer: Arc<Sealer>,
    random: Arc<dyn Random>,
    /// Shows others that the database is open.
    _open: File,
}

impl SqliteStore {
    /// Opens the database in `directory`, or makes both (not the directory above), private to the user of this process.
    /// As root in a directory of somebody else it does all of this as that user. Brings a database of an older version up to date. Blocks on the disk: call it before the service starts.
    ///
    /// # Errors
    /// Others have access to the files, the database is of a newer version or another program, the master key is not
    /// the one it was made with, or the disk fails.
    pub fn open(
        directory: &Path,
        master_key: &MasterKey,
        random: Arc<dyn Random>,
    ) -> Result<Self, StoreError> {
        let sealer = Sealer::new(master_key, Arc::clone(&random))
            .map_err(|error| StoreError::Internal(Box::new(error)))?;
        owner::as_owner(directory, || {
            let files = files::prepare(directory)?;
            let mut connection = connect(&files.database)?;
            schema::migrate(&mut connection, &files.database, schema::MIGRATIONS, &sealer)?;
            let worker = Worker::start(connection).map_err(|error| StoreError::Internal(Box::new(error)))?;
            Ok(Self { worker, sealer: Arc::new(sealer), random, _open: files.open })
        })
    }

    /// Whether there is a database in `directory`.
    pub fn exists(directory: &Path) -> bool {
        files::database(directory).exists()
    }

    /// One change: all of `work` and one step of the sequence, or nothing.
    async fn change(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.transact(TransactionBehavior::Immediate, |tx| {
            work(tx)?;
            changes::raise_sequence(tx)
        })
        .await
    }

    async fn transact<T: Send + 'static>(
        &self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let transact = move |connection: &mut Connection| {
            // Rolled back when dropped before the commit.
            let transaction = connection.transaction_with_behavior(behavior)?;
            schema::check_version(&transaction)?;
            let answer = work(&transaction)?;
            transaction.commit()?;
            Ok(answer)
        };
        self.worker.run(transact).await
    }

    fn seal(&self, row: SealedRow<'_>, secret: &Secret) -> Result<Vec<u8>, StoreError> {
        self.sealer.seal(row, secret).map_err(|error| StoreError::Internal(Box::new(error)))
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    // Without CREATE: a file that is gone by now is an error, not a new database with the umask's permissions.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // What is in the file never runs code of ours with side effects.
    connection.pragma_update(None, "trusted_schema", false)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode == "wal" {
        Ok(connection)
    } else {
        Err(StoreError::Unusable {
            path: path.to_owned(),
            reason: "this file system cannot keep a database in WAL mode",
        })
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) {
            return Self::Unavailable("another process holds the database");
        }
        Self::Internal(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_database_is_unavailable_and_a_failing_one_is_not() {
        for (code, unavailable) in [
            (rusqlite::ffi::SQLITE_BUSY, true),
            (rusqlite::ffi::SQLITE_BUSY_SNAPSHOT, true),
            (rusqlite::ffi::SQLITE_LOCKED, true),
            (rusqlite::ffi::SQLITE_FULL, false),
            (rusqlite::ffi::SQLITE_CORRUPT, false),
        ] {
            let error =
                StoreError::from(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None));
            assert_eq!(matches!(error, StoreError::Unavailable(_)), unavailable, "{error:?}");
            assert_eq!(matches!(error, StoreError::Internal(_)), !unavailable, "{error:?}");
        }
    }
}
