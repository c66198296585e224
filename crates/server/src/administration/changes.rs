//! The operations that change something. Each is for the caller's own account, whose users, keys, policies and instances
//! are the only ones that are found here.

use super::answer::{Answer, key_status, status};
use super::{Code, refused, store_error};
use crate::agents::create_join_token;
use crate::api::{Api, internal};
use crate::new_ids;
use instance_connect_core::administration::{Change as C, PolicyArn, PolicyDocument, Tags};
use instance_connect_core::api::ApiError;
use instance_connect_core::authz::{AuthorizedAdministration, Caller};
use instance_connect_core::ids::{
    AccessKeyId, AccountId, AvailabilityZone, Fingerprint, InstanceId, PolicyName, UserId, UserName,
};
use instance_connect_core::inventory::{
    Account, AgentChange, Instance, InstanceDetails, InstanceState, Inventory, Status, User, group_arn,
    policy_arn, user_arn,
};
use instance_connect_core::origin::Origin;
use instance_connect_store::{Store, StoreError};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Api {
    /// Makes the change that is authorised.
    pub(super) async fn change(
        &self,
        authorized: &AuthorizedAdministration,
        change: &C,
        origin: &Origin,
    ) -> Result<Answer, ApiError> {
        let inventory = self.inventory.current().map_err(internal)?;
        let caller = authorized.caller();
        let store = self.inventory.store();
        Changing { api: self, store, inventory: &inventory, caller, origin }.make(change).await
    }
}

/// A change that is being made.
struct Changing<'a> {
    api: &'a Api,
    store: &'a dyn Store,
    inventory: &'a Inventory,
    caller: &'a Caller,
    origin: &'a Origin,
}

impl Changing<'_> {
    async fn make(&self, change: &C) -> Result<Answer, ApiError> {
        let (store, account) = (self.store, self.account());
        let changed = match change {
            C::CreateAccount { account } => return self.create_account(account.as_ref()).await,
            C::UpdateAccount { account, status } => return self.update_account(account, *status).await,
            C::EnableSerialConsoleAccess => return self.serial_console_access(true).await,
            C::DisableSerialConsoleAccess => return self.serial_console_access(false).await,
            C::CreateUser { user, tags } => return self.create_user(user, tags).await,
            C::UpdateUser { user, status } => store.set_user_status(self.user(user)?, *status).await,
            C::TagUser { user, tags } => {
                let user = self.user_record(user)?;
                store.put_user_tags(&user.id, &with(&user.tags, tags)).await
            }
            C::UntagUser { user, keys } => {
                let user = self.user_record(user)?;
                store.put_user_tags(&user.id, &without(&user.tags, keys)).await
            }
            C::PutUserPolicy { user, policy, document } => {
                let put = store.put_user_policy(self.user(user)?, policy, document.as_str()).await;
                return self.with_warnings(put, document);
            }
            C::DeleteUserPolicy { user, policy } => store.delete_user_policy(self.user(user)?, policy).await,
            C::AttachUserPolicy { user, policy } => {
                store.attach_user_policy(self.user(user)?, self.policy(policy)?).await
            }
            C::DetachUserPolicy { user, policy } => {
                store.detach_user_policy(self.user(user)?, self.policy(policy)?).await
            }
            C::PutUserPermissionsBoundary { user, policy } => {
                store.put_user_permissions_boundary(self.user(user)?, self.policy(policy)?).await
            }
            C::DeleteUserPermissionsBoundary { user } => {
                store.delete_user_permissions_boundary(self.user(user)?).await
            }
            C::CreateAccessKey { user } => return self.create_access_key(user.as_ref()).await,
            C::UpdateAccessKey { user, key, status } => {
                store.set_access_key_status(self.access_key(user.as_ref(), key)?, *status).await
            }
            C::DeleteAccessKey { user, key } => {
                store.delete_access_key(self.access_key(user.as_ref(), key)?).await
            }
            C::CreateGroup { group } => {
                self.done(store.create_group(account, group).await)?;
                let arn = group_arn(account, group);
                return Ok(Answer::new(json!({ "Group": { "GroupName": group.as_str(), "Arn": arn } })));
            }
            C::DeleteGroup { group } => store.delete_group(account, group).await,
            C::AddUserToGroup { group, user } => store.add_user_to_group(self.user(user)?, group).await,
            C::RemoveUserFromGroup { group, user } => {
                store.remove_user_from_group(self.user(user)?, group).await
            }
            C::PutGroupPolicy { group, policy, document } => {
                let put = store.put_group_policy(account, group, policy, document.as_str()).await;
                return self.with_warnings(put, document);
            }
            C::DeleteGroupPolicy { group, policy } => store.delete_group_policy(account, group, policy).await,
            C::AttachGroupPolicy { group, policy } => {
                store.attach_group_policy(account, group, self.policy(policy)?).await
            }
            C::DetachGroupPolicy { group, policy } => {
                store.detach_group_policy(account, group, self.policy(policy)?).await
            }
            C::CreatePolicy { policy, document } => return self.create_policy(policy, document).await,
            C::UpdatePolicy { policy, document } => {
                let set = store.set_policy_document(account, self.policy(policy)?, document.as_str()).await;
                return self.with_warnings(set, document);
            }
            C::DeletePolicy { policy } => store.delete_policy(account, self.policy(policy)?).await,
            C::CreateInstance { instance, zone, tags, details } => {
                return self.create_instance(instance.as_ref(), zone, tags, details).await;
            }
            C::SetInstanceState { instance, state } => {
                let instance = self.instance(instance)?;
                if instance.state == InstanceState::Terminated && *state != InstanceState::Terminated {
                    return Err(refused(Code::InvalidInput, "A terminated instance stays so."));
                }
                store.set_instance_state(&instance.id, *state, self.origin.time).await
            }
            C::SetInstanceDetails { instance, details } => {
                store.put_instance_details(&self.instance(instance)?.id, details).await
            }
            C::SetInstanceHost { instance, host } => {
                let instance = self.instance(instance)?;
                let host = host.as_ref().map(|host| self.instance(host)).transpose()?;
                store.set_instance_host(&instance.id, host.map(|host| &host.id)).await
            }
            C::CreateTags { instance, tags } => {
                let instance = self.instance(instance)?;
                store.put_instance_tags(&instance.id, &with(&instance.tags, tags)).await
            }
            C::DeleteTags { instance, keys } => {
                let instance = self.instance(instance)?;
                store.put_instance_tags(&instance.id, &without(&instance.tags, keys)).await
            }
            C::AcceptHostKeys { instance, fingerprints, from } => {
                return self.accept_host_keys(instance, fingerprints, from.as_ref()).await;
            }
            C::CreateJoinToken { instance } => return self.create_join_token(instance).await,
            C::RevokeAgent { instance } => return self.change_agent(instance, AgentChange::Revoke).await,
            C::RearmAgent { instance } => return self.change_agent(instance, AgentChange::Rearm).await,
        };
        self.done(changed)?;
        Ok(Answer::done())
    }

    /// The record says what was taken from another instance: whose keys those are was told to clients until now.
    async fn accept_host_keys(
        &self,
        instance: &InstanceId,
        fingerprints: &BTreeSet<Fingerprint>,
        take_from: Option<&InstanceId>,
    ) -> Result<Answer, ApiError> {
        let instance = &self.instance(instance)?.id;
        let other = take_from.map(|other| self.instance(other)).transpose()?.map(|other| &other.id);
        let taken = self.done(self.store.accept_host_keys(instance, fingerprints, other).await)?;
        let Some(other) = other else { return Ok(Answer::done()) };
        let taken: Vec<String> = taken.iter().map(|key| key.fingerprint().to_string()).collect();
        Ok(Answer::new(json!({ "Taken": { "InstanceId": other.as_str(), "Fingerprints": taken } })))
    }

    async fn create_account(&self, id: Option<&AccountId>) -> Result<Answer, ApiError> {
        let id = self.fresh(id.cloned().map_or_else(|| new_ids::account_id(self.random()), Ok))?;
        let (key, secret) = self.fresh(new_ids::access_key(self.random(), UserId::root(&id)))?;
        let account = Account { id: id.clone(), status: Status::Active, serial_console_access: false };
        self.done(self.store.create_account_with_root(&account, &key).await)?;
        let members = json!({
            "Account": { "AccountId": id.as_str(), "Status": status(account.status) },
            "AccessKey": { "AccessKeyId": key.id.as_str(), "Status": key_status(key.status) },
        });
        Ok(Answer::new(members).with_secret("AccessKey", "SecretAccessKey", secret))
    }

    async fn update_account(&self, id: &AccountId, new: Status) -> Result<Answer, ApiError> {
        if new == Status::Suspended && self.inventory.management_account.as_ref() == Some(id) {
            return Err(refused(Code::InvalidInput, "The management account cannot be suspended."));
        }
        self.done(self.store.set_account_status(id, new).await)?;
        Ok(Answer::done())
    }

    async fn serial_console_access(&self, enabled: bool) -> Result<Answer, ApiError> {
        self.done(self.store.set_serial_console_access(self.account(), enabled).await)?;
        Ok(Answer::new(json!({ "SerialConsoleAccessEnabled": enabled })))
    }

    async fn create_user(&self, name: &UserName, tags: &Tags) -> Result<Answer, ApiError> {
        let (account, id) = (self.account(), self.fresh(new_ids::user_id(self.random()))?);
        self.done(self.store.create_user(&id, account, name).await)?;
        if !tags.is_empty() {
            self.done(self.store.put_user_tags(&id, tags).await)?;
        }
        let arn = user_arn(account, name);
        let user =
            json!({ "UserName": name.as_str(), "UserId": id.as_str(), "Arn": arn, "Status": "Active" });
        Ok(Answer::new(json!({ "User": user })))
    }

    async fn create_access_key(&self, user: Option<&UserName>) -> Result<Answer, ApiError> {
        let owner = self.owner(user)?;
        let (key, secret) = self.fresh(new_ids::access_key(self.random(), owner.id.clone()))?;
        self.done(self.store.create_access_key(&key).await)?;
        let members = json!({ "AccessKey": {
            "UserName": owner.name.as_str(),
            "AccessKeyId": key.id.as_str(),
            "Status": key_status(key.status),
        }});
        Ok(Answer::new(members).with_secret("AccessKey", "SecretAccessKey", secret))
    }

    async fn create_policy(&self, name: &PolicyName, document: &PolicyDocument) -> Result<Answer, ApiError> {
        let account = self.account();
        self.done(self.store.create_policy(account, name, document.as_str()).await)?;
        let policy = json!({ "PolicyName": name.as_str(), "Arn": policy_arn(account, name) });
        Ok(Answer::new(json!({ "Policy": policy, "Warnings": document.warnings() })))
    }

    async fn create_instance(
        &self,
        id: Option<&InstanceId>,
        zone: &AvailabilityZone,
        tags: &Tags,
        details: &InstanceDetails,
    ) -> Result<Answer, ApiError> {
        let region = &self.api.region;
        if !zone.as_str().starts_with(region.as_str()) {
            let message = format!("The zone {zone} is not in the region {region}.");
            return Err(refused(Code::InvalidInput, message));
        }
        let instance = Instance {
            id: self.fresh(id.cloned().map_or_else(|| new_ids::instance_id(self.random()), Ok))?,
            account: self.account().clone(),
            region: region.clone(),
            availability_zone: zone.clone(),
            state: InstanceState::Running,
            tags: tags.clone(),
            host: None,
            details: details.clone(),
            launched_at: self.origin.time,
        };
        self.done(self.store.create_instance(&instance).await)?;
        let (id, arn) = (instance.id.as_str(), instance.arn());
        let state = instance.state.as_str();
        let instance =
            json!({ "InstanceId": id, "Arn": arn, "AvailabilityZone": zone.as_str(), "State": state });
        Ok(Answer::new(json!({ "Instance": instance })))
    }

    async fn create_join_token(&self, id: &InstanceId) -> Result<Answer, ApiError> {
        let instance = self.instance(id)?;
        if matches!(instance.state, InstanceState::Terminated | InstanceState::ShuttingDown) {
            return Err(refused(Code::InvalidInput, "A terminated instance cannot be enrolled."));
        }
        let pki = self.api.links.pki();
        let token = create_join_token(self.store, pki, self.random(), &instance.id, self.origin.time).await;
        let token = token.map_err(store_error)?;
        let lifetime = instance_connect_core::limits::JOIN_TOKEN_LIFETIME.as_secs();
        let members = json!({ "JoinToken": { "InstanceId": id.as_str(), "ExpiresInSeconds": lifetime } });
        Ok(Answer::new(members).with_secret("JoinToken", "Token", token))
    }

    async fn change_agent(&self, id: &InstanceId, change: AgentChange) -> Result<Answer, ApiError> {
        let instance = self.instance(id)?;
        self.done(self.store.change_agent(&instance.id, change).await)?;
        Ok(Answer::done())
    }

    fn account(&self) -> &AccountId {
        &self.caller.user.account
    }

    fn random(&self) -> &dyn instance_connect_core::environment::Random {
        self.api.random.as_ref()
    }

    fn done<T>(&self, result: Result<T, StoreError>) -> Result<T, ApiError> {
        result.map_err(store_error)
    }

    /// What was made up here is always well-formed.
    fn fresh<T>(&self, made: Result<T, instance_connect_core::ids::IdError>) -> Result<T, ApiError> {
        made.map_err(internal)
    }

    fn with_warnings(
        &self,
        put: Result<(), StoreError>,
        document: &PolicyDocument,
    ) -> Result<Answer, ApiError> {
        self.done(put)?;
        Ok(match document.warnings() {
            [] => Answer::done(),
            warnings => Answer::new(json!({ "Warnings": warnings })),
        })
    }

    fn user_record(&self, name: &UserName) -> Result<&Arc<User>, ApiError> {
        find_user(self.inventory, self.account(), name)
    }

    fn user(&self, name: &UserName) -> Result<&UserId, ApiError> {
        self.user_record(name).map(|user| &user.id)
    }

    /// Whose access keys are meant.
    fn owner(&self, name: Option<&UserName>) -> Result<&Arc<User>, ApiError> {
        find_owner(self.inventory, self.caller, name)
    }

    /// An access key, if it is that user's.
    fn access_key<'k>(
        &self,
        user: Option<&UserName>,
        key: &'k AccessKeyId,
    ) -> Result<&'k AccessKeyId, ApiError> {
        let owner = self.owner(user)?;
        let found = self.inventory.access_keys.get(key).is_some_and(|found| found.user == owner.id);
        if found {
            return Ok(key);
        }
        Err(refused(Code::NoSuchEntity, format!("The Access Key with id {key} cannot be found.")))
    }

    fn policy<'p>(&self, policy: &'p PolicyArn) -> Result<&'p PolicyName, ApiError> {
        own_policy(self.account(), policy)
    }

    fn instance(&self, id: &InstanceId) -> Result<&Arc<Instance>, ApiError> {
        find_instance(self.api, self.inventory, self.account(), id)
    }
}

pub(super) fn find_user<'i>(
    inventory: &'i Inventory,
    account: &AccountId,
    name: &UserName,
) -> Result<&'i Arc<User>, ApiError> {
    let missing = || refused(Code::NoSuchEntity, format!("The user with name {name} cannot be found."));
    inventory.user(account, name).ok_or_else(missing)
}

/// The user of this name, or the caller where there is none.
pub(super) fn find_owner<'i>(
    inventory: &'i Inventory,
    caller: &'i Caller,
    name: Option<&UserName>,
) -> Result<&'i Arc<User>, ApiError> {
    name.map_or(Ok(&caller.user), |name| find_user(inventory, &caller.user.account, name))
}

pub(super) fn find_instance<'i>(
    api: &Api,
    inventory: &'i Inventory,
    account: &AccountId,
    id: &InstanceId,
) -> Result<&'i Arc<Instance>, ApiError> {
    let is_own = |instance: &&Arc<Instance>| instance.account == *account && instance.region == api.region;
    let missing = || refused(Code::NoSuchEntity, format!("The instance {id} cannot be found."));
    inventory.instances.get(id).filter(is_own).ok_or_else(missing)
}

/// The name of a managed policy in its account. Another account's does not exist for anybody here.
pub(super) fn own_policy<'p>(account: &AccountId, policy: &'p PolicyArn) -> Result<&'p PolicyName, ApiError> {
    if policy.account == *account {
        return Ok(&policy.name);
    }
    Err(refused(Code::NoSuchEntity, format!("Policy {policy} was not found.")))
}

fn with(tags: &Tags, more: &Tags) -> Tags {
    let mut all = tags.clone();
    all.extend(more.clone());
    all
}

fn without(tags: &Tags, keys: &BTreeSet<String>) -> Tags {
    tags.iter().filter(|(key, _)| !keys.contains(*key)).map(|(k, v)| (k.clone(), v.clone())).collect()
}
