#![doc = include_str!("../README.md")]

#[cfg(feature = "administration")]
mod administration;
mod api;
mod body;
mod client;
mod clock;
mod config;
mod credentials;
#[cfg(feature = "ec2")]
mod ec2;
mod endpoint;
mod environment;
mod error;
mod exchange;
mod observe;
mod retry;
mod surroundings;
mod tls;
mod transport;

pub mod blocking;

#[cfg(feature = "administration")]
pub use administration::Administer;
pub use api::{Pushed, SendSerialConsoleSshPublicKey, SendSshPublicKey};
pub use client::Client;
pub use config::{ClientBuilder, Settings};
#[cfg(feature = "ec2")]
pub use ec2::{CallerIdentity, DescribeInstances, Ec2Instance, InstancesPage};
pub use environment::Environment;
pub use error::{Error, Fault};
#[cfg(feature = "administration")]
pub use instance_connect_core::administration::Operation as AdministrativeOperation;
pub use instance_connect_core::document::UnixSeconds;
pub use instance_connect_core::secret::Secret;
pub use instance_connect_core::sigv4::Credentials;
pub use observe::Event;
pub use retry::RetryMode;
pub use surroundings::{Surroundings, System};
