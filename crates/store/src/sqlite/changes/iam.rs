//! Users, groups and policies.
//!
//! What refers to a group or a managed policy spells it as the group or policy itself does, so that texts compare.

use super::{ACCOUNT, Done, USER, absent, at_most, exists, insert_tags, require, status_name, update};
use crate::limits::{ATTACHED_POLICIES, GROUP_POLICIES, GROUPS_PER_USER, USER_POLICIES};
use crate::{Entity, PolicyName, Refusal, StoreError};
use instance_connect_core::iam::Policy;
use instance_connect_core::ids::{AccountId, GroupName, UserId, UserName};
use instance_connect_core::inventory::Status;
use rusqlite::{OptionalExtension, Params, Transaction};
use std::collections::BTreeMap;

const USER_NAME: &str = "SELECT 1 FROM users WHERE account = ?1 AND name = ?2";
const GROUP: &str = "SELECT 1 FROM groups WHERE account = ?1 AND name = ?2";
const GROUP_IN_ANY_CASE: &str = "SELECT 1 FROM groups WHERE account = ?1 AND name = ?2 COLLATE NOCASE";
const POLICY: &str = "SELECT 1 FROM policies WHERE account = ?1 AND name = ?2";
const POLICY_IN_ANY_CASE: &str = "SELECT 1 FROM policies WHERE account = ?1 AND name = ?2 COLLATE NOCASE";
const GROUP_IN_USE: &str = "SELECT 1 FROM group_members WHERE account = ?1 AND group_name = ?2
    UNION ALL SELECT 1 FROM group_policies WHERE account = ?1 AND group_name = ?2
    UNION ALL SELECT 1 FROM attached_group_policies WHERE account = ?1 AND group_name = ?2";
const POLICY_IN_USE: &str = "SELECT 1 FROM attached_user_policies WHERE account = ?1 AND policy = ?2
    UNION ALL SELECT 1 FROM attached_group_policies WHERE account = ?1 AND policy = ?2
    UNION ALL SELECT 1 FROM users WHERE account = ?1 AND boundary = ?2";

pub(in crate::sqlite) fn create_user(
    tx: &Transaction<'_>,
    user: &UserId,
    account: &AccountId,
    name: &UserName,
) -> Done {
    require(tx, Entity::Account, ACCOUNT, [account.as_str()])?;
    absent(tx, Entity::User, USER, [user.as_str()])?;
    absent(tx, Entity::UserName, USER_NAME, [account.as_str(), name.as_str()])?;
    let row = (user.as_str(), account.as_str(), name.as_str(), status_name(Status::Active));
    tx.execute("INSERT INTO users (id, account, name, status) VALUES (?1, ?2, ?3, ?4)", row)?;
    Ok(())
}

pub(in crate::sqlite) fn create_root(tx: &Transaction<'_>, account: &AccountId) -> Done {
    require(tx, Entity::Account, ACCOUNT, [account.as_str()])?;
    let root = UserId::root(account);
    absent(tx, Entity::User, USER, [root.as_str()])?;
    let row = (root.as_str(), account.as_str(), status_name(Status::Active));
    tx.execute("INSERT INTO users (id, account, status) VALUES (?1, ?2, ?3)", row)?;
    Ok(())
}

pub(in crate::sqlite) fn set_user_status(tx: &Transaction<'_>, user: &UserId, status: Status) -> Done {
    let row = (user.as_str(), status_name(status));
    update(tx, Entity::User, "UPDATE users SET status = ?2 WHERE id = ?1", row)
}

pub(in crate::sqlite) fn put_user_tags(
    tx: &Transaction<'_>,
    user: &UserId,
    tags: &BTreeMap<String, String>,
) -> Done {
    require(tx, Entity::User, USER, [user.as_str()])?;
    tx.execute("DELETE FROM user_tags WHERE user = ?1", [user.as_str()])?;
    insert_tags(tx, "INSERT INTO user_tags (user, key, value) VALUES (?1, ?2, ?3)", user.as_str(), tags)
}

pub(in crate::sqlite) fn put_user_policy(
    tx: &Transaction<'_>,
    user: &UserId,
    name: &PolicyName,
    document: &str,
) -> Done {
    require(tx, Entity::User, USER, [user.as_str()])?;
    let statement = "INSERT INTO user_policies (user, name, document) VALUES (?1, ?2, ?3)
                     ON CONFLICT (user, name) DO UPDATE SET document = excluded.document";
    tx.execute(statement, (user.as_str(), name.as_str(), document))?;
    let documents = "SELECT document FROM user_policies WHERE user = ?1";
    at_most_together(tx, USER_POLICIES, documents, [user.as_str()])
}

pub(in crate::sqlite) fn delete_user_policy(tx: &Transaction<'_>, user: &UserId, name: &PolicyName) -> Done {
    require(tx, Entity::User, USER, [user.as_str()])?;
    let row = (user.as_str(), name.as_str());
    update(tx, Entity::Policy, "DELETE FROM user_policies WHERE user = ?1 AND name = ?2", row)
}

pub(in crate::sqlite) fn attach_user_policy(
    tx: &Transaction<'_>,
    user: &UserId,
    policy: &PolicyName,
) -> Done {
    let account = account_of(tx, user)?;
    require(tx, Entity::Policy, POLICY, [account.as_str(), policy.as_str()])?;
    let statement = "INSERT INTO attached_user_policies (account, user, policy) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO NOTHING";
    tx.execute(statement, [account.as_str(), user.as_str(), policy.as_str()])?;
    let attached = "SELECT count(*) FROM attached_user_policies WHERE user = ?1";
    at_most(tx, ATTACHED_POLICIES, Refusal::TooManyPolicies, attached, [user.as_str()])
}

pub(in crate::sqlite) fn detach_user_policy(
    tx: &Transaction<'_>,
    user: &UserId,
    policy: &PolicyName,
) -> Done {
    require(tx, Entity::User, USER, [user.as_str()])?;
    let statement = "DELETE FROM attached_user_policies WHERE user = ?1 AND policy = ?2";
    update(tx, Entity::Attachment, statement, [user.as_str(), policy.as_str()])
}

pub(in crate::sqlite) fn put_user_permissions_boundary(
    tx: &Transaction<'_>,
    user: &UserId,
    policy: &PolicyName,
) -> Done {
    let account = account_of(tx, user)?;
    require(tx, Entity::Policy, POLICY, [account.as_str(), policy.as_str()])?;
    tx.execute("UPDATE users SET boundary = ?2 WHERE id = ?1", [user.as_str(), policy.as_str()])?;
    Ok(())
}

pub(in crate::sqlite) fn delete_user_permissions_boundary(tx: &Transaction<'_>, user: &UserId) -> Done {
    require(tx, Entity::User, USER, [user.as_str()])?;
    let statement = "UPDATE users SET boundary = NULL WHERE id = ?1 AND boundary IS NOT NULL";
    update(tx, Entity::PermissionsBoundary, statement, [user.as_str()])
}

pub(in crate::sqlite) fn create_group(tx: &Transaction<'_>, account: &AccountId, group: &GroupName) -> Done {
    require(tx, Entity::Account, ACCOUNT, [account.as_str()])?;
    absent(tx, Entity::Group, GROUP_IN_ANY_CASE, [account.as_str(), group.as_str()])?;
    tx.execute("INSERT INTO groups (account, name) VALUES (?1, ?2)", [account.as_str(), group.as_str()])?;
    Ok(())
}

pub(in crate::sqlite) fn delete_group(tx: &Transaction<'_>, account: &AccountId, group: &GroupName) -> Done {
    let row = [account.as_str(), group.as_str()];
    unused(tx, Entity::Group, GROUP_IN_USE, row)?;
    update(tx, Entity::Group, "DELETE FROM groups WHERE account = ?1 AND name = ?2", row)
}

pub(in crate::sqlite) fn add_user_to_group(tx: &Transaction<'_>, user: &UserId, group: &GroupName) -> Done {
    let account = account_of(tx, user)?;
    require(tx, Entity::Group, GROUP, [account.as_str(), group.as_str()])?;
    let statement = "INSERT INTO group_members (account, group_name, user) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO NOTHING";
    tx.execute(statement, [account.as_str(), group.as_str(), user.as_str()])?;
    let groups = "SELECT count(*) FROM group_members WHERE user = ?1";
    at_most(tx, GROUPS_PER_USER, Refusal::TooManyGroups, groups, [user.as_str()])
}

pub(in crate::sqlite) fn remove_user_from_group(
    tx: &Transaction<'_>,
    user: &UserId,
    group: &GroupName,
) -> Done {
    require(tx, Entity::User, USER, [user.as_str()])?;
    let statement = "DELETE FROM group_members WHERE user = ?1 AND group_name = ?2";
    update(tx, Entity::Membership, statement, [user.as_str(), group.as_str()])
}

pub(in crate::sqlite) fn put_group_policy(
    tx: &Transaction<'_>,
    account: &AccountId,
    group: &GroupName,
    name: &PolicyName,
    document: &str,
) -> Done {
    require(tx, Entity::Group, GROUP, [account.as_str(), group.as_str()])?;
    let statement = "INSERT INTO group_policies (account, group_name, name, document) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (account, group_name, name) DO UPDATE SET document = excluded.document";
    tx.execute(statement, [account.as_str(), group.as_str(), name.as_str(), document])?;
    let documents = "SELECT document FROM group_policies WHERE account = ?1 AND group_name = ?2";
    at_most_together(tx, GROUP_POLICIES, documents, [account.as_str(), group.as_str()])
}

pub(in crate::sqlite) fn delete_group_policy(
    tx: &Transaction<'_>,
    account: &AccountId,
    group: &GroupName,
    name: &PolicyName,
) -> Done {
    require(tx, Entity::Group, GROUP, [account.as_str(), group.as_str()])?;
    let statement = "DELETE FROM group_policies WHERE account = ?1 AND group_name = ?2 AND name = ?3";
    update(tx, Entity::Policy, statement, [account.as_str(), group.as_str(), name.as_str()])
}

pub(in crate::sqlite) fn attach_group_policy(
    tx: &Transaction<'_>,
    account: &AccountId,
    group: &GroupName,
    policy: &PolicyName,
) -> Done {
    require(tx, Entity::Group, GROUP, [account.as_str(), group.as_str()])?;
    require(tx, Entity::Policy, POLICY, [account.as_str(), policy.as_str()])?;
    let statement = "INSERT INTO attached_group_policies (account, group_name, policy) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO NOTHING";
    tx.execute(statement, [account.as_str(), group.as_str(), policy.as_str()])?;
    let attached = "SELECT count(*) FROM attached_group_policies WHERE account = ?1 AND group_name = ?2";
    let row = [account.as_str(), group.as_str()];
    at_most(tx, ATTACHED_POLICIES, Refusal::TooManyPolicies, attached, row)
}

pub(in crate::sqlite) fn detach_group_policy(
    tx: &Transaction<'_>,
    account: &AccountId,
    group: &GroupName,
    policy: &PolicyName,
) -> Done {
    require(tx, Entity::Group, GROUP, [account.as_str(), group.as_str()])?;
    let statement =
        "DELETE FROM attached_group_policies WHERE account = ?1 AND group_name = ?2 AND policy = ?3";
    update(tx, Entity::Attachment, statement, [account.as_str(), group.as_str(), policy.as_str()])
}

pub(in crate::sqlite) fn create_policy(
    tx: &Transaction<'_>,
    account: &AccountId,
    policy: &PolicyName,
    document: &str,
) -> Done {
    require(tx, Entity::Account, ACCOUNT, [account.as_str()])?;
    absent(tx, Entity::Policy, POLICY_IN_ANY_CASE, [account.as_str(), policy.as_str()])?;
    let row = [account.as_str(), policy.as_str(), document];
    tx.execute("INSERT INTO policies (account, name, document) VALUES (?1, ?2, ?3)", row)?;
    Ok(())
}

pub(in crate::sqlite) fn set_policy_document(
    tx: &Transaction<'_>,
    account: &AccountId,
    policy: &PolicyName,
    document: &str,
) -> Done {
    let statement = "UPDATE policies SET document = ?3 WHERE account = ?1 AND name = ?2";
    update(tx, Entity::Policy, statement, [account.as_str(), policy.as_str(), document])
}

pub(in crate::sqlite) fn delete_policy(
    tx: &Transaction<'_>,
    account: &AccountId,
    policy: &PolicyName,
) -> Done {
    let row = [account.as_str(), policy.as_str()];
    unused(tx, Entity::Policy, POLICY_IN_USE, row)?;
    update(tx, Entity::Policy, "DELETE FROM policies WHERE account = ?1 AND name = ?2", row)
}

/// The account of a user: its groups and managed policies are that account's and no other's.
fn account_of(tx: &Transaction<'_>, user: &UserId) -> Result<String, StoreError> {
    let query = "SELECT account FROM users WHERE id = ?1";
    let account = tx.query_row(query, [user.as_str()], |row| row.get(0)).optional()?;
    account.ok_or(StoreError::NotFound(Entity::User))
}

fn unused(tx: &Transaction<'_>, entity: Entity, query: &str, key: impl Params) -> Done {
    if exists(tx, query, key)? { Err(StoreError::DeleteConflict(entity)) } else { Ok(()) }
}

/// Refuses the inline policy that was just put where its owner's are too long with it, as [`at_most`] does.
fn at_most_together(tx: &Transaction<'_>, limit: usize, documents: &str, owner: impl Params) -> Done {
    let mut documents = tx.prepare_cached(documents)?;
    let mut counted = 0;
    for document in documents.query_map(owner, |row| row.get::<_, String>(0))? {
        counted += Policy::counted_characters(&document?);
    }
    if counted > limit { Err(Refusal::InlinePoliciesTooLong.into()) } else { Ok(()) }
}
