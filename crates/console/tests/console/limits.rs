//! What strangers and slow readers can take up.

use crate::control_plane::{Came, PATIENCE, now};
use crate::gateway::World;
use crate::ssh::SlowAgent;
use instance_connect_core::stream::{EndCode, PAYLOAD, StreamFrame};
use rustix::process::Signal;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

/// A socket that says nothing, from this address of the loopback network.
fn stranger(world: &World, from: u8) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::new(IpAddr::from([127, 0, 0, from]), 0)).unwrap();
    connect(&socket, &world.address).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Waits for the gateway's first line.
fn is_greeted(stream: &mut TcpStream) -> bool {
    stream.read_exact(&mut [0; 25]).is_ok()
}

/// Whether it has been closed; otherwise there is nothing to read.
fn is_closed(stream: &mut TcpStream, patience: Duration) -> bool {
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut all = [0; 4096];
    loop {
        match stream.read(&mut all) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
}

const SHORT: Duration = Duration::from_millis(300);

#[test]
fn who_does_not_authenticate_in_time_is_sent_away() {
    let world = World::with(&["--authentication-time", "5"]);
    let key = world.pushed_key();
    let mut ssh = world.ssh(&key, &["-T"], &[]);
    let mut line = world.plane.line();
    let began = now();
    let mut silent = stranger(&world, 1);
    let mut slow = stranger(&world, 1);
    slow.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
    assert!(is_closed(&mut silent, PATIENCE) && is_closed(&mut slow, PATIENCE));
    assert!(began.elapsed().as_millis() >= 5000, "{:?}", began.elapsed());
    // Who had come in before them does not depend on it.
    ssh.types("x");
    line.hears("x");
}

#[test]
fn who_speaks_no_ssh_is_sent_away_at_once() {
    // Twice as long as anybody here waits.
    let world = World::with(&["--authentication-time", "120"]);
    let mut odd = stranger(&world, 1);
    odd.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(is_closed(&mut odd, PATIENCE));
}

#[test]
fn who_comes_in_and_asks_for_nothing_is_sent_away() {
    let world = World::with(&["--authentication-time", "2"]);
    let key = world.pushed_key();
    let began = now();
    let outcome = world.ssh(&key, &["-T", "-N"], &[]).ends();
    assert_eq!(outcome.status, Some(255), "{outcome:?}");
    assert!((2..60).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[test]
fn a_source_that_opens_more_closes_its_own() {
    let world = World::new();
    let mut other = stranger(&world, 9);
    let mut many: Vec<TcpStream> = (0..10).map(|_| stranger(&world, 2)).collect();
    assert!(many.iter_mut().rev().take(4).all(is_greeted), "the last four stay");
    let closed: Vec<bool> = many.iter_mut().map(|stream| is_closed(stream, SHORT)).collect();
    assert_eq!(closed, [true, true, true, true, true, true, false, false, false, false]);
    assert!(!is_closed(&mut other, SHORT));
    // Others come in beside them.
    let key = world.pushed_key();
    let _ssh = world.ssh(&key, &["-T", "-o", "BindAddress=127.0.0.5"], &[]);
    world.plane.line();
}

#[test]
fn so_many_strangers_in_all_and_then_those_who_hold_most_make_room() {
    let world = World::with(&["--unauthenticated", "8"]);
    let mut single = stranger(&world, 100);
    let mut many: Vec<TcpStream> = (0..16).map(|number| stranger(&world, 2 + number / 4)).collect();
    assert!(is_greeted(many.last_mut().unwrap()));
    let open = many.iter_mut().map(|stream| !is_closed(stream, SHORT)).filter(|open| *open).count();
    assert_eq!(open, 7);
    assert!(!is_closed(&mut single, SHORT), "the only one of its source");
    // There is always a way in.
    let key = world.pushed_key();
    let mut ssh = world.ssh(&key, &["-T", "-o", "BindAddress=127.0.0.200"], &[]);
    world.plane.line().says("here");
    ssh.sees("here");
}

/// Somebody whose key is expected and whose agent asks its owner first: others make room among themselves.
#[test]
fn who_is_expected_keeps_the_place() {
    let world = World::new();
    let key = world.pushed_key();
    let agent = SlowAgent::start(&world, &key);
    let socket = format!("IdentityAgent={}", agent.socket.display());
    // The agent has the key, and the file only says which one it is.
    fs::write(&key.file, &key.line).unwrap();
    let _ssh = world.ssh(&key, &["-T", "-o", &socket], &[]);
    agent.asked.recv_timeout(PATIENCE).expect("the gateway did not expect the key");
    let mut many: Vec<TcpStream> = (0..8).map(|_| stranger(&world, 1)).collect();
    assert!(many.iter_mut().rev().take(3).all(is_greeted));
    let open = many.iter_mut().map(|stream| !is_closed(stream, SHORT)).filter(|open| *open).count();
    assert_eq!(open, 3, "the fourth place is taken");
}

#[test]
fn so_many_sessions_and_the_next_is_told() {
    let world = World::with(&["--sessions", "1"]);
    let key = world.pushed_key();
    let mut first = world.ssh(&key, &["-T"], &[]);
    let mut line = world.plane.line();
    line.says("here");
    first.sees("here");
    let outcome = world.ssh(&key, &["-T"], &[]).ends();
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    assert!(outcome.stdout.contains("[The gateway holds as many sessions as it may."), "{outcome:?}");
    assert_eq!(world.plane.attaches().len(), 1);
    line.ends("Bye.");
    first.ends();
    let _ssh = world.ssh(&key, &["-T"], &[]);
    world.plane.line();
}

/// Sends data until the gateway takes no more for a while. Gives how much it took.
fn flood(stream: &std::os::unix::net::UnixStream, most: usize) -> usize {
    let frame = StreamFrame::Data(&[b'x'; PAYLOAD]).encode();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let (mut stream, mut taken) = (stream, 0);
    while taken < most {
        match stream.write(&frame[taken % frame.len()..]) {
            Ok(length) => taken += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // The gateway has ended the session.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => break,
            Err(error) => panic!("{error}"),
        }
    }
    taken
}

/// Whoever does not read fills the kernel's buffers and those of ssh, and then the line waits: the gateway keeps next to nothing.
#[test]
fn a_reader_that_stops_costs_the_gateway_no_memory() {
    const MUCH: usize = 64 * 1024 * 1024;
    let world = World::new();
    let key = world.pushed_key();
    let mut ssh = world.ssh(&key, &["-T"], &[]);
    let line = world.plane.line();
    (&line.stream).write_all(&StreamFrame::Data(b"here").encode()).unwrap();
    ssh.sees("here");
    // A reader takes it all.
    let before = world.memory();
    assert_eq!(flood(&line.stream, MUCH) / MUCH, 1);
    ssh.signal(Signal::STOP);
    let taken = flood(&line.stream, MUCH);
    assert!(taken < 16 * 1024 * 1024, "{taken} bytes were taken for a reader that does not read");
    let grown = world.memory().saturating_sub(before);
    assert!(grown < 2 * 1024 * 1024, "{grown} bytes of memory more");
    // And when it goes on, so does all.
    ssh.signal(Signal::CONT);
    assert_eq!(flood(&line.stream, MUCH) / MUCH, 1);
    // Others were never held up.
    let _other = world.ssh(&key, &["-T"], &[]);
    world.plane.line();
}

/// Nor does it hold its line: that it is gone is noticed although there is no room to ask it.
#[test]
fn a_reader_that_stops_for_good_is_gone() {
    let world = World::with(&["--keep-alive", "1", "--keep-alives-unanswered", "1"]);
    let key = world.pushed_key();
    let mut ssh = world.ssh(&key, &["-T"], &[]);
    let mut line = world.plane.line();
    line.says("here");
    ssh.sees("here");
    ssh.signal(Signal::STOP);
    flood(&line.stream, 64 * 1024 * 1024);
    // Without these two it would be 120 s.
    assert_eq!(line.next(), Came::Nothing);
}

/// A line that takes nothing makes whoever types wait, and nothing is lost of what was typed.
#[test]
fn a_line_that_takes_nothing_costs_the_gateway_no_memory() {
    const MUCH: usize = 16 * 1024 * 1024;
    let world = World::new();
    let key = world.pushed_key();
    let mut ssh = world.ssh(&key, &["-T"], &[]);
    let mut line = world.plane.line();
    line.says("here");
    ssh.sees("here");
    let before = world.memory();
    let typed = ssh.types_until_it_waits(MUCH);
    assert!(typed < 2 * 1024 * 1024, "{typed} bytes were typed to a line that takes nothing");
    let grown = world.memory().saturating_sub(before);
    assert!(grown < 2 * 1024 * 1024, "{grown} bytes of memory more");
    ssh.closes_input();
    line.hears(&"x".repeat(typed));
    assert_eq!(line.next(), Came::Eof);
}

/// As long as what is typed finds room here, the line is heard, and can be left.
#[test]
fn a_line_that_takes_nothing_is_heard_and_can_be_left() {
    let world = World::new();
    let key = world.pushed_key();
    let mut ssh = world.ssh(&key, &["-T"], &[]);
    let mut line = world.plane.line();
    // More than a unix socket takes by itself.
    let typed = "x".repeat(120 * 1024);
    ssh.types(&typed);
    line.says("there");
    ssh.sees("there");
    ssh.types("\u{1d}.");
    line.hears(&typed);
    assert_eq!(line.next(), Came::End(EndCode::Left));
}
