//! What agents say of their machines.

use super::Agents;
use crate::new_ids;
use instance_connect_core::audit;
use instance_connect_core::host_facts::{HostAddress, HostFacts, HostFactsReport};
use instance_connect_core::link::AgentUrn;
use instance_connect_store::{Entity, StoreError};

/// Takes a report. Where it says something new of where the machine is, that is on record before anybody is led there; if it
/// cannot be, it is as if it had not come, and the agent's next link repeats it.
pub(super) async fn take(agents: &Agents, identity: &AgentUrn, facts: &HostFacts) -> anyhow::Result<()> {
    let (store, instance) = (agents.inventory.store(), &identity.instance);
    let now = agents.links.clock().wall();
    match store.judge_host_facts(instance, identity.generation, facts).await {
        Ok(HostFactsReport::Known) | Err(StoreError::NotFound(Entity::Agent)) => return Ok(()),
        Ok(HostFactsReport::Kept) => {}
        Ok(HostFactsReport::Recorded) => {
            let addresses: Vec<String> = facts.addresses.iter().map(HostAddress::to_string).collect();
            let (hostname, os) = (facts.hostname.as_str(), facts.os_name.as_str());
            tracing::info!(%instance, hostname, os, ?addresses, "an agent says this of its machine");
            let event_id = new_ids::uuid(agents.random.as_ref());
            agents.audit.commit(audit::host_facts_report(identity, facts, now, &event_id)).await?;
        }
        Err(error) => return Err(error.into()),
    }
    match store.report_host_facts(instance, identity.generation, facts, now).await {
        Ok(_) | Err(StoreError::NotFound(Entity::Agent)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// [`take`], where nobody waits for what comes of it.
pub(super) async fn take_or_log(agents: &Agents, identity: &AgentUrn, facts: &HostFacts) {
    if let Err(error) = take(agents, identity, facts).await {
        tracing::error!(error = format!("{error:#}"), instance = %identity.instance, "a report of host facts is lost");
    }
}
