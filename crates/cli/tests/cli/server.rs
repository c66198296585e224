//! A control API on loopback: it verifies signatures as the real one does, then answers what a test wants.

use instance_connect_core::document::UnixSeconds;
use instance_connect_core::limits::CLOCK_WINDOW;
use instance_connect_core::secret::Secret;
use instance_connect_core::sigv4::{AuthenticationError, Expected, Presented, RequestHead};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub(crate) const ACCESS_KEY_ID: &str = "AKIDEXAMPLE0000000";
pub(crate) const SECRET_ACCESS_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub(crate) const REGION: &str = "us-east-1";

pub(crate) const SUCCESS: (u16, &str) =
    (200, r#"{"RequestId":"0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11","Success":true}"#);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The bodies of the requests whose signature was right.
    pub(crate) pushes: Arc<Mutex<Vec<Value>>>,
    /// What it answers to whoever asks for host keys; as AWS unless a test sets it.
    pub(crate) host_keys: Arc<Mutex<(u16, String)>>,
}

impl Server {
    /// Answers good requests with this status and body.
    pub(crate) fn start(status: u16, body: &'static str) -> Self {
        Self::with_clock(0, vec![(status, body)])
    }

    pub(crate) fn success() -> Self {
        Self::with_clock(0, vec![SUCCESS])
    }

    /// Answers good requests with one of `answers` after the other, and then begins again.
    pub(crate) fn answering(answers: Vec<(u16, &'static str)>) -> Self {
        Self::with_clock(0, answers)
    }

    /// A server whose clock is so many seconds ahead.
    pub(crate) fn with_clock(ahead: i64, answers: Vec<(u16, &'static str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let unknown = (400, r#"{"__type":"UnknownOperationException"}"#.to_owned());
        let server = Self {
            address: listener.local_addr().unwrap(),
            pushes: Arc::default(),
            host_keys: Arc::new(Mutex::new(unknown)),
        };
        let (pushes, host_keys) = (Arc::clone(&server.pushes), Arc::clone(&server.host_keys));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let count = pushes.lock().unwrap().len();
                let now = UnixSeconds(now().0 + ahead);
                serve(stream.unwrap(), answers[count % answers.len()], now, &pushes, &host_keys);
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn push(&self) -> Value {
        let pushes = self.pushes.lock().unwrap();
        assert_eq!(pushes.len(), 1, "{pushes:?}");
        pushes[0].clone()
    }
}

fn serve(
    mut stream: TcpStream,
    (status, body): (u16, &str),
    now: UnixSeconds,
    pushes: &Mutex<Vec<Value>>,
    host_keys: &Mutex<(u16, String)>,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 {
            return;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers: Vec<(String, &str)> = lines[1..]
        .iter()
        .map(|line| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)).unwrap())
        .collect();
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let head = RequestHead::read("POST", "/", headers).unwrap();
    let mut sent = vec![0; head.header("content-length").unwrap().parse().unwrap()];
    reader.read_exact(&mut sent).unwrap();
    assert_eq!(lines[0], "POST / HTTP/1.1");

    let asks_for_host_keys = head.header("x-amz-target") == Some("InstanceConnect.GetHostKeys");
    let service = if asks_for_host_keys { "instance-connect" } else { "ec2-instance-connect" };
    let (status, body) = match verify(&head, &sent, service, now) {
        Ok(()) if asks_for_host_keys => host_keys.lock().unwrap().clone(),
        Ok(()) => {
            pushes.lock().unwrap().push(serde_json::from_slice(&sent).unwrap());
            (status, body.to_owned())
        }
        Err(error) => {
            let code = match error {
                AuthenticationError::UnknownKey => "UnrecognizedClientException",
                _ => "InvalidSignatureException",
            };
            (400, serde_json::json!({"__type": code, "message": error.to_string()}).to_string())
        }
    };
    let id = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11";
    let length = body.len();
    let date = jiff::Timestamp::from_second(now.0).unwrap().strftime("%a, %d %b %Y %H:%M:%S GMT");
    let head = format!(
        "HTTP/1.1 {status} X\r\nDate: {date}\r\nx-amzn-RequestId: {id}\r\nContent-Length: {length}\r\nConnection: close"
    );
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
}

#[expect(
    clippy::disallowed_methods,
    reason = "the program under test signs with the real time, so it is checked against it"
)]
fn now() -> UnixSeconds {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixSeconds(now.as_secs().try_into().unwrap())
}

fn verify(
    head: &RequestHead<'_>,
    body: &[u8],
    service: &str,
    now: UnixSeconds,
) -> Result<(), AuthenticationError> {
    let expected = Expected { region: REGION, service, now, window: CLOCK_WINDOW };
    let presented = Presented::read(head, &expected)?;
    let secret = Secret::new(SECRET_ACCESS_KEY.as_bytes().to_vec());
    let known = presented.access_key_id().is_some_and(|id| id.as_str() == ACCESS_KEY_ID);
    presented.verify(body, known.then_some((&secret, ()))).map(|_| ())
}
