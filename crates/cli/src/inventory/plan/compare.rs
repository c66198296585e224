//! What differs between the parts of what there is and of what is wanted.

use super::{Change, Phase, Sign};
use crate::failure::{Exit, Failure};
use crate::inventory::document::{compact, laid_out};
use crate::inventory::file::{Documents, Instance, User};
use instance_connect_client::{Administer, AdministrativeOperation as O};
use instance_connect_core::ids::{AccountId, InstanceId, PolicyName, UserName};
use instance_connect_core::inventory::{InstanceDetails, InstanceState, Status, policy_arn};
use instance_connect_core::printable::printable;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The operations on the policies of users or groups.
pub(super) struct Holder<'a> {
    pub(super) owner: &'static str,
    pub(super) put: O,
    pub(super) delete: O,
    pub(super) attach: O,
    pub(super) detach: O,
    pub(super) account: &'a AccountId,
}

/// Inline and attached policies.
type Held<'a> = (&'a Documents, &'a BTreeSet<PolicyName>);

impl Holder<'_> {
    pub(super) fn compare(
        &self,
        change: &mut Change,
        owner: &str,
        (inline, attached): Held<'_>,
        wanted: Held<'_>,
    ) {
        let of = |operation| Administer::new(operation).with(self.owner, owner);
        for name in inline.keys().filter(|name| !wanted.0.contains_key(*name)) {
            let request = of(self.delete).with("PolicyName", name.as_str());
            change.part(Sign::Gone, &format!("inline policy {name}"), Phase::Take, request);
        }
        for (name, document) in wanted.0 {
            let now = inline.get(name);
            if now.is_some_and(|now| compact(now) == compact(document)) {
                continue;
            }
            let (sign, phase) = match now {
                Some(_) => (Sign::Changed, Phase::Change),
                None => (Sign::New, Phase::Give),
            };
            let request =
                of(self.put).with("PolicyName", name.as_str()).with("PolicyDocument", document.as_str());
            change.part(sign, &format!("inline policy {name}"), phase, request);
            show_document(change, now, document);
        }
        for name in attached.difference(wanted.1) {
            let request = of(self.detach).with("PolicyArn", policy_arn(self.account, name));
            change.part(Sign::Gone, &format!("attached policy {name}"), Phase::Take, request);
        }
        for name in wanted.1.difference(attached) {
            let request = of(self.attach).with("PolicyArn", policy_arn(self.account, name));
            change.part(Sign::New, &format!("attached policy {name}"), Phase::Give, request);
        }
    }
}

pub(super) fn compare_users(
    change: &mut Change,
    name: &UserName,
    now: Option<&User>,
    wanted: &User,
    account: &AccountId,
) {
    let of = |operation| Administer::new(operation).with("UserName", name.as_str());
    let is_new = now.is_none();
    if is_new {
        change.step(Phase::NewUsers, "made", of(O::CreateUser));
    }
    let made = User::default();
    let now = now.unwrap_or(&made);
    match (now.status, wanted.status) {
        (Status::Active, Status::Suspended) => {
            // One that is to be made is not there yet, and nobody has a key of it.
            let request = of(O::UpdateUser).with("Status", "Suspended");
            let phase = if is_new { Phase::Boundaries } else { Phase::Suspend };
            change.part(Sign::Changed, "status = suspended", phase, request);
        }
        (Status::Suspended, Status::Active) => {
            let request = of(O::UpdateUser).with("Status", "Active");
            change.part(Sign::Changed, "status = active", Phase::Activate, request);
        }
        _ => {}
    }
    if now.boundary != wanted.boundary {
        match &wanted.boundary {
            Some(policy) => {
                let request = of(O::PutUserPermissionsBoundary)
                    .with("PermissionsBoundary", policy_arn(account, policy));
                let phase = if now.boundary.is_none() { Phase::Boundaries } else { Phase::Change };
                change.part(Sign::Changed, &format!("boundary = {policy}"), phase, request);
            }
            None => {
                change.part(Sign::Gone, "boundary", Phase::Activate, of(O::DeleteUserPermissionsBoundary));
            }
        }
    }
    compare_tags(change, (&now.tags, &wanted.tags), of(O::TagUser), of(O::UntagUser));
    for group in now.groups.difference(&wanted.groups) {
        let request = of(O::RemoveUserFromGroup).with("GroupName", group.as_str());
        change.part(Sign::Gone, &format!("in group {group}"), Phase::Take, request);
    }
    for group in wanted.groups.difference(&now.groups) {
        let request = of(O::AddUserToGroup).with("GroupName", group.as_str());
        change.part(Sign::New, &format!("in group {group}"), Phase::Give, request);
    }
    let holder = Holder {
        owner: "UserName",
        put: O::PutUserPolicy,
        delete: O::DeleteUserPolicy,
        attach: O::AttachUserPolicy,
        detach: O::DetachUserPolicy,
        account,
    };
    holder.compare(change, name.as_str(), (&now.inline, &now.attached), (&wanted.inline, &wanted.attached));
}

pub(super) fn compare_instances(
    change: &mut Change,
    id: &InstanceId,
    now: Option<&Instance>,
    wanted: &Instance,
) -> Result<(), Failure> {
    let zone = &wanted.availability_zone;
    let Some(now) = now else {
        let request = Administer::new(O::CreateInstance)
            .with("InstanceId", id.as_str())
            .with("AvailabilityZone", zone.as_str())
            .with("Tags", if wanted.tags.is_empty() { Value::Null } else { tags(&wanted.tags) });
        let request = with_details(request, &wanted.details);
        change.part(Sign::New, &format!("availability_zone = {zone}"), Phase::Instances, request);
        for (key, value) in &wanted.tags {
            change.show(Sign::New, &format!("tag {key} = {value}"));
        }
        for (name, _, value) in members(&wanted.details) {
            change.show(Sign::New, &format!("{name} = {value}"));
        }
        compare_hosts(change, id, None, wanted.host.as_ref());
        if wanted.state != InstanceState::Running {
            let text = format!("state = {}", wanted.state.as_str());
            change.part(Sign::New, &text, Phase::States, set_state(id, wanted.state));
        }
        return Ok(());
    };
    if now.availability_zone != *zone {
        let message =
            format!("{id} is in {}, not in {zone}, and an instance stays in its zone", now.availability_zone);
        return Err(Failure::new(Exit::Parameter, message));
    }
    if now.state == InstanceState::Terminated && wanted.state != InstanceState::Terminated {
        let message = format!("{id} is terminated, and stays so");
        return Err(
            Failure::new(Exit::Parameter, message).hint("a machine that is made anew has an id of its own")
        );
    }
    if now.state != wanted.state {
        let text = format!("state = {}", wanted.state.as_str());
        change.part(Sign::Changed, &text, Phase::States, set_state(id, wanted.state));
    }
    let of = |operation| Administer::new(operation).with("Resources", vec![id.as_str()]);
    compare_tags(change, (&now.tags, &wanted.tags), of(O::CreateTags), of(O::DeleteTags));
    compare_details(change, id, &now.details, &wanted.details);
    compare_hosts(change, id, now.host.as_ref(), wanted.host.as_ref());
    Ok(())
}

/// What is said of an instance: the name in the file, the member of the request, and the value.
pub(in crate::inventory) fn members(
    details: &InstanceDetails,
) -> impl Iterator<Item = (&'static str, &'static str, String)> {
    let InstanceDetails { instance_type, image_id, private_ip, public_ip, ipv6 } = details;
    let all = [
        ("instance_type", "InstanceType", instance_type.as_ref().map(ToString::to_string)),
        ("image_id", "ImageId", image_id.as_ref().map(ToString::to_string)),
        ("private_ip", "PrivateIpAddress", private_ip.map(|address| address.to_string())),
        ("public_ip", "PublicIpAddress", public_ip.map(|address| address.to_string())),
        ("ipv6", "Ipv6Address", ipv6.map(|address| address.to_string())),
    ];
    all.into_iter().filter_map(|(name, member, value)| Some((name, member, value?)))
}

/// All of it at a time: that is how it is said.
fn with_details(request: Administer, details: &InstanceDetails) -> Administer {
    members(details).fold(request, |request, (_, member, value)| request.with(member, value))
}

fn compare_details(change: &mut Change, id: &InstanceId, now: &InstanceDetails, wanted: &InstanceDetails) {
    if now == wanted {
        return;
    }
    let [before, after]: [BTreeMap<_, _>; 2] =
        [now, wanted].map(|details| members(details).map(|(name, _, value)| (name, value)).collect());
    for (name, value) in &after {
        match before.get(name) {
            Some(same) if same == value => {}
            Some(_) => change.show(Sign::Changed, &format!("{name} = {value}")),
            None => change.show(Sign::New, &format!("{name} = {value}")),
        }
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        change.show(Sign::Gone, name);
    }
    let request = Administer::new(O::SetInstanceDetails).with("InstanceId", id.as_str());
    change.step(Phase::Change, "described anew", with_details(request, wanted));
}

pub(super) fn compare_hosts(
    change: &mut Change,
    id: &InstanceId,
    now: Option<&InstanceId>,
    wanted: Option<&InstanceId>,
) {
    if now == wanted {
        return;
    }
    let request = Administer::new(O::SetInstanceHost)
        .with("InstanceId", id.as_str())
        .with("HostInstanceId", wanted.map(InstanceId::as_str));
    match (now, wanted) {
        (_, None) => change.part(Sign::Gone, "host", Phase::Take, request),
        (None, Some(host)) => change.part(Sign::New, &format!("host = {host}"), Phase::Hosts, request),
        (Some(_), Some(host)) => {
            change.part(Sign::Changed, &format!("host = {host}"), Phase::OtherHosts, request);
        }
    }
}

fn compare_tags(
    change: &mut Change,
    (now, wanted): (&BTreeMap<String, String>, &BTreeMap<String, String>),
    set: Administer,
    delete: Administer,
) {
    let gone: Vec<&String> = now.keys().filter(|key| !wanted.contains_key(*key)).collect();
    let differs = |(key, value): &(&String, &String)| now.get(*key) != Some(value);
    let put: BTreeMap<String, String> =
        wanted.iter().filter(differs).map(|(key, value)| (key.clone(), value.clone())).collect();
    for key in &gone {
        change.show(Sign::Gone, &format!("tag {key}"));
    }
    for (key, value) in &put {
        let sign = if now.contains_key(key) { Sign::Changed } else { Sign::New };
        change.show(sign, &format!("tag {key} = {value}"));
    }
    if !gone.is_empty() {
        change.step(Phase::Take, "tags taken", delete.with("TagKeys", json!(gone)));
    }
    if !put.is_empty() {
        change.step(Phase::Change, "tags set", set.with("Tags", tags(&put)));
    }
}

fn tags(tags: &BTreeMap<String, String>) -> Value {
    tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

pub(super) fn set_state(id: &InstanceId, state: InstanceState) -> Administer {
    Administer::new(O::SetInstanceState).with("InstanceId", id.as_str()).with("State", state.as_str())
}

/// The lines of a document that differ: those between what both begin and end with.
pub(super) fn show_document(change: &mut Change, now: Option<&String>, wanted: &str) {
    let lines = |text: &'_ str| -> Vec<String> { laid_out(text).lines().map(str::to_owned).collect() };
    let (now, wanted) = (now.map(|now| lines(now)).unwrap_or_default(), lines(wanted));
    let same_start = now.iter().zip(&wanted).take_while(|(one, other)| one == other).count();
    let rest = |lines: &[String]| lines.get(same_start..).map(<[String]>::to_vec).unwrap_or_default();
    let (now, wanted) = (rest(&now), rest(&wanted));
    let same_end = now.iter().rev().zip(wanted.iter().rev()).take_while(|(one, other)| one == other).count();
    for (sign, lines) in [(Sign::Gone, now), (Sign::New, wanted)] {
        for line in lines.iter().take(lines.len().saturating_sub(same_end)) {
            change.lines.push(format!("      {} {}", sign.symbol(), printable(line)));
        }
    }
}
