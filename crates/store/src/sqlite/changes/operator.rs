//! What was done with the daemon's own commands, until it is in the audit log.

use super::Done;
use crate::StoreError;
use crate::sqlite::load::damaged;
use instance_connect_core::audit::OperatorAction;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::environment::Random;
use instance_connect_core::inventory::{AccessKey, AnchorChange, AnchorRotation, StockRotation};
use rusqlite::Transaction;
use rustix::process::getuid;

/// Leaves for the audit log what this transaction does.
pub(in crate::sqlite) fn leave(
    tx: &Transaction<'_>,
    action: &OperatorAction,
    now: UnixSeconds,
    random: &dyn Random,
) -> Done {
    let mut id = [0; 16];
    random.fill(&mut id);
    let statement = "INSERT INTO operator_events (id, time, uid, action) VALUES (?1, ?2, ?3, ?4)";
    // Whose files they are does not matter (`owner`), but who is asking.
    tx.execute(statement, (id, now.0, getuid().as_raw(), action.to_json()))?;
    Ok(())
}

/// There is an administrator, who has this key.
pub(in crate::sqlite) fn initialized(
    tx: &Transaction<'_>,
    key: &AccessKey,
) -> Result<OperatorAction, StoreError> {
    let query = "SELECT account, name FROM users WHERE id = ?1";
    let user = tx.query_row(query, [key.user.as_str()], |row| Ok((row.get(0)?, row.get(1)?)));
    let (account_id, user_name) = user.map_err(|error| damaged("the user of an access key", error))?;
    let access_key_id = key.id.to_string();
    Ok(OperatorAction::InitializeControlPlane { account_id, user_name, access_key_id })
}

/// A step of a roll-over was taken.
pub(in crate::sqlite) fn rotated(change: AnchorChange, rotation: AnchorRotation) -> OperatorAction {
    let (anchor, anchor_set) = (rotation.current, rotation.set());
    match change {
        AnchorChange::Begin => OperatorAction::BeginAnchorRotation { anchor, anchor_set },
        AnchorChange::Finish => OperatorAction::FinishAnchorRotation { anchor, anchor_set },
    }
}

/// An operator had the next stock signer take over.
pub(in crate::sqlite) fn stock_signer_rotated(rotation: StockRotation) -> OperatorAction {
    OperatorAction::RotateStockSigner { generation: rotation.current, revoked: rotation.is_revoked }
}

/// They are in the audit log.
pub(in crate::sqlite) fn forget(tx: &Transaction<'_>, ids: &[[u8; 16]]) -> Done {
    for id in ids {
        tx.prepare_cached("DELETE FROM operator_events WHERE id = ?1")?.execute([id])?;
    }
    Ok(())
}
