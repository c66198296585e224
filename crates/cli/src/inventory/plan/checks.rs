//! What is refused before anything is changed.

use crate::failure::{Exit, Failure};
use crate::inventory::file::{Instance, Inventory};
use instance_connect_core::ids::{AccountId, GroupName, InstanceId, PolicyName};
use instance_connect_core::inventory::InstanceState;
use std::collections::BTreeMap;

/// The account that is changed, if it is the file's.
pub(super) fn check_account<'c>(
    current: &'c Inventory,
    wanted: &Inventory,
) -> Result<&'c AccountId, Failure> {
    let unknown = || Failure::new(Exit::General, "the service does not say which account this is");
    let account = current.account.as_ref().ok_or_else(unknown)?;
    match &wanted.account {
        Some(other) if other != account => {
            let message =
                format!("the file is the inventory of account {other}, and your access key is of {account}");
            Err(Failure::new(Exit::Parameter, message)
                .hint("take its line `account` out if it is meant for both"))
        }
        _ => Ok(account),
    }
}

/// Whatever is referred to has to be there when all is done.
pub(super) fn check_references(current: &Inventory, wanted: &Inventory, prune: bool) -> Result<(), Failure> {
    let has_policy = |name: &PolicyName| {
        wanted.policies.contains_key(name) || (!prune && current.policies.contains_key(name))
    };
    let has_group =
        |name: &GroupName| wanted.groups.contains_key(name) || (!prune && current.groups.contains_key(name));
    let of_groups =
        wanted.groups.iter().map(|(name, group)| (format!("group {name}"), &group.attached, None));
    let of_users = wanted
        .users
        .iter()
        .map(|(name, user)| (format!("user {name}"), &user.attached, user.boundary.as_ref()));
    let missing = |owner: &str, what: String| {
        Failure::new(
            Exit::Parameter,
            format!("{owner} refers to {what}, which is neither in the file nor to stay"),
        )
    };
    for (owner, attached, boundary) in of_groups.chain(of_users) {
        if let Some(name) = attached.iter().chain(boundary).find(|name| !has_policy(name)) {
            return Err(missing(&owner, format!("policy {name}")));
        }
    }
    for (name, user) in &wanted.users {
        if let Some(group) = user.groups.iter().find(|group| !has_group(group)) {
            return Err(missing(&format!("user {name}"), format!("group {group}")));
        }
    }
    Ok(())
}

/// Hosts are there when all is done, and are no guests. What is terminated already stays what it is.
pub(super) fn check_hosts(current: &Inventory, wanted: &Inventory, prune: bool) -> Result<(), Failure> {
    let is_terminated = |now: &Instance| now.state == InstanceState::Terminated;
    let stay = current.instances.iter().filter(|(_, now)| !prune || is_terminated(now));
    let then: BTreeMap<&InstanceId, &Instance> = stay.chain(&wanted.instances).collect();
    for (id, instance) in &then {
        let Some(host) = &instance.host else { continue };
        let now = current.instances.get(*id).and_then(|now| now.host.as_ref());
        let why = match then.get(host) {
            _ if host == *id => "which is itself; leave the line out where its own agent answers for it",
            Some(host) if host.host.is_some() => "which is a guest too, and a guest is nobody's host",
            None if wanted.instances.contains_key(*id) => "which is neither in the file nor to stay",
            Some(_) if now != Some(host) && current.instances.get(host).is_some_and(is_terminated) => {
                "which is terminated"
            }
            Some(_) | None => continue,
        };
        return Err(Failure::new(Exit::Parameter, format!("instance {id} has the host {host}, {why}")));
    }
    Ok(())
}
