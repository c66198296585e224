//! Streams to serial lines: who may have one, what is sent when one side is slow, and how they end.

use crate::machine::Machine;
use crate::stream_end::{Console, Owned, SHELL, StreamEnd, guest, line};
use instance_connect_core::link::{
    AgentFrame, Goodbye, GoodbyeCode, LineMode, OwnedLine, ServerFrame, StreamRefusal,
};
use instance_connect_core::stream::{End, EndCode, StreamFrame};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

const MOMENT: Duration = Duration::from_millis(300);

/// Who takes nothing for so long is held up. An agent that only has no turn is taken for that, too: what a test expects has to be so
/// then as well.
const HELD_UP: Duration = Duration::from_secs(1);

/// Types until no more is taken.
async fn paste_until_held_up(writer: &mut StreamEnd) {
    let mut frames = 0;
    while writer.try_send(StreamFrame::Data(&[b'x'; 16_384]), HELD_UP).await {
        frames += 1;
        assert!(frames < 4096, "64 MiB for a line that takes nothing");
    }
}

/// What a line's socket has taken and nobody read.
fn held(serial: &UnixStream) -> usize {
    usize::try_from(rustix::io::ioctl_fionread(serial).unwrap()).unwrap()
}

/// A machine that soon notices that a connection is lost, and does not wait long for what may still come over it.
fn notice_soon(machine: &mut Machine) {
    machine.lines.ping = MOMENT / 3;
    machine.lines.parting = MOMENT / 3;
}

fn left() -> StreamFrame<'static> {
    StreamFrame::End(End::new(EndCode::Left, "the person left"))
}

#[tokio::test]
async fn one_writes_and_others_watch() {
    let mut console = Console::start(SHELL).await;
    let mut writer = console.attach(line(0), LineMode::Write, 1000).await;
    let mut watchers = Vec::new();
    for _ in 0..3 {
        watchers.push(console.attach(line(0), LineMode::Watch, 1000).await);
    }
    assert_eq!(console.refusal(line(0), LineMode::Write).await, StreamRefusal::Occupied);
    writer.send(StreamFrame::Data(b"ls\r")).await;
    for watcher in &mut watchers {
        watcher.read_until("heard ls\r\n").await;
    }
    writer.send(left()).await;
    assert_eq!(writer.end().await, None, "an end is not answered");
    let mut next = console.attach(line(0), LineMode::Write, 0).await;
    next.send(StreamFrame::Data(b"cd\r")).await;
    assert_eq!(next.read_until("heard cd\r\n").await.0, "cd\r\nheard cd\r\n");
}

#[tokio::test]
async fn whoever_is_no_writer_or_breaks_the_protocol_is_sent_away() {
    let mut console = Console::start(SHELL).await;
    let ended = |frames: &[StreamFrame<'_>]| frames.iter().flat_map(StreamFrame::encode).collect::<Vec<_>>();
    for (mode, bytes) in [
        (LineMode::Watch, ended(&[StreamFrame::Data(b"x")])),
        (LineMode::Watch, ended(&[StreamFrame::Break(250)])),
        (LineMode::Write, ended(&[StreamFrame::Eof, StreamFrame::Data(b"x")])),
        (LineMode::Write, ended(&[StreamFrame::Ready])),
        (LineMode::Write, ended(&[StreamFrame::Replay(b"x")])),
        (LineMode::Write, ended(&[StreamFrame::Lost(1)])),
        (LineMode::Write, vec![0x7f, 0, 0]),
        (LineMode::Write, vec![0, 0x40, 1]),
        (LineMode::Write, vec![1, 0, 2, 0, 0]),
    ] {
        let mut stream = console.attach(line(0), mode, 0).await;
        stream.send_bytes(&bytes).await;
        let end = stream.end().await.unwrap();
        assert_eq!(end.code, EndCode::ProtocolError, "{bytes:02x?} {end:?}");
    }
    // Nothing of it reached the line.
    let mut stream = console.attach(line(0), LineMode::Watch, 1000).await;
    assert_eq!(stream.read_until("booted\r\n").await.0, "booted\r\n");
}

#[tokio::test]
async fn lines_of_other_instances_and_ports_are_not_to_be_had() {
    let mut console = Console::start(SHELL).await;
    let other = OwnedLine { instance: "i-00000000000000a0".parse().unwrap(), port: 0 };
    let another = OwnedLine { port: 1, ..line(0) };
    for line in [another, line(1), other] {
        for mode in [LineMode::Write, LineMode::Watch] {
            assert_eq!(console.refusal(line.clone(), mode).await, StreamRefusal::NoSuchLine);
        }
    }
}

#[tokio::test]
async fn what_was_said_before_is_said_again_as_far_as_it_is_wanted() {
    let command = r#"["sh", "-c", "echo one; echo two; echo three; read line; echo $line"]"#;
    let mut console = Console::start(&format!("[[line]]\ncommand = {command}")).await;
    // Nobody was there, and it was heard.
    let mut all = console.attach(line(0), LineMode::Watch, u32::MAX).await;
    all.read_until("one\ntwo\nthree\n").await;
    for (wanted, expected) in
        [(10, b"two\nthree\n".to_vec()), (9, b"three\n".to_vec()), (6, b"three\n".to_vec())]
    {
        let mut stream = console.attach(line(0), LineMode::Watch, wanted).await;
        assert_eq!(stream.next().await, Some(Owned::Replay(expected)));
    }
    let mut stream = console.attach(line(0), LineMode::Write, 0).await;
    stream.send(StreamFrame::Data(b"four\n")).await;
    assert_eq!(stream.next().await, Some(Owned::Data(b"four\n".to_vec())));
}

/// Memory is bounded by the line's history, and whoever keeps up gets what others do not take.
#[tokio::test]
async fn whoever_does_not_read_loses_what_they_are_told_and_holds_nobody_up() {
    const FLOOD: usize = 4_000_000;
    let command = format!(
        r#"["sh", "-c", "read go; yes 0123456 | head -c {FLOOD}; echo over; read word; echo $word"]"#
    );
    let mut console = Console::start(&format!("[[line]]\ncommand = {command}\nhistory = 65536")).await;
    let mut reader = console.attach(line(0), LineMode::Watch, 0).await;
    let mut stopped = console.attach(line(0), LineMode::Write, 0).await;
    stopped.send(StreamFrame::Data(b"go\n")).await;
    let total = FLOOD + "over\n".len();
    let (said, lost) = reader.read_until("over\n").await;
    assert_eq!(said.len() + usize::try_from(lost).unwrap(), total);
    // The other direction goes on meanwhile.
    stopped.send(StreamFrame::Data(b"typed\n")).await;
    reader.read_until("typed\n").await;
    let (said, lost) = stopped.read_until("over\ntyped\n").await;
    assert!(lost > 0, "{} bytes were kept for somebody who does not read", said.len());
    assert_eq!(said.len() + usize::try_from(lost).unwrap(), total + "typed\n".len());
}

#[tokio::test]
async fn a_line_that_takes_nothing_holds_up_its_writer_and_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hung.sock");
    let machine = UnixListener::bind(&path).unwrap();
    let lines = format!("[[line]]\ninstance = \"{}\"\nunix = {path:?}\n{SHELL}", guest(1));
    let mut console = Console::start_with(&lines, notice_soon).await;
    let (mut serial, _) = machine.accept().await.unwrap();
    let mut writer = console.attach(line(1), LineMode::Write, 0).await;
    paste_until_held_up(&mut writer).await;
    // What the line says still comes, and other lines know nothing of it.
    serial.write_all(b"I am busy\n").await.unwrap();
    writer.read_until("I am busy\n").await;
    let mut other = console.attach(line(0), LineMode::Write, 0).await;
    other.send(StreamFrame::Data(b"ls\r")).await;
    other.read_until("heard ls\r\n").await;
    // Where the writer's connection is lost, the place is free, although nobody reads what came over it.
    drop(writer);
    let mut next = loop {
        match console.try_attach(line(1), LineMode::Write, 0).await {
            Ok(stream) => break stream,
            Err(refusal) => assert_eq!(refusal, StreamRefusal::Occupied),
        }
    };
    // And what they had typed is not for the line any more, but for what it holds already.
    let held = held(&serial);
    next.send(StreamFrame::Data(b"next\n")).await;
    let (mut taken, mut buffer) = (Vec::new(), vec![0; 65_536]);
    while !taken.ends_with(b"next\n") {
        let length = serial.read(&mut buffer).await.unwrap();
        assert!(length > 0);
        taken.extend_from_slice(&buffer[..length]);
    }
    assert!(taken.len() <= held + b"next\n".len(), "{} of {held}", taken.len());
}

/// Also where nobody comes after them.
#[tokio::test]
async fn what_was_typed_in_a_session_that_is_lost_does_not_reach_the_line_later() {
    for protocol in ["raw", "telnet"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hung.sock");
        let machine = UnixListener::bind(&path).unwrap();
        let set = |machine: &mut Machine| {
            notice_soon(machine);
            machine.lines.streams = 1;
        };
        let line_of = format!("[[line]]\nunix = {path:?}\nprotocol = \"{protocol}\"");
        let mut console = Console::start_with(&line_of, set).await;
        let (mut serial, _) = machine.accept().await.unwrap();
        let mut writer = console.attach(line(0), LineMode::Write, 0).await;
        paste_until_held_up(&mut writer).await;
        drop(writer);
        while let Err(refusal) = console.try_attach(line(0), LineMode::Watch, 0).await {
            assert_eq!(refusal, StreamRefusal::Overloaded);
        }
        // All that the line holds already, and behind telnet what it was given last; it takes no more.
        let most = held(&serial) + if protocol == "telnet" { 64 } else { 0 };
        let (mut taken, mut buffer) = (0, vec![0; 65_536]);
        while let Ok(length) = timeout(MOMENT, serial.read(&mut buffer)).await {
            taken += length.unwrap();
        }
        assert!(taken <= most, "{protocol}: {taken} of {most}");
    }
}

#[tokio::test]
async fn streams_outlast_links() {
    let mut console = Console::start(SHELL).await;
    let mut stream = console.attach(line(0), LineMode::Write, 0).await;
    console.link.send(ServerFrame::Goodbye(Goodbye::new(GoodbyeCode::ShuttingDown, "for a test"))).await;
    console.relink().await;
    assert_eq!(console.reported, [line(0)]);
    stream.send(StreamFrame::Data(b"ls\r")).await;
    stream.read_until("heard ls\r\n").await;
    assert_eq!(console.refusal(line(0), LineMode::Write).await, StreamRefusal::Occupied);
}

#[tokio::test]
async fn a_stream_that_cannot_be_opened_is_said_so_and_leaves_the_line_free() {
    let mut console = Console::start(SHELL).await;
    drop(console.attach(line(0), LineMode::Watch, 0).await);
    console.control_plane.refuse_streams(true);
    assert_eq!(console.refusal(line(0), LineMode::Write).await, StreamRefusal::Unreachable);
    console.control_plane.refuse_streams(false);
    console.attach(line(0), LineMode::Write, 0).await;
}

/// Numbers of requests are those of one link.
#[tokio::test]
async fn a_refusal_is_not_for_another_link() {
    let mut console = Console::start(SHELL).await;
    drop(console.attach(line(0), LineMode::Watch, 0).await);
    console.control_plane.refuse_streams(true);
    console.ask(line(0), LineMode::Watch, 0).await;
    console.link.send(ServerFrame::Goodbye(Goodbye::new(GoodbyeCode::ShuttingDown, "for a test"))).await;
    console.relink().await;
    assert_eq!(console.refusal(line(0), LineMode::Watch).await, StreamRefusal::Unreachable);
}

#[tokio::test]
async fn pings_are_answered_sent_and_waited_for() {
    let set = |machine: &mut Machine| {
        machine.lines.ping = Duration::from_millis(20);
        machine.lines.silence = Duration::from_secs(1);
    };
    let mut console = Console::start_with(SHELL, set).await;
    let mut stream = console.attach(line(0), LineMode::Write, 0).await;
    let mut answered = Vec::new();
    for number in [7, u64::MAX] {
        stream.send(StreamFrame::Ping(number)).await;
        loop {
            match stream.next().await {
                Some(Owned::Pong(number)) => break answered.push(number),
                Some(Owned::Ping(_) | Owned::Data(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(answered, [7, u64::MAX]);
    // Nothing more is said here, and that is noticed. Until then the agent has said that it is there.
    let mut pings = 0;
    let end = loop {
        match stream.next().await {
            Some(Owned::Ping(_)) => pings += 1,
            Some(Owned::End(end)) => break end,
            Some(Owned::Data(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(end.code == EndCode::PersonLost && pings > 2, "{end:?} {pings}");
    console.attach(line(0), LineMode::Write, 0).await;
}

/// As at the end of a script that was piped in.
#[tokio::test]
async fn who_says_no_more_still_hears() {
    let mut console = Console::start(SHELL).await;
    let mut stream = console.attach(line(0), LineMode::Write, 0).await;
    stream.send(StreamFrame::Data(b"last\r")).await;
    stream.send(StreamFrame::Eof).await;
    stream.read_until("heard last\r\n").await;
}

#[tokio::test]
async fn there_are_no_more_streams_than_allowed() {
    let mut console = Console::start_with(SHELL, |machine| machine.lines.streams = 3).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(console.attach(line(0), LineMode::Watch, 0).await);
    }
    assert_eq!(console.refusal(line(0), LineMode::Watch).await, StreamRefusal::Overloaded);
    let mut last = streams.pop().unwrap();
    last.send(left()).await;
    assert_eq!(last.end().await, None);
    streams.push(console.attach(line(0), LineMode::Watch, 0).await);
    assert_eq!(streams.len(), 3);
    // The link is none the worse for it.
    console.machine.clock.advance(Duration::from_secs(8));
    assert!(matches!(console.link.receive().await, AgentFrame::Ping(_)));
}
