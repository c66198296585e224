//! Serial lines, each kind of them, from the machine's side of a stream: real terminals, sockets and programs.

use crate::control_plane::{ControlPlane, INSTANCE, PATIENCE};
use crate::machine::Machine;
use crate::stream_end::{Console, Owned, SHELL, StreamEnd, guest, line};
use instance_connect_core::link::{Capabilities, LineMode, OwnedLine, StreamRefusal};
use instance_connect_core::stream::{BREAK, End, EndCode, StreamFrame};
use rustix::fs::{FlockOperation, flock};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{ControlModes, LocalModes, tcgetattr};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::timeout;

#[tokio::test]
async fn a_person_speaks_with_a_program_on_a_terminal() {
    let mut console = Console::start(SHELL).await;
    assert_eq!(console.reported, [line(0)]);
    let mut stream = console.attach(line(0), LineMode::Write, 1000).await;
    stream.send(StreamFrame::Data(b"ls\r")).await;
    let (said, lost) = stream.read_until("heard ls\r\n").await;
    assert_eq!((said.as_str(), lost), ("booted\r\nls\r\nheard ls\r\n", 0));
}

#[tokio::test]
async fn a_program_without_a_terminal_has_its_words_and_nothing_of_the_agents() {
    let words = r#"["sh", "-c", "echo \"$@\" >&2; env; tty; read line; echo $line", "x", "a b;c", "$HOME"]"#;
    let mut console = Console::start(&format!("[[line]]\ncommand = {words}")).await;
    let mut stream = console.attach(line(0), LineMode::Write, 10_000).await;
    let (said, _) = stream.read_until("not a tty\n").await;
    // No shell has read the words, and what goes to standard error is on the line, too.
    assert!(said.starts_with("a b;c $HOME\n"), "{said}");
    let mut names: Vec<_> = said.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LANG", "PATH"], "{said}");
    stream.send(StreamFrame::Data(b"typed\n")).await;
    stream.read_until("typed\n").await;
}

#[tokio::test]
async fn a_program_that_ends_is_started_again_and_its_session_goes_on() {
    let command = r#"command = ["sh", "-c", "echo login:; read line; echo bye $line"]"#;
    let mut console = Console::start(&format!("[[line]]\n{command}\nterminal = true")).await;
    let mut stream = console.attach(line(0), LineMode::Write, 1000).await;
    for name in ["alice", "bob"] {
        stream.read_until("login:\r\n").await;
        stream.send(StreamFrame::Data(format!("{name}\r").as_bytes())).await;
        stream.read_until(&format!("bye {name}\r\n")).await;
    }
}

fn is_running(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // What nobody has waited for yet has ended all the same.
    !status.is_empty() && !status.contains(") Z ")
}

async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waiting).await.expect(what);
}

/// With what it has started. One that listens to no signal that can be ignored, and one that does and has started one that does not.
#[tokio::test]
async fn a_program_ends_with_its_line_its_agent_and_an_agent_that_is_killed() {
    const DEAF: &str = "trap '' HUP TERM; sleep 1000 & echo pids $! $$ end; wait; wait";
    const LEAVES_ONE: &str = "(trap '' HUP TERM; exec sleep 1000) & sleep 0; echo pids $! $$ end; wait";
    let lines = |programs: &[&str]| {
        let line = |(number, program): (u8, &&str)| {
            let instance = line(number).instance;
            format!("[[line]]\ninstance = \"{instance}\"\ncommand = [\"sh\", \"-c\", {program:?}]\n")
        };
        (0..).zip(programs).map(line).collect::<String>()
    };
    let short = Duration::from_millis(50);
    let all = lines(&[LEAVES_ONE, DEAF, LEAVES_ONE, DEAF]);
    let mut console = Console::start_with(&all, |machine| machine.lines.parting = short).await;
    let pids = async |stream: &mut StreamEnd| {
        let (said, _) = stream.read_until(" end").await;
        let pids: Vec<_> = said.split(' ').skip(1).take(2).map(str::to_owned).collect();
        assert!(pids.len() == 2 && pids.iter().all(|pid| is_running(pid)), "{said}");
        pids
    };
    let gone = |pids: &[Vec<String>]| !pids.iter().flatten().any(|pid| is_running(pid));
    let mut removed = Vec::new();
    for port in [2, 3] {
        let mut stream = console.attach(line(port), LineMode::Watch, 1000).await;
        removed.push(pids(&mut stream).await);
    }
    console.machine.write_lines(&lines(&[LEAVES_ONE, DEAF]));
    wait_until("the programs of lines that were removed end", || gone(&removed)).await;
    assert_eq!(console.next_report().await, [line(0), line(1)]);

    for is_killed in [false, true] {
        let mut left = Vec::new();
        for port in [0, 1] {
            let mut stream = console.attach(line(port), LineMode::Watch, 1000).await;
            left.push(pids(&mut stream).await);
        }
        if is_killed {
            console.machine.kill_agent().await;
        } else {
            let running = console.machine.tell_agent_to_stop();
            timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
            // They were told to before the agent ended; the system takes its time.
            wait_until("the programs of an agent that stops end", || gone(&left)).await;
            console.machine.start_agent();
            console.relink().await;
        }
        wait_until("the programs end", || gone(&left)).await;
    }
}

/// The agent says so on each stream.
#[tokio::test]
async fn an_agent_that_stops_and_a_line_that_is_removed_end_sessions_with_a_word() {
    let mut console =
        Console::start(&format!("{SHELL}[[line]]\ninstance = \"{}\"\ncommand = [\"cat\"]", guest(1))).await;
    let (kept, removed) = (
        console.attach(line(0), LineMode::Write, 0).await,
        console.attach(line(1), LineMode::Write, 0).await,
    );
    console.machine.write_lines(SHELL);
    assert_eq!(removed.end().await.unwrap().code, EndCode::LineClosed);
    let running = console.machine.tell_agent_to_stop();
    assert_eq!(kept.end().await.unwrap().code, EndCode::ShuttingDown);
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_virtual_machines_socket_is_a_line_that_may_come_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.sock");
    let mut console = Console::start(&format!("[[line]]\nunix = {path:?}")).await;
    assert_eq!(console.refusal(line(0), LineMode::Write).await, StreamRefusal::LineFailed);
    let machine = UnixListener::bind(&path).unwrap();
    let (mut serial, _) = machine.accept().await.unwrap();
    serial.write_all(b"first boot\n").await.unwrap();
    let mut stream = console.attach(line(0), LineMode::Write, 1000).await;
    stream.read_until("first boot\n").await;
    stream.send(StreamFrame::Data(b"reboot\r")).await;
    let mut typed = [0; 7];
    serial.read_exact(&mut typed).await.unwrap();
    assert_eq!(&typed, b"reboot\r");
    // It goes, and what is typed meanwhile is for nobody.
    drop((serial, machine));
    fs::remove_file(&path).unwrap();
    while console.try_attach(line(0), LineMode::Watch, 0).await.is_ok() {}
    stream.send(StreamFrame::Data(b"for nobody\r")).await;
    // It is read, once its answer comes.
    stream.send(StreamFrame::Ping(1)).await;
    while stream.next().await != Some(Owned::Pong(1)) {}
    let machine = UnixListener::bind(&path).unwrap();
    let (mut serial, _) = machine.accept().await.unwrap();
    serial.write_all(b"second boot\n").await.unwrap();
    stream.read_until("second boot\n").await;
    stream.send(StreamFrame::Data(b"ls\r")).await;
    let mut typed = [0; 3];
    serial.read_exact(&mut typed).await.unwrap();
    assert_eq!(&typed, b"ls\r");
}

#[tokio::test]
async fn a_session_does_not_outlast_its_line_for_long() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.sock");
    let machine = UnixListener::bind(&path).unwrap();
    let set = |machine: &mut Machine| machine.lines.line_gone = Duration::from_millis(50);
    let mut console = Console::start_with(&format!("[[line]]\nunix = {path:?}"), set).await;
    let (serial, _) = machine.accept().await.unwrap();
    let stream = console.attach(line(0), LineMode::Write, 1000).await;
    drop((serial, machine));
    let end = stream.end().await.unwrap();
    assert_eq!(end, End::new(EndCode::LineClosed, "The line was closed."));
    assert_eq!(console.refusal(line(0), LineMode::Write).await, StreamRefusal::LineFailed);
}

#[tokio::test]
async fn a_port_of_a_terminal_server_is_a_line() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let mut console = Console::start(&format!("[[line]]\ntcp = \"{address}\"")).await;
    let (mut serial, _) = server.accept().await.unwrap();
    let mut stream = console.attach(line(0), LineMode::Write, 1000).await;
    // Every byte there is, both ways.
    let all: Vec<u8> = (0..=255).collect();
    stream.send(StreamFrame::Data(&all)).await;
    let mut typed = [0; 256];
    serial.read_exact(&mut typed).await.unwrap();
    assert_eq!(typed.as_slice(), all);
    serial.write_all(b"login: ").await.unwrap();
    stream.read_until("login: ").await;
}

/// A terminal's two ends, as programs make them that emulate a port: the test's end, and the other's path.
fn terminal() -> (File, String) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let path = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    (File::from(ours), path)
}

/// Which is as near to a serial port as a test gets: no BREAK can be seen at the other end of a pseudo terminal, and parity and
/// carrier mean nothing on it.
#[tokio::test]
async fn a_port_is_set_as_root_says_and_read_by_nobody_else() {
    for kind in ["tty", "pty"] {
        let (mut ours, path) = terminal();
        let speed = if kind == "tty" { "speed = 9600\nparity = \"even\"\nstop_bits = 2" } else { "" };
        let mut console = Console::start(&format!("[[line]]\n{kind} = {path:?}\n{speed}")).await;
        let mut stream = console.attach(line(0), LineMode::Write, 1000).await;
        ours.write_all(b"login: \x03\x11\x13\r\n").unwrap();
        stream.read_until("login: \x03\x11\x13\r\n").await;
        stream.send(StreamFrame::Data(b"\x03\r")).await;
        // A port sends it; a pseudo terminal has none to send, and the session goes on.
        stream.send(StreamFrame::Break(1)).await;
        stream.send(StreamFrame::Data(b"root\r")).await;
        let (mut typed, mut reading) = ([0; 7], ours.try_clone().unwrap());
        let typed = tokio::task::spawn_blocking(move || {
            reading.read_exact(&mut typed).unwrap();
            typed
        });
        assert_eq!(&timeout(PATIENCE, typed).await.unwrap().unwrap(), b"\x03\rroot\r");

        let modes = tcgetattr(&ours).unwrap();
        assert!(!modes.local_modes.intersects(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG));
        let two_stop_bits = modes.control_modes.contains(ControlModes::CSTOPB);
        assert_eq!((kind == "tty", kind == "tty"), (two_stop_bits, modes.output_speed() == 9600));
        let another = File::open(Path::new(&path));
        assert!(
            another.is_err() || flock(another.unwrap(), FlockOperation::NonBlockingLockExclusive).is_err()
        );
    }
}

#[tokio::test]
async fn what_is_no_terminal_or_locked_is_not_opened_and_the_status_says_why() {
    let (ours, path) = terminal();
    let slave = File::open(&path).unwrap();
    flock(&slave, FlockOperation::LockExclusive).unwrap();
    let guest = guest(1);
    let lines = format!("[[line]]\ntty = \"/dev/null\"\n[[line]]\ninstance = \"{guest}\"\ntty = {path:?}");
    let mut console = Console::start(&lines).await;
    assert_eq!(console.refusal(line(0), LineMode::Write).await, StreamRefusal::LineFailed);
    let status = || fs::read_to_string(console.machine.path("run/status.json")).unwrap_or_default();
    wait_until("the status", || {
        status().contains("/dev/null: it is no terminal")
            && status().contains("another program has locked it")
    })
    .await;
    drop((slave, ours));
}

#[tokio::test]
async fn what_root_writes_counts_at_once() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    // Without lines there is no word of streams.
    let mut link = control_plane.accept_raw().await;
    let hello = link.welcome_with(Capabilities::RENEWAL.with(Capabilities::STREAMS), &*machine.clock).await;
    assert!(!hello.capabilities.contains(Capabilities::STREAMS));
    machine.write_lines(SHELL);
    link.goodbye().await;
    let mut console = Console::of(control_plane, machine).await;
    assert_eq!(console.reported, [line(0)]);
    let mut kept = console.attach(line(0), LineMode::Write, 1000).await;
    kept.read_until("booted").await;

    let other = OwnedLine { instance: "i-00000000000000a0".parse().unwrap(), port: 0 };
    let more = format!("{SHELL}[[line]]\ninstance = \"{}\"\nport = 0\ntty = \"/dev/null\"\n", other.instance);
    console.machine.write_lines(&more);
    assert_eq!(console.next_report().await, [other.clone(), line(0)]);
    assert_eq!(console.refusal(other, LineMode::Write).await, StreamRefusal::LineFailed);
    // What cannot be understood changes nothing.
    console.machine.write_lines("[[lines]]");
    assert_eq!(console.refusal(line(0), LineMode::Write).await, StreamRefusal::Occupied);
    // Its own id is the same as none.
    let named =
        format!("{}instance = \"{INSTANCE}\"\n", SHELL.replace("[[line]]\n", "[[line]]\nhistory = 5000\n"));
    console.machine.write_lines(&named);
    assert_eq!(console.next_report().await, [line(0)]);
    // It was changed, so it is another line.
    assert_eq!(kept.end().await.unwrap().code, EndCode::LineClosed);
    fs::remove_file(console.machine.path("etc/lines.toml")).unwrap();
    assert_eq!(console.next_report().await, []);
    assert_eq!(console.refusal(line(0), LineMode::Write).await, StreamRefusal::NoSuchLine);
}

/// Where no BREAK can be sent nothing breaks.
#[tokio::test]
async fn a_break_that_a_line_cannot_carry_leaves_it_as_it_is() {
    let mut console = Console::start(SHELL).await;
    let mut stream = console.attach(line(0), LineMode::Write, 1000).await;
    stream.send(StreamFrame::Break(u16::try_from(BREAK.as_millis()).unwrap())).await;
    stream.send(StreamFrame::Data(b"still\r")).await;
    stream.read_until("heard still\r\n").await;
}

/// What the test's telnet server reads until it has read this.
async fn read_until(serial: &mut (impl AsyncRead + Unpin), expected: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while !all.windows(expected.len()).any(|window| window == expected) {
        let mut buffer = [0; 512];
        let length = timeout(PATIENCE, serial.read(&mut buffer)).await.expect("more bytes").unwrap();
        assert!(length > 0, "{all:02x?}");
        all.extend_from_slice(buffer.get(..length).unwrap());
    }
    all
}

/// As QEMU has it with `telnet=on`: BREAK is a command there.
#[tokio::test]
async fn telnet_on_a_virtual_machines_socket_carries_a_break() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.sock");
    let machine = UnixListener::bind(&path).unwrap();
    let mut console = Console::start(&format!("[[line]]\nunix = {path:?}\nprotocol = \"telnet\"")).await;
    let (mut serial, _) = machine.accept().await.unwrap();
    // It does both what it is asked to and what it is offered.
    serial.write_all(b"\xff\xfb\x00\xff\xfd\x00\xff\xfb\x03\xff\xfd\x03login\xff\xff: ").await.unwrap();
    let mut stream = console.attach(line(0), LineMode::Write, 1000).await;
    assert_eq!(stream.read_until(": ").await.0, "login\u{fffd}: ");
    stream.send(StreamFrame::Data(b"a\xffb\r")).await;
    stream.send(StreamFrame::Break(250)).await;
    stream.send(StreamFrame::Data(b"h")).await;
    let typed = read_until(&mut serial, b"h").await;
    assert!(typed.ends_with(b"a\xff\xffb\r\xff\xf3h"), "{typed:02x?}");
}

/// RFC 2217: the port is set from here, and held in BREAK for as long as is asked.
#[tokio::test]
async fn a_port_behind_telnet_is_set_and_broken_off() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let config = format!("[[line]]\ntcp = \"{address}\"\nprotocol = \"telnet\"\nspeed = 9600");
    let mut console = Console::start(&config).await;
    let (mut serial, _) = server.accept().await.unwrap();
    read_until(&mut serial, b"\xff\xfb\x2c").await;
    serial.write_all(b"\xff\xfd\x2c").await.unwrap();
    // SET-BAUDRATE.
    read_until(&mut serial, b"\xff\xfa\x2c\x01\x00\x00\x25\x80\xff\xf0").await;
    let mut stream = console.attach(line(0), LineMode::Write, 0).await;
    stream.send(StreamFrame::Break(30)).await;
    let (on, off) = (b"\xff\xfa\x2c\x05\x05\xff\xf0", b"\xff\xfa\x2c\x05\x06\xff\xf0");
    let seen = read_until(&mut serial, on).await;
    assert!(!seen.ends_with(off), "{seen:02x?}");
    read_until(&mut serial, off).await;
    // Nothing is typed while the other side does not want it: FLOWCONTROL-SUSPEND, and then RESUME.
    serial.write_all(b"\xff\xfa\x2c\x6c\xff\xf0suspended").await.unwrap();
    stream.read_until("suspended").await;
    stream.send(StreamFrame::Data(b"x")).await;
    let mut typed = [0; 1];
    assert!(timeout(Duration::from_millis(100), serial.read_exact(&mut typed)).await.is_err());
    serial.write_all(b"\xff\xfa\x2c\x6d\xff\xf0").await.unwrap();
    assert_eq!((timeout(PATIENCE, serial.read_exact(&mut typed)).await.unwrap().unwrap(), typed), (1, *b"x"));
}
