//! The user name that somebody logs in to the console's gateway with: an instance and one of its serial ports.

use crate::ids::{IdError, InstanceId};
use instance_connect_document::decimal;
use instance_connect_planted::parser_entered;
use std::fmt;
use std::str::FromStr;

/// The one serial port there is (wire.md 1.4).
const PORT: u8 = 0;

/// One serial line, as `i-….port0` (wire.md 6.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsoleAddress {
    instance: InstanceId,
    port: u8,
}

/// Why a text is the address of no line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsoleAddressError {
    /// It has another form.
    #[error(
        "the address of a serial console is an instance id and .port0, such as i-0123456789abcdef0.port0"
    )]
    Form,
    /// What stands in front of the port is no instance id.
    #[error("{0}")]
    Instance(IdError),
    /// It names a port that no instance has.
    #[error("an instance has serial port 0 and no port {0}")]
    NoSuchPort(u8),
}

impl ConsoleAddress {
    /// The address of an instance's line.
    pub fn of(instance: InstanceId) -> Self {
        Self { instance, port: PORT }
    }

    /// Whose line it is.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// Which of the instance's serial ports: always 0.
    pub fn port(&self) -> u8 {
        self.port
    }
}

impl FromStr for ConsoleAddress {
    type Err = ConsoleAddressError;

    /// Reads an address in its one spelling.
    fn from_str(text: &str) -> Result<Self, ConsoleAddressError> {
        parser_entered(text.as_bytes());
        let (instance, port) = text.split_once('.').ok_or(ConsoleAddressError::Form)?;
        let port =
            port.strip_prefix("port").and_then(decimal::parse::<u8>).ok_or(ConsoleAddressError::Form)?;
        let instance = instance.parse().map_err(ConsoleAddressError::Instance)?;
        if port != PORT {
            return Err(ConsoleAddressError::NoSuchPort(port));
        }
        Ok(Self { instance, port })
    }
}

impl fmt::Display for ConsoleAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.port{}", self.instance, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INSTANCE: &str = "i-0123456789abcdef0";

    #[test]
    fn an_address_names_port_0_of_an_instance() {
        let address: ConsoleAddress = format!("{INSTANCE}.port0").parse().unwrap();
        assert_eq!((address.instance().as_str(), address.port()), (INSTANCE, 0));
        assert_eq!(ConsoleAddress::of(INSTANCE.parse().unwrap()), address);
        assert_eq!(address.to_string(), format!("{INSTANCE}.port0"));
    }

    #[test]
    fn addresses_have_one_spelling_and_no_other_port() {
        use ConsoleAddressError::{Form, NoSuchPort};
        for (end, error) in [
            (".port1", NoSuchPort(1)),
            (".port255", NoSuchPort(255)),
            (".port256", Form),
            (".port00", Form),
            (".port+0", Form),
            (".port-0", Form),
            (".port", Form),
            (".port0 ", Form),
            (".port0\n", Form),
            (".port0.port0", Form),
            (".Port0", Form),
            (".0", Form),
            ("port0", Form),
            (".port٠", Form),
            ("", Form),
        ] {
            assert_eq!(format!("{INSTANCE}{end}").parse::<ConsoleAddress>(), Err(error), "{end:?}");
        }
        for text in
            [".port0", "i-.port0", "i-0123456789ABCDEF0.port0", " i-0123456789abcdef0.port0", "root.port0"]
        {
            let error = text.parse::<ConsoleAddress>().unwrap_err();
            assert!(matches!(error, ConsoleAddressError::Instance(_)), "{text:?}: {error}");
        }
        assert_eq!("".parse::<ConsoleAddress>(), Err(Form));
        // Also of the wrong port no more is said than its number.
        assert_eq!(NoSuchPort(1).to_string(), "an instance has serial port 0 and no port 1");
    }

    proptest! {
        #[test]
        fn console_address_never_panics(text in prop_oneof![any::<String>(), "i-[0-9a-f]{7,31}\\.port[0-9]{0,3}"]) {
            if let Ok(address) = text.parse::<ConsoleAddress>() {
                prop_assert_eq!(address.to_string(), text);
                prop_assert_eq!(address.port(), 0);
            }
        }
    }
}
