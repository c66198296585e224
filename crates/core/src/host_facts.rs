//! What a machine's agent says of its machine: claims, which people and tools are shown and on which no decision rests.

use crate::link::{Line, limits};
use instance_connect_document::UnixSeconds;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// One fact in words; empty where the machine does not say it.
pub type FactText = Line<{ limits::FACT }>;

/// What an agent says of its machine (docs/link.md 7.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Its host name.
    pub hostname: FactText,
    /// `ID` of its os-release: `debian`.
    pub os_id: FactText,
    /// `VERSION_ID`: `12`.
    pub os_version: FactText,
    /// `PRETTY_NAME`: `Debian GNU/Linux 12 (bookworm)`.
    pub os_name: FactText,
    /// The release of its kernel, as `uname -r` shows it.
    pub kernel: FactText,
    /// What processor it has, as `uname -m` shows it: `x86_64`, `aarch64`.
    pub architecture: FactText,
    /// Where it can be reached, what it reaches the control plane from before all else. At most [`limits::HOST_ADDRESSES`] are
    /// sent.
    pub addresses: Vec<HostAddress>,
}

/// An address at which others may find a machine: none that means the machine of whoever uses it, its own link or a group, so
/// that nobody who is told it is sent to a service of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostAddress(IpAddr);

/// That is not the address of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address at which others find a machine")]
pub struct NoHostAddress;

/// Facts, and since when the machine says just these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedFacts {
    /// What it says.
    pub facts: HostFacts,
    /// When it said so first.
    pub reported_at: UnixSeconds,
}

/// What comes of a report of facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFactsReport {
    /// The machine has said just that before, or nobody asks any more: nothing is kept.
    Known,
    /// It is kept. What is on record of the machine is as it was: its kernel or system is another, and no more.
    Kept,
    /// It is put on record and then kept: where the machine is, or what it is called, is not what it was.
    Recorded,
}

/// What of the facts EC2's API shows where operators say nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostClaims {
    /// Where the machine is found.
    pub addresses: Addresses,
    /// Its processor, where EC2 has a name for that.
    pub architecture: Option<Architecture>,
}

/// Where a machine is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Its IPv4 address within its network.
    pub private_ip: Option<Ipv4Addr>,
    /// Its IPv4 address in the internet.
    pub public_ip: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
}

/// The processors that EC2 knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// 32 bits of x86.
    I386,
    /// 64 bits of x86.
    X86_64,
    /// 64 bits of ARM.
    Arm64,
}

impl HostFacts {
    /// What comes of these, where the machine has said `before` until now.
    pub fn judge(&self, before: Option<&Self>) -> HostFactsReport {
        let recorded = |facts: &Self| {
            let Self { hostname, architecture, addresses, .. } = facts;
            (hostname.clone(), architecture.clone(), addresses.clone())
        };
        match before {
            Some(before) if before == self => HostFactsReport::Known,
            Some(before) if recorded(before) == recorded(self) => HostFactsReport::Kept,
            _ => HostFactsReport::Recorded,
        }
    }

    /// What EC2's API shows of them: of each kind of address the first.
    pub fn claims(&self) -> HostClaims {
        let v4 = || {
            self.addresses.iter().filter_map(|address| match address.0 {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            })
        };
        let v6 = self.addresses.iter().find_map(|address| match address.0 {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        });
        HostClaims {
            addresses: Addresses {
                private_ip: v4().find(|address| !is_global(*address)),
                public_ip: v4().find(|address| is_global(*address)),
                ipv6: v6,
            },
            architecture: Architecture::of_machine(self.architecture.as_str()),
        }
    }
}

impl Addresses {
    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Those that are known.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let Self { private_ip, public_ip, ipv6 } = *self;
        [private_ip.map(IpAddr::V4), public_ip.map(IpAddr::V4), ipv6.map(IpAddr::V6)].into_iter().flatten()
    }

    /// Those of them that fit.
    #[must_use]
    pub fn filter(&self, fits: impl Fn(IpAddr) -> bool) -> Self {
        let Self { private_ip, public_ip, ipv6 } = *self;
        Self {
            private_ip: private_ip.filter(|address| fits((*address).into())),
            public_ip: public_ip.filter(|address| fits((*address).into())),
            ipv6: ipv6.filter(|address| fits((*address).into())),
        }
    }
}

impl HostAddress {
    /// The address; an IPv4 address that is written as an IPv6 address is that IPv4 address.
    ///
    /// # Errors
    /// [`NoHostAddress`] for unspecified, loopback, link-local, site-local, multicast, reserved and IPv4-compatible addresses,
    /// those at which machines of EC2 and other clouds have their metadata service, and IPv6 addresses that stand for such an
    /// IPv4 address.
    pub fn new(address: IpAddr) -> Result<Self, NoHostAddress> {
        let address = address.to_canonical();
        let is_of_a_host = match address {
            IpAddr::V4(v4) => is_of_a_host(v4),
            IpAddr::V6(v6) => {
                // Below ::1:0:0 are none, loopback, and IPv4 in a form that nobody uses any more; fec0::/10 is site-local.
                let is_special = v6.to_bits() >> 32 == 0 || matches!(v6.segments(), [0xfec0..=0xfeff, ..]);
                let is_metadata_service =
                    matches!(v6.segments(), [0xfd00, 0xec2, ..] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]);
                !(is_special || is_metadata_service || v6.is_multicast() || v6.is_unicast_link_local())
                    && embedded(v6).is_none_or(is_of_a_host)
            }
        };
        if is_of_a_host { Ok(Self(address)) } else { Err(NoHostAddress) }
    }

    /// The address.
    pub const fn ip(self) -> IpAddr {
        self.0
    }
}

impl FromStr for HostAddress {
    type Err = NoHostAddress;

    fn from_str(text: &str) -> Result<Self, NoHostAddress> {
        Self::new(text.parse().map_err(|_| NoHostAddress)?)
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Architecture {
    /// EC2's name of it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::I386 => "i386",
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }

    /// By the name that the kernel has for it.
    fn of_machine(machine: &str) -> Option<Self> {
        match machine {
            "i386" | "i486" | "i586" | "i686" => Some(Self::I386),
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Arm64),
            _ => None,
        }
    }
}

/// Whether others may find a machine at this address.
const fn is_of_a_host(address: Ipv4Addr) -> bool {
    let is_metadata_service = matches!(
        address.octets(),
        // Of Alibaba Cloud, Azure and Oracle Cloud. That of the others is link-local.
        [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192]
    );
    // 0.0.0.0/8 is this host; 224.0.0.0/4 are groups, and what is above them is reserved.
    let is_special = matches!(address.octets(), [0 | 224.., ..]);
    !(is_special || is_metadata_service || address.is_loopback() || address.is_link_local())
}

/// The IPv4 address to which a gateway or the system's own translation takes what is sent to this one: behind NAT64's prefix
/// (RFC 6052), in an IPv4-translated address (RFC 2765), and in one of 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x2002, high, low, ..] => Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))),
        _ => None,
    }
}

/// Whether the address is one in the internet, by IANA's registry of special addresses.
const fn is_global(address: Ipv4Addr) -> bool {
    let special = matches!(
        address.octets(),
        // Carriers' own networks, protocols', benchmarks'.
        [100, 64..128, ..] | [192, 0, 0, _] | [198, 18 | 19, ..]
    );
    !(special || address.is_private() || address.is_documentation())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(addresses: &[&str], architecture: &str) -> HostFacts {
        HostFacts {
            architecture: architecture.parse().unwrap(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ..HostFacts::default()
        }
    }

    #[test]
    fn the_first_address_of_each_kind_is_shown() {
        for (addresses, private_ip, public_ip, ipv6) in [
            (&[][..], None, None, None),
            (&["10.0.1.9", "10.0.1.10"], Some("10.0.1.9"), None, None),
            (&["8.8.4.4", "10.0.1.9"], Some("10.0.1.9"), Some("8.8.4.4"), None),
            (&["2001:db8::9", "fd00::9", "172.31.0.1"], Some("172.31.0.1"), None, Some("2001:db8::9")),
            // Nobody in the internet finds these.
            (&["100.64.0.1"], Some("100.64.0.1"), None, None),
            (&["100.127.255.255"], Some("100.127.255.255"), None, None),
            (&["100.128.0.1"], None, Some("100.128.0.1"), None),
            (&["192.0.0.8"], Some("192.0.0.8"), None, None),
            (&["198.19.0.1"], Some("198.19.0.1"), None, None),
            (&["203.0.113.7"], Some("203.0.113.7"), None, None),
        ] {
            let expected = Addresses {
                private_ip: private_ip.map(|text| text.parse().unwrap()),
                public_ip: public_ip.map(|text| text.parse().unwrap()),
                ipv6: ipv6.map(|text| text.parse().unwrap()),
            };
            assert_eq!(facts(addresses, "").claims().addresses, expected, "{addresses:?}");
        }
    }

    #[test]
    fn processors_have_the_names_that_ec2_has_for_them() {
        for (machine, expected) in [
            ("x86_64", Some("x86_64")),
            ("aarch64", Some("arm64")),
            ("i686", Some("i386")),
            ("riscv64", None),
        ] {
            let architecture = facts(&[], machine).claims().architecture;
            assert_eq!(architecture.map(Architecture::as_str), expected, "{machine}");
        }
    }

    #[test]
    fn what_is_on_record_of_a_machine_is_recorded_when_it_changes() {
        let first = facts(&["10.0.1.9"], "x86_64");
        let others = [
            (first.clone(), HostFactsReport::Known),
            (HostFacts { kernel: "6.1".parse().unwrap(), ..first.clone() }, HostFactsReport::Kept),
            (HostFacts { os_id: "debian".parse().unwrap(), ..first.clone() }, HostFactsReport::Kept),
            (HostFacts { os_version: "12".parse().unwrap(), ..first.clone() }, HostFactsReport::Kept),
            (HostFacts { os_name: "Debian".parse().unwrap(), ..first.clone() }, HostFactsReport::Kept),
            (HostFacts { hostname: "web".parse().unwrap(), ..first.clone() }, HostFactsReport::Recorded),
            (facts(&["10.0.1.9"], "aarch64"), HostFactsReport::Recorded),
            (facts(&["10.0.1.9", "10.0.1.10"], "x86_64"), HostFactsReport::Recorded),
        ];
        for (after, expected) in others {
            assert_eq!(after.judge(Some(&first)), expected, "{after:?}");
            assert_eq!(after.judge(None), HostFactsReport::Recorded);
        }
        assert_eq!(HostFacts::default().judge(None), HostFactsReport::Recorded);
    }

    /// An agent that lies sends nobody to a service on their own machine, or to the metadata service of that.
    #[test]
    fn addresses_that_are_no_machines() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            // The metadata services of other clouds.
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd20:ce::254",
            "::ffff:168.63.129.16",
            // What stands for an IPv4 address that is none.
            "64:ff9b::169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::",
            "::ffff:0:127.0.0.1",
            "::ffff:0:6464:64c8",
            "fec0::1",
            "feff::1",
            "x",
            "",
            "10.0.0.1%eth0",
        ] {
            assert_eq!(text.parse::<HostAddress>(), Err(NoHostAddress), "{text}");
        }
        for (text, shown) in [
            ("10.0.1.9", "10.0.1.9"),
            ("::ffff:10.0.1.9", "10.0.1.9"),
            ("2001:0DB8:0::9", "2001:db8::9"),
            ("fd00::1", "fd00::1"),
            ("fd20:ce::9", "fd20:ce::9"),
            ("64:ff9b::a00:109", "64:ff9b::a00:109"),
            ("2002:808:404::1", "2002:808:404::1"),
        ] {
            assert_eq!(text.parse::<HostAddress>().unwrap().to_string(), shown);
        }
    }
}
