//! The inventory in memory, kept current: requests are answered from it and never wait for the store.

use anyhow::Context as _;
use arc_swap::ArcSwap;
use instance_connect_core::document::ServerInstant;
use instance_connect_core::environment::Clock;
use instance_connect_core::inventory::Inventory;
use instance_connect_store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

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
    confirmed_at: AtomicU64,
    changed: watch::Sender<u64>,
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
            confirmed_at: AtomicU64::new(0),
            changed: watch::Sender::new(0),
        };
        inventory.reload().await.context("cannot load the inventory")?;
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

    /// Loads the snapshot again if the store has changed.
    pub(crate) async fn refresh(&self) -> anyhow::Result<()> {
        let asked_at = self.clock.monotonic();
        let sequence = self.store.sequence().await?;
        if sequence == self.snapshot.load().sequence {
            self.confirmed_at.store(asked_at.0, Ordering::Relaxed);
            return Ok(());
        }
        self.reload().await
    }

    async fn reload(&self) -> anyhow::Result<()> {
        let asked_at = self.clock.monotonic();
        let loaded = self.store.inventory().await?;
        for problem in &loaded.problems {
            tracing::error!(%problem, "part of the inventory could not be used");
        }
        let sequence = loaded.inventory.sequence;
        self.snapshot.store(Arc::new(loaded.inventory));
        self.confirmed_at.store(asked_at.0, Ordering::Relaxed);
        self.changed.send_replace(sequence);
        Ok(())
    }
}
