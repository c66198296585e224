//! RFC 2217: how the line behind a telnet connection is set, and what its side says about that.

use super::{IAC, SB, SE, TelnetEvent};
use crate::console::settings::{FlowControl, LineSettings, Parity};

/// The option's number.
pub(super) const COM_PORT: u8 = 44;

// Requests; the answer to each is by 100 more.
const SET_BAUD_RATE: u8 = 1;
const SET_DATA_SIZE: u8 = 2;
const SET_PARITY: u8 = 3;
const SET_STOP_SIZE: u8 = 4;
const SET_CONTROL: u8 = 5;
const FLOW_CONTROL_SUSPEND: u8 = 8;
const FLOW_CONTROL_RESUME: u8 = 9;
const SET_LINE_STATE_MASK: u8 = 10;
const SET_MODEM_STATE_MASK: u8 = 11;
const ANSWER: u8 = 100;

// Values of SET-CONTROL.
const BREAK_ON: u8 = 5;
const BREAK_OFF: u8 = 6;

/// What of a line can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineParameter {
    /// Bits a second.
    Speed,
    /// Data bits.
    DataBits,
    /// 1 none, 2 odd, 3 even, 4 mark, 5 space.
    Parity,
    /// 1, 2, and 3 for one and a half.
    StopBits,
    /// 1 none, 2 software, 3 hardware.
    Flow,
}

/// The line of one connection.
#[derive(Clone, Debug)]
pub(super) struct ComPort {
    settings: LineSettings,
    /// What was last said of each parameter, so that the same is not told again and again.
    told: [Option<u32>; LineParameter::ALL.len()],
    suspended: bool,
}

impl LineParameter {
    const ALL: [Self; 5] = [Self::Speed, Self::DataBits, Self::Parity, Self::StopBits, Self::Flow];

    /// What it is called in a message.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Speed => "speed",
            Self::DataBits => "data bits",
            Self::Parity => "parity",
            Self::StopBits => "stop bits",
            Self::Flow => "flow control",
        }
    }

    fn command(self) -> u8 {
        match self {
            Self::Speed => SET_BAUD_RATE,
            Self::DataBits => SET_DATA_SIZE,
            Self::Parity => SET_PARITY,
            Self::StopBits => SET_STOP_SIZE,
            Self::Flow => SET_CONTROL,
        }
    }

    /// The value that is to be.
    fn of(self, settings: &LineSettings) -> u32 {
        match self {
            Self::Speed => settings.speed(),
            Self::DataBits => settings.data_bits().into(),
            Self::Parity => match settings.parity() {
                Parity::None => 1,
                Parity::Odd => 2,
                Parity::Even => 3,
            },
            Self::StopBits => settings.stop_bits().into(),
            Self::Flow => match settings.flow() {
                FlowControl::None => 1,
                FlowControl::Software => 2,
                FlowControl::Hardware => 3,
            },
        }
    }

    /// What an answer says of it.
    fn read(self, value: &[u8]) -> Option<u32> {
        match (self, value) {
            (Self::Speed, [a, b, c, d]) => Some(u32::from_be_bytes([*a, *b, *c, *d])),
            // The other values are about BREAK, DTR and RTS.
            (Self::Flow, [value]) => Some(u32::from(*value)).filter(|value| (1..=3).contains(value)),
            (Self::DataBits | Self::Parity | Self::StopBits, [value]) => Some((*value).into()),
            _ => None,
        }
    }
}

impl ComPort {
    pub(super) fn new(settings: LineSettings) -> Self {
        Self { settings, told: Default::default(), suspended: false }
    }

    /// Asks for all settings, and to be told nothing about modems.
    pub(super) fn set(&self, wire: &mut Vec<u8>) {
        request(SET_LINE_STATE_MASK, &[0], wire);
        request(SET_MODEM_STATE_MASK, &[0], wire);
        for parameter in LineParameter::ALL {
            let value = parameter.of(&self.settings).to_be_bytes();
            let [.., last] = &value;
            let value =
                if parameter == LineParameter::Speed { &value[..] } else { std::slice::from_ref(last) };
            request(parameter.command(), value, wire);
        }
    }

    /// Takes what the other side says, which is either an answer or news. What cannot be read says nothing.
    pub(super) fn answered(&mut self, answer: &[u8]) -> Option<TelnetEvent> {
        let (command, value) = answer.split_first()?;
        match command.checked_sub(ANSWER)? {
            FLOW_CONTROL_SUSPEND => self.suspended = true,
            FLOW_CONTROL_RESUME => self.suspended = false,
            command => {
                let mut known = LineParameter::ALL.into_iter().zip(&mut self.told);
                let (parameter, told) = known.find(|(parameter, _)| parameter.command() == command)?;
                let (asked, is) = (parameter.of(&self.settings), parameter.read(value)?);
                let is_news = told.replace(is) != Some(is);
                if is != asked && is_news {
                    return Some(TelnetEvent::SetOtherwise { parameter, asked, is });
                }
            }
        }
        None
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// The other side does not speak of this any more, so it cannot say that bytes may be sent again.
    pub(super) fn resume(&mut self) {
        self.suspended = false;
    }
}

/// Begins or ends a BREAK.
pub(super) fn set_break(on: bool, wire: &mut Vec<u8>) {
    request(SET_CONTROL, &[if on { BREAK_ON } else { BREAK_OFF }], wire);
}

pub(super) fn request(command: u8, value: &[u8], wire: &mut Vec<u8>) {
    wire.extend([IAC, SB, COM_PORT, command]);
    for byte in value {
        if *byte == IAC {
            wire.push(IAC);
        }
        wire.push(*byte);
    }
    wire.extend([IAC, SE]);
}
