//! What has to be changed so that the service has what a file says, and in which order.

mod checks;
mod compare;

use super::document::compact;
use super::file::{Group, Inventory, User};
use crate::failure::Failure;
use checks::{check_account, check_hosts, check_references};
pub(super) use compare::members;
use compare::{Holder, compare_hosts, compare_instances, compare_users, set_state, show_document};
use instance_connect_client::{Administer, AdministrativeOperation as O};
use instance_connect_core::ids::{AccountId, GroupName};
use instance_connect_core::inventory::{InstanceState, Status, policy_arn};
use instance_connect_core::printable::printable;
use std::collections::BTreeMap;

/// When a step's turn is. What others refer to is there before them, and goes after them; what takes rights away comes
/// before what gives some, and between them comes what can do either: another document, another tag, another boundary.
/// A guest that is nobody's any more comes before one that gets another host, and that before one that gets its first: so
/// nobody is asked to be host and guest at a time.
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
    OtherHosts,
    Hosts,
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
        check_hosts(current, wanted, prune)?;
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
        for id in unnamed(&current.instances, &wanted.instances, prune) {
            let now = current.instances.get(id).filter(|now| now.state != InstanceState::Terminated);
            let Some(now) = now else { continue };
            let mut change = Change::new(Sign::Gone, format!("instance {id}"));
            let state = InstanceState::Terminated;
            change.part(Sign::Changed, "state = terminated", Phase::States, set_state(id, state));
            compare_hosts(&mut change, id, now.host.as_ref(), None);
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

#[cfg(test)]
mod tests;
