//! The interface of every store.

use crate::{AuthorityName, PolicyName, SealError, StoreError};
use async_trait::async_trait;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::iam::PolicyError;
use instance_connect_core::ids::{AccessKeyId, AccountId, InstanceId, UserId, UserName};
use instance_connect_core::inventory::{
    AccessKey, Account, AgentIdentity, Instance, InstanceState, Inventory, JoinToken, Status,
};
use instance_connect_core::secret::Secret;
use std::collections::BTreeMap;
use std::fmt;

/// The inventory, kept durably.
///
/// Each method is one transaction. One that changes something has raised the change sequence by exactly one when it
/// returns `Ok`, also where it set what was set already; one that returns an error has changed nothing, unless the
/// error is `Unavailable` or `Internal`, after which nobody knows. A change whose future is dropped may still happen.
///
/// There is no deleting of accounts, users and instances: their ids stand in audit records and certificates, and a
/// reused instance id would bring the generations of its agents back. They are suspended or terminated instead.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// The change sequence. Cheap: whoever keeps a snapshot asks every moment and loads again when it **differs**; after
    /// a restored backup it is lower than before.
    async fn sequence(&self) -> Result<u64, StoreError>;

    /// Everything decisions need, as of one moment.
    async fn inventory(&self) -> Result<Snapshot, StoreError>;

    /// Adds an account.
    async fn create_account(&self, account: &Account) -> Result<(), StoreError>;

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

    /// Suspends a user or takes it back into use.
    async fn set_user_status(&self, user: &UserId, status: Status) -> Result<(), StoreError>;

    /// Gives a user a policy, in place of one with the same name. One that cannot be evaluated fully is refused.
    async fn put_user_policy(
        &self,
        user: &UserId,
        name: &PolicyName,
        document: &str,
    ) -> Result<(), StoreError>;

    /// Takes a policy from a user.
    async fn delete_user_policy(&self, user: &UserId, name: &PolicyName) -> Result<(), StoreError>;

    /// Adds an access key to a user. Its secret is sealed, bound to the key's id and to this user.
    async fn create_access_key(&self, key: &AccessKey) -> Result<(), StoreError>;

    /// Disables an access key or takes it back into use.
    async fn set_access_key_status(&self, key: &AccessKeyId, status: Status) -> Result<(), StoreError>;

    /// Deletes an access key.
    async fn delete_access_key(&self, key: &AccessKeyId) -> Result<(), StoreError>;

    /// Adds an instance to an account.
    async fn create_instance(&self, instance: &Instance) -> Result<(), StoreError>;

    /// Says which state an instance is in.
    async fn set_instance_state(&self, instance: &InstanceId, state: InstanceState)
    -> Result<(), StoreError>;

    /// Replaces all tags of an instance.
    async fn put_instance_tags(
        &self,
        instance: &InstanceId,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), StoreError>;

    /// Adds a join token for an instance that exists, and drops tokens that lapsed long before `now`.
    async fn create_join_token(&self, token: &JoinToken, now: UnixSeconds) -> Result<(), StoreError>;

    /// Enrols an agent: uses the token up and raises the generation of the instance's agent identity, which revokes the
    /// one before. Of any number of concurrent calls with one token, one succeeds. A refused call leaves the token as it
    /// was.
    async fn redeem_join_token(
        &self,
        secret_hash: &[u8; 32],
        instance: &InstanceId,
        now: UnixSeconds,
        replace: bool,
    ) -> Result<AgentIdentity, RedeemError>;

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

/// The inventory of one moment, and what of it could not be loaded as it is stored.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What decisions are made on. Where there is a problem it grants less than what is stored, never more.
    pub inventory: Inventory,
    /// What to tell the operator. Everything not named here is loaded as stored, so that one bad policy or secret
    /// neither grants anything nor stops the service for everyone else.
    pub problems: Vec<Problem>,
}

/// Something stored that this version cannot use, and what was loaded in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A stored policy is not one this version evaluates fully. Its user is loaded as suspended and without any policy:
    /// the policy may hold a Deny, so the user's other policies alone would grant too much.
    #[error("user {user} is suspended: its policy {policy} cannot be evaluated: {error}")]
    Policy {
        /// Whose policy it is.
        user: UserId,
        /// The name of the policy.
        policy: PolicyName,
        /// Why it is refused.
        error: PolicyError,
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
