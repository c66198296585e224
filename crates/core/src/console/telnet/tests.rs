use super::*;
use proptest::prelude::*;

/// What a connection has taken and given.
#[derive(Debug, Default, PartialEq)]
struct Taken {
    line: Vec<u8>,
    wire: Vec<u8>,
    events: Vec<TelnetEvent>,
}

fn settings() -> LineSettings {
    "9600 7e2 software".parse().unwrap()
}

fn plain() -> Telnet {
    Telnet::open(None, &mut Vec::new())
}

fn settable() -> Telnet {
    Telnet::open(Some(settings()), &mut Vec::new())
}

fn receive(telnet: &mut Telnet, pieces: &[&[u8]]) -> Taken {
    let mut taken = Taken::default();
    for piece in pieces {
        taken.events.extend(telnet.receive(piece, &mut taken.line, &mut taken.wire).unwrap());
    }
    taken
}

fn sent(telnet: &Telnet, line: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    telnet.send(line, &mut wire);
    wire
}

/// An answer by RFC 2217, by its command and value.
fn says(command: u8, value: &[u8]) -> Vec<u8> {
    [&[IAC, SB, COM_PORT, command], value, &[IAC, SE]].concat()
}

#[test]
fn what_is_asked_for_at_the_beginning() {
    let mut wire = Vec::new();
    Telnet::open(None, &mut wire);
    assert_eq!(wire, [255, 251, 0, 255, 253, 0, 255, 251, 3, 255, 253, 3]);
    let mut wire = Vec::new();
    Telnet::open(Some(settings()), &mut wire);
    assert_eq!(wire[12..], [255, 251, 44]);
}

#[test]
fn options_are_agreed_on_or_refused_and_nothing_is_answered_twice() {
    // What comes; what is answered.
    let rows: &[(&str, &[u8], &[u8])] = &[
        ("what was asked for", &[IAC, DO, BINARY, IAC, WILL, BINARY, IAC, DO, 3, IAC, WILL, 3], &[]),
        ("again", &[IAC, DO, BINARY, IAC, DO, BINARY], &[]),
        ("what was asked for is refused", &[IAC, DONT, BINARY, IAC, WONT, BINARY, IAC, DONT, BINARY], &[]),
        ("refused, and asked for", &[IAC, DONT, BINARY, IAC, DO, BINARY], &[IAC, WILL, BINARY]),
        ("it echoes", &[IAC, WILL, ECHO, IAC, WILL, ECHO], &[IAC, DO, ECHO]),
        ("it does not any more", &[IAC, WILL, ECHO, IAC, WONT, ECHO], &[IAC, DO, ECHO, IAC, DONT, ECHO]),
        ("we are to", &[IAC, DO, ECHO], &[IAC, WONT, ECHO]),
        ("it ends what is so", &[IAC, DO, 0, IAC, DONT, 0, IAC, DONT, 0], &[IAC, WONT, 0]),
        ("it ends what it does", &[IAC, WILL, 3, IAC, WONT, 3], &[IAC, DONT, 3]),
        (
            "others: terminal type, window size",
            &[IAC, DO, 24, IAC, WILL, 31],
            &[IAC, WONT, 24, IAC, DONT, 31],
        ),
        ("others are not so", &[IAC, DONT, 24, IAC, WONT, 31], &[]),
        (
            "a line that is not to be set",
            &[IAC, DO, COM_PORT, IAC, WILL, COM_PORT],
            &[IAC, WONT, 44, IAC, DONT, 44],
        ),
        ("an option 255", &[IAC, DO, IAC], &[IAC, WONT, IAC]),
    ];
    for (what, comes, answer) in rows {
        let taken = receive(&mut plain(), &[comes]);
        assert_eq!(taken, Taken { wire: answer.to_vec(), ..Taken::default() }, "{what}");
    }
}

#[test]
fn bytes_of_the_line() {
    let binary: &[u8] = &[IAC, WILL, BINARY];
    for (before, comes, line) in [
        (&b""[..], &b"login: "[..], &b"login: "[..]),
        (b"", b"a\r\0b\r\nc\0\r\r\0", b"a\rb\r\nc\0\r\r"),
        (binary, b"a\r\0b\r\nc", b"a\r\0b\r\nc"),
        (b"", b"a\xff\xffb", b"a\xffb"),
        (binary, b"\xff\xff\xff\xff", b"\xff\xff"),
        // Commands that mean nothing to a line: NOP, data mark, BREAK, are you there, go ahead, one that is none.
        (b"", b"a\xff\xf1\xff\xf2\xff\xf3\xff\xf6\xff\xf9\xff\x01b", b"ab"),
        (b"", b"\r\xff\xf1\0x", b"\rx"),
        // Subnegotiations of whatever kind; one without its end.
        (b"", b"a\xff\xfa\x18\x01\xff\xf0b\xff\xfa\xff\xff\xff\xf0c", b"abc"),
        (b"", b"a\xff\xfa\x18x\xff\xf1b", b"ab"),
        (b"", b"a\xff\xfa\x18x\xff\xfby\xff\xf0b", b"ab"),
    ] {
        let mut telnet = plain();
        receive(&mut telnet, &[before]);
        let taken = receive(&mut telnet, &[comes]);
        assert_eq!(taken.line.escape_ascii().to_string(), line.escape_ascii().to_string());
    }
}

#[test]
fn bytes_for_the_line() {
    let mut telnet = plain();
    assert_eq!(sent(&telnet, b"ls\r\n\r\xff\0"), b"ls\r\0\n\r\0\xff\xff\0");
    // What is asked for is not agreed on, and what the other side sends in binary is no word about us.
    receive(&mut telnet, &[&[IAC, WILL, BINARY]]);
    assert_eq!(sent(&telnet, b"\r"), b"\r\0");
    receive(&mut telnet, &[&[IAC, DO, BINARY]]);
    assert_eq!(sent(&telnet, b"ls\r\n\r\xff\0"), b"ls\r\n\r\xff\xff\0");
    receive(&mut telnet, &[&[IAC, DONT, BINARY]]);
    assert_eq!(sent(&telnet, b"\r"), b"\r\0");
}

#[test]
fn a_line_is_set_once_the_other_side_takes_it() {
    let mut telnet = settable();
    assert!(!telnet.can_set());
    // WILL of it says nothing about ours.
    assert_eq!(receive(&mut telnet, &[&[IAC, WILL, COM_PORT]]).wire, [IAC, DO, COM_PORT]);
    assert!(!telnet.can_set());
    let taken = receive(&mut telnet, &[&[IAC, DO, COM_PORT, IAC, DO, COM_PORT]]);
    let expected = [
        says(10, &[0]),
        says(11, &[0]),
        says(1, &[0, 0, 0x25, 0x80]),
        says(2, &[7]),
        says(3, &[3]),
        says(4, &[2]),
        says(5, &[2]),
    ];
    assert_eq!(taken, Taken { wire: expected.concat(), ..Taken::default() });
    assert!(telnet.can_set());
    // All is as asked for: the same values come back.
    let answers = [
        says(101, &[0, 0, 0x25, 0x80]),
        says(102, &[7]),
        says(103, &[3]),
        says(104, &[2]),
        says(105, &[2]),
        says(110, &[0]),
        says(111, &[0]),
    ];
    assert_eq!(receive(&mut telnet, &[&answers.concat()]), Taken::default());
}

#[test]
fn a_number_with_a_byte_of_255_is_sent_and_read() {
    // 500,000 is 0x0007a120; of Linux's speeds none has 0xff, so one that it has is asked for and one with it is answered.
    let mut telnet = Telnet::open(Some("500000".parse().unwrap()), &mut Vec::new());
    let taken = receive(&mut telnet, &[&[IAC, DO, COM_PORT]]);
    assert!(taken.wire.windows(10).any(|part| part == says(1, &[0, 7, 0xa1, 0x20])));
    let taken = receive(&mut telnet, &[&says(101, &[0, 0, IAC, IAC, 1])]);
    let event = TelnetEvent::SetOtherwise { parameter: LineParameter::Speed, asked: 500_000, is: 0xff01 };
    assert_eq!(taken.events, [event]);
    let mut wire = Vec::new();
    com_port::request(1, &[0, IAC, 1, IAC], &mut wire);
    assert_eq!(wire, says(1, &[0, IAC, IAC, 1, IAC, IAC]));
}

#[test]
fn what_is_set_otherwise_is_told_once() {
    use LineParameter::{DataBits, Flow, Parity, Speed, StopBits};
    for (answer, parameter, asked, is) in [
        (says(101, &[0, 0, 0x4b, 0]), Speed, 9600, 19_200),
        (says(101, &[0, 0, 0, 0]), Speed, 9600, 0),
        (says(102, &[8]), DataBits, 7, 8),
        (says(103, &[1]), Parity, 3, 1),
        (says(104, &[3]), StopBits, 2, 3),
        (says(105, &[3]), Flow, 2, 3),
    ] {
        let mut telnet = settable();
        receive(&mut telnet, &[&[IAC, DO, COM_PORT]]);
        let taken = receive(&mut telnet, &[&answer, &answer]);
        assert_eq!(taken.events, [TelnetEvent::SetOtherwise { parameter, asked, is }], "{parameter:?}");
        assert!(taken.wire.is_empty() && taken.line.is_empty());
        assert!(!parameter.as_str().is_empty());
    }
    // Back again, and otherwise again: somebody else has set it.
    let mut telnet = settable();
    receive(&mut telnet, &[&[IAC, DO, COM_PORT]]);
    let changes = [says(102, &[8]), says(102, &[7]), says(102, &[8])].concat();
    assert_eq!(receive(&mut telnet, &[&changes]).events.len(), 2);
}

#[test]
fn answers_that_cannot_be_read_say_nothing() {
    for answer in [
        says(101, &[1, 2, 3]),
        says(101, &[1, 2, 3, 4, 5]),
        says(101, &[]),
        says(102, &[]),
        says(102, &[1, 2]),
        // A BREAK, DTR and RTS as they are; flow control by other wires; the other side's name; news of lines; what is none.
        says(105, &[6]),
        says(105, &[8]),
        says(105, &[17]),
        says(100, b"sredird"),
        says(106, &[0x60]),
        says(107, &[0x10]),
        says(112, &[3]),
        says(199, &[1]),
        // A request, which only we make.
        says(1, &[0, 0, 0x4b, 0]),
        [&[IAC, SB, COM_PORT][..], &[IAC, SE]].concat(),
        vec![IAC, SB, IAC, SE],
    ] {
        let mut telnet = settable();
        receive(&mut telnet, &[&[IAC, DO, COM_PORT]]);
        assert_eq!(receive(&mut telnet, &[&answer]), Taken::default(), "{answer:?}");
    }
}

#[test]
fn a_line_that_cannot_be_set_is_told() {
    let mut telnet = settable();
    let refusal = [IAC, DONT, COM_PORT];
    assert_eq!(receive(&mut telnet, &[&refusal]).events, [TelnetEvent::NotSettable]);
    assert_eq!(receive(&mut telnet, &[&refusal]), Taken::default());
    // Taken after all, suspended, and not any more.
    let taken = receive(&mut telnet, &[&[IAC, DO, COM_PORT]]);
    assert!(taken.wire.starts_with(&[IAC, WILL, COM_PORT, IAC, SB]) && taken.events.is_empty());
    receive(&mut telnet, &[&says(108, &[])]);
    assert!(telnet.is_suspended());
    let taken = receive(&mut telnet, &[&refusal]);
    assert_eq!((taken.wire, taken.events), (vec![IAC, WONT, COM_PORT], vec![TelnetEvent::NotSettable]));
    assert!(!telnet.is_suspended() && !telnet.can_set());
}

#[test]
fn the_other_side_may_say_wait() {
    let mut telnet = settable();
    receive(&mut telnet, &[&[IAC, DO, COM_PORT]]);
    for (command, suspended) in [(108, true), (108, true), (109, false)] {
        receive(&mut telnet, &[&says(command, &[])]);
        assert_eq!(telnet.is_suspended(), suspended);
    }
    // One that is not asked has no say.
    let mut telnet = plain();
    receive(&mut telnet, &[&says(108, &[])]);
    assert!(!telnet.is_suspended());
}

#[test]
fn a_break_is_as_long_as_it_is_to_be_where_that_can_be_said() {
    let both = |telnet: &Telnet| {
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        let form = telnet.begin_break(&mut begun);
        telnet.end_break(&mut ended);
        (form, begun, ended)
    };
    let mut telnet = settable();
    assert_eq!(both(&telnet), (BreakForm::Sent, vec![IAC, 243], vec![]));
    receive(&mut telnet, &[&[IAC, DO, COM_PORT]]);
    assert_eq!(both(&telnet), (BreakForm::Begun, says(5, &[5]), says(5, &[6])));
    receive(&mut telnet, &[&[IAC, DONT, COM_PORT]]);
    assert_eq!(both(&telnet), (BreakForm::Sent, vec![IAC, 243], vec![]));
    assert_eq!(both(&plain()), (BreakForm::Sent, vec![IAC, 243], vec![]));
}

#[test]
fn a_subnegotiation_without_an_end_ends_the_connection() {
    let (mut line, mut wire) = (Vec::new(), Vec::new());
    let mut telnet = settable();
    let longest = says(100, &[b'x'; TELNET_SUBNEGOTIATION - 2]);
    assert_eq!(telnet.receive(&longest, &mut line, &mut wire), Ok(vec![]));
    for inside in [&b"x"[..], &[IAC, IAC]] {
        let mut telnet = settable();
        let begin = [&[IAC, SB, COM_PORT][..], &inside.repeat(TELNET_SUBNEGOTIATION)].concat();
        assert_eq!(telnet.receive(&begin, &mut line, &mut wire), Err(TelnetError::Subnegotiation));
    }
    assert!(line.is_empty());
}

/// Whoever asks without end is answered so often and no more.
#[test]
fn answers_have_an_end() {
    for asks in [
        &[IAC, DO, 24][..],
        &[IAC, WILL, ECHO, IAC, WONT, ECHO],
        &[IAC, DO, COM_PORT, IAC, DONT, COM_PORT],
        &[IAC, DO, BINARY, IAC, DONT, BINARY],
    ] {
        let mut telnet = settable();
        let taken = receive(&mut telnet, &[&asks.repeat(100_000)]);
        assert!((100..64 * 1024).contains(&taken.wire.len()), "{asks:?}: {}", taken.wire.len());
        assert!(taken.events.len() <= 512, "{asks:?}: {}", taken.events.len());
        // It is as if it had refused, and the line goes on.
        let taken = receive(&mut telnet, &[b"\xff\xfd\x18login: "]);
        assert_eq!((taken.wire, taken.line), (vec![], b"login: ".to_vec()));
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(&[IAC, SB, SE, WILL, WONT, DO, DONT, BREAK, BINARY, ECHO, 3, COM_PORT, 24, CR, NUL, 10][..])
            .prop_map(|byte| vec![byte]),
        3 => (
            prop::sample::select(&[WILL, WONT, DO, DONT][..]),
            prop::sample::select(&[BINARY, ECHO, 3, COM_PORT, 24, IAC][..]),
        ).prop_map(|(command, option)| vec![IAC, command, option]),
        2 => (prop::sample::select(&[100_u8, 101, 102, 103, 104, 105, 108, 109][..]), prop::collection::vec(any::<u8>(), 0..6))
            .prop_map(|(command, value)| says(command, &value)),
        2 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn telnet_never_panics(bytes: Vec<u8>) {
        for telnet in [plain(), settable()] {
            let mut telnet = telnet;
            let (mut line, mut wire) = (Vec::new(), Vec::new());
            if telnet.receive(&bytes, &mut line, &mut wire).is_ok() {
                prop_assert!(line.len() <= bytes.len());
            }
        }
    }

    #[test]
    fn receiving_in_pieces_is_receiving_the_whole(bytes in bytes(), cuts in prop::collection::vec(0..60_usize, 0..8)) {
        for telnet in [plain(), settable()] {
            let mut pieces = Vec::new();
            let mut rest = &bytes[..];
            for cut in &cuts {
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            pieces.push(rest);
            let taken = receive(&mut telnet.clone(), &pieces);
            prop_assert_eq!(taken, receive(&mut telnet.clone(), &[&bytes]));
        }
    }

    /// What one side sends is what the other one receives, whatever they have agreed on.
    #[test]
    fn every_byte_arrives(agreed in bytes(), line: Vec<u8>, binary: bool) {
        let (mut here, mut there) = (settable(), plain());
        let _ = here.receive(&agreed, &mut Vec::new(), &mut Vec::new());
        // A side that has ended in the midst of something begins anew; and both know whether BINARY is so.
        here.state = State::Line;
        let mut known = vec![IAC, if binary { DO } else { DONT }, BINARY];
        here.answers_left = TELNET_ANSWERS;
        receive(&mut here, &[&known]);
        known[1] = if binary { WILL } else { WONT };
        receive(&mut there, &[&known]);
        let wire = sent(&here, &line);
        // A NUL behind a CR is what NVT cannot say but as CR NUL NUL.
        prop_assert_eq!(receive(&mut there, &[&wire]).line, line);
    }

    /// Two sides that answer each other come to an end, however they begin.
    #[test]
    fn two_sides_do_not_go_on_answering_each_other(first in bytes(), second in bytes()) {
        let (mut here, mut there) = (settable(), settable());
        let _ = here.receive(&second, &mut Vec::new(), &mut Vec::new());
        let _ = there.receive(&first, &mut Vec::new(), &mut Vec::new());
        (here.state, there.state) = (State::Line, State::Line);
        let mut to_there = vec![IAC, WILL, BINARY, IAC, DO, BINARY, IAC, WILL, COM_PORT, IAC, DO, COM_PORT];
        let mut rounds = 0;
        while !to_there.is_empty() {
            let to_here = receive(&mut there, &[&to_there]).wire;
            to_there = receive(&mut here, &[&to_here]).wire;
            rounds += 1;
            prop_assert!(rounds < 10);
        }
    }
}
