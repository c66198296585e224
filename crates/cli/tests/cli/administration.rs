//! Commands of administration that ask before they change something.

use crate::run::{INSTANCE, Outcome, Person};
use crate::server::Server;
use serde_json::{Value, json};

/// An instance of which operators have said type, image and public address, and its agent something else.
fn described(claims: &Value) -> Value {
    json!({ "Instances": [{
        "InstanceId": INSTANCE,
        "InstanceType": "t3.micro",
        "ImageId": "ami-0123456789abcdef0",
        "PrivateIpAddress": null,
        "PublicIpAddress": "192.0.2.1",
        "Ipv6Address": null,
        "HostFacts": claims,
    }]})
}

fn claims() -> Value {
    json!({ "PrivateIpAddress": "10.0.1.9", "PublicIpAddress": null, "Ipv6Address": "2001:db8::9" })
}

/// Without an answer that changes something.
fn assert_unchanged(server: &Server, outcome: &Outcome, code: i32, said: &str) {
    assert_eq!((outcome.code, outcome.stdout.as_str()), (code, ""), "{outcome:?}");
    assert!(outcome.stderr.contains(said), "{outcome:?}");
    let asked = server.administered.lock().unwrap();
    assert!(asked.iter().all(|(operation, _)| operation == "DescribeInstances"), "{asked:?}");
}

#[test]
fn what_an_agent_says_is_pinned_beside_what_is_pinned() {
    let server = Server::success();
    let person = Person::of(&server);
    for output in [&[][..], &["--output", "json"]] {
        server.administrate([described(&claims()), described(&claims()), json!({ "RequestId": "x" })]);
        let outcome = person.run(&[&["instance", "pin-facts", INSTANCE, "--yes"], output].concat());
        assert_eq!(outcome.code, 0, "{outcome:?}");
        assert_eq!(
            outcome.stderr,
            "private address: - is pinned, its agent says 10.0.1.9\n\
             public address: 192.0.2.1 is pinned, its agent says -\n\
             IPv6 address: - is pinned, its agent says 2001:db8::9\n"
        );
        // A result is one thing: a sentence, or JSON and nothing else.
        match output {
            [] => assert_eq!(outcome.stdout.lines().count(), 1, "{outcome:?}"),
            _ => assert_eq!(
                serde_json::from_str::<Value>(&outcome.stdout).unwrap(),
                json!({ "RequestId": "x" })
            ),
        }
        let pinned = json!({
            "InstanceId": INSTANCE,
            "InstanceType": "t3.micro",
            "ImageId": "ami-0123456789abcdef0",
            "PrivateIpAddress": "10.0.1.9",
            // What the operator has pinned and the agent says nothing of.
            "PublicIpAddress": "192.0.2.1",
            "Ipv6Address": "2001:db8::9",
        });
        let asked = server.administered.lock().unwrap();
        assert_eq!(*asked.last().unwrap(), ("SetInstanceDetails".to_owned(), pinned));
    }
}

#[test]
fn nothing_is_pinned_that_was_not_said_and_agreed_to() {
    let server = Server::success();
    let person = Person::of(&server);
    let nothing = json!({ "PrivateIpAddress": null, "PublicIpAddress": null, "Ipv6Address": null });
    for (answer, said) in [
        (described(&Value::Null), "has said no address of its machine\nhint: "),
        (described(&nothing), "has said no address of its machine\nhint: "),
        (
            described(&claims()),
            "There is no terminal to ask on, so nothing is changed\nhint: say so with --yes",
        ),
    ] {
        server.administrate([answer]);
        let outcome = person.run(&["instance", "pin-facts", INSTANCE]);
        assert_unchanged(&server, &outcome, 252, said);
    }
}

/// While the question is open somebody says another type, or another address: what was read before does not undo that. What
/// the agent says meanwhile is another matter.
#[test]
fn what_somebody_says_in_the_meantime_stays() {
    let server = Server::success();
    let person = Person::of(&server);
    for member in ["InstanceType", "ImageId", "PrivateIpAddress", "PublicIpAddress", "Ipv6Address"] {
        let mut anew = described(&claims());
        anew["Instances"][0][member] = "other".into();
        server.administrate([described(&claims()), anew]);
        let outcome = person.run(&["instance", "pin-facts", INSTANCE, "--yes"]);
        assert_unchanged(&server, &outcome, 255, "described i-0123456789abcdef0 anew in the meantime");
    }
    let said_since = json!({ "PrivateIpAddress": "10.0.66.6", "PublicIpAddress": null, "Ipv6Address": null });
    server.administrate([described(&claims()), described(&said_since), json!({})]);
    assert_eq!(person.run(&["instance", "pin-facts", INSTANCE, "--yes"]).code, 0);
    let asked = server.administered.lock().unwrap();
    assert_eq!(asked.last().unwrap().1["PrivateIpAddress"], "10.0.1.9");
}

#[test]
fn host_keys_that_are_asked_about_are_no_result() {
    let server = Server::success();
    let keys = |fingerprint: &str| json!([{ "KeyType": "ssh-ed25519", "Fingerprint": fingerprint }]);
    let instance = json!({ "HostKeys": keys("SHA256:old"), "PendingHostKeys": keys("SHA256:new") });
    server.administrate([json!({ "Instances": [instance] }), json!({ "RequestId": "x" })]);
    let accept = ["instance", "set", INSTANCE, "--accept-host-keys", "--yes", "--output", "json"];
    let outcome = Person::of(&server).run(&accept);
    assert_eq!(
        (outcome.code, outcome.stderr.as_str()),
        (0, "accepted: ssh-ed25519 SHA256:old\nreported: ssh-ed25519 SHA256:new\n")
    );
    assert_eq!(serde_json::from_str::<Value>(&outcome.stdout).unwrap(), json!({ "RequestId": "x" }));
}
