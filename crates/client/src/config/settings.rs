//! What a client works with: complete and checked.

use crate::credentials::Provider;
use crate::endpoint::{Endpoint, EndpointName};
use crate::error::Error;
use crate::observe::Observer;
use crate::retry::RetryMode;
use crate::surroundings::Surroundings;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything a client needs, complete and checked. Made by [`ClientBuilder::resolve`](crate::ClientBuilder::resolve).
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) region: String,
    pub(crate) instance_connect: Endpoint,
    /// Those of EC2 and STS, or why there is none: whoever does not call them need not know.
    #[cfg(feature = "ec2")]
    pub(crate) ec2: Result<Endpoint, String>,
    #[cfg(feature = "ec2")]
    pub(crate) sts: Result<Endpoint, String>,
    pub(crate) credentials: Provider,
    pub(crate) credentials_source: String,
    pub(crate) ca_bundle: Option<PathBuf>,
    pub(crate) connect_timeout: Duration,
    pub(crate) attempt_timeout: Duration,
    pub(crate) operation_timeout: Duration,
    pub(crate) max_attempts: u32,
    pub(crate) retry_mode: RetryMode,
    pub(crate) user_agent: String,
    pub(crate) observer: Option<Observer>,
    pub(crate) surroundings: Arc<dyn Surroundings>,
}

impl Settings {
    /// The region that requests are signed for.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Where pushes go.
    pub fn endpoint_url(&self) -> String {
        self.instance_connect.url()
    }

    /// The host of that: a name in lower case, or an address without brackets.
    pub fn endpoint_host(&self) -> &str {
        &self.instance_connect.host
    }

    /// Where requests to EC2 go.
    ///
    /// # Errors
    /// [`Error::Configuration`], where that URL is not one to call.
    #[cfg(feature = "ec2")]
    pub fn ec2_endpoint_url(&self) -> Result<String, Error> {
        self.endpoint(EndpointName::Ec2).map(Endpoint::url)
    }

    /// Where requests to STS go.
    ///
    /// # Errors
    /// [`Error::Configuration`], where that URL is not one to call.
    #[cfg(feature = "ec2")]
    pub fn sts_endpoint_url(&self) -> Result<String, Error> {
        self.endpoint(EndpointName::Sts).map(Endpoint::url)
    }

    /// Where requests of this service go.
    pub(crate) fn endpoint(&self, name: EndpointName) -> Result<&Endpoint, Error> {
        match name {
            EndpointName::InstanceConnect => Ok(&self.instance_connect),
            #[cfg(feature = "ec2")]
            EndpointName::Ec2 => self.ec2.as_ref().map_err(|why| Error::Configuration(why.clone())),
            #[cfg(feature = "ec2")]
            EndpointName::Sts => self.sts.as_ref().map_err(|why| Error::Configuration(why.clone())),
        }
    }

    /// The id of the access key that signs; `None` while a `credential_process` has not been asked yet.
    pub fn access_key_id(&self) -> Option<&str> {
        match &self.credentials {
            Provider::Fixed(credentials) => Some(&credentials.access_key_id),
            Provider::Process(_) => None,
        }
    }

    /// Where the credentials were found, for people.
    pub fn credentials_source(&self) -> &str {
        &self.credentials_source
    }

    /// How many attempts a call may make in all.
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// The retry mode asked for. Whichever it is, [`RetryMode::Standard`] is what is done.
    pub fn retry_mode(&self) -> RetryMode {
        self.retry_mode
    }
}
