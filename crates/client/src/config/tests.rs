//! Configuration against botocore's (the fixture) and where ours goes beyond it.

use super::*;
use crate::credentials::Keyring;
use instance_connect_core::document::UnixSeconds;
use serde_json::Value;
use std::fs;
use tempfile::TempDir;

/// A home directory with AWS files, and variables.
struct Machine {
    home: TempDir,
    variables: Vec<(String, String)>,
}

impl Machine {
    fn new(config: &str, credentials: &str, variables: &[(&str, &str)]) -> Self {
        let machine = Self { home: TempDir::new().unwrap(), variables: Vec::new() };
        machine.write(".aws/config", config);
        machine.write(".aws/credentials", credentials);
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self { variables: variables.collect(), ..machine }
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn environment(&self) -> Environment {
        Environment::new(self.variables.clone(), Some(self.home.path().to_owned()))
    }

    fn resolve(&self, config: &ClientBuilder) -> Result<Settings, Error> {
        config.resolve(&self.environment())
    }

    fn refusal(&self, config: &ClientBuilder) -> String {
        self.resolve(config).unwrap_err().to_string()
    }
}

#[test]
fn found_as_botocore_finds_it() {
    let fixture: Value = serde_json::from_str(include_str!("../../tests/botocore_fixture.json")).unwrap();
    for case in fixture["configs"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let machine = Machine { home: TempDir::new().unwrap(), variables: strings(&case["variables"]) };
        for (file, content) in strings(&case["files"]) {
            machine.write(&file, &content);
        }
        for (member, file) in [("config", ".aws/config"), ("credentials", ".aws/credentials")] {
            if let Some(content) = case[member].as_str() {
                machine.write(file, content);
            }
        }
        let found = &case["found"];
        let mut config = Client::builder();
        config.profile = case["profile"].as_str().map(str::to_owned);
        config.region = found["region"].is_null().then(|| "us-east-1".to_owned());
        match machine.resolve(&config).and_then(|settings| Ok((issued(&settings)?, settings))) {
            Ok((credentials, settings)) => assert_same(&credentials, &settings, found, name),
            Err(error) => assert!(found.is_null(), "{name}: {error}"),
        }
    }
}

/// The credentials that a client with these settings would sign with.
fn issued(settings: &Settings) -> Result<Arc<Credentials>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let keyring = Keyring::new(settings.credentials.clone(), None);
    // 2026-03-01, as in the fixture.
    runtime.block_on(keyring.at(UnixSeconds(1_772_368_496)))
}

fn strings(object: &Value) -> Vec<(String, String)> {
    let members = object.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

fn assert_same(credentials: &Credentials, settings: &Settings, found: &Value, name: &str) {
    let Credentials { access_key_id, secret_access_key, session_token } = credentials;
    let token = session_token.as_ref().map(|token| std::str::from_utf8(token.expose()).unwrap());
    assert_eq!(found["access_key_id"], access_key_id.as_str(), "{name}");
    assert_eq!(
        found["secret_access_key"].as_str().map(str::as_bytes),
        Some(secret_access_key.expose()),
        "{name}"
    );
    assert_eq!(found["session_token"].as_str(), token, "{name}");
    assert_eq!(found["endpoint_url"], settings.endpoint_url(), "{name}");
    if let Some(region) = found["region"].as_str() {
        assert_eq!(region, settings.region, "{name}");
    }
    let ca_bundle = settings.ca_bundle.as_ref().map(|path| path.to_str().unwrap());
    assert_eq!(found["ca_bundle"].as_str(), ca_bundle, "{name}");
    assert_eq!(found["max_attempts"], settings.max_attempts(), "{name}");
    assert_eq!(found["retry_mode"], format!("{:?}", settings.retry_mode()).to_lowercase(), "{name}");
}

const KEYS: &str = "[default]\naws_access_key_id = FILE_ID\naws_secret_access_key = FILE_SECRET\n";

/// botocore alone does not know AWS_REGION; the AWS CLI v2 and the other SDKs do.
#[test]
fn region() {
    let config = "[default]\nregion = profile-1\n";
    let both = [("AWS_REGION", "first-1"), ("AWS_DEFAULT_REGION", "second-1")];
    let with = |variables| Machine::new(config, KEYS, variables);
    assert_eq!(with(&both).resolve(&Client::builder().region("given-1")).unwrap().region(), "given-1");
    assert_eq!(with(&both).resolve(&Client::builder()).unwrap().region(), "first-1");
    assert_eq!(with(&both[1..]).resolve(&Client::builder()).unwrap().region(), "second-1");
    assert_eq!(with(&[]).resolve(&Client::builder()).unwrap().region(), "profile-1");
    assert_eq!(with(&[("AWS_REGION", "")]).resolve(&Client::builder()).unwrap().region(), "profile-1");
    let none = Machine::new("", KEYS, &[]).refusal(&Client::builder());
    assert_eq!(none, "no region: neither AWS_REGION, AWS_DEFAULT_REGION nor the profile gives one");
    let odd = with(&[]).refusal(&Client::builder().region("x.example.com/"));
    assert_eq!(odd, "\"x.example.com/\" is not a region such as us-east-1");
}

#[test]
fn given_values_come_first() {
    let variables = [
        ("AWS_ENDPOINT_URL", "https://variable.example"),
        ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
        ("AWS_CA_BUNDLE", "/variable.pem"),
        ("AWS_ACCESS_KEY_ID", "ENV_ID"),
        ("AWS_SECRET_ACCESS_KEY", "ENV_SECRET"),
    ];
    let credentials = Credentials {
        access_key_id: "GIVEN".to_owned(),
        secret_access_key: instance_connect_core::secret::Secret::new(b"GIVEN_SECRET".to_vec()),
        session_token: None,
    };
    let config = Client::builder()
        .region("us-east-1")
        .endpoint_url("https://given.example")
        .ca_bundle("/given.pem")
        .credentials(credentials);
    let settings = Machine::new("", "", &variables).resolve(&config).unwrap();
    assert_eq!(settings.endpoint_url(), "https://given.example/");
    assert_eq!(settings.endpoint_host(), "given.example");
    assert_eq!(settings.ca_bundle, Some("/given.pem".into()));
    assert_eq!((settings.access_key_id(), settings.credentials_source()), (Some("GIVEN"), "the caller"));
    let debug = format!("{config:?} {settings:?} {:?}", Machine::new("", "", &variables).environment());
    assert!(!debug.contains("GIVEN_SECRET") && !debug.contains("ENV_SECRET"), "{debug}");
}

#[test]
fn plain_http_stays_on_this_machine() {
    let machine = Machine::new("", KEYS, &[]);
    let config = Client::builder().region("us-east-1").endpoint_url("http://10.0.0.1:8080");
    let expected = "endpoint URL \"http://10.0.0.1:8080/\": plain http is refused unless it stays on this machine; \
                    use https, or allow it";
    assert_eq!(machine.refusal(&config), expected);
    assert!(machine.resolve(&config.allow_plain_http(true)).is_ok());
}

/// The AWS CLI is asked with the call, and not before: these profiles have no credentials until then.
#[test]
fn the_aws_cli_is_asked_for_what_it_alone_knows() {
    for (settings, credentials, kind) in [
        ("sso_session = x\nsso_account_id = 1\nsso_role_name = r", "", "SSO"),
        ("sso_account_id = 1\nsso_role_name = r", "aws_access_key_id = a\naws_secret_access_key = b", "SSO"),
        ("role_arn = arn:aws:iam::1:role/r\nsource_profile = b", "", "an assumed role"),
        ("", "role_arn = arn:aws:iam::1:role/r\nsource_profile = b", "an assumed role"),
        ("role_arn = a\nweb_identity_token_file = /t", "", "a role assumed with a web identity"),
        ("login_session = x", "", "`aws login`"),
    ] {
        let config = format!("[profile dev]\n{settings}\naws_access_key_id = c\naws_secret_access_key = d\n");
        let machine =
            Machine::new(&config, &format!("[dev]\n{credentials}\n"), &[("AWS_REGION", "us-east-1")]);
        let settings = machine.resolve(&Client::builder().profile("dev")).unwrap();
        let source = format!("`aws configure export-credentials --profile dev` ({kind})");
        assert_eq!((settings.access_key_id(), settings.credentials_source()), (None, source.as_str()));
    }
    let variables = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_REGION", "us-east-1")];
    let settings = Machine::new("", KEYS, &variables).resolve(&Client::builder()).unwrap();
    let source = "`aws configure export-credentials` (AWS_WEB_IDENTITY_TOKEN_FILE)";
    assert_eq!(settings.credentials_source(), source);
}

#[test]
fn refusals_name_the_place_and_no_secret() {
    let machine = Machine::new("[default]\nregion = us-east-1\nSECRET\n", "", &[]);
    let refusal = machine.refusal(&Client::builder());
    let home = machine.home.path().display();
    assert_eq!(refusal, format!("{home}/.aws/config: line 3: neither a [section] nor key = value"));
    let region = [("AWS_REGION", "us-east-1")];
    let none = Machine::new("", "", &region);
    let home = none.home.path().display();
    let expected = format!(
        "no credentials: AWS_ACCESS_KEY_ID is not set; {home}/.aws/credentials has no profile default; \
         {home}/.aws/config has no profile default"
    );
    assert_eq!(none.refusal(&Client::builder()), expected);
    fs::remove_file(none.home.path().join(".aws/credentials")).unwrap();
    none.write(".aws/config", "[default]\nregion = us-east-1\n");
    let expected = format!(
        "no credentials: AWS_ACCESS_KEY_ID is not set; there is no {home}/.aws/credentials; profile default in \
         {home}/.aws/config has neither keys nor a credential_process"
    );
    assert_eq!(none.refusal(&Client::builder()), expected);
    let nowhere = Client::builder().resolve(&Environment::new(region, None)).unwrap_err().to_string();
    assert_eq!(nowhere, "no credentials: AWS_ACCESS_KEY_ID is not set; there is no home directory");
    // A profile that the caller chose is the only place looked at.
    let bare = Machine::new("[profile bare]\nregion = us-east-1\n", "", &[("AWS_ACCESS_KEY_ID", "a")]);
    let refusal = bare.refusal(&Client::builder().profile("bare"));
    assert!(refusal.starts_with("no credentials: ") && !refusal.contains("AWS_ACCESS_KEY_ID"), "{refusal}");
}

#[test]
fn attempts() {
    let variables = [("AWS_MAX_ATTEMPTS", "5"), ("AWS_RETRY_MODE", "adaptive"), ("AWS_REGION", "us-east-1")];
    let machine = Machine::new("", KEYS, &variables);
    let settings = machine.resolve(&Client::builder().max_attempts(2)).unwrap();
    assert_eq!((settings.max_attempts(), settings.retry_mode()), (2, RetryMode::Adaptive));
    let refusal = machine.refusal(&Client::builder().max_attempts(0));
    assert_eq!(refusal, "max_attempts \"0\" is not a number from 1 on");
    for (variable, value, expected) in [
        ("AWS_MAX_ATTEMPTS", "-1", "max_attempts \"-1\" is not a number from 1 on"),
        ("AWS_MAX_ATTEMPTS", "4294967296", "max_attempts \"4294967296\" is not a number from 1 on"),
        ("AWS_RETRY_MODE", "slow", "retry_mode \"slow\" is none of standard, adaptive and legacy"),
    ] {
        let machine = Machine::new("", KEYS, &[("AWS_REGION", "us-east-1"), (variable, value)]);
        assert_eq!(machine.refusal(&Client::builder()), expected);
    }
}
