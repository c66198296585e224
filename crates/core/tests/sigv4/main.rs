//! The verifier against signatures that others made: AWS's published test suite, and AWS's signer for Rust.

// `cfg(test)` is always on here; it tells clippy that helpers may panic, as tests may.
#[cfg(test)]
mod signer;
#[cfg(test)]
mod tampering;
#[cfg(test)]
mod vectors;

use instance_connect_core::document::UnixSeconds;
use instance_connect_core::limits;
use instance_connect_core::secret::Secret;
use instance_connect_core::sigv4::{AuthenticationError, Expected, MalformedHead, Presented, RequestHead};

/// A request as it arrives, in parts that a test may change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refused {
    Head(MalformedHead),
    Signature(AuthenticationError),
}

/// Where and when a request is verified.
#[derive(Clone, Copy)]
struct Edge<'a> {
    region: &'a str,
    service: &'a str,
    now: UnixSeconds,
}

/// Verifies a request as an edge does that knows one key: its id, or `None` where what stands for it is no id.
fn verify(request: &Request, edge: Edge<'_>, key_id: Option<&str>, secret: &str) -> Result<(), Refused> {
    let headers = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let head = RequestHead::read(&request.method, &request.target, headers).map_err(Refused::Head)?;
    let Edge { region, service, now } = edge;
    let expected = Expected { region, service, now, window: limits::CLOCK_WINDOW };
    let secret = Secret::new(secret.into());
    let presented = Presented::read(&head, &expected).map_err(Refused::Signature)?;
    let known = presented.access_key_id().map(|id| id.as_str()) == key_id;
    let verified = presented.verify(&request.body, known.then_some((&secret, ())));
    verified.map(|_| ()).map_err(Refused::Signature)
}
