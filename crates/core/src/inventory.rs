//! The inventory as decisions see it: one consistent snapshot in memory. Stores load it; nothing here knows how.

mod instances;

use crate::host_facts::{Addresses, Architecture, HostClaims};
use crate::iam::Policy;
use crate::ids::{
    AccessKeyId, AccountId, AvailabilityZone, GroupName, ImageId, InstanceId, InstanceType, PolicyName,
    Region, UserId, UserName,
};
use crate::link::limits::ANCHORS_WITHHELD;
use crate::revocation::Revocations;
use crate::secret::Secret;
use instance_connect_document::UnixSeconds;
use instance_connect_planted::planted;
pub use instances::Instances;
use rpds::HashTrieMapSync;
use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

/// A consistent snapshot of what the store holds.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// The change sequence this snapshot reflects; every committed change raises it.
    pub sequence: u64,
    /// The random id of the change that raised it last: a store that was restored counts on from where it was, with others.
    pub change_id: [u8; 16],
    /// The account that was made first: its principals make and suspend the others. `None` before there is any.
    pub management_account: Option<AccountId>,
    /// Accounts by id.
    pub accounts: HashMap<AccountId, Account>,
    /// Users by unique id.
    pub users: HashMap<UserId, Arc<User>>,
    /// Access keys by id, active and inactive.
    pub access_keys: HashMap<AccessKeyId, AccessKey>,
    /// The instances.
    pub instances: Instances,
    /// The agent identity of each instance that was ever enrolled.
    pub agents: HashTrieMapSync<InstanceId, AgentIdentity>,
    /// What their agents say of their machines, as far as it is shown. It is not in the instances themselves, which policies
    /// look at.
    pub claims: HashTrieMapSync<InstanceId, HostClaims>,
    /// From when on pushes have to be signed, where keys were revoked.
    pub revocations: Revocations,
}

impl Inventory {
    /// The IAM user of this name. It looks at every user: for administration.
    pub fn user(&self, account: &AccountId, name: &UserName) -> Option<&Arc<User>> {
        let is_it = |user: &&Arc<User>| {
            user.kind == UserKind::IamUser && user.account == *account && user.name == *name
        };
        self.users.values().find(is_it)
    }

    /// Where an instance is found: what operators say. Where they say no address at all, it is what its agent says. One of each
    /// would be worse than none: clients take a public address before a private one, and would follow the agent's. One that is
    /// gone for good is found nowhere.
    pub fn addresses(&self, instance: &Instance) -> Addresses {
        if instance.state == InstanceState::Terminated {
            return Addresses::default();
        }
        let pinned = instance.details.addresses();
        if !pinned.is_empty() && !planted("claims-preferred") {
            return pinned;
        }
        // Whoever asks which instance is at an address is told of the one that operators have said, and of no other.
        let is_anothers = |address| {
            self.instances.is_pinned(&instance.account, address) && !planted("pinned-address-claimed")
        };
        self.claims(instance).addresses.filter(|address| !is_anothers(address))
    }

    /// What processor an instance has, as its agent says.
    pub fn architecture(&self, instance: &Instance) -> Option<Architecture> {
        self.claims(instance).architecture
    }

    /// What an instance's own agent says, unless the instance is gone, another's agent answers for it, or two machines hold
    /// its identity: then nobody knows which of them has said it.
    fn claims(&self, instance: &Instance) -> HostClaims {
        let is_active = |agent: &AgentIdentity| agent.state == AgentState::Active;
        let is_shown = instance.state != InstanceState::Terminated
            && instance.host.is_none()
            && self.agents.get(&instance.id).is_some_and(is_active);
        let claims = self.claims.get(&instance.id).filter(|_| is_shown);
        claims.copied().unwrap_or_default()
    }

    /// The account's instances from this id on, in the order of their ids.
    pub fn instances_from<'i, 'a>(
        &'i self,
        account: &AccountId,
        first: &'a str,
    ) -> impl Iterator<Item = &'i Arc<Instance>> + use<'i, 'a> {
        self.instances.of_account(account, first)
    }

    /// The instances that the agent of this one answers for besides its own.
    pub fn guests_of(&self, host: &InstanceId) -> impl Iterator<Item = &Arc<Instance>> + use<'_> {
        self.instances.of_host(host)
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

    /// EC2's number of the state, as in `instanceState.code` (wire.md 9.4).
    pub const fn code(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Running => 16,
            Self::ShuttingDown => 32,
            Self::Terminated => 48,
            Self::Stopping => 64,
            Self::Stopped => 80,
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
    /// The instance whose agent answers for this one: a hypervisor, say, with this as its guest. `None`: its own. Set by
    /// operators; a host is itself no guest, and of the same account and region.
    pub host: Option<InstanceId>,
    /// What operators say of it beside its place.
    pub details: InstanceDetails,
    /// When it was added here, or started last.
    pub launched_at: UnixSeconds,
}

/// What operators say of an instance, for people and tools that look for it. No decision rests on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceDetails {
    /// What kind of machine it is.
    pub instance_type: Option<InstanceType>,
    /// The image it was made from.
    pub image_id: Option<ImageId>,
    /// Its IPv4 address within its network.
    pub private_ip: Option<Ipv4Addr>,
    /// Its IPv4 address in the internet.
    pub public_ip: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
}

impl InstanceDetails {
    /// Where operators say that it is found.
    pub const fn addresses(&self) -> Addresses {
        Addresses { private_ip: self.private_ip, public_ip: self.public_ip, ipv6: self.ipv6 }
    }
}

impl Instance {
    /// The instance whose agent gets this one's keys: its host, or itself.
    pub fn machine(&self) -> &InstanceId {
        self.host.as_ref().unwrap_or(&self.id)
    }

    /// `arn:aws:ec2:<region>:<account>:instance/<id>`.
    pub fn arn(&self) -> String {
        instance_arn(&self.region, &self.account, &self.id)
    }
}

/// The ARN of an instance, known or not (wire.md 7.1: the service part is `ec2`).
pub fn instance_arn(region: &Region, account: &AccountId, id: &InstanceId) -> String {
    format!("arn:aws:ec2:{region}:{account}:instance/{id}")
}

/// The identity of an instance's agent: which of its certificates are good (docs/link.md 2.1).
///
/// Each certificate has a generation of its own, so `enrolled <= used <= newest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentIdentity {
    /// The instance the agent speaks for.
    pub instance: InstanceId,
    /// The generation of the last enrolment. Those before it are revoked.
    pub enrolled: u64,
    /// The generation of the newest certificate that a link was opened with. Those before it are stale.
    pub used: u64,
    /// The highest generation that was issued.
    pub newest: u64,
    /// When it was enrolled.
    pub enrolled_at: UnixSeconds,
    /// Whether its certificates count at all.
    pub state: AgentState,
    /// Which anchor set of ours the machine says that it trusts; 0 before it has said so, and where its anchors are none of
    /// ours. It changes without the inventory's sequence.
    pub anchor_set: u32,
}

/// Whether an agent's identity may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentState {
    /// In use.
    Active,
    /// Two machines seem to hold it: refused until an operator has re-armed it, or enrolled the machine again.
    Suspended,
    /// Refused until the machine is enrolled again.
    Revoked,
}

/// What happens to an agent's identity once it is enrolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentChange {
    /// Another certificate is issued, for the holder of a good one.
    Renew {
        /// The generation of that one.
        presented: u64,
    },
    /// A link is opened: older certificates are stale from now on.
    Use {
        /// The generation of its certificate.
        generation: u64,
    },
    /// Two machines seem to hold it.
    Suspend {
        /// The generation of the certificate that showed it.
        presented: u64,
    },
    /// The operator has removed the machine that should not have had it. One generation is left out, so that whoever
    /// comes back with an older one is asked to renew.
    Rearm,
    /// It is refused from now on.
    Revoke,
    /// The machine says which anchors it trusts.
    TrustAnchors {
        /// The number of the set.
        set: u32,
    },
}

/// Which anchors vouch for the signers of a region. Each has a number, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnchorRotation {
    /// The one that does.
    pub current: u32,
    /// Whether machines are told to trust the next one, too.
    pub is_rolling_over: bool,
    /// When that was changed last.
    pub changed_at: UnixSeconds,
}

/// A step of a roll-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnchorChange {
    /// Machines are told to trust the next anchor, too.
    Begin,
    /// The next anchor is the current one, and machines are told to forget the one before.
    Finish,
}

impl AnchorRotation {
    /// Before any roll-over.
    pub const FIRST: Self = Self { current: 1, is_rolling_over: false, changed_at: UnixSeconds(0) };

    /// The rotation after a step; `None` for one that is not its turn. The next roll-over does not begin before machines
    /// are told of the end of the last one: they would be told of both at once, and too early.
    #[must_use]
    pub const fn changed(self, change: AnchorChange, now: UnixSeconds) -> Option<Self> {
        match (change, self.is_rolling_over) {
            (AnchorChange::Begin, false) if !self.has_just_changed(now) => {
                Some(Self { current: self.current, is_rolling_over: true, changed_at: now })
            }
            (AnchorChange::Finish, true) => Some(Self {
                current: self.current.saturating_add(1),
                is_rolling_over: false,
                changed_at: now,
            }),
            (AnchorChange::Begin, _) | (AnchorChange::Finish, false) => None,
        }
    }

    /// Whether the last step was within [`ANCHORS_WITHHELD`]. A clock that was set by more than that meanwhile prolongs
    /// nothing.
    pub const fn has_just_changed(self, now: UnixSeconds) -> bool {
        now.0.abs_diff(self.changed_at.0) < ANCHORS_WITHHELD.as_secs()
    }

    /// The number of the set of anchors that machines are to trust: it goes up by one with each step.
    pub const fn set(self) -> u32 {
        let before = self.current.saturating_sub(1).saturating_mul(2);
        before.saturating_add(if self.is_rolling_over { 2 } else { 1 })
    }
}

/// Which generation of the key signs documents for the metadata service (docs/link.md 7.3). Each has a number, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockRotation {
    /// The newest one; 0 before there is any.
    pub current: u32,
    /// Since when it is that.
    pub changed_at: UnixSeconds,
    /// Whether the one before it is revoked.
    pub is_revoked: bool,
}

/// Why the next generation takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StockChange {
    /// Its time has come.
    Due,
    /// An operator has said so.
    Ordered {
        /// Whether the one that signs now is revoked by it.
        revokes: bool,
    },
}

impl StockRotation {
    /// Before the first generation.
    pub const NONE: Self = Self { current: 0, changed_at: UnixSeconds(0), is_revoked: false };

    /// The rotation after a change that was decided on while generation `from` was the newest; `None` where another one
    /// is: of several that decide at the same time one changes it, and the others find it done.
    #[must_use]
    pub const fn changed(self, from: u32, change: StockChange, now: UnixSeconds) -> Option<Self> {
        if self.current != from {
            return None;
        }
        let Some(current) = from.checked_add(1) else { return None };
        let is_revoked = matches!(change, StockChange::Ordered { revokes: true }) && from > 0;
        Some(Self { current, changed_at: now, is_revoked })
    }

    /// Whether machines are still told of the generation before: until it is `overlap` ago that the newest took over.
    pub const fn overlaps(self, now: UnixSeconds, overlap: Duration) -> bool {
        // A clock that was set meanwhile prolongs nothing by more than that.
        self.current > 1 && now.0.abs_diff(self.changed_at.0) < overlap.as_secs()
    }

    /// The generations that machines are told of, in ascending order, each with whether it is revoked.
    pub fn in_force(self, now: UnixSeconds, overlap: Duration) -> impl Iterator<Item = (u32, bool)> {
        let before = self.overlaps(now, overlap).then(|| (self.current.saturating_sub(1), self.is_revoked));
        let current = (self.current > 0).then_some((self.current, false));
        before.into_iter().chain(current)
    }
}

/// What a certificate of some generation is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentStanding {
    /// It opens links.
    Good,
    /// It was good until a link was opened with a newer one: whoever shows it now has a copy.
    Stale,
    /// The identity is suspended.
    Suspended,
    /// The identity is revoked, or this is of an enrolment before the last.
    Revoked,
}

impl AgentIdentity {
    /// The identity of an instance's first enrolment, or of the one after `before`.
    pub fn enrolled(instance: &InstanceId, before: Option<&Self>, now: UnixSeconds) -> Self {
        let generation = before.map_or(1, |before| before.newest.saturating_add(1));
        Self {
            instance: instance.clone(),
            enrolled: generation,
            used: generation,
            newest: generation,
            enrolled_at: now,
            state: AgentState::Active,
            anchor_set: 0,
        }
    }

    /// The identity after a change; `None` where it is in no state for it.
    #[must_use]
    pub fn changed(&self, change: AgentChange) -> Option<Self> {
        let changed = self.clone();
        let is_good = |generation| self.standing(generation) == AgentStanding::Good;
        match change {
            AgentChange::Renew { presented } if is_good(presented) => {
                Some(Self { newest: self.newest.max(presented).saturating_add(1), ..changed })
            }
            AgentChange::Use { generation } if is_good(generation) => {
                Some(Self { used: generation, newest: self.newest.max(generation), ..changed })
            }
            AgentChange::Suspend { presented }
                if self.state == AgentState::Active && presented >= self.enrolled =>
            {
                Some(Self { state: AgentState::Suspended, ..changed })
            }
            AgentChange::Rearm if self.state == AgentState::Suspended => {
                Some(Self { state: AgentState::Active, newest: self.newest.saturating_add(1), ..changed })
            }
            AgentChange::TrustAnchors { set } => Some(Self { anchor_set: set, ..changed }),
            AgentChange::Revoke => Some(Self { state: AgentState::Revoked, ..changed }),
            AgentChange::Renew { .. }
            | AgentChange::Use { .. }
            | AgentChange::Suspend { .. }
            | AgentChange::Rearm => None,
        }
    }

    /// What a certificate of this generation is worth.
    pub fn standing(&self, generation: u64) -> AgentStanding {
        match self.state {
            AgentState::Revoked => AgentStanding::Revoked,
            _ if generation < self.enrolled => AgentStanding::Revoked,
            AgentState::Suspended => AgentStanding::Suspended,
            AgentState::Active if generation < self.used && !planted("stale-accepted") => {
                AgentStanding::Stale
            }
            AgentState::Active => AgentStanding::Good,
        }
    }
}

impl AgentState {
    /// Every state there is.
    pub const ALL: [Self; 3] = [Self::Active, Self::Suspended, Self::Revoked];

    /// Its name, in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_certificate_is_judged_by_its_generation() {
        use AgentStanding::{Good, Revoked, Stale, Suspended};
        let first = AgentIdentity::enrolled(&"i-0123456789abcdef0".parse().unwrap(), None, UnixSeconds(0));
        assert_eq!((first.enrolled, first.used, first.newest), (1, 1, 1));
        // Enrolled for the third time, renewed twice, and the last renewal not used yet.
        let identity = AgentIdentity { enrolled: 3, used: 4, newest: 5, ..first };
        for (state, standings) in [
            (AgentState::Active, [Revoked, Revoked, Stale, Good, Good, Good]),
            (AgentState::Suspended, [Revoked, Revoked, Suspended, Suspended, Suspended, Suspended]),
            (AgentState::Revoked, [Revoked; 6]),
        ] {
            let identity = AgentIdentity { state, ..identity.clone() };
            assert_eq!([1, 2, 3, 4, 5, 6].map(|generation| identity.standing(generation)), standings);
        }
        assert_eq!(identity.changed(AgentChange::Rearm), None, "it is not suspended");
        let again = AgentIdentity::enrolled(&identity.instance, Some(&identity), UnixSeconds(0));
        assert_eq!((again.enrolled, again.used, again.newest), (6, 6, 6));
    }

    fn addresses(private_ip: &str, public_ip: &str, ipv6: &str) -> Addresses {
        Addresses {
            private_ip: private_ip.parse().ok(),
            public_ip: public_ip.parse().ok(),
            ipv6: ipv6.parse().ok(),
        }
    }

    /// One that operators say is there.
    fn instance(id: &str, Addresses { private_ip, public_ip, ipv6 }: Addresses) -> Instance {
        Instance {
            id: id.parse().unwrap(),
            account: "111122223333".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            availability_zone: "us-east-1a".parse().unwrap(),
            state: InstanceState::Running,
            tags: BTreeMap::new(),
            host: None,
            details: InstanceDetails { private_ip, public_ip, ipv6, ..InstanceDetails::default() },
            launched_at: UnixSeconds(0),
        }
    }

    /// These instances, and an agent of each that claims to be there.
    fn claimed_by_all(instances: &[Instance], addresses: Addresses) -> Inventory {
        let mut inventory = Inventory {
            instances: instances.iter().cloned().map(Arc::new).collect(),
            ..Inventory::default()
        };
        for Instance { id, .. } in instances {
            let claims = HostClaims { addresses, architecture: Some(Architecture::Arm64) };
            inventory.claims.insert_mut(id.clone(), claims);
            inventory.agents.insert_mut(id.clone(), AgentIdentity::enrolled(id, None, UnixSeconds(0)));
        }
        inventory
    }

    /// Catches the planted `claims-preferred`. An agent that lies does not lead those away whom operators have told where to go, nor
    /// by an address of a kind that they have not spoken of: clients take a public one first.
    #[test]
    fn what_operators_say_of_addresses_stands_alone() {
        let claimed = addresses("10.9.9.9", "8.8.4.4", "2001:db8::99");
        for (pinned, expected) in [
            (addresses("", "", ""), claimed),
            (addresses("10.0.1.9", "", ""), addresses("10.0.1.9", "", "")),
            (addresses("", "192.0.2.9", ""), addresses("", "192.0.2.9", "")),
            (addresses("", "", "2001:db8::9"), addresses("", "", "2001:db8::9")),
        ] {
            let instance = instance("i-00000000000000001", pinned);
            let inventory = claimed_by_all(std::slice::from_ref(&instance), claimed);
            assert_eq!(inventory.addresses(&instance), expected);
            assert_eq!(Inventory::default().addresses(&instance), pinned, "no agent has said anything");
        }
    }

    /// Catches the planted `pinned-address-claimed`. Clients that know no host keys ask which instance is at an address.
    #[test]
    fn a_claim_of_what_is_pinned_for_another_is_not_shown() {
        let claimed = addresses("10.9.9.9", "8.8.4.4", "2001:db8::99");
        let liar = instance("i-00000000000000001", Addresses::default());
        let other = |pinned| instance("i-00000000000000002", pinned);
        let foreign = Instance { account: "444455556666".parse().unwrap(), ..other(claimed) };
        let gone = Instance { state: InstanceState::Terminated, ..other(claimed) };
        for (other, expected) in [
            (other(addresses("10.9.9.9", "", "")), addresses("", "8.8.4.4", "2001:db8::99")),
            (other(addresses("", "8.8.4.4", "")), addresses("10.9.9.9", "", "2001:db8::99")),
            (other(claimed), Addresses::default()),
            (other(addresses("10.9.9.8", "", "")), claimed),
            // Nobody knows of another account's, and a machine that is gone keeps nobody from where it was.
            (foreign, claimed),
            (gone, claimed),
        ] {
            let inventory = claimed_by_all(&[liar.clone(), other.clone()], claimed);
            assert_eq!(inventory.addresses(&liar), expected, "{:?}", other.details);
        }
    }

    #[test]
    fn claims_are_shown_of_an_instance_that_is_there_and_has_an_agent_of_its_own() {
        let claimed = addresses("10.9.9.9", "", "");
        let own = instance("i-00000000000000001", Addresses::default());
        let guest = Instance { host: Some("i-00000000000000002".parse().unwrap()), ..own.clone() };
        let in_state = |state| Instance { state, ..own.clone() };
        let active = AgentState::Active;
        for (instance, agent, is_shown) in [
            (own.clone(), active, true),
            (in_state(InstanceState::Stopped), active, true),
            (in_state(InstanceState::Terminated), active, false),
            (guest, active, false),
            (own.clone(), AgentState::Suspended, false),
            (own.clone(), AgentState::Revoked, false),
        ] {
            let mut inventory = claimed_by_all(std::slice::from_ref(&instance), claimed);
            let identity = inventory.agents[&instance.id].clone();
            inventory.agents.insert_mut(instance.id.clone(), AgentIdentity { state: agent, ..identity });
            let expected = if is_shown { claimed } else { Addresses::default() };
            assert_eq!(inventory.addresses(&instance), expected, "{instance:?} {agent:?}");
            let architecture = is_shown.then_some(Architecture::Arm64);
            assert_eq!(inventory.architecture(&instance), architecture, "{instance:?} {agent:?}");
        }
        let gone = Instance { state: InstanceState::Terminated, ..instance("i-00000000000000001", claimed) };
        assert!(Inventory::default().addresses(&gone).is_empty(), "whatever operators have said");
    }

    #[test]
    fn a_roll_over_has_two_steps_and_each_has_a_set_of_its_own() {
        let (begin, finish, now) = (AnchorChange::Begin, AnchorChange::Finish, UnixSeconds(1_000_000));
        let first = AnchorRotation::FIRST;
        assert_eq!((first.set(), first.changed(finish, now)), (1, None));
        let both = first.changed(begin, now).unwrap();
        assert_eq!((both.set(), both.current, both.changed(begin, now)), (2, 1, None));
        let second = both.changed(finish, now).unwrap();
        assert_eq!((second.set(), second.current, second.changed_at), (3, 2, now));
        assert_eq!(second.changed(begin, UnixSeconds(now.0 + 120)).unwrap().set(), 4);
    }

    #[test]
    fn a_roll_over_begins_two_minutes_after_the_one_before() {
        let rotation =
            AnchorRotation { current: 2, is_rolling_over: false, changed_at: UnixSeconds(1_000_000) };
        for (seconds, begins) in [(-3600, true), (-119, false), (0, false), (119, false), (120, true)] {
            let now = UnixSeconds(rotation.changed_at.0 + seconds);
            assert_eq!(rotation.changed(AnchorChange::Begin, now).is_some(), begins, "{seconds}");
        }
    }

    #[test]
    fn one_stock_signer_follows_the_other_with_an_overlap() {
        let (overlap, now) = (Duration::from_secs(600), UnixSeconds(1_000_000));
        let at = |seconds| UnixSeconds(now.0 + seconds);
        let in_force = |rotation: StockRotation, now| rotation.in_force(now, overlap).collect::<Vec<_>>();
        assert_eq!(in_force(StockRotation::NONE, now), []);
        let first = StockRotation::NONE.changed(0, StockChange::Ordered { revokes: true }, now).unwrap();
        assert_eq!(first, StockRotation { current: 1, changed_at: now, is_revoked: false });
        assert_eq!(in_force(first, now), [(1, false)], "there is none before the first");

        let second = first.changed(1, StockChange::Due, now).unwrap();
        for (seconds, expected) in [
            (0, &[(1, false), (2, false)][..]),
            (599, &[(1, false), (2, false)]),
            (600, &[(2, false)]),
            (-599, &[(1, false), (2, false)]),
            // The clock was set back by more than the overlap.
            (-600, &[(2, false)]),
        ] {
            assert_eq!(in_force(second, at(seconds)), expected, "{seconds}");
        }
        let revoking = first.changed(1, StockChange::Ordered { revokes: true }, now).unwrap();
        assert_eq!(in_force(revoking, now), [(1, true), (2, false)]);
        assert_eq!(
            in_force(revoking.changed(2, StockChange::Due, now).unwrap(), now),
            [(2, false), (3, false)]
        );
    }

    #[test]
    fn a_rotation_is_of_the_signer_that_was_looked_at() {
        let third = StockRotation { current: 3, changed_at: UnixSeconds(7), is_revoked: false };
        for from in [0, 2, 4] {
            assert_eq!(third.changed(from, StockChange::Due, UnixSeconds(8)), None, "{from}");
        }
        let last = StockRotation { current: u32::MAX, ..third };
        assert_eq!(last.changed(u32::MAX, StockChange::Due, UnixSeconds(8)), None);
    }

    fn change() -> impl Strategy<Value = AgentChange> {
        let generation = || 0..8u64;
        prop_oneof![
            generation().prop_map(|presented| AgentChange::Renew { presented }),
            generation().prop_map(|generation| AgentChange::Use { generation }),
            generation().prop_map(|presented| AgentChange::Suspend { presented }),
            Just(AgentChange::Rearm),
            Just(AgentChange::Revoke),
            (0..4u32).prop_map(|set| AgentChange::TrustAnchors { set }),
        ]
    }

    proptest! {
        /// Catches the planted `stale-accepted`.
        #[test]
        fn a_certificate_never_becomes_good_again(changes in proptest::collection::vec((change(), any::<bool>()), 0..20)) {
            let instance = "i-0123456789abcdef0".parse().unwrap();
            let mut identity = AgentIdentity::enrolled(&instance, None, UnixSeconds(0));
            for (change, enroll_again) in changes {
                let after = match enroll_again {
                    true => AgentIdentity::enrolled(&instance, Some(&identity), UnixSeconds(1)),
                    false => identity.changed(change).unwrap_or_else(|| identity.clone()),
                };
                prop_assert!(after.enrolled <= after.used && after.used <= after.newest);
                prop_assert!(after.used >= identity.used && after.newest >= identity.newest);
                for generation in 0..after.used {
                    prop_assert_ne!(after.standing(generation), AgentStanding::Good);
                }
                if matches!(change, AgentChange::Use { .. }) && !enroll_again {
                    prop_assert!(identity.changed(change).is_none() || after.standing(after.used) == AgentStanding::Good);
                }
                identity = after;
            }
        }

        /// Whoever holds the certificate that was suspended, and comes back second after a re-arm, is found out.
        #[test]
        fn one_of_two_machines_survives_a_rearm(generation in 1..9u64) {
            let first = AgentIdentity::enrolled(&"i-0123456789abcdef0".parse().unwrap(), None, UnixSeconds(0));
            let held = AgentIdentity { used: generation, newest: generation, ..first };
            let suspended = held.changed(AgentChange::Suspend { presented: generation }).unwrap();
            let rearmed = suspended.changed(AgentChange::Rearm).unwrap();
            prop_assert_eq!(rearmed.standing(generation), AgentStanding::Good);
            prop_assert!(rearmed.newest > generation, "whoever comes is asked to renew");
            let renewed = rearmed.changed(AgentChange::Renew { presented: generation }).unwrap();
            let used = renewed.changed(AgentChange::Use { generation: renewed.newest }).unwrap();
            prop_assert_eq!(used.standing(generation), AgentStanding::Stale);
        }
    }
}
