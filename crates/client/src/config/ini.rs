//! The INI dialect of `~/.aws/config`, read as botocore reads it (Python's `RawConfigParser`, then one level of nesting).
//!
//! What that means where dialects differ: keys are lower-cased, `=` and `:` both end a key, `#` and `;` begin a comment
//! only at the start of a line, a line indented deeper than its key continues the value, and a section or key that
//! comes twice is an error. `[DEFAULT]` is a section like any other.

use std::collections::HashMap;
use zeroize::Zeroizing;

/// A value; it may be a secret key.
pub(super) type Text = Zeroizing<String>;

/// A section's keys and values.
pub(super) type Section = HashMap<String, Text>;

/// The sections of a file in its order.
pub(super) type Sections = Vec<(String, Section)>;

/// Parses a file. The error says which line is wrong, and never what is in it.
pub(super) fn parse(text: &str) -> Result<Sections, String> {
    let mut sections: Vec<(String, Vec<Entry>)> = Vec::new();
    let mut indent_of_key = 0;
    for (number, line) in (1_usize..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let refuse = |why: &str| Err(format!("line {number}: {why}"));
        let content = line.trim();
        let open_entry = sections.last_mut().and_then(|(_, entries)| entries.last_mut());
        if content.starts_with(['#', ';']) {
            continue;
        }
        if content.is_empty() {
            // An empty line does not end a value; those at its end are dropped below.
            open_entry.into_iter().for_each(|entry| entry.lines.push(Text::default()));
            continue;
        }
        let indent = line.chars().take_while(|symbol| symbol.is_whitespace()).count();
        if let Some(entry) = open_entry.filter(|_| indent > indent_of_key) {
            entry.lines.push(Text::new(content.to_owned()));
            continue;
        }
        indent_of_key = indent;
        if let Some(name) = section_name(content) {
            if sections.iter().any(|(known, _)| known == name) {
                return refuse("a section that was there before");
            }
            sections.push((name.to_owned(), Vec::new()));
            continue;
        }
        let Some((_, entries)) = sections.last_mut() else {
            return refuse("there is no [section] before it");
        };
        let Some((key, value)) = content.split_once(['=', ':']) else {
            return refuse("neither a [section] nor key = value");
        };
        let key = key.trim().to_lowercase();
        if key.is_empty() {
            return refuse("a value without a key");
        }
        if entries.iter().any(|entry| entry.key == key) {
            return refuse("a key that this section has already");
        }
        entries.push(Entry { key, lines: vec![Text::new(value.trim().to_owned())] });
    }
    Ok(sections.into_iter().map(|(name, entries)| (name, joined(entries))).collect())
}

/// A key with the lines of its value.
struct Entry {
    key: String,
    lines: Vec<Text>,
}

/// `[name]`, up to the last bracket of the line.
fn section_name(content: &str) -> Option<&str> {
    let (name, _) = content.strip_prefix('[')?.rsplit_once(']')?;
    (!name.is_empty()).then_some(name)
}

fn joined(entries: Vec<Entry>) -> Section {
    let one = |Entry { key, lines }: Entry| {
        let mut value = Text::default();
        for (position, line) in lines.iter().enumerate() {
            if position > 0 {
                value.push('\n');
            }
            value.push_str(line);
        }
        let length = value.trim_end().len();
        value.truncate(length);
        (key, value)
    };
    entries.into_iter().map(one).collect()
}

/// The nested settings in a value that begins on the next line, such as those of one service in a `services` section.
/// `None` when the value is not nested, an error when a nested line is not `key = value`.
pub(super) fn nested(value: &str) -> Option<Result<Section, ()>> {
    let lines = value.strip_prefix('\n')?.lines().filter(|line| !line.trim().is_empty());
    let pairs = lines.map(|line| {
        let (key, value) = line.split_once('=').ok_or(())?;
        Ok((key.trim().to_owned(), Text::new(value.trim().to_owned())))
    });
    Some(pairs.collect())
}

/// The second of exactly two words: the name in `profile "my name"`.
pub(super) fn second_word(text: &str) -> Option<String> {
    let mut words = words(text)?;
    if words.len() == 2 { words.pop() } else { None }
}

/// The words of a line, quotes and escapes removed as a POSIX shell does, nothing expanded. `None` when a quote or an
/// escape is left open.
pub(super) fn words(text: &str) -> Option<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut symbols = text.chars().peekable();
    while let Some(symbol) = symbols.next() {
        match (symbol, quote) {
            (_, Some(open)) if symbol == open => quote = None,
            ('\\', None) => word.get_or_insert_default().push(symbols.next()?),
            ('\\', Some('"')) => {
                // Between double quotes a backslash escapes only these two.
                let escaped = symbols.next_if(|next| matches!(next, '"' | '\\'));
                word.get_or_insert_default().push(escaped.unwrap_or('\\'));
            }
            (_, Some(_)) => word.get_or_insert_default().push(symbol),
            ('"' | '\'', None) => {
                quote = Some(symbol);
                word.get_or_insert_default();
            }
            (_, None) if symbol.is_whitespace() => words.extend(word.take()),
            (_, None) => word.get_or_insert_default().push(symbol),
        }
    }
    words.extend(word);
    if quote.is_some() { None } else { Some(words) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is quoted comes out as it went in.
        #[test]
        fn quoted_words(expected in proptest::collection::vec(any::<String>(), 0..5)) {
            let quoted = expected.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''")));
            prop_assert_eq!(words(&quoted.collect::<Vec<_>>().join(" ")), Some(expected));
        }

        #[test]
        fn any_file_is_refused_or_read(text in "[\\[\\]a=:#; \t\r\n'\"\\\\]{0,60}|.{0,60}") {
            if let Ok(sections) = parse(&text) {
                prop_assert!(sections.iter().all(|(name, _)| !name.is_empty()));
            }
            let _ = (words(&text), nested(&text));
        }
    }

    // The values below were checked against botocore; larger cases are in tests/botocore_fixture.json.

    #[test]
    fn values() {
        for (text, value) in [
            ("[s]\nkey = value", "value"),
            ("[s]\nKEY=value  ", "value"),
            ("[s]\nkey: a=b", "a=b"),
            ("[s]\nkey = a # b ; c", "a # b ; c"),
            ("[s]\r\nkey = value\r\n", "value"),
            ("[s] trailing\nkey = value", "value"),
            ("[s]\nkey = a\n  b\n\n  c\n\n", "a\nb\n\nc"),
            ("[s]\nkey = a\n# comment\n  b", "a\nb"),
            ("[s]\nkey =\n  a = b", "\na = b"),
            ("[s]\n  key = a\n  other = b", "a"),
            ("\u{feff}[s]\nkey = value", "value"),
            ("[s]\nkey =", ""),
        ] {
            let sections = parse(text).unwrap();
            assert_eq!(sections[0].1["key"].as_str(), value, "{text:?}");
        }
    }

    #[test]
    fn broken_files() {
        for (text, message) in [
            ("key = secret", "line 1: there is no [section] before it"),
            ("[s]\nsecret", "line 2: neither a [section] nor key = value"),
            ("[s]\n= secret", "line 2: a value without a key"),
            ("[s]\nkey = a\nKey = secret", "line 3: a key that this section has already"),
            ("[s]\n[s]", "line 2: a section that was there before"),
            ("[]", "line 1: there is no [section] before it"),
        ] {
            assert_eq!(parse(text).err().as_deref(), Some(message), "{text:?}");
        }
    }

    #[test]
    fn nesting() {
        let section = nested("\nendpoint_url = http://a=b\n\nOther=c").unwrap().unwrap();
        assert_eq!(section["endpoint_url"].as_str(), "http://a=b");
        assert_eq!(section["Other"].as_str(), "c");
        assert!(nested("plain").is_none());
        assert!(nested("\nno equals sign").unwrap().is_err());
    }

    #[test]
    fn second_words() {
        for (text, word) in [
            ("profile a", Some("a")),
            ("profile   \"a b\"", Some("a b")),
            ("profile 'a \\ b'", Some("a \\ b")),
            ("profile a\\ b", Some("a b")),
            ("profile \"a\\\"\\\\\\x\"", Some("a\"\\\\x")),
            ("profile a'b'c", Some("abc")),
            ("profile ''", Some("")),
            ("profile", None),
            ("profile a b", None),
            ("profile \"a", None),
            ("profile a\\", None),
        ] {
            assert_eq!(second_word(text).as_deref(), word, "{text}");
        }
    }
}
