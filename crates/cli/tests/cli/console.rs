//! `console`: who is asked what, what ssh is told, and what a person is told where there is no session.

use crate::run::{INSTANCE, Outcome, Person};
use crate::send_key::ready_file;
use crate::server::{ACCESS_KEY_ID, SECRET_ACCESS_KEY, Server, item, page};
use crate::ssh::{HOST_KEY, PRINT, option};
use serde_json::{Value, json};

const OTHER_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

/// What `ssh-keygen -l` says of [`HOST_KEY`].
const FINGERPRINT: &str = "SHA256:";

fn gateway(address: &str, port: u16, keys: &[&str]) -> Value {
    let keys = keys.iter().map(|key| json!({ "PublicKey": key })).collect::<Value>();
    json!({ "Version": "0.1.0", "Address": address, "Port": port, "HostKeys": keys })
}

/// A server with one gateway, and somebody who may use it.
fn at(address: &str) -> (Server, Person) {
    let server = Server::success();
    server.administrate([json!({ "Gateways": [gateway(address, 2022, &[HOST_KEY])] })]);
    let person = Person::of(&server);
    person.script("ssh", &format!("{PRINT}\ncat \"$TMPDIR\"/*/known_hosts 2>/dev/null; exit 0"));
    (server, person)
}

fn denied(action: &str) -> Value {
    let message = format!(
        "User: arn:aws:iam::111122223333:user/alice is not authorized to perform: {action} on resource: *"
    );
    json!({ "__type": "AccessDeniedException", "Message": message })
}

fn asked(server: &Server) -> Vec<String> {
    server.administered.lock().unwrap().iter().map(|(operation, _)| operation.clone()).collect()
}

/// The key is pushed for the line, ssh goes where the service says, and believes nobody but the gateway.
#[test]
fn a_session_by_way_of_the_gateway_that_the_service_names() {
    let (server, person) = at("192.0.2.1");
    let outcome = person.run(&["console", INSTANCE]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    let push = server.push();
    assert_eq!(push["InstanceId"], INSTANCE);
    assert!(push.get("InstanceOSUser").is_none() && push["SSHPublicKey"].as_str().unwrap().len() == 80);
    for (name, value) in [
        ("StrictHostKeyChecking", "yes"),
        ("GlobalKnownHostsFile", "/dev/null"),
        ("IdentitiesOnly", "yes"),
        ("RequestTTY", "force"),
        ("RemoteCommand", "none"),
        ("PreferredAuthentications", "publickey"),
        ("ClearAllForwardings", "yes"),
        ("ForwardAgent", "no"),
        ("ForwardX11", "no"),
        ("ControlPath", "none"),
        ("HostName", "192.0.2.1"),
    ] {
        assert_eq!(option(&outcome, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(option(&outcome, "EscapeChar"), None);
    let alias = option(&outcome, "HostKeyAlias").unwrap();
    assert!(outcome.stdout.contains(&format!("-p\n2022\n-l\n{INSTANCE}.port0\n")), "{outcome:?}");
    assert!(
        outcome.stdout.ends_with(&format!("--\n{INSTANCE}.port0@192.0.2.1\n{alias} {HOST_KEY}\n")),
        "{outcome:?}"
    );
    assert_eq!(asked(&server), ["DescribeSerialConsole"]);
    person.assert_clean();
}

/// Options of ours come before what the caller's files say, as OpenSSH itself reads both.
#[test]
fn openssh_takes_the_options_whatever_the_callers_files_say() {
    let (_server, person) = at("192.0.2.1");
    let config = person.file(
        "config",
        "RequestTTY no\nRemoteCommand uptime\nLocalForward 8080 localhost:80\nForwardX11 yes\nEscapeChar %\n\
         StrictHostKeyChecking no\nHostName 192.0.2.66\nUser root\nForwardAgent yes\nPort 22\n",
    );
    std::fs::remove_file(person.home.path().join("bin/ssh")).unwrap();
    let outcome = person.run(&["console", INSTANCE, "--", "-G", "-F", config.to_str().unwrap()]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    let has = |line: &str| outcome.stdout.lines().any(|printed| printed == line);
    for line in [
        &format!("user {INSTANCE}.port0"),
        "hostname 192.0.2.1",
        "port 2022",
        "clearallforwardings yes",
        "forwardx11 no",
        "forwardagent no",
        "escapechar %",
    ] {
        assert!(has(line), "{line}: {outcome:?}");
    }
    assert!(
        has("requesttty force") && (has("stricthostkeychecking true") || has("stricthostkeychecking yes"))
    );
    assert!(!outcome.stdout.contains("uptime") && !outcome.stdout.contains("localforward"), "{outcome:?}");
    person.assert_clean();
}

/// Whoever looks on asks for that, and never takes the place of the writer.
#[test]
fn a_watcher_pushes_no_key_for_writing() {
    let (server, person) = at("192.0.2.1");
    let gateways = json!({ "Gateways": [gateway("192.0.2.1", 2022, &[HOST_KEY])] });
    server.administrate([gateways, json!({ "Success": true })]);
    let outcome = person.run(&["console", INSTANCE, "--watch"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    assert!(outcome.stdout.contains(&format!("--\n{INSTANCE}.port0@192.0.2.1\n")), "{outcome:?}");
    let administered = server.administered.lock().unwrap();
    let (operation, parameters) = administered.last().unwrap();
    assert_eq!((operation.as_str(), &parameters["InstanceId"]), ("WatchSerialConsole", &json!(INSTANCE)));
    assert!(parameters["SSHPublicKey"].as_str().unwrap().starts_with("ssh-ed25519 "));
    assert!(server.pushes.lock().unwrap().is_empty());
    person.assert_clean();
}

/// A gateway that listens everywhere is where the service is.
#[test]
fn a_gateway_that_listens_everywhere_is_at_the_endpoint() {
    for address in ["0.0.0.0", "::"] {
        let (_server, person) = at(address);
        let outcome = person.run(&["console", INSTANCE, "--dry-run"]);
        assert!(outcome.stdout.ends_with(&format!(" -- {INSTANCE}.port0@127.0.0.1\n")), "{outcome:?}");
    }
}

#[test]
fn a_name_is_looked_up() {
    let (server, person) = at("192.0.2.1");
    server.describe([(200, page(&item(INSTANCE, "web", "10.0.0.7", "running")))]);
    for name in ["web", "web.ec2"] {
        let outcome = person.run(&["console", name]);
        assert!(outcome.stdout.contains(&format!("--\n{INSTANCE}.port0@192.0.2.1\n")), "{outcome:?}");
    }
    server.describe([(200, page(""))]);
    let outcome = person.run(&["console", "web"]);
    assert_eq!(outcome.code, 254);
    assert!(outcome.stderr.contains("no running instance has the Name tag web\nhint: "), "{outcome:?}");
    assert_eq!(server.pushes.lock().unwrap().len(), 2);
}

/// The ready file names the gateway, so that nobody has to be asked; options come before it.
#[test]
fn a_ready_file_says_where_the_gateway_is() {
    let server = Server::success();
    let mut ready = ready_file(&server);
    ready["serial_console"] = json!({ "host": "127.0.0.8", "port": 2023, "host_key": OTHER_KEY });
    let person = Person::new();
    let path = person.file("ready.json", &ready.to_string());
    let ready_file = ["--ready-file", path.to_str().unwrap()];
    person.script("ssh", &format!("{PRINT}\ncat \"$TMPDIR\"/*/known_hosts"));
    let console = |more: &[&str]| person.run(&[&["console", INSTANCE], &ready_file[..], more].concat());
    let outcome = console(&[]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    assert!(outcome.stdout.contains("-p\n2023\n") && outcome.stdout.ends_with(&format!("{OTHER_KEY}\n")));
    assert_eq!(asked(&server), [""; 0]);

    server.administrate([json!({ "Gateways": [gateway("192.0.2.1", 2022, &[HOST_KEY])] })]);
    let outcome = console(&["--gateway", "[2001:db8::1]:2024"]);
    assert!(outcome.stdout.contains("-p\n2024\n") && outcome.stdout.contains("HostName=2001:db8::1\n"));
    // Another gateway than the file's has not its key.
    assert!(outcome.stdout.ends_with(&format!("{HOST_KEY}\n")), "{outcome:?}");

    for (member, value, message) in [
        ("host", json!("-oProxyCommand=x"), "has no host and port to connect to"),
        ("port", json!(0), "has no host and port to connect to"),
        ("host_key", json!(format!("{HOST_KEY}\n* {HOST_KEY}")), "has no host key: "),
    ] {
        let mut broken = ready.clone();
        broken["serial_console"][member] = value;
        person.file("ready.json", &broken.to_string());
        let outcome = console(&[]);
        assert_eq!(outcome.code, 253, "{outcome:?}");
        assert!(outcome.stderr.contains(message), "{outcome:?}");
    }
    person.assert_clean();
}

/// Whoever may not ask where the gateway is can say it, and says whom to trust; whom nobody trusts is not connected to.
#[test]
fn whoever_may_not_ask_names_the_gateway() {
    let (server, person) = at("192.0.2.1");
    server.administrate([denied("instance-connect:DescribeSerialConsole")]);
    let outcome = person.run(&["console", INSTANCE]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (254, ""), "{outcome:?}");
    for part in ["allows instance-connect:DescribeSerialConsole", "--gateway HOST:PORT --known-hosts FILE"] {
        assert!(outcome.stderr.contains(part), "{outcome:?}");
    }
    assert!(server.pushes.lock().unwrap().is_empty());

    let named = ["console", INSTANCE, "--gateway", "192.0.2.9:2022"];
    let outcome = person.run(&named);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(option(&outcome, "UserKnownHostsFile"), None);
    assert_eq!(option(&outcome, "StrictHostKeyChecking").as_deref(), Some("yes"));

    server.administrate([json!({})]);
    let file = person.file("known", &format!("[192.0.2.9]:2022 {HOST_KEY}\n"));
    let outcome = person.run(&[&named[..], &["--known-hosts", file.to_str().unwrap()]].concat());
    assert_eq!((outcome.code, option(&outcome, "HostKeyAlias")), (0, None), "{outcome:?}");
    assert!(outcome.stdout.ends_with(&format!("@192.0.2.9\n[192.0.2.9]:2022 {HOST_KEY}\n")), "{outcome:?}");
    assert_eq!(asked(&server), [""; 0]);
    person.assert_clean();
}

/// What a push is refused with, in the service's words and with what helps.
#[test]
fn refused_pushes_start_no_ssh_and_say_what_helps() {
    let in_use = |what: &str| {
        format!(
            "The instance's serial console is in use. arn:aws:iam::1:user/bob {what} 2031-02-12T02:05:06Z."
        )
    };
    for (code, message, part) in [
        (
            "SerialConsoleAccessDisabledException",
            "off".to_owned(),
            "instance-connect account serial-console enable\n",
        ),
        (
            "SerialConsoleSessionLimitExceededException",
            in_use("has had it since"),
            "user/bob has had it since 2031-02-12T02:05:06Z",
        ),
        ("SerialConsoleSessionLimitExceededException", in_use("has had it since"), "--watch` looks on"),
        (
            "SerialConsoleSessionLimitExceededException",
            in_use("has left it a moment ago, at"),
            "half a minute",
        ),
        ("EC2InstanceTypeInvalidException", "none".to_owned(), "lines.toml (docs/console.md)"),
        ("EC2InstanceStateInvalidException", "stopped".to_owned(), "the instance must be running"),
        ("SerialConsoleSessionUnavailableException", "x".to_owned(), "whether its agent's link is open"),
        ("SerialConsoleSessionUnsupportedException", "x".to_owned(), "reboot the instance"),
        ("ThrottlingException", "busy".to_owned(), "three keys for a line within ten minutes"),
        (
            "AccessDeniedException",
            "not authorized to perform: ec2-instance-connect:SendSerialConsoleSSHPublicKey on resource: x"
                .to_owned(),
            "a policy that allows ec2-instance-connect:SendSerialConsoleSSHPublicKey on this instance\n",
        ),
    ] {
        let answer = json!({ "__type": code, "Message": message }).to_string();
        let server = Server::start(400, answer.leak());
        server.administrate([json!({ "Gateways": [gateway("192.0.2.1", 2022, &[HOST_KEY])] })]);
        let person = Person::of(&server).with("AWS_MAX_ATTEMPTS", "1");
        person.script("ssh", "echo started");
        let outcome = person.run(&["console", INSTANCE]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (254, ""), "{outcome:?}");
        assert!(outcome.stderr.contains(code) && outcome.stderr.contains(part), "{code}: {outcome:?}");
        person.assert_clean();
    }
    let server = Server::start(200, r#"{"RequestId":"x","Success":false}"#);
    server.administrate([json!({ "Gateways": [gateway("192.0.2.1", 2022, &[HOST_KEY])] })]);
    let outcome = Person::of(&server).run(&["console", INSTANCE]);
    assert!(outcome.code == 254 && outcome.stderr.contains("did not put the key in place"), "{outcome:?}");
}

#[test]
fn a_watcher_who_is_refused_is_told_what_to_ask_for() {
    let (server, person) = at("192.0.2.1");
    let gateways = json!({ "Gateways": [gateway("192.0.2.1", 2022, &[HOST_KEY])] });
    server.administrate([gateways, denied("instance-connect:WatchSerialConsole")]);
    let outcome = person.run(&["console", INSTANCE, "--watch"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (254, ""), "{outcome:?}");
    assert!(
        outcome.stderr.contains("instance-connect:WatchSerialConsole") && outcome.stderr.contains("hint: ")
    );
    person.assert_clean();
}

/// ssh knows nothing of the service; its code is ours, and only its own failure is explained.
#[test]
fn where_ssh_fails_the_gateway_is_named() {
    let (_server, person) = at("192.0.2.1");
    for (code, hint) in
        [(0, ""), (1, ""), (255, "hint: the gateway is 192.0.2.1 port 2022; where it is reached at another")]
    {
        person.script("ssh", &format!("exit {code}"));
        let outcome = person.run(&["console", INSTANCE]);
        assert_eq!(outcome.code, code, "{outcome:?}");
        assert!(
            outcome.stderr.starts_with(hint) && outcome.stderr.is_empty() == hint.is_empty(),
            "{outcome:?}"
        );
    }
    // ssh has met the gateway and was let go by it, or has let it go: `~.` ends with the same code.
    person.script(
        "ssh",
        "SSH_AUTH_SOCK=$(printf '%s\\n' \"$@\" | sed -n 's/^IdentityAgent=\"\\(.*\\)\"$/\\1/p')\n\
         export SSH_AUTH_SOCK\n\
         key=$(dirname \"$SSH_AUTH_SOCK\")/key.pub\n\
         echo message | ssh-keygen -q -Y sign -f \"$key\" -n test > \"$HOME/signature\" || exit 92\n\
         exit 255",
    );
    let outcome = person.run(&["console", INSTANCE]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (255, ""), "{outcome:?}");
    person.assert_clean();
}

fn calls(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap()
}

#[test]
fn what_is_done_without_attaching() {
    let (server, person) = at("192.0.2.1");
    let bob = "arn:aws:iam::111122223333:user/bob";
    let session = json!({ "PrincipalArn": bob, "PushRequestId": "r-1", "State": "attached", "Since": "2031-02-12T02:05:06Z" });
    let watcher = json!({ "PrincipalArn": "arn:\u{1b}[2J", "PushRequestId": "r-2" });
    let busy = json!({ "InstanceId": INSTANCE, "Session": session, "Watchers": [watcher] });
    let free = json!({ "InstanceId": INSTANCE, "Session": null, "Watchers": [] });
    for (options, answer, operation, parameters, text) in [
        (
            &["--who"][..],
            busy,
            "GetSerialConsoleSession",
            json!({ "InstanceId": INSTANCE }),
            format!(
                "Instance: {INSTANCE}\nWriter: {bob}\nState: attached\nSince: 2031-02-12T02:05:06Z\n\
                 Request id of the push: r-1\nWatchers: arn:\\u{{1b}}[2J\n"
            ),
        ),
        (
            &["--who"],
            free,
            "GetSerialConsoleSession",
            json!({ "InstanceId": INSTANCE }),
            format!("Instance: {INSTANCE}\nWriter: -\nWatchers: -\n"),
        ),
        (
            &["--break"],
            json!({}),
            "SendSerialBreak",
            json!({ "InstanceId": INSTANCE }),
            format!("a BREAK is sent to the serial line of {INSTANCE}\n"),
        ),
        (
            &["--break", "--break-milliseconds", "3000"],
            json!({}),
            "SendSerialBreak",
            json!({ "InstanceId": INSTANCE, "DurationMilliseconds": 3000 }),
            format!("a BREAK is sent to the serial line of {INSTANCE}\n"),
        ),
        (
            &["--terminate"],
            json!({ "Ended": { "PrincipalArn": bob, "PushRequestId": "r-1" } }),
            "TerminateSerialConsoleSession",
            json!({ "InstanceId": INSTANCE }),
            format!("{bob} has lost the serial line of {INSTANCE} (request id of the push r-1)\n"),
        ),
        (
            &["--terminate"],
            json!({ "Ended": null }),
            "TerminateSerialConsoleSession",
            json!({ "InstanceId": INSTANCE }),
            format!("nobody had the serial line of {INSTANCE}\n"),
        ),
    ] {
        server.administrate([answer.clone()]);
        let outcome = person.run(&[&["console", INSTANCE], options].concat());
        assert_eq!((outcome.code, outcome.stdout.as_str()), (0, text.as_str()), "{outcome:?}");
        assert_eq!(*server.administered.lock().unwrap(), [(operation.to_owned(), parameters)]);
        let outcome = person.run(&[&["console", INSTANCE, "--output", "json"], options].concat());
        assert_eq!(calls(&outcome), answer);
    }
    assert!(server.pushes.lock().unwrap().is_empty());
}

#[test]
fn a_break_needs_somebody_at_the_line() {
    let (server, person) = at("192.0.2.1");
    let message = format!("Nobody has a session at the serial console of {INSTANCE}.");
    server.administrate([json!({ "__type": "NoSuchEntity", "Message": message })]);
    let outcome = person.run(&["console", INSTANCE, "--break"]);
    assert_eq!(outcome.code, 254);
    assert!(
        outcome.stderr.contains(&format!("hint: attach first, by `instance-connect console {INSTANCE}`"))
    );
}

#[test]
fn fingerprints_as_ssh_keygen_shows_them() {
    let (server, person) = at("192.0.2.1");
    let key = person.file("key", HOST_KEY);
    let shown = std::process::Command::new("ssh-keygen").arg("-lf").arg(key).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let fingerprint = shown.split(' ').nth(1).unwrap();
    assert!(fingerprint.starts_with(FINGERPRINT), "{shown}");
    let answer = json!({ "Gateways": [
        gateway("192.0.2.1", 2022, &[HOST_KEY]), gateway("2001:db8::1", 2023, &[HOST_KEY]),
    ]});
    server.administrate([answer.clone()]);
    let outcome = person.run(&["console", "fingerprint"]);
    let line = format!("{fingerprint} ssh-ed25519");
    assert_eq!(outcome.stdout, format!("{line} 192.0.2.1:2022\n{line} [2001:db8::1]:2023\n"), "{outcome:?}");
    // Wherever the options stand.
    for words in
        [&["console", "fingerprint", "--output", "json"], &["console", "--output", "json", "fingerprint"]]
    {
        assert_eq!(calls(&person.run(words)), answer);
    }
    server.administrate([json!({ "Gateways": [] })]);
    for words in [&["console", "fingerprint"], &["console", INSTANCE]] {
        let outcome = person.run(words);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (254, ""), "{outcome:?}");
        assert!(outcome.stderr.contains("no gateway of the serial lines is running\nhint: "), "{outcome:?}");
    }
}

#[test]
fn mistakes() {
    let (server, person) = at("192.0.2.1");
    for (words, message) in [
        (&["console"][..], "required arguments were not provided"),
        (&["console", "i-short"], "it is no instance id"),
        (&["console", "a/b"], "it is neither an instance id nor a name"),
        (&["console", INSTANCE, "uptime"], "unexpected argument 'uptime'"),
        (&["console", INSTANCE, "--", "uptime"], "a serial line runs no command and forwards nothing"),
        (&["console", INSTANCE, "--", "-A"], "a serial line runs no command and forwards nothing"),
        (&["console", INSTANCE, "--", "-p22"], "use --gateway HOST:PORT instead of -p"),
        (&["console", INSTANCE, "--", "-l", "root"], "use INSTANCE instead of -l"),
        (&["console", INSTANCE, "--watch", "--break"], "cannot be used with"),
        (&["console", INSTANCE, "--terminate", "--who"], "cannot be used with"),
        (&["console", INSTANCE, "--who", "--gateway", "h:1"], "cannot be used with"),
        (&["console", INSTANCE, "--break", "--dry-run"], "cannot be used with"),
        (&["console", INSTANCE, "--break", "--", "-v"], "cannot be used with"),
        (&["console", INSTANCE, "--break-milliseconds", "250"], "required arguments were not provided"),
        (&["console", INSTANCE, "--break", "--break-milliseconds", "0"], "0 is not in 1..=3000"),
        (&["console", INSTANCE, "--break", "--break-milliseconds", "3001"], "3001 is not in 1..=3000"),
        (&["console", INSTANCE, "--gateway=-oProxyCommand=x:22"], "it is HOST or HOST:PORT"),
        (&["console", INSTANCE, "--known-hosts", "/nowhere"], "known hosts /nowhere: No such"),
        (&["console", INSTANCE, "--output", "json"], "a session at a console is no JSON"),
        (&["console", INSTANCE, "fingerprint"], "takes no instance and nothing else"),
        (&["console", "--who", "fingerprint"], "takes no instance and nothing else"),
        (&["console", "fingerprint", INSTANCE], "unexpected argument"),
    ] {
        let outcome = person.run(words);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (252, ""), "{words:?} {outcome:?}");
        assert!(outcome.stderr.contains(message), "{words:?} {outcome:?}");
    }
    assert!(server.pushes.lock().unwrap().is_empty());
    person.assert_clean();
}

/// AWS has serial consoles and a push for them; where its gateway is, it does not say, and the rest is ours alone.
#[test]
fn at_aws_only_the_push_is_there() {
    let person = Person::new()
        .with("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
        .with("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
        .with("AWS_REGION", "eu-north-1");
    let outcome = person.run(&["console", INSTANCE]);
    assert_eq!(outcome.code, 252, "{outcome:?}");
    assert!(
        outcome.stderr.contains("--gateway serial-console.ec2-instance-connect.eu-north-1.aws"),
        "{outcome:?}"
    );
    for words in
        [&["console", INSTANCE, "--watch"][..], &["console", INSTANCE, "--who"], &["console", "fingerprint"]]
    {
        let outcome = person.run(words);
        assert_eq!(outcome.code, 253, "{outcome:?}");
        assert!(outcome.stderr.contains("AWS has no such command"), "{outcome:?}");
    }
    let named =
        ["console", INSTANCE, "--gateway", "serial-console.ec2-instance-connect.eu-north-1.aws", "--dry-run"];
    let outcome = person.run(&named);
    assert!(outcome.code == 0 && outcome.stdout.contains(" -p 22 "), "{outcome:?}");
}

#[test]
fn help_says_how_to_leave() {
    let outcome = Person::new().run(&["console", "--help"]);
    assert_eq!(outcome.code, 0);
    for part in [
        "Usage: instance-connect console [OPTIONS] INSTANCE [-- OPTION...]\n       instance-connect console fingerprint",
        "Without an instance:\n  fingerprint  Print the gateways' host keys",
        "Examples:\n  instance-connect console i-0123456789abcdef0            attach; Ctrl-] . leaves\n",
        "`ssh`, `sftp` and `console`",
    ] {
        assert!(outcome.stdout.contains(part), "{part}: {outcome:?}");
    }
}
