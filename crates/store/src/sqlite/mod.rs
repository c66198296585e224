//! The embedded store: one SQLite database in a directory of its own.
//!
//! SQL is in three files: `schema` makes the tables, `changes` writes them, `load` reads them back.

mod changes;
mod files;
mod load;
mod schema;
mod worker;

use crate::limits::{BUSY, TAG_KEY, TAG_VALUE, TAGS_PER_INSTANCE};
use crate::seal::{SealedRow, Sealer};
use crate::{
    Authority, AuthorityName, MasterKey, PolicyName, RedeemError, Refusal, Snapshot, Store, StoreError,
};
use async_trait::async_trait;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::environment::Random;
use instance_connect_core::iam::Policy;
use instance_connect_core::ids::{AccessKeyId, AccountId, InstanceId, UserId, UserName};
use instance_connect_core::inventory::{
    AccessKey, Account, AgentIdentity, Instance, InstanceState, JoinToken, Status,
};
use instance_connect_core::secret::Secret;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use std::collections::BTreeMap;
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
}

impl SqliteStore {
    /// Opens the database in `directory`, or makes both (not the directory above), private to the user of this process.
    /// Brings a database of an older version up to date. Blocks on the disk: call it before the service starts.
    ///
    /// # Errors
    /// Others have access to the files, the database is of a newer version or another program, the master key is not
    /// the one it was made with, or the disk fails.
    pub fn open(
        directory: &Path,
        master_key: &MasterKey,
        random: Arc<dyn Random>,
    ) -> Result<Self, StoreError> {
        let sealer =
            Sealer::new(master_key, random).map_err(|error| StoreError::Internal(Box::new(error)))?;
        let files = files::prepare(directory)?;
        let mut connection = connect(&files.database)?;
        schema::migrate(&mut connection, &files.database, schema::MIGRATIONS, &sealer)?;
        let worker = Worker::start(connection).map_err(|error| StoreError::Internal(Box::new(error)))?;
        Ok(Self { worker, sealer: Arc::new(sealer) })
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

#[async_trait]
impl Store for SqliteStore {
    async fn sequence(&self) -> Result<u64, StoreError> {
        self.transact(TransactionBehavior::Deferred, load::sequence).await
    }

    async fn inventory(&self) -> Result<Snapshot, StoreError> {
        let sealer = Arc::clone(&self.sealer);
        self.transact(TransactionBehavior::Deferred, move |tx| load::snapshot(tx, &sealer)).await
    }

    async fn create_account(&self, account: &Account) -> Result<(), StoreError> {
        let account = account.clone();
        self.change(move |tx| changes::create_account(tx, &account)).await
    }

    async fn set_account_status(&self, account: &AccountId, status: Status) -> Result<(), StoreError> {
        let account = account.clone();
        self.change(move |tx| changes::set_account_status(tx, &account, status)).await
    }

    async fn set_serial_console_access(&self, account: &AccountId, enabled: bool) -> Result<(), StoreError> {
        let account = account.clone();
        self.change(move |tx| changes::set_serial_console_access(tx, &account, enabled)).await
    }

    async fn create_user(
        &self,
        user: &UserId,
        account: &AccountId,
        name: &UserName,
    ) -> Result<(), StoreError> {
        let (user, account, name) = (user.clone(), account.clone(), name.clone());
        self.change(move |tx| changes::create_user(tx, &user, &account, &name)).await
    }

    async fn set_user_status(&self, user: &UserId, status: Status) -> Result<(), StoreError> {
        let user = user.clone();
        self.change(move |tx| changes::set_user_status(tx, &user, status)).await
    }

    async fn put_user_policy(
        &self,
        user: &UserId,
        name: &PolicyName,
        document: &str,
    ) -> Result<(), StoreError> {
        Policy::parse(name.as_str(), document).map_err(Refusal::Policy)?;
        let (user, name, document) = (user.clone(), name.clone(), document.to_owned());
        self.change(move |tx| changes::put_user_policy(tx, &user, &name, &document)).await
    }

    async fn delete_user_policy(&self, user: &UserId, name: &PolicyName) -> Result<(), StoreError> {
        let (user, name) = (user.clone(), name.clone());
        self.change(move |tx| changes::delete_user_policy(tx, &user, &name)).await
    }

    async fn create_access_key(&self, key: &AccessKey) -> Result<(), StoreError> {
        let key = key.clone();
        let sealed = self.seal(SealedRow::AccessKey(&key.id, &key.user), &key.secret)?;
        self.change(move |tx| changes::create_access_key(tx, &key, &sealed)).await
    }

    async fn set_access_key_status(&self, key: &AccessKeyId, status: Status) -> Result<(), StoreError> {
        let key = key.clone();
        self.change(move |tx| changes::set_access_key_status(tx, &key, status)).await
    }

    async fn delete_access_key(&self, key: &AccessKeyId) -> Result<(), StoreError> {
        let key = key.clone();
        if cfg!(feature = "planted-sequence-skipped") {
            let work = move |tx: &Transaction<'_>| changes::delete_access_key(tx, &key);
            return self.transact(TransactionBehavior::Immediate, work).await;
        }
        self.change(move |tx| changes::delete_access_key(tx, &key)).await
    }

    async fn create_instance(&self, instance: &Instance) -> Result<(), StoreError> {
        check_tags(&instance.tags)?;
        let instance = instance.clone();
        self.change(move |tx| changes::create_instance(tx, &instance)).await
    }

    async fn set_instance_state(
        &self,
        instance: &InstanceId,
        state: InstanceState,
    ) -> Result<(), StoreError> {
        let instance = instance.clone();
        self.change(move |tx| changes::set_instance_state(tx, &instance, state)).await
    }

    async fn put_instance_tags(
        &self,
        instance: &InstanceId,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        check_tags(tags)?;
        let (instance, tags) = (instance.clone(), tags.clone());
        self.change(move |tx| changes::put_instance_tags(tx, &instance, &tags)).await
    }

    async fn create_join_token(&self, token: &JoinToken, now: UnixSeconds) -> Result<(), StoreError> {
        let token = token.clone();
        self.change(move |tx| changes::create_join_token(tx, &token, now)).await
    }

    async fn redeem_join_token(
        &self,
        secret_hash: &[u8; 32],
        instance: &InstanceId,
        now: UnixSeconds,
        replace: bool,
    ) -> Result<AgentIdentity, RedeemError> {
        let (secret_hash, instance) = (*secret_hash, instance.clone());
        let redeem =
            move |tx: &Transaction<'_>| changes::redeem_join_token(tx, &secret_hash, &instance, now, replace);
        Ok(self.transact(TransactionBehavior::Immediate, redeem).await??)
    }

    async fn put_authority(
        &self,
        name: &AuthorityName,
        public: &[u8],
        secret: &Secret,
    ) -> Result<Authority, StoreError> {
        let sealed = self.seal(SealedRow::Authority(name, public), secret)?;
        let (name, public, sealer) = (name.clone(), public.to_vec(), Arc::clone(&self.sealer));
        let put = move |tx: &Transaction<'_>| {
            changes::put_authority(tx, &name, &public, &sealed)?;
            let stored = load::authority(tx, &name, &sealer)?;
            stored
                .ok_or_else(|| StoreError::Damaged("authorities: a row just written is not there".to_owned()))
        };
        self.transact(TransactionBehavior::Immediate, put).await
    }

    async fn authority(&self, name: &AuthorityName) -> Result<Option<Authority>, StoreError> {
        let (name, sealer) = (name.clone(), Arc::clone(&self.sealer));
        self.transact(TransactionBehavior::Deferred, move |tx| load::authority(tx, &name, &sealer)).await
    }
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let plain = |text: &str, longest| text.chars().count() <= longest && !text.chars().any(char::is_control);
    if tags.len() > TAGS_PER_INSTANCE {
        return Err(Refusal::TooManyTags);
    }
    for (key, value) in tags {
        if key.is_empty() || !plain(key, TAG_KEY) {
            return Err(Refusal::TagKey);
        }
        if !plain(value, TAG_VALUE) {
            return Err(Refusal::TagValue);
        }
    }
    Ok(())
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
