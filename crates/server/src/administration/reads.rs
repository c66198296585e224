//! The operations that change nothing.

use super::answer::{Answer, attached, key_status, status, tags};
use super::changes::{find_instance, find_owner, find_user, own_policy};
use super::{Code, refused, store_error};
use crate::api::{Api, internal};
use crate::audit_log::{Found, Wanted};
use crate::console::AtLine;
use crate::metrics::Limit;
use crate::stock::{self, ROOT_NAME};
use instance_connect_core::administration::{Page, Read as R, SimulatedPush, timestamp};
use instance_connect_core::api::ApiError;
use instance_connect_core::authz::{AuthorizedAdministration, InstanceOperation as _, explain};
use instance_connect_core::console::Occupant;
use instance_connect_core::console::door::Serve;
use instance_connect_core::host_facts::{Addresses, FactText, ReportedFacts};
use instance_connect_core::host_key::claimed;
use instance_connect_core::host_key::{HostKeys, KnownHostKeys};
use instance_connect_core::iam::{Decision, Denial};
use instance_connect_core::ids::{
    AccountId, GroupName, ImageId, InstanceId, InstanceType, PolicyName, UserName,
};
use instance_connect_core::inventory::{
    AgentIdentity, Instance, InstanceState, Inventory, Status, User, group_arn, policy_arn, user_arn,
};
use instance_connect_core::origin::Origin;
use instance_connect_store::{AccountDetails, GroupDetails, UserDetails};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;

impl Api {
    /// Reads what is authorised.
    pub(super) async fn read(
        &self,
        authorized: &AuthorizedAdministration,
        read: &R,
        origin: &Origin,
    ) -> Result<Answer, ApiError> {
        let inventory = &*self.inventory.current().map_err(internal)?;
        let account = &authorized.caller().user.account;
        // What IAM knows is read from the store, which has names and documents as they were written.
        let details = async || {
            let details = self.inventory.store().account_details(account).await;
            details.map_err(store_error)
        };
        let members = match read {
            R::ListAccounts { page } => accounts(inventory, page),
            R::GetSerialConsoleAccessStatus => {
                let is_on =
                    inventory.accounts.get(account).is_some_and(|record| record.serial_console_access);
                json!({ "SerialConsoleAccessEnabled": is_on })
            }
            R::ListAccessKeys { user } => {
                access_keys(inventory, find_owner(inventory, authorized.caller(), user.as_ref())?)
            }
            R::DescribeInstances { instances, page } => {
                self.describe_instances(inventory, account, instances, page).await?
            }
            R::GetHostKeys { instance, .. } => {
                let instance = find_instance(self, inventory, account, instance)?;
                let known = self.host_keys(slice::from_ref(&instance.id)).await?;
                let known = known.get(&instance.id).cloned().unwrap_or_default();
                json!({ "HostKeys": host_keys(&known.pinned), "IsChangePending": !known.pending.is_empty() })
            }
            R::ListAgents { page } => self.agents(inventory, account, page),
            R::GetAccountAuthorizationDetails { page } => {
                authorization_details(&details().await?, account, page)
            }
            R::SimulatePrincipalPolicy { user, push, context } => {
                let user = find_user(inventory, account, user)?;
                self.simulate(inventory, user, push, &context.origin(origin))
            }
            R::GetUser { user: name } => {
                json!({ "User": user(account, name, user_named(&details().await?, name)?, false) })
            }
            R::ListUsers { page } => users(&details().await?, account, page),
            R::GetUserPolicy { user, policy } => {
                let document = inline_document(&user_named(&details().await?, user)?.inline, policy)?;
                let (user, policy) = (user.as_str(), policy.as_str());
                json!({ "UserName": user, "PolicyName": policy, "PolicyDocument": document })
            }
            R::GetGroup { group } => group_with_members(&details().await?, account, group)?,
            R::ListGroups { page } => groups(&details().await?, account, page),
            R::GetGroupPolicy { group, policy } => {
                let document = inline_document(&group_named(&details().await?, group)?.inline, policy)?;
                let (group, policy) = (group.as_str(), policy.as_str());
                json!({ "GroupName": group, "PolicyName": policy, "PolicyDocument": document })
            }
            R::GetPolicy { policy } => {
                let (name, details) = (own_policy(account, policy)?, details().await?);
                let document =
                    details.policies.get(name).ok_or_else(|| missing(&format!("Policy {policy}")))?;
                let (name, arn) = (name.as_str(), policy.to_string());
                json!({ "Policy": { "PolicyName": name, "Arn": arn, "PolicyDocument": document } })
            }
            R::ListPolicies { page } => policies(&details().await?, account, page),
            R::GetSignerCertificate => self.signer_certificate(inventory, account),
            R::DescribeSerialConsole => json!({ "Gateways": gateways(&self.console.gateways()) }),
            R::GetSerialConsoleSession { instance } => {
                let instance = find_instance(self, inventory, account, instance)?;
                let AtLine { writer, watchers } = self.console.who_is_at(&instance.id);
                json!({
                    "InstanceId": instance.id.as_str(),
                    "Session": writer.map(|(since, Occupant { push, occupancy, .. })| json!({
                        "PrincipalArn": push.principal,
                        "PushRequestId": push.request.as_str(),
                        "State": occupancy.as_str(),
                        "Since": timestamp(since),
                    })),
                    "Watchers": watchers.iter().map(|push| json!({
                        "PrincipalArn": push.principal,
                        "PushRequestId": push.request.as_str(),
                    })).collect::<Value>(),
                })
            }
            R::LookupEvents { filter, max_results, from } => {
                // The management account's principals see all, also what is nobody's.
                let sees_all = inventory.management_account.as_ref() == Some(account);
                let wanted = Wanted {
                    filter: filter.clone(),
                    account: (!sees_all).then(|| account.clone()),
                    max_results: *max_results,
                    from: from.clone(),
                };
                self.throttled(Limit::Lookup, |throttle, now| throttle.admit_lookup(account, now))?;
                let found = self.audit.lookup(wanted).await;
                let found = found.map_err(|error| internal(format!("{error:#}")))?;
                let Some(Found { events, next }) = found else {
                    self.metrics.throttled(Limit::Lookup);
                    return Err(ApiError::Throttling);
                };
                json!({ "Events": events, "NextToken": next.map(|position| position.to_string()) })
            }
        };
        Ok(Answer::new(members))
    }

    async fn describe_instances(
        &self,
        inventory: &Inventory,
        account: &AccountId,
        wanted: &[InstanceId],
        page: &Page,
    ) -> Result<Value, ApiError> {
        let instances: Vec<&Arc<Instance>> = if wanted.is_empty() {
            let is_here = |instance: &&Arc<Instance>| instance.region == self.region;
            at_most_a_part(inventory.instances_from(account, page.start()).filter(is_here), page)
        } else {
            let find = |id| find_instance(self, inventory, account, id);
            wanted.iter().map(find).collect::<Result<_, _>>()?
        };
        let instances = instances.into_iter().map(|i| (i.id.as_str().to_owned(), i)).collect();
        let (instances, marker) = part_of(instances, page);
        let ids: Vec<InstanceId> = instances.iter().map(|instance| instance.id.clone()).collect();
        let known = self.host_keys(&ids).await?;
        let none = KnownHostKeys::default();
        let facts = self.inventory.store().host_facts(&ids).await.map_err(store_error)?;
        let shown = instances.into_iter().map(|instance| {
            let known = known.get(&instance.id).unwrap_or(&none);
            json!({
                "InstanceId": instance.id.as_str(),
                "Arn": instance.arn(),
                "AvailabilityZone": instance.availability_zone.as_str(),
                "State": instance.state.as_str(),
                "Tags": tags(&instance.tags),
                "InstanceType": instance.details.instance_type.as_ref().map(InstanceType::as_str),
                "ImageId": instance.details.image_id.as_ref().map(ImageId::as_str),
                "PrivateIpAddress": instance.details.private_ip,
                "PublicIpAddress": instance.details.public_ip,
                "Ipv6Address": instance.details.ipv6,
                "LaunchTime": timestamp(instance.launched_at),
                "HostInstanceId": instance.host.as_ref().map(InstanceId::as_str),
                "Agent": inventory.agents.get(&instance.id).map(|agent| self.agent(agent)),
                "HostKeys": host_keys(&known.pinned),
                "PendingHostKeys": host_keys(&known.pending),
                "HostFacts": facts.get(&instance.id).map(host_facts),
            })
        });
        let shown: Value = shown.collect();
        Ok(json!({ "Instances": shown, "IsTruncated": marker.is_some(), "Marker": marker }))
    }

    async fn host_keys(
        &self,
        instances: &[InstanceId],
    ) -> Result<BTreeMap<InstanceId, KnownHostKeys>, ApiError> {
        let known = self.inventory.store().host_keys(instances).await;
        known.map_err(store_error)
    }

    /// What machines with the distributions' own host package have to trust, and which of them cannot use it.
    fn signer_certificate(&self, inventory: &Inventory, account: &AccountId) -> Value {
        let stock = self.links.stock();
        let is_used = |instance: &&Arc<Instance>| instance.state != InstanceState::Terminated;
        let used = inventory.instances_from(account, "").filter(is_used);
        let zones = used.map(|instance| &instance.availability_zone);
        json!({
            "Certificate": stock.root_pem(),
            "CommonName": ROOT_NAME,
            "FileName": format!("{}.pem", ROOT_NAME.replace(' ', "_")),
            "SignerName": stock.signer_name(),
            "Warnings": stock::refused_by_the_scripts(&self.region, zones),
        })
    }

    fn agents(&self, inventory: &Inventory, account: &AccountId, page: &Page) -> Value {
        let instances = inventory.instances_from(account, page.start());
        let agents = instances.filter_map(|instance| inventory.agents.get(&instance.id));
        let agents = at_most_a_part(agents, page).into_iter();
        let agents = agents.map(|agent| (agent.instance.as_str().to_owned(), agent)).collect();
        listed("Agents", agents, page, |agent| self.agent(agent))
    }

    /// Why a user may or may not push: what the policies say, and what else is in the way.
    fn simulate(&self, inventory: &Inventory, user: &User, push: &SimulatedPush, origin: &Origin) -> Value {
        let explanation = explain(user, push, inventory, &self.region, origin);
        let (decision, statement) = match &explanation.decision {
            Decision::Allowed(statement) => ("allowed", statement.as_ref()),
            Decision::Denied(Denial::Explicit(statement)) => ("explicitDeny", Some(statement)),
            Decision::Denied(Denial::Implicit(_)) => ("implicitDeny", None),
        };
        let statement = statement.map(|by| json!({ "Policy": by.policy, "Statement": by.statement }));
        json!({
            "EvalDecision": decision,
            "MatchedStatement": statement,
            "Explanation": explanation.to_string(),
            "Obstacles": self.obstacles(inventory, user, push.instance()),
        })
    }

    /// What would refuse a push that policies allow.
    fn obstacles(&self, inventory: &Inventory, user: &User, id: &InstanceId) -> Vec<String> {
        let account = inventory.accounts.get(&user.account);
        let instance = find_instance(self, inventory, &user.account, id).ok();
        let state = instance.map(|instance| instance.state);
        let obstacles = [
            (user.status != Status::Active, format!("The user {} is suspended.", user.name)),
            (
                account.is_none_or(|account| account.status != Status::Active),
                format!("The account {} is suspended.", user.account),
            ),
            (instance.is_none(), format!("There is no instance {id} in this account and region.")),
            (
                state.is_some_and(|state| state != InstanceState::Running),
                format!("The instance is {}.", state.map_or("gone", InstanceState::as_str)),
            ),
            (
                instance.is_some_and(|instance| !self.links.is_open(instance.machine())),
                "The instance's agent has no open link.".to_owned(),
            ),
        ];
        obstacles.into_iter().filter(|(is_there, _)| *is_there).map(|(_, sentence)| sentence).collect()
    }

    /// An agent's identity, and whether its link is open to this process.
    fn agent(&self, agent: &AgentIdentity) -> Value {
        json!({
            "InstanceId": agent.instance.as_str(),
            "State": agent.state.as_str(),
            "Generation": agent.used,
            "EnrolledAt": timestamp(agent.enrolled_at),
            "Link": if self.links.is_open(&agent.instance) { "open" } else { "closed" },
        })
    }
}

/// What an agent says of its machine: the addresses that EC2's API shows under their names there, and all of them.
fn host_facts(ReportedFacts { facts, reported_at }: &ReportedFacts) -> Value {
    let Addresses { private_ip, public_ip, ipv6 } = facts.claims().addresses;
    let said = |text: &FactText| Some(text.to_string()).filter(|text| !text.is_empty());
    json!({
        "ReportedAt": timestamp(*reported_at),
        "HostName": said(&facts.hostname),
        "OsId": said(&facts.os_id),
        "OsVersion": said(&facts.os_version),
        "OsName": said(&facts.os_name),
        "Kernel": said(&facts.kernel),
        "Architecture": said(&facts.architecture),
        "PrivateIpAddress": private_ip,
        "PublicIpAddress": public_ip,
        "Ipv6Address": ipv6,
        "Addresses": facts.addresses.iter().map(|address| address.ip()).collect::<Vec<_>>(),
    })
}

fn host_keys(keys: &HostKeys) -> Value {
    let keys = keys.iter().map(|key| {
        let (of_type, fingerprint) = (key.key_type(), key.fingerprint().to_string());
        json!({ "KeyType": of_type, "Fingerprint": fingerprint, "PublicKey": key.line() })
    });
    keys.collect()
}

/// Where people connect to serial consoles, and whom they should meet there.
fn gateways(gateways: &[Arc<Serve>]) -> Value {
    let shown = gateways.iter().map(|gateway| {
        json!({
            "Version": gateway.version,
            "Address": gateway.address.ip().to_string(),
            "Port": gateway.address.port(),
            "HostKeys": host_keys(&claimed(gateway.host_keys.iter().map(String::as_str))),
        })
    });
    shown.collect()
}

fn accounts(inventory: &Inventory, page: &Page) -> Value {
    let accounts = inventory.accounts.values().map(|account| (account.id.as_str().to_owned(), account));
    listed("Accounts", accounts.collect(), page, |account| {
        json!({
            "AccountId": account.id.as_str(),
            "Status": status(account.status),
            "Management": inventory.management_account.as_ref() == Some(&account.id),
        })
    })
}

fn access_keys(inventory: &Inventory, owner: &User) -> Value {
    let mut keys: Vec<_> = inventory.access_keys.values().filter(|key| key.user == owner.id).collect();
    keys.sort_by(|a, b| a.id.cmp(&b.id));
    let keys = keys.into_iter().map(|key| {
        let (user, id) = (owner.name.as_str(), key.id.as_str());
        json!({ "UserName": user, "AccessKeyId": id, "Status": key_status(key.status) })
    });
    json!({ "AccessKeyMetadata": keys.collect::<Value>() })
}

fn users(details: &AccountDetails, account: &AccountId, page: &Page) -> Value {
    let users = details.users.iter().map(|(name, user)| (name.to_string(), (name, user)));
    listed("Users", users.collect(), page, |(name, user)| {
        let (id, arn, status) = (user.id.as_str(), user_arn(account, name), status(user.status));
        json!({ "UserName": name.as_str(), "UserId": id, "Arn": arn, "Status": status })
    })
}

fn groups(details: &AccountDetails, account: &AccountId, page: &Page) -> Value {
    let groups = details.groups.keys().map(|name| (name.to_string(), name));
    listed(
        "Groups",
        groups.collect(),
        page,
        |name| json!({ "GroupName": name.as_str(), "Arn": group_arn(account, name) }),
    )
}

fn policies(details: &AccountDetails, account: &AccountId, page: &Page) -> Value {
    let policies = details.policies.keys().map(|name| (name.to_string(), name));
    listed(
        "Policies",
        policies.collect(),
        page,
        |name| json!({ "PolicyName": name.as_str(), "Arn": policy_arn(account, name) }),
    )
}

fn group_with_members(
    details: &AccountDetails,
    account: &AccountId,
    name: &GroupName,
) -> Result<Value, ApiError> {
    let mut group = group(account, name, group_named(details, name)?, false);
    let members = details.users.iter().filter(|(_, user)| user.groups.contains(name));
    if let Value::Object(group) = &mut group {
        group.insert("Users".to_owned(), members.map(|(name, _)| name.as_str()).collect());
    }
    Ok(json!({ "Group": group }))
}

fn user_named<'d>(details: &'d AccountDetails, name: &UserName) -> Result<&'d UserDetails, ApiError> {
    details.users.get(name).ok_or_else(|| missing(&format!("The user with name {name}")))
}

fn group_named<'d>(details: &'d AccountDetails, name: &GroupName) -> Result<&'d GroupDetails, ApiError> {
    details.groups.get(name).ok_or_else(|| missing(&format!("The group with name {name}")))
}

fn inline_document(policies: &Inline, name: &PolicyName) -> Result<String, ApiError> {
    policies.get(name).cloned().ok_or_else(|| missing(&format!("The policy with name {name}")))
}

fn missing(what: &str) -> ApiError {
    refused(Code::NoSuchEntity, format!("{what} cannot be found."))
}

/// Users, groups and policies in one list, as IAM gives them.
fn authorization_details(details: &AccountDetails, account: &AccountId, page: &Page) -> Value {
    let users = details
        .users
        .iter()
        .map(|(name, it)| (format!("user/{name}"), ("UserDetailList", user(account, name, it, true))));
    let groups = details
        .groups
        .iter()
        .map(|(name, it)| (format!("group/{name}"), ("GroupDetailList", group(account, name, it, true))));
    let policies = details.policies.iter().map(|(name, document)| {
        let arn = policy_arn(account, name);
        let policy = json!({ "PolicyName": name.as_str(), "Arn": arn, "PolicyDocument": document });
        (format!("policy/{name}"), ("Policies", policy))
    });
    let all = users.chain(groups).chain(policies).collect();
    let (items, marker) = part_of(all, page);
    let list = |kind| -> Value {
        items.iter().filter(|(of, _)| *of == kind).map(|(_, item)| item.clone()).collect()
    };
    json!({
        "AccountId": account.as_str(),
        "UserDetailList": list("UserDetailList"),
        "GroupDetailList": list("GroupDetailList"),
        "Policies": list("Policies"),
        "IsTruncated": marker.is_some(),
        "Marker": marker,
    })
}

fn user(account: &AccountId, name: &UserName, user: &UserDetails, documents: bool) -> Value {
    let attached_policies = user.attached.iter().map(|name| attached(account, name));
    json!({
        "UserName": name.as_str(),
        "UserId": user.id.as_str(),
        "Arn": user_arn(account, name),
        "Status": status(user.status),
        "Tags": tags(&user.tags),
        "GroupList": user.groups.iter().map(GroupName::as_str).collect::<Vec<_>>(),
        "UserPolicyList": inline(&user.inline, documents),
        "AttachedManagedPolicies": attached_policies.collect::<Value>(),
        "PermissionsBoundary": user.boundary.as_ref().map(|name| policy_arn(account, name)),
    })
}

fn group(account: &AccountId, name: &GroupName, group: &GroupDetails, documents: bool) -> Value {
    let attached_policies = group.attached.iter().map(|name| attached(account, name));
    json!({
        "GroupName": name.as_str(),
        "Arn": group_arn(account, name),
        "GroupPolicyList": inline(&group.inline, documents),
        "AttachedManagedPolicies": attached_policies.collect::<Value>(),
    })
}

type Inline = BTreeMap<PolicyName, String>;

fn inline(policies: &Inline, documents: bool) -> Value {
    let shown = policies.iter().map(|(name, document)| match documents {
        true => json!({ "PolicyName": name.as_str(), "PolicyDocument": document }),
        false => json!(name.as_str()),
    });
    shown.collect()
}

/// A part of a list, under its name, and whether there is more.
fn listed<T>(name: &str, items: Vec<(String, T)>, page: &Page, shown: impl Fn(T) -> Value) -> Value {
    let (items, marker) = part_of(items, page);
    let items: Value = items.into_iter().map(shown).collect();
    json!({ name: items, "IsTruncated": marker.is_some(), "Marker": marker })
}

/// As much of what comes in order, from [`Page::start`] on, as [`part_of`] needs: what the part before ended with, and one
/// more to tell that there is more.
fn at_most_a_part<T>(items: impl Iterator<Item = T>, page: &Page) -> Vec<T> {
    items.take(page.max_items.saturating_add(2)).collect()
}

/// The items behind the marker, in the order of their keys, as many as are asked for; and where the next part begins.
fn part_of<T>(mut items: Vec<(String, T)>, page: &Page) -> (Vec<T>, Option<String>) {
    items.retain(|(key, _)| page.marker.as_ref().is_none_or(|marker| key > marker));
    items.sort_by(|(a, _), (b, _)| a.cmp(b));
    let more = items.len() > page.max_items;
    items.truncate(page.max_items);
    let marker = items.last().map(|(key, _)| key.clone()).filter(|_| more);
    (items.into_iter().map(|(_, item)| item).collect(), marker)
}
