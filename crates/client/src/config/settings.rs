//! What a client works with: complete and checked.

use crate::credentials::Provider;
use crate::endpoint::Endpoint;
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
    pub(crate) endpoint: Endpoint,
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

    /// Where requests go.
    pub fn endpoint_url(&self) -> String {
        self.endpoint.url()
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
