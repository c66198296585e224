//! Operations with their parameters.

use super::describe::{
    DescribeInstanceTypes, DescribeInstances, DescribeRegions, DescribeTags, instance_ids,
};
use super::filter::Filters;
use super::{Operation, Parameters, refused};
use crate::api::{ApiError, QueryErrorCode as Code};
use crate::ids::{InstanceId, InstanceType};
use crate::inventory::{Instance, InstanceState};
use crate::limits;
use instance_connect_planted::planted;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A request: what is asked for, and whether it is only asked whether that may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub task: Task,
    /// `DryRun`: it is judged, and not done.
    pub dry_run: bool,
}

/// An operation with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// One that changes nothing.
    Read(Read),
    /// One that changes something in the inventory. Done twice it is as done once.
    Change(Change),
}

/// An operation that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the operations' names say it")]
pub enum Read {
    DescribeInstances(DescribeInstances),
    DescribeInstanceTypes(DescribeInstanceTypes),
    DescribeTags(DescribeTags),
    DescribeRegions(DescribeRegions),
    GetSerialConsoleAccessStatus,
    GetCallerIdentity,
}

/// An operation that changes something in the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Switches the serial console of the account on or off.
    SetSerialConsoleAccess {
        /// Whether it is on from now on.
        enabled: bool,
    },
    /// Gives instances tags; others stay.
    CreateTags {
        /// The instances.
        instances: Vec<InstanceId>,
        /// The tags.
        tags: BTreeMap<String, String>,
    },
    /// Takes tags from instances.
    DeleteTags {
        /// The instances.
        instances: Vec<InstanceId>,
        /// Which tags.
        tags: DeletedTags,
    },
    /// Says which state instances are in.
    SetState {
        /// The instances.
        instances: Vec<InstanceId>,
        /// The state.
        change: StateChange,
    },
}

/// Which tags are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletedTags {
    /// All there are: the request names none.
    All,
    /// Those with these keys, whatever value they have or where they have this one.
    These(BTreeMap<String, Option<String>>),
}

impl DeletedTags {
    /// Whether a tag is among them.
    pub fn covers(&self, key: &str, value: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(tags) => {
                tags.get(key).is_some_and(|wanted| wanted.as_deref().is_none_or(|wanted| wanted == value))
            }
        }
    }
}

/// What becomes of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateChange {
    /// It is started.
    Start,
    /// It is stopped.
    Stop,
    /// It is gone for good.
    Terminate,
}

impl StateChange {
    /// The state in which it then is.
    pub const fn state(self) -> InstanceState {
        match self {
            Self::Start => InstanceState::Running,
            Self::Stop => InstanceState::Stopped,
            Self::Terminate => InstanceState::Terminated,
        }
    }

    /// Refuses what EC2 refuses (wire.md 9.6): a start and a stop of an instance that is gone for good or about to be, a start of
    /// one that is still being stopped, and a stop of one that has not been started yet.
    ///
    /// # Errors
    /// [`Code::IncorrectInstanceState`].
    pub fn check(self, instance: &Instance) -> Result<(), ApiError> {
        use InstanceState::{Pending, Running, ShuttingDown, Stopped, Stopping, Terminated};
        let id = &instance.id;
        let message = match (self, instance.state) {
            (Self::Start, Stopping | ShuttingDown | Terminated) => {
                format!("The instance '{id}' is not in a state from which it can be started.")
            }
            (Self::Stop, ShuttingDown | Terminated) => {
                format!("This instance '{id}' is not in a state from which it can be stopped.")
            }
            (Self::Stop, Pending) => {
                format!("Instance '{id}' cannot be stopped as it has never reached the 'running' state.")
            }
            (Self::Start, Pending | Running | Stopped)
            | (Self::Stop, Running | Stopping | Stopped)
            | (Self::Terminate, _) => return Ok(()),
        };
        Err(refused(Code::IncorrectInstanceState, message))
    }
}

impl Request {
    /// Reads and checks the parameters of an operation.
    ///
    /// # Errors
    /// The first parameter that is missing, that the operation does not have, or whose value it does not allow.
    pub fn read(operation: Operation, mut parameters: Parameters) -> Result<Self, ApiError> {
        let p = &mut parameters;
        // STS has no dry run, and neither needs `DryRun` where nothing is done.
        let dry_run = if operation == Operation::GetCallerIdentity { false } else { p.flag("DryRun")? };
        let task = match operation {
            Operation::DescribeInstances => Read::DescribeInstances(DescribeInstances::read(p)?).into(),
            Operation::DescribeInstanceTypes => {
                Read::DescribeInstanceTypes(DescribeInstanceTypes::read(p)?).into()
            }
            Operation::DescribeTags => Read::DescribeTags(DescribeTags::read(p)?).into(),
            Operation::DescribeRegions => Read::DescribeRegions(DescribeRegions::read(p)?).into(),
            Operation::GetSerialConsoleAccessStatus => Read::GetSerialConsoleAccessStatus.into(),
            Operation::GetCallerIdentity => Read::GetCallerIdentity.into(),
            Operation::EnableSerialConsoleAccess => Change::SetSerialConsoleAccess { enabled: true }.into(),
            Operation::DisableSerialConsoleAccess => Change::SetSerialConsoleAccess { enabled: false }.into(),
            Operation::CreateTags => {
                let (instances, tags) = (resources(p)?, tags(p)?);
                if tags.is_empty() {
                    return Err(p.missing("Tag.1.Key"));
                }
                let tags = tags.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect();
                Change::CreateTags { instances, tags }.into()
            }
            Operation::DeleteTags => {
                let (instances, tags) = (resources(p)?, tags(p)?);
                let tags = if tags.is_empty() { DeletedTags::All } else { DeletedTags::These(tags) };
                Change::DeleteTags { instances, tags }.into()
            }
            Operation::StartInstances => {
                Change::SetState { instances: instances(p)?, change: StateChange::Start }.into()
            }
            Operation::StopInstances => {
                // A machine is not touched by it, so nothing is forced.
                p.flag("Force")?;
                Change::SetState { instances: instances(p)?, change: StateChange::Stop }.into()
            }
            Operation::TerminateInstances => {
                p.flag("Force")?;
                Change::SetState { instances: instances(p)?, change: StateChange::Terminate }.into()
            }
        };
        parameters.finish()?;
        Ok(Self { task, dry_run })
    }

    /// The instances that policies are asked about, each by itself. Without any it is about nothing in particular.
    pub fn instances(&self) -> &[InstanceId] {
        match &self.task {
            Task::Change(
                Change::CreateTags { instances, .. }
                | Change::DeleteTags { instances, .. }
                | Change::SetState { instances, .. },
            ) => instances,
            Task::Change(Change::SetSerialConsoleAccess { .. }) | Task::Read(_) => &[],
        }
    }

    /// The tags of the request for one of its instances, which is `None` where the account does not have it: what
    /// `aws:RequestTag/…` and `aws:TagKeys` stand for. Those that are taken from it and that the request does not spell out
    /// are in it as the instance has them: whoever may not take some tag may not take it by leaving it out.
    pub fn tags_for(&self, instance: Option<&Instance>) -> BTreeMap<String, Option<String>> {
        let mut tags = self.tags();
        if let (Task::Change(Change::DeleteTags { tags: deleted, .. }), Some(instance)) =
            (&self.task, instance)
            && !planted("taken-tags-unjudged")
        {
            let taken = instance.tags.iter().filter(|(key, value)| deleted.covers(key, value));
            tags.extend(taken.map(|(key, value)| (key.clone(), Some(value.clone()))));
        }
        tags
    }

    /// The tags that the request spells out.
    fn tags(&self) -> BTreeMap<String, Option<String>> {
        match &self.task {
            Task::Change(Change::CreateTags { tags, .. }) => {
                tags.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect()
            }
            Task::Change(Change::DeleteTags { tags: DeletedTags::These(tags), .. }) => tags.clone(),
            Task::Change(_) | Task::Read(_) => BTreeMap::new(),
        }
    }

    /// The parameters as CloudTrail's records show them (wire.md 8.6).
    pub fn recorded(&self) -> Value {
        let mut shown = match &self.task {
            Task::Read(Read::DescribeInstances(describe)) => {
                let ids = describe.instances.iter().map(InstanceId::as_str);
                described(set("instancesSet", "instanceId", ids), &describe.filters)
            }
            Task::Read(Read::DescribeInstanceTypes(describe)) => {
                let types = describe.types.iter().map(InstanceType::as_str);
                described(set("instanceTypeSet", "instanceType", types), &describe.filters)
            }
            Task::Read(Read::DescribeTags(describe)) => described(Map::new(), &describe.filters),
            Task::Read(Read::DescribeRegions(describe)) => {
                let names = describe.names.iter().map(String::as_str);
                described(set("regionSet", "regionName", names), &describe.filters)
            }
            Task::Read(Read::GetSerialConsoleAccessStatus | Read::GetCallerIdentity)
            | Task::Change(Change::SetSerialConsoleAccess { .. }) => Map::new(),
            Task::Change(Change::CreateTags { instances, .. } | Change::DeleteTags { instances, .. }) => {
                let mut shown = set("resourcesSet", "resourceId", instances.iter().map(InstanceId::as_str));
                let tags = self.tags().into_iter().map(|(key, value)| match value {
                    Some(value) => json!({ "key": key, "value": value }),
                    None => json!({ "key": key }),
                });
                shown.insert("tagSet".to_owned(), json!({ "items": tags.collect::<Value>() }));
                shown
            }
            Task::Change(Change::SetState { instances, .. }) => {
                set("instancesSet", "instanceId", instances.iter().map(InstanceId::as_str))
            }
        };
        if self.dry_run {
            shown.insert("dryRun".to_owned(), true.into());
        }
        Value::Object(shown)
    }
}

/// A list of names as records show it; nothing of one that is empty.
fn set<'n>(name: &str, member: &str, names: impl ExactSizeIterator<Item = &'n str>) -> Map<String, Value> {
    if names.len() == 0 {
        return Map::new();
    }
    let items: Value = names.map(|name| json!({ member: name })).collect();
    Map::from_iter([(name.to_owned(), json!({ "items": items }))])
}

/// What a request names, and its filters if it has any.
fn described<F>(mut shown: Map<String, Value>, filters: &Filters<F>) -> Map<String, Value> {
    if !filters.is_empty() {
        shown.insert("filterSet".to_owned(), filters.recorded());
    }
    shown
}

/// `InstanceId.N`: at least one.
fn instances(parameters: &mut Parameters) -> Result<Vec<InstanceId>, ApiError> {
    let ids = instance_ids(parameters.list("InstanceId"))?;
    checked(ids, || parameters.missing("InstanceId.1"))
}

/// `ResourceId.N`: at least one, and all of them instances: nothing else has tags.
fn resources(parameters: &mut Parameters) -> Result<Vec<InstanceId>, ApiError> {
    let parse = |text: String| {
        text.parse().map_err(|_| {
            let text: String = text.chars().take(limits::QUERY_NAME).collect();
            refused(Code::InvalidId, format!("The ID '{text}' is not valid"))
        })
    };
    let ids = parameters.list("ResourceId").into_iter().map(parse).collect::<Result<_, _>>()?;
    checked(ids, || parameters.missing("ResourceId.1"))
}

/// Each id once.
fn checked(ids: Vec<InstanceId>, missing: impl FnOnce() -> ApiError) -> Result<Vec<InstanceId>, ApiError> {
    let ids: BTreeSet<InstanceId> = ids.into_iter().collect();
    match ids.len() {
        0 => Err(missing()),
        1..=limits::INSTANCES_CHANGED => Ok(ids.into_iter().collect()),
        _ => {
            let message = format!("A request may change {} instances.", limits::INSTANCES_CHANGED);
            Err(refused(Code::InvalidParameterValue, message))
        }
    }
}

/// `Tag.N`: each key once, with its value where the request has one.
fn tags(parameters: &mut Parameters) -> Result<BTreeMap<String, Option<String>>, ApiError> {
    let mut tags = BTreeMap::new();
    for mut tag in parameters.structures("Tag") {
        let key = tag_key(&mut tag)?;
        let value = tag.optional("Value");
        check_tag_text(&tag, "Value", value.as_deref().unwrap_or_default(), limits::TAG_VALUE)?;
        tag.finish()?;
        if tags.insert(key, value).is_some() {
            let message = "A tag key stands in the request more than once.";
            return Err(refused(Code::InvalidParameterValue, message));
        }
    }
    if tags.len() > limits::TAGS {
        let message = format!("More than {} tags specified", limits::TAGS);
        return Err(refused(Code::TagLimitExceeded, message));
    }
    Ok(tags)
}

fn tag_key(tag: &mut Parameters) -> Result<String, ApiError> {
    let key = tag.required("Key")?;
    if key.is_empty() {
        return Err(tag.invalid("Key", &key, "A tag key has at least one character."));
    }
    check_tag_text(tag, "Key", &key, limits::TAG_KEY)?;
    if key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
        let message = "Tag keys starting with 'aws:' are reserved for internal use";
        return Err(refused(Code::InvalidParameterValue, message));
    }
    Ok(key)
}

fn check_tag_text(tag: &Parameters, name: &str, text: &str, longest: usize) -> Result<(), ApiError> {
    if text.chars().count() > longest || text.chars().any(char::is_control) {
        let why = format!("It may have {longest} characters, and no control characters.");
        return Err(tag.invalid(name, text, &why));
    }
    Ok(())
}

impl From<Read> for Task {
    fn from(read: Read) -> Self {
        Self::Read(read)
    }
}

impl From<Change> for Task {
    fn from(change: Change) -> Self {
        Self::Change(change)
    }
}
