//! The embedded store: the suite, and its files.

use crate::engine::{Engine, master_key, random};
use crate::fixtures::*;
use crate::model::check_against_model;
use crate::suite::store_suite;
use async_trait::async_trait;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::inventory::{InstanceState, Status, UserKind};
use instance_connect_store::{
    MasterKey, PolicyFault, PolicyOwner, Problem, SealError, SqliteStore, Store, StoreError,
};
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
    assert_eq!(
        names,
        [
            "inventory.lock",
            "inventory.open",
            "inventory.sqlite",
            "inventory.sqlite-shm",
            "inventory.sqlite-wal"
        ]
    );

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
    let opened_before = engine.open().await;
    populate(&*opened_before).await;
    engine.connect().pragma_update(None, "user_version", 1000).unwrap();
    for error in [
        engine.open_with(&master_key()).await.map(drop).unwrap_err(),
        opened_before.sequence().await.map(drop).unwrap_err(),
        opened_before.inventory().await.map(drop).unwrap_err(),
        opened_before.set_user_status(&user_id(1), Status::Suspended).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Newer { found: 1000, known: 2.. }), "{error:?}");
        assert!(error.to_string().contains("run the newer program"), "{error}");
    }
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
async fn databases_of_every_version_open_with_all_they_hold() {
    let [version_1, version_2, version_7, version_8] = [
        Sqlite::new().await.open().await,
        Sqlite::new().await.open().await,
        Sqlite::new().await.open().await,
        Sqlite::new().await.open().await,
    ];
    populate_version_1(&*version_1).await;
    populate_version_2(&*version_2).await;
    populate_version_7(&*version_7).await;
    populate(&*version_8).await;
    for (sql, expected) in [
        (include_str!("version_1.sql"), &version_1),
        (include_str!("version_2.sql"), &version_2),
        (include_str!("version_3.sql"), &version_2),
        (include_str!("version_4.sql"), &version_2),
        (include_str!("version_5.sql"), &version_2),
        (include_str!("version_6.sql"), &version_2),
        (include_str!("version_7.sql"), &version_7),
        (include_str!("version_8.sql"), &version_8),
    ] {
        let engine = Sqlite::new().await;
        drop(engine.open().await);
        fs::remove_file(engine.database()).unwrap();
        engine.connect().execute_batch(sql).unwrap();
        fs::set_permissions(engine.database(), Permissions::from_mode(0o600)).unwrap();

        let store = engine.open().await;
        let mut seen = view(&*store).await;
        if !Arc::ptr_eq(expected, &version_8) {
            for instance in seen.instances.values_mut() {
                assert!(instance.launched_at > UnixSeconds(0), "launched when it was migrated");
                instance.launched_at = NOW;
            }
        }
        assert_eq!(seen, view(&**expected).await);
        let stored = store.authority(&"agents-ca".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(stored.secret.expose(), b"the private key of agents-ca");
        store.redeem_join_token(&[2; 32], &instance_id(2), NOW, false).await.unwrap();
        // No row of another table has lost what it refers to.
        let connection = engine.connect();
        assert!(!connection.prepare("PRAGMA foreign_key_check").unwrap().exists(()).unwrap());
    }
}

/// A step of the sequence that was another change before the backup came back.
#[tokio::test]
async fn after_a_backup_was_restored_everything_is_read_again() {
    let engine = Sqlite::new().await;
    let store = engine.open().await;
    populate(&*store).await;
    let mut backup = Connection::open_in_memory().unwrap();
    let copy = |from: &Connection, to: &mut Connection| {
        let pages = rusqlite::backup::Backup::new(from, to).unwrap();
        assert_eq!(pages.step(-1).unwrap(), rusqlite::backup::StepResult::Done);
    };
    copy(&engine.connect(), &mut backup);
    store.set_instance_state(&instance_id(2), InstanceState::Stopped, NOW).await.unwrap();
    let known = store.inventory().await.unwrap().inventory;
    copy(&backup, &mut engine.connect());
    store.put_instance_tags(&instance_id(1), &tags(&[])).await.unwrap();
    assert_eq!(store.sequence().await.unwrap(), known.sequence);
    let read = store.inventory_since(Arc::new(known)).await.unwrap();
    let restored = view_of(read);
    assert_eq!(restored.instances[&instance_id(2)].state, InstanceState::Running);
    assert_eq!(restored, view(&*store).await);
}

/// Nobody does that here, but a store may be edited by hand.
#[tokio::test]
async fn what_was_deleted_by_hand_is_gone() {
    for [id, tables] in [["1", "agents"], ["2", "guests instance_tags join_tokens instances"]] {
        let engine = Sqlite::new().await;
        let store = engine.open().await;
        populate(&*store).await;
        let known = Arc::new(store.inventory().await.unwrap().inventory);
        for table in tables.split(' ') {
            let column = if table == "instances" { "id" } else { "instance" };
            engine.tamper(&format!("DELETE FROM {table} WHERE {column} = 'i-0000000000000000{id}'"));
        }
        store.set_account_status(&account_id(1), Status::Suspended).await.unwrap();
        let read = store.inventory_since(known).await.unwrap();
        assert_eq!(view_of(read), view(&*store).await, "{tables}");
    }
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
    let store = engine.open().await;
    populate(&*store).await;
    give_account_2(&*store).await;
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
        "INSERT INTO host_keys VALUES ('i-09', 'pinned', 'k')",
        "INSERT INTO host_keys SELECT id, 'trusted', 'k' FROM instances",
        "INSERT INTO host_keys SELECT id, 'pinned', '' FROM instances",
        "UPDATE instances SET state = 'melting'",
        "UPDATE instances SET account = '999999999999'",
        "DELETE FROM instances",
        "UPDATE guests SET host = instance",
        "UPDATE guests SET host = 'i-99999999'",
        "UPDATE guests SET instance = 'i-99999999'",
        "UPDATE guests SET region = 'eu-west-1'",
        "UPDATE instances SET region = 'eu-west-1' WHERE id = 'i-00000000000000001'",
        "UPDATE instance_tags SET key = ''",
        "UPDATE instance_tags SET instance = 'i-99999999'",
        "UPDATE agents SET enrolled = 0",
        "UPDATE agents SET used = enrolled - 1",
        "UPDATE agents SET newest = used - 1",
        "UPDATE agents SET state = 'asleep'",
        "UPDATE agents SET anchor_set = -1",
        "UPDATE anchor_rotation SET current = 0",
        "UPDATE anchor_rotation SET is_rolling_over = 2",
        "INSERT INTO anchor_rotation VALUES (2, 1, 0, 0)",
        "UPDATE stock_rotation SET current = -1",
        "UPDATE stock_rotation SET is_revoked = 2",
        "INSERT INTO stock_rotation VALUES (2, 1, 0, 0)",
        "UPDATE agents SET instance = 'i-99999999'",
        "UPDATE join_tokens SET secret_hash = X'00'",
        "UPDATE join_tokens SET instance = 'i-99999999'",
        "INSERT INTO authorities (name, public, sealed_secret) VALUES ('agents-ca', X'', X'')",
        // Roots: one an account, with the account's id, and without a name and all that users have.
        "INSERT INTO users (id, account, status) VALUES ('AIDA0000000000000009', '000000000001', 'active')",
        "INSERT INTO users (id, account, name, status) VALUES ('000000000002', '000000000002', 'x', 'active')",
        "INSERT INTO users (id, account, name, status) VALUES ('000000000002', '000000000001', 'x', 'active')",
        "INSERT INTO users (id, account, status) VALUES ('000000000002', '000000000001', 'active')",
        "UPDATE users SET boundary = 'logins' WHERE id = account",
        "INSERT INTO user_tags VALUES ('000000000001', 'Team', 'ops')",
        "INSERT INTO attached_user_policies VALUES ('000000000001', '000000000001', 'logins')",
        "INSERT INTO group_members VALUES ('000000000001', 'ops', '000000000001')",
        // Two names that IAM takes for one.
        "INSERT INTO groups VALUES ('000000000001', 'OPS')",
        "INSERT INTO policies SELECT account, 'Logins', document FROM policies",
        "INSERT INTO user_tags VALUES ('AIDA0000000000000002', 'TEAM', 'web')",
        "UPDATE user_tags SET key = ''",
        "UPDATE groups SET name = ''",
        "UPDATE policies SET name = ''",
        "UPDATE group_policies SET name = ''",
        // What is in use stays.
        "DELETE FROM groups WHERE account = '000000000001'",
        "DELETE FROM policies WHERE account = '000000000001'",
        "UPDATE policies SET name = 'other'",
        "UPDATE attached_user_policies SET policy = 'other'",
        "UPDATE attached_user_policies SET policy = 'Logins'",
        "UPDATE group_members SET group_name = 'OPS'",
        "UPDATE users SET boundary = 'other' WHERE name = 'bob'",
        // Nobody gets what another account has.
        "INSERT INTO attached_user_policies VALUES ('000000000002', 'AIDA0000000000000002', 'theirs')",
        "INSERT INTO attached_user_policies VALUES ('000000000001', 'AIDA0000000000000002', 'theirs')",
        "INSERT INTO attached_group_policies VALUES ('000000000001', 'ops', 'theirs')",
        "INSERT INTO attached_group_policies VALUES ('000000000002', 'ops', 'theirs')",
        "INSERT INTO group_members VALUES ('000000000002', 'theirs', 'AIDA0000000000000002')",
        "INSERT INTO group_members VALUES ('000000000001', 'theirs', 'AIDA0000000000000002')",
        "UPDATE users SET boundary = 'theirs' WHERE name = 'bob'",
        "UPDATE users SET account = '000000000002' WHERE name = 'bob'",
        "UPDATE guests SET host = 'i-00000000000000003'",
        "UPDATE guests SET account = '000000000002', host = 'i-00000000000000003'",
    ] {
        let error = connection.execute(sql, ()).unwrap_err();
        let code = error.sqlite_error_code();
        assert_eq!(code, Some(rusqlite::ErrorCode::ConstraintViolation), "{sql}: {error}");
    }
}

/// Account 2 with instance 3, the policy `theirs` and the group `theirs`, which has it attached.
async fn give_account_2(store: &dyn Store) {
    let (two, group, policy) = (account_id(2), group_name("theirs"), policy_name("theirs"));
    store.create_account(&account(2)).await.unwrap();
    store.create_instance(&instance(3, 2)).await.unwrap();
    store.create_policy(&two, &policy, PUSH).await.unwrap();
    store.create_group(&two, &group).await.unwrap();
    store.attach_group_policy(&two, &group, &policy).await.unwrap();
}

/// Runs SQL as the `sqlite3` program does: without foreign keys, and here without checks as well.
fn tamper_unchecked(engine: &Sqlite, sql: &str) {
    let connection = engine.connect();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    connection.pragma_update(None, "ignore_check_constraints", true).unwrap();
    connection.execute_batch(sql).unwrap();
    assert!(connection.total_changes() > 0, "{sql}");
}

#[tokio::test]
async fn a_policy_that_is_missing_suspends_whom_it_bears_on() {
    for (sql, owner_has, suspended) in [
        ("DELETE FROM policies WHERE name = 'logins'", "logins", &[1, 2][..]),
        ("UPDATE users SET boundary = 'lost' WHERE name = 'bob'", "lost", &[2]),
        // The name alone is stored, so this is a policy of the user's own account.
        ("UPDATE users SET boundary = 'theirs' WHERE name = 'bob'", "theirs", &[2]),
        ("UPDATE attached_user_policies SET policy = 'Logins'", "Logins", &[2]),
        ("UPDATE attached_group_policies SET policy = 'lost' WHERE group_name = 'ops'", "lost", &[1]),
    ] {
        let engine = Sqlite::new().await;
        let store = engine.open().await;
        populate(&*store).await;
        give_account_2(&*store).await;
        let healthy = view(&*store).await;
        tamper_unchecked(&engine, sql);
        let seen = view(&*store).await;
        let problem = Problem::Policy {
            owner: PolicyOwner::Account(account_id(1)),
            policy: policy_name(owner_has),
            fault: PolicyFault::Missing,
            suspended: suspended.iter().map(|number| user_id(*number)).collect(),
        };
        assert_eq!(seen.problems, [problem], "{sql}");
        for number in 1..=2 {
            let (user, before) = (seen.user(number), healthy.user(number));
            if suspended.contains(&number) {
                assert_eq!((user.status, &user.policies[..]), (Status::Suspended, &[][..]), "{sql}");
            } else {
                assert_eq!(user, before, "{sql}");
            }
        }
    }
}

#[tokio::test]
async fn rows_that_join_two_accounts_are_not_loaded() {
    for sql in [
        "INSERT INTO attached_user_policies VALUES ('000000000002', 'AIDA0000000000000002', 'theirs')",
        "INSERT INTO group_members VALUES ('000000000002', 'theirs', 'AIDA0000000000000002')",
        // A user that is moved into another account, with what it has.
        "UPDATE users SET account = '000000000002' WHERE name = 'bob'",
    ] {
        let engine = Sqlite::new().await;
        let store = engine.open().await;
        populate(&*store).await;
        give_account_2(&*store).await;
        tamper_unchecked(&engine, sql);
        let error = store.inventory().await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Damaged(text) if text.contains("another account")),
            "{sql}: {error:?}"
        );
    }
}

#[tokio::test]
async fn nobody_is_made_root_by_hand() {
    let engine = Sqlite::new().await;
    let store = engine.open().await;
    populate(&*store).await;
    tamper_unchecked(
        &engine,
        "DELETE FROM users WHERE id = account; DELETE FROM access_keys WHERE user = '000000000001'",
    );
    tamper_unchecked(&engine, "UPDATE users SET id = '000000000001', name = NULL WHERE name = 'bob'");
    // The account has a root, but bob's key is still that of a user who is not there.
    let seen = view(&*store).await;
    assert_eq!(seen.users[&root_id(1)].kind, UserKind::Root);
    assert_eq!(seen.access_keys[&key_id(2)].1, user_id(2));
    tamper_unchecked(
        &engine,
        "UPDATE access_keys SET user = '000000000001' WHERE user = 'AIDA0000000000000002'",
    );
    let problem = Problem::AccessKey { key: key_id(2), error: SealError::NotThisRow };
    let seen = view(&*store).await;
    assert_eq!((seen.problems, seen.access_keys.contains_key(&key_id(2))), (vec![problem], false));

    for sql in [
        // The root of an account in another one.
        "UPDATE users SET id = '000000000002' WHERE id = account",
        "UPDATE users SET name = NULL WHERE name = 'ann'",
        "UPDATE users SET name = 'a b' WHERE name = 'ann'",
    ] {
        let engine = Sqlite::new().await;
        let store = engine.open().await;
        populate(&*store).await;
        tamper_unchecked(&engine, sql);
        let error = store.inventory().await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged(_)), "{sql}: {error:?}");
    }
}
