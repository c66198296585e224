//! The metadata service of an instance, version 2 of EC2's (wire.md 3.1), as a function: a request and what there is to show in,
//! a response out. Sockets, limits of rate and the time to live of packets are the agent's.

mod path;
mod response;
#[cfg(test)]
mod tests;
mod token;
mod tree;

pub use response::Response;
pub use token::TokenKey;

use crate::environment::Random;
use crate::limits::LIVE_KEYS_PER_USER;
use crate::link::InstanceFacts;
use crate::stock::StockKeys;
use crate::throttle::Rate;
use instance_connect_document::{BootInstant, InstanceId, STOCK_ENTRY_LIMIT, decimal};
use instance_connect_planted::parser_entered;
use path::Path;
use std::net::Ipv4Addr;
use std::time::Duration;
use tree::Tree;

/// The header with a token.
pub const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";

/// The header with how long a token lives, in seconds.
pub const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// The header that a proxy adds, for which no token is made.
pub const FORWARDED_HEADER: &str = "x-forwarded-for";

/// Longest target, in bytes. The longest path there is has a tag's key of 128 characters, each of which may come as three.
pub const LONGEST_TARGET: usize = 1024;

/// Longest body of a response, in bytes: a user's keys.
pub const LONGEST_BODY: usize = LIVE_KEYS_PER_USER * STOCK_ENTRY_LIMIT;

/// Requests a second, and at once after a quiet time: a login makes ten. EC2 lets through about as many.
pub const REQUESTS: Rate = Rate::new(1000, 2000);

/// Longest life of a token, in seconds (wire.md 3.2).
const LONGEST_TTL: u32 = 21_600;

/// Where tokens are made. Not with a slash behind it, and in no other version (wire.md 3.2).
const TOKEN_PATH: &str = "/latest/api/token";

/// A request, as far as it matters.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its method, such as `GET`.
    pub method: &'a str,
    /// Its target as it came: a path, and perhaps a query, which is not looked at.
    pub target: &'a str,
    /// [`TOKEN_HEADER`].
    pub token: Header<'a>,
    /// [`TTL_HEADER`].
    pub ttl: Header<'a>,
    /// Whether there is any [`FORWARDED_HEADER`].
    pub is_forwarded: bool,
}

/// A header that may be given once. It is collected from all its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header<'a> {
    /// Not given.
    Absent,
    /// Given, with this value.
    Once(&'a [u8]),
    /// Given more than once, which is malformed.
    Repeated,
}

impl<'a> FromIterator<&'a [u8]> for Header<'a> {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(values: I) -> Self {
        let mut values = values.into_iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => Self::Once(value),
            (Some(_), Some(_)) => Self::Repeated,
        }
    }
}

/// What one instance is shown.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Which instance asks.
    pub instance: &'a InstanceId,
    /// What the control plane said of it; `None` before it has. What it says of another instance is not shown.
    pub facts: Option<&'a InstanceFacts>,
    /// The address it has on its network.
    pub local_ipv4: Option<Ipv4Addr>,
    /// Its host name.
    pub hostname: Option<&'a str>,
    /// Whether its tags are shown.
    pub shows_tags: bool,
    /// Its keys.
    pub stock: &'a StockKeys,
}

/// Answers a request. The numbers are those of the order of checks in wire.md 3.2.
pub fn respond(
    request: &Request<'_>,
    view: &View<'_>,
    tokens: &TokenKey,
    now: BootInstant,
    random: &dyn Random,
) -> Response {
    parser_entered(request.target.as_bytes());
    // 1. A path.
    let response = match Path::read(request.target) {
        None => Response::page(400),
        // 2. Whoever asks for a token has none, and is told nothing of the instance.
        Some(path) if request.method == "PUT" => new_token(request, &path, view, tokens, now, random),
        Some(path) => read(request, &path, view, tokens, now),
    };
    if request.method == "HEAD" { response.without_body() } else { response }
}

fn new_token(
    request: &Request<'_>,
    path: &Path<'_>,
    view: &View<'_>,
    tokens: &TokenKey,
    now: BootInstant,
    random: &dyn Random,
) -> Response {
    if path.raw() != TOKEN_PATH || request.is_forwarded {
        return Response::forbidden();
    }
    let Header::Once(ttl) = request.ttl else { return Response::page(400) };
    let seconds = std::str::from_utf8(ttl).ok().and_then(decimal::parse::<u32>);
    let Some(seconds) = seconds.filter(|seconds| (1..=LONGEST_TTL).contains(seconds)) else {
        return Response::page(400);
    };
    let expires_at = now.after(Duration::from_secs(seconds.into()));
    let token = tokens.seal(view, expires_at, now, random);
    token.map_or_else(|| Response::page(500), |token| Response::token(token, seconds))
}

fn read(
    request: &Request<'_>,
    path: &Path<'_>,
    view: &View<'_>,
    tokens: &TokenKey,
    now: BootInstant,
) -> Response {
    // 3. The method.
    if path.raw() == TOKEN_PATH {
        return Response::not_allowed("PUT");
    }
    if !["GET", "HEAD"].contains(&request.method) {
        return Response::not_allowed("GET, HEAD");
    }
    // 4. The token: made for this instance, not over, and of a signer that is still announced.
    let token = match request.token {
        Header::Once(token) => token,
        Header::Absent => return Response::page(401),
        Header::Repeated => return Response::page(400),
    };
    let Some(reader) = tokens.open(token, view, now) else { return Response::page(401) };
    // 5. What there is.
    let found = Tree { view, signer: reader.signer, now }.find(&path.segments());
    found.map_or_else(|| Response::page(404), Response::found)
}
