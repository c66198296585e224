//! How a serial line is set: `115200 8n1`, or `9600 7e2 hardware`.

use instance_connect_document::decimal;
use instance_connect_planted::parser_entered;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Speeds that Linux's serial lines have, in bits a second.
const SPEEDS: [u32; 30] = [
    50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19_200, 38_400, 57_600, 115_200,
    230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000, 2_000_000, 2_500_000,
    3_000_000, 3_500_000, 4_000_000,
];

/// How a serial line is set. As text: the speed; data bits, parity and stop bits; the flow control. What is missing at the end is
/// as by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LineSettings {
    speed: u32,
    data_bits: u8,
    parity: Parity,
    stop_bits: u8,
    flow: FlowControl,
}

/// The bit that is sent for checking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parity {
    /// No bit.
    None,
    /// The number of ones is even.
    Even,
    /// It is odd.
    Odd,
}

/// How one side tells the other to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowControl {
    /// It does not.
    None,
    /// By the wires RTS and CTS.
    Hardware,
    /// By the characters XON and XOFF.
    Software,
}

/// Why a text is not how a line is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineSettingsError {
    /// It has other parts.
    #[error(
        "a serial line is set like 115200 8n1 none: its speed, its framing and its flow control, with blanks between"
    )]
    Form,
    /// The speed is none that there is.
    #[error("the speed of a serial line is one of Linux's, in bits a second, such as 9600 or 115200")]
    Speed,
    /// The framing is none that there is.
    #[error(
        "the framing of a serial line is 5 to 8 data bits, n, e or o for the parity, and 1 or 2 stop bits, such as 8n1"
    )]
    Framing,
    /// The flow control is none that there is.
    #[error("the flow control of a serial line is none, hardware (RTS and CTS) or software (XON and XOFF)")]
    Flow,
}

impl Default for LineSettings {
    /// What serial consoles are set to (wire.md 6.3), without flow control: a line at which nobody listens must not stop who writes
    /// to it.
    fn default() -> Self {
        Self { speed: 115_200, data_bits: 8, parity: Parity::None, stop_bits: 1, flow: FlowControl::None }
    }
}

impl LineSettings {
    /// Bits a second.
    pub fn speed(&self) -> u32 {
        self.speed
    }

    /// 5 to 8.
    pub fn data_bits(&self) -> u8 {
        self.data_bits
    }

    /// The parity.
    pub fn parity(&self) -> Parity {
        self.parity
    }

    /// 1 or 2.
    pub fn stop_bits(&self) -> u8 {
        self.stop_bits
    }

    /// The flow control.
    pub fn flow(&self) -> FlowControl {
        self.flow
    }
}

impl FromStr for LineSettings {
    type Err = LineSettingsError;

    fn from_str(text: &str) -> Result<Self, LineSettingsError> {
        parser_entered(text.as_bytes());
        let mut parts = text.split(' ');
        let mut settings = Self::default();
        let speed = parts.next().filter(|speed| !speed.is_empty()).ok_or(LineSettingsError::Form)?;
        settings.speed =
            decimal::parse(speed).filter(|speed| SPEEDS.contains(speed)).ok_or(LineSettingsError::Speed)?;
        if let Some(framing) = parts.next() {
            (settings.data_bits, settings.parity, settings.stop_bits) = read_framing(framing)?;
        }
        if let Some(flow) = parts.next() {
            settings.flow = match flow {
                "none" => FlowControl::None,
                "hardware" => FlowControl::Hardware,
                "software" => FlowControl::Software,
                _ => return Err(LineSettingsError::Flow),
            };
        }
        if parts.next().is_some() {
            return Err(LineSettingsError::Form);
        }
        Ok(settings)
    }
}

fn read_framing(text: &str) -> Result<(u8, Parity, u8), LineSettingsError> {
    let [data_bits @ b'5'..=b'8', parity, stop_bits @ b'1'..=b'2'] = text.as_bytes() else {
        return Err(LineSettingsError::Framing);
    };
    let parity = match parity {
        b'n' => Parity::None,
        b'e' => Parity::Even,
        b'o' => Parity::Odd,
        _ => return Err(LineSettingsError::Framing),
    };
    Ok((data_bits - b'0', parity, stop_bits - b'0'))
}

impl fmt::Display for LineSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { speed, data_bits, parity, stop_bits, flow } = self;
        write!(f, "{speed} {data_bits}{parity}{stop_bits} {flow}")
    }
}

impl fmt::Display for Parity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "n",
            Self::Even => "e",
            Self::Odd => "o",
        })
    }
}

impl fmt::Display for FlowControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Hardware => "hardware",
            Self::Software => "software",
        })
    }
}

impl TryFrom<String> for LineSettings {
    type Error = LineSettingsError;

    fn try_from(text: String) -> Result<Self, LineSettingsError> {
        text.parse()
    }
}

impl From<LineSettings> for String {
    fn from(settings: LineSettings) -> Self {
        settings.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_is_set_by_one_text() {
        for (text, shown) in [
            ("115200", "115200 8n1 none"),
            ("115200 8n1", "115200 8n1 none"),
            ("9600 7e2 hardware", "9600 7e2 hardware"),
            ("50 5o1 software", "50 5o1 software"),
            ("4000000 8n1 none", "4000000 8n1 none"),
        ] {
            let settings: LineSettings = text.parse().unwrap();
            assert_eq!(settings.to_string(), shown);
            assert_eq!(shown.parse(), Ok(settings));
        }
        assert_eq!("115200 8n1 none".parse(), Ok(LineSettings::default()));
        let settings: LineSettings = "9600 7e2 software".parse().unwrap();
        let framing = (settings.data_bits(), settings.parity(), settings.stop_bits());
        assert_eq!((settings.speed(), settings.flow()), (9600, FlowControl::Software));
        assert_eq!(framing, (7, Parity::Even, 2));
    }

    #[test]
    fn what_is_wrong_is_said() {
        use LineSettingsError::{Flow, Form, Framing, Speed};
        for (text, error) in [
            ("", Form),
            (" 9600", Form),
            ("9600 8n1 none ", Form),
            ("9600 8n1 none none", Form),
            ("9601", Speed),
            ("0", Speed),
            ("09600", Speed),
            ("+9600", Speed),
            ("9600.0", Speed),
            ("99999999999999999999", Speed),
            ("8n1", Speed),
            ("9600,8n1", Speed),
            ("9600  8n1", Framing),
            ("9600 ", Framing),
            ("9600 4n1", Framing),
            ("9600 9n1", Framing),
            ("9600 8N1", Framing),
            ("9600 8m1", Framing),
            ("9600 8n0", Framing),
            ("9600 8n3", Framing),
            ("9600 8n1.5", Framing),
            ("9600 8n", Framing),
            ("9600 none", Framing),
            ("9600 8n1 rtscts", Flow),
            ("9600 8n1 ", Flow),
        ] {
            assert_eq!(text.parse::<LineSettings>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn settings_are_a_text_in_files() {
        let settings: LineSettings = serde_json::from_str(r#""9600 7e1""#).unwrap();
        assert_eq!(serde_json::to_string(&settings).unwrap(), r#""9600 7e1 none""#);
        let error = serde_json::from_str::<LineSettings>(r#""9601""#).unwrap_err();
        assert!(error.to_string().starts_with("the speed of a serial line is one of Linux's"), "{error}");
        assert!(serde_json::from_str::<LineSettings>("9600").is_err());
    }

    proptest! {
        #[test]
        fn line_settings_parser_never_panics(text in prop_oneof![any::<String>(), "[0-9]{1,7} [4-9][neox][0-3]( [a-z]{0,9})?"]) {
            if let Ok(settings) = text.parse::<LineSettings>() {
                prop_assert_eq!(settings.to_string().parse(), Ok(settings));
            }
        }
    }
}
