//! What crosses from the control plane to a machine's login: grant documents, their deadlines, and the ids in them.
//!
//! This is its own crate because it is what runs before login, on every machine, in front of root. It may depend on
//! nothing but one signature library, and it reads neither clock nor file: instants and bytes are arguments.

mod base64;
mod ids;
mod time;

pub use base64::{decode as base64_decode, encode as base64_encode};
pub use ids::{BootId, Fingerprint, IdError, InstanceId, OsUser, RequestId};
pub use time::{BootInstant, ServerInstant, UnixSeconds};
