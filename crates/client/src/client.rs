//! The asynchronous client.

use crate::api::{Operation, Pushed, SendSerialConsoleSshPublicKey, SendSshPublicKey};
use crate::clock::Correction;
use crate::config::{ClientBuilder, Settings};
use crate::credentials::Keyring;
use crate::endpoint::EndpointName;
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
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// A client of one service. Clones share its connections, its credentials, what it may spend on retries and what it
/// knows of the service's clock. It needs a tokio runtime with I/O and time.
///
/// A call that is dropped before it is done leaves nothing behind; whether its push was carried out is then unknown.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    /// One for each endpoint that was called, that of pushes first.
    transports: Mutex<Vec<Arc<Transport>>>,
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
        let transport = Transport::new(settings.instance_connect.clone(), &settings)?;
        let transports = Mutex::new(vec![Arc::new(transport)]);
        let keyring = Keyring::new(settings.credentials.clone(), settings.observer.clone());
        let (quota, correction) = (Quota::default(), Correction::default());
        Ok(Self(Arc::new(Inner { settings, transports, keyring, quota, correction })))
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

    /// `DescribeInstances` of EC2: one page of the instances that are asked for.
    ///
    /// ```no_run
    /// # use instance_connect_client::{Client, DescribeInstances, Error};
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// // Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=tag%3AName&Filter.1.Value.1=web-1
    /// let page = client.describe_instances(&DescribeInstances::new().filter("tag:Name", ["web-1"])).await?;
    /// for instance in &page.instances {
    ///     println!("{} {:?}", instance.instance_id, instance.private_ip_address);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Ec2InstanceNotFound`](Error::Ec2InstanceNotFound) where an id was asked for and there is no such instance,
    /// [`AccessDenied`](Error::AccessDenied); the others say who may call, or why there was no answer.
    #[cfg(feature = "ec2")]
    pub async fn describe_instances(
        &self,
        parameters: &crate::DescribeInstances,
    ) -> Result<crate::InstancesPage, Error> {
        self.call(parameters).await
    }

    /// `GetCallerIdentity` of STS: whose credentials these are.
    ///
    /// # Errors
    /// Those that say who may call, or why there was no answer.
    #[cfg(feature = "ec2")]
    pub async fn caller_identity(&self) -> Result<crate::CallerIdentity, Error> {
        self.call(&crate::ec2::GetCallerIdentity).await
    }

    async fn call<O: Operation>(&self, operation: &O) -> Result<O::Output, Error> {
        // Not on the call's time: a program that gives credentials has a limit of its own, since somebody may have to
        // touch a token for it.
        let credentials = self.0.keyring.at(self.0.now(self.0.correction.seconds())).await?;
        let limit = self.0.settings.operation_timeout;
        let mut before = None;
        let transport = self.0.transport(O::SERVICE.endpoint)?;
        match timeout(limit, self.0.attempts(operation, &transport, &credentials, &mut before)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(late("a call of", &transport, limit, before)),
        }
    }
}

impl Inner {
    /// The connections to an endpoint. Services that have one endpoint share them.
    fn transport(&self, name: EndpointName) -> Result<Arc<Transport>, Error> {
        let endpoint = self.settings.endpoint(name)?;
        let mut transports = self.transports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transport) = transports.iter().find(|transport| transport.endpoint() == endpoint) {
            return Ok(Arc::clone(transport));
        }
        let transport = Arc::new(Transport::new(endpoint.clone(), &self.settings)?);
        transports.push(Arc::clone(&transport));
        Ok(transport)
    }

    /// Attempts, until one succeeds or no other follows. The latest failure is left in `before`, for whoever stops this.
    async fn attempts<O: Operation>(
        &self,
        operation: &O,
        transport: &Transport,
        credentials: &Credentials,
        before: &mut Option<Error>,
    ) -> Result<O::Output, Error> {
        let mut attempts = Attempts::new(self.settings.max_attempts, &self.quota);
        loop {
            let correction = self.correction.seconds();
            let request = signed_request(operation, &self.settings, credentials, self.now(correction))?;
            let failure = match self.attempt(operation, transport, request).await {
                Ok(output) => {
                    attempts.succeeded();
                    return Ok(output);
                }
                Err(failure) => failure,
            };
            let forgeable = !transport.endpoint().is_authentic();
            let pause = self.pause_after(&mut attempts, &failure, correction, forgeable);
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
        transport: &Transport,
        request: Request<Full<Bytes>>,
    ) -> Result<O::Output, Error> {
        let limit = self.settings.attempt_timeout;
        match timeout(limit, transport.exchange(request, O::SERVICE.largest_answer)).await {
            Ok(answer) => read_answer(&answer?, operation, &self.settings, self.now(0)),
            Err(_) => Err(late("an answer of", transport, limit, None)),
        }
    }

    /// The pause before another attempt; `None` when there is none. The failed one was signed with this machine's time plus
    /// `used`; `forgeable` is whether somebody on the way may have made its answer up.
    fn pause_after(
        &self,
        attempts: &mut Attempts<'_>,
        failure: &Error,
        used: i64,
        forgeable: bool,
    ) -> Option<Duration> {
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

    fn observe(&self, event: &Event<'_>) {
        if let Some(observer) = &self.settings.observer {
            observer.0(event);
        }
    }
}

fn late(what: &str, transport: &Transport, limit: Duration, before: Option<Error>) -> Error {
    let action = format!("{what} {}", transport.endpoint().address());
    Error::Timeout { action, limit, before: before.map(Box::new) }
}
