//! The table of decisions in `decisions.json`. A row is: what it shows, the policies, the request, the expected decision
//! with the statement that makes it, and where the expectation comes from. Texts between rows are headings.

use super::{Asked, Kind, Policy, evaluate, tls, written};
use crate::iam::explain;
use crate::inventory::{UserKind, instance_arn};
use instance_connect_document::UnixSeconds;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[test]
fn table_of_decisions() {
    let table: Value = serde_json::from_str(include_str!("decisions.json")).unwrap();
    let sources = table["sources"].as_object().unwrap();
    let rows = table["rows"].as_array().unwrap().iter().filter_map(Value::as_array);
    let rules = words(include_str!("../../../../../docs/policies.md"));
    let (mut names, mut wrong) = (BTreeSet::new(), Vec::new());
    for row in rows {
        let [name, policies, request, expected, source] = row.as_slice() else { panic!("{row:?}") };
        let (name, expected) = (name.as_str().unwrap(), expected.as_str().unwrap());
        assert!(names.insert(name.to_owned()), "two rows are named {name}");
        let (source, place) = source.as_str().unwrap().split_once(": ").expect(name);
        assert!(sources.contains_key(source), "{name}: no source is named {source}");
        assert!(
            source != "law" || rules.contains(&words(place)),
            "{name}: docs/policies.md does not say {place:?}"
        );

        let mut asked = request_of(request.as_object().expect(name));
        give_policies(&mut asked, policies.as_object().expect(name));
        let decision = evaluate(&asked.request());
        if written(&decision) != expected {
            wrong.push(format!("{name}: {}, and not {expected}", written(&decision)));
        }
        assert_eq!(explain(&asked.request()).decision, decision, "{name}");
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), names.len(), wrong.join("\n"));
    println!("{} rows", names.len());
    assert!(names.len() >= 500, "rows are missing");
}

/// A text without its line breaks, marks and capitals.
fn words(text: &str) -> String {
    let plain = text.replace(['`', '*'], "").to_lowercase();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn request_of(changes: &Map<String, Value>) -> Asked {
    let mut asked = Asked::default();
    let mut resource = ("instance", "i-0123456789abcdef0");
    for (name, value) in changes {
        let text = || value.as_str().unwrap();
        let tags = || -> BTreeMap<String, String> { serde_json::from_value(value.clone()).unwrap() };
        match name.as_str() {
            "caller" => {
                assert_eq!(std::mem::replace(&mut asked.caller.kind, UserKind::Root), UserKind::IamUser)
            }
            "principal_tags" => asked.caller.tags = tags(),
            "action" if text() == "serial" => asked.action = Kind::Serial,
            "action" if text() == "tunnel" => {
                asked.action = Kind::Tunnel;
                resource = ("instance-connect-endpoint", "eice-0123456789abcdef0");
            }
            "os_user" => asked.os_user = text().parse().unwrap(),
            "port" => asked.port = value.as_u64().unwrap().try_into().unwrap(),
            "address" => asked.address = value.as_str().map(|address| address.parse().unwrap()),
            "duration" => asked.duration = value.as_u64().unwrap().try_into().unwrap(),
            "instance" => resource.1 = text(),
            "tags" => asked.tags = (!value.is_null()).then(tags),
            "ip" => asked.origin.source = text().parse().unwrap(),
            "time" => asked.origin.time = UnixSeconds(text().parse::<jiff::Timestamp>().unwrap().as_second()),
            "user_agent" => asked.origin.user_agent = text().to_owned(),
            "tls" => asked.origin.tls = value.as_bool().unwrap().then(tls),
            other => panic!("a request has no {other}"),
        }
    }
    let instance = instance_arn(&asked.region, &asked.caller.account, &"i-00000000".parse().unwrap());
    asked.resource = instance.replace("instance/i-00000000", &format!("{}/{}", resource.0, resource.1));
    asked
}

/// `allow_if` and `deny_if` are conditions of a statement about pushes; before the latter stands one that allows
/// everything. `statements` are those of a policy named `p`, `policies` are several by name.
fn give_policies(asked: &mut Asked, given: &Map<String, Value>) {
    const PUSH: &str = "ec2-instance-connect:SendSSHPublicKey";
    let version = given.get("version").map_or(Some("2012-10-17"), Value::as_str);
    let parse = |name: &str, statements: &Value| {
        let version = version.map_or(String::new(), |version| format!(r#""Version":"{version}","#));
        let document = format!(r#"{{{version}"Statement":{statements}}}"#);
        Arc::new(Policy::parse(name, &document).unwrap_or_else(|error| panic!("{document}: {error}")))
    };
    for (form, value) in given {
        match form.as_str() {
            "allow_if" => {
                let statement =
                    json!({ "Effect": "Allow", "Action": PUSH, "Resource": "*", "Condition": value });
                asked.caller.policies.push(parse("p", &statement));
            }
            "deny_if" => {
                let all = json!({ "Effect": "Allow", "Action": "*", "Resource": "*" });
                let statement =
                    json!({ "Effect": "Deny", "Action": PUSH, "Resource": "*", "Condition": value });
                asked.caller.policies.push(parse("p", &json!([all, statement])));
            }
            "statements" if value == &json!([]) => {}
            "statements" => asked.caller.policies.push(parse("p", value)),
            "policies" => {
                let several = value.as_object().unwrap();
                asked.caller.policies.extend(several.iter().map(|(name, of)| parse(name, of)));
            }
            "boundary" => asked.caller.boundary = Some(parse("boundary", value)),
            "version" => {}
            other => panic!("policies are not given as {other}"),
        }
    }
}
