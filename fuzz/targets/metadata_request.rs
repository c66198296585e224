//! A request to the metadata service, from its head on. The token `good` stands for one that is.
#![no_main]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PSS_SHA256};
use instance_connect_core::imds::{
    FORWARDED_HEADER, Header, LONGEST_BODY, Request, Response, TOKEN_HEADER, TTL_HEADER, TokenKey, View,
    respond,
};
use instance_connect_core::link::{InstanceFacts, Staple, StapleBytes, StapleName, StockSigner, Twin};
use instance_connect_core::stock::{Signer, StockKeys};
use instance_connect_document::{
    BootInstant, DocumentTerms, InstanceId, SigningKey, UnixSeconds, stock_text,
};
use instance_connect_testkit::{KEY_LINE, SeededRandom};
use libfuzzer_sys::fuzz_target;
use std::net::Ipv4Addr;
use std::sync::LazyLock;
use std::time::Duration;

const NOW: BootInstant = BootInstant(1_000_000_000_000);
const INSTANCE: &str = "i-0123456789abcdef0";
const TOKEN_PATH: &str = "/latest/api/token";

struct Machine {
    instance: InstanceId,
    facts: InstanceFacts,
    stock: StockKeys,
    tokens: TokenKey,
    random: SeededRandom,
}

static MACHINE: LazyLock<Machine> = LazyLock::new(|| {
    let (instance, key): (InstanceId, _) =
        (INSTANCE.parse().unwrap(), KeyPair::generate(KeySize::Rsa2048).unwrap());
    let staple = Staple { name: StapleName([0xa0; 20]), response: StapleBytes::new(b"response").unwrap() };
    let chain = "leaf\nintermediate\nroot\n".parse().unwrap();
    let announced = StockSigner { generation: 1, is_revoked: false, chain, staples: vec![staple] };
    let mut stock = StockKeys::new(instance.clone());
    stock.set_signers(vec![Signer { announced, public_key: key.public_key().as_ref().to_vec() }]);
    let terms = DocumentTerms {
        expires_at: UnixSeconds(1_928_541_906),
        instance: &instance,
        caller: "arn:aws:iam::111122223333:user/jane",
        request: &"0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap(),
        user: &"alice".parse().unwrap(),
        boot: &"5c0c6f9e-3f60-4c11-9d0b-1c5a6f0e9a11".parse().unwrap(),
        key_line: KEY_LINE,
    };
    let document = terms.sign(&SigningKey::from_seed(&[1; 32]).unwrap()).unwrap();
    let mut signature = Box::new([0; 256]);
    let text = stock_text(&document).unwrap();
    key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), text.as_bytes(), signature.as_mut_slice()).unwrap();
    let entry = stock.admit(&document, &[Twin { generation: 1, signature }], NOW).unwrap();
    stock.install(entry, NOW.after(Duration::from_secs(60)));
    let facts = InstanceFacts {
        instance: instance.clone(),
        account: "111122223333".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        availability_zone: "us-east-1a".parse().unwrap(),
        domain: "amazonaws.com".parse().unwrap(),
        tags: [("Name".to_owned(), "web".to_owned())].into(),
    };
    Machine { instance, facts, stock, tokens: TokenKey::new([7; 32]), random: SeededRandom::new(1) }
});

fuzz_target!(|bytes: &[u8]| {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Request::new(&mut headers);
    let (Ok(httparse::Status::Complete(_)), Some(method), Some(target)) =
        (head.parse(bytes), head.method, head.path)
    else {
        return;
    };
    let token = ask(&Request { method: "PUT", target: TOKEN_PATH, ttl: Header::Once(b"60"), ..NOTHING }).body;
    let values = |name: &'static str| {
        head.headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    };
    let real = |value| if value == b"good" { token.as_bytes() } else { value };
    let request = Request {
        method,
        target,
        token: values(TOKEN_HEADER).map(real).collect(),
        ttl: values(TTL_HEADER).collect(),
        is_forwarded: values(FORWARDED_HEADER).next().is_some(),
    };
    let response = ask(&request);
    let is_known = request.token == Header::Once(token.as_bytes());
    let (path, _) = target.split_once('?').unwrap_or((target, ""));
    let is_new = method == "PUT" && path == TOKEN_PATH && !request.is_forwarded;
    assert!([200, 400, 401, 403, 404, 405].contains(&response.status));
    assert!(response.status != 200 || is_known || is_new);
    assert!(response.ttl.is_none() || is_new);
    assert!(response.body.len() <= LONGEST_BODY);
    assert!(response.headers().all(|(_, value)| value.bytes().all(|b| matches!(b, b' '..=b'~'))));
    assert!(response.offers.is_empty() || (response.status == 200 && method == "GET"));
    if method == "HEAD" {
        let get = ask(&Request { method: "GET", ..request });
        assert!(response.body.is_empty() && response.status == get.status);
        assert_eq!(response.content_length, get.body.len());
    }
    if response.ttl.is_some() {
        let known =
            Request { method: "GET", target: "/", token: Header::Once(response.body.as_bytes()), ..NOTHING };
        assert_eq!(ask(&known).status, 200);
    }
});

const NOTHING: Request<'_> =
    Request { method: "", target: "", token: Header::Absent, ttl: Header::Absent, is_forwarded: false };

fn ask(request: &Request<'_>) -> Response {
    let machine = &*MACHINE;
    let view = View {
        instance: &machine.instance,
        facts: Some(&machine.facts),
        local_ipv4: Some(Ipv4Addr::new(10, 0, 0, 7)),
        hostname: Some("ip-10-0-0-7"),
        shows_tags: true,
        stock: &machine.stock,
    };
    respond(request, &view, &machine.tokens, NOW, &machine.random)
}
