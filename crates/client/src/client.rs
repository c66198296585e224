//! The asynchronous client.

use crate::api::{Operation, Pushed, SendSerialConsoleSshPublicKey, SendSshPublicKey};
use crate::clock::Correction;
use crate::config::{ClientBuilder, Settings};
use crate::credentials::Keyring;
use crate::error::Error;
use crate::exchange::{read_answer, signed_request};
use crate::observe::Event;
use crate::retry::{Attempts, Quota};
use crate::transport::Transport;
use http::Request;
use http_body_util::Full;
use hyper::body::Bytes;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::sigv4::Credentials;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A client of one endpoint. Clones share its connections, its credentials, what it may spend on retries and what it
/// knows of the service's clock. It needs a tokio runtime with I/O and time.
///
/// A call that is dropped before it is done leaves nothing behind; whether its push was carried out is then unknown.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    transport: Transport,
    keyring: Keyring,
    quota: Quota,
    correction: Correction,
}

impl Client {
    /// What a client is made from. Everything may be left out.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A client with these settings. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Configuration`] when the certificate authorities cannot be read.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let transport = Transport::new(&settings)?;
        let keyring = Keyring::new(settings.credentials.clone(), settings.observer.clone());
        let (quota, correction) = (Quota::default(), Correction::default());
        Ok(Self(Arc::new(Inner { settings, transport, keyring, quota, correction })))
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// `SendSSHPublicKey`: for 60 seconds the key opens this OS user's account on this instance.
    ///
    /// The user need not exist: nobody but the machine knows. The same key may be pushed again, which begins the 60 seconds
    /// anew.
    ///
    /// ```no_run
    /// # use instance_connect_client::{Client, Error, SendSshPublicKey};
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…";
    /// // {"InstanceId": "i-0123456789abcdef0", "InstanceOSUser": "ec2-user", "SSHPublicKey": "ssh-ed25519 …",
    /// //  "AvailabilityZone": "us-east-1a"}
    /// let push = SendSshPublicKey::new("i-0123456789abcdef0", "ec2-user", key).availability_zone("us-east-1a");
    /// // {"RequestId": "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11", "Success": true}
    /// let answer = client.send_ssh_public_key(&push).await?;
    /// assert!(answer.success);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Auth`](Error::Auth), [`Ec2InstanceNotFound`](Error::Ec2InstanceNotFound),
    /// [`Ec2InstanceStateInvalid`](Error::Ec2InstanceStateInvalid),
    /// [`Ec2InstanceUnavailable`](Error::Ec2InstanceUnavailable), [`InvalidArgs`](Error::InvalidArgs),
    /// [`ServiceFailure`](Error::ServiceFailure) and [`Throttling`](Error::Throttling) are this operation's own; the others
    /// say who may call, or why there was no answer.
    pub async fn send_ssh_public_key(&self, parameters: &SendSshPublicKey) -> Result<Pushed, Error> {
        self.call(parameters).await
    }

    /// `SendSerialConsoleSSHPublicKey`: for 60 seconds the key opens this instance's serial console.
    ///
    /// The account must have switched the serial console on, and an instance has one session at a time.
    ///
    /// ```no_run
    /// # use instance_connect_client::{Client, Error, SendSerialConsoleSshPublicKey};
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…";
    /// // {"InstanceId": "i-0123456789abcdef0", "SerialPort": 0, "SSHPublicKey": "ssh-ed25519 …"}
    /// let push = SendSerialConsoleSshPublicKey::new("i-0123456789abcdef0", key).serial_port(0);
    /// // {"RequestId": "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11", "Success": true}
    /// match client.send_serial_console_ssh_public_key(&push).await {
    ///     Ok(answer) => assert!(answer.success),
    ///     Err(Error::SerialConsoleSessionLimitExceeded(_)) => println!("somebody else is there"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`send_ssh_public_key`](Self::send_ssh_public_key), and as this operation's own
    /// [`Ec2InstanceTypeInvalid`](Error::Ec2InstanceTypeInvalid),
    /// [`SerialConsoleAccessDisabled`](Error::SerialConsoleAccessDisabled),
    /// [`SerialConsoleSessionLimitExceeded`](Error::SerialConsoleSessionLimitExceeded),
    /// [`SerialConsoleSessionUnavailable`](Error::SerialConsoleSessionUnavailable) and
    /// [`SerialConsoleSessionUnsupported`](Error::SerialConsoleSessionUnsupported).
    pub async fn send_serial_console_ssh_public_key(
        &self,
        parameters: &SendSerialConsoleSshPublicKey,
    ) -> Result<Pushed, Error> {
        self.call(parameters).await
    }

    /// Administers a self-hosted service, and gives the members of its answer. What would change something is sent again only
    /// where the service has said that it did nothing.
    ///
    /// # Errors
    /// [`Service`](Error::Service) with IAM's codes, such as `NoSuchEntity`; [`AccessDenied`](Error::AccessDenied); the
    /// others say who may call, or why there was no answer.
    #[cfg(feature = "administration")]
    pub async fn administer(
        &self,
        operation: &crate::Administer,
    ) -> Result<serde_json::Map<String, serde_json::Value>, Error> {
        self.call(operation).await
    }

    async fn call<O: Operation>(&self, operation: &O) -> Result<O::Output, Error> {
        // Not on the call's time: a program that gives credentials has a limit of its own, since somebody may have to
        // touch a token for it.
        let credentials = self.0.keyring.at(self.0.now(self.0.correction.seconds())).await?;
        let limit = self.0.settings.operation_timeout;
        let mut before = None;
        match timeout(limit, self.0.attempts(operation, &credentials, &mut before)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.0.late("a call of", limit, before)),
        }
    }
}

impl Inner {
    /// Attempts, until one succeeds or no other follows. The latest failure is left in `before`, for whoever stops this.
    async fn attempts<O: Operation>(
        &self,
        operation: &O,
        credentials: &Credentials,
        before: &mut Option<Error>,
    ) -> Result<O::Output, Error> {
        let mut attempts = Attempts::new(self.settings.max_attempts, &self.quota);
        loop {
            let correction = self.correction.seconds();
            let request = signed_request(operation, &self.settings, credentials, self.now(correction))?;
            let failure = match self.attempt(operation, request).await {
                Ok(output) => {
                    attempts.succeeded();
                    return Ok(output);
                }
                Err(failure) => failure,
            };
            let pause = self.pause_after(&mut attempts, &failure, correction);
            // Where nothing was done, it may be done now.
            let may_repeat = operation.is_repeatable() || failure.says_nothing_was_done();
            let Some(pause) = pause.filter(|_| may_repeat) else { return Err(failure) };
            self.observe(&Event::Retrying { failure: &failure, pause });
            *before = Some(failure);
            self.settings.surroundings.pause(pause).await;
        }
    }

    async fn attempt<O: Operation>(
        &self,
        operation: &O,
        request: Request<Full<Bytes>>,
    ) -> Result<O::Output, Error> {
        let limit = self.settings.attempt_timeout;
        match timeout(limit, self.transport.exchange(request, O::SERVICE.largest_answer)).await {
            Ok(answer) => read_answer(&answer?, operation, &self.settings, self.now(0)),
            Err(_) => Err(self.late("an answer of", limit, None)),
        }
    }

    /// The pause before another attempt; `None` when there is none. The failed one was signed with this machine's time plus
    /// `used`.
    fn pause_after(&self, attempts: &mut Attempts<'_>, failure: &Error, used: i64) -> Option<Duration> {
        let forgeable = !self.settings.endpoint.is_authentic();
        if let Some(seconds) = self.correction.learn(failure, used, forgeable) {
            self.observe(&Event::ClockCorrected { seconds });
            return attempts.again_at_once().then_some(Duration::ZERO);
        }
        attempts.pause_after(failure, self.settings.surroundings.random())
    }

    /// This machine's time plus `correction`.
    fn now(&self, correction: i64) -> UnixSeconds {
        UnixSeconds(self.settings.surroundings.now().0.saturating_add(correction))
    }

    fn late(&self, what: &str, limit: Duration, before: Option<Error>) -> Error {
        let action = format!("{what} {}", self.settings.endpoint.address());
        Error::Timeout { action, limit, before: before.map(Box::new) }
    }

    fn observe(&self, event: &Event<'_>) {
        if let Some(observer) = &self.settings.observer {
            observer.0(event);
        }
    }
}
