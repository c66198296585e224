//! Addresses that are claimed: what is on record, over real connections, is what a trusted proxy has said, or else the
//! peer's own address.

use super::Setting;
use super::sockets::{Request, listen};
use crate::proxies::Proxies;
use instance_connect_core::proxies::TrustedProxies;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The API behind proxies, of which the connections of this machine are one.
async fn behind(trusted: &[&str], proxy_protocol: bool) -> Setting {
    let mut setting = Setting::new().await;
    let trusted = TrustedProxies(trusted.iter().map(|network| network.parse().unwrap()).collect());
    Arc::get_mut(&mut setting.api).unwrap().proxies = Proxies { trusted, proxy_protocol };
    setting
}

/// A push with these headers and this in front of it: the address on record, or none if it was not answered.
async fn recorded(setting: &Setting, before: &[u8], headers: &[&str]) -> Option<String> {
    let address = listen(setting).await;
    let push = headers.iter().fold(Request::push(&setting.world), |push, header| push.with(header));
    let records = setting.audit_records().len();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(&[before, &push.with("connection: close").bytes()].concat()).await;
    // Whoever is refused before a request is read finds the connection reset.
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    let record = setting.audit_records().into_iter().skip(records).last();
    assert_eq!(answer.starts_with("HTTP/1.1 200"), record.is_some(), "{answer}");
    record.map(|record| record["sourceIPAddress"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_claimed_address_counts_only_from_a_trusted_proxy() {
    const SPOOFED: &str = "x-forwarded-for: 10.0.0.1";
    let nobody = behind(&[], false).await;
    let one = behind(&["127.0.0.1"], false).await;
    let two = behind(&["127.0.0.0/8", "198.51.100.0/24"], false).await;
    for (setting, headers, expected) in [
        // Directly.
        (&nobody, &[SPOOFED][..], "127.0.0.1"),
        (
            &nobody,
            &["x-forwarded-for: 127.0.0.1", "forwarded: for=10.0.0.1", "x-real-ip: 10.0.0.1"],
            "127.0.0.1",
        ),
        // Through one proxy, which adds the address that it saw, to the header or as one of its own.
        (&one, &["x-forwarded-for: 203.0.113.9"], "203.0.113.9"),
        (&one, &["x-forwarded-for: 10.0.0.1, 203.0.113.9"], "203.0.113.9"),
        (&one, &[SPOOFED, "X-Forwarded-For: 203.0.113.9"], "203.0.113.9"),
        (&one, &["forwarded: for=10.0.0.1", "x-real-ip: 10.0.0.1"], "127.0.0.1"),
        // Through two, of which the one in front is trusted or not.
        (&one, &["x-forwarded-for: 10.0.0.1, 203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        (&two, &["x-forwarded-for: 10.0.0.1, 203.0.113.9, 198.51.100.7"], "203.0.113.9"),
        (&two, &[SPOOFED, "x-forwarded-for: 203.0.113.9, 198.51.100.7"], "203.0.113.9"),
        (&two, &["x-forwarded-for: ::ffff:203.0.113.9, 198.51.100.7"], "203.0.113.9"),
    ] {
        assert_eq!(recorded(setting, b"", headers).await.as_deref(), Some(expected), "{headers:?}");
    }
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

#[tokio::test]
async fn the_proxy_protocol_is_spoken_by_trusted_proxies_only() {
    let from_client = [SIGNATURE, &[0x21, 0x11, 0, 12, 203, 0, 113, 9, 127, 0, 0, 1, 1, 1, 1, 1]].concat();
    let from_itself = [SIGNATURE, &[0x20, 0, 0, 0]].concat();
    let trusted = behind(&["127.0.0.1"], true).await;
    let two = behind(&["127.0.0.1", "203.0.113.0/24"], true).await;
    let others = behind(&["192.0.2.1"], true).await;
    let spoofed = &["x-forwarded-for: 10.0.0.1"][..];
    for (setting, before, headers, expected) in [
        (&trusted, &from_client[..], &[][..], Some("203.0.113.9")),
        (&trusted, &from_client, spoofed, Some("203.0.113.9")),
        (&trusted, &from_itself, &[], Some("127.0.0.1")),
        (&trusted, b"", &[], None),
        (&trusted, b"PROXY TCP4 203.0.113.9 127.0.0.1 1 1\r\n", &[], None),
        // A proxy behind a proxy: the first speaks for the second, that one for its client.
        (&two, &from_client, &["x-forwarded-for: 192.0.2.9"], Some("192.0.2.9")),
        // Nobody else is asked, and nobody else is believed.
        (&others, b"", spoofed, Some("127.0.0.1")),
        (&others, &from_client, &[], None),
    ] {
        assert_eq!(recorded(setting, before, headers).await.as_deref(), expected, "{before:?} {headers:?}");
    }
}
