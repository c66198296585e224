//! Where the service is: an endpoint URL taken apart, and AWS's own rule for the endpoint of a region.

use crate::error::Error;
use http::Uri;
use std::net::IpAddr;

/// An endpoint URL, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) tls: bool,
    /// Host name or address, lower case, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The `Host` header: without the port where it is the scheme's own.
    pub(crate) authority: String,
    /// The request target, at least `/`.
    pub(crate) path: String,
}

impl Endpoint {
    /// Takes an `http` or `https` URL apart.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let refuse = |why: &str| Err(Error::Configuration(format!("endpoint URL {url:?}: {why}")));
        if url.contains(['?', '#']) {
            return refuse("it must have no query and no fragment");
        }
        let Ok(uri) = url.parse::<Uri>() else {
            return refuse("it is not a URL such as https://host:port");
        };
        let (tls, default_port) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return refuse("it must begin with http:// or https://"),
        };
        let Some(authority) = uri.authority() else { return refuse("it has no host") };
        if authority.as_str().contains('@') {
            // Said without the URL, which has a password in it.
            return Err(Error::Configuration("the endpoint URL must not hold a user name".to_owned()));
        }
        let host = authority.host().to_ascii_lowercase();
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str().len() == host.len() => default_port,
            None => return refuse("its port is not a number up to 65535"),
        };
        if port == 0 {
            return refuse("port 0 cannot be connected to");
        }
        let authority = if port == default_port { host.clone() } else { format!("{host}:{port}") };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { tls, host, port, authority, path: uri.path().to_owned() })
    }

    /// Whether it can only be this machine. Of names only `localhost` counts, and only while it leads here
    /// ([`Self::admits`]): resolvers ask the network about the names below it.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }

    /// Whether an address that it has led to may be connected to. What was taken for this machine, and so goes without
    /// TLS, must not leave it, whatever the resolver makes of `localhost`.
    pub(crate) fn admits(&self, peer: IpAddr) -> bool {
        self.tls || !self.is_loopback() || peer.to_canonical().is_loopback()
    }

    /// Whether an answer can only be the service's own: TLS says so, or nobody else is there.
    pub(crate) fn is_authentic(&self) -> bool {
        self.tls || self.is_loopback()
    }

    /// The URL again, in one spelling.
    pub(crate) fn url(&self) -> String {
        let Self { authority, path, .. } = self;
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{authority}{path}")
    }

    /// For messages: the scheme does not matter there, the port does.
    pub(crate) fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Whose endpoint it is. On a service of one's own all of them usually are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndpointName {
    /// EC2 Instance Connect.
    InstanceConnect,
    /// EC2.
    #[cfg(feature = "ec2")]
    Ec2,
    /// The Security Token Service.
    #[cfg(feature = "ec2")]
    Sts,
}

impl EndpointName {
    /// The variable that gives its URL.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::InstanceConnect => "AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT",
            #[cfg(feature = "ec2")]
            Self::Ec2 => "AWS_ENDPOINT_URL_EC2",
            #[cfg(feature = "ec2")]
            Self::Sts => "AWS_ENDPOINT_URL_STS",
        }
    }

    /// Its key in a `services` section.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::InstanceConnect => "ec2_instance_connect",
            #[cfg(feature = "ec2")]
            Self::Ec2 => "ec2",
            #[cfg(feature = "ec2")]
            Self::Sts => "sts",
        }
    }

    /// What the host names of AWS's own begin with.
    fn label(self) -> &'static str {
        match self {
            Self::InstanceConnect => "ec2-instance-connect",
            #[cfg(feature = "ec2")]
            Self::Ec2 => "ec2",
            #[cfg(feature = "ec2")]
            Self::Sts => "sts",
        }
    }
}

/// Which of the service's endpoints in a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) fips: bool,
    pub(crate) dual_stack: bool,
}

/// A partition of AWS: how its regions look, and the domains of its endpoints.
struct Partition {
    /// What its regions begin with, before a word and a number.
    prefix: &'static str,
    domain: &'static str,
    dual_stack_domain: &'static str,
}

/// wire.md 1.11. Every other region is one of the partition `aws`, as in botocore.
const PARTITIONS: [Partition; 7] = [
    Partition {
        prefix: "cn-",
        domain: "amazonaws.com.cn",
        dual_stack_domain: "api.amazonwebservices.com.cn",
    },
    Partition { prefix: "us-gov-", domain: "amazonaws.com", dual_stack_domain: "api.aws" },
    Partition { prefix: "eusc-de-", domain: "amazonaws.eu", dual_stack_domain: "api.amazonwebservices.eu" },
    Partition { prefix: "us-iso-", domain: "c2s.ic.gov", dual_stack_domain: "api.aws.ic.gov" },
    Partition { prefix: "us-isob-", domain: "sc2s.sgov.gov", dual_stack_domain: "api.aws.scloud" },
    Partition { prefix: "eu-isoe-", domain: "cloud.adc-e.uk", dual_stack_domain: "api.cloud-aws.adc-e.uk" },
    Partition { prefix: "us-isof-", domain: "csp.hci.ic.gov", dual_stack_domain: "api.aws.hci.ic.gov" },
];

const AWS: Partition = Partition { prefix: "", domain: "amazonaws.com", dual_stack_domain: "api.aws" };

/// The URL of AWS's own service in `region`.
pub(crate) fn aws_url(name: EndpointName, region: &str, variant: Variant) -> String {
    let partition = PARTITIONS.iter().find(|partition| partition.has(region)).unwrap_or(&AWS);
    let domain = if variant.dual_stack { partition.dual_stack_domain } else { partition.domain };
    let fips = if variant.fips { "-fips" } else { "" };
    format!("https://{}{fips}.{region}.{domain}", name.label())
}

impl Partition {
    /// `<prefix><word>-<number>`.
    fn has(&self, region: &str) -> bool {
        let Some(rest) = region.strip_prefix(self.prefix) else { return false };
        let Some((word, number)) = rest.split_once('-') else { return false };
        !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_alphanumeric())
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    }
}

/// A region becomes part of a host name, so it must be one label of it.
pub(crate) fn is_region(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_taken_apart() {
        for (url, tls, host, port, authority, path) in [
            ("https://example.com", true, "example.com", 443, "example.com", "/"),
            ("https://Example.COM:443/", true, "example.com", 443, "example.com", "/"),
            ("http://127.0.0.1:80", false, "127.0.0.1", 80, "127.0.0.1", "/"),
            ("http://127.0.0.1:443/a/b", false, "127.0.0.1", 443, "127.0.0.1:443", "/a/b"),
            ("http://[::1]:8080", false, "::1", 8080, "[::1]:8080", "/"),
            ("https://[::1]", true, "::1", 443, "[::1]", "/"),
        ] {
            let endpoint = Endpoint::parse(url).unwrap();
            let expected =
                Endpoint { tls, host: host.into(), port, authority: authority.into(), path: path.into() };
            assert_eq!(endpoint, expected, "{url}");
            assert_eq!(Endpoint::parse(&endpoint.url()).unwrap(), endpoint, "{url}");
        }
    }

    #[test]
    fn urls_refused() {
        for url in [
            "",
            "example.com",
            "ftp://example.com",
            "https://",
            "https:///x",
            "https://a b",
            "http://host:99999",
            "http://host:",
            "http://host:0",
            "https://host/?a=b",
            "https://host/#x",
            "https://name:word@host",
        ] {
            let error = Endpoint::parse(url).unwrap_err().to_string();
            assert!(!error.contains("word"), "{error}");
        }
    }

    #[test]
    fn loopback() {
        for (url, loopback) in [
            ("http://127.0.0.1", true),
            ("http://127.9.9.9:1", true),
            ("http://[::1]", true),
            ("http://localhost:8080", true),
            ("http://a.localhost", false),
            ("http://localhost.", false),
            ("http://localhost.example.com", false),
            ("http://10.0.0.1", false),
            ("http://0.0.0.0", false),
            ("http://[::]", false),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap().is_loopback(), loopback, "{url}");
        }
    }

    #[test]
    fn peers_of_a_plain_loopback_endpoint() {
        for (url, peer, admitted) in [
            ("http://localhost", "127.0.0.1", true),
            ("http://localhost", "127.9.9.9", true),
            ("http://localhost", "::1", true),
            ("http://localhost", "::ffff:127.0.0.1", true),
            ("http://localhost", "10.0.0.1", false),
            ("http://localhost", "::ffff:10.0.0.1", false),
            ("http://localhost", "2001:db8::1", false),
            ("http://localhost", "0.0.0.0", false),
            ("http://127.0.0.1", "127.0.0.1", true),
            // What proves itself, and what was allowed to go without TLS anywhere.
            ("https://localhost", "10.0.0.1", true),
            ("http://example.com", "10.0.0.1", true),
        ] {
            let endpoint = Endpoint::parse(url).unwrap();
            assert_eq!(endpoint.admits(peer.parse().unwrap()), admitted, "{url} {peer}");
        }
    }

    #[test]
    fn regions() {
        for region in ["us-east-1", "a", "local", "EU-1"] {
            assert!(is_region(region), "{region}");
        }
        for region in ["", "-a", "a-", "a.b", "a/b", "a b", "ä", "a@b", &"a".repeat(64)] {
            assert!(!is_region(region), "{region}");
        }
    }
}
