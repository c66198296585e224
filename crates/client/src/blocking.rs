//! The client for programs without an asynchronous runtime.

use crate::api::{Pushed, SendSerialConsoleSshPublicKey, SendSshPublicKey};
use crate::config::{ClientBuilder, Settings};
use crate::error::Error;
use tokio::runtime::{Builder, Handle, Runtime};

/// A client of one endpoint whose calls wait for their answer.
///
/// It does its work on the calling thread and starts no others, but for looking up a host name.
#[derive(Debug)]
pub struct Client {
    client: crate::Client,
    runtime: Runtime,
}

impl Client {
    /// What a client is made from; [`ClientBuilder::build_blocking`] makes it.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A client with these settings. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Configuration`] when the certificate authorities cannot be read.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|source| Error::Transport {
            action: "cannot set up network I/O".to_owned(),
            source: source.into(),
        })?;
        Ok(Self { client: crate::Client::new(settings)?, runtime })
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        self.client.settings()
    }

    /// `SendSSHPublicKey`: for 60 seconds the key opens this OS user's account on this instance.
    ///
    /// ```no_run
    /// # use instance_connect_client::{Error, SendSshPublicKey, blocking};
    /// # fn example() -> Result<(), Error> {
    /// let client = blocking::Client::builder().region("us-east-1").build_blocking()?;
    /// let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…";
    /// let answer = client.send_ssh_public_key(&SendSshPublicKey::new("i-0123456789abcdef0", "ec2-user", key))?;
    /// assert!(answer.success);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::send_ssh_public_key`](crate::Client::send_ssh_public_key).
    pub fn send_ssh_public_key(&self, parameters: &SendSshPublicKey) -> Result<Pushed, Error> {
        self.wait(self.client.send_ssh_public_key(parameters))
    }

    /// `SendSerialConsoleSSHPublicKey`: for 60 seconds the key opens this instance's serial console.
    ///
    /// # Errors
    /// As [`Client::send_serial_console_ssh_public_key`](crate::Client::send_serial_console_ssh_public_key).
    pub fn send_serial_console_ssh_public_key(
        &self,
        parameters: &SendSerialConsoleSshPublicKey,
    ) -> Result<Pushed, Error> {
        self.wait(self.client.send_serial_console_ssh_public_key(parameters))
    }

    /// Waiting inside a runtime would stop that runtime; tokio panics there, this says so.
    fn wait(&self, call: impl Future<Output = Result<Pushed, Error>>) -> Result<Pushed, Error> {
        if Handle::try_current().is_ok() {
            let message = "the blocking client was called from asynchronous code; use Client there";
            return Err(Error::Configuration(message.to_owned()));
        }
        self.runtime.block_on(call)
    }
}
