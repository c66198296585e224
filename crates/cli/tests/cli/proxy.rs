//! `proxy` and `known-hosts`, as ssh runs them: which machine, and what is told. Logins through them are in the end-to-end tests.

use crate::run::{INSTANCE, Outcome, Person, outcome};
use crate::server::{SUCCESS, Server, item, page};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;

const OTHER: &str = "i-0fedcba9876543210";
const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp";
const ECDSA: &str = "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBBu2G7ter6bHMRyFW38hGiB+Anp/rEoL1UMoqI4iM7YVCdINa9o0STQ6lYm++bl5r5e4I7zCw/1JQ8vHeQQ+Yh8=";
const STRANGE: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

fn agents(person: &Person) -> PathBuf {
    person.home.path().join("agents")
}

fn proxy(person: &Person, host: &str, port: u16) -> Outcome {
    let agents = agents(person);
    let agents = ["proxy", "--agents", agents.to_str().unwrap(), "--", host];
    person.run(&[&agents[..], &[&port.to_string(), "alice"]].concat())
}

fn describe(server: &Server, items: &[String]) {
    server.describe([(200, page(&items.concat()))]);
}

#[test]
fn machines_that_are_not_reached() {
    let server = Server::success();
    let person = Person::of(&server);
    let running = |id, name| item(id, name, "127.0.0.1", "running");
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (host, items, code, message) in [
        ("web", vec![], 254, "no running instance has the Name tag web"),
        // A service that ignores filters chooses nothing.
        (
            "web",
            vec![running(INSTANCE, "Web"), item(OTHER, "web", "127.0.0.1", "stopped")],
            254,
            "no running instance",
        ),
        (
            "web.ec2",
            vec![running(INSTANCE, "web"), running(OTHER, "web")],
            252,
            "several running instances have the Name tag web: i-0123456789abcdef0 (us-east-1a, 127.0.0.1), \
             i-0fedcba9876543210 (us-east-1a, 127.0.0.1)\nhint: use the id",
        ),
        (
            INSTANCE,
            vec![item(INSTANCE, "web", "127.0.0.1", "stopped")],
            254,
            "i-0123456789abcdef0 is stopped",
        ),
        (
            INSTANCE,
            vec![running(OTHER, "web")],
            254,
            "the service describes no instance i-0123456789abcdef0 (request id x)\nhint: check the instance id",
        ),
        (
            INSTANCE,
            vec![item(INSTANCE, "web", "-oX", "running")],
            254,
            "the service knows no address of i-0123456789abcdef0\nhint: its agent or an administrator",
        ),
        (INSTANCE, vec![running(INSTANCE, "web")], 255, "error: cannot connect to 127.0.0.1 port"),
        ("../x", vec![], 252, "it is neither an instance id nor a name"),
        ("i-'; touch x", vec![], 252, "it is neither an instance id nor a name"),
    ] {
        describe(&server, &items);
        let outcome = proxy(&person, host, nowhere);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (code, ""), "{host}: {outcome:?}");
        assert!(outcome.stderr.contains(message), "{host}: {outcome:?}");
    }
    server.describe([(
        403,
        "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You are not authorized</Message></Error></Errors>\
         <RequestID>id-1</RequestID></Response>"
            .to_owned(),
    )]);
    let outcome = proxy(&person, INSTANCE, nowhere);
    assert_eq!(outcome.code, 254);
    assert!(
        outcome.stderr.contains("hint: ask for a policy that allows this of EC2's actions"),
        "{outcome:?}"
    );
    // The service's own words, with its request id.
    server.describe([(
        400,
        "<Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code><Message>The instance ID 'x' does not exist</Message>\
         </Error></Errors><RequestID>id-2</RequestID></Response>"
            .to_owned(),
    )]);
    let outcome = proxy(&person, INSTANCE, nowhere);
    let said = ["The instance ID 'x' does not exist", "(request id ", "\nhint: check the instance id"];
    assert!(outcome.code == 254 && said.iter().all(|part| outcome.stderr.contains(part)), "{outcome:?}");
    describe(&server, &[running(INSTANCE, "web")]);
    let directory = agents(&person);
    let words = ["--debug", "proxy", "--agents", directory.to_str().unwrap(), "--", INSTANCE];
    let steps = person.run(&[&words[..], &[&nowhere.to_string(), "alice"]].concat()).stderr;
    assert!(steps.contains(&format!("debug: waiting until no other ssh logs in to {INSTANCE}\n")), "{steps}");
    // No key is pushed for a machine that is not reached, and nothing is left.
    assert!(server.pushes.lock().unwrap().is_empty());
    assert!(!agents(&person).exists() || std::fs::read_dir(agents(&person)).unwrap().count() == 0);
}

/// From the first byte to the last: the key is pushed before ssh hears anything, the agent is for one ssh alone, and host keys are told.
#[test]
fn a_machine_that_is_reached() {
    let server = Server::success();
    *server.host_keys.lock().unwrap() =
        (200, serde_json::json!({ "HostKeys": [{ "PublicKey": format!("ssh-ed25519 {KEY}") }] }).to_string());
    let machine = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = machine.local_addr().unwrap().port().to_string();
    describe(&server, &[item(INSTANCE, "Web", "127.0.0.1", "running")]);
    let person = Person::of(&server);
    let agents = agents(&person);
    let directory = agents.to_str().unwrap();
    let mut child = person
        .command(&["proxy", "--agents", directory, "--typed=Web.ec2", "--", "web.ec2", &port, "alice"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut there, _) = machine.accept().unwrap();
    there.write_all(b"SSH-2.0-x\r\n").unwrap();
    let mut first = [0; 11];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"SSH-2.0-x\r\n");
    let push = server.push();
    assert_eq!((&push["InstanceId"], &push["InstanceOSUser"]), (&INSTANCE.into(), &"alice".into()));

    let known_hosts = |kind: &str, key: &str| {
        person.run(&["known-hosts", "--agents", directory, "--", "web.ec2", "[web.ec2]:2222", kind, key])
    };
    let line = format!("[web.ec2]:2222 ssh-ed25519 {KEY}\n");
    for (kind, key) in [("NONE", "NONE"), ("ssh-ed25519", KEY)] {
        let told = known_hosts(kind, key);
        assert_eq!((told.code, told.stdout.as_str(), told.stderr.as_str()), (0, line.as_str(), ""));
    }
    // ssh ends with this status. It would ask about a key of a type that it knows none of, or of no type that we know.
    for (kind, key) in [("ssh-ed25519", STRANGE), ("ecdsa-sha2-nistp256", ECDSA), ("ssh-new", "AAAA")] {
        let strange = known_hosts(kind, key);
        assert_eq!((strange.code, strange.stdout.as_str()), (254, line.as_str()), "{kind}");
        assert!(
            strange.stderr.contains(&format!("instance-connect instance set {INSTANCE} --accept-host-keys")),
            "{strange:?}"
        );
    }
    for name in ["*", "a b", "a,b", "", "a\nb"] {
        let arguments = ["known-hosts", "--agents", directory, "--", "web.ec2", name, "NONE", "NONE"];
        assert_eq!(person.run(&arguments).code, 252, "{name}");
    }

    // Another process of the same user is hung up on; the ssh that has started it, which is this test, is not.
    let ask = |stream: &mut UnixStream| {
        stream.write_all(&[0, 0, 0, 1, 11]).unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).map(|()| u32::from_be_bytes(length))
    };
    let socket = agents.join("web.ec2");
    let listed =
        std::process::Command::new("ssh-add").arg("-L").env("SSH_AUTH_SOCK", &socket).output().unwrap();
    assert_ne!(listed.status.code(), Some(0), "{listed:?}");
    let mut agent = UnixStream::connect(&socket).unwrap();
    assert!(ask(&mut agent).unwrap() > 32);
    // With that, nothing is left for anybody else.
    assert_eq!(std::fs::read_dir(&agents).unwrap().count(), 0);
    assert!(ask(&mut agent).unwrap() > 32);

    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"from ssh").unwrap();
    drop(stdin);
    let mut text = String::new();
    there.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from ssh");
    there.write_all(b"the end").unwrap();
    drop(there);
    let outcome = outcome(child.wait_with_output().unwrap());
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (0, "the end", ""));
}

/// One that was killed in its turn has left its socket and its lock; and one that ssh ends before it has used its key leaves none.
#[test]
fn logins_that_end_early() {
    let server = Server::answering(vec![SUCCESS]);
    let person = Person::of(&server);
    let machine = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = machine.local_addr().unwrap().port().to_string();
    describe(&server, &[item(INSTANCE, "web", "127.0.0.1", "running")]);
    let agents = agents(&person);
    for (signal, left) in [("-KILL", true), ("-HUP", false), ("-TERM", false)] {
        let mut child = person
            .command(&["proxy", "--agents", agents.to_str().unwrap(), "--", INSTANCE, &port, "alice"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut there, _) = machine.accept().unwrap();
        there.write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        assert!(agents.join(INSTANCE).exists());
        assert!(
            std::process::Command::new("kill")
                .args([signal, &child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        child.wait().unwrap();
        assert_eq!(std::fs::read_dir(&agents).unwrap().count() > 0, left, "{signal}");
    }
    assert_eq!(server.pushes.lock().unwrap().len(), 3);
}

#[test]
fn standard_output_that_is_none_of_ssh() {
    let server = Server::success();
    let person = Person::of(&server);
    let machine = TcpListener::bind("127.0.0.1:0").unwrap();
    describe(&server, &[item(INSTANCE, "web", "127.0.0.1", "running")]);
    let outcome = proxy(&person, INSTANCE, machine.local_addr().unwrap().port());
    assert_eq!(outcome.code, 252, "{outcome:?}");
    assert!(outcome.stderr.contains("this command is for the ProxyCommand of ssh"), "{outcome:?}");
    assert_eq!(std::fs::read_dir(agents(&person)).unwrap().count(), 0);
}
