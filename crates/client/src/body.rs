//! The request body, spelled as botocore spells it (Python's `json.dumps` with its defaults), so that what is signed
//! can be compared byte for byte.

use std::fmt::Write as _;

/// A flat JSON object under construction.
#[derive(Debug, Default)]
pub(crate) struct Body(String);

impl Body {
    /// Adds a text member.
    pub(crate) fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        push_text(&mut self.0, value);
        self
    }

    /// Adds a number member.
    pub(crate) fn number(mut self, name: &str, value: u32) -> Self {
        self.name(name);
        let _ = write!(self.0, "{value}");
        self
    }

    /// The finished object.
    pub(crate) fn finish(self) -> String {
        format!("{{{}}}", self.0)
    }

    fn name(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push_str(", ");
        }
        push_text(&mut self.0, name);
        self.0.push_str(": ");
    }
}

/// Everything but printable ASCII is escaped, beyond the first plane as a surrogate pair.
fn push_text(json: &mut String, text: &str) {
    json.push('"');
    for symbol in text.chars() {
        match symbol {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            ' '..='~' => json.push(symbol),
            _ => {
                for unit in symbol.encode_utf16(&mut [0; 2]) {
                    let _ = write!(json, "\\u{unit:04x}");
                }
            }
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelled_as_python_does() {
        // json.dumps({"a": "\"\\/\b\f\n\r\t\x00\x1f\x7f~ é€😀", "b": 0})
        let body = Body::default().text("a", "\"\\/\u{8}\u{c}\n\r\t\0\u{1f}\u{7f}~ é€😀").number("b", 0);
        let expected =
            concat!(r#"{"a": "\"\\/\b\f\n\r\t\u0000\u001f\u007f~ \u00e9\u20ac\ud83d\ude00", "#, r#""b": 0}"#);
        assert_eq!(body.finish(), expected);
    }
}
