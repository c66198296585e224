//! Clients that keep us waiting. Those in memory are on a clock that stands until all wait; those over TCP are real.

use super::*;
use crate::drain::Drain;
use crate::http::{self, Body, Late, Whole};
use hyper::{Response, body::Bytes};
use hyper_util::rt::TokioIo;
use instance_connect_core::places::ConnectionLimits;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Longer than anything over real sockets takes: a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

const REQUEST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody";

/// Answers with the request's `number` and the length of its body, once it is let.
#[derive(Clone)]
struct Service {
    /// How many requests may be answered.
    answers: Arc<Semaphore>,
    /// Bytes that each answer has.
    answer: usize,
    /// Whether they come late.
    late: bool,
    /// Requests under way at once, and the most there have been.
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Service {
    fn new() -> Self {
        let answers = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        Self { answers, answer: 0, late: false, under_way: Arc::default(), most: Arc::default() }
    }

    async fn answer(self, request: Whole) -> Result<Response<Body>, Infallible> {
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(under_way, Ordering::SeqCst);
        self.answers.acquire().await.unwrap().forget();
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        let number = request.headers().get("number").cloned();
        let text = match request.body() {
            Ok(body) => format!("{}{}", body.len(), "-".repeat(self.answer)),
            Err(error) => format!("{error:?}"),
        };
        let mut response = Response::new(Body::from(Bytes::from(text)));
        if self.late {
            response.extensions_mut().insert(Late);
        }
        if let Some(number) = number {
            response.headers_mut().insert("number", number);
        }
        Ok(response)
    }

    async fn serve<S>(self, stream: S, connection: Connection)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        http::serve(stream, connection, 1000, move |request| self.clone().answer(request)).await;
    }
}

/// A connection in memory that holds so many bytes on their way, alone at its listener.
fn connect(service: Service, on_their_way: usize) -> (DuplexStream, JoinHandle<()>) {
    connect_to(&one_place(), service, on_their_way)
}

fn admit(places: &Arc<Mutex<Places<Progress>>>) -> Option<Connection> {
    let peer = "192.0.2.1:40000".parse().unwrap();
    Connection::admit(
        places,
        peer,
        &TrustedProxies::default(),
        Drain::default().under_way(),
        &ListenerMetrics::default(),
    )
}

fn one_place() -> Arc<Mutex<Places<Progress>>> {
    Arc::new(Mutex::new(Places::new(ConnectionLimits { in_all: 1, per_source: 1 })))
}

fn connect_to(
    places: &Arc<Mutex<Places<Progress>>>,
    service: Service,
    on_their_way: usize,
) -> (DuplexStream, JoinHandle<()>) {
    let (client, server) = duplex(on_their_way);
    let connection = admit(places).unwrap();
    (client, spawn(connection, |connection| service.serve(server, connection)))
}

/// Sends a byte each second for as long as they are taken, and gives what was answered at last.
async fn trickle(client: &mut DuplexStream, bytes: &[u8]) -> String {
    let mut answer = Vec::new();
    for byte in bytes {
        if client.write_all(&[*byte]).await.is_err() {
            break;
        }
        if let Ok(Ok(0) | Err(_)) = timeout(Duration::from_secs(1), client.read_buf(&mut answer)).await {
            break;
        }
    }
    let _ = client.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

/// Sends a whole request and reads its answer.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(client: &mut S) -> String {
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    read_answer(client).await
}

/// Reads one answer with a body of one character.
async fn read_answer<S: AsyncRead + Unpin>(client: &mut S) -> String {
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        answer.push(client.read_u8().await.unwrap());
    }
    answer.push(client.read_u8().await.unwrap());
    String::from_utf8(answer).unwrap()
}

fn assert_took(start: Instant, seconds: u64) {
    let (took, expected) = (start.elapsed(), Duration::from_secs(seconds));
    // Timers of the runtime are as fine as a millisecond.
    let difference = took.abs_diff(expected);
    assert!(difference < Duration::from_millis(100), "{took:?}, not {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_closed_after_10_seconds() {
    let start = Instant::now();
    let (mut client, served) = connect(Service::new(), 1000);
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_took(start, 10);
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_head_has_10_seconds_from_its_first_byte() {
    let (mut client, _served) = connect(Service::new(), 1000);
    sleep_until(Instant::now() + Duration::from_secs(9)).await;
    let start = Instant::now();
    assert_eq!(trickle(&mut client, REQUEST.as_bytes()).await, "");
    assert_took(start, 10);
}

#[tokio::test(start_paused = true)]
async fn between_requests_there_are_60_seconds_and_for_each_head_10() {
    let (mut client, _served) = connect(Service::new(), 1000);
    assert!(ask(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
    for _ in 0..3 {
        sleep_until(Instant::now() + Duration::from_secs(59)).await;
        assert!(ask(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
    sleep_until(Instant::now() + Duration::from_secs(30)).await;
    let start = Instant::now();
    assert_eq!(trickle(&mut client, REQUEST.as_bytes()).await, "");
    assert_took(start, 10);

    let (mut client, _served) = connect(Service::new(), 1000);
    ask(&mut client).await;
    let start = Instant::now();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_took(start, 60);
}

/// Nothing wakes the server after that byte but its own timer.
#[tokio::test(start_paused = true)]
async fn a_head_of_one_byte_has_10_seconds_too() {
    // Several, for the order in which a task looks at things is a matter of chance where it is not fixed.
    for _ in 0..10 {
        let (mut client, _served) = connect(Service::new(), 1000);
        ask(&mut client).await;
        sleep_until(Instant::now() + Duration::from_secs(15)).await;
        let start = Instant::now();
        client.write_all(b"P").await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_took(start, 10);
    }
}

/// The beginning of a head that came with the request before it.
#[tokio::test(start_paused = true)]
async fn a_head_that_stays_a_beginning_is_not_waited_for_longer_than_an_idle_client() {
    let (mut client, _served) = connect(Service::new(), 1000);
    client.write_all(format!("{REQUEST}POST / HT").as_bytes()).await.unwrap();
    read_answer(&mut client).await;
    let start = Instant::now();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_took(start, 60);
}

#[tokio::test(start_paused = true)]
async fn a_body_has_10_seconds_and_the_answer_says_so() {
    let (mut client, _served) = connect(Service::new(), 1000);
    let start = Instant::now();
    client.write_all(b"POST / HTTP/1.1\r\ncontent-length: 100\r\n\r\n").await.unwrap();
    let answer = trickle(&mut client, &[b'x'; 99]).await;
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nTooSlow"), "{answer}");
    assert_took(start, 10);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_body_is_told_and_closes() {
    for (request, expected) in [
        ("content-length: 1001\r\n\r\nx".to_owned(), "TooLarge"),
        (format!("transfer-encoding: chunked\r\n\r\n3e9\r\n{}\r\n", "x".repeat(1001)), "TooLarge"),
        ("transfer-encoding: chunked\r\n\r\nno length\r\n".to_owned(), "Incomplete"),
    ] {
        let (mut client, served) = connect(Service::new(), 10_000);
        client.write_all(format!("POST / HTTP/1.1\r\n{request}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{answer}");
        served.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_has_10_seconds_to_be_read() {
    let service = Service { answer: 2000, ..Service::new() };
    let (mut client, served) = connect(service, 1000);
    let start = Instant::now();
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    served.await.unwrap();
    assert_took(start, 10);
    // Somebody who reads slowly, but reads.
    let service = Service { answer: 2000, ..Service::new() };
    let (mut client, _served) = connect(service, 1000);
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    sleep_until(Instant::now() + Duration::from_secs(9)).await;
    let mut answer = vec![0; 2000];
    client.read_exact(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

#[tokio::test(start_paused = true)]
async fn work_may_take_as_long_as_it_takes() {
    let service = Service { answers: Arc::new(Semaphore::new(0)), ..Service::new() };
    let (mut client, _served) = connect(service.clone(), 1000);
    let asked = tokio::spawn(async move { ask(&mut client).await });
    sleep_until(Instant::now() + Duration::from_secs(3600)).await;
    service.answers.add_permits(1);
    assert!(asked.await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test(start_paused = true)]
async fn requests_sent_at_once_are_answered_in_order_and_one_at_a_time() {
    const COUNT: usize = 100;
    let service = Service::new();
    let (mut client, _served) = connect(service.clone(), 1_000_000);
    let requests: String =
        (0..COUNT).map(|number| REQUEST.replacen("\r\n", &format!("\r\nnumber: {number}\r\n"), 1)).collect();
    client.write_all(requests.as_bytes()).await.unwrap();
    for number in 0..COUNT {
        let answer = read_answer(&mut client).await;
        assert!(answer.contains(&format!("\r\nnumber: {number}\r\n")), "{number}: {answer}");
    }
    assert_eq!(service.most.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn requests_sent_at_once_are_not_read_ahead_without_end() {
    const ON_THEIR_WAY: usize = 1_000_000;
    let service = Service { answers: Arc::new(Semaphore::new(0)), ..Service::new() };
    let (mut client, _served) = connect(service, ON_THEIR_WAY);
    let sent = async {
        let mut sent = 0;
        loop {
            client.write_all(REQUEST.as_bytes()).await.unwrap();
            sent += REQUEST.len();
            if sent > 2 * ON_THEIR_WAY {
                return sent;
            }
        }
    };
    // The server reads a buffer full and then waits for its own answer.
    assert!(timeout(Duration::from_secs(1), sent).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn heads_that_are_too_large_are_answered_and_closed() {
    let many: String = (0..100).map(|number| format!("h{number}: 1\r\n")).collect();
    for (head, status) in [
        (format!("POST / HTTP/1.1\r\n{many}\r\n"), "431"),
        (format!("POST / HTTP/1.1\r\nh: {}\r\n\r\n", "x".repeat(40_000)), "431"),
        (format!("POST / HTTP/1.1\r\nh: {}", "x".repeat(1_000_000)), "431"),
        (format!("POST /{} HTTP/1.1\r\n\r\n", "x".repeat(40_000)), "431"),
        (format!("POST /{}", "x".repeat(1_000_000)), "431"),
        ("x".repeat(1_000_000), "431"),
        ("\r\n".repeat(500_000), "431"),
    ] {
        let (mut client, served) = connect(Service::new(), 2_000_000);
        let _ = client.write_all(head.as_bytes()).await;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        let begin: String = head.chars().take(40).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{begin}: {answer}");
        served.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_comes_after_a_second() {
    let (mut client, _served) = connect(Service { late: true, ..Service::new() }, 1000);
    for _ in 0..20 {
        let start = Instant::now();
        assert!(ask(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_took(start, 1);
    }
    // Whoever waits for one has no place that another could not have.
    let places = one_place();
    let service = Service { late: true, ..Service::new() };
    let (mut client, _served) = connect_to(&places, service.clone(), 1000);
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    sleep_until(Instant::now() + Duration::from_millis(500)).await;
    let (mut another, _served) = connect_to(&places, service, 1000);
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert!(ask(&mut another).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

/// What becomes of a connection after an upgrade has limits of its own, and no place here.
#[tokio::test(start_paused = true)]
async fn an_upgraded_connection_is_let_go() {
    let (mut client, server) = duplex(1000);
    let places = one_place();
    let peer = "192.0.2.1:40000".parse().unwrap();
    let connection = Connection::admit(
        &places,
        peer,
        &TrustedProxies::default(),
        Drain::default().under_way(),
        &ListenerMetrics::default(),
    )
    .unwrap();
    let served = spawn(connection, |connection| {
        http::serve(server, connection, 0, async |mut request: Whole| {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut upgraded = TokioIo::new(upgrade.await.unwrap());
                while let Ok(byte) = upgraded.read_u8().await {
                    upgraded.write_u8(byte).await.unwrap();
                }
            });
            let response =
                Response::builder().status(101).header("upgrade", "echo").header("connection", "upgrade");
            Ok::<_, Infallible>(response.body(Body::default()).unwrap())
        })
    });
    client.write_all(b"GET / HTTP/1.1\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n").await.unwrap();
    served.await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(client.read_u8().await.unwrap());
    }
    for byte in 0..10 {
        sleep_until(Instant::now() + Duration::from_secs(3600)).await;
        client.write_u8(byte).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), byte);
    }
    // There is a place for another, which closes nobody's.
    let (_id, closed) = lock(&places).admit(peer.ip(), PerSource::Limited, Progress::new()).unwrap();
    assert!(closed.is_none());
}

/// Closed at once, the connection would take the answer with it.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_still_sending_gets_its_answer() {
    let (mut client, served) = connect(Service::new(), 1000);
    client.write_all(b"POST / HTTP/1.1\r\ncontent-length: 100000\r\n\r\n").await.unwrap();
    client.write_all(&[b'x'; 100_000]).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nTooLarge"), "{answer}");
    drop(client);
    served.await.unwrap();

    // But not for ever, nor however much it sends.
    for (pause, most) in [(1, 3), (0, LINGERING_BYTES / 1000 + 20)] {
        let (mut client, served) = connect(Service::new(), 1000);
        client.write_all(b"POST / HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n").await.unwrap();
        let mut sent = 0;
        while client.write_all(&[b'x'; 1000]).await.is_ok() {
            sent += 1;
            assert!(sent <= most, "{pause}: {sent}");
            sleep_until(Instant::now() + Duration::from_secs(pause)).await;
        }
        served.await.unwrap();
    }
}

/// As `nc -N` does, and whoever else sends all it has and then reads to the end.
#[tokio::test(start_paused = true)]
async fn a_client_that_closes_its_side_is_answered() {
    let service = Service { answers: Arc::new(Semaphore::new(0)), ..Service::new() };
    let (mut client, served) = connect(service.clone(), 1000);
    client.write_all(REQUEST.repeat(2).as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    // All that was sent has been seen when the first is answered, and its end too.
    sleep_until(Instant::now() + Duration::from_secs(1)).await;
    service.answers.add_permits(2);
    let mut answers = String::new();
    client.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{answers}");
    served.await.unwrap();

    let (mut client, served) = connect(Service::new(), 1000);
    client.write_all(b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nbod").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nIncomplete"), "{answer}");
    served.await.unwrap();
}

/// Otherwise whoever sends requests and hangs up has more under way than there are places.
#[tokio::test(start_paused = true)]
async fn work_keeps_its_place_when_its_client_has_gone() {
    let service = Service { answers: Arc::new(Semaphore::new(0)), ..Service::new() };
    let places = one_place();
    let (mut client, served) = connect_to(&places, service.clone(), 1000);
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    drop(client);
    sleep_until(Instant::now() + Duration::from_secs(3600)).await;
    assert!(admit(&places).is_none());
    service.answers.add_permits(1);
    served.await.unwrap();
    assert!(admit(&places).is_some());
}

/// A listener on real sockets.
struct Server {
    address: SocketAddr,
    service: Service,
    drain: Arc<Drain>,
}

impl Server {
    async fn new(in_all: usize, per_source: usize) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, service) = (socket.local_addr().unwrap(), Service::new());
        let (served, drain) = (service.clone(), Arc::<Drain>::default());
        let limits = ConnectionLimits { in_all, per_source };
        let listener = Listener { drain: Arc::clone(&drain), ..Listener::new(socket, limits) };
        tokio::spawn(accept(listener, TrustedProxies::default(), move |stream, connection| {
            served.clone().serve(stream, connection)
        }));
        Self { address, service, drain }
    }

    /// A connection from 127.0.0.`source`.
    async fn connect(&self, source: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((std::net::Ipv4Addr::new(127, 0, 0, source), 0).into()).unwrap();
        socket.connect(self.address).await.unwrap()
    }
}

async fn is_answered(client: &mut TcpStream) -> bool {
    timeout(PATIENCE, ask(client)).await.expect("an answer").starts_with("HTTP/1.1 200 OK\r\n")
}

/// Waits until the server has closed a connection.
async fn closed(client: &mut TcpStream) {
    match timeout(PATIENCE, client.read(&mut [0])).await.expect("the connection is closed") {
        Ok(read) => assert_eq!(read, 0),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

#[tokio::test]
async fn whoever_opens_too_many_closes_their_own() {
    let server = Server::new(10, 3).await;
    let mut good = server.connect(1).await;
    assert!(is_answered(&mut good).await);
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(server.connect(2).await);
    }
    // Three others push these out, the longest first.
    for _ in 0..3 {
        let mut newer = server.connect(2).await;
        assert!(is_answered(&mut newer).await);
        closed(&mut idle.remove(0)).await;
        idle.push(newer);
    }
    assert!(is_answered(&mut good).await);
}

#[tokio::test]
async fn a_newcomer_is_let_in_when_all_places_are_taken() {
    let server = Server::new(6, 3).await;
    // The good client was there before all others, and has waited longer than any.
    let mut good = server.connect(1).await;
    assert!(is_answered(&mut good).await);
    let mut attackers = Vec::new();
    for source in [2, 2, 2, 3, 3] {
        attackers.push(server.connect(source).await);
    }
    // In the middle of a head, of a body.
    attackers[0].write_all(b"POST / HT").await.unwrap();
    attackers[1].write_all(b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nb").await.unwrap();
    let mut newcomer = server.connect(4).await;
    assert!(is_answered(&mut newcomer).await);
    closed(&mut attackers[0]).await;
    let mut another = server.connect(5).await;
    assert!(is_answered(&mut another).await);
    assert!(is_answered(&mut good).await);
    assert!(is_answered(&mut newcomer).await);
}

#[tokio::test]
async fn a_request_that_is_worked_on_keeps_its_place() {
    let server = Server::new(1, 1).await;
    let answers = Arc::clone(&server.service.answers);
    answers.forget_permits(Semaphore::MAX_PERMITS);
    let mut first = server.connect(1).await;
    first.write_all(REQUEST.as_bytes()).await.unwrap();
    worked_on(&server.service).await;
    for source in [1, 2] {
        closed(&mut server.connect(source).await).await;
    }
    answers.add_permits(1);
    assert!(timeout(PATIENCE, read_answer(&mut first)).await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    // Answered, it may be closed for another.
    let mut second = server.connect(2).await;
    answers.add_permits(1);
    assert!(is_answered(&mut second).await);
    closed(&mut first).await;
}

/// Waits until the request of some client is being worked on.
async fn worked_on(service: &Service) {
    while service.under_way.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_end_answers_what_is_under_way_and_closes_what_is_not() {
    let server = Server::new(10, 10).await;
    let answers = &server.service.answers;
    let (mut idle, mut busy) = (server.connect(1).await, server.connect(2).await);
    let (mut working, mut silent) = (server.connect(3).await, server.connect(4).await);
    for client in [&mut idle, &mut busy, &mut working] {
        assert!(is_answered(client).await);
    }
    answers.forget_permits(Semaphore::MAX_PERMITS);
    working.write_all(REQUEST.as_bytes()).await.unwrap();
    worked_on(&server.service).await;
    server.drain.begin();
    // A client that goes on is told that this is its last answer.
    busy.write_all(REQUEST.as_bytes()).await.unwrap();
    closed(&mut idle).await;
    closed(&mut silent).await;
    assert!(timeout(Duration::ZERO, server.drain.idle()).await.is_err());
    answers.add_permits(2);
    for mut client in [busy, working] {
        let answer = timeout(PATIENCE, read_answer(&mut client)).await.unwrap();
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        closed(&mut client).await;
    }
    timeout(PATIENCE, server.drain.idle()).await.unwrap();
    assert_eq!(
        TcpStream::connect(server.address).await.unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
}

/// Who sends half a head, and then nothing, is not waited for as long as otherwise.
#[tokio::test]
async fn half_a_head_does_not_hold_the_end_up() {
    let server = Server::new(10, 10).await;
    let mut client = server.connect(1).await;
    assert!(is_answered(&mut client).await);
    client.write_all(b"POST / HT").await.unwrap();
    server.drain.begin();
    closed(&mut client).await;
    timeout(PATIENCE, server.drain.idle()).await.unwrap();
}
