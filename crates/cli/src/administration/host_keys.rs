//! Accepting a machine's changed host keys.

use super::calls::Call;
use super::show::{Shown, cell};
use super::whole;
use crate::confirm::confirm;
use crate::failure::{Exit, Failure};
use crate::output;
use instance_connect_client::{Administer, AdministrativeOperation as O, Client};
use instance_connect_core::ids::InstanceId;
use serde_json::Value;

/// Shows what is pinned and what was reported since, and asks. What is then accepted are the keys that were shown, and no
/// others that the agent has reported meanwhile.
pub(super) async fn accept(id: &InstanceId, yes: bool, client: &Client) -> Result<Call, Failure> {
    let request = Administer::new(O::DescribeInstances).with("InstanceIds", vec![id.as_str()]);
    let answer = whole(client, request).await?;
    let pending = answer.get("Instances").and_then(|instances| instances.get(0)?.get("PendingHostKeys"));
    let pending = pending.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let fingerprints: Vec<Value> = pending.iter().filter_map(|key| key.get("Fingerprint").cloned()).collect();
    if fingerprints.is_empty() {
        return Err(Failure::new(Exit::Parameter, format!("{id} has no host keys that wait to be accepted")));
    }
    output::result(&format!("accepted: {}", cell(&answer, "Instances.0.HostKeys")));
    output::result(&format!("reported: {}", cell(&answer, "Instances.0.PendingHostKeys")));
    if !confirm(&format!("Shall {id} be known by what it has reported?"), yes)? {
        return Err(Failure::new(Exit::General, "nothing is changed"));
    }
    let request =
        Administer::new(O::AcceptHostKeys).with("InstanceId", id.as_str()).with("Fingerprints", fingerprints);
    Ok(Call { request, shown: Shown::Sentence(format!("instance {id} has the new host keys")) })
}
