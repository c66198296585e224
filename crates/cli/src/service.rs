//! The service a command calls: options, ready file, environment and AWS files become a client.

use crate::arguments::ServiceOptions;
use crate::failure::Failure;
use crate::output;
use crate::ready_file::ReadyFile;
use instance_connect_client::{Client, Config, Environment, Event};

/// The ready file that was named, read.
pub(crate) fn ready_file(options: &ServiceOptions) -> Result<Option<ReadyFile>, Failure> {
    options.ready_file.as_deref().map(ReadyFile::read).transpose()
}

/// A client of the service.
pub(crate) fn client(options: &ServiceOptions, ready: Option<&mut ReadyFile>) -> Result<Client, Failure> {
    let environment = Environment::of_process();
    let mut config = Config::new()
        .application(concat!("instance-connect/", env!("CARGO_PKG_VERSION")))
        .allow_plain_http(options.allow_plain_http);
    if let Some(profile) = &options.profile {
        config = config.profile(profile);
    }
    if let Some(file) = &options.ca_bundle {
        config = config.ca_bundle(file);
    }
    if options.debug {
        config = config.observer(show);
    }
    // A ready file was named on purpose and describes one service, so it comes before what lies around in variables and
    // profiles; single options come before it.
    let ready_url = ready.as_ref().map(|file| file.endpoint_url.clone());
    let ready_region = ready.as_ref().map(|file| file.region.clone());
    if let Some(region) = options.region.clone().or(ready_region) {
        config = config.region(region);
    }
    // Its key is for its own endpoint, and for callers who named no other. The default profile does not count as named:
    // it is usually somebody's real AWS account, which this service knows nothing of.
    let elsewhere = options.endpoint_url.is_some() && options.endpoint_url != ready_url;
    let named = options.profile.is_some()
        || ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"]
            .iter()
            .any(|variable| environment.get(variable).is_some());
    if let Some(credentials) = ready.filter(|_| !elsewhere && !named).and_then(ReadyFile::administrator) {
        debug(options, || "no credentials were named, so the administrator's of the ready file are used");
        config = config.credentials(credentials);
    }
    if let Some(url) = options.endpoint_url.clone().or(ready_url) {
        config = config.endpoint_url(url);
    }
    let settings = config.resolve(&environment)?;
    debug(options, || {
        format!(
            "endpoint {}, region {}, access key {} from {}",
            settings.endpoint_url(),
            settings.region(),
            settings.access_key_id(),
            settings.credentials_source(),
        )
    });
    Ok(Client::new(settings)?)
}

/// Prints a line for `--debug`.
pub(crate) fn debug<Text: AsRef<str>>(options: &ServiceOptions, text: impl FnOnce() -> Text) {
    if options.debug {
        output::debug(text().as_ref());
    }
}

fn show(event: &Event<'_>) {
    match event {
        Event::Sending { url, headers, body } => {
            output::debug(&format!("POST {url}"));
            headers.iter().for_each(|(name, value)| output::debug(&format!("> {name}: {value}")));
            output::debug(&format!("> {body}"));
        }
        Event::Connected { peer, tls } => {
            output::debug(&format!("connected to {peer}, {}", tls.unwrap_or("without TLS")));
        }
        Event::Answered { status, request_id, body } => {
            output::debug(&format!("< {status}, request id {}", request_id.unwrap_or("none")));
            output::debug(&format!("< {body}"));
        }
        _ => {}
    }
}
