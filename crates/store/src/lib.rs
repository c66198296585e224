//! The inventory: what accounts, users, groups, policies, access keys, instances and identities exist, kept durably.
//!
//! [`Store`] is the whole interface; its methods are the domain's, and no SQL is seen above it. Decisions never ask a
//! store: they are made on the [`Inventory`](instance_connect_core::inventory::Inventory) it loads. Secrets are sealed
//! before they reach an implementation's files and opened when loaded ([`MasterKey`]).
//!
//! Not here: keys that were pushed. A grant lives for 60 seconds on its machine and is never stored.

mod error;
mod limits;
mod names;
mod seal;
mod sqlite;
mod store;
mod tags;

pub use error::{Entity, Refusal, StoreError};
pub use instance_connect_core::ids::PolicyName;
pub use limits::{
    ACCESS_KEYS_PER_USER, ATTACHED_POLICIES, GROUP_POLICIES, GROUPS_PER_USER, REVOCATIONS, TAG_KEY,
    TAG_VALUE, TAGS, USER_POLICIES,
};
pub use names::AuthorityName;
pub use seal::{MasterKey, MasterKeyError, SealError};
pub use sqlite::SqliteStore;
pub use store::{
    AccountDetails, Authority, GroupDetails, InstanceChange, PolicyFault, PolicyOwner, PolicyWarning,
    Problem, RedeemError, RedeemRefusal, Snapshot, Store, UserDetails,
};
