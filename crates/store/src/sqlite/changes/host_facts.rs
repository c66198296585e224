//! What agents say of their machines.

use super::{Done, TERMINATED, exists, raise_sequence};
use crate::sqlite::load;
use crate::{Entity, StoreError};
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::host_facts::{HostFacts, HostFactsReport, ReportedFacts};
use instance_connect_core::ids::InstanceId;
use instance_connect_core::inventory::AgentStanding;
use rusqlite::Transaction;

pub(in crate::sqlite) fn judge(
    tx: &Transaction<'_>,
    instance: &InstanceId,
    generation: u64,
    facts: &HostFacts,
) -> Result<HostFactsReport, StoreError> {
    let standing = load::agent(tx, instance)?.map(|agent| agent.standing(generation));
    if standing != Some(AgentStanding::Good) {
        return Err(StoreError::NotFound(Entity::Agent));
    }
    if exists(tx, TERMINATED, [instance.as_str()])? {
        return Ok(HostFactsReport::Known);
    }
    Ok(facts.judge(said(tx, instance)?.as_ref()))
}

/// Keeps a report, where it says something new: agents repeat themselves with each link, and each write is waited for by all
/// that come after it.
pub(in crate::sqlite) fn report(
    tx: &Transaction<'_>,
    instance: &InstanceId,
    generation: u64,
    facts: &HostFacts,
    now: UnixSeconds,
) -> Result<HostFactsReport, StoreError> {
    let report = judge(tx, instance, generation, facts)?;
    if report == HostFactsReport::Known {
        return Ok(report);
    }
    let before = said(tx, instance)?.map(|before| before.claims());
    put(tx, instance, &ReportedFacts { facts: facts.clone(), reported_at: now })?;
    if before != Some(facts.claims()) {
        raise_sequence(tx)?;
    }
    Ok(report)
}

fn said(tx: &Transaction<'_>, instance: &InstanceId) -> Result<Option<HostFacts>, StoreError> {
    Ok(load::facts::reported(tx, instance)?.map(|reported| reported.facts))
}

/// Forgets what an instance's agent has said.
pub(super) fn forget(tx: &Transaction<'_>, instance: &InstanceId) -> Done {
    tx.prepare_cached("DELETE FROM host_facts WHERE instance = ?1")?.execute([instance.as_str()])?;
    Ok(())
}

fn put(tx: &Transaction<'_>, instance: &InstanceId, reported: &ReportedFacts) -> Done {
    let ReportedFacts { facts, reported_at } = reported;
    let HostFacts { hostname, os_id, os_version, os_name, kernel, architecture, addresses } = facts;
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let statement = "INSERT OR REPLACE INTO host_facts (instance, reported_at, hostname, os_id, os_version,
                                                        os_name, kernel, architecture, addresses)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let row = (
        instance.as_str(),
        reported_at.0,
        hostname.as_str(),
        os_id.as_str(),
        os_version.as_str(),
        os_name.as_str(),
        kernel.as_str(),
        architecture.as_str(),
        addresses.join(" "),
    );
    tx.prepare_cached(statement)?.execute(row)?;
    Ok(())
}
