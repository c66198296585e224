//! What can go wrong, closed: whoever calls a store decides on every case.

use crate::limits::{
    ACCESS_KEYS_PER_USER, ATTACHED_POLICIES, GROUP_POLICIES, GROUPS_PER_USER, TAG_KEY, TAG_VALUE, TAGS,
    USER_POLICIES,
};
use crate::seal::SealError;
use instance_connect_core::iam::PolicyError;
use instance_connect_core::ids::InstanceId;
use std::fmt;
use std::path::PathBuf;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something with this id or name exists; nothing was changed.
    #[error("{0} already exists")]
    AlreadyExists(Entity),

    /// What the change is about does not exist; nothing was changed.
    #[error("{0} does not exist")]
    NotFound(Entity),

    /// What is to be deleted is in use; nothing was changed. A policy that is attached somewhere or is a permissions
    /// boundary, and a group with members or policies.
    #[error("{0} is in use and cannot be deleted")]
    DeleteConflict(Entity),

    /// The store does not keep such a thing; nothing was changed.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),

    /// The database was made with another master key. Nothing was changed.
    #[error(
        "this is not the master key the database was made with: \
         give the right one, or restore the backup of the database that belongs to this key. \
         If rotate-master-key was interrupted, its next key is beside the key's file: run it again, as root"
    )]
    WrongMasterKey,

    /// A sealed secret does not open.
    #[error("{row}: {error}")]
    Sealed {
        /// The row it is in.
        row: String,
        /// Why it does not open.
        #[source]
        error: SealError,
    },

    /// The database was written by a newer version of this program.
    #[error(
        "the database has schema version {found}, this program knows versions up to {known}: \
         run the newer program, or restore a backup made before the upgrade"
    )]
    Newer {
        /// The version the database has.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },

    /// The files must not be used as they are: their permissions, or what they contain.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: &'static str,
    },

    /// Not now: the database is held by another process, or the store is closing. A change may be tried again.
    #[error("the store is unavailable: {0}")]
    Unavailable(&'static str),

    /// A row holds what no version of this program writes: someone else changed the database.
    #[error("the database is damaged: {0}")]
    Damaged(String),

    /// The database or the file system failed.
    #[error("the store failed: {0}")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entity {
    /// An account.
    Account,
    /// A user, by id.
    User,
    /// The name of a user within its account. Names that differ only in case are the same (the IAM API reference).
    UserName,
    /// A group. Names that differ only in case are the same, as with users.
    Group,
    /// That a user is in a group.
    Membership,
    /// A policy: of a user, of a group, or managed. Names of managed ones that differ only in case are the same.
    Policy,
    /// That a managed policy is attached to a user or a group.
    Attachment,
    /// A user's permissions boundary.
    PermissionsBoundary,
    /// An access key.
    AccessKey,
    /// An instance.
    Instance,
    /// The identity of an instance's agent.
    Agent,
    /// A join token.
    JoinToken,
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Account => "the account",
            Self::User => "the user",
            Self::UserName => "a user with this name",
            Self::Group => "the group",
            Self::Membership => "the membership",
            Self::Policy => "the policy",
            Self::Attachment => "the attachment",
            Self::PermissionsBoundary => "the permissions boundary",
            Self::AccessKey => "the access key",
            Self::Instance => "the instance",
            Self::JoinToken => "the join token",
            Self::Agent => "the agent's identity",
        })
    }
}

/// What a store does not keep.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A policy that could not be evaluated fully.
    #[error(transparent)]
    Policy(#[from] PolicyError),

    /// It is asked for an account's root, which is not an IAM user.
    #[error("the account's root has no name, tags, groups, policies or permissions boundary")]
    Root,

    /// More groups than a user is in.
    #[error("a user is in at most {GROUPS_PER_USER} groups")]
    TooManyGroups,

    /// More managed policies than are attached to a user or a group.
    #[error("a user or a group has at most {ATTACHED_POLICIES} managed policies attached")]
    TooManyPolicies,

    /// More access keys than a user has.
    #[error("a user has at most {ACCESS_KEYS_PER_USER} access keys")]
    TooManyAccessKeys,

    /// More text in the inline policies of a user or a group than they have together.
    #[error(
        "the inline policies of a user have at most {USER_POLICIES} characters together, those of a group \
         {GROUP_POLICIES}, without white space; longer ones can be managed policies"
    )]
    InlinePoliciesTooLong,

    /// Other host keys than these are pending, or none.
    #[error("these are not the host keys that are waiting to be accepted; look at them once more")]
    OtherHostKeys,

    /// A host key that is to be accepted is pinned to another instance.
    #[error(
        "one of the host keys is that of {0}, and whoever has a machine's host key can pass for it: \
         make new ones on one of the two machines (ssh-keygen -A, after removing /etc/ssh/ssh_host_*), \
         or take it from {0} (TakeFrom), if that one only claims it"
    )]
    HostKeyInUse(InstanceId),

    /// A host key is to be taken from an instance to which none of those is pinned that are to be accepted.
    #[error("none of the host keys is that of {0}, so there is nothing to take from it")]
    HostKeyNotInUse(InstanceId),

    /// An agent's identity is to be re-armed that is not suspended, or one that is suspended or revoked to be used.
    #[error("the agent's identity is not in a state for this")]
    AgentState,

    /// A roll-over of anchors is to begin while one is under way or has just ended, or to end while none is.
    #[error(
        "a roll-over of anchors begins when none is under way and none has ended within two minutes, and ends when one is \
         under way"
    )]
    AnchorChange,

    /// Another stock signer has taken over meanwhile, or there is no number left for another one.
    #[error("another stock signer has taken over meanwhile")]
    StockChange,

    /// An instance is to be its own host.
    #[error("an instance is no guest of itself: without a host its own agent answers for it")]
    OwnHost,

    /// A host is of another account, or in another region.
    #[error("an instance and its host are of one account and in one region")]
    HostElsewhere,

    /// A host is terminated.
    #[error("a terminated instance is nobody's host")]
    HostTerminated,

    /// A host is a guest itself.
    #[error("the host is a guest itself, and its own agent answers for nobody")]
    HostIsGuest,

    /// A guest is the host of others.
    #[error("the instance is the host of others, and a guest is nobody's host")]
    GuestIsHost,

    /// More tags than an instance or a user has.
    #[error("an instance or a user has at most {TAGS} tags")]
    TooManyTags,

    /// The key of an instance's tag is empty, too long or not plain text.
    #[error("a tag key has 1 to {TAG_KEY} characters and no control characters")]
    TagKey,

    /// The value of an instance's tag is too long or not plain text.
    #[error("a tag value has at most {TAG_VALUE} characters and no control characters")]
    TagValue,

    /// The key of a user's tag is empty, too long or not in IAM's characters.
    #[error(
        "the key of a user's tag has 1 to {TAG_KEY} letters, digits, spaces or any of _ . : / = + - @, \
         and does not begin with aws:"
    )]
    UserTagKey,

    /// Two keys of one user's tags differ only in case.
    #[error("two keys of a user's tags differ only in case, which conditions do not tell apart")]
    UserTagKeyTwice,

    /// The value of a user's tag is too long or not in IAM's characters.
    #[error(
        "the value of a user's tag has at most {TAG_VALUE} letters, digits, spaces or any of _ . : / = + - @, \
         and does not begin with aws:"
    )]
    UserTagValue,
}
