//! `send-key`, and what all commands share: configuration, messages, exit codes.

use crate::run::{INSTANCE, Outcome, Person, key_pair};
use crate::server::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, SUCCESS, Server};
use std::fs;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

#[test]
fn a_key_from_a_file() {
    let server = Server::success();
    let person = Person::of(&server);
    let private = key_pair(person.home.path());
    let public = format!("{}.pub", private.display());
    let outcome = person.run(&["send-key", &format!("admin@{INSTANCE}"), "--ssh-public-key", &public]);
    let expected = format!(
        "admin on {INSTANCE} can log in with this key for 60 seconds (request id 0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11)\n"
    );
    assert_eq!((outcome.code, outcome.stdout, outcome.stderr), (0, expected, String::new()));
    let push = server.push();
    assert_eq!(push["InstanceId"], INSTANCE);
    assert_eq!(push["InstanceOSUser"], "admin");
    assert_eq!(push["SSHPublicKey"], fs::read_to_string(&public).unwrap().trim_end());
    assert!(push.get("AvailabilityZone").is_none());
}

#[test]
fn a_key_in_other_ways() {
    let person = Person::new();
    let file = person.file("key.pub", &format!("{KEY} me@host\r\n"));
    let with_prefix = format!("file://{}", file.display());
    for (argument, input, sent) in
        [(KEY, "", KEY.to_owned()), ("-", KEY, KEY.to_owned()), (&with_prefix, "", format!("{KEY} me@host"))]
    {
        let server = Server::success();
        let person = Person::of(&server);
        let arguments = ["send-key", INSTANCE, "--os-user", "a.b", "--availability-zone", "us-east-1a"];
        let arguments = [&arguments[..], &["--ssh-public-key", argument, "--output", "json"]].concat();
        let outcome = person.run_with_input(&arguments, input);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        let json =
            "{\n    \"RequestId\": \"0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11\",\n    \"Success\": true\n}\n";
        assert_eq!(outcome.stdout, json);
        let push = server.push();
        assert_eq!(push["SSHPublicKey"], sent);
        assert_eq!(
            (&push["InstanceOSUser"], &push["AvailabilityZone"]),
            (&"a.b".into(), &"us-east-1a".into())
        );
    }
}

#[test]
fn the_default_user() {
    let server = Server::success();
    assert_eq!(Person::of(&server).run(&["send-key", INSTANCE, "--ssh-public-key", KEY]).code, 0);
    assert_eq!(server.push()["InstanceOSUser"], "ec2-user");
}

/// A private key named by mistake goes nowhere, and no word of it is printed.
#[test]
fn a_private_key() {
    let server = Server::success();
    let person = Person::of(&server);
    let private = key_pair(person.home.path());
    let content = fs::read_to_string(&private).unwrap();
    let path = private.display().to_string();
    let debug = ["--debug", "send-key", INSTANCE, "--ssh-public-key"];
    for (argument, input) in [(path.as_str(), ""), ("-", content.as_str()), (content.as_str(), "")] {
        let outcome = person.run_with_input(&[&debug[..], &[argument]].concat(), input);
        assert_eq!(outcome.code, 252, "{outcome:?}");
        assert!(outcome.stderr.contains("is a private key, which must never leave this machine; not sent"));
        assert!(
            person
                .run(&["send-key", INSTANCE, &content])
                .stderr
                .starts_with("error: an argument is a private key")
        );
        for line in content.lines().filter(|line| !line.starts_with('-')) {
            assert!(!format!("{outcome:?}").contains(line));
        }
    }
    let hint =
        format!("hint: give the public key, usually {path}.pub; `ssh-keygen -y -f {path}` prints it\n");
    assert!(person.run(&[&debug[..], &[path.as_str()]].concat()).stderr.ends_with(&hint));
    assert!(server.pushes.lock().unwrap().is_empty());
}

/// Exit code, standard error, for things that go wrong before anything is sent.
#[test]
fn mistakes_on_this_side() {
    let good = ["send-key", INSTANCE, "--ssh-public-key", KEY];
    let with = |more: &[&'static str]| [&good[..], more].concat();
    let person = Person::new();
    for (arguments, code, message) in [
        (vec![], 252, "Usage: instance-connect"),
        (vec!["send-key"], 252, "required arguments were not provided"),
        (
            vec!["send-key", "host.example", "--ssh-public-key", KEY],
            252,
            "host names and addresses are not instances",
        ),
        (
            vec!["send-key", INSTANCE, "--ssh-public-key", "/nowhere"],
            252,
            "error: --ssh-public-key \"/nowhere\": No such file",
        ),
        (
            vec!["send-key", "a@i-0123456789abcdef0", "--ssh-public-key", KEY, "--os-user", "b"],
            252,
            "error: two users",
        ),
        (with(&[]), 253, "hint: give --region, such as --region us-east-1\n"),
        (
            with(&["--region", "us-east-1"]),
            253,
            "error: no credentials: AWS_ACCESS_KEY_ID is not set; there is no ",
        ),
        (with(&["--profile", "nobody"]), 253, "error: there is no profile \"nobody\""),
        (
            with(&["--region", "us-east-1", "--endpoint-url", "http://10.0.0.1"]),
            253,
            "hint: --allow-plain-http",
        ),
        (
            with(&["--region", "us-east-1", "--endpoint-url", "nonsense"]),
            253,
            "error: endpoint URL \"nonsense\": ",
        ),
        (with(&["--ready-file", "/nowhere"]), 253, "error: ready file /nowhere: No such file"),
    ] {
        let outcome = person.run(&arguments);
        assert_eq!(outcome.code, code, "{arguments:?} {outcome:?}");
        assert!(outcome.stderr.contains(message), "{arguments:?} {outcome:?}");
        assert_eq!(outcome.stdout, "");
    }
    assert_eq!(person.run(&["--help"]).code, 0);
    assert_eq!(
        person.run(&["--version"]).stdout,
        concat!("instance-connect ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn what_the_service_says() {
    let refused = Server::start(
        400,
        r#"{"__type":"AccessDeniedException","Message":"User: x is not authorized\u001b[31m"}"#,
    );
    let Outcome { code, stdout, stderr } =
        Person::of(&refused).run(&["send-key", INSTANCE, "--ssh-public-key", KEY]);
    assert_eq!((code, stdout), (254, String::new()));
    assert_eq!(
        stderr,
        "error: AccessDeniedException: User: x is not authorized\\u{1b}[31m \
         (request id 0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11)\n\
         hint: ask for a policy that allows ec2-instance-connect:SendSSHPublicKey on this instance for this OS user\n"
    );

    let half = Server::start(200, r#"{"RequestId":"x","Success":false}"#);
    let outcome = Person::of(&half).run(&["send-key", INSTANCE, "--ssh-public-key", KEY]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (254, ""));
    let error = "error: the service did not put the key in place (request id x)\nhint: --debug shows";
    assert!(outcome.stderr.starts_with(error), "{outcome:?}");

    let odd = Server::start(200, "<html>");
    let outcome = Person::of(&odd).run(&["send-key", INSTANCE, "--ssh-public-key", KEY]);
    assert_eq!(outcome.code, 255);
    assert!(
        outcome.stderr.starts_with("error: the answer is not one of EC2 Instance Connect: "),
        "{outcome:?}"
    );
}

#[test]
fn signatures_that_are_not_right() {
    let server = Server::success();
    let person = Person::of(&server).with("AWS_SECRET_ACCESS_KEY", "wrong");
    let outcome = person.run(&["send-key", INSTANCE, "--ssh-public-key", KEY]);
    assert_eq!(outcome.code, 254);
    assert!(
        outcome.stderr.starts_with("error: InvalidSignatureException: The request signature we calculated")
    );
    let person = Person::of(&server).with("AWS_ACCESS_KEY_ID", "AKIDUNKNOWN0000000");
    let outcome = person.run(&["send-key", INSTANCE, "--ssh-public-key", KEY]);
    assert!(outcome.stderr.contains("hint: this service does not know the access key"), "{outcome:?}");
}

/// A failure that may be an accident is not shown to people before the client has tried again, and told with `--debug`.
#[test]
fn accidents() {
    let page = (502, "<html>bad gateway</html>");
    let server = Server::answering(vec![page, page, SUCCESS]);
    let outcome = Person::of(&server).run(&["send-key", INSTANCE, "--ssh-public-key", KEY]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    assert_eq!(server.pushes.lock().unwrap().len(), 3);

    let server = Server::answering(vec![page]);
    let outcome = Person::of(&server).run(&["--debug", "send-key", INSTANCE, "--ssh-public-key", KEY]);
    assert_eq!(server.pushes.lock().unwrap().len(), 3);
    assert_eq!(outcome.code, 254, "{outcome:?}");
    assert_eq!(outcome.stderr.matches("ms after: 502: <html>bad gateway</html>\n").count(), 2, "{outcome:?}");
    let end = "error: 502: <html>bad gateway</html> (request id 0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11)\n\
               hint: the service itself failed: try again shortly; its operators find the request by its id\n";
    assert!(outcome.stderr.ends_with(end), "{outcome:?}");

    // As often as the caller likes.
    let server = Server::start(400, r#"{"__type":"ThrottlingException","Message":"Server is busy!"}"#);
    let person = Person::of(&server).with("AWS_MAX_ATTEMPTS", "1").with("AWS_RETRY_MODE", "adaptive");
    let outcome = person.run(&["--debug", "send-key", INSTANCE, "--ssh-public-key", KEY]);
    assert_eq!((outcome.code, server.pushes.lock().unwrap().len()), (254, 1), "{outcome:?}");
    assert!(outcome.stderr.contains(", retry mode standard instead of the one asked for\n"), "{outcome:?}");
    let end = "error: ThrottlingException: Server is busy! (request id 0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11)\n\
               hint: wait a moment and try again\n";
    assert!(outcome.stderr.ends_with(end), "{outcome:?}");
}

#[test]
fn wrong_clocks() {
    for (ahead, clock) in [(750, "12 minutes behind"), (-750, "12 minutes ahead of")] {
        let server = Server::with_clock(ahead, vec![SUCCESS]);
        let outcome = Person::of(&server).run(&["send-key", INSTANCE, "--ssh-public-key", KEY]);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        let warning = format!(
            "warning: this machine's clock is {clock} the service's; set it, for example by NTP; the service's time \
             is signed meanwhile\n"
        );
        assert_eq!(outcome.stderr, warning);

        // An answer that anybody may have sent is not believed, but it may be right.
        let url = server.url().replace("127.0.0.1", "0.0.0.0");
        let person = Person::of(&server).with("AWS_ENDPOINT_URL", &url);
        let outcome = person.run(&["--allow-plain-http", "send-key", INSTANCE, "--ssh-public-key", KEY]);
        assert_eq!(outcome.code, 254, "{outcome:?}");
        assert!(outcome.stderr.starts_with("error: InvalidSignatureException: Signature "), "{outcome:?}");
        let hint =
            format!("hint: this machine's clock is {clock} the service's; set it, for example by NTP\n");
        assert!(outcome.stderr.ends_with(&hint), "{outcome:?}");
    }
}

#[test]
fn credentials_of_a_program() {
    let server = Server::success();
    let person = Person::new().with("AWS_REGION", REGION).with("AWS_ENDPOINT_URL", &server.url());
    person.script(
        "give-credentials",
        &format!(
            r#"echo '{{"Version": 1, "AccessKeyId": "{ACCESS_KEY_ID}", "SecretAccessKey": "{SECRET_ACCESS_KEY}"}}'"#
        ),
    );
    person.file(
        ".aws/config",
        "[profile program]\ncredential_process = give-credentials\n[profile broken]\n\
         credential_process = sh -c \"echo a-secret; echo 'touch the token' >&2; exit 3\"\n",
    );
    let send = ["--debug", "send-key", INSTANCE, "--ssh-public-key", KEY];
    let outcome = person.run(&[&send[..], &["--profile", "program"]].concat());
    assert_eq!(outcome.code, 0, "{outcome:?}");
    for part in [
        "region us-east-1, credentials from the credential_process of profile program\n".to_owned(),
        format!("debug: access key {ACCESS_KEY_ID} was given\n"),
    ] {
        assert!(outcome.stderr.contains(&part), "{outcome:?}");
    }
    assert!(!format!("{outcome:?}").contains(SECRET_ACCESS_KEY), "{outcome:?}");

    let outcome = person.run(&[&send[..], &["--profile", "broken"]].concat());
    let error = "error: the credential_process of profile broken failed (exit status: 3): touch the token\nhint: the profile";
    assert!(outcome.code == 253 && outcome.stderr.contains(error), "{outcome:?}");
    assert!(!format!("{outcome:?}").contains("a-secret"), "{outcome:?}");
}

#[test]
fn nobody_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let person = Person::new()
        .with("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
        .with("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
        .with("AWS_REGION", REGION);
    let outcome = person.run(&["send-key", INSTANCE, "--ssh-public-key", KEY, "--endpoint-url", &url]);
    assert_eq!(outcome.code, 255);
    assert!(outcome.stderr.starts_with("error: cannot connect to 127.0.0.1:"), "{outcome:?}");
    assert!(outcome.stderr.contains(": Connection refused"), "{outcome:?}");
}

#[test]
fn debug_shows_the_call_and_no_secret() {
    let server = Server::success();
    let person = Person::of(&server).with("AWS_PROFILE", "unused");
    person.file(".aws/credentials", "[unused]\naws_secret_access_key = other-secret\n");
    let outcome = person.run(&["send-key", INSTANCE, "--ssh-public-key", KEY, "--debug"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    for part in [
        &format!(
            "debug: endpoint {}/, region us-east-1, access key {ACCESS_KEY_ID} from the environment\n",
            server.url()
        ),
        &format!("debug: POST {}/\n", server.url()),
        "debug: > x-amz-target: AWSEC2InstanceConnectService.SendSSHPublicKey\n",
        "debug: > authorization: (hidden)\n",
        KEY,
        "debug: < 200, request id 0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11\n",
    ] {
        assert!(outcome.stderr.contains(part), "{part}: {outcome:?}");
    }
    for secret in [SECRET_ACCESS_KEY, "Signature=", "other-secret"] {
        assert!(!format!("{outcome:?}").contains(secret));
    }
}

/// With a ready file: its endpoint and region always, its administrator's key unless the caller named another.
#[test]
fn ready_files() {
    let server = Server::success();
    let person =
        Person::new().with("AWS_REGION", "eu-west-1").with("AWS_ENDPOINT_URL", "https://elsewhere.example");
    // The default profile is usually somebody's AWS account; it is not meant here.
    person.file(
        ".aws/credentials",
        "[default]\naws_access_key_id = AKIDDEFAULT0000000\naws_secret_access_key = x\n",
    );
    let ready = ready_file(&server);
    let path = person.file("ready.json", &ready.to_string()).display().to_string();
    let send = ["send-key", INSTANCE, "--ssh-public-key", KEY, "--debug"];
    let outcome = person.run(&[&send[..], &["--ready-file", &path]].concat());
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(server.push()["InstanceOSUser"], "from-file");
    assert!(
        outcome.stderr.contains(
            "debug: no credentials were named, so the administrator's of the ready file are used\n"
        )
    );
    assert!(!outcome.stderr.contains(SECRET_ACCESS_KEY));

    let by_variable = Person::new().with("INSTANCE_CONNECT_READY_FILE", &path);
    assert_eq!(by_variable.run(&send).code, 0);

    // Another endpoint never sees the administrator's key.
    let elsewhere = ["--ready-file", path.as_str(), "--endpoint-url", "http://127.0.0.1:9"];
    let outcome = Person::new().run(&[&send[..], &elsewhere].concat());
    assert!(outcome.code == 253 && outcome.stderr.contains("no credentials"), "{outcome:?}");

    let named =
        Person::new().with("AWS_ACCESS_KEY_ID", "AKIDNAMED00000000").with("AWS_SECRET_ACCESS_KEY", "x");
    let outcome = named.run(&[&send[..], &["--ready-file", &path]].concat());
    assert!(outcome.stderr.contains("access key AKIDNAMED00000000 from the environment"), "{outcome:?}");

    let broken = person.file("broken.json", "{\"schema\": 1,\n \"endpoint_url\": SECRET}");
    let outcome = person.run(&[&send[..], &["--ready-file", broken.to_str().unwrap()]].concat());
    assert!(outcome.stderr.contains("broken.json: line 2 is not what it should be\n"), "{outcome:?}");
    let newer = person.file("newer.json", &ready.to_string().replace("\"schema\":1", "\"schema\":2"));
    let outcome = person.run(&[&send[..], &["--ready-file", newer.to_str().unwrap()]].concat());
    assert!(outcome.stderr.contains("schema 2, where this program knows 1"), "{outcome:?}");
}

pub(crate) fn ready_file(server: &Server) -> serde_json::Value {
    serde_json::json!({
        "schema": 1, "endpoint_url": server.url(), "region": REGION, "account_id": "000000000000",
        "admin": {"access_key_id": ACCESS_KEY_ID, "secret_access_key": SECRET_ACCESS_KEY, "arn": "arn"},
        "instances": [{
            "instance_id": INSTANCE, "availability_zone": "us-east-1a", "os_user": "from-file",
            "ssh_host": "127.0.0.9", "ssh_port": 2222,
            "host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
        }],
    })
}
