//! The host keys that the service has pinned for a machine.

use super::route::Route;
use crate::arguments::ServiceOptions;
use crate::failure::Failure;
use crate::output;
use crate::service::{debug, is_aws};
use instance_connect_client::{Administer, AdministrativeOperation, Client, Error};
use instance_connect_core::host_key::{HostKey, HostKeys};
use instance_connect_core::printable::printable;
use serde_json::{Map, Value};

/// What the service says of a machine's host keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It was not asked.
    NotAsked,
    /// These are to be trusted.
    Pinned,
    /// None are, and what the machine reports waits to be accepted: it was not the first, or another instance has one of the keys.
    Waiting,
    /// None are, and none wait.
    Nothing,
    /// It does not say.
    Refused(String),
}

impl Told {
    /// What to do, where ssh does not believe the machine.
    pub(super) fn hint(&self, route: &Route) -> Option<String> {
        let instance = &route.instance;
        let own = "or name a file with the machine's own in --known-hosts";
        let text = match self {
            Self::NotAsked => return None,
            Self::Pinned => {
                format!(
                    "if ssh refuses the host key: it is not one that the service has accepted; {}",
                    advice(route)
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

/// Asks the service by which keys the machine proves itself, unless the caller has said where they are. A service that does
/// not tell, as AWS's, leaves that to the caller's own known hosts: no key is trusted unseen either way.
pub(super) async fn ask(
    service: &ServiceOptions,
    client: &Client,
    route: &mut Route,
) -> Result<Told, Failure> {
    if route.known_hosts.is_some() || is_aws(client) {
        return Ok(Told::NotAsked);
    }
    let request = Administer::new(AdministrativeOperation::GetHostKeys)
        .with("InstanceId", route.instance.as_str())
        .with("InstanceOSUser", route.user.as_str());
    let answer = match client.administer(&request).await {
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
            "{} reports other host keys than are accepted; {}",
            route.instance,
            advice(route)
        ));
    }
    let lines = keys.iter().map(|key| format!("{} {key}\n", route.instance));
    route.known_hosts = Some(lines.collect());
    route.by_instance_id = true;
    Ok(Told::Pinned)
}

/// What to do where a machine proves itself by another key than the service told.
fn advice(route: &Route) -> String {
    format!(
        "if they were changed on purpose, an administrator accepts them: instance-connect instance set {} --accept-host-keys",
        route.instance
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
