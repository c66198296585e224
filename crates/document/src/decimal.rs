//! Decimal numbers in their one spelling, as documents, statements, hand-over files and names in certificates have them.

use std::str::FromStr;

/// Reads a number in its one spelling: digits only, no sign, no leading zero. `None` also where it does not fit.
pub fn parse<N: FromStr>(text: &str) -> Option<N> {
    let one_spelling = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if one_spelling && digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn one_spelling_for_each_number() {
        for (text, number) in [("0", Some(0)), ("7", Some(7)), ("255", Some(255))] {
            assert_eq!(parse::<u8>(text), number);
        }
        for text in ["", "00", "07", "+7", "-7", " 7", "7 ", "7\n", "7_0", "0x7", "256", "٧"] {
            assert_eq!(parse::<u8>(text), None, "{text:?}");
        }
    }
}
