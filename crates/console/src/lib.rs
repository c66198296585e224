//! The gateway of the serial console: people come in with ssh, and it brings them to the line of their instance.
//!
//! It speaks SSH on one side and asks the control plane on the other, over a unix socket
//! ([`door`](instance_connect_core::console::door)): who may come in, and to which line, is decided there, and a session can
//! be ended from there at any time. The longest session, and how long nothing may be typed, are the gateway's own [`Settings`]. It
//! holds no secret but its host keys, sees no store and no agent, and runs as a process of its own, because the SSH protocol is the
//! largest piece of code that strangers can reach.
//!
//! A connection reads from top to bottom in `connection`: a place, a proven key, a shell, a session, a goodbye.

mod algorithms;
mod client;
mod connection;
mod descriptors;
mod door;
mod gateway;
mod host_keys;
mod listener;
mod place;
mod presence;
mod run;
mod session;
mod settings;
mod wire;
mod words;

pub use host_keys::{HostKeyError, HostKeys};
pub use run::{RunFailure, RunSettings, run};
pub use settings::Settings;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
