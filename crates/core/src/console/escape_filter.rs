//! What of a line's output may be shown to a terminal that is not the one it was meant for: past output, and that of
//! somebody else's session.
//!
//! Terminals answer some of what they are shown, and the answer is typed into the line; other sequences write the clipboard,
//! the title or the keys. So what passes is a list: text, the controls that move within it, and sequences that colour,
//! move, erase and select character sets. Each sequence is written anew once it is complete, so that a terminal is never
//! left within one, and what introduces any other never passes, whatever becomes of what stands behind it.
//!
//! **Bytes of 0x80 to 0x9f** are controls to a terminal of 8-bit character sets, such as 0x9b for `ESC [`, and parts of
//! characters to one of UTF-8, to which U+009b is the control (xterm and VTE take both). A terminal that we know to be of UTF-8
//! (SSH says so, RFC 8160) gets all characters but these, and no other byte above 0x7f. One that may be of either does not get characters
//! with a byte that an 8-bit terminal would take for the beginning of a sequence, or for the question that 0x9a is.
//!
//! What was looked up: xterm's *Control Sequences* (ctlseqs), ECMA-48, `console_codes(4)` of Linux.

use super::limits::{FILTERED_SEQUENCE, FILTERED_STRING};
use instance_connect_planted::{parser_entered, planted};

const BEL: u8 = 0x07;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;
const ESC: u8 = 0x1b;
const DEL: u8 = 0x7f;

/// Which characters a terminal takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// UTF-8: the client has said so, with the terminal mode `IUTF8` (RFC 8160).
    Utf8,
    /// UTF-8, or one of the 8-bit character sets.
    Unknown,
}

/// Takes output of a line in pieces of any length and gives what may be shown.
#[derive(Clone, Debug)]
pub struct EscapeFilter {
    charset: Charset,
    state: State,
    /// A character of UTF-8 that is not complete.
    partial: Partial,
}

#[derive(Clone, Debug)]
enum State {
    /// Text.
    Ground,
    /// Behind ESC: what stands between it and the last character.
    Escape(Collected),
    /// Behind `ESC [`: what stands between it and the last character.
    Csi(Collected),
    /// Within a string that no terminal is to see.
    String {
        /// That of an OSC, which Linux's console knows without an end, and which no line end belongs to.
        osc: bool,
        /// Characters there have been.
        length: usize,
        /// How many characters it has; where that is known.
        ends_at: usize,
    },
}

/// The inside of a sequence; too long a one is not kept.
#[derive(Clone, Debug, Default)]
struct Collected {
    bytes: Vec<u8>,
    too_long: bool,
}

/// The beginning of a character of UTF-8.
#[derive(Clone, Copy, Debug, Default)]
struct Partial {
    bytes: [u8; 4],
    length: usize,
}

impl EscapeFilter {
    /// At the beginning of a line's output, or anywhere in it.
    pub fn new(charset: Charset) -> Self {
        Self { charset, state: State::Ground, partial: Partial::default() }
    }

    /// Takes the next bytes, and appends what may be shown of these and of what was held back. That is never more than
    /// three times as much: a byte that is no character of UTF-8 becomes one that stands for it.
    pub fn filter(&mut self, bytes: &[u8], shown: &mut Vec<u8>) {
        parser_entered(bytes);
        for byte in bytes {
            self.take(*byte, shown);
        }
    }

    fn take(&mut self, byte: u8, shown: &mut Vec<u8>) {
        if self.partial.length > 0 {
            if self.partial.goes_on(byte) {
                self.partial.push(byte);
                if self.partial.is_complete() {
                    let character = std::mem::take(&mut self.partial);
                    self.character(character.as_bytes(), shown);
                }
                return;
            }
            let partial = std::mem::take(&mut self.partial);
            self.no_character(partial.as_bytes(), shown);
        }
        if Partial::begins(byte) {
            self.partial.push(byte);
        } else if byte < 0x80 {
            self.ascii(byte, shown);
        } else {
            self.no_character(&[byte], shown);
        }
    }

    /// A whole character of UTF-8 of two bytes or more.
    fn character(&mut self, bytes: &[u8], shown: &mut Vec<u8>) {
        if let [0xc2, control @ 0x80..=0x9f] = bytes {
            return self.control(*control, shown);
        }
        if !self.is_text() {
            return;
        }
        // The introducers of DCS, SOS, CSI, OSC, PM and APC, and DECID.
        let speaks = |byte: &u8| matches!(byte, 0x90 | 0x98 | 0x9a | 0x9b | 0x9d..=0x9f);
        match self.charset {
            Charset::Unknown if bytes.iter().any(speaks) => shown.push(b'?'),
            Charset::Utf8 | Charset::Unknown => shown.extend(bytes),
        }
    }

    /// Bytes above 0x7f that are none.
    fn no_character(&mut self, bytes: &[u8], shown: &mut Vec<u8>) {
        match self.charset {
            // Some terminals of UTF-8 take them for characters of Latin-1, and so for controls (rxvt-unicode).
            Charset::Utf8 => {
                if self.is_text() {
                    shown.extend("\u{fffd}".as_bytes());
                }
            }
            Charset::Unknown => {
                for byte in bytes {
                    if *byte < 0xa0 {
                        self.control(*byte, shown);
                    } else if self.is_text() {
                        shown.push(*byte);
                    }
                }
            }
        }
    }

    /// Whether a character that may not stand in a sequence is text; it ends the sequence if there is one.
    fn is_text(&mut self) -> bool {
        match &mut self.state {
            State::String { .. } => {
                self.within_string();
                false
            }
            State::Ground | State::Escape(_) | State::Csi(_) => {
                self.state = State::Ground;
                true
            }
        }
    }

    /// A control of 0x80 to 0x9f: ESC and a character of 0x40 to 0x5f say the same.
    fn control(&mut self, byte: u8, shown: &mut Vec<u8>) {
        self.state = State::Escape(Collected::default());
        self.ascii(byte - 0x40, shown);
    }

    fn ascii(&mut self, byte: u8, shown: &mut Vec<u8>) {
        match byte {
            ESC => self.state = State::Escape(Collected::default()),
            CAN | SUB => self.state = State::Ground,
            _ => match &mut self.state {
                State::Ground => text(byte, shown),
                State::String { .. } => self.string(byte, shown),
                // Terminals obey controls within sequences.
                State::Escape(_) | State::Csi(_) if byte < 0x20 => text(byte, shown),
                State::Escape(_) | State::Csi(_) if byte == DEL => {}
                State::Escape(inside) if byte < 0x30 => inside.push(byte),
                State::Csi(inside) if byte < 0x40 => inside.push(byte),
                State::Escape(inside) => {
                    let inside = std::mem::take(inside);
                    self.state = after_escape(&inside, byte);
                    if !inside.too_long && escape_may_pass(&inside.bytes, byte) {
                        shown.push(ESC);
                        shown.extend(inside.bytes);
                        shown.push(byte);
                    }
                }
                State::Csi(inside) => {
                    let inside = std::mem::take(inside);
                    self.state = State::Ground;
                    if !inside.too_long && csi_may_pass(&inside.bytes, byte) {
                        shown.extend([ESC, b'[']);
                        shown.extend(inside.bytes);
                        shown.push(byte);
                    }
                }
            },
        }
    }

    /// A byte below 0x80 within a string.
    fn string(&mut self, byte: u8, shown: &mut Vec<u8>) {
        let State::String { osc, length, ends_at } = &mut self.state else { return };
        match (byte, *length) {
            (BEL, _) => self.state = State::Ground,
            (b'\r' | b'\n', _) if *osc => {
                self.state = State::Ground;
                text(byte, shown);
            }
            // Linux's console: reset the palette, and set one of its colours by seven hex digits.
            (b'R', 0) if *osc => self.state = State::Ground,
            (b'P', 0) if *osc => {
                *ends_at = 8;
                self.within_string();
            }
            _ => self.within_string(),
        }
    }

    /// Another character of a string, which has an end in any case.
    fn within_string(&mut self) {
        if let State::String { length, ends_at, .. } = &mut self.state {
            *length += 1;
            if length >= ends_at {
                self.state = State::Ground;
            }
        }
    }
}

/// A byte below 0x80 in text. Of the controls, ENQ (which is answered), those that steer transmissions and those that
/// nobody shows are left out.
fn text(byte: u8, shown: &mut Vec<u8>) {
    if matches!(byte, b' '..=b'~' | BEL..=0x0f) {
        shown.push(byte);
    }
}

/// What begins with ESC and these bytes.
fn after_escape(inside: &Collected, last: u8) -> State {
    let string = |osc| State::String { osc, length: 0, ends_at: FILTERED_STRING };
    match last {
        _ if !inside.is_empty() => State::Ground,
        b'[' => State::Csi(Collected::default()),
        b']' => string(true),
        // DCS, SOS, PM, APC; and the title of screen and tmux.
        b'P' | b'X' | b'^' | b'_' | b'k' => string(false),
        _ => State::Ground,
    }
}

/// Sequences of ESC without parameters. `ESC Z` is answered, `ESC % @` changes how all that follows is read, and `ESC SP G` how a
/// terminal answers.
fn escape_may_pass(inside: &[u8], last: u8) -> bool {
    match inside {
        // Cursor kept and restored, lines, tabulators, reset; the keypad.
        [] => matches!(last, b'7' | b'8' | b'D' | b'E' | b'H' | b'M' | b'c' | b'=' | b'>'),
        // Character sets: ASCII, British, line drawing, those of ROMs, and of Linux's console.
        [b'('..=b'+'] => matches!(last, b'0' | b'1' | b'2' | b'A' | b'B' | b'K' | b'U'),
        _ => false,
    }
}

/// Sequences of `ESC [`, by what is between that and their last character.
fn csi_may_pass(inside: &[u8], last: u8) -> bool {
    if planted("queries-shown") && last == b'c' {
        return true;
    }
    match inside {
        [b'?', modes @ ..] => {
            let are_good = |modes: Vec<u32>| !modes.is_empty() && all(&modes, is_private_mode);
            matches!(last, b'h' | b'l') && numbers(modes).is_some_and(are_good)
        }
        // The shape of the cursor, and a reset of what a screen may be set to.
        [shape @ .., b' '] => last == b'q' && numbers(shape).is_some_and(|shape| shape.len() <= 1),
        b"!" => last == b'p',
        // Colours have parameters of their own, behind colons.
        _ if last == b'm' => inside.iter().all(|byte| matches!(byte, b'0'..=b'9' | b';' | b':')),
        _ => numbers(inside).is_some_and(|numbers| plain_may_pass(&numbers, last)),
    }
}

fn plain_may_pass(numbers: &[u32], last: u8) -> bool {
    match last {
        // Moving and tabulators; inserting, deleting, repeating, scrolling up.
        b'A'..=b'I' | b'Z' | b'`' | b'a' | b'd' | b'e' | b'f' | b'g' => numbers.len() <= 2,
        b'@' | b'L' | b'M' | b'P' | b'X' | b'b' | b'S' => numbers.len() <= 1,
        // With more numbers it is not scrolling down, but watching the mouse.
        b'T' => numbers.len() <= 1,
        // Erasing, but not what the terminal remembers of before.
        b'J' | b'K' => numbers.len() <= 1 && all(numbers, |what| what <= 2),
        // The region that scrolls.
        b'r' => numbers.len() <= 2,
        // The cursor kept and restored; with numbers these are other things.
        b's' | b'u' => numbers.is_empty(),
        // Inserting; the other modes are about the keyboard.
        b'h' | b'l' => !numbers.is_empty() && all(numbers, |mode| mode == 4),
        _ => false,
    }
}

/// Modes that are about what is shown; or about the cursor keys, the keypad and pasted text, as a program that still runs has
/// set them. Those that have a terminal report the mouse, its focus, size or colours are not among them.
fn is_private_mode(mode: u32) -> bool {
    matches!(mode, 1 | 5 | 6 | 7 | 12 | 25 | 47 | 66 | 1047 | 1048 | 1049 | 2004)
}

/// Numbers between semicolons, each of which may be missing, and is 0 then. A terminal may do something as often as one
/// says, so they are not large.
fn numbers(text: &[u8]) -> Option<Vec<u32>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0_u32, |number, digit| {
            let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
            Some(number * 10 + digit).filter(|number| *number <= 9999)
        })
    };
    text.split(|byte| *byte == b';').map(number).collect()
}

fn all(numbers: &[u32], is_good: impl Fn(u32) -> bool) -> bool {
    numbers.iter().all(|number| is_good(*number))
}

impl Collected {
    fn push(&mut self, byte: u8) {
        if self.bytes.len() < FILTERED_SEQUENCE {
            self.bytes.push(byte);
        } else {
            self.too_long = true;
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Partial {
    fn begins(byte: u8) -> bool {
        matches!(byte, 0xc2..=0xf4)
    }

    /// Whether this byte may stand next: the Unicode Standard, table 3-7, so that no character has a second spelling.
    fn goes_on(&self, byte: u8) -> bool {
        match self.as_bytes() {
            [0xe0] => matches!(byte, 0xa0..=0xbf),
            [0xed] => matches!(byte, 0x80..=0x9f),
            [0xf0] => matches!(byte, 0x90..=0xbf),
            [0xf4] => matches!(byte, 0x80..=0x8f),
            _ => matches!(byte, 0x80..=0xbf),
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn is_complete(&self) -> bool {
        let expected = match self.bytes[0] {
            0xf0.. => 4,
            0xe0.. => 3,
            _ => 2,
        };
        self.length >= expected
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests;
