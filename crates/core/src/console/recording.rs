//! A recording of a session, as asciicast v2: a header and then one line for each piece of output, which `asciinema play` shows.
//!
//! The format is that of docs.asciinema.org, "asciicast v2". What is recorded is what the line said, unfiltered: it is to be
//! evidence. So play it in a terminal of its own.

use super::address::ConsoleAddress;
use super::limits;
use super::sessions::SessionId;
use instance_connect_document::UnixSeconds;
use serde_json::json;
use std::time::Duration;

/// What a recording begins with.
#[derive(Clone, Debug)]
pub struct RecordingHeader<'a> {
    /// The line.
    pub address: &'a ConsoleAddress,
    /// The session.
    pub session: &'a SessionId,
    /// The ARN of whose it is.
    pub caller: &'a str,
    /// When it began.
    pub at: UnixSeconds,
}

/// What of a session is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recorded {
    /// What the line said.
    #[default]
    Output,
    /// And what was typed, passwords too.
    OutputAndInput,
}

/// Writes a recording: times are those since the session began, and what is to be written comes back as lines of text.
#[derive(Clone, Debug)]
pub struct Recording {
    recorded: Recorded,
    /// The last time that was written, so that none is before it.
    last: Duration,
    output: Characters,
    input: Characters,
    /// Bytes that may still be written.
    left: usize,
}

/// Bytes as characters: one that is not complete waits for the rest of it.
#[derive(Clone, Debug, Default)]
struct Characters {
    partial: Vec<u8>,
}

impl Recording {
    /// Begins a recording; its first line comes back.
    pub fn begin(header: &RecordingHeader<'_>, recorded: Recorded) -> (Self, String) {
        // A serial line has no size, and most of what is on one takes this for granted.
        let line = json!({
            "version": 2,
            "width": 80,
            "height": 24,
            "timestamp": header.at.0,
            "title": format!("{} by {}", header.address, header.caller),
            "instance_connect": {
                "address": header.address.to_string(),
                "instance": header.address.instance().as_str(),
                "session": header.session.as_str(),
                "caller": header.caller,
            },
        });
        let (output, input) = Default::default();
        let recording = Self { recorded, last: Duration::ZERO, output, input, left: limits::RECORDING };
        (recording, format!("{line}\n"))
    }

    /// The line has said this.
    pub fn output(&mut self, since_begin: Duration, bytes: &[u8]) -> String {
        let text = self.output.take(bytes);
        self.event(since_begin, "o", &text)
    }

    /// This was typed.
    pub fn input(&mut self, since_begin: Duration, bytes: &[u8]) -> String {
        match self.recorded {
            Recorded::Output => String::new(),
            Recorded::OutputAndInput => {
                let text = self.input.take(bytes);
                self.event(since_begin, "i", &text)
            }
        }
    }

    /// Something has happened that is no byte, such as a BREAK.
    pub fn marker(&mut self, since_begin: Duration, text: &str) -> String {
        self.event(since_begin, "m", text)
    }

    /// The session is over: what has not become a character yet.
    pub fn end(mut self, since_begin: Duration) -> String {
        let (output, input) = (self.output.end(), self.input.end());
        self.event(since_begin, "o", &output) + &self.event(since_begin, "i", &input)
    }

    /// Whether nothing more is written, since the recording has become as long as one may be. Its last line says so.
    pub fn is_full(&self) -> bool {
        self.left == 0
    }

    fn event(&mut self, since_begin: Duration, code: &str, text: &str) -> String {
        if text.is_empty() || self.is_full() {
            return String::new();
        }
        self.last = self.last.max(since_begin);
        let line = self.line(code, text);
        if let Some(left) = self.left.checked_sub(line.len()).filter(|left| *left > 0) {
            self.left = left;
            return line;
        }
        self.left = 0;
        self.line("m", "The recording has become as long as one may be, and ends here.")
    }

    /// An event of now. The time is written with six digits behind the point, from whole numbers.
    fn line(&self, code: &str, text: &str) -> String {
        let (seconds, micros) = (self.last.as_secs(), self.last.subsec_micros());
        format!("[{seconds}.{micros:06}, \"{code}\", {}]\n", json!(text))
    }
}

impl Characters {
    /// These bytes as text, behind those that waited. What is no character is one that stands for it.
    fn take(&mut self, bytes: &[u8]) -> String {
        self.partial.extend(bytes);
        let bytes = std::mem::take(&mut self.partial);
        let mut text = String::with_capacity(bytes.len());
        let mut rest = &bytes[..];
        while let Err(error) = std::str::from_utf8(rest) {
            let (valid, invalid) = rest.split_at(error.valid_up_to());
            text.push_str(&String::from_utf8_lossy(valid));
            let Some(length) = error.error_len() else {
                self.partial = invalid.to_vec();
                return text;
            };
            text.push(char::REPLACEMENT_CHARACTER);
            rest = invalid.get(length..).unwrap_or(&[]);
        }
        text.push_str(&String::from_utf8_lossy(rest));
        text
    }

    fn end(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.partial)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    const SECOND: Duration = Duration::from_secs(1);

    fn begin(recorded: Recorded) -> (Recording, String) {
        let address = "i-0123456789abcdef0.port0".parse().unwrap();
        let session = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap();
        let caller = "arn:aws:iam::111122223333:user/alice";
        let at = UnixSeconds(1_928_541_906);
        Recording::begin(&RecordingHeader { address: &address, session: &session, caller, at }, recorded)
    }

    #[test]
    fn a_recording_says_whose_it_is() {
        let (_, header) = begin(Recorded::Output);
        assert!(header.ends_with("}\n") && header.lines().count() == 1);
        let expected = json!({
            "version": 2, "width": 80, "height": 24, "timestamp": 1_928_541_906,
            "title": "i-0123456789abcdef0.port0 by arn:aws:iam::111122223333:user/alice",
            "instance_connect": {
                "address": "i-0123456789abcdef0.port0",
                "instance": "i-0123456789abcdef0",
                "session": "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11",
                "caller": "arn:aws:iam::111122223333:user/alice",
            },
        });
        assert_eq!(serde_json::from_str::<Value>(&header).unwrap(), expected);
    }

    #[test]
    fn what_is_recorded_is_a_line_for_each_piece() {
        let (mut recording, _) = begin(Recorded::OutputAndInput);
        let micros = Duration::from_micros;
        assert_eq!(recording.output(Duration::ZERO, b"login: "), "[0.000000, \"o\", \"login: \"]\n");
        assert_eq!(recording.input(micros(1), b"root\r"), "[0.000001, \"i\", \"root\\r\"]\n");
        assert_eq!(recording.marker(micros(100_000), "BREAK"), "[0.100000, \"m\", \"BREAK\"]\n");
        let escaped = recording.output(micros(3_600_000_001), b"\x1b[2J\"\\\0\x7f\r\n");
        assert_eq!(escaped, "[3600.000001, \"o\", \"\\u001b[2J\\\"\\\\\\u0000\u{7f}\\r\\n\"]\n");
        // A clock that goes back goes on where it was, and nothing is no event.
        assert_eq!(recording.output(micros(5), b"x"), "[3600.000001, \"o\", \"x\"]\n");
        assert_eq!(recording.output(micros(5), b""), "");
        assert!(recording.output(Duration::MAX, b"x").starts_with("[18446744073709551615.999999, "));
    }

    #[test]
    fn what_is_typed_is_recorded_only_where_that_is_set() {
        let (mut recording, _) = begin(Recorded::default());
        assert_eq!(recording.input(SECOND, b"hunter2\r"), "");
        assert_eq!(recording.input(SECOND, b"\xc3"), "");
        assert_eq!(recording.end(SECOND), "");
    }

    #[test]
    fn characters_stay_whole_and_what_is_none_is_replaced() {
        let (mut recording, _) = begin(Recorded::OutputAndInput);
        let texts = |recording: &mut Recording, pieces: &[&[u8]]| {
            let lines: String = pieces.iter().map(|piece| recording.output(SECOND, piece)).collect();
            let events =
                lines.lines().map(|line| serde_json::from_str::<(f64, String, String)>(line).unwrap());
            events.map(|(_, _, text)| text).collect::<Vec<_>>()
        };
        assert_eq!(texts(&mut recording, &[b"a\xe2", b"\x94", b"\x80b"]), ["a", "─b"]);
        assert_eq!(
            texts(&mut recording, &[b"\xe2", b"x\xff\xc0\xaf", b"\xed\xa0\x80"]).concat(),
            "�x���\u{fffd}��"
        );
        // What is typed has nothing to do with it.
        recording.output(SECOND, b"\xc3");
        assert_eq!(recording.input(SECOND, b"\xa9"), "[1.000000, \"i\", \"\u{fffd}\"]\n");
        assert_eq!(texts(&mut recording, &[b"\xa9"]), ["é"]);
        recording.output(SECOND, b"\xf0\x9f");
        recording.input(SECOND, b"\xf0\x9f");
        let end = "[2.000000, \"o\", \"\u{fffd}\"]\n[2.000000, \"i\", \"\u{fffd}\"]\n";
        assert_eq!(recording.end(2 * SECOND), end);
    }

    #[test]
    fn a_recording_is_only_so_long() {
        let (mut recording, _) = begin(Recorded::Output);
        assert_eq!(recording.left, limits::RECORDING);
        recording.left = 100_000;
        let mut written = 0;
        let last = loop {
            let line = recording.output(SECOND, &[b'x'; 1000]);
            written += line.len();
            assert!(written <= 100_000 + 200);
            if recording.is_full() {
                break line;
            }
        };
        assert!(written > 98_000);
        assert!(last.contains("ends here") && serde_json::from_str::<Value>(&last).is_ok(), "{last}");
        assert_eq!(recording.output(SECOND, b"x") + &recording.marker(SECOND, "BREAK"), "");
    }

    proptest! {
        /// However it comes in pieces, the text is that of the whole, and each line is an event of its own.
        #[test]
        fn recording_never_panics(pieces: Vec<(u32, Vec<u8>)>) {
            let (mut recording, _) = begin(Recorded::Output);
            let mut lines = String::new();
            for (time, piece) in &pieces {
                lines += &recording.output(Duration::from_micros((*time).into()), piece);
            }
            lines += &recording.end(Duration::MAX);
            let (mut text, mut last) = (String::new(), 0.0);
            for line in lines.lines() {
                let (time, code, piece): (f64, String, String) = serde_json::from_str(line).unwrap();
                prop_assert!(time >= last && code == "o" && !piece.is_empty());
                last = time;
                text += &piece;
            }
            let whole: Vec<u8> = pieces.into_iter().flat_map(|(_, piece)| piece).collect();
            prop_assert_eq!(text, String::from_utf8_lossy(&whole));
        }
    }
}
