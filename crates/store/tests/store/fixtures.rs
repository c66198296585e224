//! Things to store, and a snapshot in a form that can be compared.

use instance_connect_core::document::UnixSeconds;
use instance_connect_core::host_facts::{HostClaims, HostFacts};
use instance_connect_core::iam::Policy;
use instance_connect_core::ids::{AccessKeyId, AccountId, GroupName, InstanceId, UserId, UserName};
use instance_connect_core::inventory::{
    AccessKey, Account, AgentIdentity, Instance, InstanceDetails, InstanceState, JoinToken, Status, User,
    UserKind,
};
use instance_connect_core::secret::Secret;
use instance_connect_store::{PolicyName, Problem, Snapshot, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Allows pushing to any instance.
pub(crate) const PUSH: &str = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
    "Action": "ec2-instance-connect:SendSSHPublicKey", "Resource": "*"}]}"#;

/// Denies the same.
pub(crate) const NO_PUSH: &str = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Deny",
    "Action": "ec2-instance-connect:SendSSHPublicKey", "Resource": "*"}]}"#;

/// Not a policy for any version: its one statement has no effect.
pub(crate) const NO_POLICY: &str =
    r#"{"Version": "2012-10-17", "Statement": [{"Action": "*", "Resource": "*"}]}"#;

pub(crate) const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

pub(crate) fn later(seconds: i64) -> UnixSeconds {
    UnixSeconds(NOW.0 + seconds)
}

pub(crate) fn account_id(number: u8) -> AccountId {
    format!("{number:012}").parse().unwrap()
}

pub(crate) fn user_id(number: u8) -> UserId {
    format!("AIDA{number:016}").parse().unwrap()
}

/// The id of an account's root.
pub(crate) fn root_id(account: u8) -> UserId {
    UserId::root(&account_id(account))
}

pub(crate) fn key_id(number: u8) -> AccessKeyId {
    format!("AKIA{number:016}").parse().unwrap()
}

pub(crate) fn instance_id(number: u8) -> InstanceId {
    format!("i-{number:017x}").parse().unwrap()
}

pub(crate) fn user_name(name: &str) -> UserName {
    name.parse().unwrap()
}

pub(crate) fn group_name(name: &str) -> GroupName {
    name.parse().unwrap()
}

pub(crate) fn policy_name(name: &str) -> PolicyName {
    name.parse().unwrap()
}

/// A policy as a view shows it, under the name that decisions show.
pub(crate) fn parsed(name: &str, document: &str) -> String {
    format!("{:?}", Policy::parse(name, document).unwrap())
}

pub(crate) fn account(number: u8) -> Account {
    Account { id: account_id(number), status: Status::Active, serial_console_access: false }
}

pub(crate) fn access_key(number: u8, user: u8) -> AccessKey {
    let secret = Secret::new(secret_of(number).into_bytes());
    AccessKey { id: key_id(number), secret, user: user_id(user), status: Status::Active }
}

/// The secret of an access key: like AWS's 40 characters.
pub(crate) fn secret_of(number: u8) -> String {
    format!("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLE{number:03}")
}

pub(crate) fn instance(number: u8, account: u8) -> Instance {
    Instance {
        id: instance_id(number),
        account: account_id(account),
        region: "us-east-1".parse().unwrap(),
        availability_zone: "us-east-1a".parse().unwrap(),
        state: InstanceState::Running,
        tags: tags(&[("Name", "web")]),
        host: None,
        details: InstanceDetails::default(),
        launched_at: NOW,
    }
}

/// Everything that an operator can say of an instance.
pub(crate) fn details() -> InstanceDetails {
    InstanceDetails {
        instance_type: Some("m7i.metal-24xl".parse().unwrap()),
        image_id: Some("ami-0123456789abcdef0".parse().unwrap()),
        private_ip: Some("10.0.1.9".parse().unwrap()),
        public_ip: Some("192.0.2.9".parse().unwrap()),
        ipv6: Some("2001:db8::9".parse().unwrap()),
    }
}

/// Those of a machine with this number in its name and one of its addresses.
pub(crate) fn facts(number: u8) -> HostFacts {
    HostFacts {
        hostname: format!("web-{number}").parse().unwrap(),
        os_id: "debian".parse().unwrap(),
        os_version: "12".parse().unwrap(),
        os_name: "Debian GNU/Linux 12 (bookworm)".parse().unwrap(),
        kernel: "6.1.0".parse().unwrap(),
        architecture: "x86_64".parse().unwrap(),
        addresses: vec![format!("10.0.1.{number}").parse().unwrap(), "2001:db8::9".parse().unwrap()],
    }
}

pub(crate) fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn token(number: u8, instance: u8) -> JoinToken {
    JoinToken { secret_hash: [number; 32], instance: instance_id(instance), expires_at: later(900) }
}

/// Puts something of everything into an empty store: that of version 7, details of instance 2, and facts of instance 1.
pub(crate) async fn populate(store: &dyn Store) {
    populate_version_7(store).await;
    store.put_instance_details(&instance_id(2), &details()).await.unwrap();
    store.report_host_facts(&instance_id(1), 1, &facts(1), NOW).await.unwrap();
}

/// Puts what version 7 knew into an empty store: that of version 2, and instance 2 as a guest of instance 1.
pub(crate) async fn populate_version_7(store: &dyn Store) {
    populate_version_2(store).await;
    store.set_instance_host(&instance_id(2), Some(&instance_id(1))).await.unwrap();
}

/// Puts what version 2 knew into an empty store: that of version 1, and in account 1 the managed policy `logins`, the
/// group `ops` with user 1 in it, an inline policy and `logins`, tags and the boundary `logins` for user 2, and its root
/// with access key 3.
pub(crate) async fn populate_version_2(store: &dyn Store) {
    populate_version_1(store).await;
    let (account, ops, logins) = (account_id(1), group_name("ops"), policy_name("logins"));
    store.create_policy(&account, &logins, PUSH).await.unwrap();
    store.create_group(&account, &ops).await.unwrap();
    store.add_user_to_group(&user_id(1), &ops).await.unwrap();
    store.put_group_policy(&account, &ops, &policy_name("push"), PUSH).await.unwrap();
    store.attach_group_policy(&account, &ops, &logins).await.unwrap();
    store.attach_user_policy(&user_id(2), &logins).await.unwrap();
    store.put_user_permissions_boundary(&user_id(2), &logins).await.unwrap();
    store.put_user_tags(&user_id(2), &tags(&[("Team", "ops")])).await.unwrap();
    store.create_root(&account).await.unwrap();
    store.create_access_key(&AccessKey { user: root_id(1), ..access_key(3, 0) }).await.unwrap();
}

/// Puts something of everything that version 1 knew into an empty store: account 1, user 1 with a policy and access key 1,
/// user 2 with access key 2, instances 1 (enrolled) and 2, used token 1, fresh token 2, and the authority `agents-ca`.
pub(crate) async fn populate_version_1(store: &dyn Store) {
    store.create_account(&account(1)).await.unwrap();
    for (number, name) in [(1, "ann"), (2, "bob")] {
        store.create_user(&user_id(number), &account_id(1), &user_name(name)).await.unwrap();
        store.create_access_key(&access_key(number, number)).await.unwrap();
        store.create_instance(&instance(number, 1)).await.unwrap();
        store.create_join_token(&token(number, number), NOW).await.unwrap();
    }
    store.put_user_policy(&user_id(1), &policy_name("push"), PUSH).await.unwrap();
    store.redeem_join_token(&[1; 32], &instance_id(1), NOW, false).await.unwrap();
    let secret = Secret::new(b"the private key of agents-ca".to_vec());
    store.put_authority(&"agents-ca".parse().unwrap(), b"certificate", &secret).await.unwrap();
}

/// A snapshot in a form that can be compared and printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) sequence: u64,
    pub(crate) management_account: Option<AccountId>,
    pub(crate) accounts: BTreeMap<AccountId, Account>,
    pub(crate) users: BTreeMap<UserId, UserView>,
    pub(crate) access_keys: BTreeMap<AccessKeyId, (String, UserId, Status)>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) agents: BTreeMap<InstanceId, AgentIdentity>,
    pub(crate) claims: BTreeMap<InstanceId, HostClaims>,
    pub(crate) problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserView {
    pub(crate) kind: UserKind,
    pub(crate) account: AccountId,
    pub(crate) name: UserName,
    pub(crate) status: Status,
    pub(crate) tags: BTreeMap<String, String>,
    /// Name and parsed form of each policy.
    pub(crate) policies: Vec<String>,
    pub(crate) boundary: Option<String>,
}

impl UserView {
    /// A user as it is made.
    pub(crate) fn new(account: u8, name: &UserName) -> Self {
        Self {
            kind: UserKind::IamUser,
            account: account_id(account),
            name: name.clone(),
            status: Status::Active,
            tags: BTreeMap::new(),
            policies: Vec::new(),
            boundary: None,
        }
    }

    /// An account's root as it is made.
    pub(crate) fn root(account: u8) -> Self {
        Self { kind: UserKind::Root, ..Self::new(account, &user_name("root")) }
    }
}

impl View {
    pub(crate) fn user(&self, number: u8) -> &UserView {
        &self.users[&user_id(number)]
    }
}

pub(crate) async fn view(store: &dyn Store) -> View {
    view_of(store.inventory().await.unwrap())
}

pub(crate) fn view_of(snapshot: Snapshot) -> View {
    let Snapshot { inventory, problems, warnings: _ } = snapshot;
    let user_view = |user: &User| UserView {
        kind: user.kind,
        account: user.account.clone(),
        name: user.name.clone(),
        status: user.status,
        tags: user.tags.clone(),
        policies: user.policies.iter().map(|policy| format!("{policy:?}")).collect(),
        boundary: user.boundary.as_ref().map(|policy| format!("{policy:?}")),
    };
    let key_view = |key: AccessKey| {
        let secret = String::from_utf8(key.secret.expose().to_vec()).unwrap();
        (secret, key.user, key.status)
    };
    for of in inventory.instances.values() {
        let guests = inventory.guests_of(&of.id).map(|guest| &guest.id).collect::<BTreeSet<_>>();
        let is_guest = |instance: &&Arc<Instance>| instance.host.as_ref() == Some(&of.id);
        assert_eq!(guests, inventory.instances.values().filter(is_guest).map(|guest| &guest.id).collect());
        assert!(inventory.instances_from(&of.account, of.id.as_str()).any(|it| Arc::ptr_eq(it, of)));
    }
    View {
        sequence: inventory.sequence,
        management_account: inventory.management_account,
        accounts: inventory.accounts.into_iter().collect(),
        users: inventory.users.into_iter().map(|(id, user)| (id, user_view(&user))).collect(),
        access_keys: inventory.access_keys.into_iter().map(|(id, key)| (id, key_view(key))).collect(),
        instances: inventory.instances.values().map(|it| (it.id.clone(), (**it).clone())).collect(),
        agents: inventory.agents.iter().map(|(id, agent)| (id.clone(), agent.clone())).collect(),
        claims: inventory.claims.iter().map(|(id, claims)| (id.clone(), *claims)).collect(),
        problems,
    }
}
