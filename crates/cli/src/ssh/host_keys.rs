//! The host keys that the service has pinned for a machine.

use crate::arguments::ServiceOptions;
use crate::failure::Failure;
use crate::service::{debug, is_aws};
use crate::{output, progress};
use instance_connect_client::{Administer, AdministrativeOperation, Client, Error};
use instance_connect_core::host_key::{HostKey, HostKeys};
use instance_connect_core::ids::{InstanceId, OsUser};
use instance_connect_core::printable::printable;
use serde_json::{Map, Value};

/// What the service says of a machine's host keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It was not asked.
    NotAsked,
    /// These are to be trusted.
    Pinned(HostKeys),
    /// None are, and what the machine reports waits to be accepted: it was not the first, or another instance has one of the keys.
    Waiting,
    /// None are, and none wait.
    Nothing,
    /// It does not say.
    Refused(String),
}

impl Told {
    /// The keys that are to be trusted.
    pub(super) fn keys(&self) -> Option<&HostKeys> {
        if let Self::Pinned(keys) = self { Some(keys) } else { None }
    }

    /// What to do, where ssh does not believe the machine. `own` is how the caller trusts a key without the service.
    pub(super) fn hint(&self, instance: &InstanceId, own: &str) -> Option<String> {
        let text = match self {
            Self::NotAsked => return None,
            Self::Pinned(_) => {
                format!(
                    "if ssh refuses the host key: it is not one that the service has accepted; {}",
                    advice(instance)
                )
            }
            Self::Waiting => format!(
                "if ssh knows no host key: the service tells none of {instance}: what the machine reports waits for acceptance, as where \
                 a host key is in use by another instance (two machines made from one image share host keys: then remove \
                 /etc/ssh/ssh_host_* on one of them, run ssh-keygen -A, and restart sshd and the agent). An administrator accepts what \
                 waits: instance-connect instance set {instance} --accept-host-keys; {own}"
            ),
            Self::Nothing => format!(
                "if ssh knows no host key: the service has no host key on record for {instance}: its agent reports them when it enrols and \
                 with each link, from /etc/ssh/ssh_host_*_key.pub; {own}"
            ),
            Self::Refused(reason) => format!(
                "if ssh knows no host key: the service does not tell those of {instance} ({}); {own}",
                printable(reason)
            ),
        };
        Some(text)
    }
}

/// Asks the service by which keys the machine proves itself. A service that does
/// not tell, as AWS's, leaves that to the caller's own known hosts: no key is trusted unseen either way.
pub(super) async fn ask(
    service: &ServiceOptions,
    client: &Client,
    instance: &InstanceId,
    user: &OsUser,
) -> Result<Told, Failure> {
    if is_aws(client) {
        return Ok(Told::NotAsked);
    }
    let request = Administer::new(AdministrativeOperation::GetHostKeys)
        .with("InstanceId", instance.as_str())
        .with("InstanceOSUser", user.as_str());
    let answer = match progress::step("the host keys of the instance", client.administer(&request)).await {
        Ok(answer) => answer,
        Err(
            error @ (Error::Transport { .. }
            | Error::Tls { .. }
            | Error::Timeout { .. }
            | Error::Credentials(_)
            | Error::Configuration(_)),
        ) => return Err(error.into()),
        Err(error) => {
            debug(service, || {
                format!("the service tells no host keys, so your own known hosts count: {error}")
            });
            return Ok(Told::Refused(error.to_string()));
        }
    };
    let keys = keys(&answer);
    let is_change_pending = answer.get("IsChangePending").and_then(Value::as_bool) == Some(true);
    if keys.is_empty() {
        debug(service, || "no host keys are pinned for this instance, so your own known hosts count");
        return Ok(if is_change_pending { Told::Waiting } else { Told::Nothing });
    }
    if is_change_pending {
        output::warning(&format!(
            "{instance} reports other host keys than are accepted; {}",
            advice(instance)
        ));
    }
    Ok(Told::Pinned(keys))
}

/// What to do where a machine proves itself by another key than the service told.
fn advice(instance: &InstanceId) -> String {
    format!(
        "if they were changed on purpose, an administrator accepts them: instance-connect instance set {instance} --accept-host-keys"
    )
}

/// Each is read as a key and printed anew, so that no answer writes lines of its own into the file.
fn keys(answer: &Map<String, Value>) -> HostKeys {
    let keys = answer.get("HostKeys").and_then(Value::as_array).into_iter().flatten();
    let lines = keys.filter_map(|key| key.get("PublicKey").and_then(Value::as_str));
    lines.filter_map(|line| line.parse::<HostKey>().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_keys_become_lines() {
        const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp";
        let evil = format!("{KEY}\n* {KEY}");
        let answer = json!({ "HostKeys": [
            { "PublicKey": format!("{KEY} comment") }, { "PublicKey": evil }, { "PublicKey": format!("@cert-authority * {KEY}") },
            { "PublicKey": 1 }, "x",
        ]});
        let found = keys(answer.as_object().unwrap());
        assert_eq!(found.iter().map(HostKey::line).collect::<Vec<_>>(), [KEY]);
        assert!(keys(json!({ "HostKeys": {} }).as_object().unwrap()).is_empty());
    }
}
