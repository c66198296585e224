//! Making what a machine's agent says of its addresses the operator's word.

use super::calls::Call;
use super::host_keys::describe;
use super::show::{Shown, cell};
use crate::confirm::confirm;
use crate::failure::{Exit, Failure};
use crate::output;
use instance_connect_client::{Administer, AdministrativeOperation as O, Client};
use instance_connect_core::ids::InstanceId;
use serde_json::{Map, Value};

const ADDRESSES: [&str; 3] = ["PrivateIpAddress", "PublicIpAddress", "Ipv6Address"];

/// What operators say of an instance: `SetInstanceDetails` says all of it anew.
const DETAILS: [&str; 5] = ["InstanceType", "ImageId", "PrivateIpAddress", "PublicIpAddress", "Ipv6Address"];

/// Shows where the agent says that its machine is, and asks. What is then pinned is what was shown, whatever the agent says
/// meanwhile. What else is pinned stays, so that no agent takes it away by saying less.
pub(super) async fn pin(id: &InstanceId, yes: bool, client: &Client) -> Result<Call, Failure> {
    let answer = describe(id, client).await?;
    let claimed =
        |name: &str| Some(of(&answer).get("HostFacts")?.get(name)?).filter(|claim| !claim.is_null());
    if ADDRESSES.into_iter().all(|name| claimed(name).is_none()) {
        let message = format!("the agent of {id} has said no address of its machine");
        return Err(Failure::new(Exit::Parameter, message)
            .hint("`instance show` has what it says; `instance set-details` takes what you know"));
    }
    for (name, member) in ["private", "public", "IPv6"].into_iter().zip(ADDRESSES) {
        let [pinned, claimed] =
            ["", "HostFacts."].map(|of| cell(&answer, &format!("Instances.0.{of}{member}")));
        output::asked_about(&format!("{name} address: {pinned} is pinned, its agent says {claimed}"));
    }
    if !confirm(&format!("Shall {id} be found where its agent says?"), yes)? {
        return Err(Failure::new(Exit::General, "nothing is changed"));
    }
    // All of it is said anew: what was read before the question must not undo what somebody has said since.
    let current = describe(id, client).await?;
    if DETAILS.into_iter().any(|name| of(&current).get(name) != of(&answer).get(name)) {
        let message = format!("somebody has described {id} anew in the meantime; nothing is changed");
        return Err(Failure::new(Exit::General, message).hint("run it again"));
    }
    let request = Administer::new(O::SetInstanceDetails).with("InstanceId", id.as_str());
    let request = DETAILS.into_iter().fold(request, |request, name| {
        let claim = claimed(name).filter(|_| ADDRESSES.contains(&name));
        request.with(name, claim.or_else(|| of(&answer).get(name)).cloned())
    });
    let done = format!("instance {id} is found there, whatever its agent says from now on");
    Ok(Call { request, shown: Shown::Sentence(done) })
}

/// The instance that was asked about.
fn of(answer: &Map<String, Value>) -> &Value {
    answer.get("Instances").and_then(|instances| instances.get(0)).unwrap_or(&Value::Null)
}
