//! What this machine is and where it is found, which its agent tells the control plane.

use crate::files;
use instance_connect_core::host_facts::{FactText, HostAddress, HostFacts};
use rustix::system::uname;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;

/// Largest os-release file that is looked at: they have some 400 bytes.
const LARGEST_FILE: u64 = 16 * 1024;

/// Two addresses in the internet that nobody has (RFC 5737, RFC 3849).
const INTERNET: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// What there is to say now. `link` is the address from which this machine reaches the control plane.
pub(crate) fn read(os_release: &Path, link: Option<IpAddr>) -> HostFacts {
    let release = files::read(os_release, LARGEST_FILE).ok().flatten().unwrap_or_default();
    let release = String::from_utf8_lossy(&release);
    let of_release = |name| FactText::lossy(&variable(&release, name).unwrap_or_default());
    let system = uname();
    let of_system = |field: &std::ffi::CStr| FactText::lossy(&field.to_string_lossy());
    HostFacts {
        hostname: of_system(system.nodename()),
        os_id: of_release("ID"),
        os_version: of_release("VERSION_ID"),
        os_name: of_release("PRETTY_NAME"),
        kernel: of_system(system.release()),
        architecture: of_system(system.machine()),
        addresses: addresses(link.into_iter().chain(INTERNET.into_iter().filter_map(towards))),
    }
}

/// Those of the addresses at which others find this machine, each once.
fn addresses(found: impl IntoIterator<Item = IpAddr>) -> Vec<HostAddress> {
    let mut addresses = Vec::new();
    for address in found.into_iter().filter_map(|address| HostAddress::new(address).ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// The address from which this machine would speak to another one: the one of its own that matters, among all that containers,
/// bridges and tunnels have. Connecting a UDP socket asks the routing table and sends nothing.
fn towards(other: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match other {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((other, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// A variable of an os-release file (os-release(5)): as a shell would have it that knows quotes and nothing else.
fn variable(release: &str, name: &str) -> Option<String> {
    let value = |line: &'_ str| Some(line.trim().strip_prefix(name)?.strip_prefix('=')?.to_owned());
    // As in a shell, the last one counts.
    let value = release.lines().rev().find_map(value)?;
    let within = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    Some(match (within('"'), within('\'')) {
        (Some(text), _) => unescaped(text),
        (None, Some(text)) => text.to_owned(),
        (None, None) => value,
    })
}

/// Without the backslashes that stand before another character.
fn unescaped(text: &str) -> String {
    let mut characters = text.chars();
    std::iter::from_fn(|| match characters.next()? {
        '\\' => characters.next(),
        character => Some(character),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn variables_of_os_release() {
        let release = "# comment\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n ID=first\nID=debian\nVERSION_ID='12'\n\
                       QUOTED=\"a\\\"b\\$c\\\\d\"\nHALF=\"\nEMPTY=\nNO_ID=x\nID_LIKE=y";
        for (name, expected) in [
            ("PRETTY_NAME", Some("Debian GNU/Linux 12 (bookworm)")),
            ("ID", Some("debian")),
            ("VERSION_ID", Some("12")),
            ("QUOTED", Some("a\"b$c\\d")),
            ("HALF", Some("\"")),
            ("EMPTY", Some("")),
            ("VERSION", None),
        ] {
            assert_eq!(variable(release, name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn this_machine_says_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("os-release");
        let nothing = read(&file, None);
        assert_eq!((nothing.os_id.as_str(), nothing.os_name.as_str()), ("", ""));
        assert_eq!(nothing.architecture.as_str(), std::env::consts::ARCH);
        std::fs::write(&file, "ID=debian\nPRETTY_NAME=\"D\u{1b}\u{e9}b\"\n").unwrap();
        let link = "10.255.0.9".parse().ok();
        let facts = read(&file, link);
        assert_eq!((facts.os_id.as_str(), facts.os_name.as_str()), ("debian", "D??b"));
        assert_eq!(facts.addresses[0].ip().to_string(), "10.255.0.9");
        assert_eq!(facts.addresses[1..], nothing.addresses);
        std::fs::write(&file, "ID=debian\n".repeat(10_000)).unwrap();
        assert_eq!(read(&file, link).os_id.as_str(), "");
    }

    #[test]
    fn addresses_are_said_once_and_only_those_of_a_machine() {
        let found = ["127.0.0.1", "10.0.1.9", "fe80::1", "2001:db8::9", "::ffff:10.0.1.9"];
        let addresses = addresses(found.map(|text| text.parse().unwrap()));
        assert_eq!(
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.1.9", "2001:db8::9"]
        );
        assert!(towards("127.0.0.1".parse().unwrap()).unwrap().is_loopback());
    }

    proptest! {
        #[test]
        fn os_release_parser_never_panics(release in "(ID=|[\"'\\\\\n=ID a])*", other: String) {
            let _ = (variable(&release, "ID"), variable(&other, "ID"));
        }
    }
}
