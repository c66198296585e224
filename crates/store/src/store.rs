//! The interface of every store.

use crate::{AuthorityName, PolicyName, SealError, StoreError};
use async_trait::async_trait;
use instance_connect_core::audit::OperatorEvent;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::host_facts::{HostFacts, HostFactsReport, ReportedFacts};
use instance_connect_core::host_key::{HostKeyReport, HostKeys, KnownHostKeys};
use instance_connect_core::iam::PolicyError;
use instance_connect_core::ids::{
    AccessKeyId, AccountId, Fingerprint, GroupName, InstanceId, UserId, UserName,
};
use instance_connect_core::inventory::{
    AccessKey, Account, AgentChange, AgentIdentity, AnchorChange, AnchorRotation, Instance, InstanceDetails,
    InstanceState, Inventory, JoinToken, Status, StockChange, StockRotation, policy_arn,
};
use instance_connect_core::revocation::Revocation;
use instance_connect_core::secret::Secret;
use instance_connect_core::sigv4::UsedSignature;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// The inventory, kept durably.
///
/// Each method is one transaction. One that changes something has raised the change sequence by exactly one when it
/// returns `Ok`, also where it set what was set already; one that returns an error has changed nothing, unless the
/// error is `Unavailable` or `Internal`, after which nobody knows. A change whose future is dropped may still happen.
///
/// There is no deleting of accounts, users and instances: their ids stand in audit records and certificates, and a
/// reused instance id would bring the generations of its agents back. They are suspended or terminated instead.
///
/// What IAM does for an account is done here under IAM's names, limits and rules (wire.md 7.6). A group or managed policy
/// is named as in its account, and a user can only be given those of its own. Every policy is refused that could not be
/// evaluated fully, before anything else is looked at. The account's root is a user that has a status and access keys,
/// and nothing else of what users have: that is [`Refusal::Root`](crate::Refusal::Root).
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// The change sequence. Cheap: whoever keeps a snapshot asks every moment and loads again when it **differs**; after
    /// a restored backup it is lower than before.
    async fn sequence(&self) -> Result<u64, StoreError>;

    /// Everything decisions need, as of one moment.
    async fn inventory(&self) -> Result<Snapshot, StoreError>;

    /// The same, for whoever has an inventory of this store already: of the instances and their agents those are read that
    /// have changed since. All of them are where it is not sure what has: the inventory is too old, or the store was restored
    /// from a backup.
    async fn inventory_since(&self, known: Arc<Inventory>) -> Result<Snapshot, StoreError>;

    /// Adds an account.
    async fn create_account(&self, account: &Account) -> Result<(), StoreError>;

    /// Adds an account with its root and an access key of that, or nothing: an account without a key is nobody's.
    async fn create_account_with_root(&self, account: &Account, key: &AccessKey) -> Result<(), StoreError>;

    /// Suspends an account or takes it back into use.
    async fn set_account_status(&self, account: &AccountId, status: Status) -> Result<(), StoreError>;

    /// Switches an account's serial console access on or off.
    async fn set_serial_console_access(&self, account: &AccountId, enabled: bool) -> Result<(), StoreError>;

    /// Adds a user to an account: active and without policies, so that it may do nothing yet.
    async fn create_user(
        &self,
        user: &UserId,
        account: &AccountId,
        name: &UserName,
    ) -> Result<(), StoreError>;

    /// Adds an account's root, active, with the id [`UserId::root`]. It may do everything its account may.
    async fn create_root(&self, account: &AccountId) -> Result<(), StoreError>;

    /// Suspends a user or takes it back into use.
    async fn set_user_status(&self, user: &UserId, status: Status) -> Result<(), StoreError>;

    /// Replaces all tags of a user. Policies decide by them.
    async fn put_user_tags(&self, user: &UserId, tags: &BTreeMap<String, String>) -> Result<(), StoreError>;

    /// Gives a user an inline policy, in place of one with the same name. They are bounded together.
    async fn put_user_policy(
        &self,
        user: &UserId,
        name: &PolicyName,
        document: &str,
    ) -> Result<(), StoreError>;

    /// Takes an inline policy from a user.
    async fn delete_user_policy(&self, user: &UserId, name: &PolicyName) -> Result<(), StoreError>;

    /// Attaches a managed policy to a user.
    async fn attach_user_policy(&self, user: &UserId, policy: &PolicyName) -> Result<(), StoreError>;

    /// Detaches a managed policy from a user.
    async fn detach_user_policy(&self, user: &UserId, policy: &PolicyName) -> Result<(), StoreError>;

    /// Makes a managed policy the permissions boundary of a user, in place of the one it has.
    async fn put_user_permissions_boundary(
        &self,
        user: &UserId,
        policy: &PolicyName,
    ) -> Result<(), StoreError>;

    /// Takes the permissions boundary from a user: its policies alone say from then on what it may do.
    async fn delete_user_permissions_boundary(&self, user: &UserId) -> Result<(), StoreError>;

    /// Adds a group to an account, without members and policies.
    async fn create_group(&self, account: &AccountId, group: &GroupName) -> Result<(), StoreError>;

    /// Deletes a group that has neither members nor policies.
    async fn delete_group(&self, account: &AccountId, group: &GroupName) -> Result<(), StoreError>;

    /// Puts a user into a group.
    async fn add_user_to_group(&self, user: &UserId, group: &GroupName) -> Result<(), StoreError>;

    /// Takes a user out of a group.
    async fn remove_user_from_group(&self, user: &UserId, group: &GroupName) -> Result<(), StoreError>;

    /// Gives a group an inline policy, in place of one with the same name. They are bounded together.
    async fn put_group_policy(
        &self,
        account: &AccountId,
        group: &GroupName,
        name: &PolicyName,
        document: &str,
    ) -> Result<(), StoreError>;

    /// Takes an inline policy from a group.
    async fn delete_group_policy(
        &self,
        account: &AccountId,
        group: &GroupName,
        name: &PolicyName,
    ) -> Result<(), StoreError>;

    /// Attaches a managed policy to a group.
    async fn attach_group_policy(
        &self,
        account: &AccountId,
        group: &GroupName,
        policy: &PolicyName,
    ) -> Result<(), StoreError>;

    /// Detaches a managed policy from a group.
    async fn detach_group_policy(
        &self,
        account: &AccountId,
        group: &GroupName,
        policy: &PolicyName,
    ) -> Result<(), StoreError>;

    /// Adds a managed policy to an account.
    async fn create_policy(
        &self,
        account: &AccountId,
        policy: &PolicyName,
        document: &str,
    ) -> Result<(), StoreError>;

    /// Replaces the document of a managed policy, wherever it is attached or a boundary. Earlier versions are not kept.
    async fn set_policy_document(
        &self,
        account: &AccountId,
        policy: &PolicyName,
        document: &str,
    ) -> Result<(), StoreError>;

    /// Deletes a managed policy that is attached nowhere and nobody's permissions boundary.
    async fn delete_policy(&self, account: &AccountId, policy: &PolicyName) -> Result<(), StoreError>;

    /// Adds an access key to a user. Its secret is sealed, bound to the key's id and to this user.
    async fn create_access_key(&self, key: &AccessKey) -> Result<(), StoreError>;

    /// Adds the access key of the first administrator, and leaves that there is one ([`Self::operator_events`]).
    async fn create_first_access_key(&self, key: &AccessKey, now: UnixSeconds) -> Result<(), StoreError>;

    /// What was done with the daemon's own commands (the first access key, a step of a
    /// roll-over, another stock signer, another master key) and
    /// is not known to be in the audit log: oldest first, some hundreds at a time.
    async fn operator_events(&self) -> Result<Vec<OperatorEvent>, StoreError>;

    /// They are in the audit log. The sequence stays as it is.
    async fn forget_operator_events(&self, events: &[OperatorEvent]) -> Result<(), StoreError>;

    /// Disables an access key or takes it back into use.
    async fn set_access_key_status(&self, key: &AccessKeyId, status: Status) -> Result<(), StoreError>;

    /// Deletes an access key.
    async fn delete_access_key(&self, key: &AccessKeyId) -> Result<(), StoreError>;

    /// Adds an instance to an account, with a host as [`Self::set_instance_host`] does.
    async fn create_instance(&self, instance: &Instance) -> Result<(), StoreError>;

    /// Says which state an instance is in. One that was not running and is now was launched `now`.
    async fn set_instance_state(
        &self,
        instance: &InstanceId,
        state: InstanceState,
        now: UnixSeconds,
    ) -> Result<(), StoreError>;

    /// Replaces what operators say of an instance.
    async fn put_instance_details(
        &self,
        instance: &InstanceId,
        details: &InstanceDetails,
    ) -> Result<(), StoreError>;

    /// Says which instance's agent answers for an instance; `None`: its own. A host is another instance of the same account
    /// and region, not terminated, and no guest; nor is a guest anybody's host. Whatever becomes of a host later, it stays
    /// that of its guests until this says otherwise.
    async fn set_instance_host(
        &self,
        instance: &InstanceId,
        host: Option<&InstanceId>,
    ) -> Result<(), StoreError>;

    /// Replaces all tags of an instance.
    async fn put_instance_tags(
        &self,
        instance: &InstanceId,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), StoreError>;

    /// Makes a change to each of several instances, all or none, as [`Self::put_instance_tags`] and
    /// [`Self::set_instance_state`] do.
    async fn change_instances(
        &self,
        changes: &BTreeMap<InstanceId, InstanceChange>,
        now: UnixSeconds,
    ) -> Result<(), StoreError>;

    /// What IAM knows of an account, as it is stored: for administration, which shows and changes it. Decisions are made on
    /// the inventory.
    async fn account_details(&self, account: &AccountId) -> Result<AccountDetails, StoreError>;

    /// Uses a signature up: `true` for the first call with it, `false` for every other, also after a restart. One that
    /// expired so long ago that it may have been forgotten has been used, too. The sequence stays as it is.
    async fn use_signature(&self, used: &UsedSignature, now: UnixSeconds) -> Result<bool, StoreError>;

    /// Adds a join token for an instance that exists, and drops tokens that lapsed long before `now`.
    async fn create_join_token(&self, token: &JoinToken, now: UnixSeconds) -> Result<(), StoreError>;

    /// Enrols an agent: uses the token up and gives the instance's agent a new identity, which revokes the one before
    /// ([`AgentIdentity::enrolled`]). Of any number of concurrent calls with one token, one succeeds. A refused call leaves the token as it
    /// was.
    async fn redeem_join_token(
        &self,
        secret_hash: &[u8; 32],
        instance: &InstanceId,
        now: UnixSeconds,
        replace: bool,
    ) -> Result<AgentIdentity, RedeemError>;

    /// What is known of the host keys of these instances; what nothing is known of is left out.
    async fn host_keys(
        &self,
        instances: &[InstanceId],
    ) -> Result<BTreeMap<InstanceId, KnownHostKeys>, StoreError>;

    /// What a report of host keys by an instance's agent comes to. Changes nothing. A generation that is not the agent's
    /// own is [`Entity::Agent`](crate::Entity::Agent) not found: what a revoked identity says does not count.
    async fn judge_host_keys(
        &self,
        instance: &InstanceId,
        generation: u64,
        keys: &HostKeys,
    ) -> Result<HostKeyReport, StoreError>;

    /// Keeps what a report of host keys comes to, and says what that was. The sequence stays as it is.
    async fn report_host_keys(
        &self,
        instance: &InstanceId,
        generation: u64,
        keys: &HostKeys,
    ) -> Result<HostKeyReport, StoreError>;

    /// Pins the host keys that are pending, if these are they: what was reported after an administrator had looked is not
    /// accepted with it. Those that are pinned to another instance of the account are refused, unless they are to be taken
    /// from that one (`take_from`): then they are pinned to it no longer, and given here. Where it is left with nothing, they
    /// are pending for it, so that its next report is not pinned as its first. The sequence stays as it is.
    async fn accept_host_keys(
        &self,
        instance: &InstanceId,
        fingerprints: &BTreeSet<Fingerprint>,
        take_from: Option<&InstanceId>,
    ) -> Result<HostKeys, StoreError>;

    /// What the agents of these instances say of their machines; where one has said nothing it is left out.
    async fn host_facts(
        &self,
        instances: &[InstanceId],
    ) -> Result<BTreeMap<InstanceId, ReportedFacts>, StoreError>;

    /// What [`Self::report_host_facts`] would come to, without keeping anything.
    async fn judge_host_facts(
        &self,
        instance: &InstanceId,
        generation: u64,
        facts: &HostFacts,
    ) -> Result<HostFactsReport, StoreError>;

    /// Keeps what an instance's agent says of its machine, and says what came of it. Of a terminated instance what was said
    /// last stays. A generation that is not the agent's own is [`Entity::Agent`](crate::Entity::Agent) not found; another
    /// enrolment and a revocation forget what the agent before has said. The sequence is raised only where the snapshot is
    /// another: where the claims of these facts are.
    async fn report_host_facts(
        &self,
        instance: &InstanceId,
        generation: u64,
        facts: &HostFacts,
        now: UnixSeconds,
    ) -> Result<HostFactsReport, StoreError>;

    /// Keeps that keys of an account were revoked, for as long as a push that was signed before can be good. Of more than
    /// [`REVOCATIONS`](crate::REVOCATIONS) of one account, the oldest of the instance that has the most come to stand for all keys
    /// on that instance; where no instance has two, the oldest of all for all keys of the account.
    async fn put_revocation(&self, account: &AccountId, revocation: &Revocation) -> Result<(), StoreError>;

    /// Changes the identity of an instance's agent, and gives what it is then. Where it is in no state for the change
    /// that is [`Refusal::AgentState`](crate::Refusal::AgentState). What it says of its anchors
    /// ([`AgentChange::TrustAnchors`]) leaves the sequence as it is.
    async fn change_agent(
        &self,
        instance: &InstanceId,
        change: AgentChange,
    ) -> Result<AgentIdentity, StoreError>;

    /// Which anchors there are.
    async fn anchor_rotation(&self) -> Result<AnchorRotation, StoreError>;

    /// Takes a step of a roll-over, leaves that it was taken ([`Self::operator_events`]), and gives what there is then. One
    /// that is not its turn is [`Refusal::AnchorChange`](crate::Refusal::AnchorChange).
    async fn change_anchors(
        &self,
        change: AnchorChange,
        now: UnixSeconds,
    ) -> Result<AnchorRotation, StoreError>;

    /// Which generation of the key signs documents for the metadata service.
    async fn stock_rotation(&self) -> Result<StockRotation, StoreError>;

    /// Has the next generation take over from `from`, and gives what there is then. What an operator has ordered is left
    /// ([`Self::operator_events`]). Where another generation is the newest already, that is
    /// [`Refusal::StockChange`](crate::Refusal::StockChange).
    async fn change_stock_signer(
        &self,
        from: u32,
        change: StockChange,
        now: UnixSeconds,
    ) -> Result<StockRotation, StoreError>;

    /// Keeps a key pair unless one of this name is kept already, and returns the one that is: of several that start at
    /// the same time, all go on with the same. The secret is sealed, bound to the name and the public part.
    async fn put_authority(
        &self,
        name: &AuthorityName,
        public: &[u8],
        secret: &Secret,
    ) -> Result<Authority, StoreError>;

    /// The key pair of this name, if there is one.
    async fn authority(&self, name: &AuthorityName) -> Result<Option<Authority>, StoreError>;
}

/// What becomes of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceChange {
    /// It has these tags, and no others.
    Tags(BTreeMap<String, String>),
    /// It is in this state.
    State(InstanceState),
}

/// What IAM knows of an account, each thing under its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountDetails {
    /// Its users, the root left out.
    pub users: BTreeMap<UserName, UserDetails>,
    /// Its groups.
    pub groups: BTreeMap<GroupName, GroupDetails>,
    /// The documents of its managed policies.
    pub policies: BTreeMap<PolicyName, String>,
}

/// A user as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserDetails {
    /// Its unique id.
    pub id: UserId,
    /// Whether it may call.
    pub status: Status,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The managed policy that is its permissions boundary.
    pub boundary: Option<PolicyName>,
    /// The groups it is in.
    pub groups: BTreeSet<GroupName>,
    /// The documents of its inline policies.
    pub inline: BTreeMap<PolicyName, String>,
    /// The managed policies attached to it.
    pub attached: BTreeSet<PolicyName>,
}

/// A group as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupDetails {
    /// The documents of its inline policies.
    pub inline: BTreeMap<PolicyName, String>,
    /// The managed policies attached to it.
    pub attached: BTreeSet<PolicyName>,
}

/// The inventory of one moment, and what of it could not be loaded as it is stored.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What decisions are made on. Where there is a problem it grants less than what is stored, never more.
    pub inventory: Inventory,
    /// What to tell the operator. Everything not named here is loaded as stored, so that one bad policy or secret
    /// neither grants anything nor stops the service for everyone else.
    pub problems: Vec<Problem>,
    /// What to tell the authors of policies that are loaded as they are stored.
    pub warnings: BTreeSet<PolicyWarning>,
}

/// Something stored that this version cannot use, and what was loaded in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A stored policy cannot be used. Every user it bears on, as its own, a group's or its permissions boundary, is
    /// loaded as suspended and without any policy: this one may hold a Deny or be the boundary, so what is left of the
    /// user's policies would grant too much.
    #[error("policy {policy} of {owner} {fault}; suspended by that: {}", names(suspended))]
    Policy {
        /// Whose policy it is.
        owner: PolicyOwner,
        /// Its name.
        policy: PolicyName,
        /// What is wrong with it.
        fault: PolicyFault,
        /// The users it bears on.
        suspended: BTreeSet<UserId>,
    },

    /// The secret of an access key does not open: altered, or moved from another key or user. The key is left out, as
    /// if it did not exist.
    #[error("access key {key} is left out: {error}")]
    AccessKey {
        /// The key.
        key: AccessKeyId,
        /// Why it does not open.
        error: SealError,
    },
}

/// A stored policy means less than its author may think ([`Policy::warnings`](instance_connect_core::iam::Policy::warnings)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("policy {policy} of {owner}: {warning}")]
pub struct PolicyWarning {
    /// Whose policy it is.
    pub owner: PolicyOwner,
    /// Its name.
    pub policy: PolicyName,
    /// Which statement, and what about it.
    pub warning: String,
}

fn names(users: &BTreeSet<UserId>) -> String {
    if users.is_empty() {
        return "nobody".to_owned();
    }
    users.iter().map(UserId::as_str).collect::<Vec<_>>().join(", ")
}

/// What a policy belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyOwner {
    /// A user, with inline policies.
    User(UserId),
    /// A group, with inline policies.
    Group(AccountId, GroupName),
    /// An account, with managed policies.
    Account(AccountId),
}

impl PolicyOwner {
    /// The account that a group or a managed policy belongs to.
    pub(crate) fn account(&self) -> Option<&AccountId> {
        match self {
            Self::User(_) => None,
            Self::Group(account, _) | Self::Account(account) => Some(account),
        }
    }

    /// What decisions call one of its policies ([`User::policies`](instance_connect_core::inventory::User::policies)).
    pub(crate) fn full_name(&self, policy: &PolicyName) -> String {
        match self {
            Self::User(_) => policy.to_string(),
            Self::Group(_, group) => format!("group/{group}/{policy}"),
            Self::Account(account) => policy_arn(account, policy),
        }
    }
}

impl fmt::Display for PolicyOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "user {user}"),
            Self::Group(account, group) => write!(f, "group {group} of account {account}"),
            Self::Account(account) => write!(f, "account {account}"),
        }
    }
}

/// Why a stored policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// It is not one that this version evaluates fully.
    #[error("cannot be evaluated: {0}")]
    Unevaluable(PolicyError),
    /// It is attached or a permissions boundary, but is not there. Only somebody who switched the database's foreign
    /// keys off can have deleted it.
    #[error("is missing")]
    Missing,
}

/// A key pair the control plane signs with.
#[derive(Clone, Debug)]
pub struct Authority {
    /// The public part: a certificate or a public key.
    pub public: Vec<u8>,
    /// The private key.
    pub secret: Secret,
}

/// Why no agent was enrolled.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// The token does not give this right.
    #[error(transparent)]
    Refused(#[from] RedeemRefusal),
    /// The store could not say.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a join token does not enrol this agent, in the order of the checks: without a token nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedeemRefusal {
    /// There is no such token.
    #[error("the join token is unknown")]
    Unknown,
    /// The token has enrolled an agent before.
    #[error("the join token was used already")]
    AlreadyUsed,
    /// The token's time is over.
    #[error("the join token has expired")]
    Expired,
    /// There is no such instance.
    #[error("the instance does not exist")]
    InstanceUnknown,
    /// The token is bound to another instance.
    #[error("the join token is for another instance")]
    OtherInstance,
    /// The instance has an agent, and it was not asked to replace it.
    #[error("the instance is enrolled already; replacing its agent has to be asked for")]
    AlreadyEnrolled,
}
