//! What agents say that their machines' SSH host keys are.

use super::Agents;
use crate::new_ids;
use instance_connect_core::audit;
use instance_connect_core::host_key::{HostKeyReport, HostKeys};
use instance_connect_core::link::AgentUrn;
use instance_connect_store::{Entity, StoreError};

/// Takes a report. It is on record before anybody is told those keys; if it cannot be, it is as if it had not come, and the
/// agent's next link repeats it.
pub(super) async fn take(agents: &Agents, identity: &AgentUrn, keys: &HostKeys) -> anyhow::Result<()> {
    let (store, instance) = (agents.inventory.store(), &identity.instance);
    let report = match store.judge_host_keys(instance, identity.generation, keys).await {
        Err(StoreError::NotFound(Entity::Agent)) => return Ok(()),
        judged => judged?,
    };
    if report == HostKeyReport::Known {
        return Ok(());
    }
    match &report {
        HostKeyReport::InUse(other) => tracing::error!(
            %instance, %other,
            "an agent reports the host key of another instance; it is not believed. Make new host keys on one of the two"
        ),
        HostKeyReport::Pending => {
            tracing::warn!(%instance, "an agent reports other host keys than are pinned; clients are not told them");
        }
        HostKeyReport::Known | HostKeyReport::Pinned => tracing::info!(%instance, "host keys are pinned"),
    }
    let (now, event_id) = (agents.links.clock().wall(), new_ids::uuid(agents.random.as_ref()));
    agents.audit.commit(audit::host_key_report(identity, keys, &report, now, &event_id)).await?;
    match store.report_host_keys(instance, identity.generation, keys).await {
        Ok(_) | Err(StoreError::NotFound(Entity::Agent)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// [`take`], where nobody waits for what comes of it.
pub(super) async fn take_or_log(agents: &Agents, identity: &AgentUrn, keys: &HostKeys) {
    if let Err(error) = take(agents, identity, keys).await {
        tracing::error!(error = format!("{error:#}"), instance = %identity.instance, "a report of host keys is lost");
    }
}
