//! The inventory as decisions see it: one consistent snapshot in memory. Stores load it; nothing here knows how.

use crate::iam::Policy;
use crate::ids::{
    AccessKeyId, AccountId, AvailabilityZone, GroupName, InstanceId, PolicyName, Region, UserId, UserName,
};
use crate::secret::Secret;
use instance_connect_document::UnixSeconds;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A consistent snapshot of what the store holds.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// The change sequence this snapshot reflects; every committed change raises it.
    pub sequence: u64,
    /// The account that was made first: its principals make and suspend the others. `None` before there is any.
    pub management_account: Option<AccountId>,
    /// Accounts by id.
    pub accounts: HashMap<AccountId, Account>,
    /// Users by unique id.
    pub users: HashMap<UserId, Arc<User>>,
    /// Access keys by id, active and inactive.
    pub access_keys: HashMap<AccessKeyId, AccessKey>,
    /// Instances by id.
    pub instances: HashMap<InstanceId, Arc<Instance>>,
    /// The one agent identity that is valid for each enrolled instance.
    pub agents: HashMap<InstanceId, AgentIdentity>,
}

impl Inventory {
    /// The IAM user of this name. It looks at every user: for administration.
    pub fn user(&self, account: &AccountId, name: &UserName) -> Option<&Arc<User>> {
        let is_it = |user: &&Arc<User>| {
            user.kind == UserKind::IamUser && user.account == *account && user.name == *name
        };
        self.users.values().find(is_it)
    }
}

/// Whether an account, user or access key may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// In use.
    Active,
    /// Known, but refused.
    Suspended,
}

/// An account: the owner of users and instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Whether its users may call at all.
    pub status: Status,
    /// Whether the serial console is switched on; off unless an administrator enabled it (wire.md 6.5).
    pub serial_console_access: bool,
}

/// What kind of principal a [`User`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserKind {
    /// The account itself: allowed unless denied.
    Root,
    /// A user of the account: denied unless allowed.
    IamUser,
}

/// A user: a principal with policies.
#[derive(Clone, Debug)]
pub struct User {
    /// Whether it is an IAM user or the account's root.
    pub kind: UserKind,
    /// Unique id, never used again. That of the account's root is the account's (wire.md 7.6).
    pub id: UserId,
    /// The account it belongs to.
    pub account: AccountId,
    /// Its name within the account. The account's root has none; `root` stands here, which an IAM user may be called too.
    pub name: UserName,
    /// Whether it may call.
    pub status: Status,
    /// Its tags, which policies can ask for. Set by administrators.
    pub tags: BTreeMap<String, String>,
    /// Its identity policies: its own, those attached to it, and those of its groups, each once. Parsed when loaded: one
    /// that cannot be evaluated never gets here.
    ///
    /// Decisions and records name a policy so that no two of one user are confused: an inline policy of the user by its
    /// name, one of a group by `group/<group>/<name>`, a managed policy by its ARN.
    pub policies: Vec<Arc<Policy>>,
    /// Its permissions boundary, a managed policy: what it is allowed, this has to allow too.
    pub boundary: Option<Arc<Policy>>,
}

impl User {
    /// `arn:aws:iam::<account>:user/<name>`, or `arn:aws:iam::<account>:root`.
    pub fn arn(&self) -> String {
        match self.kind {
            UserKind::Root => format!("arn:aws:iam::{}:root", self.account),
            UserKind::IamUser => user_arn(&self.account, &self.name),
        }
    }
}

/// The ARN of an IAM user: `arn:aws:iam::<account>:user/<name>`.
pub fn user_arn(account: &AccountId, name: &UserName) -> String {
    format!("arn:aws:iam::{account}:user/{name}")
}

/// The ARN of a group: `arn:aws:iam::<account>:group/<name>`.
pub fn group_arn(account: &AccountId, name: &GroupName) -> String {
    format!("arn:aws:iam::{account}:group/{name}")
}

/// The ARN of a managed policy: `arn:aws:iam::<account>:policy/<name>`.
pub fn policy_arn(account: &AccountId, name: &PolicyName) -> String {
    format!("arn:aws:iam::{account}:policy/{name}")
}

/// An access key: what a caller signs with.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// Its public id.
    pub id: AccessKeyId,
    /// The secret.
    pub secret: Secret,
    /// Whose it is.
    pub user: UserId,
    /// Whether it may be used.
    pub status: Status,
}

/// The state of an instance, with EC2's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// Being started.
    Pending,
    /// The only state in which keys are delivered.
    Running,
    /// Being shut down for good.
    ShuttingDown,
    /// Gone.
    Terminated,
    /// Being stopped.
    Stopping,
    /// Stopped.
    Stopped,
}

impl InstanceState {
    /// Every state there is.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Running, Self::ShuttingDown, Self::Terminated, Self::Stopping, Self::Stopped];

    /// EC2's name of the state, as in `instanceState.name`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// A machine that keys can be pushed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// The account that owns it.
    pub account: AccountId,
    /// The region it is in.
    pub region: Region,
    /// Its availability zone.
    pub availability_zone: AvailabilityZone,
    /// Its state.
    pub state: InstanceState,
    /// Its tags. Set by operators, never by an agent.
    pub tags: BTreeMap<String, String>,
}

impl Instance {
    /// `arn:aws:ec2:<region>:<account>:instance/<id>`.
    pub fn arn(&self) -> String {
        instance_arn(&self.region, &self.account, &self.id)
    }
}

/// The ARN of an instance, known or not (wire.md 7.1: the service part is `ec2`).
pub fn instance_arn(region: &Region, account: &AccountId, id: &InstanceId) -> String {
    format!("arn:aws:ec2:{region}:{account}:instance/{id}")
}

/// The identity an agent was enrolled with. A later enrolment raises the generation, which revokes the earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentIdentity {
    /// The instance the agent speaks for.
    pub instance: InstanceId,
    /// 1 for the first enrolment, one more for each after it. It stands in the certificate.
    pub generation: u64,
    /// When it was enrolled.
    pub enrolled_at: UnixSeconds,
}

/// A one-time right to enrol one existing instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the token's secret; the secret itself is never stored.
    pub secret_hash: [u8; 32],
    /// The instance it is bound to.
    pub instance: InstanceId,
    /// When it lapses.
    pub expires_at: UnixSeconds,
}
