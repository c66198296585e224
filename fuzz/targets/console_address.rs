//! The user name that somebody logs in to the console with; and how a line is set.
#![no_main]

use instance_connect_core::console::{ConsoleAddress, ConsoleAddressError, LineSettings};
use instance_connect_core::ids::InstanceId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<ConsoleAddress>() {
        Ok(address) => {
            assert_eq!(address.to_string(), text);
            assert_eq!(address.port(), 0);
            assert_eq!(text.strip_suffix(".port0"), Some(address.instance().as_str()));
        }
        Err(ConsoleAddressError::NoSuchPort(port)) => {
            let instance = text.strip_suffix(&format!(".port{port}")).unwrap();
            assert!(port != 0 && instance.parse::<InstanceId>().is_ok());
        }
        Err(error) => assert!(error.to_string().len() < 200),
    }
    if let Ok(settings) = text.parse::<LineSettings>() {
        let shown = settings.to_string();
        assert!(shown.starts_with(text) && shown.parse() == Ok(settings));
    }
});
