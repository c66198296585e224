//! `whoami`.

use crate::run::Person;
use crate::server::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, Server};
use serde_json::{Value, json};

const ARN: &str = "arn:aws:iam::111122223333:user/alice";

#[test]
fn in_each_format() {
    let server = Server::success();
    let person = Person::of(&server);
    let url = format!("{}/", server.url());
    let table = format!(
        "ARN: {ARN}\nAccount: 111122223333\nUser id: AIDAEXAMPLE00000000\nAccess key: {ACCESS_KEY_ID}\n\
         Credentials from: the environment\nRegion: {REGION}\nEndpoint: {url}\n"
    );
    let text = format!("111122223333\t{ARN}\tAIDAEXAMPLE00000000\n");
    for (arguments, expected) in [(&["whoami"][..], table), (&["whoami", "--output", "text"], text)] {
        let outcome = person.run(arguments);
        assert_eq!((outcome.code, outcome.stdout, outcome.stderr), (0, expected, String::new()));
    }
    let outcome = person.run(&["whoami", "--output", "json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&outcome.stdout).unwrap(),
        json!({
            "Account": "111122223333",
            "Arn": ARN,
            "UserId": "AIDAEXAMPLE00000000",
            "AccessKeyId": ACCESS_KEY_ID,
            "CredentialsSource": "the environment",
            "Region": REGION,
            "EndpointUrl": url,
            "Ec2EndpointUrl": url,
            "StsEndpointUrl": url,
        })
    );
}

#[test]
fn where_credentials_are_from() {
    let server = Server::success();
    let url = server.url();
    let keys = format!("aws_access_key_id = {ACCESS_KEY_ID}\naws_secret_access_key = {SECRET_ACCESS_KEY}\n");
    let person = Person::new()
        .with("AWS_REGION", REGION)
        .with("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .with("AWS_ENDPOINT_URL_STS", &url);
    person.file(".aws/credentials", &format!("[work]\n{keys}"));
    let process = json!({ "Version": 1, "AccessKeyId": ACCESS_KEY_ID, "SecretAccessKey": SECRET_ACCESS_KEY });
    person.script("give", &format!("echo '{process}'"));
    person.file(".aws/config", "[profile given]\ncredential_process = give\n");
    let ready = json!({ "schema": 1, "endpoint_url": url, "region": REGION,
        "admin": { "access_key_id": ACCESS_KEY_ID, "secret_access_key": SECRET_ACCESS_KEY } });
    let ready = person.file("ready.json", &ready.to_string());
    let file = person.home.path().join(".aws/credentials");
    for (arguments, source) in [
        (["--profile", "work"], format!("profile work in {}", file.display())),
        (["--profile", "given"], "the credential_process of profile given".to_owned()),
        (["--ready-file", ready.to_str().unwrap()], "the ready file, its administrator's".to_owned()),
    ] {
        let outcome = person.run(&[&arguments[..], &["whoami"]].concat());
        assert!(outcome.stdout.contains(&format!("\nCredentials from: {source}\n")), "{outcome:?}");
        assert!(!outcome.stdout.contains(SECRET_ACCESS_KEY));
        let is_named = outcome.stdout.contains(&format!("\nEndpoint of STS: {url}/\n"));
        assert_eq!(is_named, arguments[0] == "--profile", "{outcome:?}");
    }
}

/// A program stands in for the AWS CLI: what that signs in to is on the internet.
#[test]
fn the_aws_cli_gives_what_it_alone_knows() {
    let server = Server::success();
    let url = server.url();
    let person = Person::of(&server)
        .with("AWS_ACCESS_KEY_ID", "")
        .with("AWS_PROFILE", "-dev x")
        .with("AWS_CA_BUNDLE", "/ours.pem");
    let profile = format!("sso_account_id = 1\nsso_role_name = r\nendpoint_url = {url}\n");
    person.file(".aws/config", &format!("[profile \"-dev x\"]\n{profile}"));
    let process = json!({ "Version": 1, "AccessKeyId": ACCESS_KEY_ID, "SecretAccessKey": SECRET_ACCESS_KEY });
    let variables =
        "$AWS_IGNORE_CONFIGURED_ENDPOINT_URLS ${AWS_ENDPOINT_URL-no endpoint} ${AWS_CA_BUNDLE-no bundle}";
    person.script("aws", &format!("echo \"{variables}:\" \"$@\" > \"$HOME/asked\"; echo '{process}'"));
    let outcome = person.run(&["--debug", "whoami"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("export-credentials --profile '-dev x'` (SSO)\n"), "{outcome:?}");
    assert!(!outcome.stderr.contains(SECRET_ACCESS_KEY), "{outcome:?}");
    let asked = std::fs::read_to_string(person.home.path().join("asked")).unwrap();
    let expected =
        "true no endpoint no bundle: configure export-credentials --format=process --profile=-dev x\n";
    assert_eq!(asked, expected);

    let name = "`aws configure export-credentials --profile '-dev x'`";
    let asking = format!("debug: asking {name} for credentials\n");
    assert!(outcome.stderr.contains(&asking), "{outcome:?}");
    for (script, error, hint) in [
        (
            "echo 'Error loading SSO Token' >&2; exit 255",
            "failed (exit status: 255): Error loading SSO Token",
            "hint: sign in first",
        ),
        (
            "echo 'Invalid choice' >&2; exit 2",
            "is unknown to the `aws` on the PATH: it takes version 2",
            "hint: install it, or",
        ),
        (
            "echo 'Invalid choice' >&2; exit 252",
            "is unknown to the `aws` on the PATH: it takes version 2",
            "hint: install it, or",
        ),
        (
            "echo SECRET",
            "printed no credentials in JSON",
            "hint: see whether the profile works by itself: `env -u",
        ),
    ] {
        person.script("aws", script);
        let outcome = person.run(&["whoami"]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (253, ""), "{outcome:?}");
        let start = format!("error: {name} {error}");
        assert!(outcome.stderr.starts_with(&start) && outcome.stderr.contains(hint), "{outcome:?}");
        assert!(!outcome.stderr.contains("SECRET"), "{outcome:?}");
    }
    let alone = person.command(&["whoami"]).env("PATH", person.home.path()).output().unwrap();
    let alone = String::from_utf8(alone.stderr).unwrap();
    let expected = format!(
        "error: {name} cannot be asked: there is no AWS CLI, version 2, on the PATH\nhint: install it"
    );
    assert!(alone.starts_with(&expected), "{alone}");
}
