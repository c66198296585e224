//! AWS Signature Version 4: one canonical form, used by the verifier and by the signer.

mod canonical;
mod date;
mod head;
mod parts;
mod query;
mod sign;
#[cfg(test)]
mod tests;
mod verify;
mod window;

pub use canonical::push_encoded;
pub(crate) use canonical::{push_hex, sha256_hex};
pub use date::{in_http, in_signatures};
pub use head::{MalformedHead, RequestHead};
pub use parts::claimed_service;
pub use query::Query;
pub use sign::{Credentials, SignedHeaders, SigningScope, sign_headers};
pub use verify::{AuthenticationError, Expected, Presented, UsedSignature, Verified};
pub use window::{ClockWindow, ClockWindowError};
