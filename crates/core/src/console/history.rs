//! What a serial line has said: the last bytes of it, at positions that count from the first byte ever. Whoever reads holds a
//! position of their own, so that the slow and the quick read the same bytes, kept once, and nobody who is slow holds a line up.

use std::collections::VecDeque;

/// How far from where a replay would begin the beginning of a line is looked for. A line longer than that is begun in its middle.
const LINE: usize = 4 * 1024;

/// How far back an escape sequence may have begun that goes on where a replay would begin: longer ones are not those of terminals.
const SEQUENCE: usize = 32;

/// The last bytes of a line, and where they are in all that it has ever said.
#[derive(Clone, Debug)]
pub struct History {
    bytes: VecDeque<u8>,
    /// The position of the first of them.
    start: u64,
    limit: usize,
}

/// What there is to read at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage<'a> {
    /// So many bytes from the position on are not kept any more.
    pub lost: u64,
    /// The bytes behind those, in two pieces.
    pub pieces: [&'a [u8]; 2],
}

impl Passage<'_> {
    /// How many bytes there are to read.
    pub const fn len(&self) -> usize {
        let [first, second] = self.pieces;
        first.len() + second.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How far the reader is further when they have taken all of this.
    pub const fn advance(&self) -> u64 {
        self.lost + self.len() as u64
    }
}

impl History {
    /// Nothing said yet. Memory is taken as it is needed, up to `limit` bytes.
    pub const fn new(limit: usize) -> Self {
        Self { bytes: VecDeque::new(), start: 0, limit }
    }

    /// Where the next byte of the line will be.
    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Takes what the line says. The oldest bytes make room for it.
    pub fn push(&mut self, said: &[u8]) {
        let kept = said.get(said.len().saturating_sub(self.limit)..).unwrap_or_default();
        let skipped = said.len() - kept.len();
        let superfluous = (self.bytes.len() + kept.len()).saturating_sub(self.limit);
        self.bytes.drain(..superfluous.min(self.bytes.len()));
        self.start += (superfluous + skipped) as u64;
        self.make_room(kept.len());
        self.bytes.extend(kept);
    }

    /// Doubles, as a vector does, but never beyond the limit.
    fn make_room(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let target = self.bytes.capacity().saturating_mul(2).min(self.limit).max(needed);
            self.bytes.reserve_exact(target - self.bytes.len());
        }
    }

    /// What was said from a position on, at most `most` bytes. Of a position that was never reached there is nothing to read.
    pub fn read_from(&self, position: u64, most: usize) -> Passage<'_> {
        let lost = self.start.saturating_sub(position);
        let from = self.offset(position.saturating_add(lost));
        let until = from.saturating_add(most).min(self.bytes.len());
        let (first, second) = self.bytes.as_slices();
        let piece = |piece: &'_ [u8], skipped: usize| {
            let cut = |at: usize| at.saturating_sub(skipped).min(piece.len());
            (cut(from), cut(until))
        };
        let ((a, b), (c, d)) = (piece(first, 0), piece(second, first.len()));
        let pieces = [first.get(a..b).unwrap_or_default(), second.get(c..d).unwrap_or_default()];
        Passage { lost, pieces }
    }

    /// Where to begin, to read at most the last `most` bytes in a way that a terminal understands: at the beginning of a line, or
    /// where that is too far off, at least not inside a character of UTF-8 or a control sequence.
    pub fn tail(&self, most: usize) -> u64 {
        let from = self.bytes.len().saturating_sub(most);
        if from == 0 && self.start == 0 {
            return 0;
        }
        self.start + self.beginning(from).min(self.bytes.len()) as u64
    }

    /// The first offset from `from` on at which somebody can begin to read.
    fn beginning(&self, from: usize) -> usize {
        let at = |offset: usize| self.bytes.get(offset).copied();
        if from.checked_sub(1).and_then(at) == Some(b'\n') {
            return from;
        }
        let newline = (from..self.bytes.len()).take(LINE).find(|offset| at(*offset) == Some(b'\n'));
        if let Some(newline) = newline {
            return newline + 1;
        }
        if let Some(behind) = self.sequence_over(from) {
            return behind;
        }
        let is_continuation = |offset: &usize| at(*offset).is_some_and(|byte| byte & 0xc0 == 0x80);
        from + (from..self.bytes.len()).take(3).take_while(is_continuation).count()
    }

    /// The end of the control sequence (ECMA-48: `ESC [`, parameters, a final byte) that goes on at an offset, if there is one.
    fn sequence_over(&self, from: usize) -> Option<usize> {
        let at = |offset: usize| self.bytes.get(offset).copied();
        let escape = (from.saturating_sub(SEQUENCE)..from).rev().find(|offset| at(*offset) == Some(0x1b))?;
        if escape + 1 == from {
            // The escape is cut off: what follows it is not text, either.
            return (at(from) != Some(b'[')).then_some(from + 1).or_else(|| self.final_byte(from + 1));
        }
        if at(escape + 1) != Some(b'[') {
            return None;
        }
        self.final_byte(escape + 2).filter(|behind| *behind > from)
    }

    /// Behind the final byte of a control sequence whose parameters begin at an offset.
    fn final_byte(&self, parameters: usize) -> Option<usize> {
        let mut rest = (parameters..self.bytes.len()).take(2 * SEQUENCE);
        let end = rest.find(|offset| !matches!(self.bytes.get(*offset), Some(0x20..=0x3f)))?;
        Some(end + 1)
    }

    fn offset(&self, position: u64) -> usize {
        usize::try_from(position - self.start).unwrap_or(usize::MAX).min(self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(history: &History, position: u64, most: usize) -> (u64, Vec<u8>) {
        let passage = history.read_from(position, most);
        (passage.lost, passage.pieces.concat())
    }

    fn said(text: &[u8], limit: usize) -> History {
        let mut history = History::new(limit);
        history.push(text);
        history
    }

    #[test]
    fn the_oldest_bytes_make_room_and_their_readers_are_told() {
        let mut history = History::new(4);
        history.push(b"abc");
        assert_eq!(read(&history, 0, 10), (0, b"abc".to_vec()));
        history.push(b"def");
        assert_eq!(history.end(), 6);
        assert_eq!(read(&history, 0, 10), (2, b"cdef".to_vec()));
        assert_eq!(read(&history, 3, 2), (0, b"de".to_vec()));
        assert_eq!(read(&history, 6, 10), (0, vec![]));
        // More at once than is kept at all.
        history.push(b"0123456789");
        assert_eq!(history.end(), 16);
        assert_eq!(read(&history, 6, 10), (6, b"6789".to_vec()));
        assert_eq!(history.read_from(6, 2).advance(), 8);
        // Of the future there is nothing.
        assert_eq!(read(&history, 100, 10), (0, vec![]));
    }

    #[test]
    fn memory_is_taken_as_it_is_needed_and_no_more_than_allowed() {
        let mut history = History::new(100_000);
        assert_eq!(history.bytes.capacity(), 0);
        history.push(&[0; 100]);
        assert!(history.bytes.capacity() < 1000);
        for _ in 0..5000 {
            history.push(&[0; 333]);
        }
        assert!(history.bytes.capacity() <= 100_000);
    }

    #[test]
    fn a_replay_begins_where_a_terminal_understands_it() {
        for (text, most, expected) in [
            // Everything there is.
            ("one\ntwo\n", 100, "one\ntwo\n"),
            ("one\ntwo\n", 8, "one\ntwo\n"),
            // Not in the middle of a line, but at the beginning of one it is good already.
            ("one\ntwo\n", 6, "two\n"),
            ("one\ntwo\n", 4, "two\n"),
            ("one\ntwo\n", 0, ""),
            // Where there are no lines, characters and sequences stay whole.
            ("aé€", 5, "é€"),
            ("aé€", 4, "€"),
            ("aé€", 1, ""),
            ("x\x1b[1;31mred", 9, "red"),
            ("x\x1b[1;31mred", 8, "red"),
            ("x\x1b[1;31mred", 10, "\x1b[1;31mred"),
            ("x\x1b[1;31mred", 4, "red"),
            ("x\x1b[1;31mred", 3, "red"),
            ("x\x1b[1;31mred", 2, "ed"),
            ("x\x1bcred", 4, "red"),
        ] {
            let history = said(text.as_bytes(), 1000);
            let (lost, tail) = read(&history, history.tail(most), 1000);
            assert_eq!((lost, String::from_utf8_lossy(&tail).as_ref()), (0, expected), "{text:?} {most}");
        }
        // The first byte that is kept is a cut, too, unless it is the first there ever was.
        let history = said(b"one\ntwo\n", 6);
        assert_eq!(read(&history, history.tail(100), 100).1, b"two\n");
        // Of a screen without lines something is shown all the same.
        let history = said(&[b'x'; 10_000], 8000);
        assert_eq!(history.tail(6000), 4000);
    }

    proptest! {
        /// Whatever is said and read in whatever pieces: each reader gets what a plain list of all bytes has, or is told how much
        /// of it is missing.
        #[test]
        fn readers_get_what_was_said(
            limit in 0_usize..40,
            steps in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..50), 0_usize..30), 0..40),
        ) {
            let (mut history, mut all, mut cursor) = (History::new(limit), Vec::new(), 0_u64);
            for (text, most) in steps {
                history.push(&text);
                all.extend_from_slice(&text);
                prop_assert_eq!(history.end(), all.len() as u64);
                let passage = history.read_from(cursor, most);
                let oldest = all.len().saturating_sub(limit);
                let from = usize::try_from(cursor).unwrap();
                prop_assert_eq!(passage.lost, oldest.saturating_sub(from) as u64);
                let from = from.max(oldest);
                let until = (from + most).min(all.len());
                prop_assert_eq!(passage.pieces.concat(), all[from..until].to_vec());
                cursor += passage.advance();
                let tail = history.tail(most);
                prop_assert!(tail <= history.end() && history.end() - tail <= most as u64);
                prop_assert!(tail >= oldest as u64);
            }
        }
    }
}
