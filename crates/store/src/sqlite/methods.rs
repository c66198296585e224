//! The trait: what needs no database is checked, and the rest is done on the database's thread.

use super::{SqliteStore, changes, load};
use crate::seal::SealedRow;
use crate::tags::{check_instance_tags, check_user_tags};
use crate::{
    AccountDetails, Authority, AuthorityName, InstanceChange, PolicyName, RedeemError, Refusal, Snapshot,
    Store, StoreError,
};
use async_trait::async_trait;
use instance_connect_core::audit::OperatorEvent;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::host_facts::{HostFacts, HostFactsReport, ReportedFacts};
use instance_connect_core::host_key::{HostKeyReport, HostKeys, KnownHostKeys};
use instance_connect_core::iam::Policy;
use instance_connect_core::ids::{
    AccessKeyId, AccountId, Fingerprint, GroupName, InstanceId, UserId, UserName,
};
use instance_connect_core::inventory::{
    AccessKey, Account, AgentChange, AgentIdentity, AnchorChange, AnchorRotation, Instance, InstanceDetails,
    InstanceState, Inventory, JoinToken, Status, StockChange, StockRotation,
};
use instance_connect_core::revocation::Revocation;
use instance_connect_core::secret::Secret;
use instance_connect_core::sigv4::UsedSignature;
use instance_connect_planted::planted;
use rusqlite::{Transaction, TransactionBehavior};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[async_trait]
impl Store for SqliteStore {
    async fn sequence(&self) -> Result<u64, StoreError> {
        self.transact(TransactionBehavior::Deferred, load::sequence).await
    }

    async fn inventory(&self) -> Result<Snapshot, StoreError> {
        let sealer = Arc::clone(&self.sealer);
        self.transact(TransactionBehavior::Deferred, move |tx| load::snapshot(tx, &sealer, None)).await
    }

    async fn inventory_since(&self, known: Arc<Inventory>) -> Result<Snapshot, StoreError> {
        let sealer = Arc::clone(&self.sealer);
        let read = move |tx: &Transaction<'_>| load::snapshot(tx, &sealer, Some(&known));
        self.transact(TransactionBehavior::Deferred, read).await
    }

    async fn create_account(&self, account: &Account) -> Result<(), StoreError> {
        let account = account.clone();
        self.change(move |tx| changes::create_account(tx, &account)).await
    }

    async fn create_account_with_root(&self, account: &Account, key: &AccessKey) -> Result<(), StoreError> {
        let sealed = self.seal(SealedRow::AccessKey(&key.id, &key.user), &key.secret)?;
        let (account, key) = (account.clone(), key.clone());
        let create = move |tx: &Transaction<'_>| {
            changes::create_account(tx, &account)?;
            changes::create_root(tx, &account.id)?;
            changes::create_access_key(tx, &key, &sealed)
        };
        self.change(create).await
    }

    async fn set_account_status(&self, account: &AccountId, status: Status) -> Result<(), StoreError> {
        let account = account.clone();
        self.change(move |tx| changes::set_account_status(tx, &account, status)).await
    }

    async fn set_serial_console_access(&self, account: &AccountId, enabled: bool) -> Result<(), StoreError> {
        let account = account.clone();
        self.change(move |tx| changes::set_serial_console_access(tx, &account, enabled)).await
    }

    async fn create_user(
        &self,
        user: &UserId,
        account: &AccountId,
        name: &UserName,
    ) -> Result<(), StoreError> {
        refuse_root(user)?;
        let (user, account, name) = (user.clone(), account.clone(), name.clone());
        self.change(move |tx| changes::create_user(tx, &user, &account, &name)).await
    }

    async fn create_root(&self, account: &AccountId) -> Result<(), StoreError> {
        let account = account.clone();
        self.change(move |tx| changes::create_root(tx, &account)).await
    }

    async fn set_user_status(&self, user: &UserId, status: Status) -> Result<(), StoreError> {
        let user = user.clone();
        self.change(move |tx| changes::set_user_status(tx, &user, status)).await
    }

    async fn put_user_tags(&self, user: &UserId, tags: &BTreeMap<String, String>) -> Result<(), StoreError> {
        check_user_tags(tags)?;
        refuse_root(user)?;
        let (user, tags) = (user.clone(), tags.clone());
        self.change(move |tx| changes::put_user_tags(tx, &user, &tags)).await
    }

    async fn put_user_policy(
        &self,
        user: &UserId,
        name: &PolicyName,
        document: &str,
    ) -> Result<(), StoreError> {
        check_policy(name, document)?;
        refuse_root(user)?;
        let (user, name, document) = (user.clone(), name.clone(), document.to_owned());
        self.change(move |tx| changes::put_user_policy(tx, &user, &name, &document)).await
    }

    async fn delete_user_policy(&self, user: &UserId, name: &PolicyName) -> Result<(), StoreError> {
        refuse_root(user)?;
        let (user, name) = (user.clone(), name.clone());
        self.change(move |tx| changes::delete_user_policy(tx, &user, &name)).await
    }

    async fn attach_user_policy(&self, user: &UserId, policy: &PolicyName) -> Result<(), StoreError> {
        refuse_root(user)?;
        let (user, policy) = (user.clone(), policy.clone());
        self.change(move |tx| changes::attach_user_policy(tx, &user, &policy)).await
    }

    async fn detach_user_policy(&self, user: &UserId, policy: &PolicyName) -> Result<(), StoreError> {
        refuse_root(user)?;
        let (user, policy) = (user.clone(), policy.clone());
        self.change(move |tx| changes::detach_user_policy(tx, &user, &policy)).await
    }

    async fn put_user_permissions_boundary(
        &self,
        user: &UserId,
        policy: &PolicyName,
    ) -> Result<(), StoreError> {
        refuse_root(user)?;
        let (user, policy) = (user.clone(), policy.clone());
        self.change(move |tx| changes::put_user_permissions_boundary(tx, &user, &policy)).await
    }

    async fn delete_user_permissions_boundary(&self, user: &UserId) -> Result<(), StoreError> {
        refuse_root(user)?;
        let user = user.clone();
        self.change(move |tx| changes::delete_user_permissions_boundary(tx, &user)).await
    }

    async fn create_group(&self, account: &AccountId, group: &GroupName) -> Result<(), StoreError> {
        let (account, group) = (account.clone(), group.clone());
        self.change(move |tx| changes::create_group(tx, &account, &group)).await
    }

    async fn delete_group(&self, account: &AccountId, group: &GroupName) -> Result<(), StoreError> {
        let (account, group) = (account.clone(), group.clone());
        self.change(move |tx| changes::delete_group(tx, &account, &group)).await
    }

    async fn add_user_to_group(&self, user: &UserId, group: &GroupName) -> Result<(), StoreError> {
        refuse_root(user)?;
        let (user, group) = (user.clone(), group.clone());
        self.change(move |tx| changes::add_user_to_group(tx, &user, &group)).await
    }

    async fn remove_user_from_group(&self, user: &UserId, group: &GroupName) -> Result<(), StoreError> {
        refuse_root(user)?;
        let (user, group) = (user.clone(), group.clone());
        self.change(move |tx| changes::remove_user_from_group(tx, &user, &group)).await
    }

    async fn put_group_policy(
        &self,
        account: &AccountId,
        group: &GroupName,
        name: &PolicyName,
        document: &str,
    ) -> Result<(), StoreError> {
        check_policy(name, document)?;
        let (account, group, name, document) =
            (account.clone(), group.clone(), name.clone(), document.to_owned());
        self.change(move |tx| changes::put_group_policy(tx, &account, &group, &name, &document)).await
    }

    async fn delete_group_policy(
        &self,
        account: &AccountId,
        group: &GroupName,
        name: &PolicyName,
    ) -> Result<(), StoreError> {
        let (account, group, name) = (account.clone(), group.clone(), name.clone());
        self.change(move |tx| changes::delete_group_policy(tx, &account, &group, &name)).await
    }

    async fn attach_group_policy(
        &self,
        account: &AccountId,
        group: &GroupName,
        policy: &PolicyName,
    ) -> Result<(), StoreError> {
        let (account, group, policy) = (account.clone(), group.clone(), policy.clone());
        self.change(move |tx| changes::attach_group_policy(tx, &account, &group, &policy)).await
    }

    async fn detach_group_policy(
        &self,
        account: &AccountId,
        group: &GroupName,
        policy: &PolicyName,
    ) -> Result<(), StoreError> {
        let (account, group, policy) = (account.clone(), group.clone(), policy.clone());
        self.change(move |tx| changes::detach_group_policy(tx, &account, &group, &policy)).await
    }

    async fn create_policy(
        &self,
        account: &AccountId,
        policy: &PolicyName,
        document: &str,
    ) -> Result<(), StoreError> {
        check_policy(policy, document)?;
        let (account, policy, document) = (account.clone(), policy.clone(), document.to_owned());
        self.change(move |tx| changes::create_policy(tx, &account, &policy, &document)).await
    }

    async fn set_policy_document(
        &self,
        account: &AccountId,
        policy: &PolicyName,
        document: &str,
    ) -> Result<(), StoreError> {
        check_policy(policy, document)?;
        let (account, policy, document) = (account.clone(), policy.clone(), document.to_owned());
        self.change(move |tx| changes::set_policy_document(tx, &account, &policy, &document)).await
    }

    async fn delete_policy(&self, account: &AccountId, policy: &PolicyName) -> Result<(), StoreError> {
        let (account, policy) = (account.clone(), policy.clone());
        self.change(move |tx| changes::delete_policy(tx, &account, &policy)).await
    }

    async fn create_access_key(&self, key: &AccessKey) -> Result<(), StoreError> {
        let key = key.clone();
        let sealed = self.seal(SealedRow::AccessKey(&key.id, &key.user), &key.secret)?;
        self.change(move |tx| changes::create_access_key(tx, &key, &sealed)).await
    }

    async fn create_first_access_key(&self, key: &AccessKey, now: UnixSeconds) -> Result<(), StoreError> {
        let sealed = self.seal(SealedRow::AccessKey(&key.id, &key.user), &key.secret)?;
        let (key, random) = (key.clone(), Arc::clone(&self.random));
        let create = move |tx: &Transaction<'_>| {
            changes::create_access_key(tx, &key, &sealed)?;
            let action = changes::operator::initialized(tx, &key)?;
            changes::operator::leave(tx, &action, now, random.as_ref())
        };
        self.change(create).await
    }

    async fn operator_events(&self) -> Result<Vec<OperatorEvent>, StoreError> {
        self.transact(TransactionBehavior::Deferred, load::operator_events).await
    }

    async fn forget_operator_events(&self, events: &[OperatorEvent]) -> Result<(), StoreError> {
        let ids: Vec<_> = events.iter().map(|event| event.id).collect();
        let forget = move |tx: &Transaction<'_>| changes::operator::forget(tx, &ids);
        self.transact(TransactionBehavior::Immediate, forget).await
    }

    async fn set_access_key_status(&self, key: &AccessKeyId, status: Status) -> Result<(), StoreError> {
        let key = key.clone();
        self.change(move |tx| changes::set_access_key_status(tx, &key, status)).await
    }

    async fn delete_access_key(&self, key: &AccessKeyId) -> Result<(), StoreError> {
        let key = key.clone();
        if planted("sequence-skipped") {
            let work = move |tx: &Transaction<'_>| changes::delete_access_key(tx, &key);
            return self.transact(TransactionBehavior::Immediate, work).await;
        }
        self.change(move |tx| changes::delete_access_key(tx, &key)).await
    }

    async fn create_instance(&self, instance: &Instance) -> Result<(), StoreError> {
        check_instance_tags(&instance.tags)?;
        let instance = instance.clone();
        self.change(move |tx| changes::create_instance(tx, &instance)).await
    }

    async fn set_instance_state(
        &self,
        instance: &InstanceId,
        state: InstanceState,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let instance = instance.clone();
        self.change(move |tx| changes::set_instance_state(tx, &instance, state, now)).await
    }

    async fn put_instance_details(
        &self,
        instance: &InstanceId,
        details: &InstanceDetails,
    ) -> Result<(), StoreError> {
        let (instance, details) = (instance.clone(), details.clone());
        self.change(move |tx| changes::put_instance_details(tx, &instance, &details)).await
    }

    async fn set_instance_host(
        &self,
        instance: &InstanceId,
        host: Option<&InstanceId>,
    ) -> Result<(), StoreError> {
        let (instance, host) = (instance.clone(), host.cloned());
        self.change(move |tx| changes::set_instance_host(tx, &instance, host.as_ref())).await
    }

    async fn put_instance_tags(
        &self,
        instance: &InstanceId,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        check_instance_tags(tags)?;
        let (instance, tags) = (instance.clone(), tags.clone());
        self.change(move |tx| changes::put_instance_tags(tx, &instance, &tags)).await
    }

    async fn change_instances(
        &self,
        changes: &BTreeMap<InstanceId, InstanceChange>,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        for change in changes.values() {
            if let InstanceChange::Tags(tags) = change {
                check_instance_tags(tags)?;
            }
        }
        let changes = changes.clone();
        self.change(move |tx| {
            changes.iter().try_for_each(|(instance, change)| match change {
                InstanceChange::Tags(tags) => changes::put_instance_tags(tx, instance, tags),
                InstanceChange::State(state) => changes::set_instance_state(tx, instance, *state, now),
            })
        })
        .await
    }

    async fn account_details(&self, account: &AccountId) -> Result<AccountDetails, StoreError> {
        let account = account.clone();
        self.transact(TransactionBehavior::Deferred, move |tx| load::account_details(tx, &account)).await
    }

    async fn use_signature(&self, used: &UsedSignature, now: UnixSeconds) -> Result<bool, StoreError> {
        let used = used.clone();
        self.transact(TransactionBehavior::Immediate, move |tx| changes::use_signature(tx, &used, now)).await
    }

    async fn create_join_token(&self, token: &JoinToken, now: UnixSeconds) -> Result<(), StoreError> {
        let token = token.clone();
        self.change(move |tx| changes::create_join_token(tx, &token, now)).await
    }

    async fn redeem_join_token(
        &self,
        secret_hash: &[u8; 32],
        instance: &InstanceId,
        now: UnixSeconds,
        replace: bool,
    ) -> Result<AgentIdentity, RedeemError> {
        let (secret_hash, instance) = (*secret_hash, instance.clone());
        let redeem =
            move |tx: &Transaction<'_>| changes::redeem_join_token(tx, &secret_hash, &instance, now, replace);
        Ok(self.transact(TransactionBehavior::Immediate, redeem).await??)
    }

    async fn host_keys(
        &self,
        instances: &[InstanceId],
    ) -> Result<BTreeMap<InstanceId, KnownHostKeys>, StoreError> {
        let instances = instances.to_vec();
        let read = move |tx: &Transaction<'_>| {
            let known = instances.into_iter().map(|id| Ok((id.clone(), load::known_host_keys(tx, &id)?)));
            known
                .filter(|known| !matches!(known, Ok((_, known)) if *known == KnownHostKeys::default()))
                .collect()
        };
        self.transact(TransactionBehavior::Deferred, read).await
    }

    async fn judge_host_keys(
        &self,
        instance: &InstanceId,
        generation: u64,
        keys: &HostKeys,
    ) -> Result<HostKeyReport, StoreError> {
        let (instance, keys) = (instance.clone(), keys.clone());
        let judge = move |tx: &Transaction<'_>| changes::host_keys::judge(tx, &instance, generation, &keys);
        self.transact(TransactionBehavior::Deferred, judge).await
    }

    async fn report_host_keys(
        &self,
        instance: &InstanceId,
        generation: u64,
        keys: &HostKeys,
    ) -> Result<HostKeyReport, StoreError> {
        let (instance, keys) = (instance.clone(), keys.clone());
        let report = move |tx: &Transaction<'_>| changes::host_keys::report(tx, &instance, generation, &keys);
        self.transact(TransactionBehavior::Immediate, report).await
    }

    async fn accept_host_keys(
        &self,
        instance: &InstanceId,
        fingerprints: &BTreeSet<Fingerprint>,
        take_from: Option<&InstanceId>,
    ) -> Result<HostKeys, StoreError> {
        let (instance, fingerprints, other) = (instance.clone(), fingerprints.clone(), take_from.cloned());
        let accept = move |tx: &Transaction<'_>| {
            changes::host_keys::accept(tx, &instance, &fingerprints, other.as_ref())
        };
        self.transact(TransactionBehavior::Immediate, accept).await
    }

    async fn host_facts(
        &self,
        instances: &[InstanceId],
    ) -> Result<BTreeMap<InstanceId, ReportedFacts>, StoreError> {
        let instances = instances.to_vec();
        let facts = move |tx: &Transaction<'_>| {
            let reported = |id: InstanceId| Ok(load::facts::reported(tx, &id)?.map(|facts| (id, facts)));
            instances.into_iter().filter_map(|id| reported(id).transpose()).collect()
        };
        self.transact(TransactionBehavior::Deferred, facts).await
    }

    async fn judge_host_facts(
        &self,
        instance: &InstanceId,
        generation: u64,
        facts: &HostFacts,
    ) -> Result<HostFactsReport, StoreError> {
        let (instance, facts) = (instance.clone(), facts.clone());
        let judge = move |tx: &Transaction<'_>| changes::host_facts::judge(tx, &instance, generation, &facts);
        self.transact(TransactionBehavior::Deferred, judge).await
    }

    async fn report_host_facts(
        &self,
        instance: &InstanceId,
        generation: u64,
        facts: &HostFacts,
        now: UnixSeconds,
    ) -> Result<HostFactsReport, StoreError> {
        let (instance, facts) = (instance.clone(), facts.clone());
        let report =
            move |tx: &Transaction<'_>| changes::host_facts::report(tx, &instance, generation, &facts, now);
        self.transact(TransactionBehavior::Immediate, report).await
    }

    async fn put_revocation(&self, account: &AccountId, revocation: &Revocation) -> Result<(), StoreError> {
        let (account, revocation) = (account.clone(), revocation.clone());
        self.change(move |tx| changes::revocations::put(tx, &account, &revocation)).await
    }

    async fn change_agent(
        &self,
        instance: &InstanceId,
        change: AgentChange,
    ) -> Result<AgentIdentity, StoreError> {
        let instance = instance.clone();
        let change = move |tx: &Transaction<'_>| changes::change_agent(tx, &instance, change);
        self.transact(TransactionBehavior::Immediate, change).await
    }

    async fn anchor_rotation(&self) -> Result<AnchorRotation, StoreError> {
        self.transact(TransactionBehavior::Deferred, load::anchor_rotation).await
    }

    async fn change_anchors(
        &self,
        change: AnchorChange,
        now: UnixSeconds,
    ) -> Result<AnchorRotation, StoreError> {
        let random = Arc::clone(&self.random);
        let change = move |tx: &Transaction<'_>| {
            let changed = changes::change_anchors(tx, change, now)?;
            changes::operator::leave(tx, &changes::operator::rotated(change, changed), now, random.as_ref())?;
            Ok(changed)
        };
        self.transact(TransactionBehavior::Immediate, change).await
    }

    async fn stock_rotation(&self) -> Result<StockRotation, StoreError> {
        self.transact(TransactionBehavior::Deferred, load::stock_rotation).await
    }

    async fn change_stock_signer(
        &self,
        from: u32,
        change: StockChange,
        now: UnixSeconds,
    ) -> Result<StockRotation, StoreError> {
        let random = Arc::clone(&self.random);
        let change = move |tx: &Transaction<'_>| {
            let changed = changes::change_stock_signer(tx, from, change, now)?;
            if let StockChange::Ordered { .. } = change {
                let action = changes::operator::stock_signer_rotated(changed);
                changes::operator::leave(tx, &action, now, random.as_ref())?;
            }
            Ok(changed)
        };
        self.transact(TransactionBehavior::Immediate, change).await
    }

    async fn put_authority(
        &self,
        name: &AuthorityName,
        public: &[u8],
        secret: &Secret,
    ) -> Result<Authority, StoreError> {
        let sealed = self.seal(SealedRow::Authority(name, public), secret)?;
        let (name, public, sealer) = (name.clone(), public.to_vec(), Arc::clone(&self.sealer));
        let put = move |tx: &Transaction<'_>| {
            changes::put_authority(tx, &name, &public, &sealed)?;
            let stored = load::authority(tx, &name, &sealer)?;
            stored
                .ok_or_else(|| StoreError::Damaged("authorities: a row just written is not there".to_owned()))
        };
        self.transact(TransactionBehavior::Immediate, put).await
    }

    async fn authority(&self, name: &AuthorityName) -> Result<Option<Authority>, StoreError> {
        let (name, sealer) = (name.clone(), Arc::clone(&self.sealer));
        self.transact(TransactionBehavior::Deferred, move |tx| load::authority(tx, &name, &sealer)).await
    }
}

/// Refuses what could not be evaluated fully.
fn check_policy(name: &PolicyName, document: &str) -> Result<(), Refusal> {
    Policy::parse(name.as_str(), document)?;
    Ok(())
}

/// Refuses for an account's root what only an IAM user has.
fn refuse_root(user: &UserId) -> Result<(), Refusal> {
    if user.is_root() { Err(Refusal::Root) } else { Ok(()) }
}
