//! Serial lines behind telnet: QEMU's `telnet:` sockets, terminal servers, and with RFC 2217 those whose speed and framing can be
//! set from here. We are the client.
//!
//! Negotiation is RFC 1143's, of which nothing is ever turned off by us: an option is agreed on once, all others are refused,
//! and what is agreed already is not answered, so that two sides never go on answering each other. RFCs: 854 (telnet), 856
//! (BINARY), 857 (ECHO), 858 (SUPPRESS-GO-AHEAD), 2217 (COM-PORT-OPTION).

mod com_port;

use super::limits::{TELNET_ANSWERS, TELNET_SUBNEGOTIATION};
use super::settings::LineSettings;
pub use com_port::LineParameter;
use com_port::{COM_PORT, ComPort};
use instance_connect_planted::parser_entered;

const SE: u8 = 240;
const BREAK: u8 = 243;
const SB: u8 = 250;
const WILL: u8 = 251;
const WONT: u8 = 252;
const DO: u8 = 253;
const DONT: u8 = 254;
const IAC: u8 = 255;

const BINARY: u8 = 0;
const ECHO: u8 = 1;
const SUPPRESS_GO_AHEAD: u8 = 3;

const CR: u8 = b'\r';
const NUL: u8 = 0;

/// One connection to a line behind telnet.
#[derive(Clone, Debug)]
pub struct Telnet {
    state: State,
    /// Whether what came last of the line was a CR.
    after_cr: bool,
    /// Options as we do them, and as the other side does them.
    ours: Options,
    theirs: Options,
    com_port: Option<ComPort>,
    /// Negotiations that may still be answered.
    answers_left: u32,
}

#[derive(Clone, Debug)]
enum State {
    /// Bytes of the line.
    Line,
    /// Behind IAC.
    Command,
    /// Behind WILL, WONT, DO or DONT.
    Option(u8),
    /// Within a subnegotiation.
    Subnegotiation(Vec<u8>),
    /// Behind IAC within one.
    SubnegotiationCommand(Vec<u8>),
}

/// The options that we know, on one side.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    binary: Agreement,
    echo: Agreement,
    suppress_go_ahead: Agreement,
    com_port: Agreement,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Agreement {
    #[default]
    No,
    /// We have asked.
    Asked,
    Yes,
}

/// What is to be known about a line, beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TelnetEvent {
    /// The other side cannot set its line from here: it goes on as it is set there.
    NotSettable,
    /// The line is set otherwise than was asked for.
    SetOtherwise {
        /// What of it.
        parameter: LineParameter,
        /// What was asked for, as RFC 2217 has it.
        asked: u32,
        /// What is so.
        is: u32,
    },
}

/// The connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TelnetError {
    /// It has a subnegotiation that does not end.
    #[error("the other side of the telnet connection has begun a subnegotiation that does not end")]
    Subnegotiation,
}

/// How a BREAK is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakForm {
    /// It has begun, and lasts until [`Telnet::end_break`].
    Begun,
    /// It was sent: the other side chooses how long it is.
    Sent,
}

impl Telnet {
    /// Begins a connection; with settings where the line is to be set from here. What is to be sent is appended to `wire`.
    pub fn open(settings: Option<LineSettings>, wire: &mut Vec<u8>) -> Self {
        let asked =
            Options { binary: Agreement::Asked, suppress_go_ahead: Agreement::Asked, ..Options::default() };
        let com_port = if settings.is_some() { Agreement::Asked } else { Agreement::No };
        for option in [BINARY, SUPPRESS_GO_AHEAD] {
            wire.extend([IAC, WILL, option, IAC, DO, option]);
        }
        if settings.is_some() {
            wire.extend([IAC, WILL, COM_PORT]);
        }
        Self {
            state: State::Line,
            after_cr: false,
            ours: Options { com_port, ..asked },
            theirs: asked,
            com_port: settings.map(ComPort::new),
            answers_left: TELNET_ANSWERS,
        }
    }

    /// Takes bytes from the other side. Those of the line are appended to `line`, and what has to be answered to `wire`.
    ///
    /// # Errors
    /// [`TelnetError`]; the connection cannot go on.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        line: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<Vec<TelnetEvent>, TelnetError> {
        parser_entered(bytes);
        let mut events = Vec::new();
        for byte in bytes {
            let state = std::mem::replace(&mut self.state, State::Line);
            self.state = match (state, *byte) {
                (State::Line, IAC) => State::Command,
                (State::Line, byte) => {
                    self.line_byte(byte, line);
                    State::Line
                }
                (State::Command, IAC) => {
                    self.line_byte(IAC, line);
                    State::Line
                }
                (State::Command, command) => after_command(command),
                (State::Option(command), option) => {
                    self.negotiate(command, option, wire, &mut events);
                    State::Line
                }
                (State::Subnegotiation(inside), IAC) => State::SubnegotiationCommand(inside),
                (State::Subnegotiation(inside), byte) => subnegotiated(inside, byte)?,
                (State::SubnegotiationCommand(inside), IAC) => subnegotiated(inside, IAC)?,
                (State::SubnegotiationCommand(inside), SE) => {
                    self.subnegotiation(&inside, &mut events);
                    State::Line
                }
                // Its end is missing, so it says nothing; the command is one.
                (State::SubnegotiationCommand(_), command) => after_command(command),
            };
        }
        Ok(events)
    }

    /// Gives bytes to the line: what is to be sent is appended to `wire`.
    pub fn send(&self, line: &[u8], wire: &mut Vec<u8>) {
        let binary = self.ours.binary == Agreement::Yes;
        for byte in line {
            match *byte {
                IAC => wire.extend([IAC, IAC]),
                // Until BINARY is agreed on, a CR alone is CR and NUL (RFC 854). What follows it is not waited for: somebody has
                // pressed Enter.
                CR if !binary => wire.extend([CR, NUL]),
                byte => wire.push(byte),
            }
        }
    }

    /// Begins a BREAK, or sends one of the other side's length where it knows no more.
    pub fn begin_break(&self, wire: &mut Vec<u8>) -> BreakForm {
        if self.can_set() {
            com_port::set_break(true, wire);
            BreakForm::Begun
        } else {
            wire.extend([IAC, BREAK]);
            BreakForm::Sent
        }
    }

    /// Ends a BREAK that has begun.
    pub fn end_break(&self, wire: &mut Vec<u8>) {
        if self.can_set() {
            com_port::set_break(false, wire);
        }
    }

    /// Whether the other side has asked that nothing be sent for now.
    pub fn is_suspended(&self) -> bool {
        self.com_port.as_ref().is_some_and(ComPort::is_suspended)
    }

    /// Whether the line can be set from here.
    pub fn can_set(&self) -> bool {
        self.ours.com_port == Agreement::Yes
    }

    /// A byte of the line. Until BINARY is agreed on, CR and NUL are a CR.
    fn line_byte(&mut self, byte: u8, line: &mut Vec<u8>) {
        let stuffed = self.after_cr && byte == NUL && self.theirs.binary != Agreement::Yes;
        self.after_cr = byte == CR;
        if !stuffed {
            line.push(byte);
        }
    }

    fn negotiate(&mut self, command: u8, option: u8, wire: &mut Vec<u8>, events: &mut Vec<TelnetEvent>) {
        let com_port_is_known = self.com_port.is_some();
        let ours = matches!(command, DO | DONT);
        let asked_for = matches!(command, DO | WILL);
        let options = if ours { &mut self.ours } else { &mut self.theirs };
        let agreement = match option {
            BINARY => Some(&mut options.binary),
            SUPPRESS_GO_AHEAD => Some(&mut options.suppress_go_ahead),
            // Refused, the other side might keep from us what its line echoes. We echo nothing.
            ECHO if !ours => Some(&mut options.echo),
            COM_PORT if com_port_is_known => Some(&mut options.com_port),
            _ => None,
        };
        let before = agreement.as_deref().copied().unwrap_or_default();
        // Whether it is so from here on, and whether that has to be said.
        let (after, answer) = match (agreement.is_some(), before, asked_for) {
            (false, _, true) => (Agreement::No, Some(false)),
            (true, Agreement::No, true) => (Agreement::Yes, Some(true)),
            (_, Agreement::Asked | Agreement::Yes, true) => (Agreement::Yes, None),
            (_, Agreement::Yes, false) => (Agreement::No, Some(false)),
            (_, Agreement::Asked | Agreement::No, false) => (Agreement::No, None),
        };
        // Somebody who asks without end is not answered without end, and gets nothing more agreed to.
        let may_answer = self.answers_left > 0;
        if answer == Some(true) && !may_answer {
            return;
        }
        if let Some(agreement) = agreement {
            *agreement = after;
        }
        if let Some(yes) = answer.filter(|_| may_answer) {
            self.answers_left -= 1;
            let command = match (ours, yes) {
                (true, true) => WILL,
                (true, false) => WONT,
                (false, true) => DO,
                (false, false) => DONT,
            };
            wire.extend([IAC, command, option]);
        }
        if ours && option == COM_PORT {
            self.com_port_negotiated(before, after, wire, events);
        }
    }

    fn com_port_negotiated(
        &mut self,
        before: Agreement,
        after: Agreement,
        wire: &mut Vec<u8>,
        events: &mut Vec<TelnetEvent>,
    ) {
        let Some(com_port) = &mut self.com_port else { return };
        match (before, after) {
            (Agreement::Yes, Agreement::Yes) | (Agreement::No, Agreement::No | Agreement::Asked) => {}
            (_, Agreement::Yes) => com_port.set(wire),
            (_, Agreement::No | Agreement::Asked) => {
                com_port.resume();
                events.push(TelnetEvent::NotSettable);
            }
        }
    }

    fn subnegotiation(&mut self, inside: &[u8], events: &mut Vec<TelnetEvent>) {
        if let (Some(com_port), [COM_PORT, answer @ ..]) = (&mut self.com_port, inside) {
            events.extend(com_port.answered(answer));
        }
    }
}

/// What begins with IAC and this command. Those that are not about options mean nothing to a line.
fn after_command(command: u8) -> State {
    match command {
        WILL | WONT | DO | DONT => State::Option(command),
        SB => State::Subnegotiation(Vec::new()),
        _ => State::Line,
    }
}

fn subnegotiated(mut inside: Vec<u8>, byte: u8) -> Result<State, TelnetError> {
    if inside.len() >= TELNET_SUBNEGOTIATION {
        return Err(TelnetError::Subnegotiation);
    }
    inside.push(byte);
    Ok(State::Subnegotiation(inside))
}

#[cfg(test)]
mod tests;
