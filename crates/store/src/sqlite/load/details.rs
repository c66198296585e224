//! What IAM knows of one account, as it is stored.

use super::{parsed, status, text};
use crate::{AccountDetails, GroupDetails, StoreError, UserDetails};
use instance_connect_core::ids::{AccountId, UserId};
use rusqlite::{Row, Transaction};
use std::collections::{BTreeMap, BTreeSet};

pub(in crate::sqlite) fn account_details(
    tx: &Transaction<'_>,
    account: &AccountId,
) -> Result<AccountDetails, StoreError> {
    let mut details = AccountDetails::default();
    let mut names = BTreeMap::new();
    let users = "SELECT id, name, status, boundary FROM users WHERE account = ?1 AND id <> account";
    each_row_of(tx, account, users, |row| {
        let (id, name): (UserId, _) = (parsed(row, 0, "users.id")?, parsed(row, 1, "users.name")?);
        let boundary: Option<String> = row.get(3)?;
        let user = UserDetails {
            id: id.clone(),
            status: status(row, 2, "users.status")?,
            tags: BTreeMap::new(),
            boundary: boundary.map(|_| parsed(row, 3, "users.boundary")).transpose()?,
            groups: BTreeSet::new(),
            inline: BTreeMap::new(),
            attached: BTreeSet::new(),
        };
        names.insert(id, Clone::clone(&name));
        details.users.insert(name, user);
        Ok(())
    })?;
    each_row_of(tx, account, "SELECT name FROM groups WHERE account = ?1", |row| {
        details.groups.insert(parsed(row, 0, "groups.name")?, GroupDetails::default());
        Ok(())
    })?;
    each_row_of(tx, account, "SELECT name, document FROM policies WHERE account = ?1", |row| {
        details.policies.insert(parsed(row, 0, "policies.name")?, owned(row, 1, "policies.document")?);
        Ok(())
    })?;
    of_users(tx, account, &names, &mut details)?;
    of_groups(tx, account, &mut details)?;
    Ok(details)
}

fn of_users(
    tx: &Transaction<'_>,
    account: &AccountId,
    names: &BTreeMap<UserId, instance_connect_core::ids::UserName>,
    details: &mut AccountDetails,
) -> Result<(), StoreError> {
    let mut each = |query: &str, add: fn(&mut UserDetails, &Row<'_>) -> Result<(), StoreError>| {
        each_row_of(tx, account, query, |row| {
            let id: UserId = parsed(row, 0, "users.id")?;
            match names.get(&id).and_then(|name| details.users.get_mut(name)) {
                Some(user) => add(user, row),
                None => Ok(()),
            }
        })
    };
    each(
        "SELECT user, key, value FROM user_tags JOIN users ON users.id = user WHERE account = ?1",
        |user, row| {
            let (key, value) = (owned(row, 1, "user_tags.key")?, owned(row, 2, "user_tags.value")?);
            user.tags.insert(key, value);
            Ok(())
        },
    )?;
    each(
        "SELECT user, user_policies.name, document FROM user_policies JOIN users ON users.id = user WHERE account = ?1",
        |user, row| {
            let document = owned(row, 2, "user_policies.document")?;
            user.inline.insert(parsed(row, 1, "user_policies.name")?, document);
            Ok(())
        },
    )?;
    each("SELECT user, policy FROM attached_user_policies WHERE account = ?1", |user, row| {
        user.attached.insert(parsed(row, 1, "attached_user_policies.policy")?);
        Ok(())
    })?;
    each("SELECT user, group_name FROM group_members WHERE account = ?1", |user, row| {
        user.groups.insert(parsed(row, 1, "group_members.group_name")?);
        Ok(())
    })
}

fn of_groups(
    tx: &Transaction<'_>,
    account: &AccountId,
    details: &mut AccountDetails,
) -> Result<(), StoreError> {
    let policies = "SELECT group_name, name, document FROM group_policies WHERE account = ?1";
    each_row_of(tx, account, policies, |row| {
        if let Some(group) = details.groups.get_mut(&parsed(row, 0, "group_policies.group_name")?) {
            let document = owned(row, 2, "group_policies.document")?;
            group.inline.insert(parsed(row, 1, "group_policies.name")?, document);
        }
        Ok(())
    })?;
    let attached = "SELECT group_name, policy FROM attached_group_policies WHERE account = ?1";
    each_row_of(tx, account, attached, |row| {
        if let Some(group) = details.groups.get_mut(&parsed(row, 0, "attached_group_policies.group_name")?) {
            group.attached.insert(parsed(row, 1, "attached_group_policies.policy")?);
        }
        Ok(())
    })
}

/// Reads each row of a query about one account.
fn each_row_of(
    tx: &Transaction<'_>,
    account: &AccountId,
    query: &str,
    mut read: impl FnMut(&Row<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached(query)?;
    let mut rows = statement.query([account.as_str()])?;
    while let Some(row) = rows.next()? {
        read(row)?;
    }
    Ok(())
}

fn owned(row: &Row<'_>, index: usize, column: &'static str) -> Result<String, StoreError> {
    text(row, index, column).map(str::to_owned)
}
