//! Load balancers in front of a listener, and whose word on a client's address is taken: nobody's but theirs.
//!
//! There are two ways to say it. The PROXY protocol, version 2, is a header in front of all else on a connection
//! (haproxy's `doc/proxy-protocol.txt`, section 2.2). `X-Forwarded-For` is a list in each request, to whose right end every
//! proxy adds the address that it was asked from: whatever stands to the left of the rightmost address that is no trusted
//! proxy was written by that client itself.

use crate::iam::Network;
use crate::limits;
use instance_connect_planted::{parser_entered, planted};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The address or network of a trusted proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedProxy(Network);

/// Not an address or network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is written like 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32")]
pub struct TrustedProxyError;

impl FromStr for TrustedProxy {
    type Err = TrustedProxyError;

    fn from_str(text: &str) -> Result<Self, TrustedProxyError> {
        Network::parse(text).map(Self).ok_or(TrustedProxyError)
    }
}

/// All trusted proxies; by default there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(pub Vec<TrustedProxy>);

impl TrustedProxies {
    /// Whether an address is one of theirs.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|TrustedProxy(network)| network.contains(address))
    }

    /// The address a request is from, canonical: that of the peer, or where that is a trusted proxy, the rightmost one of
    /// all `X-Forwarded-For` in their order that is none. What is no address ends the search at the proxy that wrote it.
    pub fn client(&self, peer: IpAddr, forwarded: &[&[u8]]) -> IpAddr {
        let entries = forwarded.iter().rev().flat_map(|header| header.rsplit(|byte| *byte == b','));
        let mut client = peer.to_canonical();
        for entry in entries {
            if !self.contain(client) && !planted("forwarded-believed") {
                break;
            }
            let Some(address) = std::str::from_utf8(entry).ok().and_then(forwarded_address) else { break };
            client = address.to_canonical();
        }
        client
    }
}

/// An address as proxies write it: bare, in brackets, with or without a port.
fn forwarded_address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim_matches([' ', '\t']);
    if let Ok(address) = entry.parse() {
        return Some(address);
    }
    if let Ok(with_port) = entry.parse::<std::net::SocketAddr>() {
        return Some(with_port.ip());
    }
    entry.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// Bytes of the fixed part of a PROXY header.
pub const PROXY_HEAD: usize = 16;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The fixed part of a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHead {
    /// Whether it speaks for a client, or the proxy for itself, such as to see whether we are up.
    is_proxied: bool,
    family: Family,
    /// Bytes that follow.
    pub length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Inet,
    Inet6,
    Other,
}

/// Not a header of the PROXY protocol, version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a trusted proxy has not begun with a header of the PROXY protocol, version 2")]
pub struct ProxyHeaderError;

impl ProxyHead {
    /// Reads the fixed part.
    ///
    /// # Errors
    /// It is something else, or announces more than [`limits::PROXY_HEADER`].
    pub fn read(bytes: &[u8; PROXY_HEAD]) -> Result<Self, ProxyHeaderError> {
        let rest = bytes.strip_prefix(SIGNATURE).ok_or(ProxyHeaderError)?;
        let [version_and_command, family, length @ ..] = rest else { return Err(ProxyHeaderError) };
        let is_proxied = match version_and_command {
            0x20 => false,
            0x21 => true,
            _ => return Err(ProxyHeaderError),
        };
        let family = match family {
            0x11 => Family::Inet,
            0x21 => Family::Inet6,
            _ => Family::Other,
        };
        let length = length.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
        if PROXY_HEAD + length > limits::PROXY_HEADER {
            return Err(ProxyHeaderError);
        }
        Ok(Self { is_proxied, family, length })
    }

    /// The client's address, from the bytes that follow. None where the proxy speaks for itself.
    ///
    /// # Errors
    /// The addresses are missing, or of a family that has no source address.
    pub fn client(self, rest: &[u8]) -> Result<Option<IpAddr>, ProxyHeaderError> {
        parser_entered(rest);
        if !self.is_proxied {
            return Ok(None);
        }
        // Source and destination address, then both ports.
        let address: IpAddr = match self.family {
            Family::Inet => {
                let (source, rest) = rest.split_first_chunk::<4>().ok_or(ProxyHeaderError)?;
                rest.first_chunk::<8>().ok_or(ProxyHeaderError)?;
                Ipv4Addr::from(*source).into()
            }
            Family::Inet6 => {
                let (source, rest) = rest.split_first_chunk::<16>().ok_or(ProxyHeaderError)?;
                rest.first_chunk::<20>().ok_or(ProxyHeaderError)?;
                Ipv6Addr::from(*source).into()
            }
            Family::Other => return Err(ProxyHeaderError),
        };
        Ok(Some(address.to_canonical()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn proxies(networks: &[&str]) -> TrustedProxies {
        TrustedProxies(networks.iter().map(|network| network.parse().unwrap()).collect())
    }

    #[test]
    fn only_trusted_proxies_say_where_a_request_is_from() {
        let one = &["192.0.2.1"][..];
        let two = &["192.0.2.1", "198.51.100.0/24"][..];
        for (trusted, peer, forwarded, client) in [
            // Nobody is trusted: what is claimed counts for nothing.
            (&[][..], "203.0.113.9", &["10.0.0.1"][..], "203.0.113.9"),
            (one, "203.0.113.9", &["10.0.0.1"], "203.0.113.9"),
            (one, "203.0.113.9", &["192.0.2.1"], "203.0.113.9"),
            // Through one proxy, which has added the last.
            (one, "192.0.2.1", &["203.0.113.9"], "203.0.113.9"),
            (one, "192.0.2.1", &["10.0.0.1, 203.0.113.9"], "203.0.113.9"),
            (one, "192.0.2.1", &["10.0.0.1", "203.0.113.9"], "203.0.113.9"),
            (one, "192.0.2.1", &["10.0.0.1,192.0.2.1, 203.0.113.9"], "203.0.113.9"),
            // Through two of which one is trusted: the other is all that is known.
            (one, "192.0.2.1", &["10.0.0.1, 203.0.113.9, 198.51.100.7"], "198.51.100.7"),
            // Through two.
            (two, "192.0.2.1", &["203.0.113.9, 198.51.100.7"], "203.0.113.9"),
            (two, "192.0.2.1", &["10.0.0.1, 203.0.113.9, 198.51.100.7"], "203.0.113.9"),
            // Whoever claims to be a proxy is not believed further than the address that the real one saw.
            (two, "192.0.2.1", &["10.0.0.1, 198.51.100.7, 203.0.113.9"], "203.0.113.9"),
            // The proxies themselves, and what is no address.
            (two, "192.0.2.1", &[], "192.0.2.1"),
            (two, "192.0.2.1", &["198.51.100.7"], "198.51.100.7"),
            (two, "192.0.2.1", &["203.0.113.9, unknown"], "192.0.2.1"),
            (two, "192.0.2.1", &["203.0.113.9, "], "192.0.2.1"),
            (two, "192.0.2.1", &["203.0.113.9, _hidden, 198.51.100.7"], "198.51.100.7"),
            // One form of each address.
            (one, "::ffff:192.0.2.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            (one, "192.0.2.1", &["203.0.113.9:4711"], "203.0.113.9"),
            (one, "192.0.2.1", &["\t[2001:db8::1]:4711 "], "2001:db8::1"),
            (one, "192.0.2.1", &["[2001:db8::1]"], "2001:db8::1"),
            (&["2001:db8::/32"], "2001:db8::1", &["2001:DB9:0::1"], "2001:db9::1"),
        ] {
            let forwarded: Vec<&[u8]> = forwarded.iter().map(|header| header.as_bytes()).collect();
            let found = proxies(trusted).client(peer.parse().unwrap(), &forwarded);
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{trusted:?} {peer} {forwarded:?}");
        }
    }

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    fn read(header: &[u8]) -> Result<Option<IpAddr>, ProxyHeaderError> {
        let (head, rest) = header.split_first_chunk::<PROXY_HEAD>().ok_or(ProxyHeaderError)?;
        ProxyHead::read(head)?.client(rest)
    }

    #[test]
    fn proxy_headers() {
        let v4 = [203, 0, 113, 9, 192, 0, 2, 1, 1, 2, 3, 4];
        let v6: Vec<u8> =
            "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets().into_iter().chain([0; 20]).collect();
        let mapped: Vec<u8> =
            "::ffff:203.0.113.9".parse::<Ipv6Addr>().unwrap().octets().into_iter().chain([0; 20]).collect();
        let with_more = [&v4[..], &[4, 0, 1, 0]].concat();
        for (header, expected) in [
            (header(0x21, 0x11, &v4), Ok(Some("203.0.113.9"))),
            (header(0x21, 0x11, &with_more), Ok(Some("203.0.113.9"))),
            (header(0x21, 0x21, &v6), Ok(Some("2001:db8::1"))),
            (header(0x21, 0x21, &mapped), Ok(Some("203.0.113.9"))),
            (header(0x20, 0x00, &[]), Ok(None)),
            (header(0x20, 0x11, &v4), Ok(None)),
            (header(0x21, 0x00, &[]), Err(ProxyHeaderError)),
            (header(0x21, 0x31, &[0; 216]), Err(ProxyHeaderError)),
            (header(0x21, 0x11, &v4[..11]), Err(ProxyHeaderError)),
            (header(0x21, 0x21, &v6[..35]), Err(ProxyHeaderError)),
            (header(0x22, 0x11, &v4), Err(ProxyHeaderError)),
            (header(0x11, 0x11, &v4), Err(ProxyHeaderError)),
            (header(0x21, 0x11, &[0; 2033]), Err(ProxyHeaderError)),
            (b"PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n".to_vec(), Err(ProxyHeaderError)),
            (b"POST / HTTP/1.1\r\n".to_vec(), Err(ProxyHeaderError)),
        ] {
            let expected = expected.map(|address| address.map(|text| text.parse::<IpAddr>().unwrap()));
            assert_eq!(read(&header), expected, "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn proxy_header_reader_never_panics(head: [u8; PROXY_HEAD], rest: Vec<u8>, valid: bool) {
            let mut head = head;
            if valid {
                head[..SIGNATURE.len()].copy_from_slice(SIGNATURE);
                (head[12], head[13], head[14]) = (0x21, 0x11, 0);
            }
            if let Ok(head) = ProxyHead::read(&head) {
                prop_assert!(head.length <= limits::PROXY_HEADER);
                let _ = head.client(&rest);
            }
        }

        #[test]
        fn forwarded_addresses_never_panic(
            headers in prop::collection::vec(prop_oneof![any::<Vec<u8>>(), Just(b"10.0.0.1".to_vec())], 0..4),
        ) {
            let headers: Vec<&[u8]> = headers.iter().map(Vec::as_slice).collect();
            proxies(&["0.0.0.0/0", "::/0"]).client("192.0.2.1".parse().unwrap(), &headers);
            // Whatever is claimed: without a trusted proxy it changes nothing.
            let untrusted = proxies(&[]).client("192.0.2.1".parse().unwrap(), &headers);
            prop_assert_eq!(untrusted, "192.0.2.1".parse::<IpAddr>().unwrap());
        }
    }
}
