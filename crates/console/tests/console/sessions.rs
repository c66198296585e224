//! What passes between a person and a line, and how it ends.

use crate::control_plane::{Came, Line, PATIENCE};
use crate::gateway::{ADDRESS, World};
use crate::ssh::Ssh;
use instance_connect_core::console::InBand;
use instance_connect_core::stream::{End, EndCode, PAYLOAD, StreamFrame};
use rustix::process::Signal;
use std::io::Write as _;
use std::net::Shutdown;

/// Somebody who is at the line.
fn at_the_line(world: &World, arguments: &[&str]) -> (Ssh, Line) {
    let key = world.pushed_key();
    let mut ssh = world.ssh(&key, arguments, &[]);
    let mut line = world.plane.line();
    line.send(&StreamFrame::Ready);
    line.says("login: ");
    ssh.sees("login: ");
    (ssh, line)
}

/// Who has left was not sent away: ssh says nothing.
fn assert_left(ssh: Ssh, last_words: &str) {
    let outcome = ssh.ends();
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    assert!(outcome.stdout.ends_with(&format!("\r\n[{last_words}]\r\n")), "{outcome:?}");
}

#[test]
fn a_login_from_the_pushed_key_to_the_end_of_the_line() {
    let world = World::new();
    let key = world.pushed_key();
    let mut ssh = world.ssh(&key, &["-T"], &[]);
    let mut line = world.plane.line();
    line.send(&StreamFrame::Ready);
    line.send(&StreamFrame::Replay(b"booting\r\n"));
    line.says("login: ");
    ssh.sees("login: ");
    ssh.types("root\r");
    line.hears("root\r");
    line.send(&StreamFrame::Ping(7));
    assert_eq!(line.next(), Came::Pong(7));
    line.ends("The line was closed.");
    let outcome = ssh.ends();
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    let screen = format!(
        "Connected to {ADDRESS} (as somebody). Leave: Ctrl-] .  Break: Ctrl-] b\r\nbooting\r\nlogin: \r\n[The line was closed.]\r\n"
    );
    assert_eq!(outcome.stdout, screen);
    let attach = &world.plane.attaches()[0];
    assert_eq!(attach.offer.address.to_string(), ADDRESS);
    assert_eq!(attach.offer.key.as_str(), key.line);
    assert_eq!(attach.offer.source.to_string(), "127.0.0.1");
    assert!(attach.client.as_str().starts_with("SSH-2.0-OpenSSH_"), "{attach:?}");
    assert_eq!(line.next(), Came::Nothing);
}

#[test]
fn the_escape_key_breaks_helps_and_leaves() {
    let world = World::new();
    let (mut ssh, mut line) = at_the_line(&world, &["-tt"]);
    ssh.types("a\u{1d}bc");
    line.hears("a");
    assert_eq!(line.next(), Came::Break(250));
    line.hears("c");
    ssh.sees("\r\n[BREAK asked for; not every line has one]\r\n");
    ssh.types("\u{1d}?");
    ssh.sees(InBand::HELP);
    ssh.types("\u{1d}\u{1d}");
    line.hears("\u{1d}");
    // Typed one by one, as people do.
    ssh.types("\u{1d}");
    ssh.types(".");
    assert_eq!(line.next(), Came::End(EndCode::Left));
    assert_eq!(line.next(), Came::Nothing);
    assert_left(ssh, "You have left the serial console.");
}

#[test]
fn who_is_gone_leaves_the_line_at_once() {
    let world = World::new();
    let (mut ssh, mut line) = at_the_line(&world, &["-tt"]);
    ssh.types("\r");
    line.hears("\r");
    ssh.types("~.");
    assert_eq!(line.next(), Came::Nothing);
    assert_eq!(ssh.ends().status, Some(255));

    let (ssh, mut line) = at_the_line(&world, &["-tt"]);
    ssh.signal(Signal::KILL);
    assert_eq!(line.next(), Came::Nothing);
}

/// `echo | ssh …` and its kind: what was typed arrives, and then its end does.
#[test]
fn the_end_of_what_is_typed_ends_one_direction() {
    let world = World::new();
    let (mut ssh, mut line) = at_the_line(&world, &["-T"]);
    ssh.types("uptime\r");
    ssh.closes_input();
    line.hears("uptime\r");
    assert_eq!(line.next(), Came::Eof);
    line.says("up 3 days");
    ssh.sees("up 3 days");
    line.ends("Bye.");
    assert_left(ssh, "Bye.");
}

#[test]
fn who_watches_types_nothing_and_can_leave() {
    let world = World::new();
    world.plane.watch();
    let (mut ssh, mut line) = at_the_line(&world, &["-tt"]);
    assert!(ssh.screen().starts_with(&format!("Watching {ADDRESS} (as somebody). Leave: Ctrl-] .\r\n")));
    ssh.types("reboot\r\u{1d}b");
    ssh.sees("\r\n[BREAK not sent: this session only watches]\r\n");
    ssh.types("\u{1d}.");
    assert_eq!(line.next(), Came::End(EndCode::Left), "nothing was typed");
    assert_left(ssh, "You have left the serial console.");
}

/// What a terminal would answer is answered by typing, and is in nobody's past output. Whoever writes sees the line as it is.
#[test]
fn questions_to_a_terminal_pass_only_from_the_line_to_its_writer() {
    const QUESTION: &[u8] = b"<\x05\x1b[6n\x1b[c>";
    let world = World::new();
    let (mut ssh, mut line) = at_the_line(&world, &["-tt"]);
    line.send(&StreamFrame::Replay(QUESTION));
    ssh.sees("login: <>");
    line.send(&StreamFrame::Data(QUESTION));
    ssh.sees("login: <><\u{5}\u{1b}[6n\u{1b}[c>");
    line.ends("");
    assert_left(ssh, "line_closed");

    world.plane.watch();
    let (mut ssh, mut line) = at_the_line(&world, &["-tt"]);
    line.send(&StreamFrame::Data(QUESTION));
    ssh.sees("login: <>");
}

#[test]
fn bytes_that_are_missing_are_counted_where_they_are() {
    let world = World::new();
    let (mut ssh, mut line) = at_the_line(&world, &["-tt"]);
    line.send(&StreamFrame::Lost(123_456));
    line.says("on");
    ssh.sees("login: \r\n[... 123456 bytes not shown: this connection was too slow]\r\non");
}

/// Of what the other side may not send, nothing is shown.
#[test]
fn what_is_no_frame_for_a_gateway_ends_the_session() {
    let world = World::new();
    for bytes in [&b"\x09\x00\x00"[..], b"\x00\xff\xff", b"\x01\x00\x02\x00\xfa", b"\x04\x00\x03\x01\x1b["] {
        let (ssh, mut line) = at_the_line(&world, &["-tt"]);
        line.stream.write_all(bytes).unwrap();
        let outcome = ssh.ends();
        assert_eq!(outcome.status, Some(1), "{outcome:?}");
        assert!(
            outcome.stdout.contains("[The control plane sent something that cannot be shown."),
            "{outcome:?}"
        );
    }
}

#[test]
fn why_nobody_is_attached_is_said_in_words() {
    let world = World::new();
    world.plane.refuse("Somebody else has the line.");
    let key = world.pushed_key();
    for arguments in [&["-T"][..], &["-tt"]] {
        let outcome = world.ssh(&key, arguments, &[]).ends();
        assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(1), ""), "{outcome:?}");
        assert_eq!(outcome.stdout, "\r\n[Somebody else has the line.]\r\n");
    }
}

/// While keys wait to be sent, their end is noticed before what was said at the other one is read: the words count nevertheless.
#[test]
fn why_a_session_was_ended_is_said_also_to_whoever_types() {
    let world = World::new();
    let (mut ssh, mut line) = at_the_line(&world, &["-T"]);
    ssh.types_until_it_waits(16 * 1024 * 1024);
    let words = "An administrator has ended this session.";
    let mut last = StreamFrame::Data(&[b'x'; PAYLOAD]).encode().repeat(64 * 1024 / PAYLOAD);
    StreamFrame::End(End::new(EndCode::Terminated, words)).append_to(&mut last);
    line.stream.write_all(&last).unwrap();
    line.stream.shutdown(Shutdown::Both).unwrap();
    assert_left(ssh, words);
}

#[test]
fn a_session_that_is_cut_short_is_no_success() {
    let world = World::new();
    let words = "The key of this session was revoked.";
    let (ssh, mut line) = at_the_line(&world, &["-T"]);
    line.send(&StreamFrame::End(End::new(EndCode::Revoked, words)));
    let outcome = ssh.ends();
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(1), ""), "{outcome:?}");
    assert!(outcome.stdout.ends_with(&format!("\r\n[{words}]\r\n")), "{outcome:?}");
}

/// ssh looks at the size of the terminal that it reads from, when it is told that this has changed.
#[test]
fn a_window_that_changes_changes_nothing() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{Winsize, tcsetwinsize};
    use std::fs::File;
    let world = World::new();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let key = world.pushed_key();
    let mut ssh = world.ssh_on(&key, &["-tt", "-vv"], terminal.into());
    let mut line = world.plane.line();
    line.says("login: ");
    ssh.sees("login: ");
    tcsetwinsize(&master, Winsize { ws_row: 50, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    ssh.signal(Signal::WINCH);
    ssh.is_told("request window-change");
    let mut master = File::from(master);
    master.write_all(b"x").unwrap();
    line.hears("x");
    line.ends("Bye.");
    assert_eq!(ssh.ends().status, Some(0));
}

#[test]
fn a_session_ends_when_its_time_is_over() {
    let world = World::with(&["--longest-session", "1"]);
    let (ssh, mut line) = at_the_line(&world, &["-tt"]);
    assert_eq!(line.next(), Came::End(EndCode::TimeLimit));
    assert_left(ssh, "This session has lasted 1 s, as long as one may.");
}

#[test]
fn a_session_ends_when_nothing_was_typed_for_too_long_unless_it_watches() {
    let world = World::with(&["--idle", "1", "--longest-session", "4"]);
    let (ssh, mut line) = at_the_line(&world, &["-tt"]);
    assert_eq!(line.next(), Came::End(EndCode::Idle));
    assert_left(ssh, "Nothing was typed for 1 s.");
    world.plane.watch();
    let (_ssh, mut line) = at_the_line(&world, &["-tt"]);
    assert_eq!(line.next(), Came::End(EndCode::TimeLimit));
}

/// A client that is there but stopped answers nothing, and neither does its kernel for it.
#[test]
fn a_client_that_does_not_answer_is_gone() {
    let world = World::with(&["--keep-alive", "1", "--keep-alives-unanswered", "1"]);
    let (ssh, mut line) = at_the_line(&world, &["-tt"]);
    ssh.signal(Signal::STOP);
    // Without these two it would be 120 s.
    assert_eq!(line.next(), Came::Nothing);
    // Who answers stays, however silent.
    let (mut ssh, mut line) = at_the_line(&world, &["-tt"]);
    line.stream.set_read_timeout(Some(std::time::Duration::from_secs(4))).unwrap();
    let mut byte = [0];
    assert!(std::io::Read::read(&mut line.stream, &mut byte).is_err(), "it was silent, and there");
    ssh.types("x");
    line.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    line.hears("x");
}

#[test]
fn a_gateway_that_is_stopped_says_so() {
    let mut world = World::new();
    let (ssh, mut line) = at_the_line(&world, &["-tt"]);
    let status = world.stop();
    assert!(status.success(), "{status:?}");
    assert_eq!(line.next(), Came::End(EndCode::ShuttingDown));
    let outcome = ssh.ends();
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    assert!(outcome.stdout.contains("[The gateway is being stopped."), "{outcome:?}");
}

#[test]
fn without_a_control_plane_sessions_end_and_nobody_comes_in_until_it_is_back() {
    let mut world = World::new();
    let (ssh, _line) = at_the_line(&world, &["-tt"]);
    world.plane.die();
    let outcome = ssh.ends();
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    assert!(outcome.stdout.contains("[The connection to the control plane was lost."), "{outcome:?}");
    let key = world.pushed_key();
    let outcome = world.ssh(&key, &["-T"], &[]).ends();
    assert_eq!(outcome.status, Some(255), "{outcome:?}");
    assert!(outcome.stderr.contains("Permission denied (publickey)"), "{outcome:?}");
    assert!(world.is_running());
    world.plane.begin();
    world.plane.gateways.recv_timeout(PATIENCE).unwrap();
    at_the_line(&world, &["-tt"]);
}

/// A client that closes the channel and keeps the connection has left.
#[test]
fn who_closes_the_channel_has_left() {
    let world = World::with(&["--keep-alive", "1"]);
    let key = world.pushed_key();
    let control = format!("ControlPath={}", world.file("control").display());
    let arguments = ["-T", "-o", "ControlMaster=no", "-o", &control];
    let _master = world.ssh(&key, &["-N", "-T", "-o", "ControlMaster=yes", "-o", &control], &[]);
    world.file_appears("control");
    let ssh = world.ssh(&key, &arguments, &[]);
    let mut line = world.plane.line();
    ssh.signal(Signal::TERM);
    // The master says both for it, at the latest when it is asked whether it is there: OpenSSH 9.2's may sleep until then.
    assert_eq!(line.next(), Came::Eof);
    assert_eq!(line.next(), Came::End(EndCode::Left));
}
