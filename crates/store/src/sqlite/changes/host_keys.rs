//! Host keys of machines. What a report comes to is decided by [`KnownHostKeys::judge`]; here it is asked and kept.

use super::{Done, INSTANCE, require};
use crate::sqlite::load::{self, damaged};
use crate::{Entity, Refusal, StoreError};
use instance_connect_core::host_key::{HostKeyReport, HostKeys, KnownHostKeys};
use instance_connect_core::ids::{Fingerprint, InstanceId};
use instance_connect_core::inventory::AgentStanding;
use rusqlite::Transaction;
use std::collections::{BTreeMap, BTreeSet};

/// Machines that are gone do not keep others from having their keys: the same machine may come back as another instance.
///
/// A cross join is done in the order in which it stands: it begins with the few that have the key. The planner would begin with
/// all instances of the account, at each report.
const PINNED_ELSEWHERE: &str = "SELECT other.id FROM host_keys
    CROSS JOIN instances AS other ON other.id = host_keys.instance
    CROSS JOIN instances AS own ON own.id = ?2 AND own.account = other.account
    WHERE host_keys.key = ?1 AND host_keys.status = 'pinned' AND other.id <> ?2 AND other.state <> 'terminated'
    ORDER BY other.id";

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
    let in_use = pinned_elsewhere(tx, instance, keys)?.into_keys().next();
    Ok(known.judge(keys, in_use))
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
    take_from: Option<&InstanceId>,
) -> Result<HostKeys, StoreError> {
    require(tx, Entity::Instance, INSTANCE, [instance.as_str()])?;
    let pending = load::known_host_keys(tx, instance)?.pending;
    let found: BTreeSet<Fingerprint> = pending.iter().map(|key| *key.fingerprint()).collect();
    if found.is_empty() || found != *fingerprints {
        return Err(Refusal::OtherHostKeys.into());
    }
    let mut in_use = pinned_elsewhere(tx, instance, &pending)?;
    let taken = match take_from {
        None => HostKeys::new(),
        Some(other) => in_use.remove(other).ok_or_else(|| Refusal::HostKeyNotInUse(other.clone()))?,
    };
    if let Some(other) = in_use.into_keys().next() {
        return Err(Refusal::HostKeyInUse(other).into());
    }
    if let Some(other) = take_from {
        take(tx, other, &taken)?;
    }
    pin(tx, instance, &pending)?;
    Ok(taken)
}

/// Takes pinned keys from an instance. One that is left with nothing has them pending: its next report is not its first, and
/// waits for an administrator.
fn take(tx: &Transaction<'_>, from: &InstanceId, keys: &HostKeys) -> Done {
    let statement = "DELETE FROM host_keys WHERE instance = ?1 AND status = 'pinned' AND key = ?2";
    for key in keys {
        tx.prepare_cached(statement)?.execute((from.as_str(), key.line()))?;
    }
    if load::known_host_keys(tx, from)? == KnownHostKeys::default() {
        insert(tx, from, "pending", keys)?;
    }
    Ok(())
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

/// The other instances of the account that some of the keys are pinned to, each with those.
fn pinned_elsewhere(
    tx: &Transaction<'_>,
    instance: &InstanceId,
    keys: &HostKeys,
) -> Result<BTreeMap<InstanceId, HostKeys>, StoreError> {
    let mut query = tx.prepare_cached(PINNED_ELSEWHERE)?;
    let mut found = BTreeMap::<InstanceId, HostKeys>::new();
    for key in keys {
        for id in query.query_map((key.line(), instance.as_str()), |row| row.get::<_, String>(0))? {
            let id = id?.parse().map_err(|error| damaged("instances.id", error))?;
            found.entry(id).or_default().insert(key.clone());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::PINNED_ELSEWHERE;
    use crate::sqlite::schema::MIGRATIONS;
    use rusqlite::Connection;

    #[test]
    fn a_report_costs_nothing_for_instances_with_other_keys() {
        let connection = Connection::open_in_memory().unwrap();
        MIGRATIONS.iter().for_each(|step| connection.execute_batch(step).unwrap());
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {PINNED_ELSEWHERE}")).unwrap();
        let steps = plan.query_map(["", ""], |row| row.get(3)).unwrap();
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        let begins = steps.first().is_some_and(|step| step.starts_with("SEARCH host_keys USING"));
        let goes_on = steps.iter().skip(1).all(|step| step.contains("(id=?)") || step.contains("ORDER BY"));
        assert!(begins && goes_on, "{steps:?}");
    }
}
