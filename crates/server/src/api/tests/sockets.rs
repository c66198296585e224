//! Requests as bytes on a socket of the real listener: above all those whose meaning is in doubt. Behind each of them
//! stands a push that is right, as an attacker would have it behind a proxy that understands the first one differently:
//! it must never be answered.

use super::{Setting, acknowledge};
use crate::connections::Listener;
use instance_connect_core::limits;
use instance_connect_core::secret::Secret;
use instance_connect_core::sigv4::{Credentials, SigningScope, sign_headers};
use instance_connect_testkit::{SECRET_ACCESS_KEY, World};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const HOST: &str = "127.0.0.1:8080";

/// A request in the parts that the attacks change.
#[derive(Clone)]
pub(super) struct Request {
    line: String,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Request {
    /// A push that is right.
    pub(super) fn push(world: &World) -> Self {
        let body = world.push_body("deploy");
        let to_sign = [
            ("content-type", "application/x-amz-json-1.1"),
            ("host", HOST),
            ("x-amz-target", "AWSEC2InstanceConnectService.SendSSHPublicKey"),
        ];
        let credentials = Credentials {
            access_key_id: world.access_key.to_string(),
            secret_access_key: Secret::new(SECRET_ACCESS_KEY.into()),
            session_token: None,
        };
        let scope = SigningScope { region: world.region.as_str(), service: "ec2-instance-connect" };
        let signed =
            sign_headers("POST", "/", &to_sign, body.as_bytes(), &credentials, scope, world.now).unwrap();
        let mut headers: Vec<String> =
            to_sign.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        headers.push(format!("x-amz-date: {}", signed.amz_date));
        headers.push(format!("authorization: {}", signed.authorization));
        headers.push(format!("content-length: {}", body.len()));
        Self { line: "POST / HTTP/1.1".into(), headers, body: body.into() }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let head = format!("{}\r\n{}\r\n\r\n", self.line, self.headers.join("\r\n"));
        [head.as_bytes(), &self.body].concat()
    }

    fn with_line(mut self, line: &str) -> Self {
        self.line = line.into();
        self
    }

    pub(super) fn with(mut self, header: &str) -> Self {
        self.headers.push(header.into());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|header| !header.starts_with(&format!("{name}:")));
        self
    }

    /// With a body and headers that say how long it is.
    fn with_body(mut self, headers: &[&str], body: Vec<u8>) -> Self {
        self = self.without("content-length");
        self.headers.extend(headers.iter().map(|header| (*header).to_owned()));
        self.body = body;
        self
    }
}

/// The API on a socket, with a machine that acknowledges every key.
async fn listening() -> (Setting, SocketAddr) {
    let setting = Setting::new().await;
    let address = listen(&setting).await;
    (setting, address)
}

pub(super) async fn listen(setting: &Setting) -> SocketAddr {
    let (link, queue) = setting.connect();
    tokio::spawn(acknowledge(link, queue));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = Listener::new(socket, limits::API_CONNECTIONS);
    tokio::spawn(Arc::clone(&setting.api).serve(listener, None));
    address
}

/// Sends all of it at once and reads until the server ends the connection.
async fn answers(address: SocketAddr, bytes: &[u8]) -> Vec<String> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text.replace("HTTP/1.0 ", "HTTP/1.1 ").split("HTTP/1.1 ").skip(1).map(str::to_owned).collect()
}

/// Which requests are refused is nothing without this: the second push of a connection is answered like the first.
#[tokio::test]
async fn pushes_behind_each_other_are_all_answered() {
    let (setting, address) = listening().await;
    let push = Request::push(&setting.world);
    // What agrees is not in doubt (RFC 9110, 8.6), and hyper does not show that it was said twice.
    let said_twice = push.clone().with(&format!("content-length: {}", push.body.len()));
    // A request inside another's body is a body, also where it is not read because the head was enough to refuse it.
    let length = format!("content-length: {}", push.bytes().len());
    let unread = push.clone().without("content-type").with_body(&[&length], push.bytes());
    let last = push.clone().with("connection: close");
    let all: Vec<u8> = [&push, &said_twice, &unread, &last].into_iter().flat_map(Request::bytes).collect();
    let answers = answers(address, &all).await;
    let statuses: Vec<&str> = answers.iter().map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "404", "200"], "{answers:?}");
    let pushes = setting.audit_records().into_iter().filter(|record| record["eventType"] == "AwsApiCall");
    assert_eq!(pushes.count(), 3);
}

#[tokio::test]
async fn a_request_behind_a_doubtful_head_is_never_answered() {
    let (setting, address) = listening().await;
    let push = || Request::push(&setting.world);
    // Were it answered, the connection would end there.
    let hidden = push().with("connection: close").bytes();
    let chunk =
        |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n0\r\n\r\n"].concat();
    let (nothing_then_hidden, hidden_in_a_chunk) =
        ([b"0\r\n\r\n", hidden.as_slice()].concat(), chunk(&hidden));
    let length_of = |body: &[u8]| format!("content-length: {}", body.len());
    let authorization =
        push().headers.into_iter().find(|header| header.starts_with("authorization:")).unwrap();
    let host = format!("host: {HOST}");
    for (name, attack, message) in [
        ("two hosts", push().with(&host), "more than one 'host' header"),
        ("two hosts that differ", push().with("Host: elsewhere"), "more than one 'host' header"),
        ("no host", push().without("host"), "must have a 'host' header"),
        (
            "HTTP/1.0 without a host",
            push().with_line("POST / HTTP/1.0").without("host"),
            "must have a 'host' header",
        ),
        ("two signatures", push().with(&authorization), "more than one 'authorization' header"),
        (
            "a signature beside a token",
            push().with("authorization: Bearer x"),
            "more than one 'authorization' header",
        ),
        ("two dates", push().with("X-Amz-Date: 20310211T020507Z"), "more than one 'x-amz-date' header"),
        (
            "two targets",
            push().with("x-amz-target: AWSEC2InstanceConnectService.SendSerialConsoleSSHPublicKey"),
            "more than one 'x-amz-target' header",
        ),
        ("two of its own", push().with("x-amz-a: 1").with("X-AMZ-A: 2"), "more than one 'x-amz-a' header"),
        (
            "absolute form",
            push().with_line(&format!("POST http://{HOST}/ HTTP/1.1")),
            "target must be a path",
        ),
        (
            "another's absolute form",
            push().with_line("POST http://elsewhere/ HTTP/1.1"),
            "target must be a path",
        ),
        ("authority form", push().with_line(&format!("POST {HOST} HTTP/1.1")), "target must be a path"),
        ("a tunnel", push().with_line(&format!("CONNECT {HOST} HTTP/1.1")), "target must be a path"),
        ("asterisk form", push().with_line("OPTIONS * HTTP/1.1"), "target must be a path"),
        ("half an escape", push().with_line("POST /?a=%2 HTTP/1.1"), "syntax error"),
        (
            "two times in the query",
            push().with_line("POST /?X-Amz-Date=1&X%2DAmz-Date=2 HTTP/1.1"),
            "more than one 'X-Amz-Date' parameter",
        ),
        (
            "length before encoding",
            push().with_body(
                &[&length_of(&nothing_then_hidden), "transfer-encoding: chunked"],
                nothing_then_hidden.clone(),
            ),
            "'transfer-encoding' header is not supported",
        ),
        (
            "encoding before length",
            push().with_body(&["transfer-encoding: chunked", "content-length: 4"], hidden_in_a_chunk.clone()),
            "'transfer-encoding' header is not supported",
        ),
        (
            "encoding alone",
            push().with_body(&["Transfer-Encoding: chunked"], hidden_in_a_chunk.clone()),
            "'transfer-encoding' header is not supported",
        ),
        (
            "two encodings",
            push().with_body(
                &["transfer-encoding: identity", "transfer-encoding: CHUNKED", "content-length: 4"],
                hidden_in_a_chunk,
            ),
            "'transfer-encoding' header is not supported",
        ),
    ] {
        let answers = answers(address, &[attack.bytes(), hidden.clone()].concat()).await;
        let [answer] = answers.as_slice() else { panic!("{name}: {answers:?}") };
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("400 ") && head.contains("connection: close"), "{name}: {answer}");
        assert!(head.contains("x-amzn-errortype: MalformedHttpRequestException"), "{name}: {answer}");
        assert!(body.contains("com.amazon.coral.service#MalformedHttpRequestException"), "{name}: {answer}");
        assert!(body.contains(message), "{name}: {answer}");
    }
    assert!(setting.audit_records().iter().all(|record| record["eventName"] == "RefuseRequest"));
}

/// What is no HTTP by RFC 9112 is refused by hyper, before there is a request that we could answer in AWS's words.
#[tokio::test]
async fn a_request_behind_what_is_no_http_is_never_answered() {
    let (setting, address) = listening().await;
    let push = || Request::push(&setting.world);
    // Were it answered, the connection would end there.
    let hidden = push().with("connection: close").bytes();
    let length = push().body.len();
    for (name, attack) in [
        ("two lengths", push().with("content-length: 0")),
        (
            "two lengths in one",
            push().without("content-length").with(&format!("content-length: {length}, {length}")),
        ),
        (
            "a length with a sign",
            push().without("content-length").with(&format!("content-length: +{length}")),
        ),
        ("a length in hex", push().without("content-length").with(&format!("content-length: 0x{length:x}"))),
        ("an unknown encoding", push().with("transfer-encoding: xchunked")),
        ("chunked before another", push().with("transfer-encoding: chunked, identity")),
        ("a blank before the colon", push().with("transfer-encoding : chunked")),
        ("a folded line", push().with("a: b\r\n transfer-encoding: chunked")),
        ("a line end within a line", push().with("a: b\rtransfer-encoding: chunked")),
        ("a NUL", push().with("a: b\0c")),
        ("HTTP/1.0 with an encoding", push().with_line("POST / HTTP/1.0").with("transfer-encoding: chunked")),
        ("HTTP/2", push().with_line("PRI * HTTP/2.0")),
    ] {
        let answers = answers(address, &[attack.bytes(), hidden.clone()].concat()).await;
        assert!(answers.iter().all(|answer| answer.starts_with("400 ")), "{name}: {answers:?}");
        assert!(answers.len() <= 1, "{name}: {answers:?}");
    }
    assert!(setting.audit_records().iter().all(|record| record["eventName"] == "RefuseRequest"));
}

#[tokio::test]
async fn a_header_that_is_not_text_is_refused() {
    let (setting, address) = listening().await;
    let push = Request::push(&setting.world);
    let mut bytes = push.clone().with("user-agent: ?").bytes();
    let at = bytes.iter().position(|byte| *byte == b'?').unwrap();
    bytes[at] = 0xff;
    let hidden = push.with("connection: close").bytes();
    let answers = answers(address, &[bytes, hidden].concat()).await;
    let [answer] = answers.as_slice() else { panic!("{answers:?}") };
    assert!(answer.contains("MalformedHttpRequestException"), "{answer}");
    assert!(setting.audit_records().iter().all(|record| record["eventName"] == "RefuseRequest"));
}

/// A target that is sent with a fragment is verified without it: all of these are signed as `/`.
#[tokio::test]
async fn a_fragment_of_the_target_is_not_seen() {
    let (setting, address) = listening().await;
    let push = Request::push(&setting.world).with("connection: close");
    for (target, expected) in [
        ("/#fragment", "200 "),
        ("/#/?X-Amz-Date=1&X-Amz-Date=2", "200 "),
        ("/?#a=b", "200 "),
        ("/%23fragment", "InvalidSignatureException"),
        ("/a#fragment", "InvalidSignatureException"),
        ("/?a=b#fragment", "InvalidSignatureException"),
        // hyper's own.
        ("#fragment", "400 "),
    ] {
        let sent = push.clone().with_line(&format!("POST {target} HTTP/1.1"));
        let answers = answers(address, &sent.bytes()).await;
        let [answer] = answers.as_slice() else { panic!("{target}: {answers:?}") };
        assert!(answer.contains(expected), "{target}: {answer}");
    }
}

#[tokio::test]
async fn the_clock_window_is_a_setting() {
    for (window, status) in [(60_u64, "400"), (61, "200")] {
        let mut setting = Setting::new().await;
        Arc::get_mut(&mut setting.api).unwrap().clock_window = window.try_into().unwrap();
        let address = listen(&setting).await;
        setting.world.now.0 -= 61;
        let push = Request::push(&setting.world).with("connection: close");
        let answers = answers(address, &push.bytes()).await;
        assert!(answers[0].starts_with(status), "{window}: {answers:?}");
        assert_eq!(answers[0].contains("(20310211T020506Z - 1 min.)"), window == 60, "{answers:?}");
    }
}
