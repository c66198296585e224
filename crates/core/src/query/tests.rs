//! Requests, and what comes of them on a small inventory.

use super::describe::{network_interface_id, subnet_id, vpc_id};
use super::*;
use crate::api::{AccessDenied, Protocol};
use crate::host_facts::HostFacts;
use crate::iam::{AccessRequest, Action, Decision, Denial, Policy, PolicyKind, RequestedAction, evaluate};
use crate::ids::{AccountId, InstanceId, InstanceType, Region, RequestId};
use crate::inventory::{
    AgentIdentity, Instance, InstanceDetails, InstanceState, Inventory, Status, User, UserKind,
};
use crate::limits;
use crate::origin::Origin;
use crate::sigv4::{AuthenticationError, Query};
use instance_connect_document::UnixSeconds;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

const FIRST: &str = "i-00000000000000001";
const SECOND: &str = "i-00000000000000002";
const THIRD: &str = "i-00000000000000003";
/// Of another account, and of another region.
const FOREIGN: &str = "i-00000000000000004";
const ELSEWHERE: &str = "i-00000000000000005";
const NOBODYS: &str = "i-00000000000000009";

fn account() -> AccountId {
    "111122223333".parse().unwrap()
}

fn region() -> Region {
    "us-east-1".parse().unwrap()
}

fn request_id() -> RequestId {
    "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap()
}

fn instance(id: &str, tags: &[(&str, &str)]) -> Instance {
    Instance {
        id: id.parse().unwrap(),
        account: account(),
        region: region(),
        availability_zone: "us-east-1a".parse().unwrap(),
        state: InstanceState::Running,
        tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        host: None,
        details: InstanceDetails::default(),
        launched_at: UnixSeconds(1_928_541_906),
    }
}

fn inventory() -> Inventory {
    let first = Instance {
        details: InstanceDetails {
            instance_type: Some("m7i.metal-24xl".parse().unwrap()),
            image_id: Some("ami-0123456789abcdef0".parse().unwrap()),
            private_ip: Some("10.0.1.9".parse().unwrap()),
            public_ip: Some("192.0.2.9".parse().unwrap()),
            ipv6: Some("2001:db8::9".parse().unwrap()),
        },
        ..instance(FIRST, &[("Name", "web-1"), ("team", "a&b")])
    };
    let second = Instance {
        state: InstanceState::Stopped,
        availability_zone: "us-east-1b".parse().unwrap(),
        details: InstanceDetails {
            instance_type: Some("t3.micro".parse().unwrap()),
            ..InstanceDetails::default()
        },
        ..instance(SECOND, &[("Name", "web-2")])
    };
    let third = Instance { state: InstanceState::Terminated, ..instance(THIRD, &[]) };
    let foreign =
        Instance { account: "444455556666".parse().unwrap(), ..instance(FOREIGN, &[("Name", "web-1")]) };
    let elsewhere =
        Instance { region: "eu-west-1".parse().unwrap(), ..instance(ELSEWHERE, &[("Name", "web-1")]) };
    let all = [first, second, third, foreign, elsewhere];
    of_instances(all)
}

fn of_instances(instances: impl IntoIterator<Item = Instance>) -> Inventory {
    Inventory { instances: instances.into_iter().map(Arc::new).collect(), ..Inventory::default() }
}

/// The parameters of a form, with the right version.
fn form(service: Service, text: &str) -> Result<(Operation, Parameters), ApiError> {
    let text = format!("{text}&Version={}", service.version());
    let mut parameters = Parameters::read(&Query::default(), text.as_bytes())?;
    Ok((parameters.operation(service)?, parameters))
}

fn read(text: &str) -> Result<Request, ApiError> {
    let (operation, parameters) = form(Service::Ec2, text)?;
    Request::read(operation, parameters)
}

/// Code and message.
fn refusal<T: std::fmt::Debug>(result: Result<T, ApiError>) -> (&'static str, String) {
    let wire = result.unwrap_err().to_wire(Protocol::Query(Service::Ec2), &request_id());
    (wire.code, wire.message)
}

fn described(text: &str) -> Result<(Vec<String>, Option<String>), ApiError> {
    let inventory = inventory();
    let Task::Read(Read::DescribeInstances(describe)) =
        read(&format!("Action=DescribeInstances&{text}"))?.task
    else {
        panic!("{text}")
    };
    let (found, next) = describe.find(&inventory, &account(), &region())?;
    Ok((found.into_iter().map(|instance| instance.id.to_string()).collect(), next))
}

#[test]
fn every_operation_is_named_once_and_reads_what_its_name_says() {
    for operation in Operation::ALL {
        let named = Operation::ALL.iter().filter(|other| other.name() == operation.name());
        assert_eq!(named.count(), 1, "{operation:?}");
        let prefix = format!("{}:", operation.service().signing_name());
        assert_eq!(operation.action(), prefix + operation.name());
        let reads = ["Get", "Describe"].iter().any(|verb| operation.name().starts_with(verb));
        assert_eq!(operation.is_read_only(), reads, "{operation:?}");
        let is_action = Action::all().any(|action| action == Action::Query(*operation));
        assert_eq!(is_action, operation.is_judged(), "{operation:?}");
    }
}

#[test]
fn which_service_is_spoken_to() {
    let signed = |service: &str| {
        format!(
            "AWS4-HMAC-SHA256 Credential=AKIA/20310211/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
        )
    };
    let form = "application/x-www-form-urlencoded; charset=utf-8";
    for (method, target, content_type, authorization, expected) in [
        ("POST", "/", form, signed("ec2"), Some(Service::Ec2)),
        ("POST", "/", form, signed("sts"), Some(Service::Sts)),
        // Whoever signs for something else, or not at all, hears of it from EC2.
        ("POST", "/", form, signed("ec2-instance-connect"), Some(Service::Ec2)),
        ("POST", "/", form, String::new(), Some(Service::Ec2)),
        ("GET", "/?Action=GetCallerIdentity", "", signed("sts"), Some(Service::Sts)),
        (
            "GET",
            "/?Action=GetCallerIdentity&X-Amz-Credential=AKIA%2F20310211%2Fus-east-1%2Fsts%2Faws4_request",
            "",
            String::new(),
            Some(Service::Sts),
        ),
        ("GET", "/", "", signed("ec2"), None),
        ("PUT", "/?Action=DescribeInstances", form, signed("ec2"), None),
        ("POST", "/?Action=DescribeInstances", "application/x-amz-json-1.1", signed("ec2"), None),
        ("POST", "/", "multipart/form-data", signed("ec2"), None),
    ] {
        let headers = [("host", "a"), ("content-type", content_type), ("authorization", &authorization)];
        let head = RequestHead::read(method, target, headers.map(|(name, value)| (name, value.as_bytes())));
        assert_eq!(spoken_to(&head.unwrap()), expected, "{method} {target} {authorization}");
    }
}

#[test]
fn forms_that_are_none() {
    let read = |query: &str, form: &[u8]| Parameters::read(&Query::read(query).unwrap(), form);
    let many: Vec<String> = (0..=limits::QUERY_PARAMETERS).map(|n| format!("a{n}=")).collect();
    for (query, form) in [
        ("", &b"a=1&a=2"[..]),
        ("", b"a=1&%61=2"),
        ("a=1", b"a=1"),
        ("", b"a=%"),
        ("", b"a=%2"),
        ("", b"%zz=1"),
        ("", b"a=%ff"),
        ("", b"a=\xff"),
        ("", many.join("&").as_bytes()),
    ] {
        assert_eq!(refusal(read(query, form)).0, "MalformedQueryString", "{query} {form:?}");
    }
    // The parts of a signature are no parameters, in whatever case they stand.
    let same = read("X-Amz-Date=1&x-amz-signature=2&a+b=c", b"d+e=f%2Bg&&h").unwrap();
    assert_eq!(same, read("", b"a%2Bb=c&d%20e=f%2bg&h=").unwrap());
}

#[test]
fn requests_that_are_refused() {
    let long = "x".repeat(1000);
    let tags = |count: usize| -> String { (1..=count).map(|n| format!("&Tag.{n}.Key=k{n}")).collect() };
    let ids = |name: &str, count: usize| -> String {
        (1..=count).map(|n| format!("&{name}.{n}=i-{n:08x}")).collect()
    };
    let on_first = format!("ResourceId.1={FIRST}");
    for (text, code, message) in [
        (String::new(), "MissingAction", "The request names no Action."),
        ("Action=".into(), "InvalidAction", "The action  is not valid for this web service."),
        (
            "Action=RunInstances".into(),
            "InvalidAction",
            "The action RunInstances is not valid for this web service.",
        ),
        ("Action=describeinstances".into(), "InvalidAction", ""),
        // STS's.
        ("Action=GetCallerIdentity".into(), "InvalidAction", ""),
        (
            "Action=DescribeInstances&Nope=1".into(),
            "UnknownParameter",
            "The parameter Nope is not recognized",
        ),
        ("Action=DescribeInstances&InstanceId=i-1".into(), "UnknownParameter", ""),
        ("Action=DescribeInstances&InstanceId.01=i-00000001".into(), "UnknownParameter", ""),
        ("Action=DescribeInstances&InstanceId.0=i-00000001".into(), "UnknownParameter", ""),
        ("Action=DescribeInstances&InstanceId.%2B1=i-00000001".into(), "UnknownParameter", ""),
        ("Action=DescribeInstances&InstanceId.1.x=i-00000001".into(), "UnknownParameter", ""),
        (
            "Action=DescribeInstances&Filter.1.Name=vpc-id&Filter.1.Value.1=a&Filter.1.Values=b".into(),
            "UnknownParameter",
            "The parameter Filter.1.Values is not recognized",
        ),
        (
            "Action=DescribeInstances&InstanceId.1=x".into(),
            "InvalidInstanceID.Malformed",
            "Invalid id: \"x\"",
        ),
        (format!("Action=DescribeInstances&InstanceId.1={long}"), "InvalidInstanceID.Malformed", ""),
        (format!("Action=DescribeInstances{}", ids("InstanceId", 1001)), "InvalidParameterValue", ""),
        (
            format!("Action=DescribeInstances&MaxResults=5&InstanceId.1={FIRST}"),
            "InvalidParameterCombination",
            "The parameter instancesSet cannot be used with the parameter maxResults",
        ),
        ("Action=DescribeInstances&MaxResults=4".into(), "InvalidParameterValue", ""),
        ("Action=DescribeInstances&MaxResults=1001".into(), "InvalidParameterValue", ""),
        ("Action=DescribeInstances&MaxResults=x".into(), "InvalidParameterValue", ""),
        ("Action=DescribeInstances&NextToken=".into(), "InvalidParameterValue", ""),
        ("Action=DescribeInstances&DryRun=yes".into(), "InvalidParameterValue", ""),
        (
            "Action=DescribeInstances&Filter.1.Name=nope&Filter.1.Value.1=a".into(),
            "InvalidParameterValue",
            "The filter 'nope' is invalid",
        ),
        (
            "Action=DescribeInstances&Filter.1.Name=tag:&Filter.1.Value.1=a".into(),
            "InvalidParameterValue",
            "",
        ),
        (
            "Action=DescribeInstances&Filter.1.Value.1=a".into(),
            "MissingParameter",
            "The request must contain the parameter Filter.1.Name",
        ),
        ("Action=DescribeInstances&Filter.1.Name=vpc-id".into(), "MissingParameter", ""),
        ("Action=DescribeInstanceTypes&InstanceType.1=x".into(), "InvalidInstanceType", ""),
        (
            "Action=StopInstances".into(),
            "MissingParameter",
            "The request must contain the parameter InstanceId.1",
        ),
        (format!("Action=StopInstances{}", ids("InstanceId", 101)), "InvalidParameterValue", ""),
        ("Action=CreateTags&ResourceId.1=vol-01".into(), "InvalidID", "The ID 'vol-01' is not valid"),
        (format!("Action=CreateTags&{on_first}"), "MissingParameter", ""),
        (
            format!("Action=CreateTags&{on_first}{}", tags(51)),
            "TagLimitExceeded",
            "More than 50 tags specified",
        ),
        (format!("Action=CreateTags&{on_first}&Tag.1.Key="), "InvalidParameterValue", ""),
        (format!("Action=CreateTags&{on_first}&Tag.1.Key=AWS:x"), "InvalidParameterValue", ""),
        (format!("Action=CreateTags&{on_first}&Tag.1.Key=a%00b"), "MalformedQueryString", ""),
        (format!("Action=CreateTags&{on_first}&Tag.1.Key={long}"), "InvalidParameterValue", ""),
        (format!("Action=CreateTags&{on_first}&Tag.1.Key=a&Tag.1.Value={long}"), "InvalidParameterValue", ""),
        (format!("Action=CreateTags&{on_first}&Tag.1.Key=a&Tag.2.Key=a"), "InvalidParameterValue", ""),
        (format!("Action=DeleteTags&{on_first}&Tag.1.Key=a&Tag.2.Key=a"), "InvalidParameterValue", ""),
    ] {
        let refused = refusal(read(&text));
        assert_eq!(refused.0, code, "{text}");
        assert!(message.is_empty() || refused.1 == message, "{refused:?}");
        assert!(refused.1.len() < 600, "{refused:?}");
    }
    let mut other_version =
        Parameters::read(&Query::default(), b"Action=DescribeInstances&Version=2014-10-01").unwrap();
    assert_eq!(refusal(other_version.operation(Service::Ec2)).0, "NoSuchVersion");
    let mut none = Parameters::read(&Query::default(), b"Action=DescribeInstances").unwrap();
    assert_eq!(refusal(none.operation(Service::Ec2)).0, "MissingParameter");
}

#[test]
fn which_instances_are_meant() {
    let filter = |name: &str, values: &[&str]| {
        let values = (1..).zip(values).map(|(n, value)| format!("&Filter.1.Value.{n}={value}"));
        format!("Filter.1.Name={name}{}", values.collect::<String>())
    };
    let inventory = inventory();
    let vpc = describe::vpc_id(&inventory.instances[&FIRST.parse().unwrap()]);
    let subnet = describe::subnet_id(&inventory.instances[&FIRST.parse().unwrap()]);
    let interface = describe::network_interface_id(&inventory.instances[&SECOND.parse().unwrap()]);
    let reservation = describe::reservation_id(&inventory.instances[&SECOND.parse().unwrap()]);
    for (text, expected) in [
        // Every state, and nothing of others.
        (String::new(), &[FIRST, SECOND, THIRD][..]),
        (format!("InstanceId.2={FIRST}&InstanceId.1={SECOND}&InstanceId.7={FIRST}"), &[FIRST, SECOND]),
        (filter("instance-id", &["i-*1", "i-*3"]), &[FIRST, THIRD]),
        (filter("instance-state-name", &["stopped"]), &[SECOND]),
        (filter("instance-state-code", &["48"]), &[THIRD]),
        (filter("availability-zone", &["us-east-1b"]), &[SECOND]),
        (filter("instance-type", &["t3.*", "x"]), &[SECOND]),
        (filter("image-id", &["ami-*"]), &[FIRST]),
        (filter("private-ip-address", &["10.0.1.9"]), &[FIRST]),
        (filter("private-ip-address", &["10.0.1.?"]), &[FIRST]),
        (filter("ip-address", &["192.0.2.*"]), &[FIRST]),
        (filter("ipv6-address", &["2001:db8::9"]), &[FIRST]),
        (filter("launch-time", &["2031-02-*"]), &[FIRST, SECOND, THIRD]),
        (filter("owner-id", &["111122223333"]), &[FIRST, SECOND, THIRD]),
        (filter("owner-id", &["444455556666"]), &[]),
        (filter("vpc-id", &[&vpc]), &[FIRST, SECOND]),
        (filter("subnet-id", &[&subnet]), &[FIRST]),
        (filter("reservation-id", &[&reservation]), &[SECOND]),
        (filter("hypervisor", &["xen"]), &[FIRST, SECOND, THIRD]),
        (filter("platform", &["windows"]), &[]),
        (filter("dns-name", &["*"]), &[]),
        (filter("private-dns-name", &["ip-10-0-1-9.ec2.internal"]), &[FIRST]),
        (filter("network-interface.private-dns-name", &["ip-10-*"]), &[FIRST]),
        (filter("network-interface.addresses.private-dns-name", &["ip-10-*"]), &[FIRST]),
        (filter("network-interface.addresses.private-ip-address", &["10.0.1.9"]), &[FIRST]),
        (filter("network-interface.private-ip-address", &["10.0.1.9"]), &[FIRST]),
        (filter("network-interface.association.public-ip", &["192.0.2.9"]), &[FIRST]),
        (filter("network-interface.addresses.association.public-ip", &["192.0.2.9"]), &[FIRST]),
        (filter("network-interface.ipv6-address", &["2001:db8::9"]), &[FIRST]),
        (filter("network-interface.ipv6-addresses.ipv6-address", &["2001:db8::9"]), &[FIRST]),
        (filter("network-interface.network-interface-id", &[&interface]), &[SECOND]),
        (filter("network-interface.attachment.instance-id", &[SECOND]), &[SECOND]),
        (filter("network-interface.availability-zone", &["us-east-1b"]), &[SECOND]),
        (filter("network-interface.owner-id", &["111122223333"]), &[FIRST, SECOND, THIRD]),
        (filter("network-interface.subnet-id", &[&subnet]), &[FIRST]),
        (filter("network-interface.vpc-id", &[&vpc]), &[FIRST, SECOND]),
        (filter("tenancy", &["default"]), &[FIRST, SECOND, THIRD]),
        (filter("tenancy", &["dedicated", "host"]), &[]),
        (filter("monitoring-state", &["disabled"]), &[FIRST, SECOND, THIRD]),
        (filter("monitoring-state", &["enabled"]), &[]),
        (filter("platform-details", &["Linux/UNIX"]), &[FIRST, SECOND, THIRD]),
        (filter("architecture", &["*"]), &[]),
        (filter("instance-lifecycle", &["spot"]), &[]),
        (filter("instance.group-id", &["sg-*"]), &[]),
        (filter("key-name", &["*"]), &[]),
        (filter("tag:Name", &["web-1"]), &[FIRST]),
        (filter("tag:name", &["web-1"]), &[]),
        (filter("tag:Name", &["web-*"]), &[FIRST, SECOND]),
        (filter("tag:team", &["a%26b"]), &[FIRST]),
        (filter("tag-key", &["team"]), &[FIRST]),
        (
            filter("tag:Name", &["web-*"]) + "&Filter.2.Name=instance-state-name&Filter.2.Value.1=running",
            &[FIRST],
        ),
        (format!("InstanceId.1={SECOND}&{}", filter("tag:Name", &["web-1"])), &[]),
    ] {
        assert_eq!(
            described(&text).unwrap(),
            (expected.iter().map(ToString::to_string).collect(), None),
            "{text}"
        );
    }
}

/// What is on record of a request has to fit into its line, whatever it consists of.
#[test]
fn parameters_that_fill_the_log_are_refused() {
    for control in ["%00", "%01", "%0A", "%1B", "%7F", "%C2%9B", "\u{1}", "\u{85}"] {
        for text in [
            format!("Filter.1.Name=tag:a&Filter.1.Value.1={control}"),
            format!("Filter.1.Name=tag:{control}&Filter.1.Value.1=a"),
            format!("{control}=a"),
        ] {
            let refused = refusal(described(&text));
            assert_eq!(refused.0, "MalformedQueryString", "{text:?}");
            assert!(!refused.1.chars().any(char::is_control));
        }
        let tag = format!("Action=DeleteTags&ResourceId.1={FIRST}&Tag.1.Key=a&Tag.1.Value={control}");
        assert_eq!(refusal(read(&tag)).0, "MalformedQueryString");
    }
    let filter = |name: &str, value: &str| format!("Filter.1.Name={name}&Filter.1.Value.1={value}");
    let [longest, longer] = [0, 1].map(|more| "\u{1f511}".repeat(limits::FILTER_TEXT + more));
    assert!(described(&filter("tag:a", &longest)).is_ok());
    assert_eq!(refusal(described(&filter("tag:a", &longer))).0, "InvalidParameterValue");
    assert_eq!(refusal(described(&filter(&format!("tag:{longest}"), "a"))).0, "InvalidParameterValue");
    let deleted = |tags: usize, value: &str| {
        let tags: String = (1..=tags).map(|n| format!("&Tag.{n}.Key=k{n}&Tag.{n}.Value={value}")).collect();
        read(&format!("Action=DeleteTags&ResourceId.1={FIRST}{tags}"))
    };
    assert!(deleted(limits::TAGS, "v").is_ok());
    assert_eq!(refusal(deleted(limits::TAGS + 1, "v")).0, "TagLimitExceeded");
    assert!(deleted(1, &"\u{1f511}".repeat(limits::TAG_VALUE)).is_ok());
    assert_eq!(refusal(deleted(1, &"v".repeat(limits::TAG_VALUE + 1))).0, "InvalidParameterValue");
    // A target and a form together are no more than a form alone.
    assert_eq!(
        refusal(described(&format!("a={}", "v".repeat(limits::QUERY_TEXT)))).0,
        "MalformedQueryString"
    );
}

/// Nothing tells whether an instance is another account's or nobody's.
#[test]
fn instances_that_are_not_the_accounts_are_nobodys() {
    let refused = |id: &str| refusal(described(&format!("InstanceId.1={FIRST}&InstanceId.2={id}")));
    for id in [FOREIGN, ELSEWHERE, NOBODYS] {
        let message = format!("The instance ID '{id}' does not exist");
        assert_eq!(refused(id), ("InvalidInstanceID.NotFound", message));
    }
    let both = refusal(described(&format!("InstanceId.1={FOREIGN}&InstanceId.2={NOBODYS}")));
    assert_eq!(both.1, format!("The instance IDs '{FOREIGN}, {NOBODYS}' do not exist"));
}

#[test]
fn parts_of_a_list() {
    let ids: Vec<String> = (0..23).map(|n| format!("i-{n:08x}")).collect();
    let instances = ids.iter().map(|id| instance(id, &[("a", ""), ("b", "")]));
    let inventory = of_instances(instances);
    let (mut seen, mut tags, mut token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let asked = read(&format!("Action=DescribeInstances&MaxResults=7{token}")).unwrap();
        let Task::Read(Read::DescribeInstances(describe)) = asked.task else { panic!() };
        let (found, next) = describe.find(&inventory, &account(), &region()).unwrap();
        assert!(found.len() <= 7);
        seen.extend(found.iter().map(|instance| instance.id.to_string()));
        let Some(next) = next else { break };
        token = format!("&NextToken={next}");
    }
    assert_eq!(seen, ids);
    let mut token = String::new();
    loop {
        let Task::Read(Read::DescribeTags(describe)) =
            read(&format!("Action=DescribeTags&MaxResults=5{token}")).unwrap().task
        else {
            panic!()
        };
        let (found, next) = describe.find(&inventory, &account(), &region());
        tags.extend(found.iter().map(|tag| (tag.instance.to_string(), tag.key.to_owned())));
        let Some(next) = next else { break };
        token = format!("&NextToken={next}");
    }
    let expected: Vec<_> =
        ids.iter().flat_map(|id| ["a", "b"].map(|key| (id.clone(), key.to_owned()))).collect();
    assert_eq!(tags, expected);
}

/// Every part of a list, joined: what is in it, and how many there were.
fn all_parts(inventory: &Inventory, asked: &str) -> (Vec<String>, usize) {
    let (mut seen, mut parts, mut token) = (Vec::new(), 0, String::new());
    loop {
        parts += 1;
        let next = match read(&format!("Action={asked}{token}")).unwrap().task {
            Task::Read(Read::DescribeInstances(describe)) => {
                let (found, next) = describe.find(inventory, &account(), &region()).unwrap();
                let length = instances(inventory, &found, None, &request_id()).len();
                assert!(length < 2 * limits::DESCRIBED_BYTES, "{length}");
                seen.extend(found.iter().map(|instance| instance.id.to_string()));
                next
            }
            Task::Read(Read::DescribeTags(describe)) => {
                let (found, next) = describe.find(inventory, &account(), &region());
                assert!(super::tags(&found, None, &request_id()).len() < 2 * limits::DESCRIBED_BYTES);
                seen.extend(found.iter().map(|tag| format!("{} {}", tag.instance, tag.key)));
                next
            }
            other => panic!("{other:?}"),
        };
        let Some(next) = next else { return (seen, parts) };
        assert!(parts < 1000);
        token = format!("&NextToken={next}");
    }
}

/// Whoever asks for as much as can be, or makes it as hard to find as can be, gets it in parts, and all of it.
#[test]
fn answers_and_the_work_for_them_are_bounded() {
    let value = "'".repeat(limits::TAG_VALUE);
    let tags: Vec<String> =
        (0..limits::TAGS).map(|n| format!("{n:02}{}", "a".repeat(limits::TAG_KEY - 2))).collect();
    let tags: Vec<(&str, &str)> = tags.iter().map(|key| (key.as_str(), value.as_str())).collect();
    let ids: Vec<String> = (0..60).map(|n| format!("i-{n:08x}")).collect();
    let having = |ids: &[String]| of_instances(ids.iter().map(|id| instance(id, &tags)));
    let inventory = having(&ids);
    let (seen, parts) = all_parts(&inventory, "DescribeInstances");
    assert_eq!((&seen, parts > 1), (&ids, true), "long");
    let named: String = ids.iter().enumerate().map(|(n, id)| format!("&InstanceId.{}={id}", n + 1)).collect();
    let (seen, parts) = all_parts(&inventory, &format!("DescribeInstances{named}"));
    assert_eq!((&seen, parts > 1), (&ids, true), "long, and named one by one");
    let (seen, parts) = all_parts(&inventory, "DescribeTags&MaxResults=1000");
    assert_eq!((seen.len(), parts > 3), (ids.len() * limits::TAGS, true), "long");
    let few = having(&ids[..3]);
    // The hardest pattern: it goes on to the end of each key, and fits none.
    let hard: String = (1..=20).map(|n| format!("&Filter.1.Value.{n}=*{}{n}x", "a".repeat(60))).collect();
    let (seen, parts) = all_parts(&few, &format!("DescribeInstances&Filter.1.Name=tag-key{hard}"));
    assert_eq!((seen.len(), parts > 1), (0, true), "hard");
    let (seen, parts) = all_parts(&few, &format!("DescribeTags&Filter.1.Name=key{hard}"));
    assert_eq!((seen.len(), parts > 1), (0, true), "hard");
}

/// Types have no order among the instances, so all of these are looked at: all but those beyond the bound, in the order of
/// their ids.
#[test]
fn types_are_listed_of_a_bounded_number_of_instances() {
    let of_type = |id: &str, name: &str| {
        let details =
            InstanceDetails { instance_type: Some(name.parse().unwrap()), ..InstanceDetails::default() };
        Instance { details, ..instance(id, &[]) }
    };
    let (first, last) = (of_type(FIRST, "t3.micro"), of_type("i-fffffffffffffffff", "t3.nano"));
    let number = limits::DESCRIBED_STEPS / limits::DESCRIBED_THING;
    for (before, expected) in [(number - 1, &["t3.micro", "t3.nano"][..]), (number, &["t3.micro"])] {
        let many =
            (1..before).map(|n| Instance { id: format!("i-{n:08x}").parse().unwrap(), ..first.clone() });
        let inventory = of_instances(many.chain([first.clone(), last.clone()]));
        let Task::Read(Read::DescribeInstanceTypes(describe)) =
            read("Action=DescribeInstanceTypes").unwrap().task
        else {
            panic!()
        };
        let (found, _) = describe.find(&inventory, &account(), &region());
        assert_eq!(found.iter().map(InstanceType::as_str).collect::<Vec<_>>(), expected);
    }
}

/// A token is of one list, and is taken exactly as it was written.
#[test]
fn tokens_of_other_lists() {
    let describe = |text: &str| read(&format!("Action=DescribeInstances&MaxResults=5{text}"));
    let ids = (0..9).map(|n| format!("i-{n:08x}"));
    let inventory = of_instances(ids.map(|id| instance(&id, &[])));
    let Task::Read(Read::DescribeInstances(first)) = describe("").unwrap().task else { panic!() };
    let token = first.find(&inventory, &account(), &region()).unwrap().1.unwrap();
    assert!(describe(&format!("&NextToken={token}")).is_ok());
    let filtered = format!("&NextToken={token}&Filter.1.Name=instance-id&Filter.1.Value.1=*");
    let of_tags = format!("Action=DescribeTags&NextToken={token}");
    assert_eq!(refusal(describe(&filtered)).0, "InvalidParameterValue");
    assert_eq!(refusal(read(&of_tags)).0, "InvalidParameterValue");
    for at in 0..token.len() {
        let mut other = token.clone().into_bytes();
        other[at] = if other[at] == b'g' { b'h' } else { b'g' };
        let text = format!("&NextToken={}", String::from_utf8(other).unwrap());
        assert_eq!(refusal(describe(&text)).0, "InvalidParameterValue", "{at}");
    }
    for other in [&token[..32], &token[..token.len() - 1], &token.to_uppercase(), &format!("{token}00ff")] {
        assert_eq!(refusal(describe(&format!("&NextToken={other}"))).0, "InvalidParameterValue", "{other}");
    }
}

#[test]
fn instance_types_and_tags_that_are_meant() {
    let inventory = inventory();
    let types = |text: &str| {
        let Task::Read(Read::DescribeInstanceTypes(describe)) =
            read(&format!("Action=DescribeInstanceTypes&{text}")).unwrap().task
        else {
            panic!()
        };
        let types = describe.find(&inventory, &account(), &region()).0;
        types.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(types(""), ["m7i.metal-24xl", "t3.micro"]);
    assert_eq!(types("InstanceType.1=u-6tb1.metal&InstanceType.2=t3.nano"), ["t3.nano", "u-6tb1.metal"]);
    assert_eq!(types("Filter.1.Name=bare-metal&Filter.1.Value.1=true"), ["m7i.metal-24xl"]);
    assert_eq!(types("Filter.1.Name=hypervisor&Filter.1.Value.1=nitro"), ["t3.micro"]);
    let tags = |text: &str| {
        let Task::Read(Read::DescribeTags(describe)) =
            read(&format!("Action=DescribeTags&{text}")).unwrap().task
        else {
            panic!()
        };
        let tags = describe.find(&inventory, &account(), &region()).0;
        tags.iter().map(|tag| format!("{} {}={}", tag.instance, tag.key, tag.value)).collect::<Vec<_>>()
    };
    let [name_1, name_2, team] = [(FIRST, "Name=web-1"), (SECOND, "Name=web-2"), (FIRST, "team=a&b")]
        .map(|(id, tag)| format!("{id} {tag}"));
    assert_eq!(tags(""), [name_1.clone(), team.clone(), name_2.clone()]);
    assert_eq!(tags("Filter.1.Name=key&Filter.1.Value.1=Name"), [name_1.clone(), name_2.clone()]);
    assert_eq!(tags("Filter.1.Name=value&Filter.1.Value.1=*2"), std::slice::from_ref(&name_2));
    assert_eq!(tags("Filter.1.Name=resource-id&Filter.1.Value.1=*1"), [name_1.clone(), team]);
    assert_eq!(tags("Filter.1.Name=resource-type&Filter.1.Value.1=volume"), [""; 0]);
    assert_eq!(tags("Filter.1.Name=tag:Name&Filter.1.Value.1=web-1"), [name_1]);
}

/// EC2's names of private addresses: the first region has older ones than all others.
#[test]
fn names_of_private_addresses() {
    let first = (*inventory().instances[&FIRST.parse().unwrap()]).clone();
    let named = |region: &str| {
        let instance = Instance { region: region.parse().unwrap(), ..first.clone() };
        describe::private_dns_name(&instance, "10.0.1.9".parse().unwrap())
    };
    assert_eq!(named("us-east-1"), "ip-10-0-1-9.ec2.internal");
    assert_eq!(named("eu-west-1"), "ip-10-0-1-9.eu-west-1.compute.internal");
}

#[test]
fn the_one_region() {
    let described = |text: &str, host: &str| {
        let Task::Read(Read::DescribeRegions(describe)) =
            read(&format!("Action=DescribeRegions{text}"))?.task
        else {
            panic!("{text}")
        };
        Ok::<_, ApiError>(regions(describe.find(&region(), host)?, &request_id()))
    };
    let told = |text: &str| described(text, "ec2.example.com:8443").unwrap();
    let start = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DescribeRegionsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11</requestId>";
    let one = format!(
        "{start}<regionInfo><item><regionName>us-east-1</regionName><regionEndpoint>ec2.example.com:8443</regionEndpoint><optInStatus>opt-in-not-required</optInStatus></item></regionInfo></DescribeRegionsResponse>"
    );
    let none = format!("{start}<regionInfo></regionInfo></DescribeRegionsResponse>");
    let filter = |name: &str, value: &str| format!("&Filter.1.Name={name}&Filter.1.Value.1={value}");
    for (text, expected) in [
        (String::new(), &one),
        ("&AllRegions=true&RegionName.1=us-east-1".to_owned(), &one),
        (filter("region-name", "us-*"), &one),
        (filter("region-name", "eu-*"), &none),
        (filter("opt-in-status", "opt-in-not-required"), &one),
        (filter("opt-in-status", "not-opted-in"), &none),
        (filter("endpoint", "*.example.com:8443"), &one),
        (filter("endpoint", "ec2.us-east-1.amazonaws.com"), &none),
    ] {
        assert_eq!(&told(&text), expected, "{text}");
    }
    // Whoever signs for a strange host is told of it, as text.
    assert!(described("", "a<b>&").unwrap().contains("<regionEndpoint>a&lt;b&gt;&amp;</regionEndpoint>"));
    let other = refusal(described("&RegionName.1=us-east-1&RegionName.2=eu-west-1", ""));
    assert_eq!(other, ("InvalidParameterValue", "Invalid region: [eu-west-1]".to_owned()));
    let long = refusal(described(&format!("&RegionName.1={}", "x".repeat(9000)), ""));
    assert!(long.1.len() < 200, "{long:?}");
    assert_eq!(
        read("Action=DescribeRegions&RegionName.1=us-east-1").unwrap().recorded(),
        json!({ "regionSet": { "items": [{ "regionName": "us-east-1" }] } })
    );
}

/// Those that are spelled out, and those that the instance has. Catches the planted `taken-tags-unjudged`.
#[test]
fn tags_that_are_taken_are_those_of_the_request() {
    let inventory = inventory();
    let first = &inventory.instances[&FIRST.parse().unwrap()];
    let some = |value: &str| Some(value.to_owned());
    for (text, expected) in [
        ("", vec![("Name", some("web-1")), ("team", some("a&b"))]),
        ("&Tag.1.Key=team", vec![("team", some("a&b"))]),
        // It is not taken, and asked for all the same.
        ("&Tag.1.Key=team&Tag.1.Value=x", vec![("team", some("x"))]),
        ("&Tag.1.Key=other", vec![("other", None)]),
    ] {
        let request = read(&format!("Action=DeleteTags&ResourceId.1={FIRST}{text}")).unwrap();
        let expected = expected.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        assert_eq!(request.tags_for(Some(first)), expected, "{text}");
    }
    // Whoever asks for what is not theirs is judged by what they say alone.
    let all = read(&format!("Action=DeleteTags&ResourceId.1={FIRST}")).unwrap();
    assert!(all.tags_for(None).is_empty());
}

#[test]
fn changes_and_their_records() {
    let on_both = format!("ResourceId.1={SECOND}&ResourceId.2={FIRST}&ResourceId.3={FIRST}");
    let tags = read(&format!("Action=CreateTags&{on_both}&Tag.1.Key=a&Tag.1.Value=1&Tag.2.Key=b")).unwrap();
    // Each instance is judged once, in the order of the ids.
    assert_eq!(tags.instances(), [FIRST, SECOND].map(|id| id.parse::<InstanceId>().unwrap()));
    assert_eq!(
        tags.recorded(),
        json!({
            "resourcesSet": { "items": [{ "resourceId": FIRST }, { "resourceId": SECOND }] },
            "tagSet": { "items": [{ "key": "a", "value": "1" }, { "key": "b", "value": "" }] },
        })
    );
    let deleted =
        read(&format!("Action=DeleteTags&ResourceId.1={FIRST}&Tag.1.Key=a&Tag.2.Key=b&Tag.2.Value=2"))
            .unwrap();
    assert_eq!(
        deleted.recorded()["tagSet"],
        json!({ "items": [{ "key": "a" }, { "key": "b", "value": "2" }] })
    );
    let Task::Change(Change::DeleteTags { tags, .. }) = deleted.task else { panic!() };
    for (key, value, covered) in [("a", "1", true), ("b", "2", true), ("b", "3", false), ("c", "", false)] {
        assert_eq!(tags.covers(key, value), covered, "{key}={value}");
    }
    let Task::Change(Change::DeleteTags { tags: all, .. }) =
        read(&format!("Action=DeleteTags&ResourceId.1={FIRST}")).unwrap().task
    else {
        panic!()
    };
    assert!(all.covers("anything", "at all"));
    let stop = read(&format!("Action=StopInstances&InstanceId.1={FIRST}&Force=true&DryRun=true")).unwrap();
    assert_eq!(
        stop.recorded(),
        json!({ "instancesSet": { "items": [{ "instanceId": FIRST }] }, "dryRun": true })
    );
    let filters = "Action=DescribeInstances&Filter.1.Name=tag:a&Filter.1.Value.1=x*&Filter.1.Value.2=y";
    assert_eq!(
        read(filters).unwrap().recorded(),
        json!({ "filterSet": { "items": [
            { "name": "tag:a", "valueSet": { "items": [{ "value": "x*" }, { "value": "y" }] } },
        ] } })
    );
}

#[test]
fn states_from_which_there_is_a_way() {
    use InstanceState::{Pending, Running, ShuttingDown, Stopped, Stopping, Terminated};
    for (change, from) in [
        (StateChange::Start, &[Pending, Running, Stopped][..]),
        (StateChange::Stop, &[Running, Stopped, Stopping]),
        (StateChange::Terminate, &InstanceState::ALL),
    ] {
        for state in InstanceState::ALL {
            let checked = change.check(&Instance { state, ..instance(FIRST, &[]) });
            assert_eq!(checked.is_ok(), from.contains(&state), "{state:?} {change:?}");
        }
    }
    for (change, state, message) in [
        (
            StateChange::Start,
            Stopping,
            "The instance 'i-00000000000000001' is not in a state from which it can be started.",
        ),
        (
            StateChange::Start,
            ShuttingDown,
            "The instance 'i-00000000000000001' is not in a state from which it can be started.",
        ),
        (
            StateChange::Stop,
            Terminated,
            "This instance 'i-00000000000000001' is not in a state from which it can be stopped.",
        ),
        (
            StateChange::Stop,
            Pending,
            "Instance 'i-00000000000000001' cannot be stopped as it has never reached the 'running' state.",
        ),
    ] {
        let checked = change.check(&Instance { state, ..instance(FIRST, &[]) });
        assert_eq!(refusal(checked), ("IncorrectInstanceState", message.to_owned()));
    }
}

/// How the keys of a request's tags are taken together.
#[test]
fn conditions_on_several_values() {
    let all = |test: &str, values: &str| format!(r#"{{"ForAllValues:{test}":{{"aws:TagKeys":{values}}}}}"#);
    let any = |test: &str, values: &str| format!(r#"{{"ForAnyValue:{test}":{{"aws:TagKeys":{values}}}}}"#);
    let ab = r#"["a","b"]"#;
    for (condition, keys, holds) in [
        (all("StringEquals", ab), &["a"][..], true),
        (all("StringEquals", ab), &["a", "b"], true),
        (all("StringEquals", ab), &["a", "c"], false),
        // Keys are compared without regard to case, like those in the names of condition keys.
        (all("StringEquals", ab), &["A"], true),
        (any("StringEquals", ab), &["A"], true),
        (any("StringLike", r#""T?A*""#), &["x", "team"], true),
        (any("StringLike", r#""T?A*""#), &["x", "tema"], false),
        (any("StringNotLike", r#""É*""#), &["Équipe", "équipe"], false),
        (all("StringEquals", r#""${aws:username}""#), &["ALICE"], true),
        // As at AWS: of none, each is one of them.
        (all("StringEquals", ab), &[], true),
        (any("StringEquals", ab), &["c", "b"], true),
        (any("StringEquals", ab), &["c"], false),
        (any("StringEquals", ab), &[], false),
        (all("StringNotEquals", ab), &["c", "d"], true),
        (all("StringNotEquals", ab), &["c", "a"], false),
        (any("StringNotEquals", ab), &["a", "c"], true),
        (any("StringNotEquals", ab), &["a", "b"], false),
        (any("StringLike", r#""t*""#), &["x", "team"], true),
        (all("StringEqualsIfExists", ab), &["c"], false),
        // A variable that stands for nothing makes no Allow hold, whichever value comes first.
        (all("StringEquals", r#"["a","${aws:PrincipalTag/t}"]"#), &["a", "c"], false),
        (any("StringNotEquals", r#""${aws:PrincipalTag/t}""#), &["c"], false),
        (r#"{"Null":{"aws:TagKeys":"true"}}"#.to_owned(), &[], true),
        (r#"{"Null":{"aws:TagKeys":"true"}}"#.to_owned(), &["a"], false),
        (r#"{"StringEquals":{"aws:RequestTag/A":"1"}}"#.to_owned(), &["a"], true),
        (r#"{"StringEquals":{"aws:RequestTag/a":"2"}}"#.to_owned(), &["a"], false),
        (r#"{"StringEquals":{"ec2:Region":"us-east-1"}}"#.to_owned(), &["a"], true),
    ] {
        let document = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"ec2:DeleteTags","Resource":"*","Condition":{condition}}}}}"#
        );
        let caller = User {
            policies: vec![Arc::new(Policy::parse("p", &document).unwrap())],
            ..alice(UserKind::IamUser)
        };
        let tags = keys.iter().map(|key| ((*key).to_owned(), Some("1".to_owned()))).collect();
        let decision = evaluate(&AccessRequest {
            caller: &caller,
            action: RequestedAction::Query { operation: Operation::DeleteTags, tags: &tags },
            resource: "arn:aws:ec2:us-east-1:111122223333:instance/i-00000000000000001",
            resource_tags: None,
            region: &region(),
            origin: &Origin {
                request: request_id(),
                time: UnixSeconds(1_928_541_906),
                source: "192.0.2.1".parse().unwrap(),
                user_agent: String::new(),
                tls: None,
            },
        });
        assert_eq!(matches!(decision, Decision::Allowed(_)), holds, "{condition} {keys:?}");
    }
}

fn parsed(xml: &str) -> roxmltree::Document<'_> {
    roxmltree::Document::parse(xml).unwrap_or_else(|error| panic!("{xml}: {error}"))
}

#[test]
fn an_instance_as_it_is_written() {
    let inventory = inventory();
    let xml =
        instances(&inventory, &[&inventory.instances[&FIRST.parse().unwrap()]], Some("t"), &request_id());
    // The file has an element in each line, for those who read it.
    let expected: String = include_str!("instances.xml").lines().map(str::trim_start).collect();
    assert_eq!(xml.replace('\n', ""), expected);
}

/// Of the first the operators say where it is, of the second they do not.
#[test]
fn what_agents_claim_is_found_and_shown_where_operators_say_nothing() {
    let facts = HostFacts {
        architecture: "aarch64".parse().unwrap(),
        addresses: ["10.9.9.9", "8.8.4.4", "2001:db8::99"].map(|text| text.parse().unwrap()).into(),
        ..HostFacts::default()
    };
    let mut inventory = inventory();
    for id in [FIRST, SECOND].map(|id| id.parse::<InstanceId>().unwrap()) {
        let agent = AgentIdentity::enrolled(&id, None, UnixSeconds(0));
        inventory.agents.insert_mut(id.clone(), agent);
        inventory.claims.insert_mut(id, facts.claims());
    }
    for (name, value, expected) in [
        ("private-ip-address", "10.9.9.9", &[SECOND][..]),
        ("private-dns-name", "ip-10-9-9-9.*", &[SECOND]),
        ("private-ip-address", "10.0.1.9", &[FIRST]),
        ("ip-address", "8.8.4.4", &[SECOND]),
        ("ipv6-address", "2001:db8::99", &[SECOND]),
        ("architecture", "arm64", &[FIRST, SECOND]),
        ("architecture", "x86_64", &[]),
    ] {
        let text = format!("Action=DescribeInstances&Filter.1.Name={name}&Filter.1.Value.1={value}");
        let Task::Read(Read::DescribeInstances(describe)) = read(&text).unwrap().task else { panic!() };
        let found = describe.find(&inventory, &account(), &region()).unwrap().0;
        let found: Vec<&str> = found.iter().map(|instance| instance.id.as_str()).collect();
        assert_eq!(found, expected, "{name}={value}");
    }
    for (id, private_ip, public_ip, ipv6) in
        [(FIRST, "10.0.1.9", "192.0.2.9", "2001:db8::9"), (SECOND, "10.9.9.9", "8.8.4.4", "2001:db8::99")]
    {
        let instance = &inventory.instances[&id.parse().unwrap()];
        let xml = instances(&inventory, &[instance], None, &request_id());
        let document = parsed(&xml);
        for (name, expected) in [
            ("privateIpAddress", private_ip),
            ("privateDnsName", &format!("ip-{}.ec2.internal", private_ip.replace('.', "-"))),
            ("ipAddress", public_ip),
            ("ipv6Address", ipv6),
            ("publicIp", public_ip),
            ("architecture", "arm64"),
            ("platformDetails", "Linux/UNIX"),
        ] {
            let mut elements = document.descendants().filter(|node| node.tag_name().name() == name);
            assert!(
                elements.clone().count() > 0 && elements.all(|node| node.text() == Some(expected)),
                "{name}"
            );
        }
    }
}

/// As on EC2. Whoever looks for an address is not told of a machine that had it once.
#[test]
fn an_instance_that_is_gone_is_in_no_network() {
    let mut inventory = inventory();
    let there = Arc::clone(&inventory.instances[&FIRST.parse().unwrap()]);
    let gone = Arc::new(Instance { state: InstanceState::Terminated, ..(*there).clone() });
    let [subnet, vpc, interface] = [subnet_id(&there), vpc_id(&there), network_interface_id(&there)];
    for (instance, is_found) in [(there, true), (gone, false)] {
        inventory.instances.put(Arc::clone(&instance));
        for (name, value) in [
            ("private-ip-address", "10.0.1.9"),
            ("private-dns-name", "ip-10-0-1-9.ec2.internal"),
            ("ip-address", "192.0.2.9"),
            ("ipv6-address", "2001:db8::9"),
            ("subnet-id", &subnet),
            ("vpc-id", &vpc),
            ("network-interface.network-interface-id", &interface),
        ] {
            let text = format!("Action=DescribeInstances&Filter.1.Name={name}&Filter.1.Value.1={value}");
            let Task::Read(Read::DescribeInstances(describe)) = read(&text).unwrap().task else { panic!() };
            let found = describe.find(&inventory, &account(), &region()).unwrap().0;
            assert_eq!(found.iter().any(|it| it.id.as_str() == FIRST), is_found, "{name}={value}");
        }
        let xml = instances(&inventory, &[&instance], None, &request_id());
        for element in ["<subnetId>", "<vpcId>", "<privateIpAddress>", "<ipAddress>", "<ipv6Address>"] {
            assert_eq!(xml.contains(element), is_found, "{element}");
        }
        assert_eq!(xml.contains("ip-10-0-1-9"), is_found);
        assert_eq!(xml.contains("<networkInterfaceSet/>"), !is_found, "{xml}");
        assert!(xml.contains("<instanceType>m7i.metal-24xl<"));
    }
}

fn alice(kind: UserKind) -> User {
    User {
        kind,
        id: "AIDAEXAMPLEEXAMPLE01".parse().unwrap(),
        account: account(),
        name: "alice".parse().unwrap(),
        status: Status::Active,
        tags: BTreeMap::new(),
        policies: Vec::new(),
        boundary: None,
    }
}

#[test]
fn who_calls() {
    for (kind, arn, id) in [
        (UserKind::IamUser, "arn:aws:iam::111122223333:user/alice", "AIDAEXAMPLEEXAMPLE01"),
        (UserKind::Root, "arn:aws:iam::111122223333:root", "111122223333"),
    ] {
        let xml = caller_identity(&alice(kind), &request_id());
        let document = parsed(&xml);
        let text = |name| {
            document
                .descendants()
                .find(|node| node.has_tag_name(("https://sts.amazonaws.com/doc/2011-06-15/", name)))
                .and_then(|node| node.text())
        };
        assert_eq!(
            [text("Arn"), text("UserId"), text("Account")],
            [Some(arn), Some(id), Some("111122223333")]
        );
        assert_eq!(text("RequestId"), Some(request_id().as_str()));
    }
}

#[test]
fn golden_errors() {
    let denied = |action, resource: &str| {
        ApiError::AccessDenied(Box::new(AccessDenied {
            caller: "arn:aws:iam::111122223333:user/alice".into(),
            action: Action::Query(action),
            resource: resource.into(),
            denial: Denial::Implicit(PolicyKind::IdentityBased),
        }))
    };
    let arn = "arn:aws:ec2:us-east-1:111122223333:instance/i-00000000000000001";
    let (ec2, sts) = (Service::Ec2, Service::Sts);
    for (error, service, status, code, message) in [
        (
            denied(Operation::DescribeInstances, "*"),
            ec2,
            403,
            "UnauthorizedOperation",
            "You are not authorized to perform this operation. User: arn:aws:iam::111122223333:user/alice is not authorized to perform: ec2:DescribeInstances because no identity-based policy allows the ec2:DescribeInstances action",
        ),
        (
            denied(Operation::StopInstances, arn),
            ec2,
            403,
            "UnauthorizedOperation",
            "You are not authorized to perform this operation. User: arn:aws:iam::111122223333:user/alice is not authorized to perform: ec2:StopInstances on resource: arn:aws:ec2:us-east-1:111122223333:instance/i-00000000000000001 because no identity-based policy allows the ec2:StopInstances action",
        ),
        (
            AuthenticationError::MissingToken.into(),
            ec2,
            403,
            "MissingAuthenticationToken",
            "Request is missing Authentication Token",
        ),
        (
            AuthenticationError::UnknownKey.into(),
            ec2,
            401,
            "AuthFailure",
            "AWS was not able to validate the provided access credentials",
        ),
        (
            AuthenticationError::Mismatch.into(),
            ec2,
            401,
            "AuthFailure",
            "AWS was not able to validate the provided access credentials",
        ),
        (
            AuthenticationError::OutsideClockWindow("Signature expired: x".into()).into(),
            ec2,
            400,
            "RequestExpired",
            "Signature expired: x",
        ),
        (AuthenticationError::Incomplete("x".into()).into(), ec2, 400, "IncompleteSignature", "x"),
        (AuthenticationError::WrongScope("x. ".into()).into(), ec2, 401, "AuthFailure", "x."),
        (
            AuthenticationError::UnknownKey.into(),
            sts,
            403,
            "InvalidClientTokenId",
            "The security token included in the request is invalid.",
        ),
        (AuthenticationError::OutsideClockWindow("x".into()).into(), sts, 403, "SignatureDoesNotMatch", "x"),
        (
            ApiError::Suspended,
            ec2,
            401,
            "AuthFailure",
            "The account or the user of these credentials is suspended.",
        ),
        (
            ApiError::Suspended,
            sts,
            403,
            "AccessDenied",
            "The account or the user of these credentials is suspended.",
        ),
        (ApiError::Throttling, ec2, 503, "RequestLimitExceeded", "Request limit exceeded."),
        (ApiError::Throttling, sts, 400, "Throttling", "Request limit exceeded."),
        (
            ApiError::SignatureUsed,
            ec2,
            503,
            "RequestLimitExceeded",
            "Request limit exceeded: this request was made already. Sign it again to repeat it.",
        ),
        (ApiError::RequestTooLarge, ec2, 413, "RequestEntityTooLarge", "Request entity is too large."),
        (
            ApiError::Service,
            ec2,
            500,
            "InternalError",
            "The service could not complete the request. Retry, and report the request id.",
        ),
        (
            ApiError::Service,
            sts,
            500,
            "InternalFailure",
            "The service could not complete the request. Retry, and report the request id.",
        ),
        (refused(QueryErrorCode::DryRunOperation, "x"), ec2, 412, "DryRunOperation", "x"),
        (refused(QueryErrorCode::MissingAction, "<&>"), sts, 400, "MissingAction", "<&>"),
    ] {
        let wire = error.to_wire(Protocol::Query(service), &request_id());
        assert_eq!((wire.status, wire.code, wire.message.as_str()), (status, code, message), "{error:?}");
        assert_eq!(error.code(Protocol::Query(service)), code);
        let escaped = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let id = request_id();
        let expected = match service {
            Service::Ec2 => format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>{escaped}</Message></Error></Errors><RequestID>{id}</RequestID></Response>"
            ),
            Service::Sts => {
                let whose = if status == 500 { "Receiver" } else { "Sender" };
                format!(
                    "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>{whose}</Type><Code>{code}</Code><Message>{escaped}</Message></Error><RequestId>{id}</RequestId></ErrorResponse>"
                )
            }
        };
        assert_eq!(wire.body, format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{expected}"));
    }
}

proptest! {
    #[test]
    fn query_parameters_never_panic(form: Vec<u8>) {
        let _ = Parameters::read(&Query::default(), &form);
    }

    #[test]
    fn query_requests_never_panic(
        operation in prop::sample::select(Operation::ALL),
        names in prop::collection::vec("(InstanceId|ResourceId|Filter|Tag|MaxResults|NextToken|DryRun)(\\.[0-9]{1,11})?(\\.(Name|Key|Value))?(\\.[0-9])?=[a-z0-9*%-]{0,6}", 0..8),
    ) {
        if let Ok(parameters) = Parameters::read(&Query::default(), names.join("&").as_bytes()) {
            let _ = Request::read(operation, parameters);
        }
    }

    /// What is written parses, and gives the text back, but for what XML cannot have.
    #[test]
    fn texts_in_xml_are_read_back(text: String) {
        let xml = Xml::document("a", Some("urn:x"), |xml| {
            xml.empty("b");
            xml.element("c", |xml| xml.text("d", &text));
        });
        let is_kept = |symbol: char| !matches!(symbol, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
        let expected: String = text.chars().map(|symbol| if is_kept(symbol) { symbol } else { '\u{fffd}' }).collect();
        let document = parsed(&xml);
        let found = document.descendants().find(|node| node.tag_name().name() == "d").unwrap();
        prop_assert_eq!(found.text().unwrap_or_default(), expected);
    }
}
