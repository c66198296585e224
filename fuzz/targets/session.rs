//! What `instance-connect-session` tells the agent when a login begins or ends.
#![no_main]

use instance_connect_document::{SESSION_LIMIT, SessionChange, SessionEvent};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(event) = SessionEvent::parse(bytes) else { return };
    // Whatever can be read is what the program would have written.
    assert_eq!(event.encode().as_bytes(), bytes);
    assert!(bytes.len() <= SESSION_LIMIT);
    // What gets from there into the record begins no line there, and says nothing to a terminal.
    let mut words = vec![event.user.to_string(), event.session.to_string()];
    if let SessionChange::Opened { fingerprint, from } = &event.change {
        words.extend([fingerprint.to_string(), from.to_string()]);
    }
    assert!(words.iter().flat_map(|word| word.bytes()).all(|b| b.is_ascii_graphic()));
});
