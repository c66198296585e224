//! Where the gateway of the serial lines is and how it proves itself: from the options, else from the ready file, else as the service
//! says.

use super::arguments::{Attach, GatewayAddress};
use crate::arguments::ServiceOptions;
use crate::failure::{Exit, Failure};
use crate::progress;
use crate::ready_file::{ReadyFile, SerialConsole};
use crate::service::{debug, is_aws, not_aws};
use crate::ssh::{Route, is_address};
use instance_connect_client::{Administer, AdministrativeOperation, Client, Error};
use instance_connect_core::console::ConsoleAddress;
use instance_connect_core::host_key::{HostKey, HostKeys};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// The name that the gateways' host keys stand under, in a file for one ssh: they may be several, behind one address.
const NAME: &str = "serial-console-gateway";

/// A gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gateway {
    pub(super) address: GatewayAddress,
    pub(super) host_keys: HostKeys,
}

/// How an ssh comes to the line.
pub(super) async fn route(
    line: &ConsoleAddress,
    options: &Attach,
    ready: Option<&ReadyFile>,
    service: &ServiceOptions,
    client: &Client,
) -> Result<Route, Failure> {
    let in_file = ready.and_then(|file| file.serial_console.as_ref());
    let Gateway { address, host_keys } = match (&options.gateway, &options.known_hosts, in_file) {
        (Some(address), Some(_), _) => Gateway { address: address.clone(), host_keys: HostKeys::new() },
        (Some(address), None, _) => {
            Gateway { address: address.clone(), host_keys: all_host_keys(service, client).await? }
        }
        (None, _, Some(gateway)) => of_file(gateway)?,
        (None, _, None) => any(client).await?,
    };
    debug(service, || format!("the gateway is {address}"));
    let mut route = Route::to_line(line, &address.host, address.port)?;
    match &options.known_hosts {
        Some(file) => route.trust_file(file)?,
        None if host_keys.is_empty() => debug(service, || "your own known hosts count"),
        None => route.trust_as(NAME, &host_keys),
    }
    Ok(route)
}

fn of_file(SerialConsole { host, port, host_key }: &SerialConsole) -> Result<Gateway, Failure> {
    let refuse = |what: &str| {
        Failure::new(Exit::Configuration, format!("the ready file's serial console has no {what}"))
    };
    if !is_address(host) || *port == 0 {
        return Err(refuse("host and port to connect to"));
    }
    let key = host_key.parse::<HostKey>().map_err(|error| refuse(&format!("host key: {error}")))?;
    let address = GatewayAddress { host: host.clone(), port: *port };
    Ok(Gateway { address, host_keys: std::iter::once(key).collect() })
}

/// A gateway of the service: any of them serves any line.
async fn any(client: &Client) -> Result<Gateway, Failure> {
    if is_aws(client) {
        let message = "AWS does not say where its serial consoles are";
        return Err(Failure::new(Exit::Parameter, message).hint(format!(
            "give --gateway serial-console.ec2-instance-connect.{}.aws, or what AWS's documentation names for your region, and \
             --known-hosts with the key whose fingerprint is published there",
            client.settings().region()
        )));
    }
    let gateways = ask(client).await.map_err(or_a_gateway)?;
    gateways.into_iter().next().ok_or_else(none)
}

/// What to do where the caller may not ask.
fn or_a_gateway(error: Error) -> Failure {
    let is_denied = matches!(error, Error::AccessDenied(_));
    let failure = Failure::from(error);
    if !is_denied {
        return failure;
    }
    failure.hint(
        "ask an administrator for a policy that allows instance-connect:DescribeSerialConsole, or for the gateway's address and \
         host keys: --gateway HOST:PORT --known-hosts FILE take them",
    )
}

/// What there is to say where the service has no gateway.
pub(super) fn none() -> Failure {
    Failure::new(Exit::Service, "no gateway of the serial lines is running")
        .hint("an operator starts instance-connect-console beside the service (docs/console.md)")
}

/// The host keys of all gateways, for one that was named: the caller may know it by another address. A service that does not tell
/// leaves that to the caller's own known hosts; no key is trusted unseen either way.
async fn all_host_keys(service: &ServiceOptions, client: &Client) -> Result<HostKeys, Failure> {
    if is_aws(client) {
        return Ok(HostKeys::new());
    }
    match ask(client).await {
        Ok(gateways) => Ok(gateways.into_iter().flat_map(|gateway| gateway.host_keys).collect()),
        Err(error @ (Error::AccessDenied(_) | Error::UnknownOperation(_))) => {
            debug(service, || format!("the service tells no host keys of its gateways: {error}"));
            Ok(HostKeys::new())
        }
        Err(error) => Err(error.into()),
    }
}

/// The gateways that the service knows of, with what it says.
pub(super) async fn told(client: &Client) -> Result<(Vec<Gateway>, Map<String, Value>), Failure> {
    not_aws(client)?;
    let answer = progress::step(progress::ANSWER, client.administer(&describe())).await?;
    Ok((gateways(&answer, client.settings().endpoint_host()), answer))
}

async fn ask(client: &Client) -> Result<Vec<Gateway>, Error> {
    let answer = progress::step("where the serial console is", client.administer(&describe())).await?;
    Ok(gateways(&answer, client.settings().endpoint_host()))
}

fn describe() -> Administer {
    Administer::new(AdministrativeOperation::DescribeSerialConsole)
}

/// Each address and each key is read and printed anew, so that no answer writes options or lines of its own.
fn gateways(answer: &Map<String, Value>, endpoint_host: &str) -> Vec<Gateway> {
    let gateways = answer.get("Gateways").and_then(Value::as_array).into_iter().flatten();
    let read = |gateway: &Value| {
        let host = gateway.get("Address")?.as_str().filter(|host| is_address(host))?;
        let port = gateway.get("Port")?.as_u64().and_then(|port| u16::try_from(port).ok());
        let keys = gateway.get("HostKeys").and_then(Value::as_array).into_iter().flatten();
        let lines = keys.filter_map(|key| key.get("PublicKey")?.as_str());
        Some(Gateway {
            address: GatewayAddress {
                host: from_here(host, endpoint_host).to_owned(),
                port: port.filter(|port| *port != 0)?,
            },
            host_keys: lines.filter_map(|line| line.parse().ok()).collect(),
        })
    };
    gateways.filter_map(read).collect()
}

/// A gateway's host as it is reached from here. It says the address that it listens on: where that is every address or its own loopback,
/// the service's own host is where it is.
fn from_here<'h>(host: &'h str, endpoint_host: &'h str) -> &'h str {
    let address = host.parse::<IpAddr>().map(|address| address.to_canonical());
    let is_loopback = |host: &str| match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost",
    };
    let is_everywhere = address.is_ok_and(|address| address.is_unspecified());
    if is_everywhere || (is_loopback(host) && !is_loopback(endpoint_host)) { endpoint_host } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp";

    #[test]
    fn a_gateway_is_where_it_is_reached_from_here() {
        for (host, endpoint, expected) in [
            ("192.0.2.1", "service.example", "192.0.2.1"),
            ("0.0.0.0", "service.example", "service.example"),
            ("::", "2001:db8::1", "2001:db8::1"),
            ("::ffff:0.0.0.0", "service.example", "service.example"),
            ("127.0.0.1", "service.example", "service.example"),
            ("::1", "192.0.2.9", "192.0.2.9"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
            ("127.0.0.2", "localhost", "127.0.0.2"),
            ("0.0.0.0", "127.0.0.1", "127.0.0.1"),
            ("192.0.2.1", "127.0.0.1", "192.0.2.1"),
        ] {
            assert_eq!(from_here(host, endpoint), expected, "{host} of {endpoint}");
        }
    }

    #[test]
    fn only_addresses_and_keys_are_taken_of_an_answer() {
        let evil = format!("{KEY}\n* {KEY}");
        let answer = json!({ "Gateways": [
            { "Address": "-oProxyCommand=x", "Port": 22, "HostKeys": [] },
            { "Address": "192.0.2.1", "Port": 0 },
            { "Address": "192.0.2.1", "Port": 65536 },
            { "Address": "192.0.2.1" },
            1,
            { "Address": "192.0.2.2", "Port": 2022, "HostKeys": [
                { "PublicKey": KEY }, { "PublicKey": evil }, { "PublicKey": format!("@cert-authority * {KEY}") }, 1,
            ]},
        ]});
        let found = gateways(answer.as_object().unwrap(), "service.example");
        let [Gateway { address, host_keys }] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(address.to_string(), "192.0.2.2:2022");
        assert_eq!(host_keys.iter().map(HostKey::line).collect::<Vec<_>>(), [KEY]);
        assert!(gateways(json!({ "Gateways": {} }).as_object().unwrap(), "h").is_empty());
    }
}
