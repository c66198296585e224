//! `ssh`: the key, the agent, the command line, and how it ends.

use crate::run::{INSTANCE, Outcome, Person, outcome};
use crate::send_key::ready_file;
use crate::server::{SECRET_ACCESS_KEY, Server, item, page};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// A person with a ready file in the environment.
fn person(server: &Server) -> Person {
    let person = Person::new();
    let path = person.file("ready.json", &ready_file(server).to_string());
    person.with("INSTANCE_CONNECT_READY_FILE", path.to_str().unwrap())
}

/// The stub prints its arguments, one a line.
pub(crate) const PRINT: &str = "printf '%s\\n' \"$@\"";

/// The value of an option in printed arguments.
pub(crate) fn option(outcome: &Outcome, name: &str) -> Option<String> {
    let prefix = format!("{name}=");
    outcome.stdout.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
}

#[test]
fn the_command_line() {
    let server = Server::success();
    let person = person(&server);
    person.script("ssh", PRINT);
    let outcome = person.run(&["ssh", INSTANCE, "--", "-v", "-L", "1:b:2", "uptime", "-p"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let place = option(&outcome, "IdentityAgent").unwrap();
    let place = place.trim_matches('"').strip_suffix("/agent").unwrap();
    assert!(place.starts_with(person.temporary().to_str().unwrap()));
    let expected = [
        "-o",
        &format!("IdentityAgent=\"{place}/agent\""),
        "-o",
        &format!("IdentityFile=\"{place}/key.pub\""),
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "PubkeyAuthentication=yes",
        "-o",
        "PKCS11Provider=none",
        "-o",
        "AddKeysToAgent=no",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "NoHostAuthenticationForLocalhost=no",
        "-o",
        "VerifyHostKeyDNS=no",
        "-o",
        &format!("UserKnownHostsFile=\"{place}/known_hosts\""),
        "-o",
        "GlobalKnownHostsFile=/dev/null",
        "-o",
        "KnownHostsCommand=none",
        "-o",
        "UpdateHostKeys=no",
        "-o",
        &format!("HostKeyAlias={INSTANCE}"),
        "-o",
        "HostName=127.0.0.9",
        "-o",
        "CanonicalizeHostname=no",
        "-p",
        "2222",
        "-l",
        "from-file",
        "-v",
        "-L",
        "1:b:2",
        "-o",
        "ControlMaster=no",
        "-o",
        "ControlPath=none",
        "-o",
        "ForwardAgent=no",
        "--",
        "from-file@127.0.0.9",
        "uptime",
        "-p",
    ];
    assert_eq!(lines, expected);
    person.assert_clean();
}

/// What is pushed is what the agent holds, what `IdentityFile` names, and what signs; the private key is in no file, no
/// argument and no variable. OpenSSH's own programs say so.
#[test]
fn the_agent_as_openssh_sees_it() {
    let server = Server::success();
    let person = person(&server);
    person.script(
        "ssh",
        "SSH_AUTH_SOCK=$(printf '%s\\n' \"$@\" | sed -n 's/^IdentityAgent=\"\\(.*\\)\"$/\\1/p')\n\
         export SSH_AUTH_SOCK\n\
         place=$(dirname \"$SSH_AUTH_SOCK\")\n\
         ssh-add -L || exit 91\n\
         cat \"$place/key.pub\" \"$place/known_hosts\"\n\
         echo message | ssh-keygen -q -Y sign -f \"$place/key.pub\" -n test > \"$HOME/signature\" || exit 92\n\
         { printf 'me '; cat \"$place/key.pub\"; } > \"$HOME/signers\"\n\
         echo message | ssh-keygen -q -Y verify -f \"$HOME/signers\" -I me -n test -s \"$HOME/signature\" || exit 93\n\
         ssh-add -D 2>/dev/null && exit 94\n\
         ssh-add -x </dev/null 2>/dev/null && exit 95\n\
         stat -c '%a %n' \"$place\" \"$place\"/*\n\
         grep -l 'PRIVATE KEY' \"$place\"/key.pub \"$place\"/known_hosts && exit 96\n\
         exit 7",
    );
    let outcome = person.run(&["ssh", INSTANCE]);
    assert_eq!(outcome.code, 7, "{outcome:?}");
    let pushed = server.push()["SSHPublicKey"].as_str().unwrap().to_owned();
    assert_eq!(pushed.len(), 80);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[0], format!("{pushed} instance-connect"));
    assert_eq!(lines[1], pushed);
    assert!(lines[2].starts_with(&format!("{INSTANCE} ssh-ed25519 AAAA")));
    let place = lines.iter().find(|line| line.starts_with("700 ")).unwrap().trim_start_matches("700 ");
    let in_place = |line: &&str| {
        line.split_once(' ').and_then(|(_, path)| path.strip_prefix(&format!("{place}/")).map(str::to_owned))
    };
    let names: Vec<String> = lines.iter().filter_map(in_place).collect();
    assert_eq!(names, ["agent", "key.pub", "known_hosts"]);
    person.assert_clean();
}

/// Each login has a key of its own.
#[test]
fn keys_are_never_used_again() {
    let server = Server::success();
    let person = person(&server);
    person.script("ssh", "exit 0");
    for _ in 0..2 {
        assert_eq!(person.run(&["ssh", INSTANCE]).code, 0);
    }
    let pushes = server.pushes.lock().unwrap();
    assert_ne!(pushes[0]["SSHPublicKey"], pushes[1]["SSHPublicKey"]);
}

#[test]
fn secrets_are_in_no_argument_and_no_debug_line() {
    let server = Server::success();
    let person = person(&server);
    person.script("ssh", &format!("{PRINT}\ncat /proc/$PPID/cmdline /proc/$PPID/environ | tr '\\0' '\\n'"));
    let outcome = person.run(&["--debug", "ssh", &format!("me@{INSTANCE}"), "true"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("debug: ssh -o 'IdentityAgent="), "{outcome:?}");
    assert!(outcome.stdout.lines().any(|line| line == "me@127.0.0.9"));
    for secret in [SECRET_ACCESS_KEY, "Signature=", "PRIVATE KEY"] {
        assert!(!format!("{outcome:?}").contains(secret), "{outcome:?}");
    }
}

#[test]
fn hosts_and_host_keys_by_option() {
    let server = Server::success();
    let person = Person::of(&server);
    person.script("ssh", &format!("{PRINT}\ncat \"$TMPDIR\"/*/known_hosts 2>/dev/null; exit 0"));
    let by_address = person.file("by_address", "[10.0.0.5]:2200 ssh-ed25519 AAAA\n");
    let by_id = person.file("by id", &format!("{INSTANCE} ssh-ed25519 AAAA\n"));
    let host = ["ssh", INSTANCE, "--host", "10.0.0.5"];

    let outcome =
        person.run(&[&host[..], &["--port", "2200", "--known-hosts", by_address.to_str().unwrap()]].concat());
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(
        outcome.stdout.ends_with("--\nec2-user@10.0.0.5\n[10.0.0.5]:2200 ssh-ed25519 AAAA\n"),
        "{outcome:?}"
    );
    assert_eq!(option(&outcome, "HostKeyAlias"), None);
    assert_eq!(option(&outcome, "GlobalKnownHostsFile").as_deref(), Some("/dev/null"));

    let outcome = person.run(&[&host[..], &["--known-hosts", by_id.to_str().unwrap()]].concat());
    assert_eq!(option(&outcome, "HostKeyAlias").as_deref(), Some(INSTANCE));

    // Without a file the caller's own known hosts count, and still no key is taken on trust.
    let outcome = person.run(&host);
    assert_eq!(option(&outcome, "UserKnownHostsFile"), None);
    assert_eq!(option(&outcome, "StrictHostKeyChecking").as_deref(), Some("yes"));
    assert!(outcome.stdout.contains("-p\n22\n"));
}

pub(crate) const HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp";

/// Where the caller names no file, the machine has to prove itself with a key that the service has pinned.
#[test]
fn host_keys_of_the_service() {
    let server = Server::success();
    let person = Person::of(&server);
    person.script("ssh", &format!("{PRINT}\ncat \"$TMPDIR\"/*/known_hosts; exit 255"));
    let told = serde_json::json!({ "HostKeys": [{ "PublicKey": HOST_KEY }], "IsChangePending": false });
    *server.host_keys.lock().unwrap() = (200, told.to_string());
    let host = ["ssh", INSTANCE, "--host", "10.0.0.5"];
    let outcome = person.run(&host);
    assert_eq!(outcome.code, 255, "{outcome:?}");
    assert!(outcome.stdout.ends_with(&format!("{INSTANCE} {HOST_KEY}\n")), "{outcome:?}");
    assert_eq!(option(&outcome, "HostKeyAlias").as_deref(), Some(INSTANCE));
    assert_eq!(option(&outcome, "StrictHostKeyChecking").as_deref(), Some("yes"));
    assert_eq!(option(&outcome, "GlobalKnownHostsFile").as_deref(), Some("/dev/null"));
    let advice = format!(
        "an administrator accepts them: instance-connect instance set {INSTANCE} --accept-host-keys\n"
    );
    assert!(
        outcome.stderr.starts_with("hint: if ssh refuses the host key") && outcome.stderr.ends_with(&advice)
    );

    // The pinned ones count, whatever else there is.
    let told = serde_json::json!({ "HostKeys": [{ "PublicKey": HOST_KEY }], "IsChangePending": true });
    *server.host_keys.lock().unwrap() = (200, told.to_string());
    let outcome = person.run(&host);
    assert!(
        outcome.stderr.starts_with(&format!("warning: {INSTANCE} reports other host keys")),
        "{outcome:?}"
    );
    assert!(outcome.stdout.ends_with(&format!("{INSTANCE} {HOST_KEY}\n")));

    person.assert_clean();
}

/// A service that tells none leaves the caller's own, and where ssh then fails the person is told why there are none.
#[test]
fn why_the_service_tells_no_host_keys() {
    let server = Server::success();
    let person = Person::of(&server);
    let file = person.file("known", &format!("{INSTANCE} ssh-ed25519 AAAA\n"));
    let none = "the service has no host key on record for i-0123456789abcdef0";
    for (status, answer, hint) in [
        (200, r#"{"HostKeys":[],"IsChangePending":false}"#, none),
        (200, r#"{"HostKeys":[{"PublicKey":"* ssh-ed25519 AAAA"}]}"#, none),
        (
            200,
            r#"{"HostKeys":[],"IsChangePending":true}"#,
            "is in use by another instance (two machines made",
        ),
        (
            400,
            r#"{"__type":"AccessDeniedException","Message":"not \u001b[31mallowed"}"#,
            "the service does not tell those of i-0123456789abcdef0",
        ),
    ] {
        *server.host_keys.lock().unwrap() = (status, answer.to_owned());
        person.script("ssh", &format!("{PRINT}\nexit 255"));
        let outcome = person.run(&["ssh", INSTANCE, "--host", "10.0.0.5"]);
        assert_eq!(option(&outcome, "UserKnownHostsFile"), None, "{answer}");
        assert_eq!(option(&outcome, "StrictHostKeyChecking").as_deref(), Some("yes"));
        assert!(outcome.stderr.starts_with("hint: if ssh knows no host key: "), "{outcome:?}");
        assert!(outcome.stderr.contains(hint), "{outcome:?}");
        assert!(!outcome.stderr.contains('\u{1b}'), "{outcome:?}");
        // Not where the caller has said whom to trust, and not where it is the remote command that has failed.
        let outcome =
            person.run(&["ssh", INSTANCE, "--host", "10.0.0.5", "--known-hosts", file.to_str().unwrap()]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (255, ""));
        person.script("ssh", "exit 1");
        let outcome = person.run(&["ssh", INSTANCE, "--host", "10.0.0.5"]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (1, ""));
    }
    person.assert_clean();
}

/// The ready file's key is not for another host.
#[test]
fn a_host_by_option_beats_the_ready_file() {
    let server = Server::success();
    let person = person(&server);
    person.script("ssh", PRINT);
    let outcome = person.run(&["ssh", INSTANCE, "--host", "10.0.0.5"]);
    assert!(
        outcome.stdout.contains("-p\n22\n") && outcome.stdout.ends_with("--\nfrom-file@10.0.0.5\n"),
        "{outcome:?}"
    );
    assert_eq!(option(&outcome, "HostKeyAlias"), None);
}

/// Where nobody says the address, EC2's DescribeInstances does.
#[test]
fn an_address_that_is_looked_up() {
    let server = Server::success();
    let person = Person::of(&server);
    server.describe([(200, page(&item(INSTANCE, "web", "10.0.0.7", "running")))]);
    for (program, port) in [("ssh", "-p"), ("sftp", "-P")] {
        person.script(program, PRINT);
        let outcome = person.run(&[program, &format!("alice@{INSTANCE}")]);
        assert!(outcome.stdout.contains(&format!("{port}\n22\n")), "{outcome:?}");
        assert!(outcome.stdout.ends_with("--\nalice@10.0.0.7\n"), "{outcome:?}");
    }
    server.describe([(200, page(&item(INSTANCE, "web", "10.0.0.7", "stopped")))]);
    let outcome = person.run(&["ssh", INSTANCE]);
    assert_eq!(outcome.code, 254);
    assert!(outcome.stderr.starts_with(&format!("error: {INSTANCE} is stopped\nhint: ")), "{outcome:?}");
    assert_eq!(server.pushes.lock().unwrap().len(), 2);
    person.assert_clean();
}

#[test]
fn sftp_takes_addresses_in_brackets() {
    let person = Person::new();
    let outcome = person.run(&["sftp", INSTANCE, "--host", "::1", "--dry-run"]);
    assert!(
        outcome.stdout.starts_with("sftp -o ") && outcome.stdout.ends_with(" -- 'ec2-user@[::1]'\n"),
        "{outcome:?}"
    );
}

#[test]
fn the_callers_agent_is_forwarded_when_asked() {
    let server = Server::success();
    let person = person(&server).with("SSH_AUTH_SOCK", "/run/my agent");
    person.script("ssh", PRINT);
    let outcome = person.run(&["ssh", INSTANCE, "--", "-A"]);
    assert_eq!(option(&outcome, "ForwardAgent").as_deref(), Some("\"/run/my agent\""), "{outcome:?}");
    assert!(!outcome.stdout.lines().any(|line| line == "-A"));
}

#[test]
fn a_dry_run_does_nothing() {
    let person = Person::new();
    person.script("ssh", "echo started");
    let outcome = person.run(&["ssh", INSTANCE, "--host", "10.0.0.5", "--dry-run", "echo", "a b"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    let line = outcome.stdout.trim_end();
    assert!(
        line.starts_with("ssh -o 'IdentityAgent=\"") && line.ends_with(" -- ec2-user@10.0.0.5 echo 'a b'"),
        "{line}"
    );
    person.assert_clean();
}

#[test]
fn mistakes() {
    let server = Server::success();
    for (arguments, code, message) in [
        (
            &["ssh", INSTANCE][..],
            254,
            "error: the service describes no instance i-0123456789abcdef0 (request id x)\nhint: check the instance id and the region (--region); or",
        ),
        (&["sftp", INSTANCE, "--host", "h", "--", "file"], 252, "error: sftp takes no command here"),
        (&["ssh", INSTANCE, "--host", "-oProxyCommand=x"], 252, "unexpected argument"),
        (&["ssh", INSTANCE, "--host=-oProxyCommand=x"], 252, "is not a host name or an address"),
        (&["ssh", INSTANCE, "--host", "h", "--port", "0"], 252, "0 is not in 1..=65535"),
        (
            &["ssh", INSTANCE, "--host", "h", "--known-hosts", "/nowhere"],
            252,
            "error: known hosts /nowhere: No such",
        ),
        (
            &["ssh", INSTANCE, "--host", "h", "--", "-l", "root"],
            252,
            "error: use USER@INSTANCE or --os-user instead of -l",
        ),
        (&["ssh", INSTANCE, "--host", "h", "--", "-A"], 252, "error: -A: there is no agent to forward"),
    ] {
        let person = Person::of(&server);
        let outcome = person.run(arguments);
        assert_eq!(outcome.code, code, "{arguments:?} {outcome:?}");
        assert!(outcome.stderr.contains(message), "{arguments:?} {outcome:?}");
        person.assert_clean();
    }
    let person = person(&server);
    let outcome = person.run(&["ssh", "i-00000000000000000"]);
    assert!(
        outcome
            .stderr
            .contains("hint: the ready file has these instances: i-0123456789abcdef0; or give --host"),
        "{outcome:?}"
    );
    assert!(server.pushes.lock().unwrap().is_empty());
}

#[test]
fn no_ssh_on_the_machine() {
    let server = Server::success();
    let person = person(&server);
    let outcome = outcome(person.command(&["ssh", INSTANCE]).env("PATH", "/nonexistent").output().unwrap());
    assert_eq!(outcome.code, 255);
    assert_eq!(outcome.stderr, "error: there is no ssh on this machine\nhint: install the OpenSSH client\n");
    person.assert_clean();
}

#[test]
fn a_refused_push_starts_no_ssh() {
    let server = Server::start(400, r#"{"__type":"EC2InstanceUnavailableException","Message":"no agent"}"#);
    let person = person(&server);
    person.script("ssh", "echo started");
    let outcome = person.run(&["ssh", INSTANCE]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (254, ""), "{outcome:?}");
    assert!(outcome.stderr.contains("hint: the instance cannot be reached at the moment"));
    person.assert_clean();
}

/// A signal goes to ssh; we wait for it, take its exit code, and leave nothing behind.
#[test]
fn signals() {
    for signal in ["INT", "TERM", "HUP", "QUIT"] {
        let server = Server::success();
        let person = person(&server);
        // Waits for a line that never comes, without a process of its own that would have to be ended too.
        let wait = "exec 3<>\"$HOME/fifo\"; read line <&3";
        person.script("ssh", &format!("trap 'echo got {signal}; exit 42' {signal}\necho ready\n{wait}"));
        assert!(Command::new("mkfifo").arg(person.home.path().join("fifo")).status().unwrap().success());
        let mut child = person.command(&["ssh", INSTANCE]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        assert_eq!(lines.next().unwrap().unwrap(), format!("got {signal}"));
        assert_eq!(child.wait().unwrap().code(), Some(42));
        person.assert_clean();
    }
}

/// A signal that ends ssh is told as a shell tells it.
#[test]
fn ssh_ended_by_a_signal() {
    let server = Server::success();
    let person = person(&server);
    person.script("ssh", "kill -KILL $$");
    assert_eq!(person.run(&["ssh", INSTANCE]).code, 137);
    person.assert_clean();
}
