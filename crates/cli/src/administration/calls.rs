//! From commands to calls.

use super::arguments::{
    AccessKey, Account, AccountSettings, Agent, Details, Group, Instance, Owner, Policy, RevokeOptions,
    SerialConsole, Signer, Tag, User,
};
use super::show::Shown;
use super::{host_facts, host_keys, policy_arn};
use crate::failure::{Exit, Failure};
use instance_connect_client::{Administer, AdministrativeOperation as O, Client};
use instance_connect_core::ids::{GroupName, InstanceId, UserName};
use instance_connect_core::limits;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;

/// A call, and how its answer is shown to people.
pub(crate) struct Call {
    pub(super) request: Administer,
    pub(super) shown: Shown,
}

fn call(operation: O) -> Administer {
    Administer::new(operation)
}

fn of_user(operation: O, name: &UserName) -> Administer {
    call(operation).with("UserName", name.as_str())
}

fn of_group(operation: O, name: &GroupName) -> Administer {
    call(operation).with("GroupName", name.as_str())
}

/// How an answer is shown.
trait Shows {
    fn shown(self, shown: Shown) -> Call;
    /// In one sentence: the answer says no more than that it was done.
    fn done(self, sentence: String) -> Call;
}

impl Shows for Administer {
    fn shown(self, shown: Shown) -> Call {
        Call { request: self, shown }
    }

    fn done(self, sentence: String) -> Call {
        self.shown(Shown::Sentence(sentence))
    }
}

fn tags(tags: &[Tag]) -> Value {
    let tags = tags.iter().map(|tag| json!({ "Key": tag.key, "Value": tag.value }));
    tags.collect()
}

/// Tags that may be none.
fn some_tags(given: &[Tag]) -> Value {
    if given.is_empty() { Value::Null } else { tags(given) }
}

pub(crate) fn account(command: &Account) -> Call {
    let update = |id: &str, status: &str| call(O::UpdateAccount).with("AccountId", id).with("Status", status);
    match command {
        Account::Create { id } => call(O::CreateAccount)
            .with("AccountId", id.as_ref().map(|id| id.as_str()))
            .shown(Shown::Parts(&[
                ("Account", "Account.AccountId"),
                ("Access key ID of its root", "AccessKey.AccessKeyId"),
                ("Secret access key, shown this once", "AccessKey.SecretAccessKey"),
            ])),
        Account::List => call(O::ListAccounts).shown(Shown::Table {
            list: "Accounts",
            columns: &[("ACCOUNT", "AccountId"), ("STATUS", "Status"), ("MANAGEMENT", "Management")],
        }),
        Account::Suspend { id } => {
            update(id.as_str(), "Suspended").done(format!("account {id} is suspended"))
        }
        Account::Activate { id } => update(id.as_str(), "Active").done(format!("account {id} is in use")),
        Account::SerialConsole { access } => settings(&match access {
            SerialConsole::Enable => AccountSettings::Set { serial_console_access: true },
            SerialConsole::Disable => AccountSettings::Set { serial_console_access: false },
            SerialConsole::Status => AccountSettings::Show,
        }),
    }
}

pub(crate) fn settings(command: &AccountSettings) -> Call {
    let operation = match command {
        AccountSettings::Show => O::GetSerialConsoleAccessStatus,
        AccountSettings::Set { serial_console_access: true } => O::EnableSerialConsoleAccess,
        AccountSettings::Set { serial_console_access: false } => O::DisableSerialConsoleAccess,
    };
    call(operation).shown(Shown::Parts(&[("Serial console access", "SerialConsoleAccessEnabled")]))
}

pub(crate) async fn user(command: &User, client: &Client) -> Result<Call, Failure> {
    let update = |name, status: &str| of_user(O::UpdateUser, name).with("Status", status);
    Ok(match command {
        User::Create { name, tags } => of_user(O::CreateUser, name)
            .with("Tags", some_tags(tags))
            .shown(Shown::Parts(&[("User", "User.UserName"), ("ARN", "User.Arn")])),
        User::List => call(O::ListUsers).shown(Shown::Table {
            list: "Users",
            columns: &[("USER", "UserName"), ("STATUS", "Status"), ("ARN", "Arn")],
        }),
        User::Show { name } => of_user(O::GetUser, name).shown(Shown::Parts(&[
            ("User", "User.UserName"),
            ("ID", "User.UserId"),
            ("ARN", "User.Arn"),
            ("Status", "User.Status"),
            ("Tags", "User.Tags"),
            ("Groups", "User.GroupList"),
            ("Inline policies", "User.UserPolicyList"),
            ("Attached policies", "User.AttachedManagedPolicies"),
            ("Permissions boundary", "User.PermissionsBoundary"),
        ])),
        User::Suspend { name } => update(name, "Suspended").done(format!("user {name} is suspended")),
        User::Activate { name } => update(name, "Active").done(format!("user {name} is in use")),
        User::Tag { name, tags: set } => {
            of_user(O::TagUser, name).with("Tags", tags(set)).done(format!("user {name} is tagged"))
        }
        User::Untag { name, keys } => of_user(O::UntagUser, name)
            .with("TagKeys", keys.as_slice())
            .done(format!("the tags are taken from user {name}")),
        User::SetBoundary { name, policy } => of_user(O::PutUserPermissionsBoundary, name)
            .with("PermissionsBoundary", policy_arn(client, policy).await?)
            .done(format!("user {name} may do at most what policy {policy} allows")),
        User::RemoveBoundary { name } => of_user(O::DeleteUserPermissionsBoundary, name)
            .done(format!("user {name} has no permissions boundary")),
    })
}

pub(crate) fn group(command: &Group) -> Call {
    match command {
        Group::Create { name } => of_group(O::CreateGroup, name)
            .shown(Shown::Parts(&[("Group", "Group.GroupName"), ("ARN", "Group.Arn")])),
        Group::List => call(O::ListGroups)
            .shown(Shown::Table { list: "Groups", columns: &[("GROUP", "GroupName"), ("ARN", "Arn")] }),
        Group::Show { name } => of_group(O::GetGroup, name).shown(Shown::Parts(&[
            ("Group", "Group.GroupName"),
            ("ARN", "Group.Arn"),
            ("Members", "Group.Users"),
            ("Inline policies", "Group.GroupPolicyList"),
            ("Attached policies", "Group.AttachedManagedPolicies"),
        ])),
        Group::Delete { name } => of_group(O::DeleteGroup, name).done(format!("group {name} is deleted")),
        Group::Add { name, user } => of_group(O::AddUserToGroup, name)
            .with("UserName", user.as_str())
            .done(format!("user {user} is in group {name}")),
        Group::Remove { name, user } => of_group(O::RemoveUserFromGroup, name)
            .with("UserName", user.as_str())
            .done(format!("user {user} is not in group {name}")),
    }
}

pub(crate) async fn policy(command: &Policy, client: &Client) -> Result<Call, Failure> {
    let arn = async |policy| policy_arn(client, policy).await;
    Ok(match command {
        Policy::Create { name, document } => call(O::CreatePolicy)
            .with("PolicyName", name.as_str())
            .with("PolicyDocument", read(document)?)
            .shown(Shown::Parts(&[("Policy", "Policy.PolicyName"), ("ARN", "Policy.Arn")])),
        Policy::Update { policy, document } => {
            let document = read(document)?;
            call(O::UpdatePolicy)
                .with("PolicyArn", arn(policy).await?)
                .with("PolicyDocument", document)
                .done(format!("policy {policy} has the new document"))
        }
        Policy::Delete { policy } => call(O::DeletePolicy)
            .with("PolicyArn", arn(policy).await?)
            .done(format!("policy {policy} is deleted")),
        Policy::List => call(O::ListPolicies)
            .shown(Shown::Table { list: "Policies", columns: &[("POLICY", "PolicyName"), ("ARN", "Arn")] }),
        Policy::Show { policy, user: Some(user), group: _ } => of_user(O::GetUserPolicy, user)
            .with("PolicyName", policy.as_str())
            .shown(Shown::Text("PolicyDocument")),
        Policy::Show { policy, user: None, group: Some(group) } => of_group(O::GetGroupPolicy, group)
            .with("PolicyName", policy.as_str())
            .shown(Shown::Text("PolicyDocument")),
        Policy::Show { policy, user: None, group: None } => call(O::GetPolicy)
            .with("PolicyArn", arn(policy).await?)
            .shown(Shown::Text("Policy.PolicyDocument")),
        Policy::Test { user, action, instance, os_user, context, offline: _, file: _ } => {
            let context = context.iter();
            let context: Vec<Value> = context
                .map(|Tag { key, value }| json!({ "ContextKeyName": key, "ContextKeyValue": value }))
                .collect();
            of_user(O::SimulatePrincipalPolicy, user)
                .with("ActionName", action.as_str())
                .with("InstanceId", instance.as_str())
                .with("InstanceOSUser", os_user.as_ref().map(|user| user.as_str()))
                .with("ContextEntries", if context.is_empty() { Value::Null } else { context.into() })
                .shown(Shown::Verdict)
        }
        Policy::Put { name, document, owner } => owned(owner, O::PutUserPolicy, O::PutGroupPolicy)
            .with("PolicyName", name.as_str())
            .with("PolicyDocument", read(document)?)
            .done(format!("{} has policy {name}", of(owner))),
        Policy::Remove { name, owner } => owned(owner, O::DeleteUserPolicy, O::DeleteGroupPolicy)
            .with("PolicyName", name.as_str())
            .done(format!("policy {name} is taken from {}", of(owner))),
        Policy::Attach { policy, owner } => owned(owner, O::AttachUserPolicy, O::AttachGroupPolicy)
            .with("PolicyArn", arn(policy).await?)
            .done(format!("policy {policy} is attached to {}", of(owner))),
        Policy::Detach { policy, owner } => owned(owner, O::DetachUserPolicy, O::DetachGroupPolicy)
            .with("PolicyArn", arn(policy).await?)
            .done(format!("policy {policy} is detached from {}", of(owner))),
    })
}

fn owned(owner: &Owner, user_operation: O, group_operation: O) -> Administer {
    match (&owner.user, &owner.group) {
        (Some(user), _) => of_user(user_operation, user),
        (None, Some(group)) => of_group(group_operation, group),
        // clap wants one of the two.
        (None, None) => call(user_operation),
    }
}

fn of(owner: &Owner) -> String {
    match (&owner.user, &owner.group) {
        (Some(user), _) => format!("user {user}"),
        (None, Some(group)) => format!("group {group}"),
        (None, None) => String::new(),
    }
}

/// The text of a file, or of standard input.
fn read(file: &str) -> Result<String, Failure> {
    let refuse = |why: String| Failure::new(Exit::Parameter, format!("policy document {file}: {why}"));
    let mut text = String::new();
    let limit = limits::POLICY_TEXT as u64 + 1;
    let read = match file {
        "-" => std::io::stdin().lock().take(limit).read_to_string(&mut text),
        file => File::open(file).and_then(|file| file.take(limit).read_to_string(&mut text)),
    };
    read.map_err(|error| refuse(error.to_string()))?;
    if text.len() > limits::POLICY_TEXT {
        return Err(refuse(format!("it is longer than {} bytes", limits::POLICY_TEXT)));
    }
    Ok(text)
}

pub(crate) fn access_key(command: &AccessKey) -> Call {
    let of = |operation, user: &Option<UserName>| {
        call(operation).with("UserName", user.as_ref().map(|user| user.as_str()))
    };
    match command {
        AccessKey::Create { user } => of(O::CreateAccessKey, user).shown(Shown::Parts(&[
            ("User", "AccessKey.UserName"),
            ("Access key ID", "AccessKey.AccessKeyId"),
            ("Secret access key, shown this once", "AccessKey.SecretAccessKey"),
        ])),
        AccessKey::List { user } => of(O::ListAccessKeys, user).shown(Shown::Table {
            list: "AccessKeyMetadata",
            columns: &[("ACCESS KEY", "AccessKeyId"), ("STATUS", "Status"), ("USER", "UserName")],
        }),
        AccessKey::Activate { id, user } => of(O::UpdateAccessKey, user)
            .with("AccessKeyId", id.as_str())
            .with("Status", "Active")
            .done(format!("access key {id} is in use")),
        AccessKey::Deactivate { id, user } => of(O::UpdateAccessKey, user)
            .with("AccessKeyId", id.as_str())
            .with("Status", "Inactive")
            .done(format!("access key {id} is refused")),
        AccessKey::Delete { id, user } => of(O::DeleteAccessKey, user)
            .with("AccessKeyId", id.as_str())
            .done(format!("access key {id} is deleted")),
    }
}

fn with_details(request: Administer, details: &Details) -> Administer {
    let Details { instance_type, image_id, private_ip, public_ip, ipv6 } = details;
    request
        .with("InstanceType", instance_type.as_ref().map(|of| of.as_str()))
        .with("ImageId", image_id.as_ref().map(|id| id.as_str()))
        .with("PrivateIpAddress", private_ip.map(|address| address.to_string()))
        .with("PublicIpAddress", public_ip.map(|address| address.to_string()))
        .with("Ipv6Address", ipv6.map(|address| address.to_string()))
}

pub(crate) async fn instance(command: &Instance, client: &Client) -> Result<Call, Failure> {
    Ok(match command {
        Instance::Set { id, accept_host_keys: _, take_from, yes } => {
            host_keys::accept(id, take_from.as_ref(), *yes, client).await?
        }
        Instance::PinFacts { id, yes } => host_facts::pin(id, *yes, client).await?,
        Instance::Create { availability_zone, id, tags, details } => with_details(
            call(O::CreateInstance)
                .with("InstanceId", id.as_ref().map(|id| id.as_str()))
                .with("AvailabilityZone", availability_zone.as_str())
                .with("Tags", some_tags(tags)),
            details,
        )
        .shown(Shown::Parts(&[("Instance", "Instance.InstanceId"), ("ARN", "Instance.Arn")])),
        Instance::List => call(O::DescribeInstances).shown(Shown::Table {
            list: "Instances",
            columns: &[
                ("INSTANCE", "InstanceId"),
                ("STATE", "State"),
                ("ZONE", "AvailabilityZone"),
                ("HOST", "HostInstanceId"),
                ("LINK", "Agent.Link"),
                ("TAGS", "Tags"),
            ],
        }),
        Instance::Show { id } => {
            call(O::DescribeInstances).with("InstanceIds", vec![id.as_str()]).shown(Shown::Parts(&[
                ("Instance", "Instances.0.InstanceId"),
                ("ARN", "Instances.0.Arn"),
                ("State", "Instances.0.State"),
                ("Zone", "Instances.0.AvailabilityZone"),
                ("Type", "Instances.0.InstanceType"),
                ("Image", "Instances.0.ImageId"),
                ("Private address", "Instances.0.PrivateIpAddress"),
                ("Public address", "Instances.0.PublicIpAddress"),
                ("IPv6 address", "Instances.0.Ipv6Address"),
                ("Launched at", "Instances.0.LaunchTime"),
                ("Tags", "Instances.0.Tags"),
                ("Host", "Instances.0.HostInstanceId"),
                ("Agent's link", "Instances.0.Agent.Link"),
                ("Agent's state", "Instances.0.Agent.State"),
                ("Agent's generation", "Instances.0.Agent.Generation"),
                ("Enrolled at", "Instances.0.Agent.EnrolledAt"),
                ("Host keys", "Instances.0.HostKeys"),
                ("Host keys not accepted", "Instances.0.PendingHostKeys"),
                ("Its agent says: host name", "Instances.0.HostFacts.HostName"),
                ("Its agent says: system", "Instances.0.HostFacts.OsName"),
                ("Its agent says: kernel", "Instances.0.HostFacts.Kernel"),
                ("Its agent says: architecture", "Instances.0.HostFacts.Architecture"),
                ("Its agent says: addresses", "Instances.0.HostFacts.Addresses"),
                ("Its agent says so since", "Instances.0.HostFacts.ReportedAt"),
            ]))
        }
        Instance::SetState { id, state } => call(O::SetInstanceState)
            .with("InstanceId", id.as_str())
            .with("State", state.as_str())
            .done(format!("instance {id} is {state}")),
        Instance::SetHost { id, host, none: _ } => call(O::SetInstanceHost)
            .with("InstanceId", id.as_str())
            .with("HostInstanceId", host.as_ref().map(InstanceId::as_str))
            .done(host.as_ref().map_or_else(
                || format!("instance {id} is nobody's guest; its own agent answers for it"),
                |host| format!("instance {id} is a guest of {host}, whose agent answers for it"),
            )),
        Instance::SetDetails { id, details } => {
            with_details(call(O::SetInstanceDetails).with("InstanceId", id.as_str()), details)
                .done(format!("instance {id} is described anew"))
        }
        Instance::Tag { id, tags: set } => call(O::CreateTags)
            .with("Resources", vec![id.as_str()])
            .with("Tags", tags(set))
            .done(format!("instance {id} is tagged")),
        Instance::Untag { id, keys } => call(O::DeleteTags)
            .with("Resources", vec![id.as_str()])
            .with("TagKeys", keys.as_slice())
            .done(format!("the tags are taken from instance {id}")),
        Instance::Token { id, cloud_init, server } => {
            let request = call(O::CreateJoinToken).with("InstanceId", id.as_str());
            match server {
                Some(server) if *cloud_init => request.shown(Shown::CloudInit { server: server.clone() }),
                _ => request.shown(Shown::Text("JoinToken.Token")),
            }
        }
    })
}

pub(crate) fn agent(command: &Agent) -> Call {
    match command {
        Agent::List => call(O::ListAgents).shown(Shown::Table {
            list: "Agents",
            columns: &[
                ("INSTANCE", "InstanceId"),
                ("STATE", "State"),
                ("LINK", "Link"),
                ("GENERATION", "Generation"),
                ("ENROLLED AT", "EnrolledAt"),
            ],
        }),
        Agent::Revoke { id } => call(O::RevokeAgent)
            .with("InstanceId", id.as_str())
            .done(format!("the identity of {id} is revoked; the machine has to be enrolled again")),
        Agent::Rearm { id } => call(O::RearmAgent)
            .with("InstanceId", id.as_str())
            .done(format!("the identity of {id} is in use again")),
    }
}

pub(crate) fn signer(command: &Signer) -> Call {
    match command {
        Signer::Ca => call(O::GetSignerCertificate).shown(Shown::SignerCertificate),
    }
}

pub(crate) fn revoke(options: &RevokeOptions) -> Call {
    let user = options.user.as_ref().map(|user| user.as_str());
    let request = match &options.instance {
        Some(instance) => call(O::RevokeInstanceKeys)
            .with("InstanceId", instance.as_str())
            .with("Fingerprint", options.fingerprint.map(|fingerprint| fingerprint.to_string())),
        None => call(O::RevokeUserKeys),
    };
    request.with("UserName", user).shown(Shown::Revoked)
}
