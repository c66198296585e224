//! A client that writes bytes, since what is looked at is what the other programs' HTTP makes of ours.

use super::*;
use crate::metadata::Serving;
use crate::metadata::fixture::{OWN, TestMachine, alices, token};
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Longer than anything here takes: a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

const TOKEN: &str =
    "PUT /latest/api/token HTTP/1.1\r\nHost: m\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n";

/// A service that listens, for the machine itself.
struct Listening {
    machine: TestMachine,
    metadata: Serving,
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Listening {
    fn start() -> Self {
        let machine = TestMachine::new();
        let metadata = machine.start_signed();
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        prepare(&listener).unwrap();
        let address = listener.local_addr().unwrap();
        let asker = Asker { metadata: Arc::clone(&metadata.metadata), interface: None };
        let mut serving = JoinSet::new();
        serving.spawn(serve(TcpListener::from_std(listener).unwrap(), asker, Arc::new(Semaphore::new(1024))));
        Self { machine, metadata, address, _serving: serving }
    }

    async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), read: Vec::new() }
    }

    /// A request for what is at a path, with a token that is good.
    fn request(&self, method: &str, path: &str, headers: &str) -> String {
        let token = token(&self.metadata, OWN);
        format!("{method} {path} HTTP/1.1\r\nHost: m\r\nX-aws-ec2-metadata-token: {token}\r\n{headers}\r\n")
    }
}

struct Client {
    stream: TcpStream,
    /// What has come and was not looked at yet.
    read: Vec<u8>,
}

/// A response: its status, its headers in lower case, and its body.
struct Answer {
    status: String,
    headers: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Client {
    async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// More bytes; `false` at the end.
    async fn more(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let read = timeout(PATIENCE, self.stream.read(&mut bytes)).await.unwrap();
        // A connection that is closed before all that was sent on it was read ends so.
        let count = match read {
            Ok(count) => count,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                0
            }
        };
        self.read.extend(&bytes[..count]);
        count > 0
    }

    /// The next response, with as many bytes of a body as are to be expected; to a `HEAD` none.
    async fn answer(&mut self, method: &str) -> Answer {
        let end_of_head = loop {
            match self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                Some(position) => break position + 4,
                None => assert!(self.more().await, "no response: {:?}", String::from_utf8_lossy(&self.read)),
            }
        };
        let head: Vec<u8> = self.read.drain(..end_of_head).collect();
        let head = String::from_utf8(head).unwrap();
        let (status, headers) = head.split_once("\r\n").unwrap();
        let headers = headers.to_lowercase();
        let mut answer = Answer { status: status.to_owned(), headers, body: String::new() };
        if method != "HEAD" {
            let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
            while self.read.len() < length {
                assert!(self.more().await);
            }
            answer.body = String::from_utf8(self.read.drain(..length).collect()).unwrap();
        }
        answer
    }

    /// Sends a request and waits for its response.
    async fn ask(&mut self, request: &str) -> Answer {
        self.send(request).await;
        self.answer(request.split(' ').next().unwrap()).await
    }

    /// There is no more to read: what had come is all.
    async fn end(mut self) -> String {
        while self.more().await {}
        String::from_utf8(self.read).unwrap()
    }
}

#[tokio::test]
async fn a_login_reads_all_it_needs_on_one_connection() {
    let service = Listening::start();
    service.machine.install(&service.metadata, &alices(OWN, 1));
    let mut client = service.connect().await;
    let answer = client.ask(&format!("{TOKEN}\r\n")).await;
    assert_eq!(
        (&answer.status[..], answer.header("x-aws-ec2-metadata-token-ttl-seconds")),
        ("HTTP/1.1 200 OK", Some("60"))
    );
    let keys = "/latest/meta-data/managed-ssh-keys/active-keys/alice";
    let get = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: m\r\nX-aws-ec2-metadata-token: {}\r\n\r\n", answer.body)
    };
    assert_eq!(client.ask(&get("/latest/meta-data/instance-id")).await.body, OWN);
    let found = client.ask(&get(keys)).await;
    assert!(found.body.contains("\n#Alg=rsa-pss\n") && found.header("content-type") == Some("text/plain"));
    let missing = client.ask(&get("/latest/meta-data/iam/")).await;
    assert_eq!(missing.status, "HTTP/1.1 404 Not Found");
    assert!(missing.body.contains("404 - Not Found"));
    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: m\r\n\r\n").await.status, "HTTP/1.1 401 Unauthorized");
    let long = format!("GET /{} HTTP/1.1\r\nHost: m\r\n\r\n", "a".repeat(1024));
    assert_eq!(client.ask(&long).await.status, "HTTP/1.1 400 Bad Request");
    assert_eq!(client.ask(&get("/latest/meta-data/instance-id")).await.body, OWN, "and it is kept alive");
}

#[tokio::test]
async fn a_head_is_answered_with_the_length_and_without_the_body() {
    let service = Listening::start();
    let path = "/latest/meta-data/instance-id";
    let mut client = service.connect().await;
    // Were there a body, the second response would begin with it.
    client.send(&service.request("HEAD", path, "")).await;
    client.send(&service.request("GET", path, "Connection: close\r\n")).await;
    let (head, get) = (client.answer("HEAD").await, client.answer("GET").await);
    assert_eq!((&head.status[..], &get.status[..]), ("HTTP/1.1 200 OK", "HTTP/1.1 200 OK"));
    let length = OWN.len().to_string();
    assert_eq!([head.header("content-length"), get.header("content-length")], [Some(&length[..]); 2]);
    assert_eq!((&get.body[..], &client.end().await[..]), (OWN, ""));
}

#[tokio::test]
async fn requests_that_come_at_once_are_answered_in_their_order() {
    let service = Listening::start();
    let paths = ["instance-id", "nothing", "managed-ssh-keys/signer-ocsp/", "instance-id"];
    let requests = paths.map(|path| service.request("GET", &format!("/latest/meta-data/{path}"), ""));
    let mut client = service.connect().await;
    // The first with a body, which is read as one and not as a request.
    let smuggled = "GET / HTTP/1.1\r\n\r\n";
    let with_body = format!("{TOKEN}Content-Length: {}\r\n\r\n{smuggled}", smuggled.len());
    client.send(&(with_body + &requests.concat())).await;
    assert_eq!(client.answer("PUT").await.status, "HTTP/1.1 200 OK");
    let mut bodies = Vec::new();
    for _ in paths {
        bodies.push(client.answer("GET").await);
    }
    let statuses: Vec<&str> = bodies.iter().map(|answer| &answer.status[9..12]).collect();
    assert_eq!(statuses, ["200", "404", "200", "200"]);
    assert_eq!(
        (&bodies[0].body[..], &bodies[2].body[..], &bodies[3].body[..]),
        (OWN, &"A0".repeat(20)[..], OWN)
    );
}

#[tokio::test]
async fn who_speaks_for_somebody_else_gets_no_token() {
    let service = Listening::start();
    let mut client = service.connect().await;
    for forwarded in
        ["X-Forwarded-For: 192.0.2.7", "x-forwarded-for:", "X-FORWARDED-FOR: a\r\nX-Forwarded-For: b"]
    {
        let answer = client.ask(&format!("{TOKEN}{forwarded}\r\n\r\n")).await;
        assert_eq!((&answer.status[..], &answer.body[..]), ("HTTP/1.1 403 Forbidden", ""), "{forwarded}");
    }
    assert_eq!(client.ask(&format!("{TOKEN}\r\n")).await.status, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let service = Listening::start();
    let padded = |bytes: usize| format!("X-Padding: {}\r\n", "a".repeat(bytes));
    let headers = |count: usize| "X-Header: a\r\n".repeat(count);
    // Two headers are there already.
    for (headers, status) in [
        (padded(7 * 1024), "HTTP/1.1 200 OK"),
        (padded(8 * 1024), "HTTP/1.1 431 Request Header Fields Too Large"),
        (padded(64 * 1024), "HTTP/1.1 431 Request Header Fields Too Large"),
        (headers(HEADERS - 2), "HTTP/1.1 200 OK"),
        (headers(HEADERS - 1), "HTTP/1.1 431 Request Header Fields Too Large"),
    ] {
        let mut client = service.connect().await;
        let request = service.request("GET", "/latest/meta-data/instance-id", &headers);
        // Where it is refused before its end, the rest may find nobody who reads it.
        let _ = client.stream.write_all(request.as_bytes()).await;
        let answer = client.answer("GET").await;
        assert_eq!(answer.status, status, "{} bytes", request.len());
        if status.contains("431") {
            assert_eq!(client.end().await, "", "the connection is closed");
        }
    }
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_the_connection_closed() {
    let service = Listening::start();
    for nonsense in ["\u{16}\u{3}\u{1}\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/1.1\r\nHost : m\r\n\r\n"] {
        let mut client = service.connect().await;
        client.send(nonsense).await;
        let answer = client.end().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{nonsense:?}: {answer}");
    }
}

/// Whoever holds connections without a word keeps no login waiting.
#[tokio::test]
async fn for_one_connection_too_many_the_oldest_gives_way() {
    let service = Listening::start();
    let mut clients = VecDeque::new();
    for _ in 0..CONNECTIONS {
        let mut client = service.connect().await;
        // Once it is answered it is among those that are there.
        assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: m\r\n\r\n").await.status, "HTTP/1.1 401 Unauthorized");
        clients.push_back(client);
    }
    for _ in 0..2 {
        let mut late = service.connect().await;
        assert_eq!(late.ask(&format!("{TOKEN}\r\n")).await.status, "HTTP/1.1 200 OK");
        assert_eq!(clients.pop_front().unwrap().end().await, "");
        clients.push_back(late);
    }
    for client in &mut clients {
        assert_eq!(client.ask(&format!("{TOKEN}\r\n")).await.status, "HTTP/1.1 200 OK", "all others stay");
    }
}
