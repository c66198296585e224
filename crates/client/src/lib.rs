//! A client of the EC2 Instance Connect API: push an SSH public key to one machine for one OS user, for 60 seconds.
//!
//! It speaks to AWS and to any service with the same API, and it signs exactly what botocore signs. Configuration and
//! credentials are found where the AWS CLI finds them.
//!
//! ```no_run
//! # async fn example() -> Result<(), instance_connect_client::Error> {
//! use instance_connect_client::{Client, Config, Environment, SendSshPublicKey};
//!
//! let settings = Config::new().region("us-east-1").resolve(&Environment::of_process())?;
//! let client = Client::new(settings)?;
//! let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…";
//! let answer = client.send_ssh_public_key(&SendSshPublicKey::new("i-0123456789abcdef0", "ec2-user", key)).await?;
//! assert!(answer.success);
//! # Ok(())
//! # }
//! ```
//!
//! Without a runtime of your own, use [`blocking::Client`].
//!
//! # What is not here yet
//! - Retries: every call is one attempt. [`Error::is_retryable`] says whether another one may help.
//! - Credentials from SSO, `aws login`, assumed roles, `credential_process`, containers and instance metadata. Such a
//!   profile is refused with the command that exports its credentials.
//! - HTTP proxies.

mod api;
mod body;
mod client;
mod config;
mod endpoint;
mod environment;
mod error;
mod exchange;
mod observe;
mod tls;
mod transport;

pub mod blocking;

pub use api::{Pushed, SendSerialConsoleSshPublicKey, SendSshPublicKey};
pub use client::Client;
pub use config::{Config, Settings};
pub use environment::Environment;
pub use error::{Error, Fault};
pub use instance_connect_core::document::UnixSeconds;
pub use instance_connect_core::secret::Secret;
pub use instance_connect_core::sigv4::Credentials;
pub use observe::Event;
