//! A control API on loopback: it verifies signatures as the real one does, then answers what a test wants.

use instance_connect_core::document::UnixSeconds;
use instance_connect_core::limits::CLOCK_WINDOW;
use instance_connect_core::secret::Secret;
use instance_connect_core::sigv4::{AuthenticationError, Expected, Presented, RequestHead};
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub(crate) const ACCESS_KEY_ID: &str = "AKIDEXAMPLE0000000";
pub(crate) const SECRET_ACCESS_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub(crate) const REGION: &str = "us-east-1";

pub(crate) const SUCCESS: (u16, &str) =
    (200, r#"{"RequestId":"0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11","Success":true}"#);

/// Who signs, as STS says it.
const CALLER: &str = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
    <Arn>arn:aws:iam::111122223333:user/alice</Arn><UserId>AIDAEXAMPLE00000000</UserId><Account>111122223333</Account>\
    </GetCallerIdentityResult><ResponseMetadata><RequestId>x</RequestId></ResponseMetadata></GetCallerIdentityResponse>";

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The bodies of the requests whose signature was right.
    pub(crate) pushes: Arc<Mutex<Vec<Value>>>,
    /// What it answers to whoever asks for host keys; as AWS unless a test sets it.
    pub(crate) host_keys: Arc<Mutex<(u16, String)>>,
    /// What it answers to whoever administers it, one after the other, the last of it again and again. What has a `__type` is a refusal.
    pub(crate) administration: Arc<Mutex<VecDeque<String>>>,
    /// What whoever administers it has asked for: operations with their parameters.
    pub(crate) administered: Arc<Mutex<Vec<(String, Value)>>>,
    /// What it answers to whoever describes instances, the last of it again and again: none unless a test sets it.
    pub(crate) instances: Arc<Mutex<VecDeque<(u16, String)>>>,
    /// What whoever describes instances has asked for: the form behind its version.
    pub(crate) described: Arc<Mutex<Vec<String>>>,
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
            administration: Arc::new(Mutex::new(["{}".to_owned()].into())),
            administered: Arc::default(),
            instances: Arc::new(Mutex::new([(200, page(""))].into())),
            described: Arc::default(),
        };
        let shared = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let count = shared.pushes.lock().unwrap().len();
                let now = UnixSeconds(now().0 + ahead);
                shared.serve(stream.unwrap(), answers[count % answers.len()], now);
            }
        });
        server
    }

    /// Answers those who describe instances with one of `answers` after the other.
    pub(crate) fn describe(&self, answers: impl IntoIterator<Item = (u16, String)>) {
        *self.instances.lock().unwrap() = answers.into_iter().collect();
    }

    /// Answers those who administer it with one of `answers` after the other.
    pub(crate) fn administrate(&self, answers: impl IntoIterator<Item = Value>) {
        *self.administration.lock().unwrap() = answers.into_iter().map(|answer| answer.to_string()).collect();
        self.administered.lock().unwrap().clear();
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

/// The next answer, or the last one again.
fn next<Answer: Clone>(answers: &mut VecDeque<Answer>) -> Answer {
    if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
}

/// A page of EC2's with these instances, each an `item`.
pub(crate) fn page(items: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
         <requestId>x</requestId><reservationSet><item><instancesSet>{items}</instancesSet></item></reservationSet>\
         </DescribeInstancesResponse>"
    )
}

/// The same where more follow.
pub(crate) fn page_before(items: &str, token: &str) -> String {
    page(items).replace("<reservationSet>", &format!("<nextToken>{token}</nextToken><reservationSet>"))
}

/// A running instance at an address, with a name.
pub(crate) fn item(id: &str, name: &str, address: &str, state: &str) -> String {
    format!(
        "<item><instanceId>{id}</instanceId><instanceState><code>16</code><name>{state}</name></instanceState>\
         <placement><availabilityZone>us-east-1a</availabilityZone></placement><privateIpAddress>{address}</privateIpAddress>\
         <tagSet><item><key>Name</key><value>{name}</value></item></tagSet></item>"
    )
}

impl Server {
    fn serve(&self, mut stream: TcpStream, push: (u16, &str), now: UnixSeconds) {
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
            .map(|line| {
                line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)).unwrap()
            })
            .collect();
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let head = RequestHead::read("POST", "/", headers).unwrap();
        let mut sent = vec![0; head.header("content-length").unwrap().parse().unwrap()];
        reader.read_exact(&mut sent).unwrap();
        assert_eq!(lines[0], "POST / HTTP/1.1");

        let (status, body) = self.answer(&head, &sent, push, now);
        let id = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11";
        let length = body.len();
        let date = jiff::Timestamp::from_second(now.0).unwrap().strftime("%a, %d %b %Y %H:%M:%S GMT");
        let head = format!(
            "HTTP/1.1 {status} X\r\nDate: {date}\r\nx-amzn-RequestId: {id}\r\nContent-Length: {length}\r\nConnection: close"
        );
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    }

    fn answer(
        &self,
        head: &RequestHead<'_>,
        sent: &[u8],
        (status, body): (u16, &str),
        now: UnixSeconds,
    ) -> (u16, String) {
        let form = std::str::from_utf8(sent).unwrap();
        let operation =
            head.header("x-amz-target").or_else(|| form.strip_prefix("Action=")?.split('&').next());
        let service = match operation {
            Some(target) if target.starts_with("InstanceConnect.") => "instance-connect",
            Some("DescribeInstances") => "ec2",
            Some("GetCallerIdentity") => "sts",
            _ => "ec2-instance-connect",
        };
        if let Err(error) = verify(head, sent, service, now) {
            let code = match error {
                AuthenticationError::UnknownKey => "UnrecognizedClientException",
                _ => "InvalidSignatureException",
            };
            return (400, serde_json::json!({"__type": code, "message": error.to_string()}).to_string());
        }
        match service {
            "instance-connect" if operation == Some("InstanceConnect.GetHostKeys") => {
                self.host_keys.lock().unwrap().clone()
            }
            "instance-connect" => {
                let (_, operation) = operation.unwrap().split_once('.').unwrap();
                let asked = (operation.to_owned(), serde_json::from_str(form).unwrap());
                self.administered.lock().unwrap().push(asked);
                let answer = next(&mut self.administration.lock().unwrap());
                (if answer.contains("\"__type\"") { 400 } else { 200 }, answer)
            }
            "ec2" => {
                let asked = form.split_once("&Version=2016-11-15").unwrap().1;
                self.described.lock().unwrap().push(asked.to_owned());
                next(&mut self.instances.lock().unwrap())
            }
            "sts" if status == 200 => (200, CALLER.to_owned()),
            "sts" => (status, body.to_owned()),
            _ => {
                self.pushes.lock().unwrap().push(serde_json::from_str(form).unwrap());
                (status, body.to_owned())
            }
        }
    }
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
