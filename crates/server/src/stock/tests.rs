use super::*;
use instance_connect_store::{MasterKey, SqliteStore};
use instance_connect_testkit::{SeededRandom, World};
use std::path::Path;

const DAY: u64 = 24 * 60 * 60;

fn settings() -> StockSettings {
    StockSettings {
        domain: "amazonaws.com".parse().unwrap(),
        rotation: Duration::from_secs(30 * DAY),
        overlap: Duration::from_secs(600),
        staple_lifetime: Duration::from_secs(DAY),
    }
}

fn open(directory: &Path) -> SqliteStore {
    let key = MasterKey::from_bytes([1; 32]);
    SqliteStore::open(directory, &key, Arc::new(SeededRandom::new(1))).unwrap()
}

/// Those of [`StockSigners::of_tests`].
pub(super) async fn shared() -> Arc<StockSigners> {
    let (directory, world) = (tempfile::tempdir().unwrap(), World::new());
    let store = open(directory.path());
    Arc::new(StockSigners::load(&store, &world.region, settings(), world.now).await.unwrap())
}
