//! Where a request came from.

use crate::ids::RequestId;
use instance_connect_document::UnixSeconds;
use std::net::IpAddr;

/// Where a request came from, when and how: what every record of it shares, and what policies may ask about.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The request.
    pub request: RequestId,
    /// When it arrived.
    pub time: UnixSeconds,
    /// The source address, canonical: an IPv4 address is never shown as IPv6.
    pub source: IpAddr,
    /// The `User-Agent`, as sent.
    pub user_agent: String,
    /// Whether it came over TLS.
    pub secure_transport: bool,
}
