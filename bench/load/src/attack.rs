//! Clients that do not mean well, many at a time and from several addresses of this machine: 127.0.0.2 and those that
//! follow.

use crate::clock;
use crate::requests::{Target, signed};
use anyhow::Context as _;
use instance_connect_core::secret::Secret;
use instance_connect_core::sigv4::Credentials;
use serde_json::json;
use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, stdin};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::LocalSet;
use tokio::time::{interval, sleep, timeout};

/// How long whoever was closed waits before it comes again. Without a pause the attackers' own processor time, which on one
/// machine is taken from the server's, would be what is measured.
const PAUSE: Duration = Duration::from_secs(1);

/// How often whoever is slow sends something.
const TRICKLE: Duration = Duration::from_secs(1);

/// How long the first round may take.
const OPENING: Duration = Duration::from_secs(60);

/// Requests with a wrong signature, to be sent over and over: making them takes longer than refusing them.
const BOGUS: usize = 256;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What to do
    #[arg(value_enum)]
    kind: Kind,
    /// Where the server is: ADDRESS:PORT, plain http
    #[arg(long)]
    server: SocketAddr,
    #[arg(long, default_value = "us-east-1")]
    region: String,
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    access_key_id: String,
    /// How many connections to have open
    #[arg(long)]
    connections: usize,
    /// How many addresses to have them from
    #[arg(long)]
    sources: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Connect, and say nothing
    Idle,
    /// Send a request's head line by line
    SlowHeads,
    /// Send a request's body byte by byte
    SlowBodies,
    /// Send requests without waiting for answers, and read the answers
    Pipelining,
    /// Send requests without waiting for answers, and read nothing
    NeverReading,
    /// Send heads that are too large
    HeaderBombs,
    /// Send one request after the other with a wrong signature
    BogusSignatures,
}

/// What was done.
#[derive(Debug, Default)]
struct Counts {
    opened: Cell<u64>,
    open: Cell<u64>,
    refused: Cell<u64>,
    bytes_sent: Cell<u64>,
    bytes_received: Cell<u64>,
}

/// Attacks until standard input ends. Says when all connections have been opened, and at the end what was done.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let counts = Rc::new(Counts::default());
    let weapons = Rc::new(weapons(arguments)?);
    let tasks = LocalSet::new();
    for number in 0..arguments.connections {
        let source = Ipv4Addr::from_bits(
            Ipv4Addr::new(127, 0, 0, 2).to_bits() + u32::try_from(number)? % u32::from(arguments.sources),
        );
        let (kind, server) = (arguments.kind, arguments.server);
        let (counts, weapons) = (Rc::clone(&counts), Rc::clone(&weapons));
        tasks.spawn_local(async move {
            // One after the other, so that none is lost for want of room in the listener's queue.
            sleep(Duration::from_micros(100) * u32::try_from(number).unwrap_or(u32::MAX)).await;
            loop {
                attack(kind, source, server, &weapons, &counts).await;
                if kind != Kind::HeaderBombs {
                    sleep(PAUSE).await;
                }
            }
        });
    }
    let conduct = async {
        let all = u64::try_from(arguments.connections)?;
        let opened = async {
            while counts.opened.get() + counts.refused.get() < all {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(OPENING, opened).await.context("the attack did not get under way")?;
        crate::report(&json!({ "opened": counts.opened.get(), "refused": counts.refused.get() }))?;
        let (start, processor) = (clock::now(), clock::processor());
        let opened = counts.opened.get();
        // Whoever started this holds the other end.
        let _ = stdin().read_to_end(&mut Vec::new()).await;
        let (seconds, processor) =
            (start.elapsed().as_secs_f64(), clock::processor().saturating_sub(processor));
        crate::report(&json!({
            "seconds": seconds,
            "open": counts.open.get(),
            "opened": counts.opened.get() - opened,
            "refused": counts.refused.get(),
            "bytes_sent": counts.bytes_sent.get(),
            "bytes_received": counts.bytes_received.get(),
            "processor_seconds": processor.as_secs_f64(),
        }))
    };
    tasks.run_until(conduct).await
}

/// What is sent: of several, one after the other.
fn weapons(arguments: &Arguments) -> anyhow::Result<Vec<Vec<u8>>> {
    let host = arguments.server.to_string();
    let begin = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-amz-json-1.1\r\n");
    Ok(match arguments.kind {
        Kind::Idle => vec![Vec::new()],
        Kind::SlowHeads => vec![begin.into_bytes(), b"X-Slow: 1\r\n".to_vec()],
        Kind::SlowBodies => {
            vec![format!("{begin}Content-Length: 60000\r\n\r\n{{").into_bytes(), b" ".to_vec()]
        }
        Kind::Pipelining | Kind::NeverReading => {
            vec![format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").repeat(100).into_bytes()]
        }
        Kind::HeaderBombs => {
            let many: String = (0..2000).map(|number| format!("X-{number}: 1\r\n")).collect();
            vec![
                format!("{begin}{many}\r\n").into_bytes(),
                format!("{begin}X-Long: {}\r\n\r\n", "x".repeat(100_000)).into_bytes(),
                format!("POST /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)).into_bytes(),
            ]
        }
        Kind::BogusSignatures => {
            let credentials = Credentials {
                access_key_id: arguments.access_key_id.clone(),
                secret_access_key: Secret::new(b"not the secret".to_vec()),
                session_token: None,
            };
            let (region, instance, os_user) = (arguments.region.as_str(), "i-0123456789abcdef0", "nobody");
            let target = Target { host: &host, region, instance, os_user };
            (0..BOGUS).map(|_| signed(&target, &credentials, clock::wall())).collect::<Result<_, _>>()?
        }
    })
}

/// One connection, from its opening until it is closed.
async fn attack(kind: Kind, source: Ipv4Addr, server: SocketAddr, weapons: &[Vec<u8>], counts: &Counts) {
    let Ok(mut connection) = connect(kind, source, server).await else {
        add(&counts.refused, 1);
        return;
    };
    add(&counts.opened, 1);
    add(&counts.open, 1);
    // However it ends, another follows.
    let _ = match kind {
        Kind::Idle => read_to_end(&mut connection, counts).await,
        Kind::SlowHeads | Kind::SlowBodies => trickle(connection, weapons, counts).await,
        Kind::Pipelining => flood(connection, weapons, counts).await,
        Kind::NeverReading => send_until_closed(&mut connection, weapons, counts).await,
        Kind::HeaderBombs => bomb(connection, weapons, counts).await,
        Kind::BogusSignatures => ask(connection, weapons, counts).await,
    };
    counts.open.set(counts.open.get() - 1);
}

async fn connect(kind: Kind, source: Ipv4Addr, server: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if kind == Kind::NeverReading {
        socket.set_recv_buffer_size(4096)?;
    }
    socket.bind((source, 0).into())?;
    socket.connect(server).await
}

async fn trickle(connection: TcpStream, weapons: &[Vec<u8>], counts: &Counts) -> io::Result<()> {
    let (mut receiving, mut sending) = connection.into_split();
    let send = async {
        let mut ticks = interval(TRICKLE);
        // The first once, and then the second again and again.
        for bytes in weapons.iter().chain(weapons.last().into_iter().cycle()) {
            ticks.tick().await;
            send(&mut sending, bytes, counts).await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = send => ended,
        ended = read_to_end(&mut receiving, counts) => ended,
    }
}

async fn flood(connection: TcpStream, weapons: &[Vec<u8>], counts: &Counts) -> io::Result<()> {
    let (mut receiving, mut sending) = connection.into_split();
    tokio::select! {
        ended = send_until_closed(&mut sending, weapons, counts) => ended,
        ended = read_to_end(&mut receiving, counts) => ended,
    }
}

async fn bomb(connection: TcpStream, weapons: &[Vec<u8>], counts: &Counts) -> io::Result<()> {
    let turn = usize::try_from(counts.opened.get()).unwrap_or(0) % weapons.len();
    let (mut receiving, mut sending) = connection.into_split();
    if let Some(bytes) = weapons.get(turn) {
        send(&mut sending, bytes, counts).await?;
    }
    drop(sending);
    read_to_end(&mut receiving, counts).await
}

/// One request after the other, each when the one before has been answered.
async fn ask(mut connection: TcpStream, weapons: &[Vec<u8>], counts: &Counts) -> io::Result<()> {
    let mut buffer = [0; 4096];
    for request in weapons.iter().cycle() {
        send(&mut connection, request, counts).await?;
        // An answer is sent in one piece, or it is of no matter here.
        let read = connection.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        add(&counts.bytes_received, read);
    }
    Ok(())
}

async fn send_until_closed(
    connection: &mut (impl tokio::io::AsyncWrite + Unpin),
    weapons: &[Vec<u8>],
    counts: &Counts,
) -> io::Result<()> {
    for bytes in weapons.iter().cycle() {
        send(connection, bytes, counts).await?;
    }
    Ok(())
}

async fn send(
    connection: &mut (impl tokio::io::AsyncWrite + Unpin),
    bytes: &[u8],
    counts: &Counts,
) -> io::Result<()> {
    connection.write_all(bytes).await?;
    add(&counts.bytes_sent, bytes.len());
    Ok(())
}

async fn read_to_end(
    connection: &mut (impl tokio::io::AsyncRead + Unpin),
    counts: &Counts,
) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let read = connection.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        add(&counts.bytes_received, read);
    }
}

fn add(count: &Cell<u64>, more: usize) {
    count.set(count.get() + u64::try_from(more).unwrap_or(0));
}
