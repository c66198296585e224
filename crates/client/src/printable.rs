//! Text from outside, for a terminal or a log.

/// `text` with every control character escaped: a terminal would obey it, a log would take it for a new line.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for symbol in text.chars() {
        if symbol.is_control() { shown.extend(symbol.escape_default()) } else { shown.push(symbol) }
    }
    shown
}
