//! Users, each with every policy that bears on it.

use super::{column, damaged, each_row, parsed, status, text};
use crate::{PolicyFault, PolicyName, PolicyOwner, PolicyWarning, Problem, StoreError};
use instance_connect_core::iam::{Policy, PolicyError};
use instance_connect_core::ids::{AccountId, GroupName, UserId};
use instance_connect_core::inventory::{Status, User, UserKind};
use instance_connect_planted::planted;
use rusqlite::{Row, Transaction};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter;
use std::sync::Arc;

pub(super) fn users(
    tx: &Transaction<'_>,
    problems: &mut Vec<Problem>,
    warnings: &mut BTreeSet<PolicyWarning>,
) -> Result<HashMap<UserId, Arc<User>>, StoreError> {
    let mut policies = Policies::load(tx)?;
    let query = "SELECT user, key, value FROM user_tags";
    let mut tags: HashMap<UserId, BTreeMap<String, String>> = HashMap::new();
    each_row::<(), ()>(tx, query, |row| {
        let (key, value) = (column(row, 1, "user_tags.key")?, column(row, 2, "user_tags.value")?);
        tags.entry(parsed(row, 0, "user_tags.user")?).or_default().insert(key, value);
        Ok(())
    })?;
    let query = "SELECT id, account, name, status, boundary FROM users";
    let users = each_row(tx, query, |row| {
        let (id, account): (UserId, AccountId) =
            (parsed(row, 0, "users.id")?, parsed(row, 1, "users.account")?);
        let kind = kind(&id, &account)?;
        let name = match kind {
            UserKind::Root => "root".parse().map_err(|error| damaged("users.name", error))?,
            UserKind::IamUser => parsed(row, 2, "users.name")?,
        };
        let boundary: Option<String> = column(row, 4, "users.boundary")?;
        let boundary = boundary.map(|name| name.parse()).transpose();
        let boundary = boundary.map_err(|error| damaged("users.boundary", error))?;
        let stored_status = status(row, 3, "users.status")?;
        let (status, (policies, boundary)) = match policies.bearing_on(&id, &account, boundary)? {
            Some(bearing) => (stored_status, bearing),
            None => (Status::Suspended, Bearing::default()),
        };
        let tags = tags.remove(&id).unwrap_or_default();
        let user = User { kind, id: id.clone(), account, name, status, tags, policies, boundary };
        Ok((id, Arc::new(user)))
    })?;
    warnings.extend(policies.warnings());
    problems.extend(policies.problems());
    Ok(users)
}

/// The id alone says who is an account's root: access keys are sealed to it, so that nobody is made root by a change of
/// some other column.
fn kind(id: &UserId, account: &AccountId) -> Result<UserKind, StoreError> {
    if !id.is_root() {
        Ok(UserKind::IamUser)
    } else if *id == UserId::root(account) {
        Ok(UserKind::Root)
    } else {
        Err(damaged("users.id", "the root of another account"))
    }
}

/// Whose a policy is, and its name there.
type Key = (PolicyOwner, PolicyName);

/// A user's policies, and its permissions boundary.
type Bearing = (Vec<Arc<Policy>>, Option<Arc<Policy>>);

/// All that is stored about policies.
struct Policies {
    /// Those that can be evaluated. Each is parsed once and shared by all users it bears on.
    usable: HashMap<Key, Arc<Policy>>,
    /// Those that cannot be used, why, and the users found so far that they bear on.
    faulty: BTreeMap<Key, (PolicyFault, BTreeSet<UserId>)>,
    /// The policies of each owner, with those attached to it.
    held: HashMap<PolicyOwner, Vec<Key>>,
    /// The groups of each user.
    groups: HashMap<UserId, Vec<PolicyOwner>>,
}

impl Policies {
    fn load(tx: &Transaction<'_>) -> Result<Self, StoreError> {
        let mut this = Self {
            usable: HashMap::new(),
            faulty: BTreeMap::new(),
            held: attached(tx)?,
            groups: groups(tx)?,
        };
        for (key, policy) in stored(tx)? {
            this.held.entry(key.0.clone()).or_default().push(key.clone());
            match policy {
                Ok(policy) => {
                    this.usable.insert(key, Arc::new(policy));
                }
                Err(error) => {
                    this.faulty.insert(key, (PolicyFault::Unevaluable(error), BTreeSet::new()));
                }
            }
        }
        Ok(this)
    }

    /// What bears on a user. `None` if any of it cannot be used.
    fn bearing_on(
        &mut self,
        user: &UserId,
        account: &AccountId,
        boundary: Option<PolicyName>,
    ) -> Result<Option<Bearing>, StoreError> {
        let own = PolicyOwner::User(user.clone());
        let holders = iter::once(&own).chain(self.groups.get(user).into_iter().flatten());
        // A set, because a policy may be attached to the user and to groups of it.
        let keys: BTreeSet<&Key> = holders.filter_map(|holder| self.held.get(holder)).flatten().collect();
        // Foreign keys keep accounts apart, but they can be switched off.
        if keys.iter().any(|(owner, _)| owner.account().is_some_and(|of| of != account)) {
            return Err(StoreError::Damaged(format!("user {user} has a policy or group of another account")));
        }
        let mut find = |key: &Key| {
            let usable = self.usable.get(key).cloned();
            if usable.is_none() {
                let missing = || (PolicyFault::Missing, BTreeSet::new());
                self.faulty.entry(key.clone()).or_insert_with(missing).1.insert(user.clone());
            }
            usable
        };
        // All are looked for, also after one that cannot be used: each has to say that it suspends this user.
        let policies: Vec<Option<_>> = keys.into_iter().map(&mut find).collect();
        let boundary = match boundary.map(|name| find(&(PolicyOwner::Account(account.clone()), name))) {
            None => Some(None),
            Some(None) if planted("boundary-lost") => Some(None),
            Some(boundary) => boundary.map(Some),
        };
        Ok(policies.into_iter().collect::<Option<_>>().zip(boundary))
    }

    fn warnings(&self) -> impl Iterator<Item = PolicyWarning> {
        self.usable.iter().flat_map(|((owner, name), policy)| {
            policy.warnings().iter().map(|warning| PolicyWarning {
                owner: owner.clone(),
                policy: name.clone(),
                warning: warning.clone(),
            })
        })
    }

    fn problems(self) -> impl Iterator<Item = Problem> {
        self.faulty.into_iter().map(|((owner, policy), (fault, suspended))| Problem::Policy {
            owner,
            policy,
            fault,
            suspended,
        })
    }
}

type Stored = Vec<(Key, Result<Policy, PolicyError>)>;

/// Every policy there is.
fn stored(tx: &Transaction<'_>) -> Result<Stored, StoreError> {
    let of_users = "SELECT name, document, user FROM user_policies";
    let of_users: Stored = each_row(tx, of_users, |row| {
        let owner = PolicyOwner::User(parsed(row, 2, "user_policies.user")?);
        policy(row, owner, "user_policies.name", "user_policies.document")
    })?;
    let of_groups = "SELECT name, document, account, group_name FROM group_policies";
    let of_groups: Stored = each_row(tx, of_groups, |row| {
        let owner = group(row, 2, "group_policies.account", "group_policies.group_name")?;
        policy(row, owner, "group_policies.name", "group_policies.document")
    })?;
    let managed: Stored = each_row(tx, "SELECT name, document, account FROM policies", |row| {
        let owner = PolicyOwner::Account(parsed(row, 2, "policies.account")?);
        policy(row, owner, "policies.name", "policies.document")
    })?;
    Ok([of_users, of_groups, managed].into_iter().flatten().collect())
}

/// A policy whose name and document are the first columns.
fn policy(
    row: &Row<'_>,
    owner: PolicyOwner,
    name: &'static str,
    document: &'static str,
) -> Result<(Key, Result<Policy, PolicyError>), StoreError> {
    let name: PolicyName = parsed(row, 0, name)?;
    let policy = Policy::parse(&owner.full_name(&name), text(row, 1, document)?);
    Ok(((owner, name), policy))
}

/// The managed policies attached to each user and group.
fn attached(tx: &Transaction<'_>) -> Result<HashMap<PolicyOwner, Vec<Key>>, StoreError> {
    let to_users = "SELECT account, policy, user FROM attached_user_policies";
    let to_users: Vec<(PolicyOwner, Key)> = each_row(tx, to_users, |row| {
        let account = PolicyOwner::Account(parsed(row, 0, "attached_user_policies.account")?);
        let user = PolicyOwner::User(parsed(row, 2, "attached_user_policies.user")?);
        Ok((user, (account, parsed(row, 1, "attached_user_policies.policy")?)))
    })?;
    let to_groups = "SELECT account, policy, account, group_name FROM attached_group_policies";
    let to_groups: Vec<(PolicyOwner, Key)> = each_row(tx, to_groups, |row| {
        let account = PolicyOwner::Account(parsed(row, 0, "attached_group_policies.account")?);
        let group = group(row, 2, "attached_group_policies.account", "attached_group_policies.group_name")?;
        Ok((group, (account, parsed(row, 1, "attached_group_policies.policy")?)))
    })?;
    let mut attached: HashMap<PolicyOwner, Vec<Key>> = HashMap::new();
    for (holder, key) in to_users.into_iter().chain(to_groups) {
        attached.entry(holder).or_default().push(key);
    }
    Ok(attached)
}

fn groups(tx: &Transaction<'_>) -> Result<HashMap<UserId, Vec<PolicyOwner>>, StoreError> {
    let members: Vec<(UserId, PolicyOwner)> =
        each_row(tx, "SELECT user, account, group_name FROM group_members", |row| {
            let group = group(row, 1, "group_members.account", "group_members.group_name")?;
            Ok((parsed(row, 0, "group_members.user")?, group))
        })?;
    let mut groups: HashMap<UserId, Vec<PolicyOwner>> = HashMap::new();
    for (user, group) in members {
        groups.entry(user).or_default().push(group);
    }
    Ok(groups)
}

/// A group whose account and name are in two columns from `index` on.
fn group(
    row: &Row<'_>,
    index: usize,
    account: &'static str,
    name: &'static str,
) -> Result<PolicyOwner, StoreError> {
    let name: GroupName = parsed(row, index + 1, name)?;
    Ok(PolicyOwner::Group(parsed(row, index, account)?, name))
}
