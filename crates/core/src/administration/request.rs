//! Operations with their parameters.

use super::members::Members;
use super::{Operation, PolicyArn, SimulatedContext, SimulatedPush, parameters, recorded};
use crate::api::ApiError;
use crate::audit::{EventFilter, LogPosition};
use crate::iam::{Policy, PolicyError};
use crate::ids::{
    AccessKeyId, AccountId, AvailabilityZone, Fingerprint, GroupName, InstanceId, OsUser, PolicyName, Region,
    UserName,
};
use crate::inventory::{
    InstanceDetails, InstanceState, Status, User, group_arn, instance_arn, policy_arn, user_arn,
};
use instance_connect_planted::parser_entered;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// A policy document that can be evaluated fully.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDocument {
    text: String,
    warnings: Vec<String>,
}

impl PolicyDocument {
    /// Reads a document.
    ///
    /// # Errors
    /// What could not be evaluated fully, in words for its author.
    pub fn parse(text: String) -> Result<Self, PolicyError> {
        let warnings = Policy::parse("PolicyDocument", &text)?.warnings().to_vec();
        Ok(Self { text, warnings })
    }

    /// The document as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What in it means less than its author may think.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Which part of a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What the last answer ended with; the list begins behind it.
    pub marker: Option<String>,
    /// How many there may be in the answer, at most [`limits::PAGE`](crate::limits::PAGE).
    pub max_items: usize,
}

impl Page {
    /// Where the part is, in the order of keys: behind this.
    pub fn start(&self) -> &str {
        self.marker.as_deref().unwrap_or_default()
    }
}

/// An administrative operation with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// One that changes nothing.
    Read(Read),
    /// One that changes something in the inventory.
    Change(Change),
    /// One that withdraws keys from machines.
    Revoke(Revoke),
    /// One that does something to the serial console of an instance.
    Console(AtConsole),
}

/// An operation that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the operations' names and those of their members say it")]
pub enum Read {
    ListAccounts { page: Page },
    GetSerialConsoleAccessStatus,
    GetAccountAuthorizationDetails { page: Page },
    SimulatePrincipalPolicy { user: UserName, push: SimulatedPush, context: SimulatedContext },
    GetUser { user: UserName },
    ListUsers { page: Page },
    GetUserPolicy { user: UserName, policy: PolicyName },
    ListAccessKeys { user: Option<UserName> },
    GetGroup { group: GroupName },
    ListGroups { page: Page },
    GetGroupPolicy { group: GroupName, policy: PolicyName },
    GetPolicy { policy: PolicyArn },
    ListPolicies { page: Page },
    DescribeInstances { instances: Vec<InstanceId>, page: Page },
    ListAgents { page: Page },
    GetHostKeys { instance: InstanceId, os_user: Option<OsUser> },
    GetSignerCertificate,
    DescribeSerialConsole,
    GetSerialConsoleSession { instance: InstanceId },
    LookupEvents { filter: EventFilter, max_results: usize, from: Option<LogPosition> },
}

/// An operation that withdraws keys before their minute is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoke {
    /// Those on one instance: all, or what of them is this key, or was pushed by this user.
    Instance {
        /// The instance.
        instance: InstanceId,
        /// The key.
        fingerprint: Option<Fingerprint>,
        /// Who pushed it.
        user: Option<UserName>,
    },
    /// All that one user has pushed, wherever they are.
    User {
        /// Who pushed them.
        user: UserName,
    },
}

/// An operation at the serial console of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtConsole {
    /// Whose.
    pub instance: InstanceId,
    /// What.
    pub what: ConsoleOperation,
}

/// What is done at a serial console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsoleOperation {
    /// Whoever holds this key may watch, if they come within its time.
    Watch {
        /// The key, as a push has it.
        key: String,
    },
    /// The line is held in the BREAK state for so many milliseconds.
    Break {
        /// 1 to those of [`LONGEST_BREAK`](crate::stream::LONGEST_BREAK).
        milliseconds: u16,
    },
    /// Whoever has the session loses it.
    Terminate,
}

/// An operation that changes something in the inventory. Whose the access keys are may be left out: then they are the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the operations' names and those of their members say it")]
pub enum Change {
    CreateAccount {
        account: Option<AccountId>,
    },
    UpdateAccount {
        account: AccountId,
        status: Status,
    },
    EnableSerialConsoleAccess,
    DisableSerialConsoleAccess,
    CreateUser {
        user: UserName,
        tags: Tags,
    },
    UpdateUser {
        user: UserName,
        status: Status,
    },
    TagUser {
        user: UserName,
        tags: Tags,
    },
    UntagUser {
        user: UserName,
        keys: BTreeSet<String>,
    },
    PutUserPolicy {
        user: UserName,
        policy: PolicyName,
        document: PolicyDocument,
    },
    DeleteUserPolicy {
        user: UserName,
        policy: PolicyName,
    },
    AttachUserPolicy {
        user: UserName,
        policy: PolicyArn,
    },
    DetachUserPolicy {
        user: UserName,
        policy: PolicyArn,
    },
    PutUserPermissionsBoundary {
        user: UserName,
        policy: PolicyArn,
    },
    DeleteUserPermissionsBoundary {
        user: UserName,
    },
    CreateAccessKey {
        user: Option<UserName>,
    },
    UpdateAccessKey {
        user: Option<UserName>,
        key: AccessKeyId,
        status: Status,
    },
    DeleteAccessKey {
        user: Option<UserName>,
        key: AccessKeyId,
    },
    CreateGroup {
        group: GroupName,
    },
    DeleteGroup {
        group: GroupName,
    },
    AddUserToGroup {
        group: GroupName,
        user: UserName,
    },
    RemoveUserFromGroup {
        group: GroupName,
        user: UserName,
    },
    PutGroupPolicy {
        group: GroupName,
        policy: PolicyName,
        document: PolicyDocument,
    },
    DeleteGroupPolicy {
        group: GroupName,
        policy: PolicyName,
    },
    AttachGroupPolicy {
        group: GroupName,
        policy: PolicyArn,
    },
    DetachGroupPolicy {
        group: GroupName,
        policy: PolicyArn,
    },
    CreatePolicy {
        policy: PolicyName,
        document: PolicyDocument,
    },
    UpdatePolicy {
        policy: PolicyArn,
        document: PolicyDocument,
    },
    DeletePolicy {
        policy: PolicyArn,
    },
    CreateInstance {
        instance: Option<InstanceId>,
        zone: AvailabilityZone,
        tags: Tags,
        details: Box<InstanceDetails>,
    },
    SetInstanceState {
        instance: InstanceId,
        state: InstanceState,
    },
    SetInstanceHost {
        instance: InstanceId,
        host: Option<InstanceId>,
    },
    SetInstanceDetails {
        instance: InstanceId,
        details: Box<InstanceDetails>,
    },
    CreateTags {
        instance: InstanceId,
        tags: Tags,
    },
    DeleteTags {
        instance: InstanceId,
        keys: BTreeSet<String>,
    },
    CreateJoinToken {
        instance: InstanceId,
    },
    AcceptHostKeys {
        instance: InstanceId,
        fingerprints: BTreeSet<Fingerprint>,
        from: Option<InstanceId>,
    },
    RevokeAgent {
        instance: InstanceId,
    },
    RearmAgent {
        instance: InstanceId,
    },
}

/// What policies are asked about.
#[derive(Clone, Copy, Debug)]
pub struct About<'r> {
    /// The resource.
    pub resource: Resource<'r>,
    /// The managed policy that is attached, detached or made a boundary: what `instance-connect:PolicyARN` stands for.
    pub policy: Option<&'r PolicyArn>,
}

/// What a request is about, as one of the caller's own account unless it says another.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'r> {
    /// Nothing in particular.
    Any,
    /// This account.
    Account(&'r AccountId),
    /// The user of this name.
    User(&'r UserName),
    /// Whoever calls.
    Caller,
    /// The group of this name.
    Group(&'r GroupName),
    /// The managed policy of this name.
    Policy(&'r PolicyName),
    /// The managed policy with this ARN.
    PolicyArn(&'r PolicyArn),
    /// This instance.
    Instance(&'r InstanceId),
    /// An instance whose id is not known yet.
    NewInstance,
}

impl Resource<'_> {
    /// Its ARN; `*` for nothing in particular.
    pub fn arn(&self, caller: &User, region: &Region) -> String {
        let account = &caller.account;
        match self {
            Self::Any => "*".to_owned(),
            Self::Account(account) => format!("arn:aws:instance-connect::{account}:account"),
            Self::User(name) => user_arn(account, name),
            Self::Caller => caller.arn(),
            Self::Group(name) => group_arn(account, name),
            Self::Policy(name) => policy_arn(account, name),
            Self::PolicyArn(arn) => arn.to_string(),
            Self::Instance(id) => instance_arn(region, account, id),
            Self::NewInstance => format!("arn:aws:ec2:{region}:{account}:instance/*"),
        }
    }
}

impl Request {
    /// Reads and checks the parameters of an operation, and gives them as its record shows them, too.
    ///
    /// # Errors
    /// [`ApiError::Serialization`] for a member of another JSON type or one that stands twice; `ValidationError` for the
    /// first value that the model does not allow, a member that is missing, or one that the operation does not have;
    /// `MalformedPolicyDocument`.
    pub fn parse(operation: Operation, body: &[u8]) -> Result<(Self, Value), ApiError> {
        parser_entered(body);
        let (mut members, all) = Members::of(body)?;
        let request = parameters::read(operation, &mut members)?;
        members.finish()?;
        Ok((request, recorded(&all)))
    }

    /// What policies are asked about.
    pub fn about(&self) -> About<'_> {
        match self {
            Self::Read(read) => About { resource: read.resource(), policy: None },
            Self::Change(change) => change.about(),
            Self::Revoke(Revoke::Instance { instance, .. }) => {
                About { resource: Resource::Instance(instance), policy: None }
            }
            Self::Revoke(Revoke::User { user }) => About { resource: Resource::User(user), policy: None },
            Self::Console(AtConsole { instance, .. }) => {
                About { resource: Resource::Instance(instance), policy: None }
            }
        }
    }

    /// Another resource that it changes or gives work to, which policies are asked about as well.
    pub fn also_about(&self) -> Option<Resource<'_>> {
        match self {
            Self::Change(
                Change::AcceptHostKeys { from: other, .. } | Change::SetInstanceHost { host: other, .. },
            ) => other.as_ref().map(Resource::Instance),
            Self::Change(_) | Self::Read(_) | Self::Revoke(_) | Self::Console(_) => None,
        }
    }
}

impl Read {
    fn resource(&self) -> Resource<'_> {
        match self {
            Self::ListAccounts { .. }
            | Self::GetSerialConsoleAccessStatus
            | Self::GetAccountAuthorizationDetails { .. }
            | Self::ListUsers { .. }
            | Self::ListGroups { .. }
            | Self::ListPolicies { .. }
            | Self::DescribeInstances { .. }
            | Self::ListAgents { .. }
            | Self::GetSignerCertificate
            | Self::DescribeSerialConsole
            | Self::LookupEvents { .. } => Resource::Any,
            Self::SimulatePrincipalPolicy { user, .. }
            | Self::GetUser { user }
            | Self::GetUserPolicy { user, .. } => Resource::User(user),
            Self::GetHostKeys { instance, .. } | Self::GetSerialConsoleSession { instance } => {
                Resource::Instance(instance)
            }
            Self::ListAccessKeys { user } => user_or_caller(user),
            Self::GetGroup { group } | Self::GetGroupPolicy { group, .. } => Resource::Group(group),
            Self::GetPolicy { policy } => Resource::PolicyArn(policy),
        }
    }
}

impl Change {
    fn about(&self) -> About<'_> {
        let (resource, policy) = match self {
            Self::CreateAccount { .. }
            | Self::EnableSerialConsoleAccess
            | Self::DisableSerialConsoleAccess => (Resource::Any, None),
            Self::UpdateAccount { account, .. } => (Resource::Account(account), None),
            Self::CreateUser { user, .. }
            | Self::UpdateUser { user, .. }
            | Self::TagUser { user, .. }
            | Self::UntagUser { user, .. }
            | Self::PutUserPolicy { user, .. }
            | Self::DeleteUserPolicy { user, .. }
            | Self::DeleteUserPermissionsBoundary { user } => (Resource::User(user), None),
            Self::AttachUserPolicy { user, policy }
            | Self::DetachUserPolicy { user, policy }
            | Self::PutUserPermissionsBoundary { user, policy } => (Resource::User(user), Some(policy)),
            Self::CreateAccessKey { user }
            | Self::UpdateAccessKey { user, .. }
            | Self::DeleteAccessKey { user, .. } => (user_or_caller(user), None),
            Self::CreateGroup { group }
            | Self::DeleteGroup { group }
            | Self::AddUserToGroup { group, .. }
            | Self::RemoveUserFromGroup { group, .. }
            | Self::PutGroupPolicy { group, .. }
            | Self::DeleteGroupPolicy { group, .. } => (Resource::Group(group), None),
            Self::AttachGroupPolicy { group, policy } | Self::DetachGroupPolicy { group, policy } => {
                (Resource::Group(group), Some(policy))
            }
            Self::CreatePolicy { policy, .. } => (Resource::Policy(policy), None),
            Self::UpdatePolicy { policy, .. } | Self::DeletePolicy { policy } => {
                (Resource::PolicyArn(policy), None)
            }
            Self::CreateInstance { instance: None, .. } => (Resource::NewInstance, None),
            Self::CreateInstance { instance: Some(instance), .. }
            | Self::SetInstanceState { instance, .. }
            | Self::SetInstanceHost { instance, .. }
            | Self::SetInstanceDetails { instance, .. }
            | Self::CreateTags { instance, .. }
            | Self::DeleteTags { instance, .. }
            | Self::AcceptHostKeys { instance, .. }
            | Self::CreateJoinToken { instance }
            | Self::RevokeAgent { instance }
            | Self::RearmAgent { instance } => (Resource::Instance(instance), None),
        };
        About { resource, policy }
    }
}

fn user_or_caller(user: &Option<UserName>) -> Resource<'_> {
    user.as_ref().map_or(Resource::Caller, Resource::User)
}

impl From<Read> for Request {
    fn from(read: Read) -> Self {
        Self::Read(read)
    }
}

impl From<Revoke> for Request {
    fn from(revoke: Revoke) -> Self {
        Self::Revoke(revoke)
    }
}

impl From<Change> for Request {
    fn from(change: Change) -> Self {
        Self::Change(change)
    }
}
