//! What a person types to the console itself, in the midst of what is for the line: `Ctrl-]` and one key.
//!
//! A line cannot be broken (BREAK) by any byte, and the SSH library does not hear the request that OpenSSH's `~B` makes.

/// `Ctrl-]`, as in telnet: keyboards everywhere have it, and programs hardly use it.
const ESCAPE: u8 = 0x1d;

const ALONE: &[u8] = &[ESCAPE];

/// Takes what a person types, in pieces of any length.
#[derive(Clone, Debug, Default)]
pub struct InBand(State);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// What comes is for the line.
    #[default]
    Line,
    /// Behind `Ctrl-]`.
    Escaped,
    /// The person has left.
    Left,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InBandAction<'a> {
    /// Give these bytes, of which there is one at least, to the line.
    Bytes(&'a [u8]),
    /// Send a BREAK.
    Break,
    /// End the session. It is the last action.
    Leave,
    /// Tell the person which keys there are.
    Help,
}

impl InBand {
    /// What [`InBandAction::Help`] tells.
    pub const HELP: &'static str =
        "\r\nCtrl-] .  leaves.  Ctrl-] b  sends a BREAK.  Ctrl-] Ctrl-]  sends Ctrl-].\r\n";

    /// At the beginning of a session.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what was typed next. A `Ctrl-]` waits for the key behind it; if that means nothing, both are for the line.
    pub fn take<'a>(&mut self, typed: &'a [u8]) -> Vec<InBandAction<'a>> {
        let mut actions = Vec::new();
        let mut rest = typed;
        while let Some((key, behind)) = rest.split_first() {
            match self.0 {
                State::Left => break,
                State::Line => {
                    let length = rest.iter().position(|byte| *byte == ESCAPE).unwrap_or(rest.len());
                    let (line, escape) = rest.split_at(length);
                    if !line.is_empty() {
                        actions.push(InBandAction::Bytes(line));
                    }
                    if let Some((_, behind)) = escape.split_first() {
                        (self.0, rest) = (State::Escaped, behind);
                    } else {
                        rest = escape;
                    }
                }
                State::Escaped => {
                    (self.0, rest) = (State::Line, behind);
                    match key {
                        b'b' => actions.push(InBandAction::Break),
                        b'?' => actions.push(InBandAction::Help),
                        b'.' => {
                            self.0 = State::Left;
                            actions.push(InBandAction::Leave);
                        }
                        &ESCAPE => actions.push(InBandAction::Bytes(ALONE)),
                        _ => {
                            actions.push(InBandAction::Bytes(ALONE));
                            // The key itself is the beginning of what is for the line.
                            rest = typed.get(typed.len() - behind.len() - 1..).unwrap_or(behind);
                        }
                    }
                }
            }
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What was typed as actions, with neighbouring bytes together.
    #[derive(Clone, Debug, PartialEq)]
    enum Action {
        Bytes(Vec<u8>),
        Other(InBandAction<'static>),
    }

    fn typed(pieces: &[&[u8]]) -> Vec<Action> {
        let mut in_band = InBand::new();
        let mut actions = Vec::new();
        for piece in pieces {
            for action in in_band.take(piece) {
                let other = match action {
                    InBandAction::Bytes(bytes) => {
                        assert!(!bytes.is_empty());
                        if let Some(Action::Bytes(before)) = actions.last_mut() {
                            before.extend(bytes);
                        } else {
                            actions.push(Action::Bytes(bytes.to_vec()));
                        }
                        continue;
                    }
                    InBandAction::Break => InBandAction::Break,
                    InBandAction::Leave => InBandAction::Leave,
                    InBandAction::Help => InBandAction::Help,
                };
                actions.push(Action::Other(other));
            }
        }
        actions
    }

    #[test]
    fn what_is_typed() {
        use InBandAction::{Break, Help, Leave};
        let bytes = |text: &str| Action::Bytes(text.as_bytes().to_vec());
        for (input, expected) in [
            ("", vec![]),
            ("ls\r", vec![bytes("ls\r")]),
            ("a\x1dbc", vec![bytes("a"), Action::Other(Break), bytes("c")]),
            ("\x1d?", vec![Action::Other(Help)]),
            ("\x1d\x1d", vec![bytes("\x1d")]),
            ("\x1d\x1db", vec![bytes("\x1db")]),
            ("\x1d\x1d\x1db", vec![bytes("\x1d"), Action::Other(Break)]),
            // What means nothing is passed on together with Ctrl-].
            ("\x1dxy", vec![bytes("\x1dxy")]),
            ("\x1dB\x1d\r", vec![bytes("\x1dB\x1d\r")]),
            ("\x1d\0\x1d\u{ff}", vec![bytes("\x1d\0\x1d\u{ff}")]),
            ("a\x1d", vec![bytes("a")]),
            // Nothing that was typed behind it reaches the line.
            ("a\x1d.rm\x1db", vec![bytes("a"), Action::Other(Leave)]),
            ("~.", vec![bytes("~.")]),
        ] {
            assert_eq!(typed(&[input.as_bytes()]), expected, "{input:?}");
        }
        // Nor what is typed later.
        assert_eq!(typed(&[b"\x1d", b".", b"x", b"\x1db"]), [Action::Other(Leave)]);
    }

    proptest! {
        #[test]
        fn typing_in_pieces_is_typing_the_whole(
            keys in prop::collection::vec(prop::sample::select(&b"\x1d\x1d\x1db.?ax\r"[..]), 0..40),
            cuts in prop::collection::vec(0..10_usize, 0..10),
        ) {
            let mut pieces = Vec::new();
            let mut rest = &keys[..];
            for cut in cuts {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            pieces.push(rest);
            prop_assert_eq!(typed(&pieces), typed(&[&keys]));
        }

        /// With each Ctrl-] typed twice, all bytes come to the line as they are, and nothing else happens.
        #[test]
        fn every_byte_can_be_typed(bytes: Vec<u8>) {
            let doubled: Vec<u8> =
                bytes.iter().flat_map(|byte| if *byte == ESCAPE { vec![ESCAPE; 2] } else { vec![*byte] }).collect();
            let expected = if bytes.is_empty() { vec![] } else { vec![Action::Bytes(bytes)] };
            prop_assert_eq!(typed(&[&doubled]), expected);
        }
    }
}
