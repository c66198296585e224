//! The frame of host facts (docs/link.md 7.5).

use super::codec::{FrameError, Reader, Writer};
use super::limits;
use crate::host_facts::{HostAddress, HostFacts};
use std::net::{IpAddr, Ipv6Addr};

impl HostFacts {
    pub(super) fn encode(&self, kind: u8) -> Vec<u8> {
        let addresses = self.addresses.iter().take(limits::HOST_ADDRESSES);
        let writer = Writer::new(kind)
            .text8(self.hostname.as_str())
            .text8(self.os_id.as_str())
            .text8(self.os_version.as_str())
            .text8(self.os_name.as_str())
            .text8(self.kernel.as_str())
            .text8(self.architecture.as_str())
            .count(addresses.len());
        addresses.fold(writer, |writer, address| writer.array(&mapped(*address).octets())).finish()
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        let mut facts = Self {
            hostname: body.text8("host name")?,
            os_id: body.text8("OS id")?,
            os_version: body.text8("OS version")?,
            os_name: body.text8("OS name")?,
            kernel: body.text8("kernel")?,
            architecture: body.text8("architecture")?,
            addresses: Vec::new(),
        };
        let count = body.count(limits::HOST_ADDRESSES, "address count")?;
        let address = |_| {
            let address = IpAddr::V6(Ipv6Addr::from(body.array::<16>()?));
            HostAddress::new(address).map_err(|_| FrameError::Malformed("address"))
        };
        facts.addresses = (0..count).map(address).collect::<Result<_, _>>()?;
        Ok(facts)
    }
}

/// As an IPv6 address, which an IPv4 address has one of, too.
const fn mapped(address: HostAddress) -> Ipv6Addr {
    match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}
