//! AWS Signature Version 4: one canonical form, used by the verifier and by the signer.

mod canonical;
mod sign;
#[cfg(test)]
mod tests;
mod verify;

pub use canonical::{CanonicalRequest, canonical_query, canonical_uri};
pub use sign::{Credentials, SignedHeaders, SigningScope, sign_headers, signing_key};
pub use verify::{AuthenticationError, Expected, Presented, RequestHead, Verified};
