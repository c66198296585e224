//! Where credentials come from, in botocore's order.

use super::files::{Files, Profile, shown};
use super::ini::{Section, words};
use crate::credentials::{CredentialProcess, Provider, export_command};
use crate::environment::Environment;
use crate::error::Error;
use instance_connect_core::secret::Secret;
use instance_connect_core::sigv4::Credentials;
use std::path::Path;
use std::sync::Arc;

/// Credentials, or who gives them, with where that was found, for people.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) provider: Provider,
    pub(super) source: String,
}

/// Finds credentials for the profile `name`. One that was chosen by the caller rather than by a variable comes before
/// keys in the environment.
pub(super) fn find(
    environment: &Environment,
    files: &Files,
    profile: Profile<'_>,
    name: &str,
    chosen_by_caller: bool,
) -> Result<Found, Error> {
    if !chosen_by_caller && let Some(found) = in_environment(environment)? {
        return Ok(found);
    }
    if let Some(found) = of_a_role(environment, profile, name, chosen_by_caller) {
        return Ok(found);
    }
    if let Some(provider) = in_section(profile.credentials, name)? {
        let source = format!("profile {name} in {}", shown(files.credentials_path.as_deref()));
        return Ok(Found { provider, source });
    }
    if profile.get("login_session").is_some() {
        return Ok(by_aws_cli(Some(name), "`aws login`"));
    }
    if let Some(command) = profile.get("credential_process") {
        let source = format!("the credential_process of profile {name}");
        return Ok(Found { provider: process(command, name)?, source });
    }
    if let Some(provider) = in_section(profile.config, name)? {
        let source = format!("profile {name} in {}", shown(files.config_path.as_deref()));
        return Ok(Found { provider, source });
    }
    let mut places = vec![
        nothing_in(files.credentials_path.as_deref(), profile.credentials, name),
        nothing_in(files.config_path.as_deref(), profile.config, name),
    ];
    places.dedup();
    if !chosen_by_caller {
        places.insert(0, "AWS_ACCESS_KEY_ID is not set".to_owned());
    }
    Err(Error::Credentials(format!("no credentials: {}", places.join("; "))))
}

/// What was found where there are no credentials.
fn nothing_in(path: Option<&Path>, section: Option<&Section>, name: &str) -> String {
    let Some(path) = path else { return "there is no home directory".to_owned() };
    let shown = path.display();
    match section {
        Some(_) => format!("profile {name} in {shown} has neither keys nor a credential_process"),
        None if path.exists() => format!("{shown} has no profile {name}"),
        None => format!("there is no {shown}"),
    }
}

/// The words are those of a POSIX shell, with nothing expanded: as the AWS CLI splits them.
fn process(command: &str, name: &str) -> Result<Provider, Error> {
    let process = words(command).and_then(|words| CredentialProcess::new(name, words));
    process.map(|process| Provider::Process(Arc::new(process))).ok_or_else(|| {
        Error::Credentials(format!(
            "the credential_process of profile {name} is no command: is a quote left open?"
        ))
    })
}

fn in_environment(environment: &Environment) -> Result<Option<Found>, Error> {
    let Some(id) = environment.get("AWS_ACCESS_KEY_ID") else { return Ok(None) };
    let Some(secret) = environment.get("AWS_SECRET_ACCESS_KEY") else {
        let message = "AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY";
        return Err(Error::Credentials(message.to_owned()));
    };
    // The older name comes first, as in botocore.
    let token = environment.get("AWS_SECURITY_TOKEN").or_else(|| environment.get("AWS_SESSION_TOKEN"));
    Ok(Some(Found { provider: keys(id, secret, token), source: "the environment".to_owned() }))
}

fn in_section(section: Option<&Section>, name: &str) -> Result<Option<Provider>, Error> {
    let get = |key| Some(section?.get(key)?.as_str()).filter(|value: &&str| !value.is_empty());
    let Some(id) = get("aws_access_key_id") else { return Ok(None) };
    let Some(secret) = get("aws_secret_access_key") else {
        return Err(Error::Credentials(format!(
            "profile {name} has aws_access_key_id without aws_secret_access_key beside it"
        )));
    };
    let token = get("aws_security_token").or_else(|| get("aws_session_token"));
    Ok(Some(keys(id, secret, token)))
}

fn keys(id: &str, secret: &str, token: Option<&str>) -> Provider {
    Provider::Fixed(Arc::new(Credentials {
        access_key_id: id.to_owned(),
        secret_access_key: Secret::new(secret.as_bytes().to_vec()),
        session_token: token.map(|token| Secret::new(token.as_bytes().to_vec())),
    }))
}

/// Roles and SSO, which come before the credentials file.
fn of_a_role(
    environment: &Environment,
    profile: Profile<'_>,
    name: &str,
    chosen_by_caller: bool,
) -> Option<Found> {
    if !chosen_by_caller && environment.get("AWS_WEB_IDENTITY_TOKEN_FILE").is_some() {
        return Some(by_aws_cli(None, "AWS_WEB_IDENTITY_TOKEN_FILE"));
    }
    let is_set = |key| profile.get(key).is_some();
    let kind = if is_set("web_identity_token_file") {
        "a role assumed with a web identity"
    } else if is_set("role_arn") {
        "an assumed role"
    } else if is_set("sso_role_name") || is_set("sso_account_id") {
        "SSO"
    } else {
        return None;
    };
    Some(by_aws_cli(Some(name), kind))
}

/// What this client does not do itself. The AWS CLI does, and keeps tokens of its own for it.
fn by_aws_cli(profile: Option<&str>, kind: &str) -> Found {
    let provider = Provider::Process(Arc::new(CredentialProcess::aws_cli(profile)));
    Found { provider, source: format!("`{}` ({kind})", export_command(profile)) }
}
