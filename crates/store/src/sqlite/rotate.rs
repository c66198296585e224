//! Another master key: everything that is sealed is sealed anew, or nothing is.

use super::{SqliteStore, changes, connect, files, owner, schema};
use crate::names::AuthorityName;
use crate::seal::{SealedRow, Sealer};
use crate::{MasterKey, StoreError};
use instance_connect_core::audit::OperatorAction;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::environment::Random;
use instance_connect_core::ids::{AccessKeyId, UserId};
use rusqlite::{Transaction, TransactionBehavior};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

impl SqliteStore {
    /// Seals everything in the database of `directory`, which is sealed with `from`, with `to`: in one transaction, and while
    /// nobody else has it open, since whoever has would go on with the old key. That it was done is left for the audit log
    /// ([`Store::operator_events`](crate::Store::operator_events)). Blocks on the disk.
    ///
    /// # Errors
    /// Another process has it open, `from` is not its master key, or a secret does not open; then nothing has changed.
    pub fn rotate_master_key(
        directory: &Path,
        from: &MasterKey,
        to: &MasterKey,
        random: &Arc<dyn Random>,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let internal = |error| StoreError::Internal(Box::new(error));
        let old = Sealer::new(from, Arc::clone(random)).map_err(internal)?;
        let new = Sealer::new(to, Arc::clone(random)).map_err(internal)?;
        owner::as_owner(directory, || {
            let files = files::prepare(directory)?;
            files.own_alone()?;
            let mut connection = connect(&files.database)?;
            // What was sealed with the old key is overwritten, not left in free pages.
            connection.pragma_update(None, "secure_delete", true)?;
            schema::migrate(&mut connection, &files.database, schema::MIGRATIONS, &old)?;
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            seal_anew(&transaction, &old, &new)?;
            changes::operator::leave(&transaction, &OperatorAction::RotateMasterKey, now, random.as_ref())?;
            changes::raise_sequence(&transaction)?;
            transaction.commit()?;
            connection.pragma_update(None, "wal_checkpoint", "TRUNCATE")?;
            Ok(())
        })
    }
}

fn seal_anew(tx: &Transaction<'_>, old: &Sealer, new: &Sealer) -> Result<(), StoreError> {
    let sealed = |row: SealedRow<'_>, blob: &[u8]| {
        let opened = old.open(row, blob);
        let secret = opened.map_err(|error| StoreError::Sealed { row: row.to_string(), error })?;
        new.seal(row, &secret).map_err(|error| StoreError::Internal(Box::new(error)))
    };
    let mut keys = tx.prepare("SELECT id, user, sealed_secret FROM access_keys")?;
    let keys = keys.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    for key in keys.collect::<Result<Vec<(String, String, Vec<u8>)>, _>>()? {
        let (id, user, blob) = key;
        let (key, user): (AccessKeyId, UserId) = (parsed(&id)?, parsed(&user)?);
        let blob = sealed(SealedRow::AccessKey(&key, &user), &blob)?;
        tx.execute("UPDATE access_keys SET sealed_secret = ?2 WHERE id = ?1", (id, blob))?;
    }
    let mut authorities = tx.prepare("SELECT name, public, sealed_secret FROM authorities")?;
    let authorities = authorities.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    for authority in authorities.collect::<Result<Vec<(String, Vec<u8>, Vec<u8>)>, _>>()? {
        let (name, public, blob) = authority;
        let authority: AuthorityName = parsed(&name)?;
        let blob = sealed(SealedRow::Authority(&authority, &public), &blob)?;
        tx.execute("UPDATE authorities SET sealed_secret = ?2 WHERE name = ?1", (name, blob))?;
    }
    tx.execute("DELETE FROM meta WHERE name = 'master-key-check'", ())?;
    schema::keep_master_key_check(tx, new)
}

fn parsed<T: FromStr>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Damaged(format!("{text:?} is no name of a sealed secret")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store as _;
    use crate::seal::tests::Counting;
    use instance_connect_core::inventory::{AccessKey, Account, Status};
    use instance_connect_core::secret::Secret;
    use rusqlite::Connection;

    fn key(byte: u8) -> MasterKey {
        MasterKey::from_bytes([byte; 32])
    }

    fn open(directory: &Path, byte: u8) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(directory, &key(byte), Arc::new(Counting::default()))
    }

    fn rotate(directory: &Path, from: u8, to: u8) -> Result<(), StoreError> {
        SqliteStore::rotate_master_key(
            directory,
            &key(from),
            &key(to),
            &(Arc::new(Counting::default()) as Arc<dyn Random>),
            UnixSeconds(7),
        )
    }

    /// A store with a secret of each kind, closed.
    async fn filled(directory: &Path) {
        let store = open(directory, 1).unwrap();
        let id = "111122223333".parse().unwrap();
        let account = Account { id, status: Status::Active, serial_console_access: false };
        let secret = Secret::new(b"the secret access key".to_vec());
        let user = "AIDAAAAAAAAAAAAAAAAA".parse().unwrap();
        store.create_account(&account).await.unwrap();
        store.create_user(&user, &account.id, &"bob".parse().unwrap()).await.unwrap();
        let id = "AKIAAAAAAAAAAAAAAAAA".parse().unwrap();
        store.create_access_key(&AccessKey { id, secret, user, status: Status::Active }).await.unwrap();
        let secret = Secret::new(b"the authority's key".to_vec());
        store.put_authority(&"root".parse().unwrap(), b"certificate", &secret).await.unwrap();
    }

    #[tokio::test]
    async fn everything_opens_with_the_new_key_and_nothing_with_the_old() {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path()).await;
        rotate(directory.path(), 1, 2).unwrap();
        assert!(matches!(open(directory.path(), 1), Err(StoreError::WrongMasterKey)));
        let store = open(directory.path(), 2).unwrap();
        let snapshot = store.inventory().await.unwrap();
        assert_eq!(snapshot.problems, []);
        let [key] = snapshot.inventory.access_keys.values().collect::<Vec<_>>()[..] else { panic!() };
        assert_eq!(key.secret.expose(), b"the secret access key");
        let authority = store.authority(&"root".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(authority.secret.expose(), b"the authority's key");
        let [left] = &store.operator_events().await.unwrap()[..] else { panic!() };
        assert_eq!((&left.action, left.time), (&OperatorAction::RotateMasterKey, UnixSeconds(7)));
    }

    #[tokio::test]
    async fn nothing_changes_with_a_wrong_key_or_while_somebody_has_it_open() {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path()).await;
        assert!(matches!(rotate(directory.path(), 3, 2), Err(StoreError::WrongMasterKey)));
        let store = open(directory.path(), 1).unwrap();
        assert!(matches!(rotate(directory.path(), 1, 2), Err(StoreError::Unavailable(_))));
        assert_eq!(store.inventory().await.unwrap().problems, []);
        drop(store);
        // A secret that does not open: all the others stay as they are.
        let database = Connection::open(files::database(directory.path())).unwrap();
        database.execute("UPDATE authorities SET public = x'00'", ()).unwrap();
        drop(database);
        assert!(matches!(rotate(directory.path(), 1, 2), Err(StoreError::Sealed { .. })));
        assert_eq!(open(directory.path(), 1).unwrap().operator_events().await.unwrap(), []);
        assert_eq!(open(directory.path(), 1).unwrap().inventory().await.unwrap().problems, []);
    }

    /// Whoever adds a sealed column has to seal it anew here.
    #[tokio::test]
    async fn these_are_all_sealed_columns() {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path()).await;
        let database = Connection::open(files::database(directory.path())).unwrap();
        let query = "SELECT t.name || '.' || c.name FROM sqlite_schema t, pragma_table_info(t.name) c
                     WHERE c.name LIKE '%seal%' ORDER BY 1";
        let mut columns = database.prepare(query).unwrap();
        let columns: Vec<String> =
            columns.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(columns, ["access_keys.sealed_secret", "authorities.sealed_secret"]);
    }
}
