//! Where credentials come from, in botocore's order.

use super::files::{Files, Profile, shown};
use super::ini::words;
use crate::credentials::{CredentialProcess, Provider};
use crate::environment::Environment;
use crate::error::Error;
use instance_connect_core::secret::Secret;
use instance_connect_core::sigv4::Credentials;
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
    refuse_roles(environment, profile, name, chosen_by_caller)?;
    if let Some(provider) = in_section(profile.credentials, name)? {
        let source = format!("profile {name} in {}", shown(files.credentials_path.as_deref()));
        return Ok(Found { provider, source });
    }
    if profile.get("login_session").is_some() {
        return Err(not_here(&format!("profile {name} gets its credentials from"), "`aws login`", name));
    }
    if let Some(command) = profile.get("credential_process") {
        let source = format!("the credential_process of profile {name}");
        return Ok(Found { provider: process(command, name)?, source });
    }
    if let Some(provider) = in_section(profile.config, name)? {
        let source = format!("profile {name} in {}", shown(files.config_path.as_deref()));
        return Ok(Found { provider, source });
    }
    let variables =
        if chosen_by_caller { "" } else { "neither AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY nor " };
    Err(Error::Credentials(format!(
        "no credentials: {variables}a profile {name} with keys or a credential_process in {} or {}",
        shown(files.credentials_path.as_deref()),
        shown(files.config_path.as_deref()),
    )))
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

fn in_section(section: Option<&super::ini::Section>, name: &str) -> Result<Option<Provider>, Error> {
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

/// Sources that come before the credentials file.
fn refuse_roles(
    environment: &Environment,
    profile: Profile<'_>,
    name: &str,
    chosen_by_caller: bool,
) -> Result<(), Error> {
    if !chosen_by_caller && environment.get("AWS_WEB_IDENTITY_TOKEN_FILE").is_some() {
        return Err(not_here(
            "AWS_WEB_IDENTITY_TOKEN_FILE asks for",
            "a role assumed with a web identity",
            name,
        ));
    }
    let source = if profile.get("web_identity_token_file").is_some() {
        "a role assumed with a web identity"
    } else if profile.get("role_arn").is_some() {
        "an assumed role"
    } else if profile.get("sso_role_name").is_some() || profile.get("sso_account_id").is_some() {
        "SSO"
    } else {
        return Ok(());
    };
    Err(not_here(&format!("profile {name} gets its credentials from"), source, name))
}

/// Both ways that end without this client knowing the source. The environment beats `AWS_PROFILE`, but not a profile the
/// caller chose: hence the end of the advice.
fn not_here(who: &str, source: &str, name: &str) -> Error {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@'));
    let name = if plain { name.to_owned() } else { format!("{name:?}") };
    let export = format!("aws configure export-credentials --profile {name}");
    Error::Credentials(format!(
        "{who} {source}, which this client does not do itself; \
         make another profile with `credential_process = {export}` and choose that, \
         or run `eval \"$({export} --format env)\"` and call again without choosing a profile"
    ))
}
