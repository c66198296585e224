//! What agents say of their machines, as it is stored.

use super::{column, damaged, each_changed, parsed, text};
use crate::StoreError;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::host_facts::{HostAddress, HostClaims, HostFacts, ReportedFacts};
use instance_connect_core::ids::InstanceId;
use instance_connect_core::inventory::Inventory;
use rpds::HashTrieMapSync;
use rusqlite::{Row, Transaction};

/// What one instance's agent says, if it has said anything.
pub(in crate::sqlite) fn reported(
    tx: &Transaction<'_>,
    instance: &InstanceId,
) -> Result<Option<ReportedFacts>, StoreError> {
    let query = "SELECT reported_at, hostname, os_id, os_version, os_name, kernel, architecture, addresses
                 FROM host_facts WHERE instance = ?1";
    let mut statement = tx.prepare_cached(query)?;
    let mut rows = statement.query([instance.as_str()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let facts = HostFacts {
        hostname: parsed(row, 1, "host_facts.hostname")?,
        os_id: parsed(row, 2, "host_facts.os_id")?,
        os_version: parsed(row, 3, "host_facts.os_version")?,
        os_name: parsed(row, 4, "host_facts.os_name")?,
        kernel: parsed(row, 5, "host_facts.kernel")?,
        architecture: parsed(row, 6, "host_facts.architecture")?,
        addresses: addresses(row, 7)?,
    };
    Ok(Some(ReportedFacts { facts, reported_at: UnixSeconds(column(row, 0, "host_facts.reported_at")?) }))
}

/// What the snapshot has of all of them.
pub(super) fn claims(
    tx: &Transaction<'_>,
    known: Option<&Inventory>,
) -> Result<HashTrieMapSync<InstanceId, HostClaims>, StoreError> {
    let mut claims = known.map(|known| known.claims.clone()).unwrap_or_default();
    if known.is_some() {
        // What was said may have been forgotten since.
        each_changed(tx, ["SELECT id FROM instances", "id", ""], known, |row| {
            claims.remove_mut(&parsed::<InstanceId>(row, 0, "instances.id")?);
            Ok(())
        })?;
    }
    let query = "SELECT instance, architecture, addresses FROM host_facts";
    each_changed(tx, [query, "instance", ""], known, |row| {
        let facts = HostFacts {
            architecture: parsed(row, 1, "host_facts.architecture")?,
            addresses: addresses(row, 2)?,
            ..HostFacts::default()
        };
        claims.insert_mut(parsed(row, 0, "host_facts.instance")?, facts.claims());
        Ok(())
    })?;
    Ok(claims)
}

fn addresses(row: &Row<'_>, index: usize) -> Result<Vec<HostAddress>, StoreError> {
    let addresses = text(row, index, "host_facts.addresses")?.split_terminator(' ').map(str::parse);
    addresses.collect::<Result<_, _>>().map_err(|error| damaged("host_facts.addresses", error))
}
