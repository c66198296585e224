//! The tables, as the numbered steps that made them. A step that was released is never edited: a change of the schema is
//! a new step at the end.

use crate::StoreError;
use crate::seal::{SealError, SealedRow, Sealer};
use instance_connect_core::secret::Secret;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use std::path::Path;

/// Step n brings a database from version n to n + 1; SQLite's `user_version` holds the version.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
    include_str!("schema_7.sql"),
    include_str!("schema_8.sql"),
];

/// SQLite's mark for whose file this is: `ICST` in ASCII.
const APPLICATION_ID: i32 = 0x4943_5354;

/// Brings the database to the newest version, one transaction a step, and checks that the master key is the one it was
/// made with.
pub(super) fn migrate(
    connection: &mut Connection,
    path: &Path,
    migrations: &[&str],
    sealer: &Sealer,
) -> Result<(), StoreError> {
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    loop {
        // The version is read inside of the transaction that acts on it: two programs may be starting.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version = version(&transaction, path)?;
        if version > known {
            return Err(StoreError::Newer { found: version, known });
        }
        if version > 0 {
            check_master_key(&transaction, sealer)?;
        }
        let Some(step) = migrations.get(version as usize) else { return Ok(()) };
        transaction.execute_batch(step)?;
        if version == 0 {
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            keep_master_key_check(&transaction, sealer)?;
        }
        transaction.pragma_update(None, "user_version", version + 1)?;
        transaction.commit()?;
    }
}

/// Refuses a database that a newer program has brought up to date since it was opened: it may hold what this program
/// would ignore, and who is denied something by that would be allowed it.
pub(super) fn check_version(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let found: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known { Err(StoreError::Newer { found, known }) } else { Ok(()) }
}

/// The schema version of the database; 0 for an empty one.
fn version(transaction: &Transaction<'_>, path: &Path) -> Result<u32, StoreError> {
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i32 = transaction.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: u32 = transaction.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    let empty = version == 0 && tables == 0;
    if empty || (version > 0 && application == APPLICATION_ID) {
        Ok(version)
    } else {
        Err(StoreError::Unusable { path: path.to_owned(), reason: "this is a database of another program" })
    }
}

pub(super) fn keep_master_key_check(
    transaction: &Transaction<'_>,
    sealer: &Sealer,
) -> Result<(), StoreError> {
    let sealed = sealer.seal(SealedRow::MasterKeyCheck, &Secret::new(b"instance-connect".to_vec()));
    let sealed = sealed.map_err(|error| StoreError::Internal(Box::new(error)))?;
    transaction.execute("INSERT INTO meta (name, value) VALUES ('master-key-check', ?1)", [sealed])?;
    Ok(())
}

fn check_master_key(transaction: &Transaction<'_>, sealer: &Sealer) -> Result<(), StoreError> {
    let query = "SELECT value FROM meta WHERE name = 'master-key-check'";
    let sealed: Option<Vec<u8>> = transaction.query_row(query, (), |row| row.get(0)).optional()?;
    let sealed =
        sealed.ok_or_else(|| StoreError::Damaged("the check of the master key is missing".to_owned()))?;
    match sealer.open(SealedRow::MasterKeyCheck, &sealed) {
        Ok(_) => Ok(()),
        Err(SealError::OtherMasterKey) => Err(StoreError::WrongMasterKey),
        Err(error @ (SealError::Form | SealError::NotThisRow)) => {
            Err(StoreError::Sealed { row: SealedRow::MasterKeyCheck.to_string(), error })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MasterKey;
    use instance_connect_core::environment::Random;
    use std::sync::Arc;

    /// What each version wrote. The master key is the suite's.
    const VERSIONS: [&str; 8] = [
        include_str!("../../tests/store/version_1.sql"),
        include_str!("../../tests/store/version_2.sql"),
        include_str!("../../tests/store/version_3.sql"),
        include_str!("../../tests/store/version_4.sql"),
        include_str!("../../tests/store/version_5.sql"),
        include_str!("../../tests/store/version_6.sql"),
        include_str!("../../tests/store/version_7.sql"),
        include_str!("../../tests/store/version_8.sql"),
    ];

    #[derive(Debug)]
    struct Zeros;

    impl Random for Zeros {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    fn migrate_with(connection: &mut Connection, migrations: &[&str], key: u8) -> Result<(), StoreError> {
        let sealer = Sealer::new(&MasterKey::from_bytes([key; 32]), Arc::new(Zeros)).unwrap();
        migrate(connection, Path::new("database"), migrations, &sealer)
    }

    fn database(sql: &str) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql).unwrap();
        connection.pragma_update(None, "foreign_keys", true).unwrap();
        connection
    }

    fn version_of(connection: &Connection) -> u32 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    fn schema(connection: &Connection) -> Vec<(String, Option<String>)> {
        let mut query = connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").unwrap();
        query.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn the_steps_still_make_what_each_version_was() {
        assert_eq!(VERSIONS.len(), MIGRATIONS.len(), "a version without a database of it");
        for (steps, sql) in (1..).zip(VERSIONS) {
            let mut connection = Connection::open_in_memory().unwrap();
            migrate_with(&mut connection, &MIGRATIONS[..steps], 7).unwrap();
            assert_eq!(version_of(&connection), u32::try_from(steps).unwrap());
            assert_eq!(schema(&connection), schema(&database(sql)));
        }
    }

    #[test]
    fn old_databases_become_what_new_ones_are() {
        let mut new = Connection::open_in_memory().unwrap();
        migrate_with(&mut new, MIGRATIONS, 7).unwrap();
        for sql in VERSIONS {
            let mut old = database(sql);
            migrate_with(&mut old, MIGRATIONS, 7).unwrap();
            assert_eq!((version_of(&old), schema(&old)), (version_of(&new), schema(&new)));
        }
    }

    #[test]
    fn a_step_happens_whole_or_not_at_all() {
        let mut connection = database(VERSIONS[0]);
        let before = schema(&connection);
        let broken = [MIGRATIONS[0], "CREATE TABLE added (x); INSERT INTO missing VALUES (1)"];
        assert!(matches!(migrate_with(&mut connection, &broken, 7), Err(StoreError::Internal(_))));
        assert_eq!((version_of(&connection), schema(&connection)), (1, before.clone()));

        let fixed = [MIGRATIONS[0], "CREATE TABLE added (x)", "INSERT INTO added VALUES (1)"];
        let wrong_key = migrate_with(&mut connection, &fixed, 8);
        assert!(matches!(wrong_key, Err(StoreError::WrongMasterKey)), "{wrong_key:?}");
        assert_eq!((version_of(&connection), schema(&connection)), (1, before));
        for _ in 0..2 {
            migrate_with(&mut connection, &fixed, 7).unwrap();
        }
        let added: u32 = connection.query_row("SELECT count(*) FROM added", (), |row| row.get(0)).unwrap();
        assert_eq!((version_of(&connection), added), (3, 1));

        let older = migrate_with(&mut connection, &MIGRATIONS[..1], 7);
        assert!(matches!(older, Err(StoreError::Newer { found: 3, known: 1 })), "{older:?}");
    }
}
