//! The command line of `console`.

use crate::administration::arguments::Format;
use crate::machine::Host;
use crate::ssh::is_address;
use clap::{Args, Subcommand};
use instance_connect_core::stream::LONGEST_BREAK;
use std::ffi::OsString;
use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

/// SSH's own, where a gateway is named without one: AWS's listens there.
const SSH_PORT: u16 = 22;

/// The options of [`Attach`].
const ATTACHING: [&str; 4] = ["gateway", "known_hosts", "dry_run", "rest"];

#[derive(Args)]
#[command(
    subcommand_negates_reqs = true,
    subcommand_precedence_over_arg = true,
    subcommand_help_heading = "Without an instance",
    disable_help_subcommand = true,
    override_usage = "instance-connect console [OPTIONS] INSTANCE [-- OPTION...]\n       \
        instance-connect console fingerprint [OPTIONS]",
    after_help = "Examples:
  instance-connect console i-0123456789abcdef0            attach; Ctrl-] . leaves
  instance-connect console web-1 --watch                  look on while somebody else writes
  instance-connect console i-0123456789abcdef0 --break    send a BREAK to the session that is there
  instance-connect console fingerprint                    whom ssh should meet at the gateway"
)]
pub(crate) struct ConsoleOptions {
    #[command(subcommand)]
    pub(crate) command: Option<ConsoleCommand>,
    /// An instance id, or the Name tag of a running instance, with or without `.ec2` behind it
    #[arg(value_name = "INSTANCE", required = true)]
    pub(crate) instance: Option<Host>,
    /// Look on and write nothing, also while somebody else writes
    #[arg(long, group = "what")]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) act: Act,
    #[command(flatten)]
    pub(crate) attach: Attach,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// What is done without attaching.
#[derive(Args)]
pub(crate) struct Act {
    /// Have a BREAK sent by the session that is there, and do not attach. In a session Ctrl-] b does it
    #[arg(long = "break", group = "what", conflicts_with_all = ATTACHING)]
    pub(crate) send_break: bool,
    /// How long the BREAK lasts, for --break [default: 250]
    #[arg(long, value_name = "NUMBER", requires = "send_break", value_parser = duration())]
    pub(crate) break_milliseconds: Option<u16>,
    /// End the session of whoever has the line
    #[arg(long, group = "what", conflicts_with_all = ATTACHING)]
    pub(crate) terminate: bool,
    /// Say who has the line, since when, and who looks on
    #[arg(long, group = "what", conflicts_with_all = ATTACHING)]
    pub(crate) who: bool,
}

/// How the gateway is reached.
#[derive(Args)]
pub(crate) struct Attach {
    /// Connect to the gateway at this address [default: the ready file's, else as the service says]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) gateway: Option<GatewayAddress>,
    /// Trust the host keys in this file alone [default: the ready file's key, else those that the service says, else your own
    /// known hosts]. A key that is not known is never accepted
    #[arg(long, value_name = "FILE")]
    pub(crate) known_hosts: Option<PathBuf>,
    /// Print the command that would be run, and neither push a key nor connect. The service may be asked for the gateway
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Options for ssh, such as `-e none`
    #[arg(value_name = "OPTION", last = true)]
    pub(crate) rest: Vec<OsString>,
}

#[derive(Subcommand)]
pub(crate) enum ConsoleCommand {
    /// Print the gateways' host keys: fingerprint, type and address
    Fingerprint,
}

impl ConsoleOptions {
    /// Whether anything stands in front of a subcommand, which takes nothing of it.
    pub(crate) fn says_more_than_a_command(&self) -> bool {
        let Self { command: _, instance, watch, act, attach, format: _ } = self;
        let Act { send_break, break_milliseconds, terminate, who } = act;
        let Attach { gateway, known_hosts, dry_run, rest } = attach;
        instance.is_some()
            || [*watch, *send_break, *terminate, *who, *dry_run].contains(&true)
            || break_milliseconds.is_some()
            || gateway.is_some()
            || known_hosts.is_some()
            || !rest.is_empty()
    }
}

fn duration() -> clap::builder::RangedI64ValueParser<u16> {
    let longest = i64::try_from(LONGEST_BREAK.as_millis()).unwrap_or(i64::MAX);
    clap::value_parser!(u16).range(1..=longest)
}

/// Where people connect to serial lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewayAddress {
    /// A host name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FromStr for GatewayAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => {
                (host, Some(port.strip_prefix(':').ok_or("behind the ] stands a colon and the port")?))
            }
            None if text.parse::<Ipv6Addr>().is_ok() => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        if !is_address(host) {
            return Err("it is HOST or HOST:PORT, an IPv6 address with a port in brackets".to_owned());
        }
        let port = port.map_or(Ok(SSH_PORT), str::parse).ok().filter(|port| *port != 0);
        Ok(Self { host: host.to_owned(), port: port.ok_or("a port is a number from 1 to 65535")? })
    }
}

impl fmt::Display for GatewayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_of_gateways() {
        for (text, host, port) in [
            ("192.0.2.1:2022", "192.0.2.1", 2022),
            ("192.0.2.1", "192.0.2.1", 22),
            ("gateway.example:65535", "gateway.example", 65535),
            ("[2001:db8::1]:2022", "2001:db8::1", 2022),
            ("[2001:db8::1]", "2001:db8::1", 22),
            ("2001:db8::1", "2001:db8::1", 22),
        ] {
            let address: GatewayAddress = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port), "{text}");
        }
        for text in [
            "",
            ":22",
            "h:",
            "h:0",
            "h:65536",
            "h:22:22",
            "h:x",
            "[::1",
            "[::1]22",
            "[]:22",
            "[::1]:",
            "-oProxyCommand=x:22",
            "a b:22",
            "me@h:22",
            "h\n:22",
        ] {
            assert!(text.parse::<GatewayAddress>().is_err(), "{text:?}");
        }
    }

    proptest! {
        /// What is printed is read as the same, and whatever is read can be shown to ssh.
        #[test]
        fn an_address_is_read_as_it_is_printed(text in "\\PC{0,40}|\\[?[0-9a-f:.]{1,20}\\]?(:[0-9]{0,6})?") {
            if let Ok(address) = text.parse::<GatewayAddress>() {
                prop_assert!(is_address(&address.host) && address.port != 0);
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
