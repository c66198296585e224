//! The inventory as it stands in a file, read into types. What is wrong with it is told with its line.

use crate::failure::{Exit, Failure};
use instance_connect_core::administration::PolicyDocument;
use instance_connect_core::ids::{
    AccountId, AvailabilityZone, GroupName, ImageId, InstanceId, InstanceType, PolicyName, Region, UserName,
};
use instance_connect_core::inventory::{InstanceDetails, InstanceState, Status};
use instance_connect_core::printable::printable;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::str::FromStr;

/// Largest file that is read: some thousand users with policies of their own.
const LARGEST_FILE: u64 = 8 * 1024 * 1024;

/// Everything that an account has, but for its access keys.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Inventory {
    /// Whose it is; another account's is then refused.
    #[serde(deserialize_with = "some")]
    pub(super) account: Option<AccountId>,
    /// Where its instances are: what ARNs have, where nobody can be asked.
    #[serde(deserialize_with = "some")]
    pub(super) region: Option<Region>,
    pub(super) settings: Settings,
    #[serde(deserialize_with = "documents")]
    pub(super) policies: Documents,
    #[serde(deserialize_with = "named")]
    pub(super) groups: BTreeMap<GroupName, Group>,
    #[serde(deserialize_with = "named")]
    pub(super) users: BTreeMap<UserName, User>,
    #[serde(deserialize_with = "named")]
    pub(super) instances: BTreeMap<InstanceId, Instance>,
}

/// Policy documents by name.
pub(super) type Documents = BTreeMap<PolicyName, String>;

/// What is not given stays as it is.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    pub(super) serial_console_access: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Group {
    /// Managed policies, by name.
    #[serde(deserialize_with = "names")]
    pub(super) attached: BTreeSet<PolicyName>,
    #[serde(deserialize_with = "documents")]
    pub(super) inline: Documents,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct User {
    #[serde(deserialize_with = "status")]
    pub(super) status: Status,
    pub(super) tags: BTreeMap<String, String>,
    #[serde(deserialize_with = "names")]
    pub(super) groups: BTreeSet<GroupName>,
    #[serde(deserialize_with = "names")]
    pub(super) attached: BTreeSet<PolicyName>,
    #[serde(deserialize_with = "some")]
    pub(super) boundary: Option<PolicyName>,
    #[serde(deserialize_with = "documents")]
    pub(super) inline: Documents,
}

impl Default for User {
    /// Nothing, which is what a user is when it is made.
    fn default() -> Self {
        Self {
            status: Status::Active,
            tags: BTreeMap::new(),
            groups: BTreeSet::new(),
            attached: BTreeSet::new(),
            boundary: None,
            inline: BTreeMap::new(),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Instance {
    #[serde(deserialize_with = "parsed")]
    pub(super) availability_zone: AvailabilityZone,
    #[serde(deserialize_with = "state", default = "running")]
    pub(super) state: InstanceState,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
    /// The instance whose agent answers for it, if that is another one.
    #[serde(deserialize_with = "some", default)]
    pub(super) host: Option<InstanceId>,
    #[serde(with = "Details", default)]
    pub(super) details: InstanceDetails,
}

/// What is said of it beside its place.
#[derive(Default, Deserialize)]
#[serde(remote = "InstanceDetails", deny_unknown_fields)]
struct Details {
    #[serde(deserialize_with = "some", default)]
    instance_type: Option<InstanceType>,
    #[serde(deserialize_with = "some", default)]
    image_id: Option<ImageId>,
    #[serde(deserialize_with = "some", default)]
    private_ip: Option<Ipv4Addr>,
    #[serde(deserialize_with = "some", default)]
    public_ip: Option<Ipv4Addr>,
    #[serde(deserialize_with = "some", default)]
    ipv6: Option<Ipv6Addr>,
}

const fn running() -> InstanceState {
    InstanceState::Running
}

impl Inventory {
    /// Reads a file, or standard input for `-`.
    pub(super) fn read(file: &str) -> Result<Self, Failure> {
        let refuse = |why: &str| Failure::new(Exit::Parameter, format!("{}: {why}", printable(file)));
        let mut text = String::new();
        let limit = LARGEST_FILE + 1;
        let read = match file {
            "-" => std::io::stdin().lock().take(limit).read_to_string(&mut text),
            path => File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text)),
        };
        read.map_err(|error| refuse(&error.to_string()))?;
        if text.len() as u64 > LARGEST_FILE {
            return Err(refuse(&format!("it is larger than {LARGEST_FILE} bytes")));
        }
        Self::parse(&text).map_err(|(line, why)| {
            let hint = "`instance-connect export` prints what such a file looks like";
            Failure::new(Exit::Parameter, format!("{}:{line}: {}", printable(file), printable(&why)))
                .hint(hint)
        })
    }

    /// Reads the text of one. An error is its line, counted from 1, and what is wrong.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let inventory: Self = toml::from_str(text)
            .map_err(|error| (line_of(text, error.span()), error.message().to_owned()))?;
        inventory.check().map_err(|(name, why)| (line_naming(text, name), why))?;
        Ok(inventory)
    }

    /// Takes a user over from what there is, with all that it refers to, if the file does not name it: somebody who prunes
    /// their own user does not get to the end. Says whether that was so.
    pub(super) fn keep_user(&mut self, name: &UserName, current: &Self) -> bool {
        let Some(user) = current.users.get(name).filter(|_| !self.users.contains_key(name)) else {
            return false;
        };
        let mut policies: BTreeSet<&PolicyName> = user.attached.iter().chain(&user.boundary).collect();
        for (name, group) in user.groups.iter().filter_map(|name| current.groups.get_key_value(name)) {
            if !self.groups.contains_key(name) {
                policies.extend(&group.attached);
                self.groups.insert(name.clone(), group.clone());
            }
        }
        for policy in policies {
            if let Some(document) = current.policies.get(policy) {
                self.policies.entry(policy.clone()).or_insert_with(|| document.clone());
            }
        }
        self.users.insert(name.clone(), user.clone());
        true
    }

    /// What no single value shows: policies that could not be evaluated fully, and names that differ in case only.
    fn check(&self) -> Result<(), (&str, String)> {
        let of_groups = self.groups.values().flat_map(|group| &group.inline);
        let of_users = self.users.values().flat_map(|user| &user.inline);
        for (name, document) in self.policies.iter().chain(of_groups).chain(of_users) {
            PolicyDocument::parse(document.clone())
                .map_err(|error| (name.as_str(), format!("policy {name}: {error}")))?;
        }
        distinct(self.policies.keys().map(PolicyName::as_str))?;
        distinct(self.groups.keys().map(GroupName::as_str))?;
        distinct(self.users.keys().map(UserName::as_str))
    }
}

fn distinct<'n>(names: impl Iterator<Item = &'n str>) -> Result<(), (&'n str, String)> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err((
                name,
                format!("another name differs from {name} in case only, which makes them the same"),
            ));
        }
    }
    Ok(())
}

/// The line on which what is wrong begins.
fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let before = span.and_then(|span| text.as_bytes().get(..span.start)).unwrap_or_default();
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The first line that has this name, or a table of it.
fn line_naming(text: &str, name: &str) -> usize {
    let names = |line: &str| {
        let key = line.trim_start().split(['=', ']']).next().unwrap_or_default();
        key.trim_end().trim_matches(['"', '\'']).rsplit(['.', '[', '"', '\'']).next() == Some(name)
    };
    text.lines().position(names).map_or(1, |position| position + 1)
}

/// A text that is parsed into a type.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Parsed<T>(T);

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<T, D::Error> {
    Parsed::deserialize(deserializer).map(|Parsed(value)| value)
}

fn some<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<Option<T>, D::Error> {
    parsed(deserializer).map(Some)
}

fn names<'de, D, T>(deserializer: D) -> Result<BTreeSet<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display> + Ord,
{
    Ok(Vec::deserialize(deserializer)?.into_iter().map(|Parsed(name)| name).collect())
}

fn named<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: FromStr<Err: Display> + Ord,
    V: Deserialize<'de>,
{
    Ok(BTreeMap::deserialize(deserializer)?.into_iter().map(|(Parsed(name), value)| (name, value)).collect())
}

/// White space around a document means nothing, and in a file there is some.
fn documents<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Documents, D::Error> {
    let documents: BTreeMap<PolicyName, String> = named(deserializer)?;
    Ok(documents.into_iter().map(|(name, document)| (name, document.trim().to_owned())).collect())
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Status, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "active" => Ok(Status::Active),
        "suspended" => Ok(Status::Suspended),
        _ => Err(D::Error::custom("a status is \"active\" or \"suspended\"")),
    }
}

fn state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<InstanceState, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = InstanceState::ALL.into_iter().find(|state| state.as_str() == name);
    known.ok_or_else(|| {
        let names = InstanceState::ALL.map(InstanceState::as_str).join(", ");
        D::Error::custom(format!("a state is one of {names}"))
    })
}

#[cfg(test)]
mod tests;
