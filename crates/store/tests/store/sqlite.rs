//! The embedded store: the suite, and its files.

use crate::engine::{Engine, master_key, random};
use crate::fixtures::*;
use crate::model::check_against_model;
use crate::suite::store_suite;
use async_trait::async_trait;
use instance_connect_store::{MasterKey, SqliteStore, Store, StoreError};
use rusqlite::Connection;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use tempfile::TempDir;

struct Sqlite(TempDir);

impl Sqlite {
    fn directory(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn database(&self) -> PathBuf {
        self.directory().join("inventory.sqlite")
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(self.database()).unwrap();
        connection.pragma_update(None, "foreign_keys", true).unwrap();
        connection
    }
}

#[async_trait]
impl Engine for Sqlite {
    async fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn open_with(&self, master_key: &MasterKey) -> Result<Arc<dyn Store>, StoreError> {
        open(&self.directory(), master_key)
    }

    fn tamper(&self, sql: &str) {
        assert!(self.connect().execute(sql, ()).unwrap() > 0, "{sql}");
    }

    fn raw(&self) -> Vec<u8> {
        let files = fs::read_dir(self.directory()).unwrap();
        files.flat_map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
    }
}

fn open(directory: &Path, master_key: &MasterKey) -> Result<Arc<dyn Store>, StoreError> {
    SqliteStore::open(directory, master_key, random()).map(|store| Arc::new(store) as Arc<dyn Store>)
}

store_suite!(Sqlite);

#[test]
fn behaves_like_the_model() {
    check_against_model::<Sqlite>();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn files_are_their_owners_alone() {
    let engine = Sqlite::new().await;
    let store = engine.open().await;
    populate(&*store).await;
    assert_eq!(mode(&engine.directory()), 0o700);
    let mut names = Vec::new();
    for file in fs::read_dir(engine.directory()).unwrap() {
        let file = file.unwrap();
        assert_eq!(mode(&file.path()), 0o600, "{:?}", file.path());
        names.push(file.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["inventory.lock", "inventory.sqlite", "inventory.sqlite-shm", "inventory.sqlite-wal"]);

    drop(store);
    for (path, open_mode, closed_mode) in [
        (engine.database(), 0o640, 0o600),
        (engine.directory(), 0o770, 0o700),
        (engine.directory(), 0o702, 0o700),
    ] {
        fs::set_permissions(&path, Permissions::from_mode(open_mode)).unwrap();
        let error = open(&engine.directory(), &master_key()).unwrap_err();
        assert!(matches!(&error, StoreError::Unusable { path: named, .. } if *named == path), "{error:?}");
        fs::set_permissions(&path, Permissions::from_mode(closed_mode)).unwrap();
        open(&engine.directory(), &master_key()).unwrap();
    }
    // The directory a service manager makes may be readable.
    fs::set_permissions(engine.directory(), Permissions::from_mode(0o755)).unwrap();
    open(&engine.directory(), &master_key()).unwrap();
}

#[tokio::test]
async fn a_newer_database_is_left_alone() {
    let engine = Sqlite::new().await;
    populate(&*engine.open().await).await;
    engine.connect().pragma_update(None, "user_version", 1000).unwrap();
    let error = engine.open_with(&master_key()).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 1000, known: 1.. }), "{error:?}");
    assert!(error.to_string().contains("run the newer program"), "{error}");
    let version: u32 = engine.connect().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 1000);
}

#[tokio::test]
async fn databases_of_other_programs_are_left_alone() {
    for sql in [
        "CREATE TABLE theirs (x)",
        "PRAGMA user_version = 1",
        "CREATE TABLE meta (x); PRAGMA user_version = 1",
    ] {
        let engine = Sqlite::new().await;
        fs::create_dir(engine.directory()).unwrap();
        fs::set_permissions(engine.directory(), Permissions::from_mode(0o700)).unwrap();
        engine.connect().execute_batch(sql).unwrap();
        fs::set_permissions(engine.database(), Permissions::from_mode(0o600)).unwrap();
        let error = engine.open_with(&master_key()).await.unwrap_err();
        assert!(matches!(error, StoreError::Unusable { .. }), "{sql}: {error:?}");
    }
    let engine = Sqlite::new().await;
    fs::create_dir(engine.directory()).unwrap();
    fs::set_permissions(engine.directory(), Permissions::from_mode(0o700)).unwrap();
    fs::write(engine.database(), "no database at all, but long enough to have a header. ".repeat(100))
        .unwrap();
    fs::set_permissions(engine.database(), Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(engine.open_with(&master_key()).await, Err(StoreError::Internal(_))));
}

#[tokio::test]
async fn a_database_of_version_1_opens_with_all_it_holds() {
    let engine = Sqlite::new().await;
    drop(engine.open().await);
    fs::remove_file(engine.database()).unwrap();
    engine.connect().execute_batch(include_str!("version_1.sql")).unwrap();
    fs::set_permissions(engine.database(), Permissions::from_mode(0o600)).unwrap();

    let expected = Sqlite::new().await.open().await;
    populate(&*expected).await;
    let store = engine.open().await;
    assert_eq!(view(&*store).await, view(&*expected).await);
    let stored = store.authority(&"agents-ca".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(stored.secret.expose(), b"the private key of agents-ca");
    store.redeem_join_token(&[2; 32], &instance_id(2), NOW, false).await.unwrap();
}

#[test]
fn programs_that_start_together_make_one_database() {
    for _ in 0..8 {
        let root = tempfile::tempdir().unwrap();
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    open(&root.path().join("store"), &master_key()).unwrap();
                });
            }
        });
    }
}

#[tokio::test]
async fn the_schema_refuses_what_the_code_would_not_write() {
    let engine = Sqlite::new().await;
    populate(&*engine.open().await).await;
    let connection = engine.connect();
    for sql in [
        "INSERT INTO sequence (only_row, value) VALUES (2, 0)",
        "UPDATE sequence SET value = -1",
        "UPDATE accounts SET id = 'x'",
        "UPDATE accounts SET status = 'on'",
        "UPDATE accounts SET serial_console_access = 2",
        "DELETE FROM accounts",
        "UPDATE users SET account = '999999999999'",
        "UPDATE users SET name = 'ANN' WHERE name = 'bob'",
        "UPDATE users SET name = ''",
        "UPDATE users SET status = NULL",
        "DELETE FROM users",
        "UPDATE user_policies SET user = 'AIDA9999999999999999'",
        "UPDATE access_keys SET user = 'AIDA9999999999999999'",
        "UPDATE access_keys SET id = 'short'",
        "UPDATE access_keys SET sealed_secret = NULL",
        "UPDATE access_keys SET sealed_secret = 'text'",
        "UPDATE instances SET state = 'melting'",
        "UPDATE instances SET account = '999999999999'",
        "DELETE FROM instances",
        "UPDATE instance_tags SET key = ''",
        "UPDATE instance_tags SET instance = 'i-99999999'",
        "UPDATE agents SET generation = 0",
        "UPDATE agents SET instance = 'i-99999999'",
        "UPDATE join_tokens SET secret_hash = X'00'",
        "UPDATE join_tokens SET instance = 'i-99999999'",
        "INSERT INTO authorities (name, public, sealed_secret) VALUES ('agents-ca', X'', X'')",
    ] {
        let error = connection.execute(sql, ()).unwrap_err();
        let code = error.sqlite_error_code();
        assert_eq!(code, Some(rusqlite::ErrorCode::ConstraintViolation), "{sql}: {error}");
    }
}
