//! What is refused before anything is changed.

use crate::failure::{Exit, Failure};
use crate::inventory::file::Inventory;
use instance_connect_core::ids::{AccountId, GroupName, PolicyName};

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
