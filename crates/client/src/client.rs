//! The asynchronous client.

use crate::api::{Operation, Pushed, SendSerialConsoleSshPublicKey, SendSshPublicKey};
use crate::config::Settings;
use crate::error::Error;
use crate::exchange::{read_answer, signed_request};
use crate::transport::Transport;
use std::sync::Arc;
use tokio::time::timeout;

/// A client of one endpoint. Clones share their connections. It needs a tokio runtime with I/O and time.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    transport: Transport,
}

impl Client {
    /// A client with these settings. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Configuration`] when the certificate authorities cannot be read.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let transport = Transport::new(&settings)?;
        Ok(Self(Arc::new(Inner { settings, transport })))
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// `SendSSHPublicKey`: for 60 seconds the key opens this OS user's account on this instance.
    ///
    /// # Errors
    /// The service's answer when it refuses, or why there was none.
    pub async fn send_ssh_public_key(&self, parameters: &SendSshPublicKey) -> Result<Pushed, Error> {
        self.call(parameters).await
    }

    /// `SendSerialConsoleSSHPublicKey`: for 60 seconds the key opens this instance's serial console.
    ///
    /// # Errors
    /// The service's answer when it refuses, or why there was none.
    pub async fn send_serial_console_ssh_public_key(
        &self,
        parameters: &SendSerialConsoleSshPublicKey,
    ) -> Result<Pushed, Error> {
        self.call(parameters).await
    }

    /// One call is one attempt for now. Retries belong here: each attempt is signed anew, and
    /// [`Error::is_retryable`] knows which failures are worth one.
    async fn call<O: Operation>(&self, operation: &O) -> Result<Pushed, Error> {
        let limit = self.0.settings.call_timeout;
        match timeout(limit, self.attempt(operation)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let action = format!("a call of {}", self.0.settings.endpoint.address());
                Err(Error::Timeout { action, limit })
            }
        }
    }

    async fn attempt<O: Operation>(&self, operation: &O) -> Result<Pushed, Error> {
        let settings = &self.0.settings;
        let request = signed_request(operation, settings)?;
        let answer = self.0.transport.exchange(request).await?;
        read_answer(&answer, settings)
    }
}
