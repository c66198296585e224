//! Configuration in two stages: [`Config`] is what a caller gives, [`Settings`] what came of it together with the
//! environment and the AWS files.

mod credentials;
mod files;
mod ini;
#[cfg(test)]
mod tests;

use crate::endpoint::{Endpoint, Variant, aws_url, is_region};
use crate::environment::Environment;
use crate::error::Error;
use crate::observe::{Event, Observer};
use credentials::Found;
use files::{Files, Profile};
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::sigv4::Credentials;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may take to come about: just over three seconds, so that one lost SYN is sent again.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(3100);

/// How long a call may take in all.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// What a caller says about a client. Everything may be left out; the environment and the AWS files are asked then.
#[derive(Clone, Debug, Default)]
pub struct Config {
    profile: Option<String>,
    region: Option<String>,
    endpoint_url: Option<String>,
    credentials: Option<Credentials>,
    ca_bundle: Option<PathBuf>,
    plain_http: bool,
    connect_timeout: Option<Duration>,
    call_timeout: Option<Duration>,
    application: Option<String>,
    observer: Option<Observer>,
    clock: Option<Clock>,
}

impl Config {
    /// Nothing said.
    pub fn new() -> Self {
        Self::default()
    }

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

    /// Sends to this URL.
    #[must_use]
    pub fn endpoint_url(mut self, url: impl Into<String>) -> Self {
        self.endpoint_url = Some(url.into());
        self
    }

    /// Signs with these credentials; none are looked for.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
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

    /// How long a call may take in all; 30 s unless said otherwise.
    #[must_use]
    pub fn call_timeout(mut self, limit: Duration) -> Self {
        self.call_timeout = Some(limit);
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

    /// Signs with the time that `clock` gives, instead of the system's clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> UnixSeconds + Send + Sync + 'static) -> Self {
        self.clock = Some(Clock(Arc::new(clock)));
        self
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
        let endpoint = self.resolve_endpoint(environment, &files, profile, &region)?;
        let found = match self.credentials.clone() {
            Some(credentials) => Found { credentials, source: "the caller".to_owned() },
            None => credentials::find(environment, &files, profile, name, chosen.is_some())?,
        };
        let ca_bundle = match &self.ca_bundle {
            Some(path) => Some(path.clone()),
            None => environment
                .get("AWS_CA_BUNDLE")
                .or_else(|| profile.get("ca_bundle"))
                .map(|path| environment.expand(path.as_ref())),
        };
        Ok(Settings {
            region,
            endpoint,
            credentials: found.credentials,
            credentials_source: found.source,
            ca_bundle,
            connect_timeout: self.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            call_timeout: self.call_timeout.unwrap_or(CALL_TIMEOUT),
            user_agent: user_agent(self.application.as_deref()),
            observer: self.observer.clone(),
            clock: self.clock.clone().unwrap_or_else(Clock::system),
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

    fn resolve_endpoint(
        &self,
        environment: &Environment,
        files: &Files,
        profile: Profile<'_>,
        region: &str,
    ) -> Result<Endpoint, Error> {
        let switched_on = |variable, key| {
            let value = environment.get(variable).or_else(|| profile.get(key));
            value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
        };
        let variant = Variant {
            fips: switched_on("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint"),
            dual_stack: switched_on("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint"),
        };
        let ignored = switched_on("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls");
        let url = match &self.endpoint_url {
            Some(url) => Some(url.clone()),
            None if ignored => None,
            None => configured_endpoint(environment, files, profile)?,
        };
        // As in botocore, a URL of one's own leaves the two variants without effect.
        let Some(url) = url else { return Endpoint::parse(&aws_url(region, variant)) };
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

/// The endpoint URL outside the program: the service's variable, the common one, then the profile's in the same order.
fn configured_endpoint(
    environment: &Environment,
    files: &Files,
    profile: Profile<'_>,
) -> Result<Option<String>, Error> {
    let variable = environment
        .get("AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT")
        .or_else(|| environment.get("AWS_ENDPOINT_URL"));
    if let Some(url) = variable {
        return Ok(Some(url.to_owned()));
    }
    let of_service = files.service_endpoint(profile, "ec2_instance_connect")?;
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

/// Everything a client needs, complete and checked. Made by [`Config::resolve`].
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) region: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) credentials: Credentials,
    pub(crate) credentials_source: String,
    pub(crate) ca_bundle: Option<PathBuf>,
    pub(crate) connect_timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) user_agent: String,
    pub(crate) observer: Option<Observer>,
    pub(crate) clock: Clock,
}

impl Settings {
    /// The region that requests are signed for.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Where requests go.
    pub fn endpoint_url(&self) -> String {
        self.endpoint.url()
    }

    /// The id of the access key that signs.
    pub fn access_key_id(&self) -> &str {
        &self.credentials.access_key_id
    }

    /// Where the credentials were found, for people.
    pub fn credentials_source(&self) -> &str {
        &self.credentials_source
    }
}

/// Where the time of a signature comes from.
#[derive(Clone)]
pub(crate) struct Clock(pub(crate) Arc<dyn Fn() -> UnixSeconds + Send + Sync>);

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge where a client takes the real time, unless it is given one"
    )]
    fn system() -> Self {
        Self(Arc::new(|| {
            let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let seconds = since_epoch.map_or(0, |duration| duration.as_secs());
            UnixSeconds(seconds.try_into().unwrap_or(i64::MAX))
        }))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock(…)")
    }
}
