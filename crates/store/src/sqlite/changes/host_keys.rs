//! Host keys of machines. What a report comes to is decided by [`KnownHostKeys::judge`]; here it is asked and kept.

use super::{Done, INSTANCE, require};
use crate::sqlite::load::{self, damaged};
use crate::{Entity, Refusal, StoreError};
use instance_connect_core::host_key::{HostKeyReport, HostKeys};
use instance_connect_core::ids::{Fingerprint, InstanceId};
use instance_connect_core::inventory::AgentStanding;
use rusqlite::{OptionalExtension, Transaction};
use std::collections::BTreeSet;

/// Machines that are gone do not keep others from having their keys: the same machine may come back as another instance.
const PINNED_ELSEWHERE: &str = "SELECT other.id FROM host_keys
    JOIN instances AS other ON other.id = host_keys.instance
    JOIN instances AS own ON own.id = ?2 AND own.account = other.account
    WHERE host_keys.key = ?1 AND host_keys.status = 'pinned' AND other.id <> ?2 AND other.state <> 'terminated'
    ORDER BY other.id LIMIT 1";

pub(in crate::sqlite) fn judge(
    tx: &Transaction<'_>,
    instance: &InstanceId,
    generation: u64,
    keys: &HostKeys,
) -> Result<HostKeyReport, StoreError> {
    let standing = load::agent(tx, instance)?.map(|agent| agent.standing(generation));
    if standing != Some(AgentStanding::Good) {
        return Err(StoreError::NotFound(Entity::Agent));
    }
    let known = load::known_host_keys(tx, instance)?;
    Ok(known.judge(keys, in_use(tx, instance, keys)?))
}

pub(in crate::sqlite) fn report(
    tx: &Transaction<'_>,
    instance: &InstanceId,
    generation: u64,
    keys: &HostKeys,
) -> Result<HostKeyReport, StoreError> {
    let report = judge(tx, instance, generation, keys)?;
    match &report {
        HostKeyReport::Known => {}
        HostKeyReport::Pinned => pin(tx, instance, keys)?,
        HostKeyReport::Pending | HostKeyReport::InUse(_) => {
            delete(tx, instance, "pending")?;
            insert(tx, instance, "pending", keys)?;
        }
    }
    Ok(report)
}

pub(in crate::sqlite) fn accept(
    tx: &Transaction<'_>,
    instance: &InstanceId,
    fingerprints: &BTreeSet<Fingerprint>,
) -> Done {
    require(tx, Entity::Instance, INSTANCE, [instance.as_str()])?;
    let pending = load::known_host_keys(tx, instance)?.pending;
    let found: BTreeSet<Fingerprint> = pending.iter().map(|key| *key.fingerprint()).collect();
    if found.is_empty() || found != *fingerprints {
        return Err(Refusal::OtherHostKeys.into());
    }
    if let Some(other) = in_use(tx, instance, &pending)? {
        return Err(Refusal::HostKeyInUse(other).into());
    }
    pin(tx, instance, &pending)
}

/// Makes these the pinned keys, and leaves none to accept.
fn pin(tx: &Transaction<'_>, instance: &InstanceId, keys: &HostKeys) -> Done {
    delete(tx, instance, "pinned")?;
    delete(tx, instance, "pending")?;
    insert(tx, instance, "pinned", keys)
}

fn delete(tx: &Transaction<'_>, instance: &InstanceId, status: &str) -> Done {
    let statement = "DELETE FROM host_keys WHERE instance = ?1 AND status = ?2";
    tx.prepare_cached(statement)?.execute((instance.as_str(), status))?;
    Ok(())
}

fn insert(tx: &Transaction<'_>, instance: &InstanceId, status: &str, keys: &HostKeys) -> Done {
    let mut statement =
        tx.prepare_cached("INSERT INTO host_keys (instance, status, key) VALUES (?1, ?2, ?3)")?;
    for key in keys {
        statement.execute((instance.as_str(), status, key.line()))?;
    }
    Ok(())
}

/// Another instance of the account that one of the keys is pinned to.
fn in_use(
    tx: &Transaction<'_>,
    instance: &InstanceId,
    keys: &HostKeys,
) -> Result<Option<InstanceId>, StoreError> {
    let mut query = tx.prepare_cached(PINNED_ELSEWHERE)?;
    for key in keys {
        let found: Option<String> =
            query.query_row((key.line(), instance.as_str()), |row| row.get(0)).optional()?;
        if let Some(found) = found {
            return found.parse().map(Some).map_err(|error| damaged("instances.id", error));
        }
    }
    Ok(None)
}
