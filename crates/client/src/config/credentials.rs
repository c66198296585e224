//! Where credentials come from, in botocore's order.

use super::files::{Files, Profile, shown};
use crate::environment::Environment;
use crate::error::Error;
use instance_connect_core::secret::Secret;
use instance_connect_core::sigv4::Credentials;

/// Credentials with where they were found, for people.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) credentials: Credentials,
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
    if let Some(credentials) = in_section(profile.credentials, name)? {
        let source = format!("profile {name} in {}", shown(files.credentials_path.as_deref()));
        return Ok(Found { credentials, source });
    }
    refuse_others(profile, name)?;
    if let Some(credentials) = in_section(profile.config, name)? {
        let source = format!("profile {name} in {}", shown(files.config_path.as_deref()));
        return Ok(Found { credentials, source });
    }
    Err(Error::Credentials(format!(
        "no credentials: neither AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY nor a profile {name} with keys in {} or {}",
        shown(files.credentials_path.as_deref()),
        shown(files.config_path.as_deref()),
    )))
}

fn in_environment(environment: &Environment) -> Result<Option<Found>, Error> {
    let Some(id) = environment.get("AWS_ACCESS_KEY_ID") else { return Ok(None) };
    let Some(secret) = environment.get("AWS_SECRET_ACCESS_KEY") else {
        let message = "AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY";
        return Err(Error::Credentials(message.to_owned()));
    };
    // The older name comes first, as in botocore.
    let token = environment.get("AWS_SECURITY_TOKEN").or_else(|| environment.get("AWS_SESSION_TOKEN"));
    Ok(Some(Found { credentials: credentials(id, secret, token), source: "the environment".to_owned() }))
}

fn in_section(section: Option<&super::ini::Section>, name: &str) -> Result<Option<Credentials>, Error> {
    let get = |key| Some(section?.get(key)?.as_str()).filter(|value: &&str| !value.is_empty());
    let Some(id) = get("aws_access_key_id") else { return Ok(None) };
    let Some(secret) = get("aws_secret_access_key") else {
        return Err(Error::Credentials(format!(
            "profile {name} has aws_access_key_id without aws_secret_access_key beside it"
        )));
    };
    let token = get("aws_security_token").or_else(|| get("aws_session_token"));
    Ok(Some(credentials(id, secret, token)))
}

fn credentials(id: &str, secret: &str, token: Option<&str>) -> Credentials {
    Credentials {
        access_key_id: id.to_owned(),
        secret_access_key: Secret::new(secret.as_bytes().to_vec()),
        session_token: token.map(|token| Secret::new(token.as_bytes().to_vec())),
    }
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

/// Sources that come after the credentials file and before the config file.
fn refuse_others(profile: Profile<'_>, name: &str) -> Result<(), Error> {
    let source = if profile.get("login_session").is_some() {
        "`aws login`"
    } else if profile.get("credential_process").is_some() {
        "credential_process"
    } else {
        return Ok(());
    };
    Err(not_here(&format!("profile {name} gets its credentials from"), source, name))
}

/// The environment beats `AWS_PROFILE`, but not a profile the caller chose: hence the second half of the advice.
fn not_here(who: &str, source: &str, name: &str) -> Error {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@'));
    let name = if plain { name.to_owned() } else { format!("{name:?}") };
    Error::Credentials(format!(
        "{who} {source}, which this client does not do itself; \
         run `eval \"$(aws configure export-credentials --profile {name} --format env)\"`, \
         then call again without choosing a profile"
    ))
}
