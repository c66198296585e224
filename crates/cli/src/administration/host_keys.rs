//! Accepting a machine's changed host keys.

use super::calls::Call;
use super::show::{Shown, cell};
use super::whole;
use crate::confirm::confirm;
use crate::failure::{Exit, Failure};
use crate::output;
use instance_connect_client::{Administer, AdministrativeOperation as O, Client};
use instance_connect_core::ids::InstanceId;
use serde_json::{Map, Value};

/// Shows what is pinned and what was reported since, and asks. What is then accepted are the keys that were shown, and no
/// others that the agent has reported meanwhile. From another instance they are taken only if that is named.
pub(super) async fn accept(
    id: &InstanceId,
    take_from: Option<&InstanceId>,
    yes: bool,
    client: &Client,
) -> Result<Call, Failure> {
    let answer = describe(id, client).await?;
    let pending = answer.get("Instances").and_then(|instances| instances.get(0)?.get("PendingHostKeys"));
    let pending = pending.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let fingerprints: Vec<Value> = pending.iter().filter_map(|key| key.get("Fingerprint").cloned()).collect();
    if fingerprints.is_empty() {
        return Err(Failure::new(Exit::Parameter, format!("{id} has no host keys that wait to be accepted")));
    }
    output::asked_about(&format!("accepted: {}", cell(&answer, "Instances.0.HostKeys")));
    output::asked_about(&format!("reported: {}", cell(&answer, "Instances.0.PendingHostKeys")));
    let mut question = format!("Shall {id} be known by what it has reported?");
    let mut done = format!("instance {id} has the new host keys");
    if let Some(other) = take_from {
        let theirs = describe(other, client).await?;
        output::asked_about(&format!("accepted of {other}: {}", cell(&theirs, "Instances.0.HostKeys")));
        question = format!("Shall {id} be known by what it has reported, and {other} by none of it?");
        done = format!("{done}; those of them that {other} had are taken from it");
    }
    if !confirm(&question, yes)? {
        return Err(Failure::new(Exit::General, "nothing is changed"));
    }
    let request = Administer::new(O::AcceptHostKeys)
        .with("InstanceId", id.as_str())
        .with("Fingerprints", fingerprints)
        .with("TakeFrom", take_from.map(InstanceId::as_str));
    Ok(Call { request, shown: Shown::Sentence(done) })
}

/// An instance as administration shows it.
pub(super) async fn describe(id: &InstanceId, client: &Client) -> Result<Map<String, Value>, Failure> {
    whole(client, Administer::new(O::DescribeInstances).with("InstanceIds", vec![id.as_str()])).await
}
