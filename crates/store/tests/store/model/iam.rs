//! Users, groups and policies in the model.

use super::Answer;
use crate::fixtures::*;
use instance_connect_core::iam::Policy;
use instance_connect_core::ids::{AccountId, GroupName, UserId, UserName};
use instance_connect_core::inventory::Status;
use instance_connect_store::{Entity, PolicyName, PolicyOwner, Refusal, Store, StoreError};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// One call. Accounts are numbered.
#[derive(Clone, Debug)]
pub(super) enum IamCall {
    CreateUser(UserId, u8, UserName),
    CreateRoot(u8),
    SetUserStatus(UserId, Status),
    PutUserTags(UserId, BTreeMap<String, String>),
    PutUserPolicy(UserId, PolicyName, &'static str),
    DeleteUserPolicy(UserId, PolicyName),
    AttachUserPolicy(UserId, PolicyName),
    DetachUserPolicy(UserId, PolicyName),
    PutBoundary(UserId, PolicyName),
    DeleteBoundary(UserId),
    CreateGroup(u8, GroupName),
    DeleteGroup(u8, GroupName),
    AddUserToGroup(UserId, GroupName),
    RemoveUserFromGroup(UserId, GroupName),
    PutGroupPolicy(u8, GroupName, PolicyName, &'static str),
    DeleteGroupPolicy(u8, GroupName, PolicyName),
    AttachGroupPolicy(u8, GroupName, PolicyName),
    DetachGroupPolicy(u8, GroupName, PolicyName),
    CreatePolicy(u8, PolicyName, &'static str),
    SetPolicyDocument(u8, PolicyName, &'static str),
    DeletePolicy(u8, PolicyName),
}

pub(super) fn calls() -> impl Strategy<Value = IamCall> {
    use IamCall::*;
    // Mostly in one account, so that users and what they are given meet.
    let account = || prop_oneof![4 => Just(1), 1 => 2..=3u8];
    let user = || prop_oneof![12 => (1..=3u8).prop_map(user_id), 1 => (1..=2u8).prop_map(root_id)];
    let status = || prop_oneof![Just(Status::Active), Just(Status::Suspended)];
    let user_name = || prop_oneof![Just("ann"), Just("Ann"), Just("bob"), Just("root")].prop_map(user_name);
    let group = || prop_oneof![4 => Just("ops"), 1 => Just("Ops"), 2 => Just("web")].prop_map(group_name);
    let policy = || prop_oneof![4 => Just("a"), 1 => Just("A"), 2 => Just("b")].prop_map(policy_name);
    let document = || prop_oneof![4 => Just(PUSH), 4 => Just(NO_PUSH), 1 => Just(NO_POLICY)];
    let tags = || proptest::collection::btree_map("[abA]{1,2}", "[xy]{0,2}", 0..4);
    prop_oneof![
        3 => (user(), account(), user_name()).prop_map(|(user, account, name)| CreateUser(user, account, name)),
        1 => account().prop_map(CreateRoot),
        1 => (user(), status()).prop_map(|(user, status)| SetUserStatus(user, status)),
        1 => (user(), tags()).prop_map(|(user, tags)| PutUserTags(user, tags)),
        2 => (user(), policy(), document()).prop_map(|(user, name, text)| PutUserPolicy(user, name, text)),
        1 => (user(), policy()).prop_map(|(user, name)| DeleteUserPolicy(user, name)),
        3 => (user(), policy()).prop_map(|(user, name)| AttachUserPolicy(user, name)),
        1 => (user(), policy()).prop_map(|(user, name)| DetachUserPolicy(user, name)),
        2 => (user(), policy()).prop_map(|(user, name)| PutBoundary(user, name)),
        1 => user().prop_map(DeleteBoundary),
        2 => (account(), group()).prop_map(|(account, group)| CreateGroup(account, group)),
        1 => (account(), group()).prop_map(|(account, group)| DeleteGroup(account, group)),
        3 => (user(), group()).prop_map(|(user, group)| AddUserToGroup(user, group)),
        1 => (user(), group()).prop_map(|(user, group)| RemoveUserFromGroup(user, group)),
        2 => (account(), group(), policy(), document())
            .prop_map(|(account, group, name, text)| PutGroupPolicy(account, group, name, text)),
        1 => (account(), group(), policy())
            .prop_map(|(account, group, name)| DeleteGroupPolicy(account, group, name)),
        3 => (account(), group(), policy())
            .prop_map(|(account, group, name)| AttachGroupPolicy(account, group, name)),
        1 => (account(), group(), policy())
            .prop_map(|(account, group, name)| DetachGroupPolicy(account, group, name)),
        3 => (account(), policy(), document()).prop_map(|(account, name, text)| CreatePolicy(account, name, text)),
        2 => (account(), policy(), document())
            .prop_map(|(account, name, text)| SetPolicyDocument(account, name, text)),
        1 => (account(), policy()).prop_map(|(account, name)| DeletePolicy(account, name)),
    ]
}

pub(super) async fn ask(store: &dyn Store, call: &IamCall) -> Result<(), StoreError> {
    use IamCall::*;
    let id = |number: &u8| account_id(*number);
    match call {
        CreateUser(user, account, name) => store.create_user(user, &id(account), name).await,
        CreateRoot(account) => store.create_root(&id(account)).await,
        SetUserStatus(user, status) => store.set_user_status(user, *status).await,
        PutUserTags(user, tags) => store.put_user_tags(user, tags).await,
        PutUserPolicy(user, name, text) => store.put_user_policy(user, name, text).await,
        DeleteUserPolicy(user, name) => store.delete_user_policy(user, name).await,
        AttachUserPolicy(user, name) => store.attach_user_policy(user, name).await,
        DetachUserPolicy(user, name) => store.detach_user_policy(user, name).await,
        PutBoundary(user, name) => store.put_user_permissions_boundary(user, name).await,
        DeleteBoundary(user) => store.delete_user_permissions_boundary(user).await,
        CreateGroup(account, group) => store.create_group(&id(account), group).await,
        DeleteGroup(account, group) => store.delete_group(&id(account), group).await,
        AddUserToGroup(user, group) => store.add_user_to_group(user, group).await,
        RemoveUserFromGroup(user, group) => store.remove_user_from_group(user, group).await,
        PutGroupPolicy(account, group, name, text) => {
            store.put_group_policy(&id(account), group, name, text).await
        }
        DeleteGroupPolicy(account, group, name) => store.delete_group_policy(&id(account), group, name).await,
        AttachGroupPolicy(account, group, name) => store.attach_group_policy(&id(account), group, name).await,
        DetachGroupPolicy(account, group, name) => store.detach_group_policy(&id(account), group, name).await,
        CreatePolicy(account, name, text) => store.create_policy(&id(account), name, text).await,
        SetPolicyDocument(account, name, text) => store.set_policy_document(&id(account), name, text).await,
        DeletePolicy(account, name) => store.delete_policy(&id(account), name).await,
    }
}

/// What there is of groups and policies. Who holds a policy is written as if the policy were its own.
#[derive(Default)]
pub(super) struct IamModel {
    groups: BTreeSet<(AccountId, GroupName)>,
    members: BTreeSet<(UserId, GroupName)>,
    policies: BTreeMap<(PolicyOwner, PolicyName), &'static str>,
    attached: BTreeSet<(PolicyOwner, PolicyName)>,
    boundaries: BTreeMap<UserId, PolicyName>,
}

impl IamModel {
    /// Changes itself and what is seen of it.
    pub(super) fn change(&mut self, seen: &mut View, call: &IamCall) -> Result<Answer, Answer> {
        self.check(call)?;
        self.apply(seen, call)?;
        for (id, user) in &mut seen.users {
            user.policies = self.policies_of(id, &user.account);
            let managed = PolicyOwner::Account(user.account.clone());
            let boundary = self.boundaries.get(id);
            user.boundary = boundary.map(|name| self.shown(&(managed, name.clone())));
        }
        Ok(Answer::Done)
    }

    /// What is refused whatever there is.
    fn check(&self, call: &IamCall) -> Result<(), Answer> {
        use IamCall::*;
        let of_user = match call {
            PutUserPolicy(user, name, text) => {
                check_policy(name, text)?;
                user
            }
            PutUserTags(user, tags) => {
                let keys = tags.keys().map(|key| key.to_ascii_lowercase());
                if keys.collect::<BTreeSet<_>>().len() < tags.len() {
                    return Err(Answer::Refused(Refusal::UserTagKeyTwice));
                }
                user
            }
            CreateUser(user, ..)
            | DeleteUserPolicy(user, _)
            | AttachUserPolicy(user, _)
            | DetachUserPolicy(user, _)
            | PutBoundary(user, _)
            | DeleteBoundary(user)
            | AddUserToGroup(user, _)
            | RemoveUserFromGroup(user, _) => user,
            PutGroupPolicy(_, _, name, text)
            | CreatePolicy(_, name, text)
            | SetPolicyDocument(_, name, text) => {
                return check_policy(name, text);
            }
            CreateRoot(_)
            | SetUserStatus(..)
            | CreateGroup(..)
            | DeleteGroup(..)
            | DeleteGroupPolicy(..)
            | AttachGroupPolicy(..)
            | DetachGroupPolicy(..)
            | DeletePolicy(..) => return Ok(()),
        };
        if of_user.as_str().len() == 12 { Err(Answer::Refused(Refusal::Root)) } else { Ok(()) }
    }

    fn apply(&mut self, seen: &mut View, call: &IamCall) -> Result<(), Answer> {
        use IamCall::*;
        match call {
            CreateUser(user, account, name) => create_user(seen, user, *account, name),
            CreateRoot(account) => {
                exists(seen.accounts.contains_key(&account_id(*account)), Entity::Account)?;
                absent(seen.users.contains_key(&root_id(*account)), Entity::User)?;
                seen.users.insert(root_id(*account), UserView::root(*account));
                Ok(())
            }
            SetUserStatus(user, status) => {
                user_of(seen, user)?.status = *status;
                Ok(())
            }
            PutUserTags(user, tags) => {
                user_of(seen, user)?.tags = tags.clone();
                Ok(())
            }
            PutUserPolicy(user, name, text) => {
                user_of(seen, user)?;
                self.policies.insert((PolicyOwner::User(user.clone()), name.clone()), text);
                Ok(())
            }
            DeleteUserPolicy(user, name) => {
                user_of(seen, user)?;
                let key = (PolicyOwner::User(user.clone()), name.clone());
                exists(self.policies.remove(&key).is_some(), Entity::Policy)
            }
            AttachUserPolicy(user, name) => {
                self.managed(&user_of(seen, user)?.account, name)?;
                self.attached.insert((PolicyOwner::User(user.clone()), name.clone()));
                Ok(())
            }
            DetachUserPolicy(user, name) => {
                user_of(seen, user)?;
                let key = (PolicyOwner::User(user.clone()), name.clone());
                exists(self.attached.remove(&key), Entity::Attachment)
            }
            PutBoundary(user, name) => {
                self.managed(&user_of(seen, user)?.account, name)?;
                self.boundaries.insert(user.clone(), name.clone());
                Ok(())
            }
            DeleteBoundary(user) => {
                user_of(seen, user)?;
                exists(self.boundaries.remove(user).is_some(), Entity::PermissionsBoundary)
            }
            AddUserToGroup(user, group) => {
                let account = user_of(seen, user)?.account.clone();
                exists(self.groups.contains(&(account, group.clone())), Entity::Group)?;
                self.members.insert((user.clone(), group.clone()));
                Ok(())
            }
            RemoveUserFromGroup(user, group) => {
                user_of(seen, user)?;
                exists(self.members.remove(&(user.clone(), group.clone())), Entity::Membership)
            }
            CreateGroup(account, group) => {
                let id = account_id(*account);
                exists(seen.accounts.contains_key(&id), Entity::Account)?;
                let taken =
                    |(of, name): &(AccountId, GroupName)| *of == id && same(name.as_str(), group.as_str());
                absent(self.groups.iter().any(taken), Entity::Group)?;
                self.groups.insert((id, group.clone()));
                Ok(())
            }
            DeleteGroup(account, group) => self.delete_group(seen, &account_id(*account), group),
            PutGroupPolicy(account, group, name, text) => {
                let owner = self.group(*account, group)?;
                self.policies.insert((owner, name.clone()), text);
                Ok(())
            }
            DeleteGroupPolicy(account, group, name) => {
                let owner = self.group(*account, group)?;
                exists(self.policies.remove(&(owner, name.clone())).is_some(), Entity::Policy)
            }
            AttachGroupPolicy(account, group, name) => {
                let holder = self.group(*account, group)?;
                self.managed(&account_id(*account), name)?;
                self.attached.insert((holder, name.clone()));
                Ok(())
            }
            DetachGroupPolicy(account, group, name) => {
                let holder = self.group(*account, group)?;
                exists(self.attached.remove(&(holder, name.clone())), Entity::Attachment)
            }
            CreatePolicy(account, name, text) => {
                let id = account_id(*account);
                exists(seen.accounts.contains_key(&id), Entity::Account)?;
                let owner = PolicyOwner::Account(id);
                let taken = |(of, known): &(PolicyOwner, PolicyName)| {
                    *of == owner && same(known.as_str(), name.as_str())
                };
                absent(self.policies.keys().any(taken), Entity::Policy)?;
                self.policies.insert((owner, name.clone()), text);
                Ok(())
            }
            SetPolicyDocument(account, name, text) => {
                let key = self.managed(&account_id(*account), name)?;
                self.policies.insert(key, text);
                Ok(())
            }
            DeletePolicy(account, name) => self.delete_policy(seen, &account_id(*account), name),
        }
    }

    fn delete_group(&mut self, seen: &View, account: &AccountId, group: &GroupName) -> Result<(), Answer> {
        let owner = PolicyOwner::Group(account.clone(), group.clone());
        let in_use =
            self.members.iter().any(|(user, of)| of == group && seen.users[user].account == *account)
                || self.policies.keys().any(|(of, _)| *of == owner)
                || self.attached.iter().any(|(holder, _)| *holder == owner);
        if in_use {
            return Err(Answer::DeleteConflict(Entity::Group));
        }
        exists(self.groups.remove(&(account.clone(), group.clone())), Entity::Group)
    }

    fn delete_policy(&mut self, seen: &View, account: &AccountId, name: &PolicyName) -> Result<(), Answer> {
        let of_account = |holder: &PolicyOwner| match holder {
            PolicyOwner::User(user) => seen.users[user].account == *account,
            PolicyOwner::Group(of, _) | PolicyOwner::Account(of) => of == account,
        };
        let in_use = self.attached.iter().any(|(holder, of)| of == name && of_account(holder))
            || self.boundaries.iter().any(|(user, of)| of == name && seen.users[user].account == *account);
        if in_use {
            return Err(Answer::DeleteConflict(Entity::Policy));
        }
        let key = self.managed(account, name)?;
        self.policies.remove(&key);
        Ok(())
    }

    fn group(&self, account: u8, group: &GroupName) -> Result<PolicyOwner, Answer> {
        let key = (account_id(account), group.clone());
        exists(self.groups.contains(&key), Entity::Group)?;
        Ok(PolicyOwner::Group(key.0, key.1))
    }

    fn managed(&self, account: &AccountId, name: &PolicyName) -> Result<(PolicyOwner, PolicyName), Answer> {
        let key = (PolicyOwner::Account(account.clone()), name.clone());
        exists(self.policies.contains_key(&key), Entity::Policy)?;
        Ok(key)
    }

    /// Each policy that bears on a user, once: first its own inline ones, then those of its groups, then managed ones.
    fn policies_of(&self, user: &UserId, account: &AccountId) -> Vec<String> {
        let groups = self.members.iter().filter(|(member, _)| member == user);
        let mut holders: Vec<_> =
            groups.map(|(_, group)| PolicyOwner::Group(account.clone(), group.clone())).collect();
        holders.push(PolicyOwner::User(user.clone()));
        let inline = self.policies.keys().filter(|(owner, _)| holders.contains(owner)).cloned();
        let attached = self.attached.iter().filter(|(holder, _)| holders.contains(holder));
        let managed = attached.map(|(_, name)| (PolicyOwner::Account(account.clone()), name.clone()));
        let keys: BTreeSet<_> = inline.chain(managed).collect();
        keys.iter().map(|key| self.shown(key)).collect()
    }

    fn shown(&self, key: &(PolicyOwner, PolicyName)) -> String {
        let name = match key {
            (PolicyOwner::User(_), name) => name.to_string(),
            (PolicyOwner::Group(_, group), name) => format!("group/{group}/{name}"),
            (PolicyOwner::Account(account), name) => format!("arn:aws:iam::{account}:policy/{name}"),
        };
        parsed(&name, self.policies[key])
    }
}

fn create_user(seen: &mut View, user: &UserId, account: u8, name: &UserName) -> Result<(), Answer> {
    let id = account_id(account);
    exists(seen.accounts.contains_key(&id), Entity::Account)?;
    absent(seen.users.contains_key(user), Entity::User)?;
    let of_account =
        seen.users.iter().filter(|(known, user)| user.account == id && known.as_str().len() > 12);
    let taken = { of_account }.any(|(_, user)| same(user.name.as_str(), name.as_str()));
    absent(taken, Entity::UserName)?;
    seen.users.insert(user.clone(), UserView::new(account, name));
    Ok(())
}

fn user_of<'seen>(seen: &'seen mut View, user: &UserId) -> Result<&'seen mut UserView, Answer> {
    seen.users.get_mut(user).ok_or(Answer::NotFound(Entity::User))
}

fn check_policy(name: &PolicyName, text: &str) -> Result<(), Answer> {
    Policy::parse(name.as_str(), text).map(drop).map_err(|error| Answer::Refused(Refusal::Policy(error)))
}

/// Whether two names are the same to IAM.
fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn exists(found: bool, entity: Entity) -> Result<(), Answer> {
    if found { Ok(()) } else { Err(Answer::NotFound(entity)) }
}

fn absent(found: bool, entity: Entity) -> Result<(), Answer> {
    if found { Err(Answer::AlreadyExists(entity)) } else { Ok(()) }
}
