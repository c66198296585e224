//! The inventory in memory, kept current: requests are answered from it and never wait for the store.

use crate::links::lock;
use anyhow::Context as _;
use arc_swap::ArcSwap;
use instance_connect_core::document::ServerInstant;
use instance_connect_core::environment::Clock;
use instance_connect_core::inventory::Inventory;
use instance_connect_store::{PolicyWarning, Snapshot, Store};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{MutexGuard, watch};

/// How often the store is asked for its change sequence.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How old the last word of the store may be before requests are refused: a deleted key must not go on working
/// because the store cannot be read. Several polls, so that one slow disk write refuses nobody.
const STALE_AFTER: Duration = Duration::from_secs(5);

/// The current snapshot.
#[derive(Debug)]
pub(crate) struct LiveInventory {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    snapshot: ArcSwap<Inventory>,
    /// Those of the snapshot. They are in the log.
    warnings: Mutex<BTreeSet<PolicyWarning>>,
    confirmed_at: AtomicU64,
    changed: watch::Sender<u64>,
    /// Held by whoever asks the store, so that what it said earlier never takes the place of what it said later. Their
    /// sequences do not tell: that of a restored backup is lower.
    asking: tokio::sync::Mutex<()>,
    /// Held by whoever changes the store on the word of a snapshot.
    turn: tokio::sync::Mutex<()>,
}

/// The store has not answered for too long to go on believing the snapshot.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the inventory has not been confirmed by the store for too long")]
pub(crate) struct StaleInventory;

impl LiveInventory {
    /// Loads the first snapshot.
    pub(crate) async fn load(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let inventory = Self {
            store,
            clock,
            snapshot: ArcSwap::default(),
            warnings: Mutex::default(),
            confirmed_at: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            asking: tokio::sync::Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        };
        let asked_at = inventory.clock.monotonic();
        let loaded = inventory.store.inventory().await.context("cannot load the inventory")?;
        inventory.take(loaded, asked_at);
        Ok(inventory)
    }

    /// The current snapshot.
    ///
    /// # Errors
    /// [`StaleInventory`] when the store could not be asked for too long.
    pub(crate) fn current(&self) -> Result<Arc<Inventory>, StaleInventory> {
        let confirmed_at = ServerInstant(self.confirmed_at.load(Ordering::Relaxed));
        if self.clock.monotonic() > confirmed_at.after(STALE_AFTER) {
            return Err(StaleInventory);
        }
        Ok(self.snapshot.load_full())
    }

    /// How long ago the store has confirmed it.
    pub(crate) fn age(&self) -> Duration {
        let confirmed_at = ServerInstant(self.confirmed_at.load(Ordering::Relaxed));
        self.clock.monotonic().since(confirmed_at)
    }

    /// Where the inventory is kept.
    pub(crate) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// The turn to change it: nobody else of this process does until it is dropped.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Tells of each new snapshot.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Follows the store until the process ends.
    pub(crate) async fn follow(&self) {
        let mut interval = tokio::time::interval(POLL_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if let Err(error) = self.refresh().await {
                tracing::error!(error = format!("{error:#}"), "cannot follow the store");
            }
        }
    }

    /// Brings the snapshot up to date if the store has changed: it is then no older than this call.
    pub(crate) async fn refresh(&self) -> anyhow::Result<()> {
        let _asking = self.asking.lock().await;
        let asked_at = self.clock.monotonic();
        let (sequence, known) = (self.store.sequence().await?, self.snapshot.load_full());
        if sequence == known.sequence {
            self.confirmed_at.store(asked_at.0, Ordering::Relaxed);
            return Ok(());
        }
        let asked_at = self.clock.monotonic();
        let loaded = self.store.inventory_since(known).await?;
        self.take(loaded, asked_at);
        Ok(())
    }

    /// Decisions are made on this snapshot from now on. Only one is taken at a time.
    fn take(&self, loaded: Snapshot, asked_at: ServerInstant) {
        for problem in &loaded.problems {
            tracing::error!(%problem, "part of the inventory could not be used");
        }
        self.log_new(loaded.warnings);
        let sequence = loaded.inventory.sequence;
        self.snapshot.store(Arc::new(loaded.inventory));
        self.confirmed_at.store(asked_at.0, Ordering::Relaxed);
        self.changed.send_replace(sequence);
    }

    /// Logs each warning once: at the start, or when its policy is put. Snapshots change more often than policies.
    fn log_new(&self, warnings: BTreeSet<PolicyWarning>) {
        let mut logged = lock(&self.warnings);
        for warning in warnings.difference(&logged) {
            tracing::warn!("{warning}");
        }
        *logged = warnings;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use instance_connect_core::inventory::Status;
    use instance_connect_store::{MasterKey, SqliteStore};
    use instance_connect_testkit::{ManualClock, SeededRandom, World};
    use std::io::{self, Write};

    /// What the log says, in the form in which the program writes it.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        /// What has been logged since the last time.
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *lock(&self.0))).unwrap()
        }
    }

    #[tokio::test]
    async fn a_policy_that_means_less_than_it_says_is_logged_when_it_is_put_and_at_the_start() {
        const NEVER: &str = r#"{"Statement": {"Sid": "Org", "Effect": "Allow", "Action": "*", "Resource": "*",
            "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}}}"#;
        let (directory, world, log) = (tempfile::tempdir().unwrap(), World::new(), Log::default());
        let clock = Arc::new(ManualClock::new(world.now, ServerInstant(1_000_000_000)));
        let (key, random) = (MasterKey::from_bytes([1; 32]), Arc::new(SeededRandom::new(1)));
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(directory.path(), &key, random).unwrap());
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        let _logging = tracing::subscriber::set_default(subscriber.finish());

        let inventory = LiveInventory::load(Arc::clone(&store), clock.clone()).await.unwrap();
        store.create_account(&world.inventory.accounts[&world.account]).await.unwrap();
        store.create_policy(&world.account, &"p".parse().unwrap(), NEVER).await.unwrap();
        inventory.refresh().await.unwrap();
        let told = log.take();
        let expected = "policy p of account 111122223333: statement Org: Condition StringEquals aws:PrincipalOrgID: \
                        requests for ec2-instance-connect:SendSSHPublicKey, ";
        assert!(told.contains(" WARN ") && told.contains(expected), "{told}");
        assert_eq!(told.lines().count(), 1);
        // Something else changes.
        store.set_account_status(&world.account, Status::Suspended).await.unwrap();
        inventory.refresh().await.unwrap();
        assert_eq!(log.take(), "");
        let _at_the_start = LiveInventory::load(store, clock).await.unwrap();
        assert!(log.take().contains(expected));
    }

    /// What the first has been told is already on its way when the second asks, and is done with only after it.
    #[tokio::test]
    async fn an_older_snapshot_never_takes_the_place_of_a_newer_one() {
        let (directory, world) = (tempfile::tempdir().unwrap(), World::new());
        let clock = Arc::new(ManualClock::new(world.now, ServerInstant(1_000_000_000)));
        let (key, random) = (MasterKey::from_bytes([1; 32]), Arc::new(SeededRandom::new(1)));
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(directory.path(), &key, random).unwrap());
        let inventory = LiveInventory::load(Arc::clone(&store), clock).await.unwrap();
        // Requests are answered in their order: what was asked before this is answered after it.
        let answered = || async { drop(store.inventory().await.unwrap()) };
        store.create_account(&world.inventory.accounts[&world.account]).await.unwrap();
        let (mut first, mut second) = (Box::pin(inventory.refresh()), Box::pin(inventory.refresh()));
        let mut first_is_done = (&mut first).now_or_never();
        answered().await;
        first_is_done = first_is_done.or_else(|| (&mut first).now_or_never());
        answered().await;
        store.set_account_status(&world.account, Status::Suspended).await.unwrap();
        let mut second_is_done = None;
        for _ in 0..3 {
            second_is_done = second_is_done.or_else(|| (&mut second).now_or_never());
            answered().await;
        }
        if first_is_done.is_none() {
            first.await.unwrap();
        }
        if second_is_done.is_none() {
            second.await.unwrap();
        }
        let seen = inventory.current().unwrap();
        assert_eq!(seen.sequence, store.sequence().await.unwrap());
        assert_eq!(seen.accounts[&world.account].status, Status::Suspended);
    }
}
