//! Text from outside, for a message, a terminal or a log.

/// `text` with whatever ends a line, moves a cursor, turns text around or is not seen at all escaped: a terminal would obey
/// it, a log would take it for a new line, and a reader would not know of it.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for symbol in text.chars() {
        if matches!(symbol, '"' | '\'' | '\\') {
            shown.push(symbol)
        } else {
            shown.extend(symbol.escape_debug())
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn what_is_escaped() {
        for (text, shown) in [
            ("it's \"a\\b\" é", "it's \"a\\b\" é"),
            ("a\nb\r\t", r"a\nb\r\t"),
            ("\u{1b}[31m", r"\u{1b}[31m"),
            ("\u{202e}\u{2028}\u{200b}\u{9b}", r"\u{202e}\u{2028}\u{200b}\u{9b}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }
}
