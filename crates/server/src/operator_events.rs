//! What was done with this program's own commands (`init`, `rotate-anchor`, `rotate-stock-signer`, `rotate-master-key`)
//! comes into the audit log.
//!
//! A command leaves it in the store, since it cannot write to the log: the control plane that runs beside it does. That one
//! takes it from there at its start and whenever the store changes.

use crate::audit_log::AuditLog;
use crate::inventory::LiveInventory;
use crate::new_ids;
use instance_connect_core::ids::Region;
use instance_connect_kill_point::kill_point;
use instance_connect_store::Store;
use std::time::Duration;

/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// Records everything that is left. It is forgotten once it is on disk: whatever is interrupted in between is recorded
/// twice, with the same `eventID`, and nothing is lost.
///
/// # Errors
/// The store does not answer, or the log cannot be written.
pub(crate) async fn record(store: &dyn Store, audit: &AuditLog, region: &Region) -> anyhow::Result<()> {
    loop {
        let events = store.operator_events().await?;
        if events.is_empty() {
            return Ok(());
        }
        for event in &events {
            audit.commit(event.line(region, &new_ids::uuid_of(event.id))).await?;
        }
        kill_point("operator-events-recorded");
        store.forget_operator_events(&events).await?;
    }
}

/// Records what is left from now on, until the process ends.
pub(crate) async fn follow(inventory: &LiveInventory, audit: &AuditLog, region: &Region) {
    let mut changes = inventory.changes();
    loop {
        if let Err(error) = record(inventory.store(), audit, region).await {
            tracing::error!(error = format!("{error:#}"), "what a command has done cannot be recorded yet");
            tokio::time::sleep(AGAIN).await;
        } else if changes.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit_log::AuditSettings;
    use crate::new_ids;
    use instance_connect_core::document::ServerInstant;
    use instance_connect_core::inventory::{AnchorChange, StockChange};
    use instance_connect_store::{MasterKey, SqliteStore};
    use instance_connect_testkit::{ManualClock, SeededRandom, World};
    use serde_json::{Value, json};
    use std::sync::Arc;

    #[tokio::test]
    async fn what_commands_do_is_on_record_once() {
        let (directory, world) = (tempfile::tempdir().unwrap(), World::new());
        let random = Arc::new(SeededRandom::new(1));
        let store: Arc<dyn Store> = Arc::new(
            SqliteStore::open(
                &directory.path().join("data"),
                &MasterKey::from_bytes([1; 32]),
                random.clone(),
            )
            .unwrap(),
        );
        let clock = Arc::new(ManualClock::new(world.now, ServerInstant(1_000_000_000)));
        let path = directory.path().join("audit.log");
        let settings = AuditSettings { path: path.clone(), max_bytes: crate::audit_log::FileSize::default() };
        let audit = AuditLog::open(&settings, clock, random.as_ref()).unwrap();
        let region = "eu-central-1".parse().unwrap();
        let lines = || -> Vec<Value> {
            let text = std::fs::read_to_string(&path).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };

        record(store.as_ref(), &audit, &region).await.unwrap();
        assert_eq!(lines(), Vec::<Value>::new());
        store.create_account(&world.inventory.accounts[&world.account]).await.unwrap();
        let user = new_ids::user_id(random.as_ref()).unwrap();
        store.create_user(&user, &world.account, &"ann".parse().unwrap()).await.unwrap();
        let (key, _) = new_ids::access_key(random.as_ref(), user).unwrap();
        store.create_first_access_key(&key, world.now).await.unwrap();
        store.change_anchors(AnchorChange::Begin, world.now).await.unwrap();
        store.change_anchors(AnchorChange::Finish, world.now).await.unwrap();
        store.change_stock_signer(0, StockChange::Due, world.now).await.unwrap();
        let order = StockChange::Ordered { revokes: true };
        store.change_stock_signer(1, order, world.now).await.unwrap();
        for _ in 0..2 {
            record(store.as_ref(), &audit, &region).await.unwrap();
        }
        let told: Vec<_> = lines()
            .into_iter()
            .map(|line| (line["eventName"].clone(), line["responseElements"].clone()))
            .collect();
        let initialized =
            json!({ "accountId": world.account.as_str(), "userName": "ann", "accessKeyId": key.id.as_str() });
        assert_eq!(
            told,
            [
                (json!("InitializeControlPlane"), initialized),
                (json!("BeginAnchorRotation"), json!({ "anchor": 1, "anchorSet": 2 })),
                (json!("FinishAnchorRotation"), json!({ "anchor": 2, "anchorSet": 3 })),
                (json!("RotateStockSigner"), json!({ "generation": 2, "revoked": true })),
            ]
        );
        let line = &lines()[0];
        let uid = rustix::process::getuid().as_raw().to_string();
        assert_eq!(line["userIdentity"], json!({ "type": "InstanceConnectOperator", "principalId": uid }));
        assert_eq!(line["eventType"], "InstanceConnectEvent");
    }

    /// Where the log cannot be written nothing is forgotten.
    #[tokio::test]
    async fn what_is_not_on_record_stays_in_the_store() {
        let (directory, world) = (tempfile::tempdir().unwrap(), World::new());
        let clock = Arc::new(ManualClock::new(world.now, ServerInstant(1_000_000_000)));
        let (key, random) = (MasterKey::from_bytes([1; 32]), Arc::new(SeededRandom::new(1)));
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(directory.path(), &key, random).unwrap());
        store.change_anchors(AnchorChange::Begin, world.now).await.unwrap();
        let audit = AuditLog::on_a_full_disk(clock);
        record(store.as_ref(), &audit, &"eu-central-1".parse().unwrap()).await.unwrap_err();
        assert_eq!(store.operator_events().await.unwrap().len(), 1);
    }
}
