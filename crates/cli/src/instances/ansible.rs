//! `ansible-inventory`: instances as Ansible asks an inventory script for them.
//!
//! Hosts are named by their ids. A name would be another machine's tomorrow, with the variables that somebody has written for the
//! first; and it may be `localhost`, or a group's.
//!
//! Texts that others have written go as `{"__ansible_unsafe": …}`. Ansible takes any other text of a script for a template, and what is
//! in a template runs on the machine that Ansible is on: whoever may set a tag would.

use super::arguments::{AnsibleOptions, Filters};
use super::{LIST, Pages, known};
use crate::administration::show::json;
use crate::arguments::ServiceOptions;
use crate::failure::{self, Exit, Failure};
use crate::{output, progress, service};
use instance_connect_client::{DescribeInstances, Ec2Instance};
use instance_connect_core::ids::InstanceId;
use instance_connect_planted::planted;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What the names of variables begin with. Without it Ansible warns about `tags`, a word of its own.
const PREFIX: &str = "ec2_";

/// What the names of those members begin with by which Ansible's JSON says what a value is.
const ANSIBLES_OWN: &str = "__ansible";

/// The filter that holds unless another of its name is given: what cannot be reached is not for Ansible.
const STATE: (&str, &str) = ("instance-state-name", "running");

pub(crate) async fn run(service: &ServiceOptions, options: &AnsibleOptions) -> Result<u8, Failure> {
    let client = service::client(service, service::ready_file(service)?.as_mut())?;
    let answer = match &options.host {
        None => {
            let pages = Pages::new(&client, running(&options.filters));
            list(&progress::step(LIST, pages.all()).await?)
        }
        Some(id) => {
            let request = DescribeInstances::new().instance_id(id.as_str());
            let instances = progress::step(LIST, Pages::new(&client, request).all()).await?;
            let found = instances.iter().find(|instance| instance.instance_id == id.as_str());
            found.map(variables).ok_or_else(|| {
                Failure::new(Exit::Service, format!("the service describes no instance {id}"))
                    .hint(failure::CHECK_THE_INSTANCE)
            })?
        }
    };
    output::result(&json(&answer)?)?;
    Ok(0)
}

fn running(filters: &Filters) -> DescribeInstances {
    let request = filters.request();
    let (name, value) = STATE;
    if filters.has(name) { request } else { request.filter(name, [value]) }
}

/// Groups with their hosts, and beside them the variables of all hosts, so that Ansible does not ask for each.
fn list(instances: &[Ec2Instance]) -> Map<String, Value> {
    let mut hosts = Map::new();
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for instance in instances {
        // What is no id could be any word of Ansible's, or of ssh's.
        let id = instance.instance_id.as_str();
        if id.parse::<InstanceId>().is_err() {
            continue;
        }
        hosts.insert(id.to_owned(), variables(instance).into());
        for group in groups_of(instance) {
            groups.entry(group).or_default().push(id);
        }
    }
    let groups = groups.into_iter().map(|(name, mut hosts)| {
        hosts.dedup();
        (name, json!({ "hosts": hosts }))
    });
    let all: Vec<&String> = hosts.keys().collect();
    let beside =
        [("all".to_owned(), json!({ "hosts": all })), ("_meta".to_owned(), json!({ "hostvars": hosts }))];
    beside.into_iter().chain(groups).collect()
}

/// `tag_env_prod`, `zone_us_east_1a`, `state_running`.
///
/// Policies say who may set which tags by their keys, and plays give by groups. So it is certain which key has made a group: one of
/// letters and digits ends at the underscore that follows. Any other key, such as `role-db`, makes none: `tag_role_db_…` is a group
/// of `role`, which whoever sets `role-db` may have no right to.
fn groups_of(instance: &Ec2Instance) -> Vec<String> {
    let by = |kind: &str, value: &Option<String>| value.as_ref().map(|value| name(&[kind, value]));
    let is_certain = |key: &str| {
        planted("groups-of-any-key") || (!key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    let tags = instance.tags.iter().filter(|(key, _)| is_certain(key));
    let tags = tags.map(|(key, value)| name(&["tag", key, value]));
    let places = [by("zone", &instance.availability_zone), by("state", &instance.state)];
    places.into_iter().flatten().chain(tags).collect()
}

/// A name as Ansible wants those of groups: letters, digits and underscores.
fn name(parts: &[&str]) -> String {
    let allowed = |symbol: char| if symbol.is_ascii_alphanumeric() { symbol } else { '_' };
    parts.join("_").chars().map(allowed).collect()
}

/// What is known of an instance, under the names that the `aws_ec2` plugin has for it behind `hostvars_prefix: ec2_`; and by which
/// name ssh finds it.
fn variables(instance: &Ec2Instance) -> Map<String, Value> {
    let variable =
        |(name, value): (String, Value)| (format!("{PREFIX}{}", snake_case(&name)), harmless(value));
    let mut variables: Map<String, Value> = known(instance).into_iter().map(variable).collect();
    let tags = instance.tags.iter().filter(|(key, _)| !key.starts_with(ANSIBLES_OWN));
    let tags: Map<String, Value> =
        tags.map(|(key, value)| (key.clone(), harmless(value.clone().into()))).collect();
    variables.insert(format!("{PREFIX}tags"), tags.into());
    variables.insert("ansible_host".to_owned(), instance.instance_id.clone().into());
    variables
}

/// A value whose texts are no templates.
fn harmless(value: Value) -> Value {
    match value {
        Value::String(text) if planted("tags-as-templates") => text.into(),
        Value::String(text) => json!({ "__ansible_unsafe": text }),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (snake_case(&name), harmless(value))).collect()
        }
        Value::Array(values) => values.into_iter().map(harmless).collect(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
    }
}

/// `PrivateIpAddress` is `private_ip_address`.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for symbol in name.chars() {
        if symbol.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(symbol.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "i-0123456789abcdef0";

    fn instance(id: &str, tags: &[(&str, &str)]) -> Ec2Instance {
        let mut instance = Ec2Instance::default();
        instance.instance_id = id.to_owned();
        instance.state = Some("running".to_owned());
        instance.availability_zone = Some("us-east-1a".to_owned());
        instance.private_ip_address = Some("10.0.0.1".to_owned());
        instance.tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        instance
    }

    #[test]
    fn an_inventory() {
        let other = "i-0fedcba9876543210";
        let instances =
            [instance(ID, &[("env", "prod"), ("Name", "web 1")]), instance(other, &[("env", "prod")])];
        let unsafe_text = |text: &str| json!({ "__ansible_unsafe": text });
        let list = Value::from(list(&instances));
        assert_eq!(list["all"], json!({ "hosts": [ID, other] }));
        for group in ["tag_env_prod", "zone_us_east_1a", "state_running"] {
            assert_eq!(list[group], json!({ "hosts": [ID, other] }), "{group}");
        }
        assert_eq!(list["tag_Name_web_1"], json!({ "hosts": [ID] }));
        assert_eq!(
            list["_meta"]["hostvars"][ID],
            json!({
                "ansible_host": ID,
                "ec2_instance_id": unsafe_text(ID),
                "ec2_state": { "name": unsafe_text("running") },
                "ec2_placement": { "availability_zone": unsafe_text("us-east-1a") },
                "ec2_private_ip_address": unsafe_text("10.0.0.1"),
                "ec2_tags": { "env": unsafe_text("prod"), "Name": unsafe_text("web 1") },
            })
        );
    }

    #[test]
    fn names_of_groups() {
        let tags = [("a", "b-c.d"), ("a", "b_c_d"), ("k", ""), ("x", "\n{{ é }}")];
        let groups = groups_of(&instance(ID, &tags));
        assert_eq!(groups[2..], ["tag_a_b_c_d", "tag_a_b_c_d", "tag_k_", "tag_x_________"]);
        let one = list(&[instance(ID, &tags)]);
        assert_eq!(one["tag_a_b_c_d"], json!({ "hosts": [ID] }));
    }

    /// Who may set any tag but `role` puts no instance into a group of `role`.
    #[test]
    fn a_group_of_one_key_is_no_others() {
        for key in ["role_db", "role-db", "role db", "role:db", "role_", "ro", "role_d", "", "é", "_role"] {
            for value in ["", "b", "le_db", "db"] {
                let groups = groups_of(&instance(ID, &[(key, value)]));
                assert!(!groups.iter().any(|group| group.starts_with("tag_role")), "{key:?} {groups:?}");
            }
        }
    }

    /// Two keys never make one group, whatever their values: every short key with every short value.
    #[test]
    fn a_group_has_one_key() {
        let mut texts = vec![String::new()];
        for length in 1..=3 {
            let shorter: Vec<_> = texts.iter().filter(|text| text.len() + 1 == length).cloned().collect();
            texts.extend(
                shorter.iter().flat_map(|text| ["a", "-", "_"].map(|symbol| format!("{text}{symbol}"))),
            );
        }
        let mut keys = BTreeMap::new();
        for key in &texts {
            for value in &texts {
                for group in groups_of(&instance(ID, &[(key, value)])) {
                    if group.starts_with("tag_") {
                        let other = keys.entry(group.clone()).or_insert(key);
                        assert_eq!(*other, key, "both in {group}");
                    }
                }
            }
        }
        assert!(keys.len() > 40, "{}", keys.len());
    }

    #[test]
    fn what_is_no_instance_is_no_host() {
        for id in ["localhost", "all", "-oProxyCommand=x", "i-1", ""] {
            assert_eq!(list(&[instance(id, &[])])["all"], json!({ "hosts": [] }), "{id}");
        }
    }

    proptest! {
        /// Whatever a tag says: it is no template, no member that means something to Ansible, and no odd name of a group.
        #[test]
        fn tags_are_only_text(key in "(__ansible_(unsafe|vault|x))?[a-z{}%\u{1b}é ]{0,10}", value in "\\PC{0,20}") {
            let list = list(&[instance(ID, &[(&key, &value)])]);
            let tags = list["_meta"]["hostvars"][ID]["ec2_tags"].as_object().unwrap();
            prop_assert!(tags.keys().all(|found| *found == key && !found.starts_with("__ansible")));
            let expected = json!({ "__ansible_unsafe": value });
            prop_assert!(tags.values().all(|found| *found == expected));
            let plain = |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            prop_assert!(list.keys().all(plain));
        }
    }
}
