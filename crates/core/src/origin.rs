//! Where a request came from.

use crate::ids::RequestId;
use instance_connect_document::UnixSeconds;
use std::net::{IpAddr, Ipv6Addr};

/// Where a request came from, when and how: what every record of it shares, and what policies may ask about.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The request.
    pub request: RequestId,
    /// When it arrived.
    pub time: UnixSeconds,
    /// The source address, canonical: an IPv4 address is never shown as IPv6.
    pub source: IpAddr,
    /// The `User-Agent`, cut to [`limits::USER_AGENT`](crate::limits::USER_AGENT).
    pub user_agent: String,
    /// The TLS that it came over, if it did.
    pub tls: Option<TlsDetails>,
}

/// TLS between a client and us, as CloudTrail's records name it (wire.md 8.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsDetails {
    /// Such as `TLSv1.3`.
    pub version: &'static str,
    /// As IANA names it, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher_suite: &'static str,
    /// The request's `Host`, cut to [`limits::HOST`](crate::limits::HOST).
    pub host: String,
}

/// What limits count as one source: an IPv4 address, or the /64 that an IPv6 address is in, since that is the least a
/// host or a line is given, with all addresses in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// The one an address is in.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            address @ IpAddr::V4(_) => Self(address),
            IpAddr::V6(address) => {
                let prefix = Ipv6Addr::from_bits(address.to_bits() & u128::MAX << 64);
                Self(IpAddr::V6(prefix))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_one_source_or_of_two() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::1", "::", true),
            ("::1", "0.0.0.1", false),
        ] {
            let network = |text: &str| Network::of(text.parse().unwrap());
            assert_eq!(network(one) == network(other), same, "{one} and {other}");
        }
    }
}
