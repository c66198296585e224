//! The service a command calls: options, ready file, environment and AWS files become a client.

use crate::arguments::ServiceOptions;
use crate::failure::{self, Exit, Failure};
use crate::ready_file::ReadyFile;
use crate::{output, progress};
use instance_connect_client::{Client, Environment, Event, RetryMode, Settings};
use std::path::PathBuf;

/// The ready file that was named, as an option or else in a variable, read.
pub(crate) fn ready_file(options: &ServiceOptions) -> Result<Option<ReadyFile>, Failure> {
    let in_variable = || std::env::var_os("INSTANCE_CONNECT_READY_FILE").map(PathBuf::from);
    options.ready_file.clone().or_else(in_variable).as_deref().map(ReadyFile::read).transpose()
}

/// A client of the service.
pub(crate) fn client(options: &ServiceOptions, ready: Option<&mut ReadyFile>) -> Result<Client, Failure> {
    let environment = Environment::of_process();
    let shows_steps = options.debug;
    let mut builder = Client::builder()
        .application(concat!("instance-connect/", env!("CARGO_PKG_VERSION")))
        .allow_plain_http(options.allow_plain_http)
        .observer(move |event| observe(event, shows_steps));
    if let Some(profile) = &options.profile {
        builder = builder.profile(profile);
    }
    if let Some(file) = &options.ca_bundle {
        builder = builder.ca_bundle(file);
    }
    // A ready file was named on purpose and describes one service, so it comes before what lies around in variables and
    // profiles; single options come before it.
    let ready_url = ready.as_ref().map(|file| file.endpoint_url.clone());
    let ready_region = ready.as_ref().map(|file| file.region.clone());
    if let Some(region) = options.region.clone().or(ready_region) {
        builder = builder.region(region);
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
        builder = builder.credentials_from("the ready file, its administrator's", credentials);
    }
    if let Some(url) = options.endpoint_url.clone().or(ready_url) {
        builder = builder.endpoint_url(url);
    }
    let settings = builder.resolve(&environment)?;
    debug(options, || shown(&settings));
    Ok(Client::new(settings)?)
}

/// A client of a service of one's own, for administration.
pub(crate) fn administration(options: &ServiceOptions) -> Result<Client, Failure> {
    let mut ready = ready_file(options)?;
    let client = client(options, ready.as_mut())?;
    not_aws(&client)?;
    Ok(client)
}

/// Refuses where it is AWS's own service, which would not know what is ours to ask.
pub(crate) fn not_aws(client: &Client) -> Result<(), Failure> {
    if is_aws(client) {
        let message = "AWS has no such command: administration is for a service of your own";
        let hint =
            "name its URL with --endpoint-url or AWS_ENDPOINT_URL; AWS's own users are administered by IAM";
        return Err(Failure::new(Exit::Configuration, message).hint(hint));
    }
    Ok(())
}

/// Whether it is AWS's own service, which has nothing of what is ours.
pub(crate) fn is_aws(client: &Client) -> bool {
    client.settings().endpoint_url().contains(".amazonaws.com")
}

fn shown(settings: &Settings) -> String {
    let key =
        settings.access_key_id().map_or_else(|| "credentials".to_owned(), |id| format!("access key {id}"));
    let (endpoint, region) = (settings.endpoint_url(), settings.region());
    let mut text =
        format!("endpoint {endpoint}, region {region}, {key} from {}", settings.credentials_source());
    if settings.retry_mode() != RetryMode::Standard {
        text.push_str(", retry mode standard instead of the one asked for");
    }
    text
}

/// Prints a line for `--debug`.
pub(crate) fn debug<Text: AsRef<str>>(options: &ServiceOptions, text: impl FnOnce() -> Text) {
    if options.debug {
        output::debug(text().as_ref());
    }
}

/// What is worth saying always, and the rest for `--debug`.
fn observe(event: &Event<'_>, shows_steps: bool) {
    progress::asks_for_credentials(matches!(event, Event::CredentialsAsked { .. }));
    match event {
        Event::ClockCorrected { seconds } => output::warning(&format!(
            "{}; the service's time is signed meanwhile",
            failure::wrong_clock(*seconds)
        )),
        _ if !shows_steps => {}
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
        Event::Retrying { failure, pause } => {
            output::debug(&format!("trying again in {} ms after: {failure}", pause.as_millis()));
        }
        Event::CredentialsAsked { of } => output::debug(&format!("asking {of} for credentials")),
        Event::CredentialsIssued { access_key_id, .. } => {
            output::debug(&format!("access key {access_key_id} was given"));
        }
        _ => {}
    }
}
