//! One line of the log.

use crate::limits;
use instance_connect_planted::planted;
use serde::Serialize;
use std::fmt::Write as _;

/// What most lines, and most parts of one, fit into without growing.
const LINE_BYTES: usize = 1536;
const PART_BYTES: usize = 512;

/// More than the tie takes that the log adds to each line.
const TIE_BYTES: usize = 256;

/// One line of the audit log: a JSON object in printable ASCII, and a line feed. It is made from structs only, so
/// whatever text is in it cannot begin another line, and says nothing to a terminal that shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line(Vec<u8>);

impl Line {
    /// The line, with its line feed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it would be longer, with its tie to the line before, than a line that is read back.
    pub fn is_too_long(&self) -> bool {
        self.0.len().saturating_add(TIE_BYTES) as u64 > limits::AUDIT_LINE
    }

    /// The line, with its line feed.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// An object whose members are being written: it has not been closed yet.
#[derive(Debug)]
pub(super) struct Members(Vec<u8>);

impl Members {
    /// An object that begins with the members of a struct.
    pub(super) fn of(part: &impl Serialize) -> Self {
        let mut json = json(part);
        json.pop();
        Self(json)
    }

    /// Another object that begins with the same members.
    pub(super) fn copy(&self) -> Self {
        let mut json = Vec::with_capacity(LINE_BYTES);
        json.extend_from_slice(&self.0);
        Self(json)
    }

    /// The members at the beginning of a line.
    pub(super) fn read(json: &str) -> Self {
        Self(json.into())
    }

    /// Adds the members of a struct.
    pub(super) fn add(&mut self, part: &impl Serialize) {
        let joint = self.0.len();
        append(&mut self.0, part);
        self.0.pop();
        if let Some(brace) = self.0.get_mut(joint) {
            *brace = b',';
        }
    }

    /// Adds a member whose value is JSON already. `name` is written as it is: `,"name":`.
    pub(super) fn add_json(&mut self, name: &str, value: &[u8]) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(value);
    }

    pub(super) fn close(self) -> Line {
        let mut json = self.0;
        json.push(b'}');
        // JSON itself escapes what is below the blank, so this is what is left.
        let plain = json.is_ascii() && !json.contains(&b'\x7f');
        if !plain && !planted("lines-unescaped") {
            json = escaped(&String::from_utf8_lossy(&json));
        }
        json.push(b'\n');
        Line(json)
    }
}

/// A value as JSON.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    let mut json = Vec::with_capacity(PART_BYTES);
    append(&mut json, value);
    json
}

#[expect(clippy::expect_used, reason = "structs of texts and numbers can be written as JSON, into memory")]
fn append(json: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(json, value).expect("a record can be written");
}

/// JSON has characters other than printable ASCII in its strings only, where an escape says the same. Some of them end a
/// line for some readers (U+2028, U+0085), steer a terminal (U+009B) or turn text around (U+202E).
fn escaped(json: &str) -> Vec<u8> {
    let mut ascii = String::with_capacity(2 * json.len());
    for character in json.chars() {
        if matches!(character, ' '..='~') {
            ascii.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Into memory: it cannot fail.
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    ascii.into_bytes()
}
