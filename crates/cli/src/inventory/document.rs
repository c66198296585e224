//! The text of policy documents: laid out for people, and compared without its layout.

use std::fmt::Write as _;

/// The document on several lines, if it stands on one. Not a character of it changes but the white space between.
pub(super) fn laid_out(document: &str) -> String {
    if document.trim().contains('\n') {
        return document.trim().to_owned();
    }
    let (mut laid_out, mut depth) = (String::new(), 0_usize);
    let mut parts = Parts(document.trim()).peekable();
    while let Some(part) = parts.next() {
        match part {
            "{" | "[" => {
                laid_out.push_str(part);
                let is_empty = matches!(parts.peek(), Some(&("}" | "]")));
                if is_empty {
                    laid_out.push_str(parts.next().unwrap_or_default());
                } else {
                    depth = depth.saturating_add(1);
                    new_line(&mut laid_out, depth);
                }
            }
            "}" | "]" => {
                depth = depth.saturating_sub(1);
                new_line(&mut laid_out, depth);
                laid_out.push_str(part);
            }
            "," => {
                laid_out.push(',');
                new_line(&mut laid_out, depth);
            }
            ":" => laid_out.push_str(": "),
            other => laid_out.push_str(other),
        }
    }
    laid_out
}

/// Without white space between its parts: what two documents that say the same have in common.
pub(super) fn compact(document: &str) -> String {
    Parts(document).collect()
}

fn new_line(text: &mut String, depth: usize) {
    let _ = write!(text, "\n{:1$}", "", depth * 2);
}

/// The parts of JSON: brackets, commas, colons, texts, and what stands between. It need not be right.
struct Parts<'a>(&'a str);

impl<'a> Iterator for Parts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.0.trim_start_matches([' ', '\t', '\r', '\n']);
        let first = rest.chars().next()?;
        let length = match first {
            '{' | '}' | '[' | ']' | ',' | ':' => 1,
            '"' => text_length(rest),
            _ => rest.find([' ', '\t', '\r', '\n', '{', '}', '[', ']', ',', ':', '"']).unwrap_or(rest.len()),
        };
        let (part, rest) = rest.split_at_checked(length).unwrap_or((rest, ""));
        self.0 = rest;
        Some(part)
    }
}

/// To behind the quotation mark that ends the text which begins here.
fn text_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (position, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !is_escaped => return position + 1,
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_document_on_one_line_is_laid_out() {
        let document = r#" {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["a:b","c\\\":{"],"Resource":"*","Condition":{}}]}"#;
        let expected = "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [\n    {\n      \"Effect\": \"Allow\",\n      \
                        \"Action\": [\n        \"a:b\",\n        \"c\\\\\\\":{\"\n      ],\n      \"Resource\": \"*\",\n      \
                        \"Condition\": {}\n    }\n  ]\n}";
        assert_eq!(laid_out(document), expected);
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(value(expected), value(document));
        assert_eq!(laid_out(expected), expected);
        assert_eq!(compact(expected), compact(document));
        assert_ne!(compact(r#"{"a":"b c"}"#), compact(r#"{"a":"bc"}"#));
        assert_ne!(compact("[1 2]"), "[1,2]");
    }

    proptest::proptest! {
        #[test]
        fn layout_never_loses_anything(
            members in proptest::collection::btree_map(".{0,4}", proptest::collection::vec(".{0,6}", 0..3), 0..4),
        ) {
            let document = serde_json::to_string(&members).unwrap();
            proptest::prop_assert_eq!(compact(&document), document.as_str());
            proptest::prop_assert_eq!(compact(&laid_out(&document)), document.as_str());
        }

        #[test]
        fn layout_never_panics(text: String) {
            let _ = (laid_out(&text), compact(&text));
        }
    }
}
