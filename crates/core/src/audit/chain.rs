//! What ties each line of the log to all lines before it, so that nobody changes one unseen.

use super::line::Line;
use aws_lc_rs::digest::{Context, SHA256};
use instance_connect_planted::{parser_entered, planted};
use std::fmt;
use std::str::FromStr;

/// What stands before the value in a line, and behind it. It is the last member of each line.
const MEMBER: &[u8] = br#","chain":""#;
const AFTER_VALUE: &[u8] = br#""}"#;

/// The value of a log up to some line: whoever keeps it elsewhere can tell later whether these lines are as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainValue([u8; 32]);

/// The text is not a chain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chain value is 64 hexadecimal digits, in lower case")]
pub struct NotAChainValue;

impl fmt::Display for ChainValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for ChainValue {
    type Err = NotAChainValue;

    /// Takes exactly what `Display` writes.
    fn from_str(text: &str) -> Result<Self, NotAChainValue> {
        Self::parse(text.as_bytes()).ok_or(NotAChainValue)
    }
}

impl ChainValue {
    /// Of a log without lines.
    const BEFORE_THE_FIRST_LINE: Self = Self([0; 32]);

    fn parse(text: &[u8]) -> Option<Self> {
        let mut value = [0; 32];
        let (pairs, []) = text.as_chunks() else { return None };
        if pairs.len() != value.len() {
            return None;
        }
        for (byte, [high, low]) in value.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(value))
    }
}

const fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// A log's chain, as far as it has been written or read. The value of a line is the SHA-256 of the value before it and
/// of the line's bytes, without the member that states it and without the line feed (docs/audit.md).
#[derive(Clone, Copy, Debug)]
pub struct Chain(ChainValue);

/// How a line that was read is tied to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// As it was written, behind the lines that it was written behind.
    Intact,
    /// It states no value, since it was cut off when it was written. Whether it is as it was the next line says.
    Unstated,
    /// It was changed, or what is before it is not what was.
    Broken,
}

impl Default for Chain {
    /// At the beginning of a log.
    fn default() -> Self {
        Self(ChainValue::BEFORE_THE_FIRST_LINE)
    }
}

impl Chain {
    /// Behind the line that states this value.
    pub const fn after(value: ChainValue) -> Self {
        Self(value)
    }

    /// The value up to here.
    pub const fn value(&self) -> ChainValue {
        self.0
    }

    /// How long a line is once it is tied, in bytes.
    pub fn length_of(line: &Line) -> usize {
        line.as_bytes().len() + MEMBER.len() + 2 * size_of::<ChainValue>() + 1
    }

    /// Writes a line behind what is in `log`, and ties it to what came before.
    pub fn append(&mut self, line: &Line, log: &mut Vec<u8>) {
        let members = line.as_bytes().strip_suffix(b"}\n").unwrap_or_default();
        self.0 = self.next(&[members, b"}"]);
        log.extend_from_slice(members);
        log.extend_from_slice(MEMBER);
        for byte in self.0.0 {
            log.extend(
                [byte >> 4, byte & 0xf]
                    .map(|digit| if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }),
            );
        }
        log.extend_from_slice(AFTER_VALUE);
        log.push(b'\n');
    }

    /// Reads the next line, with or without its line feed. Behind one that is broken it goes on from what that one states.
    pub fn read(&mut self, line: &[u8]) -> Tie {
        parser_entered(line);
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let Some((members, stated)) = stated(line) else {
            self.0 = self.next(&[line]);
            return Tie::Unstated;
        };
        let follows = self.next(&[members, b"}"]) == stated || planted("chain-ignored");
        self.0 = stated;
        if follows { Tie::Intact } else { Tie::Broken }
    }

    fn next(&self, line: &[&[u8]]) -> ChainValue {
        let mut digest = Context::new(&SHA256);
        digest.update(&self.0.0);
        line.iter().for_each(|part| digest.update(part));
        let mut value = [0; 32];
        value.iter_mut().zip(digest.finish().as_ref()).for_each(|(to, from)| *to = *from);
        ChainValue(value)
    }
}

/// A line's members before its last one, and the value that the last one states.
fn stated(line: &[u8]) -> Option<(&[u8], ChainValue)> {
    let line = line.strip_suffix(AFTER_VALUE)?;
    let (members, value) = line.split_at_checked(line.len().checked_sub(64)?)?;
    Some((members.strip_suffix(MEMBER)?, ChainValue::parse(value)?))
}

#[cfg(test)]
mod tests {
    use super::super::line::Members;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn line(number: usize) -> Line {
        Members::of(&json!({ "number": number })).close()
    }

    fn log(lines: usize) -> (Vec<u8>, Chain) {
        let (mut log, mut chain) = (Vec::new(), Chain::default());
        (0..lines).for_each(|number| chain.append(&line(number), &mut log));
        (log, chain)
    }

    /// The ties of all lines, and the value up to the last.
    fn read(log: &[u8]) -> (Vec<Tie>, ChainValue) {
        let mut chain = Chain::default();
        let ties = log.split_inclusive(|byte| *byte == b'\n').map(|line| chain.read(line)).collect();
        (ties, chain.value())
    }

    #[test]
    fn a_line_is_tied_like_this() {
        let (log, chain) = log(2);
        // SHA-256 of 32 zero bytes and `{"number":0}`.
        let expected =
            r#"{"number":0,"chain":"b04afd19462f8f557c7a2f8705ba8ec151d9213f57a095dc2b3558d44a837db9"}"#;
        assert_eq!(std::str::from_utf8(&log).unwrap().lines().next(), Some(expected));
        assert_eq!(read(&log), (vec![Tie::Intact; 2], chain.value()));
        let text = chain.value().to_string();
        assert_eq!(text.parse(), Ok(chain.value()));
        for text in ["", &text[1..], &text.to_uppercase(), &format!("{text}0"), &text.replace(|_| true, "g")]
        {
            assert_eq!(text.parse::<ChainValue>(), Err(NotAChainValue), "{text}");
        }
    }

    #[test]
    fn a_line_that_was_cut_off_is_part_of_the_chain() {
        let (whole, _) = log(3);
        for cut in 1..whole.len() {
            let mut torn = whole[..cut].to_vec();
            if torn.last() != Some(&b'\n') {
                torn.push(b'\n');
            }
            // What the next start does.
            let mut chain = Chain::default();
            torn.split_inclusive(|byte| *byte == b'\n').for_each(|line| _ = chain.read(line));
            chain.append(&line(3), &mut torn);
            let (ties, _) = read(&torn);
            assert!(!ties.contains(&Tie::Broken), "cut at {cut}");
            // Whoever changes what is left of it is found out.
            let lines: Vec<&[u8]> = torn.split_inclusive(|byte| *byte == b'\n').collect();
            let position = lines[..lines.len() - 2].concat().len();
            torn[position] ^= 1;
            let (ties, _) = read(&torn);
            assert!(ties.contains(&Tie::Broken), "cut at {cut}");
        }
    }

    proptest! {
        /// Edited, left out, repeated, moved: the line where it was done or the one behind it says so, or the last value.
        #[test]
        fn whatever_is_changed_breaks_the_chain(at in 0usize..20, with in 0usize..20, position in 0usize..60, byte in b' '..=b'~') {
            let (log, chain) = log(20);
            let lines: Vec<&[u8]> = log.split_inclusive(|byte| *byte == b'\n').collect();
            let edited = { let mut line = lines[at].to_vec(); line[position] = byte; line };
            let swapped = { let mut lines = lines.clone(); lines.swap(at, with); lines };
            let changed: [Vec<u8>; 4] = [
                [&lines[..at], &[edited.as_slice()], &lines[at + 1..]].concat().concat(),
                [&lines[..at], &lines[at + 1..]].concat().concat(),
                [&lines[..at], &[lines[with]], &lines[at..]].concat().concat(),
                swapped.concat(),
            ];
            for changed in changed {
                let (ties, value) = read(&changed);
                let is_whole = !ties.contains(&Tie::Broken) && value == chain.value();
                prop_assert_eq!(is_whole, changed == log, "{}", String::from_utf8_lossy(&changed));
            }
        }

        #[test]
        fn the_chain_reader_never_panics(line: Vec<u8>) {
            Chain::default().read(&line);
        }
    }
}
