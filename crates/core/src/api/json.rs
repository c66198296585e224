//! Well-formedness of a request body, before anything in it is believed.

use crate::limits;
use instance_connect_planted::parser_entered;
use serde::de::IgnoredAny;

/// Whether `body` is one JSON object in UTF-8 that nests no deeper than [`limits::JSON_DEPTH`].
pub fn well_formed(body: &[u8]) -> bool {
    parser_entered(body);
    let Ok(text) = std::str::from_utf8(body) else { return false };
    text.trim_start().starts_with('{')
        && depth(body) <= limits::JSON_DEPTH
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The deepest nesting of brackets outside strings. Right for JSON; for anything else the parser decides anyway.
fn depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::well_formed;
    use proptest::prelude::*;

    #[test]
    fn table() {
        let nested = |levels: usize| format!("{}7{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        for (body, expected) in [
            ("{}", true),
            (r#"{"a":"{[{[{[{[{[{[{[{[{[\"{[{[{["}"#, true),
            (&nested(16), true),
            (&nested(17), false),
            (&nested(100_000), false),
            ("", false),
            ("[]", false),
            ("7", false),
            ("null", false),
            ("{", false),
            ("{} {}", false),
            (r#"{"a":1,}"#, false),
            ("\u{feff}{}", false),
        ] {
            assert_eq!(well_formed(body.as_bytes()), expected, "{body:.40}");
        }
        assert!(!well_formed(b"{\"a\":\"\xff\"}"));
    }

    proptest! {
        #[test]
        fn json_never_panics(body: Vec<u8>) {
            let _ = well_formed(&body);
        }
    }
}
