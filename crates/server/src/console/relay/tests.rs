use super::*;
use crate::console::Orders;
use instance_connect_core::stream::EndText;
use std::future::pending;
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;

/// Both ends of what is passed on, and the orders.
struct Setting {
    person: Peer,
    line: Peer,
    orders: Orders,
    relay: JoinHandle<(End, Passed)>,
}

/// Whoever is at one end.
struct Peer {
    stream: DuplexStream,
    frames: FrameReader,
}

impl Peer {
    async fn say(&mut self, frame: StreamFrame<'_>) {
        self.stream.write_all(&frame.encode()).await.unwrap();
    }

    /// The next frame, as its bytes; `None` at the end.
    async fn hear(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(frame) = self.frames.next().unwrap() {
                return Some(frame.encode());
            }
            let mut piece = [0; 4096];
            match tokio::io::AsyncReadExt::read(&mut self.stream, &mut piece).await.unwrap() {
                0 => return None,
                count => self.frames.push(&piece[..count]),
            }
        }
    }

    async fn expect(&mut self, frame: StreamFrame<'_>) {
        assert_eq!(self.hear().await, Some(frame.encode()), "{frame:?}");
    }
}

impl Setting {
    fn new(mode: Mode) -> Self {
        Self::with(mode, b"", pending())
    }

    fn with(mode: Mode, said_first: &[u8], withdrawn: impl Future<Output = End> + Send + 'static) -> Self {
        let [(person, to_person), (line, to_line)] = [duplex(1024), duplex(1024)];
        let (orders, ordered) = Orders::new();
        let said_first = said_first.to_vec();
        let relay =
            tokio::spawn(async move { run(to_person, &said_first, to_line, mode, ordered, withdrawn).await });
        let peer = |stream| Peer { stream, frames: FrameReader::default() };
        Self { person: peer(person), line: peer(line), orders, relay }
    }

    async fn ended(self) -> (EndCode, Passed) {
        drop((self.person, self.line));
        let (end, passed) = self.relay.await.unwrap();
        (end.code, passed)
    }
}

fn end(code: EndCode, text: &str) -> StreamFrame<'static> {
    StreamFrame::End(End { code, text: EndText::lossy(text) })
}

#[tokio::test]
async fn both_sides_hear_each_other_and_bytes_are_counted() {
    let mut setting = Setting::with(Mode::Write, &StreamFrame::Data(b"first").encode(), pending());
    setting.line.expect(StreamFrame::Data(b"first")).await;
    for frame in
        [StreamFrame::Ready, StreamFrame::Replay(b"boot"), StreamFrame::Lost(3), StreamFrame::Data(b"$ ")]
    {
        setting.line.say(frame.clone()).await;
        setting.person.expect(frame).await;
    }
    for frame in [StreamFrame::Data(b"ls\r"), StreamFrame::Break(250), StreamFrame::Eof] {
        setting.person.say(frame.clone()).await;
        setting.line.expect(frame).await;
    }
    // Whether there is somebody here is answered here.
    setting.line.say(StreamFrame::Ping(9)).await;
    setting.line.expect(StreamFrame::Pong(9)).await;
    setting.person.say(end(EndCode::Left, "")).await;
    setting.line.expect(end(EndCode::Left, "")).await;
    assert_eq!(setting.line.hear().await, None);
    assert_eq!(setting.ended().await, (EndCode::Left, Passed { to_line: 8, from_line: 6 }));
}

/// Whoever may only watch cannot write by having taken over the gateway, and neither side speaks for the other.
#[tokio::test]
async fn what_a_side_may_not_say_ends_the_session() {
    for (mode, by_person, frame) in [
        (Mode::Watch, true, StreamFrame::Data(b"rm").encode()),
        (Mode::Watch, true, StreamFrame::Break(250).encode()),
        (Mode::Write, true, StreamFrame::Ready.encode()),
        (Mode::Write, true, StreamFrame::Replay(b"x").encode()),
        (Mode::Write, true, StreamFrame::Lost(1).encode()),
        (Mode::Write, true, vec![0xff, 0, 0]),
        (Mode::Write, false, StreamFrame::Break(250).encode()),
        (Mode::Write, false, vec![0, 0xff, 0xff]),
        // Neither says what only administrators do.
        (Mode::Write, true, end(EndCode::Terminated, "").encode()),
        (Mode::Write, false, end(EndCode::Revoked, "").encode()),
    ] {
        let mut setting = Setting::new(mode);
        let (speaker, other) = match by_person {
            true => (&mut setting.person, &mut setting.line),
            false => (&mut setting.line, &mut setting.person),
        };
        speaker.stream.write_all(&frame).await.unwrap();
        let heard = other.hear().await.unwrap();
        assert_eq!((heard[0], heard[3]), (0x04, EndCode::ProtocolError.code()), "{frame:?}");
        assert_eq!(setting.ended().await, (EndCode::ProtocolError, Passed::default()), "{frame:?}");
    }
}

#[tokio::test]
async fn who_goes_without_a_word_is_missed_by_the_other() {
    let mut setting = Setting::new(Mode::Write);
    drop(std::mem::replace(&mut setting.person.stream, duplex(1).0));
    setting.line.expect(end(EndCode::PersonLost, "The connection has gone.")).await;
    assert_eq!(setting.ended().await.0, EndCode::PersonLost);
    let mut setting = Setting::new(Mode::Write);
    drop(std::mem::replace(&mut setting.line.stream, duplex(1).0));
    setting.person.expect(end(EndCode::AgentLost, "The agent that has the line has gone.")).await;
    assert_eq!(setting.ended().await.0, EndCode::AgentLost);
}

#[tokio::test]
async fn orders_reach_line_and_person() {
    let mut setting = Setting::new(Mode::Write);
    setting.orders.breaks.send(7).await.unwrap();
    setting.line.expect(StreamFrame::Break(7)).await;
    let ended = End::new(EndCode::Terminated, "Enough.");
    setting.orders.end(ended.clone());
    setting.person.expect(StreamFrame::End(ended.clone())).await;
    setting.line.expect(StreamFrame::End(ended)).await;
    assert_eq!(setting.ended().await.0, EndCode::Terminated);
    let revoked = End::new(EndCode::Revoked, "The instance is gone.");
    let mut setting = Setting::with(Mode::Write, b"", std::future::ready(revoked.clone()));
    setting.person.expect(StreamFrame::End(revoked.clone())).await;
    setting.line.expect(StreamFrame::End(revoked)).await;
    assert_eq!(setting.ended().await.0, EndCode::Revoked);
}

/// A person who does not read keeps the agent waiting, and nothing grows here; the other direction goes on.
#[tokio::test(start_paused = true)]
async fn a_person_who_pauses_stops_the_line_and_nothing_else() {
    let mut setting = Setting::new(Mode::Write);
    let flood = StreamFrame::Data(&[7; PAYLOAD]).encode();
    let mut taken = 0_usize;
    let stalled = async {
        loop {
            setting.line.stream.write_all(&flood).await.unwrap();
            taken += flood.len();
        }
    };
    assert!(timeout(Duration::from_secs(120), stalled).await.is_err());
    assert!(taken < WAITING + 3 * flood.len(), "{taken}");
    // Still there, also for the agent, which is asked whether it is.
    setting.person.say(StreamFrame::Data(b"\x03")).await;
    let mut heard = Vec::new();
    while heard.last() != Some(&StreamFrame::Data(b"\x03").encode()) {
        heard.push(setting.line.hear().await.unwrap());
    }
    assert!(heard[0] == StreamFrame::Ping(0).encode(), "{heard:?}");
    let read = setting.person.hear().await.unwrap();
    assert_eq!(read.len(), flood.len());
    assert!(!setting.relay.is_finished());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_says_nothing_for_too_long_is_gone() {
    let mut setting = Setting::new(Mode::Write);
    setting.line.say(StreamFrame::Ready).await;
    setting.person.expect(StreamFrame::Ready).await;
    setting.person.expect(end(EndCode::AgentLost, "The agent that has the line has gone.")).await;
    assert_eq!(setting.ended().await.0, EndCode::AgentLost);
}

/// An agent that asks again and again and takes no answer does not fill our memory with answers.
#[tokio::test]
async fn of_pings_that_wait_only_the_last_is_answered() {
    let mut setting = Setting::new(Mode::Write);
    for number in 1..=100_000 {
        setting.line.say(StreamFrame::Ping(number)).await;
    }
    let mut answers = 0_usize;
    while setting.line.hear().await != Some(StreamFrame::Pong(100_000).encode()) {
        answers += 1;
    }
    assert!(answers < 2 * (WAITING + 1024) / StreamFrame::Pong(0).encode().len(), "{answers}");
}

/// However many BREAKs wait.
#[tokio::test]
async fn an_end_that_was_ordered_before_the_stream_was_there_is_heard() {
    let (orders, ordered) = Orders::new();
    while orders.breaks.try_send(1).is_ok() {}
    orders.end(End::new(EndCode::Revoked, ""));
    let [(_person, to_person), (mut line, to_line)] = [duplex(1024), duplex(1024)];
    let (end, _) =
        run(to_person, &StreamFrame::Data(b"rm").encode(), to_line, Mode::Write, ordered, pending()).await;
    assert_eq!(end.code, EndCode::Revoked);
    drop(orders);
    let mut said = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut line, &mut said).await.unwrap();
    assert!(!said.windows(2).any(|bytes| bytes == b"rm"), "{said:?}");
}
