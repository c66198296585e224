//! Lines of an audit log, whoever has written them: the chain, events, intents without a record, and places in the log.
#![no_main]

use instance_connect_core::audit::{
    AttributeKey, Chain, ChainValue, Event, EventFilter, LogPosition, OpenIntents, Tie,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let (mut chain, mut open) = (Chain::default(), OpenIntents::default());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        what_is_tied_shows_a_change(chain, line);
        chain.read(line);
        let value = chain.value();
        assert_eq!(value.to_string().parse::<ChainValue>(), Ok(value));
        if let Some(event) = Event::read(line) {
            an_event_is_found_by_what_it_says(&event, line);
        }
        let _ = open.read(line);
    }
    // What is written in place of a record that is missing is one line, tied to those before it.
    for line in open.close(String::new).unwrap_or_default() {
        let (before, mut log) = (chain, Vec::new());
        chain.append(&line, &mut log);
        assert_eq!(log.iter().position(|byte| *byte == b'\n'), Some(log.len() - 1));
        assert_eq!(log.len(), Chain::length_of(&line));
        let mut reader = before;
        assert_eq!((reader.read(&log), reader.value()), (Tie::Intact, chain.value()));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(position) = text.parse::<LogPosition>() {
        assert_eq!(position.to_string(), text);
    }
});

fn what_is_tied_shows_a_change(before: Chain, line: &[u8]) {
    let read = |line: &[u8]| {
        let mut chain = before;
        (chain.read(line), chain.value())
    };
    let (tie, value) = read(line);
    assert_eq!(read(line.strip_suffix(b"\n").unwrap_or(line)), (tie, value));
    if tie == Tie::Intact {
        for at in [0, line.len() / 2] {
            let mut changed = line.to_vec();
            changed[at] ^= 1;
            assert_ne!(read(&changed), (Tie::Intact, value));
        }
    }
}

fn an_event_is_found_by_what_it_says(event: &Event<'_>, line: &[u8]) {
    let answer = event.answer();
    assert_eq!(answer["CloudTrailEvent"].as_str(), Some(event.line()));
    assert!(line.starts_with(event.line().as_bytes()));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut attributes: Vec<(AttributeKey, String)> = [
        (AttributeKey::EventName, "EventName"),
        (AttributeKey::EventId, "EventId"),
        (AttributeKey::EventSource, "EventSource"),
        (AttributeKey::ReadOnly, "ReadOnly"),
        (AttributeKey::AccessKeyId, "AccessKeyId"),
        (AttributeKey::Username, "Username"),
    ]
    .into_iter()
    .filter_map(|(key, member)| Some((key, text(&answer[member])?)))
    .collect();
    let resources = answer["Resources"].as_array().unwrap().iter();
    attributes.extend(resources.map(|of| (AttributeKey::ResourceName, text(&of["ResourceName"]).unwrap())));
    assert!(EventFilter { attributes: attributes.clone(), start: None, end: None }.admits(event));
    for (key, value) in attributes {
        let other = EventFilter { attributes: vec![(key, value + "x")], start: None, end: None };
        assert!(!other.admits(event) || key == AttributeKey::ResourceName);
    }
}
