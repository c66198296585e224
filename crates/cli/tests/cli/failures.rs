//! What every command that calls the service says when that fails, and how it exits: one table of both.

use crate::run::{INSTANCE, Person};
use crate::server::Server;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

const UNAUTHORIZED: &str = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors></Response>";

/// Each command, as somebody types it.
fn commands(person: &Person) -> Vec<Vec<String>> {
    let agents = person.home.path().join("a").display().to_string();
    let commands: [&[&str]; 8] = [
        &["send-key", INSTANCE, "--ssh-public-key", KEY],
        &["ssh", INSTANCE],
        &["sftp", INSTANCE],
        &["proxy", "--agents", &agents, "--", INSTANCE, "22", "alice"],
        // As whoever may not ask where the gateway is.
        &["console", INSTANCE, "--gateway", "192.0.2.1:2022", "--known-hosts", "/dev/null"],
        &["instances"],
        &["ansible-inventory", "--list"],
        &["whoami"],
    ];
    commands.iter().map(|words| words.iter().map(|word| (*word).to_owned()).collect()).collect()
}

fn all_fail(person: &Person, options: &[&str], code: i32, parts: &[&str]) {
    for command in commands(person) {
        let words: Vec<&str> = options.iter().copied().chain(command.iter().map(String::as_str)).collect();
        let outcome = person.run(&words);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (code, ""), "{words:?} {outcome:?}");
        assert!(parts.iter().all(|part| outcome.stderr.contains(part)), "{words:?} {outcome:?}");
        assert!(outcome.stderr.contains("\nhint: "), "{words:?} {outcome:?}");
    }
}

#[test]
fn every_command_exits_by_the_table_and_says_what_helps() {
    let server = Server::start(400, r#"{"__type":"ThrottlingException","Message":"Server is busy!"}"#);
    server.describe([(403, UNAUTHORIZED.to_owned())]);
    let person = || Person::of(&server).with("AWS_MAX_ATTEMPTS", "1");
    let no_credentials = [
        "error: no credentials: AWS_ACCESS_KEY_ID is not set; there is no ",
        "/.aws/credentials; there is no ",
        "hint: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`",
    ];
    all_fail(&person().with("AWS_ACCESS_KEY_ID", ""), &[], 253, &no_credentials);
    all_fail(&person().with("AWS_REGION", ""), &[], 253, &["error: no region", "hint: give --region"]);
    all_fail(&person().with("AWS_REGION", "no region!"), &[], 253, &["hint: `instance-connect --help` has"]);
    all_fail(&person(), &["--endpoint-url", "http://10.0.0.1"], 253, &["hint: --allow-plain-http"]);
    all_fail(
        &person(),
        &["--endpoint-url", "http://127.0.0.1:9"],
        255,
        &["cannot connect to 127.0.0.1:9", "hint: is the service there?"],
    );
    let id = "(request id 0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11)";
    all_fail(&person(), &[], 254, &[id]);
    all_fail(
        &person().with("AWS_SECRET_ACCESS_KEY", "wrong"),
        &[],
        254,
        &[id, "the secret key may belong to another"],
    );
    all_fail(
        &person().with("AWS_ACCESS_KEY_ID", "AKIDUNKNOWN0000000"),
        &[],
        254,
        &[id, "does not know the access key"],
    );
    for command in commands(&person()) {
        let words: Vec<&str> = command.iter().map(String::as_str).chain(["--no-such-option"]).collect();
        // ssh's own words come behind `--`; without, they are a mistake like any other.
        assert_eq!(person().run(&words).code, 252, "{words:?}");
    }
}

/// By how much, and with whom. An answer that anybody on the way could have made is believed by no one, and told all the same.
#[test]
fn every_command_says_how_wrong_the_clock_is() {
    let server = Server::with_clock(750, vec![(200, "")]);
    let url = server.url().replace("127.0.0.1", "0.0.0.0");
    let person = Person::of(&server).with("AWS_ENDPOINT_URL", &url);
    let clock = "hint: this machine's clock is 12 minutes behind the service's; set it, for example by NTP\n";
    all_fail(&person, &["--allow-plain-http"], 254, &["error: InvalidSignatureException: Signature ", clock]);
}
