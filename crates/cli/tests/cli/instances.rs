//! `instances` and `ansible-inventory`.

use crate::run::{INSTANCE, Person, outcome};
use crate::server::{Server, item, page, page_before};
use serde_json::{Value, json};
use std::io::Read as _;
use std::process::Stdio;

const OTHER: &str = "i-0fedcba9876543210";

/// Two pages, and an empty one between them, as EC2 may send it.
fn two(server: &Server) {
    server.describe([
        (200, page_before(&item(INSTANCE, "web-1", "10.0.0.1", "running"), "one")),
        (200, page_before("", "two&amp;")),
        (200, page(&item(OTHER, "", "10.0.0.2", "stopped"))),
    ]);
}

#[test]
fn a_list_in_each_format() {
    let server = Server::success();
    let person = Person::of(&server);
    let table = format!(
        "INSTANCE             NAME   STATE    ZONE        TYPE  PRIVATE IP  PUBLIC IP  IPV6\n\
         {INSTANCE}  web-1  running  us-east-1a  -     10.0.0.1    -          -\n\
         {OTHER}  -      stopped  us-east-1a  -     10.0.0.2    -          -\n"
    );
    let text = format!(
        "{INSTANCE}\tweb-1\trunning\tus-east-1a\t-\t10.0.0.1\t-\t-\n\
         {OTHER}\t-\tstopped\tus-east-1a\t-\t10.0.0.2\t-\t-\n"
    );
    for (arguments, expected) in [(&[][..], table), (&["--output", "text"], text)] {
        two(&server);
        let outcome = person.run(&[&["instances"], arguments].concat());
        assert_eq!((outcome.code, outcome.stdout, outcome.stderr), (0, expected, String::new()));
    }
    assert_eq!(server.described.lock().unwrap()[..3], ["", "&NextToken=one", "&NextToken=two%26"]);
    two(&server);
    let outcome = person.run(&["instances", "--output", "json"]);
    let answer: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let expected = json!({
        "InstanceId": OTHER,
        "State": { "Name": "stopped" },
        "Placement": { "AvailabilityZone": "us-east-1a" },
        "PrivateIpAddress": "10.0.0.2",
        "Tags": [{ "Key": "Name", "Value": "" }],
    });
    assert_eq!((answer["Instances"].as_array().unwrap().len(), &answer["Instances"][1]), (2, &expected));
}

#[test]
fn what_is_asked_for() {
    let server = Server::success();
    let person = Person::of(&server);
    let arguments =
        ["instances", "web-*", "--filter", "tag:env=prod", "--filter", "vpc-id=a", "--filter", "tag:env=dev"];
    assert_eq!(person.run(&arguments).code, 0);
    assert_eq!(person.run(&["instances", INSTANCE, "--instance-id", OTHER]).code, 0);
    let filters = "&Filter.1.Name=tag%3Aenv&Filter.1.Value.1=prod&Filter.1.Value.2=dev&Filter.2.Name=vpc-id&Filter.2.Value.1=a\
                   &Filter.3.Name=tag%3AName&Filter.3.Value.1=web-%2A";
    let ids = format!("&InstanceId.1={OTHER}&InstanceId.2={INSTANCE}");
    assert_eq!(*server.described.lock().unwrap(), [filters, &ids]);
}

/// Names and states are texts of others: no cell ends a line, begins another column or moves a cursor.
#[test]
fn texts_of_others_are_only_text() {
    let server = Server::success();
    let person = Person::of(&server);
    for output in ["table", "text", "json"] {
        server.describe([(200, page(&item(INSTANCE, "a\n\tb\u{9b}31m\u{202e}", "10.0.0.1", "running")))]);
        let outcome = person.run(&["instances", "--output", output]);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        let moves =
            |symbol: char| symbol == '\u{202e}' || (symbol.is_control() && !matches!(symbol, '\n' | '\t'));
        assert!(!outcome.stdout.contains(moves), "{outcome:?}");
        match output {
            "json" => {}
            "text" => {
                assert_eq!((outcome.stdout.lines().count(), outcome.stdout.matches('\t').count()), (1, 7))
            }
            _ => assert_eq!(outcome.stdout.lines().count(), 2, "{outcome:?}"),
        }
    }
}

/// A service whose list does not end is asked so often and no more, but for what is printed: then from the last that was.
#[test]
fn a_list_without_end() {
    let server = Server::success();
    let one = item(INSTANCE, "web", "10.0.0.1", "running");
    let empty = || (200, page_before("", "again"));
    let pages = std::iter::repeat_with(empty).take(3).chain([(200, page_before(&one, "again")), empty()]);
    server.describe(pages);
    let outcome = Person::of(&server).run(&["instances", "--output", "text"]);
    assert_eq!((outcome.code, outcome.stdout.lines().count()), (254, 1), "{outcome:?}");
    assert!(outcome.stderr.contains("the service's list of instances does not end"), "{outcome:?}");
    assert_eq!(server.described.lock().unwrap().len(), 4 + 4096);
}

/// A few instances may have very much said of them.
#[test]
fn more_text_than_is_held_at_once() {
    let server = Server::success();
    let name = "x".repeat(20 * 1024 * 1024);
    server.describe([(200, page_before(&item(INSTANCE, &name, "10.0.0.1", "running"), "more"))]);
    let outcome = Person::of(&server).run(&["instances"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (252, ""));
    assert!(outcome.stderr.starts_with("error: these are more than 256 MiB of instances and tags\nhint: "));
    assert_eq!(server.described.lock().unwrap().len(), 13);
}

/// A full disk is not somebody who does not want to read.
#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_written_is_a_failure() {
    let server = Server::success();
    server.describe([(200, page(&item(INSTANCE, "web", "10.0.0.1", "running")))]);
    let person = Person::of(&server);
    let commands = [
        &["instances", "--output", "text"][..],
        &["instances", "--output", "table"],
        &["instances", "--output", "json"],
        &["ansible-inventory", "--list"],
        &["whoami"],
    ];
    for arguments in commands {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = person.command(arguments);
        let outcome = outcome(command.stdout(full).output().unwrap());
        assert_eq!(outcome.code, 255, "{arguments:?}");
        assert!(outcome.stderr.starts_with("error: cannot write the result: No space left"), "{outcome:?}");
    }
}

/// What has to be held in memory has a bound; what is printed page by page has none.
#[test]
fn more_than_are_held_at_once() {
    let server = Server::success();
    let items = format!("<item><instanceId>{INSTANCE}</instanceId></item>").repeat(20_000);
    for (arguments, code, lines) in
        [(&["instances"][..], 252, 0), (&["instances", "--output", "text"], 0, 120_000)]
    {
        let pages = std::iter::repeat_n((200, page_before(&items, "more")), 5);
        server.describe(pages.chain([(200, page(&items))]));
        let outcome = Person::of(&server).run(arguments);
        assert_eq!((outcome.code, outcome.stdout.lines().count()), (code, lines), "{}", outcome.stderr);
        let refused =
            outcome.stderr.starts_with("error: these are more than 100000 instances\nhint: ask for fewer");
        assert_eq!(refused, code != 0, "{}", outcome.stderr);
    }
}

/// `instances | head`: nobody asks for pages that nobody reads.
#[test]
fn a_list_that_nobody_reads_to_its_end() {
    let server = Server::success();
    server.describe([(200, page_before(&item(INSTANCE, "web", "10.0.0.1", "running"), "again"))]);
    let person = Person::of(&server);
    let mut child = person
        .command(&["instances", "--output", "text"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 19];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(first, INSTANCE.as_bytes());
    let outcome = outcome(child.wait_with_output().unwrap());
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
}

#[test]
fn an_inventory_of_ansible() {
    let server = Server::success();
    let person = Person::of(&server);
    server.describe([(200, page(&item(INSTANCE, "{{ evil }}", "10.0.0.1", "running")))]);
    let list = person.run(&["ansible-inventory", "--filter", "tag:env=prod", "--list"]);
    let list: Value = serde_json::from_str(&list.stdout).unwrap();
    let hosts = json!({ "hosts": [INSTANCE] });
    for group in ["all", "tag_Name____evil___", "zone_us_east_1a", "state_running"] {
        assert_eq!(list[group], hosts, "{group}");
    }
    let variables = &list["_meta"]["hostvars"][INSTANCE];
    assert_eq!(variables["ansible_host"], INSTANCE);
    assert_eq!(variables["ec2_tags"]["Name"], json!({ "__ansible_unsafe": "{{ evil }}" }));
    let host = person.run(&["ansible-inventory", "--host", INSTANCE]);
    assert_eq!(serde_json::from_str::<Value>(&host.stdout).unwrap(), *variables);

    assert_eq!(person.run(&["ansible-inventory", "--list", "--filter", "instance-state-name=*"]).code, 0);
    let running = "&Filter.1.Name=tag%3Aenv&Filter.1.Value.1=prod&Filter.2.Name=instance-state-name&Filter.2.Value.1=running";
    let id = format!("&InstanceId.1={INSTANCE}");
    let asked = [running, &id, "&Filter.1.Name=instance-state-name&Filter.1.Value.1=%2A"];
    assert_eq!(*server.described.lock().unwrap(), asked);
    for arguments in [&["--host", OTHER][..], &["--host", "web"], &["--list", "--host", INSTANCE], &[]] {
        let outcome = person.run(&[&["ansible-inventory"], arguments].concat());
        assert_eq!(outcome.stdout, "");
        assert_eq!(outcome.code, if arguments.last() == Some(&OTHER) { 254 } else { 252 }, "{outcome:?}");
    }
}
