//! Random histories of calls, on a store and on a model that is a few maps: both must give the same answers and hold the
//! same things.

mod iam;

use crate::engine::Engine;
use crate::fixtures::*;
use iam::{IamCall, IamModel};
use instance_connect_core::host_facts::HostFactsReport;
use instance_connect_core::ids::InstanceId;
use instance_connect_core::inventory::{
    AccessKey, Account, AgentChange, AgentIdentity, AgentStanding, AgentState, Instance, InstanceDetails,
    InstanceState, JoinToken, Status,
};
use instance_connect_core::secret::Secret;
use instance_connect_store::{Authority, Entity, RedeemError, RedeemRefusal, Refusal, Store, StoreError};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One call. Things are numbered, from few, so that calls meet each other.
#[derive(Clone, Debug)]
enum Call {
    CreateAccount(Account),
    SetAccountStatus(u8, Status),
    SetSerialConsoleAccess(u8, bool),
    Iam(IamCall),
    CreateAccessKey(AccessKey),
    SetAccessKeyStatus(u8, Status),
    DeleteAccessKey(u8),
    CreateInstance(Instance),
    SetInstanceState(u8, InstanceState, i64),
    PutInstanceDetails(u8, InstanceDetails),
    SetInstanceHost(u8, Option<u8>),
    PutInstanceTags(u8, BTreeMap<String, String>),
    CreateJoinToken(JoinToken),
    RedeemJoinToken(u8, u8, i64, bool),
    ChangeAgent(u8, AgentChange),
    ReportHostFacts(u8, u64, u8),
    PutAuthority(&'static str, u8),
    Restart,
}

/// What a call came to.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Done,
    AlreadyExists(Entity),
    NotFound(Entity),
    DeleteConflict(Entity),
    Refused(Refusal),
    Agent(AgentIdentity),
    IsNews(bool),
    NotEnrolled(RedeemRefusal),
    Authority(Vec<u8>, Vec<u8>),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let number = || 1..=3u8;
    let status = || prop_oneof![Just(Status::Active), Just(Status::Suspended)];
    let some_tags = || proptest::collection::btree_map("[abA]{1,2}", "[xy]{0,2}", 0..4);
    let call = prop_oneof![
        2 => (number(), status()).prop_map(|(n, status)| Call::CreateAccount(Account { status, ..account(n) })),
        1 => (number(), status()).prop_map(|(n, status)| Call::SetAccountStatus(n, status)),
        1 => (number(), any::<bool>()).prop_map(|(n, enabled)| Call::SetSerialConsoleAccess(n, enabled)),
        24 => iam::calls().prop_map(Call::Iam),
        3 => (number(), number(), status())
            .prop_map(|(n, user, status)| Call::CreateAccessKey(AccessKey { status, ..access_key(n, user) })),
        1 => (number(), status()).prop_map(|(n, status)| Call::SetAccessKeyStatus(n, status)),
        1 => number().prop_map(Call::DeleteAccessKey),
        3 => (number(), number(), some_tags())
            .prop_map(|(n, account, tags)| Call::CreateInstance(Instance { tags, ..instance(n, account) })),
        1 => (number(), proptest::sample::select(&InstanceState::ALL[..]), 0..20i64)
            .prop_map(|(n, state, now)| Call::SetInstanceState(n, state, now)),
        1 => (number(), proptest::sample::select(vec![InstanceDetails::default(), details()]))
            .prop_map(|(n, details)| Call::PutInstanceDetails(n, details)),
        4 => (number(), proptest::option::weighted(0.8, number()))
            .prop_map(|(n, host)| Call::SetInstanceHost(n, host)),
        1 => (number(), some_tags()).prop_map(|(n, tags)| Call::PutInstanceTags(n, tags)),
        3 => (number(), number(), 0..20i64).prop_map(|(n, instance, lifetime)| {
            Call::CreateJoinToken(JoinToken { expires_at: later(lifetime), ..token(n, instance) })
        }),
        4 => (1..=2u8, 1..=2u8, 0..20i64, any::<bool>())
            .prop_map(|(n, instance, now, replace)| Call::RedeemJoinToken(n, instance, now, replace)),
        4 => (1..=2u8, agent_change()).prop_map(|(instance, change)| Call::ChangeAgent(instance, change)),
        4 => (1..=2u8, 0..4u64, 1..=2u8)
            .prop_map(|(n, generation, facts)| Call::ReportHostFacts(n, generation, facts)),
        1 => (prop_oneof![Just("root"), Just("agents-ca")], number())
            .prop_map(|(name, n)| Call::PutAuthority(name, n)),
        1 => Just(Call::Restart),
    ];
    let history = proptest::collection::vec(call, 1..80);
    // Most histories start where something can be enrolled or attached; a random one takes long to get there.
    (proptest::bool::weighted(0.8), history).prop_map(|(started, history)| {
        let start = [
            Call::CreateAccount(account(1)),
            Call::Iam(IamCall::CreateUser(user_id(1), 1, user_name("ann"))),
            Call::Iam(IamCall::CreateUser(user_id(2), 1, user_name("bob"))),
            Call::Iam(IamCall::CreatePolicy(1, policy_name("a"), PUSH)),
            Call::Iam(IamCall::CreateGroup(1, group_name("ops"))),
            Call::CreateInstance(instance(1, 1)),
            Call::CreateInstance(instance(2, 1)),
            Call::CreateJoinToken(token(1, 1)),
            Call::RedeemJoinToken(1, 1, 0, false),
        ];
        start.into_iter().filter(|_| started).chain(history).collect()
    })
}

fn agent_change() -> impl Strategy<Value = AgentChange> {
    prop_oneof![
        2 => (0..4u64).prop_map(|presented| AgentChange::Renew { presented }),
        2 => (0..4u64).prop_map(|generation| AgentChange::Use { generation }),
        2 => (0..4u64).prop_map(|presented| AgentChange::Suspend { presented }),
        2 => Just(AgentChange::Rearm),
        1 => Just(AgentChange::Revoke),
        1 => (0..4u32).prop_map(|set| AgentChange::TrustAnchors { set }),
    ]
}

/// Checks random histories. A failing one is made short before it is shown.
pub(crate) fn check_against_model<E: Engine>() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    // Each history writes to a disk, so they are few. Failures are not kept: planted bugs would leave theirs in the tree.
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(calls in calls())| runtime.block_on(check::<E>(calls))?);
}

async fn check<E: Engine>(calls: Vec<Call>) -> Result<(), TestCaseError> {
    let engine = E::new().await;
    let mut store = engine.open().await;
    let mut model = Model::default();
    // Somebody who follows each change, and somebody who looks now and then.
    let mut followed = Arc::new(store.inventory().await.unwrap().inventory);
    let mut known = Arc::clone(&followed);
    for (number, call) in calls.into_iter().enumerate() {
        if matches!(call, Call::Restart) {
            drop(store);
            store = engine.open().await;
        }
        prop_assert_eq!(ask(&*store, &call).await, model.ask(&call), "the answer to {:?}", call);
        prop_assert_eq!(view(&*store).await, model.seen.clone(), "what is there after {:?}", call);
        for (seen, looks) in [(&mut followed, true), (&mut known, number % 7 == 0)] {
            let since = store.inventory_since(Arc::clone(seen)).await.unwrap();
            if looks {
                *seen = Arc::new(since.inventory.clone());
            }
            prop_assert_eq!(view_of(since), model.seen.clone(), "what has changed with {:?}", call);
        }
    }
    Ok(())
}

async fn ask(store: &dyn Store, call: &Call) -> Answer {
    let mut agent = None;
    let done = match call {
        Call::CreateAccount(account) => store.create_account(account).await,
        Call::SetAccountStatus(n, status) => store.set_account_status(&account_id(*n), *status).await,
        Call::SetSerialConsoleAccess(n, enabled) => {
            store.set_serial_console_access(&account_id(*n), *enabled).await
        }
        Call::Iam(call) => iam::ask(store, call).await,
        Call::CreateAccessKey(key) => store.create_access_key(key).await,
        Call::SetAccessKeyStatus(n, status) => store.set_access_key_status(&key_id(*n), *status).await,
        Call::DeleteAccessKey(n) => store.delete_access_key(&key_id(*n)).await,
        Call::CreateInstance(instance) => store.create_instance(instance).await,
        Call::SetInstanceState(n, state, now) => {
            store.set_instance_state(&instance_id(*n), *state, later(*now)).await
        }
        Call::PutInstanceDetails(n, details) => store.put_instance_details(&instance_id(*n), details).await,
        Call::SetInstanceHost(n, host) => {
            store.set_instance_host(&instance_id(*n), host.map(instance_id).as_ref()).await
        }
        Call::PutInstanceTags(n, tags) => store.put_instance_tags(&instance_id(*n), tags).await,
        Call::CreateJoinToken(token) => store.create_join_token(token, NOW).await,
        Call::RedeemJoinToken(n, instance, now, replace) => {
            let instance = instance_id(*instance);
            return match store.redeem_join_token(&[*n; 32], &instance, later(*now), *replace).await {
                Ok(identity) => Answer::Agent(identity),
                Err(RedeemError::Refused(refusal)) => Answer::NotEnrolled(refusal),
                Err(RedeemError::Store(error)) => panic!("{error}"),
            };
        }
        Call::ChangeAgent(n, change) => {
            store.change_agent(&instance_id(*n), *change).await.map(|identity| agent = Some(identity))
        }
        Call::ReportHostFacts(n, generation, number) => {
            let reported = store.report_host_facts(&instance_id(*n), *generation, &facts(*number), NOW).await;
            match reported {
                Ok(report) => return Answer::IsNews(report != HostFactsReport::Known),
                Err(error) => Err(error),
            }
        }
        Call::PutAuthority(name, n) => {
            let secret = Secret::new(vec![*n; 32]);
            let stored = store.put_authority(&name.parse().unwrap(), &[*n], &secret).await;
            let Authority { public, secret } = stored.unwrap();
            return Answer::Authority(public, secret.expose().to_vec());
        }
        Call::Restart => Ok(()),
    };
    match done {
        Ok(()) => agent.map_or(Answer::Done, Answer::Agent),
        Err(StoreError::AlreadyExists(entity)) => Answer::AlreadyExists(entity),
        Err(StoreError::NotFound(entity)) => Answer::NotFound(entity),
        Err(StoreError::DeleteConflict(entity)) => Answer::DeleteConflict(entity),
        Err(StoreError::Refused(refusal)) => Answer::Refused(refusal),
        Err(error) => panic!("{error}"),
    }
}

/// What a store is, without all that makes it durable.
#[derive(Default)]
struct Model {
    seen: View,
    iam: IamModel,
    tokens: BTreeMap<u8, (JoinToken, bool)>,
    authorities: BTreeMap<&'static str, u8>,
}

impl Model {
    fn ask(&mut self, call: &Call) -> Answer {
        let changed = self.change(call);
        match changed {
            Ok(answer) => {
                let known_authority = matches!(&answer, Answer::Authority(..)) && !self.note_authority(call);
                let is_unannounced =
                    matches!(call, Call::Restart | Call::ChangeAgent(_, AgentChange::TrustAnchors { .. }));
                if !known_authority && !is_unannounced && answer != Answer::IsNews(false) {
                    self.seen.sequence += 1;
                }
                answer
            }
            Err(answer) => answer,
        }
    }

    /// Whether the authority is new.
    fn note_authority(&mut self, call: &Call) -> bool {
        let Call::PutAuthority(name, n) = call else { return false };
        let new = !self.authorities.contains_key(name);
        self.authorities.entry(name).or_insert(*n);
        new
    }

    fn change(&mut self, call: &Call) -> Result<Answer, Answer> {
        match call {
            Call::CreateAccount(account) => {
                let answer = new(&mut self.seen.accounts, &account.id, account.clone(), Entity::Account)?;
                self.seen.management_account.get_or_insert_with(|| account.id.clone());
                Ok(answer)
            }
            Call::SetAccountStatus(n, status) => {
                of(&mut self.seen.accounts, &account_id(*n), Entity::Account)?.status = *status;
                Ok(Answer::Done)
            }
            Call::SetSerialConsoleAccess(n, enabled) => {
                let account = of(&mut self.seen.accounts, &account_id(*n), Entity::Account)?;
                account.serial_console_access = *enabled;
                Ok(Answer::Done)
            }
            Call::Iam(call) => self.iam.change(&mut self.seen, call),
            Call::CreateAccessKey(key) => {
                of(&mut self.seen.users, &key.user, Entity::User)?;
                let secret = String::from_utf8(key.secret.expose().to_vec()).unwrap();
                let row = (secret, key.user.clone(), key.status);
                let held = self.seen.access_keys.values().filter(|(_, user, _)| *user == key.user).count();
                if held == 2 && !self.seen.access_keys.contains_key(&key.id) {
                    return Err(Answer::Refused(Refusal::TooManyAccessKeys));
                }
                new(&mut self.seen.access_keys, &key.id, row, Entity::AccessKey)
            }
            Call::SetAccessKeyStatus(n, status) => {
                of(&mut self.seen.access_keys, &key_id(*n), Entity::AccessKey)?.2 = *status;
                Ok(Answer::Done)
            }
            Call::DeleteAccessKey(n) => {
                let deleted = self.seen.access_keys.remove(&key_id(*n));
                deleted.map(|_| Answer::Done).ok_or(Answer::NotFound(Entity::AccessKey))
            }
            Call::CreateInstance(instance) => {
                of(&mut self.seen.accounts, &instance.account, Entity::Account)?;
                new(&mut self.seen.instances, &instance.id, instance.clone(), Entity::Instance)
            }
            Call::SetInstanceState(n, state, now) => {
                let instance = of(&mut self.seen.instances, &instance_id(*n), Entity::Instance)?;
                if *state == InstanceState::Running && instance.state != InstanceState::Running {
                    instance.launched_at = later(*now);
                }
                instance.state = *state;
                Ok(Answer::Done)
            }
            Call::PutInstanceDetails(n, details) => {
                of(&mut self.seen.instances, &instance_id(*n), Entity::Instance)?.details = details.clone();
                Ok(Answer::Done)
            }
            Call::SetInstanceHost(n, host) => self.set_host(&instance_id(*n), host.map(instance_id)),
            Call::PutInstanceTags(n, tags) => {
                of(&mut self.seen.instances, &instance_id(*n), Entity::Instance)?.tags = tags.clone();
                Ok(Answer::Done)
            }
            Call::CreateJoinToken(token) => {
                of(&mut self.seen.instances, &token.instance, Entity::Instance)?;
                new(&mut self.tokens, &token.secret_hash[0], (token.clone(), false), Entity::JoinToken)
            }
            Call::RedeemJoinToken(n, instance, now, replace) => self.redeem(*n, *instance, *now, *replace),
            Call::ChangeAgent(n, change) => {
                let agent = of(&mut self.seen.agents, &instance_id(*n), Entity::Agent)?;
                *agent = agent.changed(*change).ok_or(Answer::Refused(Refusal::AgentState))?;
                if *change == AgentChange::Revoke {
                    self.seen.claims.remove(&agent.instance);
                }
                Ok(Answer::Agent(agent.clone()))
            }
            Call::ReportHostFacts(n, generation, number) => {
                let agent = of(&mut self.seen.agents, &instance_id(*n), Entity::Agent)?;
                if agent.standing(*generation) != AgentStanding::Good {
                    return Err(Answer::NotFound(Entity::Agent));
                }
                let claims = facts(*number).claims();
                let is_terminated = self.seen.instances[&agent.instance].state == InstanceState::Terminated;
                if is_terminated || self.seen.claims.get(&agent.instance) == Some(&claims) {
                    return Ok(Answer::IsNews(false));
                }
                self.seen.claims.insert(agent.instance.clone(), claims);
                Ok(Answer::IsNews(true))
            }
            Call::PutAuthority(name, n) => {
                let kept = *self.authorities.get(name).unwrap_or(n);
                Ok(Answer::Authority(vec![kept], vec![kept; 32]))
            }
            Call::Restart => Ok(Answer::Done),
        }
    }

    fn set_host(&mut self, id: &InstanceId, host: Option<InstanceId>) -> Result<Answer, Answer> {
        let is_host = self.seen.instances.values().any(|instance| instance.host.as_ref() == Some(id));
        let instance = of(&mut self.seen.instances, id, Entity::Instance)?.clone();
        if let Some(host) = &host {
            let host = of(&mut self.seen.instances, host, Entity::Instance)?;
            let refusal = match () {
                () if host.id == *id => Some(Refusal::OwnHost),
                () if host.account != instance.account => Some(Refusal::HostElsewhere),
                () if host.state == InstanceState::Terminated => Some(Refusal::HostTerminated),
                () if host.host.is_some() => Some(Refusal::HostIsGuest),
                () if is_host => Some(Refusal::GuestIsHost),
                () => None,
            };
            if let Some(refusal) = refusal {
                return Err(Answer::Refused(refusal));
            }
        }
        self.seen.instances.insert(id.clone(), Instance { host, ..instance });
        Ok(Answer::Done)
    }

    fn redeem(&mut self, n: u8, instance: u8, now: i64, replace: bool) -> Result<Answer, Answer> {
        let (instance, now) = (instance_id(instance), later(now));
        let known = self.seen.instances.contains_key(&instance);
        let before = self.seen.agents.get(&instance);
        let is_enrolled = before.is_some_and(|before| before.state != AgentState::Revoked);
        let refusal = match self.tokens.get(&n) {
            None => Some(RedeemRefusal::Unknown),
            Some((_, true)) => Some(RedeemRefusal::AlreadyUsed),
            Some((token, _)) if token.expires_at <= now => Some(RedeemRefusal::Expired),
            Some(_) if !known => Some(RedeemRefusal::InstanceUnknown),
            Some((token, _)) if token.instance != instance => Some(RedeemRefusal::OtherInstance),
            Some(_) if is_enrolled && !replace => Some(RedeemRefusal::AlreadyEnrolled),
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            return Err(Answer::NotEnrolled(refusal));
        }
        self.tokens.get_mut(&n).unwrap().1 = true;
        let identity = AgentIdentity::enrolled(&instance, before, now);
        self.seen.claims.remove(&instance);
        self.seen.agents.insert(instance, identity.clone());
        Ok(Answer::Agent(identity))
    }
}

fn new<K: Ord + Clone, V>(
    map: &mut BTreeMap<K, V>,
    key: &K,
    row: V,
    entity: Entity,
) -> Result<Answer, Answer> {
    if map.contains_key(key) {
        return Err(Answer::AlreadyExists(entity));
    }
    map.insert(key.clone(), row);
    Ok(Answer::Done)
}

fn of<'map, K: Ord, V>(
    map: &'map mut BTreeMap<K, V>,
    key: &K,
    entity: Entity,
) -> Result<&'map mut V, Answer> {
    map.get_mut(key).ok_or(Answer::NotFound(entity))
}
