//! The client, the same for every server: keep-alive connections with one request under way on each. The requests are
//! made and signed before the clock starts, so that in the measured time it does little but write and read. They are
//! pushes, or ones of EC2's query API.

use crate::clock;
use crate::figures::summary;
use crate::requests::{Target, query, signed};
use anyhow::{Context as _, bail, ensure};
use instance_connect_core::secret::Secret;
use instance_connect_core::sigv4::Credentials;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::{sleep_until, timeout};

/// How long an answer may take. The control plane waits 2 s for a machine.
const ANSWER: Duration = Duration::from_secs(10);

/// The longest answer: that of a push, and a part of a list.
const ANSWER_BYTES: usize = 16 * 1024;
const LIST_BYTES: usize = 4 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    load: Load,
    /// A file of instance ids, one a line; requests go to them in turn
    #[arg(long)]
    instances: PathBuf,
    /// OS users; the next one when all instances have had theirs
    #[arg(long, value_delimiter = ',')]
    users: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct QueryArguments {
    #[command(flatten)]
    load: Load,
    /// What is asked, as a form: Action=..., with the request's number in the place of {}
    #[arg(long)]
    form: String,
}

/// Where requests go, how many, and how fast.
#[derive(Debug, clap::Args)]
struct Load {
    /// Where the server is: HOST:PORT, plain http
    #[arg(long)]
    server: String,
    #[arg(long, default_value = "us-east-1")]
    region: String,
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    access_key_id: String,
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    secret_access_key: String,
    /// How many requests to make
    #[arg(long)]
    requests: usize,
    /// How many to have under way
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Send so many a second, as evenly as they can be; as many as are answered without it
    #[arg(long)]
    per_second: Option<f64>,
    /// Stop after so many seconds, sent all or not
    #[arg(long)]
    seconds: f64,
    /// Begin again when all have been sent: for servers that do not look at them
    #[arg(long)]
    again: bool,
}

/// What the connections share.
struct Run {
    server: String,
    requests: Vec<Vec<u8>>,
    next: usize,
    again: bool,
    /// When the next request is due, and how long after it the one behind it.
    pace: Option<(Instant, Duration)>,
    stop_at: Instant,
    latencies: Vec<Duration>,
    errors: BTreeMap<String, u64>,
    connections: u64,
    answer_bytes: usize,
    /// The longest answer there may be.
    longest: usize,
}

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    send(&arguments.load, make_requests(arguments)?, ANSWER_BYTES).await
}

/// Sends requests of EC2's query API.
pub(crate) async fn run_queries(arguments: &QueryArguments) -> anyhow::Result<()> {
    let QueryArguments { load, form } = arguments;
    let (credentials, now) = (load.credentials(), clock::wall());
    let signed = |number: usize| {
        let form = form.replace("{}", &number.to_string());
        query(&load.server, &load.region, &form, &credentials, now)
    };
    let requests = (0..load.requests).map(signed).collect::<anyhow::Result<_>>()?;
    send(load, requests, LIST_BYTES).await
}

async fn send(arguments: &Load, requests: Vec<Vec<u8>>, longest: usize) -> anyhow::Result<()> {
    let request_bytes = requests.first().map_or(0, Vec::len);
    let room = requests.len().saturating_mul(if arguments.again { 16 } else { 1 });
    let (processor, start) = (clock::processor(), clock::now());
    let run = Rc::new(RefCell::new(Run {
        server: arguments.server.clone(),
        requests,
        next: 0,
        again: arguments.again,
        pace: arguments.per_second.map(|rate| (start, Duration::from_secs_f64(1.0 / rate))),
        stop_at: start + Duration::from_secs_f64(arguments.seconds),
        latencies: Vec::with_capacity(room),
        errors: BTreeMap::new(),
        connections: 0,
        answer_bytes: 0,
        longest,
    }));
    let connections = LocalSet::new();
    for _ in 0..arguments.in_flight {
        connections.spawn_local(connection(Rc::clone(&run)));
    }
    connections.await;
    let (seconds, processor) = (start.elapsed().as_secs_f64(), clock::processor().saturating_sub(processor));
    let run = run.take();
    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    let per_second = run.latencies.len() as f64 / seconds;
    crate::report(&json!({
        "succeeded": run.latencies.len(),
        "seconds": seconds,
        "per_second": per_second,
        "latency": summary(run.latencies),
        "errors": run.errors,
        "connections": run.connections,
        "request_bytes": request_bytes,
        "answer_bytes": run.answer_bytes,
        "client_processor_seconds": processor.as_secs_f64(),
    }))
}

fn make_requests(arguments: &Arguments) -> anyhow::Result<Vec<Vec<u8>>> {
    let file = std::fs::read_to_string(&arguments.instances)
        .with_context(|| format!("cannot read {}", arguments.instances.display()))?;
    let instances: Vec<&str> = file.lines().collect();
    ensure!(!instances.is_empty() && !arguments.users.is_empty(), "no instances, or no users");
    let load = &arguments.load;
    let credentials = load.credentials();
    let pairs =
        arguments.users.iter().flat_map(|user| instances.iter().map(move |instance| (instance, user)));
    let now = clock::wall();
    let requests = pairs.cycle().take(load.requests).map(|(instance, os_user)| {
        let target = Target { host: &load.server, region: &load.region, instance, os_user };
        signed(&target, &credentials, now)
    });
    requests.collect()
}

impl Load {
    fn credentials(&self) -> Credentials {
        Credentials {
            access_key_id: self.access_key_id.clone(),
            secret_access_key: Secret::new(self.secret_access_key.clone().into_bytes()),
            session_token: None,
        }
    }
}

impl Run {
    /// The next request, until there are no more or the time is over.
    fn next(&mut self) -> Option<Vec<u8>> {
        if clock::now() >= self.stop_at {
            return None;
        }
        if self.again && self.next == self.requests.len() {
            self.next = 0;
        }
        let request = self.requests.get_mut(self.next)?;
        self.next += 1;
        // Taken out where it is sent once: copying it would be at the expense of the server.
        Some(if self.again { request.clone() } else { std::mem::take(request) })
    }

    /// When the request that was taken is to be sent, where that is given.
    fn due(&mut self) -> Option<Instant> {
        let (due, gap) = self.pace.as_mut()?;
        let now_due = *due;
        *due += *gap;
        Some(now_due)
    }

    fn take(&mut self, latency: Duration, answer: anyhow::Result<Answer>) {
        match answer {
            Ok(answer) => {
                self.answer_bytes = answer.bytes;
                match answer.error {
                    None => self.latencies.push(latency),
                    Some(error) => *self.errors.entry(error).or_default() += 1,
                }
            }
            Err(error) => *self.errors.entry(format!("{error:#}")).or_default() += 1,
        }
    }
}

async fn connection(run: Rc<RefCell<Run>>) {
    let (server, longest) = (run.borrow().server.clone(), run.borrow().longest);
    let mut open = None;
    let mut buffer = vec![0; longest];
    while let Some(request) = { run.borrow_mut().next() } {
        let due = run.borrow_mut().due();
        let start = match due.filter(|due| *due > clock::now()) {
            Some(due) => {
                sleep_until(due.into()).await;
                clock::now()
            }
            // A request that is late has been waited for since it was due.
            None => due.unwrap_or_else(clock::now),
        };
        let exchange = async {
            let mut stream = match open.take() {
                Some(stream) => stream,
                None => connect(&server, &run).await?,
            };
            stream.write_all(&request).await?;
            let answer = read_answer(&mut stream, &mut buffer).await?;
            if answer.keep_alive {
                open = Some(stream);
            }
            Ok(answer)
        };
        let answer = match timeout(ANSWER, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(anyhow::anyhow!("no answer in time")),
        };
        run.borrow_mut().take(start.elapsed(), answer);
    }
}

async fn connect(server: &str, run: &RefCell<Run>) -> anyhow::Result<TcpStream> {
    run.borrow_mut().connections += 1;
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What matters of an answer.
struct Answer {
    bytes: usize,
    error: Option<String>,
    keep_alive: bool,
}

/// Reads one answer that has a Content-Length.
async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<Answer> {
    let mut length = 0;
    loop {
        let read = stream.read(buffer.get_mut(length..).unwrap_or_default()).await?;
        ensure!(read > 0, "the connection ended before the answer did");
        length += read;
        let received = buffer.get(..length).unwrap_or_default();
        let Some(head) = received.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let (head, body) = received.split_at(head + 4);
        let head = std::str::from_utf8(head)?;
        let (status, body_length, keep_alive) = read_head(head)?;
        if body.len() < body_length {
            continue;
        }
        // An answer of EC2's query API is XML, and either a success or not 200.
        let succeeded =
            status == "200" && (body.starts_with(b"<") || body.windows(4).any(|window| window == b"true"));
        let error = (!succeeded).then(|| name_error(status, body));
        return Ok(Answer { bytes: length, error, keep_alive });
    }
}

/// Status, length of the body, and whether the connection stays.
fn read_head(head: &str) -> anyhow::Result<(&str, usize, bool)> {
    let (version, rest) = head.split_once(' ').context("not an HTTP answer")?;
    let status = rest.get(..3).context("not an HTTP answer")?;
    let (mut length, mut keep_alive) = (None, version == "HTTP/1.1");
    for line in head.lines().skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse()?);
        } else if name.eq_ignore_ascii_case("connection") {
            keep_alive = value.trim().eq_ignore_ascii_case("keep-alive");
        }
    }
    let Some(length) = length else { bail!("an answer without a Content-Length") };
    Ok((status, length, keep_alive))
}

fn name_error(status: &str, body: &[u8]) -> String {
    let code = serde_json::from_slice::<Value>(body).ok();
    let code = code.as_ref().and_then(|body| body.get("__type")?.as_str()).unwrap_or_default();
    format!("{status} {code}")
}

impl Default for Run {
    fn default() -> Self {
        Self {
            server: String::new(),
            requests: Vec::new(),
            next: 0,
            again: false,
            pace: None,
            stop_at: clock::now(),
            latencies: Vec::new(),
            errors: BTreeMap::new(),
            connections: 0,
            answer_bytes: 0,
            longest: 0,
        }
    }
}
