//! The client for programs without an asynchronous runtime.

use crate::api::{Pushed, SendSerialConsoleSshPublicKey, SendSshPublicKey};
use crate::config::Settings;
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
    /// # Errors
    /// The service's answer when it refuses, or why there was none.
    pub fn send_ssh_public_key(&self, parameters: &SendSshPublicKey) -> Result<Pushed, Error> {
        self.wait(self.client.send_ssh_public_key(parameters))
    }

    /// `SendSerialConsoleSSHPublicKey`: for 60 seconds the key opens this instance's serial console.
    ///
    /// # Errors
    /// The service's answer when it refuses, or why there was none.
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
