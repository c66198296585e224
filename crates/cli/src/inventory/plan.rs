//! What has to be changed so that the service has what a file says, and in which order.

use super::document::compact;
use super::file::{Documents, Group, Instance, Inventory, User};
use crate::failure::{Exit, Failure};
use instance_connect_client::{Administer, AdministrativeOperation as O};
use instance_connect_core::ids::{AccountId, GroupName, InstanceId, PolicyName, UserName};
use instance_connect_core::inventory::{InstanceState, Status, policy_arn};
use instance_connect_core::printable::printable;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// When a step's turn is. What others refer to is there before them, and goes after them; what takes rights away comes
/// before what gives some, and between them comes what can do either: another document, another tag, another boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Suspend,
    NewPolicies,
    NewGroups,
    NewUsers,
    Boundaries,
    Take,
    Change,
    Give,
    Instances,
    States,
    Activate,
    DeleteGroups,
    DeletePolicies,
}

/// One request, and what it does in words.
#[derive(Debug)]
pub(super) struct Step {
    phase: Phase,
    pub(super) sentence: String,
    pub(super) request: Administer,
}

/// Everything that differs.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// For people, in lines that begin with `+`, `~` or `-`.
    shown: Vec<String>,
    /// In the order in which they are made.
    pub(super) steps: Vec<Step>,
}

/// What becomes of something.
#[derive(Clone, Copy)]
enum Sign {
    New,
    Changed,
    Gone,
}

impl Sign {
    const fn symbol(self) -> char {
        match self {
            Self::New => '+',
            Self::Changed => '~',
            Self::Gone => '-',
        }
    }
}

/// One thing that is different, while its parts are compared.
struct Change {
    sign: Sign,
    name: String,
    lines: Vec<String>,
    steps: Vec<Step>,
}

impl Change {
    fn new(sign: Sign, name: String) -> Self {
        Self { sign, name, lines: Vec::new(), steps: Vec::new() }
    }

    /// Shows a part of it, in one line.
    fn show(&mut self, sign: Sign, text: &str) {
        self.lines.push(format!("    {} {}", sign.symbol(), printable(text)));
    }

    fn step(&mut self, phase: Phase, doing: &str, request: Administer) {
        let sentence = printable(&format!("{}: {doing}", self.name));
        self.steps.push(Step { phase, sentence, request });
    }

    /// Shows a part, which one request changes.
    fn part(&mut self, sign: Sign, text: &str, phase: Phase, request: Administer) {
        self.show(sign, text);
        self.step(phase, &format!("{} {text}", sign.symbol()), request);
    }
}

impl Plan {
    /// The steps from what there is to what is wanted. With `prune`, what is not named goes.
    pub(super) fn new(current: &Inventory, wanted: &Inventory, prune: bool) -> Result<Self, Failure> {
        let account = check_account(current, wanted)?;
        check_references(current, wanted, prune)?;
        let mut plan = Self::default();
        plan.settings(current, wanted);
        plan.policies(current, wanted, prune, account);
        plan.groups(current, wanted, prune, account);
        plan.users(current, wanted, prune, account);
        plan.instances(current, wanted, prune)?;
        // Stable: within a phase things stand in the order in which they are shown.
        plan.steps.sort_by_key(|step| step.phase);
        Ok(plan)
    }

    /// For people: what becomes of what, and how much that is.
    pub(super) fn text(&self) -> String {
        let count = |sign: Sign| self.shown.iter().filter(|line| line.starts_with(sign.symbol())).count();
        let [new, changed, gone] = [Sign::New, Sign::Changed, Sign::Gone].map(count);
        format!("{}\n{new} new, {changed} changed, {gone} gone.", self.shown.join("\n"))
    }

    fn add(&mut self, change: Change) {
        if !change.steps.is_empty() {
            self.shown.push(format!("{} {}", change.sign.symbol(), printable(&change.name)));
            self.shown.extend(change.lines);
            self.steps.extend(change.steps);
        }
    }

    fn settings(&mut self, current: &Inventory, wanted: &Inventory) {
        let Some(on) = wanted.settings.serial_console_access else { return };
        if current.settings.serial_console_access == Some(on) {
            return;
        }
        let operation = if on { O::EnableSerialConsoleAccess } else { O::DisableSerialConsoleAccess };
        let phase = if on { Phase::Activate } else { Phase::Suspend };
        let mut change = Change::new(Sign::Changed, "settings".to_owned());
        change.part(
            Sign::Changed,
            &format!("serial_console_access = {on}"),
            phase,
            Administer::new(operation),
        );
        self.add(change);
    }

    fn policies(&mut self, current: &Inventory, wanted: &Inventory, prune: bool, account: &AccountId) {
        for (name, document) in &wanted.policies {
            let (sign, phase, request) = match current.policies.get(name) {
                Some(now) if compact(now) == compact(document) => continue,
                Some(_) => (
                    Sign::Changed,
                    Phase::Change,
                    Administer::new(O::UpdatePolicy).with("PolicyArn", policy_arn(account, name)),
                ),
                None => (
                    Sign::New,
                    Phase::NewPolicies,
                    Administer::new(O::CreatePolicy).with("PolicyName", name.as_str()),
                ),
            };
            let mut change = Change::new(sign, format!("policy {name}"));
            show_document(&mut change, current.policies.get(name), document);
            change.step(phase, "its document", request.with("PolicyDocument", document.as_str()));
            self.add(change);
        }
        for name in unnamed(&current.policies, &wanted.policies, prune) {
            let mut change = Change::new(Sign::Gone, format!("policy {name}"));
            let request = Administer::new(O::DeletePolicy).with("PolicyArn", policy_arn(account, name));
            change.step(Phase::DeletePolicies, "deleted", request);
            self.add(change);
        }
    }

    fn groups(&mut self, current: &Inventory, wanted: &Inventory, prune: bool, account: &AccountId) {
        let of = |operation, name: &GroupName| Administer::new(operation).with("GroupName", name.as_str());
        let holder = Holder {
            owner: "GroupName",
            put: O::PutGroupPolicy,
            delete: O::DeleteGroupPolicy,
            attach: O::AttachGroupPolicy,
            detach: O::DetachGroupPolicy,
            account,
        };
        let none = Group::default();
        for (name, group) in &wanted.groups {
            let now = current.groups.get(name);
            let sign = if now.is_some() { Sign::Changed } else { Sign::New };
            let mut change = Change::new(sign, format!("group {name}"));
            if now.is_none() {
                change.step(Phase::NewGroups, "made", of(O::CreateGroup, name));
            }
            let now = now.unwrap_or(&none);
            holder.compare(
                &mut change,
                name.as_str(),
                (&now.inline, &now.attached),
                (&group.inline, &group.attached),
            );
            self.add(change);
        }
        for name in unnamed(&current.groups, &wanted.groups, prune) {
            let mut change = Change::new(Sign::Gone, format!("group {name}"));
            let now = current.groups.get(name).unwrap_or(&none);
            holder.compare(
                &mut change,
                name.as_str(),
                (&now.inline, &now.attached),
                (&none.inline, &none.attached),
            );
            change.step(Phase::DeleteGroups, "deleted", of(O::DeleteGroup, name));
            self.add(change);
        }
    }

    fn users(&mut self, current: &Inventory, wanted: &Inventory, prune: bool, account: &AccountId) {
        for (name, user) in &wanted.users {
            let sign = if current.users.contains_key(name) { Sign::Changed } else { Sign::New };
            let mut change = Change::new(sign, format!("user {name}"));
            compare_users(&mut change, name, current.users.get(name), user, account);
            self.add(change);
        }
        // A user is not deleted: its id stands in records. Nothing is left of it but that.
        let nothing = User { status: Status::Suspended, ..User::default() };
        for name in unnamed(&current.users, &wanted.users, prune) {
            let mut change = Change::new(Sign::Gone, format!("user {name}"));
            compare_users(&mut change, name, current.users.get(name), &nothing, account);
            self.add(change);
        }
    }

    fn instances(&mut self, current: &Inventory, wanted: &Inventory, prune: bool) -> Result<(), Failure> {
        for (id, instance) in &wanted.instances {
            let now = current.instances.get(id);
            let sign = if now.is_some() { Sign::Changed } else { Sign::New };
            let mut change = Change::new(sign, format!("instance {id}"));
            compare_instances(&mut change, id, now, instance)?;
            self.add(change);
        }
        // Terminated is all that an instance becomes: its id stands in records.
        let is_left = |id: &&InstanceId| {
            current.instances.get(*id).is_some_and(|now| now.state != InstanceState::Terminated)
        };
        for id in unnamed(&current.instances, &wanted.instances, prune).filter(is_left) {
            let mut change = Change::new(Sign::Gone, format!("instance {id}"));
            let state = InstanceState::Terminated;
            change.part(Sign::Changed, "state = terminated", Phase::States, set_state(id, state));
            self.add(change);
        }
        Ok(())
    }
}

/// Names that the file does not have, if they are to go.
fn unnamed<'c, K: Ord, A, B>(
    current: &'c BTreeMap<K, A>,
    wanted: &BTreeMap<K, B>,
    prune: bool,
) -> impl Iterator<Item = &'c K> {
    current.keys().filter(move |name| prune && !wanted.contains_key(*name))
}

/// The account that is changed, if it is the file's.
fn check_account<'c>(current: &'c Inventory, wanted: &Inventory) -> Result<&'c AccountId, Failure> {
    let unknown = || Failure::new(Exit::General, "the service does not say which account this is");
    let account = current.account.as_ref().ok_or_else(unknown)?;
    match &wanted.account {
        Some(other) if other != account => {
            let message =
                format!("the file is the inventory of account {other}, and your access key is of {account}");
            Err(Failure::new(Exit::Parameter, message)
                .hint("take its line `account` out if it is meant for both"))
        }
        _ => Ok(account),
    }
}

/// Whatever is referred to has to be there when all is done.
fn check_references(current: &Inventory, wanted: &Inventory, prune: bool) -> Result<(), Failure> {
    let has_policy = |name: &PolicyName| {
        wanted.policies.contains_key(name) || (!prune && current.policies.contains_key(name))
    };
    let has_group =
        |name: &GroupName| wanted.groups.contains_key(name) || (!prune && current.groups.contains_key(name));
    let of_groups =
        wanted.groups.iter().map(|(name, group)| (format!("group {name}"), &group.attached, None));
    let of_users = wanted
        .users
        .iter()
        .map(|(name, user)| (format!("user {name}"), &user.attached, user.boundary.as_ref()));
    let missing = |owner: &str, what: String| {
        Failure::new(
            Exit::Parameter,
            format!("{owner} refers to {what}, which is neither in the file nor to stay"),
        )
    };
    for (owner, attached, boundary) in of_groups.chain(of_users) {
        if let Some(name) = attached.iter().chain(boundary).find(|name| !has_policy(name)) {
            return Err(missing(&owner, format!("policy {name}")));
        }
    }
    for (name, user) in &wanted.users {
        if let Some(group) = user.groups.iter().find(|group| !has_group(group)) {
            return Err(missing(&format!("user {name}"), format!("group {group}")));
        }
    }
    Ok(())
}

/// The operations on the policies of users or groups.
struct Holder<'a> {
    owner: &'static str,
    put: O,
    delete: O,
    attach: O,
    detach: O,
    account: &'a AccountId,
}

/// Inline and attached policies.
type Held<'a> = (&'a Documents, &'a BTreeSet<PolicyName>);

impl Holder<'_> {
    fn compare(&self, change: &mut Change, owner: &str, (inline, attached): Held<'_>, wanted: Held<'_>) {
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

fn compare_users(
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

fn compare_instances(
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
        change.part(Sign::New, &format!("availability_zone = {zone}"), Phase::Instances, request);
        for (key, value) in &wanted.tags {
            change.show(Sign::New, &format!("tag {key} = {value}"));
        }
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
    Ok(())
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

fn set_state(id: &InstanceId, state: InstanceState) -> Administer {
    Administer::new(O::SetInstanceState).with("InstanceId", id.as_str()).with("State", state.as_str())
}

/// The lines of a document that differ: those between what both begin and end with.
fn show_document(change: &mut Change, now: Option<&String>, wanted: &str) {
    let lines = |text: &'_ str| -> Vec<String> {
        super::document::laid_out(text).lines().map(str::to_owned).collect()
    };
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

#[cfg(test)]
mod tests;
