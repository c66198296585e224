//! What the suite needs from a kind of store.

use async_trait::async_trait;
use instance_connect_core::environment::Random;
use instance_connect_store::{MasterKey, Store, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One database, of some kind, for one test.
#[async_trait]
pub(crate) trait Engine: Sized + Send + Sync {
    /// An empty database.
    async fn new() -> Self;

    /// Opens the database as one more process would.
    async fn open_with(&self, master_key: &MasterKey) -> Result<Arc<dyn Store>, StoreError>;

    /// Runs SQL behind the store's back.
    fn tamper(&self, sql: &str);

    /// Every byte the database keeps.
    fn raw(&self) -> Vec<u8>;

    /// Opens the database with the suite's master key.
    async fn open(&self) -> Arc<dyn Store> {
        self.open_with(&master_key()).await.unwrap()
    }
}

pub(crate) fn master_key() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

/// The suite's source of randomness: the same in each run, never the same twice in one. Only nonces are made with it.
pub(crate) fn random() -> Arc<dyn Random> {
    #[derive(Debug)]
    struct Counting;
    static NEXT: AtomicU64 = AtomicU64::new(1);

    impl Random for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            for chunk in bytes.chunks_mut(8) {
                let next = NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes();
                chunk.copy_from_slice(&next[..chunk.len()]);
            }
        }
    }

    Arc::new(Counting)
}
