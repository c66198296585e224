//! Configuration in two stages: [`ClientBuilder`] is what a caller gives, [`Settings`] what came of it together with the
//! environment and the AWS files.

mod credentials;
mod files;
mod ini;
mod settings;
#[cfg(test)]
mod tests;

pub use settings::Settings;

use crate::client::Client;
use crate::credentials::Provider;
use crate::endpoint::{Endpoint, EndpointName, Variant, aws_url, is_region};
use crate::environment::Environment;
use crate::error::Error;
use crate::observe::{Event, Observer};
use crate::retry::{MAX_ATTEMPTS, RetryMode};
use crate::surroundings::{Surroundings, System};
use credentials::Found;
use files::{Files, Profile};
use instance_connect_core::sigv4::Credentials;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may take to come about: just over three seconds, so that one lost SYN is sent again.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(3100);

/// How long an attempt may take, connecting included. A service answers within seconds; where SDKs wait a minute or for
/// ever, the people who wait for this one are about to log in.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a call may take, with all its attempts and pauses.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);

/// What a caller says about a client. Everything may be left out; the environment and the AWS files are asked then.
/// [`Client::builder`](crate::Client::builder) makes one that says nothing.
#[derive(Clone, Debug, Default)]
pub struct ClientBuilder {
    profile: Option<String>,
    region: Option<String>,
    endpoint_url: Option<String>,
    /// With where they are from, for people.
    credentials: Option<(Credentials, String)>,
    ca_bundle: Option<PathBuf>,
    plain_http: bool,
    connect_timeout: Option<Duration>,
    attempt_timeout: Option<Duration>,
    operation_timeout: Option<Duration>,
    max_attempts: Option<u32>,
    application: Option<String>,
    observer: Option<Observer>,
    surroundings: Option<Arc<dyn Surroundings>>,
}

impl ClientBuilder {
    /// Uses this profile. Keys in the environment are then not looked at.
    #[must_use]
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.profile = Some(name.into());
        self
    }

    /// Uses this region.
    #[must_use]
    pub fn region(mut self, name: impl Into<String>) -> Self {
        self.region = Some(name.into());
        self
    }

    /// Sends to this URL, whichever of its services is called.
    #[must_use]
    pub fn endpoint_url(mut self, url: impl Into<String>) -> Self {
        self.endpoint_url = Some(url.into());
        self
    }

    /// Signs with these credentials; none are looked for.
    #[must_use]
    pub fn credentials(self, credentials: Credentials) -> Self {
        self.credentials_from("the caller", credentials)
    }

    /// The same, where people are told that they are from `source`.
    #[must_use]
    pub fn credentials_from(mut self, source: impl Into<String>, credentials: Credentials) -> Self {
        self.credentials = Some((credentials, source.into()));
        self
    }

    /// Trusts the certificate authorities in this PEM file instead of the system's.
    #[must_use]
    pub fn ca_bundle(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_bundle = Some(file.into());
        self
    }

    /// Allows plain http to another machine. Without it plain http is refused unless it stays on this machine: whoever
    /// reads along could send the same signed push again for some minutes, and answers could be forged.
    #[must_use]
    pub fn allow_plain_http(mut self, allow: bool) -> Self {
        self.plain_http = allow;
        self
    }

    /// How long a connection may take to come about, TLS included; 3.1 s unless said otherwise.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = Some(limit);
        self
    }

    /// How long one attempt may take, connecting included; 10 s unless said otherwise.
    #[must_use]
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = Some(limit);
        self
    }

    /// How long a call may take in all, with every attempt and the pauses between them; 30 s unless said otherwise. A
    /// `credential_process` has 60 s of its own.
    #[must_use]
    pub fn operation_timeout(mut self, limit: Duration) -> Self {
        self.operation_timeout = Some(limit);
        self
    }

    /// How many attempts a call may make in all, instead of what `AWS_MAX_ATTEMPTS` or the profile's `max_attempts` says,
    /// else 3. With 1 nothing is tried again.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// Names the program in the `User-Agent`, such as `deploy/1.2`.
    #[must_use]
    pub fn application(mut self, name: impl Into<String>) -> Self {
        self.application = Some(name.into());
        self
    }

    /// Calls `observer` at each step of each call. It is told no secrets.
    #[must_use]
    pub fn observer(mut self, observer: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Some(Observer(Arc::new(observer)));
        self
    }

    /// Takes the time, chance and waiting from there instead of from the system: for tests.
    #[must_use]
    pub fn surroundings(mut self, surroundings: Arc<dyn Surroundings>) -> Self {
        self.surroundings = Some(surroundings);
        self
    }

    /// A client, with this process's environment for what was not said.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve) and [`Client::new`].
    pub fn build(&self) -> Result<Client, Error> {
        Client::new(self.resolve(&Environment::of_process())?)
    }

    /// The same for a program without an asynchronous runtime.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve) and [`blocking::Client::new`](crate::blocking::Client::new).
    pub fn build_blocking(&self) -> Result<crate::blocking::Client, Error> {
        crate::blocking::Client::new(self.resolve(&Environment::of_process())?)
    }

    /// Finds what was not said: first in variables, then in the profile.
    ///
    /// # Errors
    /// [`Error::Configuration`] and [`Error::Credentials`], with what is missing or wrong and where.
    pub fn resolve(&self, environment: &Environment) -> Result<Settings, Error> {
        let files = Files::read(environment)?;
        let chosen = self.profile.as_deref();
        let named = chosen.or_else(|| profile_variable(environment));
        let name = named.unwrap_or("default");
        let profile = match files.profile(name) {
            Some(profile) => profile,
            None if named.is_none() => Profile::default(),
            None => return Err(no_such_profile(name, &files)),
        };
        let region = self.resolve_region(environment, profile)?;
        let endpoint =
            |name: EndpointName| self.resolve_endpoint(name, environment, &files, profile, &region);
        let instance_connect = endpoint(EndpointName::InstanceConnect)?;
        let found = match self.credentials.clone() {
            Some((credentials, source)) => Found { provider: Provider::Fixed(Arc::new(credentials)), source },
            None => credentials::find(environment, &files, profile, name, chosen.is_some())?,
        };
        let ca_bundle = match &self.ca_bundle {
            Some(path) => Some(path.clone()),
            None => setting(environment, "AWS_CA_BUNDLE", profile, "ca_bundle")
                .map(|path| environment.expand(path.as_ref())),
        };
        Ok(Settings {
            instance_connect,
            #[cfg(feature = "ec2")]
            ec2: endpoint(EndpointName::Ec2).map_err(|error| error.to_string()),
            #[cfg(feature = "ec2")]
            sts: endpoint(EndpointName::Sts).map_err(|error| error.to_string()),
            region,
            credentials: found.provider,
            credentials_source: found.source,
            ca_bundle,
            connect_timeout: self.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            attempt_timeout: self.attempt_timeout.unwrap_or(ATTEMPT_TIMEOUT),
            operation_timeout: self.operation_timeout.unwrap_or(OPERATION_TIMEOUT),
            max_attempts: self.resolve_max_attempts(environment, profile)?,
            retry_mode: retry_mode(environment, profile)?,
            user_agent: user_agent(self.application.as_deref()),
            observer: self.observer.clone(),
            surroundings: self.surroundings.clone().unwrap_or_else(|| Arc::new(System)),
        })
    }

    fn resolve_region(&self, environment: &Environment, profile: Profile<'_>) -> Result<String, Error> {
        let region = self
            .region
            .as_deref()
            .or_else(|| environment.get("AWS_REGION"))
            .or_else(|| environment.get("AWS_DEFAULT_REGION"))
            .or_else(|| profile.get("region"));
        match region {
            Some(region) if is_region(region) => Ok(region.to_owned()),
            Some(region) => {
                Err(Error::Configuration(format!("{region:?} is not a region such as us-east-1")))
            }
            None => Err(Error::Configuration(
                "no region: neither AWS_REGION, AWS_DEFAULT_REGION nor the profile gives one".to_owned(),
            )),
        }
    }

    fn resolve_max_attempts(&self, environment: &Environment, profile: Profile<'_>) -> Result<u32, Error> {
        let configured =
            || setting(environment, "AWS_MAX_ATTEMPTS", profile, "max_attempts").map(str::to_owned);
        let Some(text) = self.max_attempts.map(|attempts| attempts.to_string()).or_else(configured) else {
            return Ok(MAX_ATTEMPTS);
        };
        match text.parse() {
            Ok(0) | Err(_) => {
                Err(Error::Configuration(format!("max_attempts {text:?} is not a number from 1 on")))
            }
            Ok(attempts) => Ok(attempts),
        }
    }

    fn resolve_endpoint(
        &self,
        name: EndpointName,
        environment: &Environment,
        files: &Files,
        profile: Profile<'_>,
        region: &str,
    ) -> Result<Endpoint, Error> {
        let switched_on = |variable, key| {
            setting(environment, variable, profile, key)
                .is_some_and(|value| value.eq_ignore_ascii_case("true"))
        };
        let variant = Variant {
            fips: switched_on("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint"),
            dual_stack: switched_on("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint"),
        };
        let ignored = switched_on("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls");
        let url = match &self.endpoint_url {
            Some(url) => Some(url.clone()),
            None if ignored => None,
            None => configured_endpoint(name, environment, files, profile)?,
        };
        // As in botocore, a URL of one's own leaves the two variants without effect.
        let Some(url) = url else { return Endpoint::parse(&aws_url(name, region, variant)) };
        let endpoint = Endpoint::parse(&url)?;
        if !endpoint.tls && !endpoint.is_loopback() && !self.plain_http {
            return Err(Error::Configuration(format!(
                "endpoint URL {:?}: plain http is refused unless it stays on this machine; use https, or allow it",
                endpoint.url(),
            )));
        }
        Ok(endpoint)
    }
}

fn retry_mode(environment: &Environment, profile: Profile<'_>) -> Result<RetryMode, Error> {
    let Some(text) = setting(environment, "AWS_RETRY_MODE", profile, "retry_mode") else {
        return Ok(RetryMode::default());
    };
    RetryMode::parse(text).ok_or_else(|| {
        Error::Configuration(format!("retry_mode {text:?} is none of standard, adaptive and legacy"))
    })
}

/// What a variable says, else the profile.
fn setting<'a>(
    environment: &'a Environment,
    variable: &str,
    profile: Profile<'a>,
    key: &str,
) -> Option<&'a str> {
    environment.get(variable).or_else(|| profile.get(key))
}

/// The endpoint URL outside the program: the service's variable, the common one, then the profile's in the same order.
fn configured_endpoint(
    name: EndpointName,
    environment: &Environment,
    files: &Files,
    profile: Profile<'_>,
) -> Result<Option<String>, Error> {
    let variable = environment.get(name.variable()).or_else(|| environment.get("AWS_ENDPOINT_URL"));
    if let Some(url) = variable {
        return Ok(Some(url.to_owned()));
    }
    let of_service = files.service_endpoint(profile, name.key())?;
    Ok(of_service.or_else(|| profile.get("endpoint_url").map(str::to_owned)))
}

/// The older name comes first, as in botocore.
fn profile_variable(environment: &Environment) -> Option<&str> {
    environment.get("AWS_DEFAULT_PROFILE").or_else(|| environment.get("AWS_PROFILE"))
}

fn no_such_profile(name: &str, files: &Files) -> Error {
    Error::Configuration(format!(
        "there is no profile {name:?} in {} or {}",
        files::shown(files.config_path.as_deref()),
        files::shown(files.credentials_path.as_deref()),
    ))
}

fn user_agent(application: Option<&str>) -> String {
    let ours = concat!("instance-connect-client/", env!("CARGO_PKG_VERSION"));
    application.map_or_else(|| ours.to_owned(), |name| format!("{name} {ours}"))
}
