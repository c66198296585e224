//! A frame of a link, in both directions.
#![no_main]

use instance_connect_core::link::{AgentFrame, Goodbye, ServerFrame, limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Whatever can be read is what the other side would have written.
    match AgentFrame::decode(bytes) {
        Ok(Some(frame)) => assert_eq!(frame.encode(), bytes),
        Ok(None) => assert!(bytes.len() <= limits::FRAME && bytes[0] & 0x80 == 0),
        Err(error) => {
            let goodbye = AgentFrame::Goodbye(Goodbye::from(error));
            assert_eq!(AgentFrame::decode(&goodbye.encode()), Ok(Some(goodbye)));
        }
    }
    match ServerFrame::decode(bytes) {
        Ok(Some(frame)) => assert_eq!(frame.encode(), bytes),
        Ok(None) => assert!(bytes.len() <= limits::FRAME && bytes[0] & 0x80 == 0),
        Err(error) => {
            let goodbye = ServerFrame::Goodbye(Goodbye::from(error));
            assert_eq!(ServerFrame::decode(&goodbye.encode()), Ok(Some(goodbye)));
        }
    }
});
