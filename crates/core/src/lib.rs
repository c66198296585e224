//! Every decision of Instance Connect, and nothing else: who is calling, what they may do, which key reaches which
//! machine and for how long, and what the wire says about it.
//!
//! This crate has no tokio, no sockets, no files, no clock and no randomness: bytes, instants and random values are
//! arguments. The edges (`server`, `agent`, `client`) do the I/O.

pub mod administration;
pub mod api;
pub mod audit;
pub mod authz;
pub mod console;
pub mod environment;
pub mod grant;
pub mod host_facts;
pub mod host_key;
pub mod iam;
pub mod ids;
pub mod imds;
pub mod inventory;
pub mod limits;
pub mod link;
mod operations;
pub mod origin;
mod percent;
pub mod places;
pub mod printable;
pub mod proxies;
pub mod query;
pub mod revocation;
pub mod secret;
pub mod shell;
pub mod sigv4;
pub mod ssh_key;
pub mod stock;
pub mod stream;
pub mod throttle;
pub mod trace_context;

pub use instance_connect_document as document;
