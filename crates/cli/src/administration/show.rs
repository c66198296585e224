//! Answers for people. They come from outside: whatever a terminal would obey is escaped.

use super::arguments::SIGNER_CA_STEPS;
use super::cloud_init;
use crate::failure::{Exit, Failure};
use instance_connect_core::printable::printable;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// How an answer is shown to people.
pub(super) enum Shown {
    /// What was done, in a sentence.
    Sentence(String),
    /// Parts of it, each with what it is called and where it is.
    Parts(&'static [(&'static str, &'static str)]),
    /// A list as a table: what each column is called, and where its value is.
    Table { list: &'static str, columns: &'static [(&'static str, &'static str)] },
    /// One text of it, and nothing else.
    Text(&'static str),
    /// A certificate and nothing else, for a file; and what is to be done with that.
    SignerCertificate,
    /// What was withdrawn, and what could not be reached.
    Revoked,
    /// Whether something is allowed, and why.
    Verdict,
    /// The join token, in a cloud-config that enrols a machine with it.
    CloudInit {
        /// The agents listener.
        server: String,
    },
}

impl Shown {
    /// The exit code: a verdict other than that it would succeed is 1.
    pub(super) fn exit_code(&self, answer: &Map<String, Value>) -> u8 {
        let is_allowed = at(answer, "EvalDecision").and_then(Value::as_str) == Some("allowed");
        let is_free = at(answer, "Obstacles").and_then(Value::as_array).is_some_and(Vec::is_empty);
        u8::from(matches!(self, Self::Verdict) && !(is_allowed && is_free))
    }

    /// What is to be done with it, where that is another machine's matter.
    pub(super) const fn steps(&self) -> Option<&'static str> {
        match self {
            Self::SignerCertificate => Some(SIGNER_CA_STEPS),
            Self::Sentence(_)
            | Self::Parts(_)
            | Self::Table { .. }
            | Self::Text(_)
            | Self::Revoked
            | Self::Verdict
            | Self::CloudInit { .. } => None,
        }
    }

    pub(super) fn text(&self, answer: &Map<String, Value>) -> String {
        match self {
            Self::Sentence(sentence) => sentence.clone(),
            Self::Parts(parts) => {
                let lines = parts.iter().map(|(name, path)| format!("{name}: {}", cell(answer, path)));
                lines.collect::<Vec<_>>().join("\n")
            }
            Self::Table { list, columns } => {
                let rows = answer.get(*list).and_then(Value::as_array).map(Vec::as_slice);
                table(columns, rows.unwrap_or_default())
            }
            Self::Text(path) => whole_text(answer, path),
            Self::SignerCertificate => whole_text(answer, "Certificate"),
            Self::Revoked => revoked(answer),
            Self::Verdict => {
                let obstacles = answer.get("Obstacles").and_then(Value::as_array).into_iter().flatten();
                let obstacles = obstacles.map(|sentence| format!("In the way: {}", in_words(sentence)));
                std::iter::once(whole_text(answer, "Explanation"))
                    .chain(obstacles)
                    .collect::<Vec<_>>()
                    .join("\n")
            }
            Self::CloudInit { server } => {
                cloud_init::cloud_config(server, &whole_text(answer, "JoinToken.Token"))
            }
        }
    }
}

/// The answer as it came, with what stands in several parts put together. What a terminal would obey is escaped as JSON
/// does it: a program reads the same value.
pub(crate) fn json(answer: &impl Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string_pretty(answer)
        .map_err(|error| Failure::new(Exit::General, error.to_string()))?;
    let mut shown = String::with_capacity(json.len());
    for symbol in json.chars() {
        if symbol == '\n' || printable(symbol.encode_utf8(&mut [0; 4])).starts_with(symbol) {
            shown.push(symbol);
        } else {
            for unit in symbol.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        }
    }
    Ok(shown)
}

fn revoked(answer: &Map<String, Value>) -> String {
    const COLUMNS: &[(&str, &str)] = &[
        ("INSTANCE", "InstanceId"),
        ("OS USER", "InstanceOSUser"),
        ("KEY", "Fingerprint"),
        ("PUSHED BY", "PrincipalArn"),
    ];
    let part = |name: &str, sentence: &str| {
        let keys = answer.get(name).and_then(Value::as_array).filter(|keys| !keys.is_empty())?;
        Some(format!("{sentence}\n{}", table(COLUMNS, keys)))
    };
    let withdrawn = part("Withdrawn", "Withdrawn, and refused from now on:");
    let unreached = part(
        "Unreached",
        "Not reached; withdrawn when the agent is back, and expired within a minute in any case:",
    );
    let parts: Vec<String> = withdrawn.into_iter().chain(unreached).collect();
    if parts.is_empty() { "No such key is on a machine.".to_owned() } else { parts.join("\n") }
}

pub(crate) fn table(columns: &[(&str, &str)], rows: &[Value]) -> String {
    let header: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let cells = rows.iter().filter_map(Value::as_object);
    let cells = cells.map(|row| columns.iter().map(|(_, path)| cell(row, path)).collect());
    aligned(&std::iter::once(header).chain(cells).collect::<Vec<_>>())
}

/// Widest that a column is made, in characters. What is longer pushes aside what is behind it in its own line: a text of others
/// does not make every line long.
const WIDEST: usize = 64;

/// Lines of cells, one column below the other.
pub(crate) fn aligned(lines: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for line in lines {
        widths.resize(widths.len().max(line.len()), 0);
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count().min(WIDEST));
        }
    }
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| {
            // Not by a format, which panics at a width above 65,535.
            format!("{cell}{}", " ".repeat(width.saturating_sub(cell.chars().count())))
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What stands at a place such as `User.Arn` or `Instances.0.Tags`, in one line.
pub(crate) fn cell(answer: &Map<String, Value>, path: &str) -> String {
    match at(answer, path) {
        Some(value) => in_words(value),
        None => "-".to_owned(),
    }
}

fn at<'a>(answer: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut names = path.split('.');
    let first = answer.get(names.next()?)?;
    names.try_fold(first, |value, name| match value {
        Value::Array(values) => values.get(name.parse::<usize>().ok()?),
        value => value.get(name),
    })
}

fn in_words(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => printable(text),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) => values.iter().map(in_words).collect::<Vec<_>>().join(", "),
        Value::Object(members) => {
            // A tag, a host key, or something that has a name.
            let text = |name: &str| members.get(name).and_then(Value::as_str);
            let pair = |one, other| Some((text(one)?, text(other)?));
            match (pair("Key", "Value"), pair("KeyType", "Fingerprint"), text("PolicyName")) {
                (Some((key, value)), _, _) => printable(&format!("{key}={value}")),
                (_, Some((key_type, fingerprint)), _) => printable(&format!("{key_type} {fingerprint}")),
                (_, _, Some(name)) => printable(name),
                _ => printable(&value.to_string()),
            }
        }
    }
}

/// A text that may have several lines.
fn whole_text(answer: &Map<String, Value>, path: &str) -> String {
    let text = at(answer, path).and_then(Value::as_str).unwrap_or_default();
    printable_lines(text.trim_end())
}

/// A text whose lines and tabs are meant.
fn printable_lines(text: &str) -> String {
    let lines = text.split('\n').map(|line| line.split('\t').map(printable).collect::<Vec<_>>().join("\t"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(shown: &Shown, answer: &Value) -> String {
        shown.text(answer.as_object().unwrap())
    }

    #[test]
    fn tables_are_aligned_and_say_nothing_to_a_terminal() {
        let shown = Shown::Table {
            list: "L",
            columns: &[("NAME", "Name"), ("LINK", "Agent.Link"), ("TAGS", "Tags")],
        };
        let answer = json!({ "L": [
            { "Name": "a\u{1b}[2J", "Agent": { "Link": "open" }, "Tags": [{ "Key": "k", "Value": "v\n" }] },
            { "Name": "bb", "Agent": null, "Tags": [] },
        ]});
        assert_eq!(
            text(&shown, &answer),
            "NAME        LINK  TAGS\na\\u{1b}[2J  open  k=v\\n\nbb          -     -"
        );
        assert_eq!(text(&shown, &json!({})), "NAME  LINK  TAGS");
    }

    /// Fifty tags whose every character takes eight to be shown.
    #[test]
    fn whoever_may_tag_an_instance_does_not_spoil_the_table() {
        let tag = json!({ "Key": "\u{e000}".repeat(128), "Value": "\u{e000}".repeat(256) });
        let row = |name: &str, tags: usize| json!({ "Tags": vec![tag.clone(); tags], "Name": name });
        let table = table(&[("TAGS", "Tags"), ("NAME", "Name")], &[row("tagged", 50), row("plain", 0)]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], format!("TAGS{}  NAME", " ".repeat(60)));
        assert!(lines[1].len() > 65_535 && lines[1].ends_with("  tagged"));
        assert_eq!(lines[2], format!("-{}  plain", " ".repeat(63)));
    }

    #[test]
    fn parts_and_texts() {
        let answer =
            json!({ "U": { "Arn": "arn", "On": true, "P": [{ "PolicyName": "p" }], "L": ["x", 1] } });
        let parts =
            Shown::Parts(&[("ARN", "U.Arn"), ("On", "U.On"), ("P", "U.P"), ("L", "U.L"), ("No", "U.X.Y")]);
        assert_eq!(text(&parts, &answer), "ARN: arn\nOn: yes\nP: p\nL: x, 1\nNo: -");
        let answer = json!({ "A": [{ "D": "{\n\t1\u{7}\u{202e}}\n" }] });
        assert_eq!(text(&Shown::Text("A.0.D"), &answer), "{\n\t1\\u{7}\\u{202e}}");
    }

    /// What is printed is the file, byte for byte; what is said beside it names that as the stock scripts look for it.
    #[test]
    fn a_signers_certificate_is_a_file_and_its_steps_are_not_in_it() {
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        let answer = json!({ "Certificate": pem, "FileName": "Instance_Connect_signer_root.pem" });
        assert_eq!(text(&Shown::SignerCertificate, &answer) + "\n", pem);
        let steps = Shown::SignerCertificate.steps().unwrap();
        assert!(steps.contains("/ca-certificates/Instance_Connect_signer_root.crt\n"), "{steps}");
        assert_eq!(Shown::Revoked.steps(), None);
    }

    #[test]
    fn json_says_nothing_to_a_terminal_and_the_same_to_a_program() {
        let answer = json!({ "a\\": "b\n\u{1b}\u{9b}\u{202e}\u{e0001}é\"" });
        let shown = super::json(&answer).unwrap();
        assert_eq!(shown, "{\n  \"a\\\\\": \"b\\n\\u001b\\u009b\\u202e\\udb40\\udc01é\\\"\"\n}");
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), answer);
    }
}
