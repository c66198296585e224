//! What the other side of a telnet connection sends. The first byte chooses whether the line is to be set, and where the bytes are
//! cut in two.
#![no_main]

use instance_connect_core::console::{LineSettings, Telnet, TelnetError, TelnetEvent};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let settings = (choice % 2 == 1).then(LineSettings::default);
    let (first, second) = bytes.split_at(bytes.len() * usize::from(*choice) / 255);
    let (telnet, line, wire, events) = received(settings, &[bytes]);
    let (_, line_in_two, wire_in_two, events_in_two) = received(settings, &[first, second]);
    assert_eq!((&line, &wire), (&line_in_two, &wire_in_two));
    assert!(line.len() <= bytes.len());
    // Negotiations have an end, each with the answer and all settings of a line at most.
    assert!(wire.len() <= 256 * 128);
    if let (Ok(events), Ok(in_two)) = (&events, &events_in_two) {
        assert_eq!(events, in_two);
        assert!(settings.is_some() || events.is_empty());
    } else {
        return assert!(events.is_err() && events_in_two.is_err());
    }

    // What is sent is what another side of the same agreements receives.
    let mut sent = Vec::new();
    telnet.send(bytes, &mut sent);
    let mut other = Telnet::open(None, &mut Vec::new());
    let is_binary = {
        let mut cr = Vec::new();
        telnet.send(b"\r", &mut cr);
        cr == b"\r"
    };
    let agreed = [255, if is_binary { 251 } else { 252 }, 0];
    other.receive(&agreed, &mut Vec::new(), &mut Vec::new()).unwrap();
    let mut arrived = Vec::new();
    other.receive(&sent, &mut arrived, &mut Vec::new()).unwrap();
    assert_eq!(arrived, bytes);
});

type Received = (Telnet, Vec<u8>, Vec<u8>, Result<Vec<TelnetEvent>, TelnetError>);

fn received(settings: Option<LineSettings>, pieces: &[&[u8]]) -> Received {
    let mut telnet = Telnet::open(settings, &mut Vec::new());
    let (mut line, mut wire, mut events) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        match telnet.receive(piece, &mut line, &mut wire) {
            Ok(more) => events.extend(more),
            Err(error) => return (telnet, line, wire, Err(error)),
        }
    }
    (telnet, line, wire, Ok(events))
}
