//! Which machine a host name of ssh means, and where it is: an instance id or a `Name` tag, looked up in the ready file and by EC2's
//! `DescribeInstances`.

use crate::failure::{self, Exit, Failure};
use crate::instances::Pages;
use crate::progress;
use crate::ready_file::{Entry, ReadyFile};
use clap::ValueEnum;
use instance_connect_client::{Client, DescribeInstances, Ec2Instance};
use instance_connect_core::host_key::HostKey;
use instance_connect_core::ids::InstanceId;
use instance_connect_core::printable::printable;
use instance_connect_planted::planted;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// What a host name that means a `Name` tag ends with. No name of the DNS does: a top-level domain has no digits.
pub(crate) const SUFFIX: &str = ".ec2";

/// Longest host name taken: a tag's value has at most 256 characters, and a file is named by it.
const LONGEST_NAME: usize = 200;

/// How many instances of one name are listed.
const LISTED: usize = 10;

/// What is waited for while a machine is.
const LOOKED_UP: &str = "the instance to be looked up";

/// A host name as somebody gives it to ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Id(InstanceId),
    /// The value of a `Name` tag.
    Name(String),
}

impl FromStr for Host {
    type Err = String;

    /// Nothing that could be read as an option or a path, by whomever.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        if is_host(text) {
            let name = without_suffix(text);
            if text.starts_with("i-") && name == text {
                return Err(format!(
                    "it is no instance id; a name that begins with i- is written with {SUFFIX} behind it"
                ));
            }
            return Ok(Self::Name(name.to_owned()));
        }
        Err(format!(
            "it is neither an instance id nor a name of at most {LONGEST_NAME} letters, digits, dots, hyphens and underscores"
        ))
    }
}

/// Whether the text can be a host of ours as ssh names it, and a file beside others.
pub(crate) fn is_host(text: &str) -> bool {
    let name = without_suffix(text);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !name.is_empty()
        && text.len() <= LONGEST_NAME
        && !text.starts_with(['-', '.'])
        && text.bytes().all(allowed)
}

/// A name alone. A suffix is one whichever its case, as in the DNS.
fn without_suffix(text: &str) -> &str {
    match text.len().checked_sub(SUFFIX.len()).and_then(|length| text.split_at_checked(length)) {
        Some((name, suffix)) if suffix.eq_ignore_ascii_case(SUFFIX) => name,
        _ => text,
    }
}

/// Which of its addresses a machine is reached at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Address {
    /// The public IPv4 address, else the IPv6 address, else the private one
    #[default]
    Auto,
    Public,
    Ipv6,
    Private,
}

impl Address {
    /// As it is given on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Public => "public",
            Self::Ipv6 => "ipv6",
            Self::Private => "private",
        }
    }

    /// This one of an instance's addresses.
    fn of(self, instance: &Ec2Instance) -> Option<IpAddr> {
        let ipv4 = |text: &Option<String>| text.as_deref()?.parse::<Ipv4Addr>().ok().map(IpAddr::from);
        let public = || ipv4(&instance.public_ip_address);
        let private = || ipv4(&instance.private_ip_address);
        let ipv6 = || instance.ipv6_address.as_deref()?.parse::<Ipv6Addr>().ok().map(IpAddr::from);
        match self {
            Self::Auto => public().or_else(ipv6).or_else(private),
            Self::Public => public(),
            Self::Ipv6 => ipv6(),
            Self::Private => private(),
        }
    }
}

/// A machine, and where it is.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) instance: InstanceId,
    /// A host name or an address.
    pub(crate) host: String,
    /// The port, where the ready file gives one.
    pub(crate) port: Option<u16>,
    /// The host key, where the ready file gives one.
    pub(crate) host_key: Option<HostKey>,
}

/// Finds a machine. What the ready file says of it comes first.
pub(crate) async fn find(
    host: &Host,
    address: Address,
    ready: Option<&ReadyFile>,
    client: &Client,
) -> Result<Machine, Failure> {
    let described = match host {
        Host::Id(id) => match in_file(id, ready)? {
            Some(machine) => return Ok(machine),
            None => by_id(id, client).await?,
        },
        Host::Name(name) => by_name(name, client).await?,
    };
    let instance = id_of(&described)?;
    if let Some(machine) = in_file(&instance, ready)? {
        return Ok(machine);
    }
    match described.state.as_deref() {
        Some("running") | None => {}
        Some(state) => {
            let message = format!("{instance} is {}", printable(state));
            return Err(Failure::new(Exit::Service, message).hint("the instance must be running"));
        }
    }
    let Some(found) = address.of(&described) else { return Err(no_address(&instance, address)) };
    Ok(Machine { instance, host: found.to_string(), port: None, host_key: None })
}

/// The instance that is meant, wherever it is. An id is taken as it stands: whether there is such an instance is for whoever is asked next.
pub(crate) async fn instance(host: &Host, client: &Client) -> Result<InstanceId, Failure> {
    match host {
        Host::Id(id) => Ok(id.clone()),
        Host::Name(name) => id_of(&by_name(name, client).await?),
    }
}

fn id_of(described: &Ec2Instance) -> Result<InstanceId, Failure> {
    let refuse = |error| Failure::new(Exit::Service, format!("the service names an instance: {error}"));
    described.instance_id.parse().map_err(refuse)
}

fn in_file(id: &InstanceId, ready: Option<&ReadyFile>) -> Result<Option<Machine>, Failure> {
    let Some(entry) = ready.and_then(|file| file.instance(id)) else { return Ok(None) };
    let Entry { ssh_host: Some(host), ssh_port, host_key, .. } = entry else { return Ok(None) };
    let host_key = host_key.as_deref().map(HostKey::from_str).transpose().map_err(|error| {
        Failure::new(Exit::Configuration, format!("the ready file's host key of {id}: {error}"))
    })?;
    Ok(Some(Machine { instance: id.clone(), host: host.clone(), port: *ssh_port, host_key }))
}

async fn by_id(id: &InstanceId, client: &Client) -> Result<Ec2Instance, Failure> {
    let request = DescribeInstances::new().instance_id(id.as_str());
    let described = progress::step(LOOKED_UP, client.describe_instances(&request)).await?;
    let found = described.instances.into_iter().find(|instance| instance.instance_id == id.as_str());
    found.ok_or_else(|| {
        let request = printable(described.request_id.as_deref().unwrap_or("none"));
        Failure::new(Exit::Service, format!("the service describes no instance {id} (request id {request})"))
            .hint(failure::CHECK_THE_INSTANCE)
    })
}

/// The one running instance of this name.
async fn by_name(name: &str, client: &Client) -> Result<Ec2Instance, Failure> {
    let mut found = progress::step(LOOKED_UP, named(name, client)).await?;
    if found.len() > 1 && !planted("names-in-doubt-taken") {
        return Err(several(name, &found));
    }
    found.pop().ok_or_else(|| {
        Failure::new(Exit::Service, format!("no running instance has the Name tag {name}"))
            .hint("capitals count; an instance id, such as i-0123456789abcdef0, is never in doubt")
    })
}

/// The running instances of this name: all of them, or more than are listed.
async fn named(name: &str, client: &Client) -> Result<Vec<Ec2Instance>, Failure> {
    // Of a host name's characters none means something in a filter.
    let request =
        DescribeInstances::new().filter("tag:Name", [name]).filter("instance-state-name", ["running"]);
    // A service that does not know the filters must not choose the machine.
    let fits = |instance: &Ec2Instance| {
        instance.tag("Name") == Some(name) && instance.state.as_deref() == Some("running")
    };
    let mut pages = Pages::new(client, request);
    let mut found: Vec<Ec2Instance> = Vec::new();
    while found.len() <= LISTED
        && let Some(page) = pages.next().await?
    {
        found.extend(page.into_iter().filter(fits));
    }
    Ok(found)
}

fn several(name: &str, found: &[Ec2Instance]) -> Failure {
    let list = found.iter().take(LISTED).map(|instance| {
        let zone = instance.availability_zone.as_deref().unwrap_or("zone unknown");
        let address = Address::Private.of(instance).map_or_else(String::new, |ip| format!(", {ip}"));
        format!("{} ({}{address})", printable(&instance.instance_id), printable(zone))
    });
    let list = list.collect::<Vec<_>>().join(", ");
    let more = if found.len() > LISTED { ", and more" } else { "" };
    Failure::new(Exit::Parameter, format!("several running instances have the Name tag {name}: {list}{more}"))
        .hint("use the id of the one that is meant")
}

fn no_address(instance: &InstanceId, address: Address) -> Failure {
    match address {
        Address::Auto => Failure::new(Exit::Service, format!("the service knows no address of {instance}"))
            .hint("its agent or an administrator has to say one; `instance-connect ssh --host` takes one"),
        other => Failure::new(
            Exit::Service,
            format!("the service knows no {} address of {instance}", other.name()),
        )
        .hint("--address auto takes whichever there is"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let id: InstanceId = "i-0123456789abcdef0".parse().unwrap();
        assert_eq!("i-0123456789abcdef0".parse(), Ok(Host::Id(id)));
        for (text, name) in [
            ("web-1", "web-1"),
            ("Web_1.ec2", "Web_1"),
            ("Web_1.EC2", "Web_1"),
            ("a.b.ec2", "a.b"),
            ("web.ec2.ec2", "web.ec2"),
            ("i-short.ec2", "i-short"),
        ] {
            assert_eq!(text.parse(), Ok(Host::Name(name.to_owned())), "{text}");
        }
        let long = "x".repeat(LONGEST_NAME + 1);
        for text in [
            "",
            ".",
            "..",
            ".ec2",
            "-oProxyCommand=x",
            "a/b",
            "../x",
            "a b",
            "a;b",
            "a'b",
            "$(x)",
            "`x`",
            "a\\b",
            "a*",
            "a@b",
            "\u{e9}",
            "a\n",
            // Whoever may set tags stands in for no id.
            "i-short",
            "i-0123456789abcdeg",
            &long,
        ] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    #[test]
    fn addresses() {
        let mut instance = Ec2Instance::default();
        assert_eq!(Address::Auto.of(&instance), None);
        instance.private_ip_address = Some("10.0.0.1".to_owned());
        let of = |address: Address, instance: &Ec2Instance| address.of(instance).map(|ip| ip.to_string());
        assert_eq!(of(Address::Auto, &instance).as_deref(), Some("10.0.0.1"));
        instance.ipv6_address = Some("2001:db8::1".to_owned());
        assert_eq!(of(Address::Auto, &instance).as_deref(), Some("2001:db8::1"));
        instance.public_ip_address = Some("192.0.2.1".to_owned());
        for (address, expected) in [
            (Address::Auto, "192.0.2.1"),
            (Address::Public, "192.0.2.1"),
            (Address::Ipv6, "2001:db8::1"),
            (Address::Private, "10.0.0.1"),
        ] {
            assert_eq!(of(address, &instance).as_deref(), Some(expected));
        }
        instance.public_ip_address = Some("-oProxyCommand=x".to_owned());
        assert_eq!(Address::Public.of(&instance), None);
    }
}
