//! Lines of ours in a file of somebody else's, between two marks, so that they can be taken out again and nothing else.

use std::ops::RangeInclusive;

const BEGIN: &str = "# BEGIN instance-connect-agent (taken out by `instance-connect-agent uninstall`)\n";
const END: &str = "# END instance-connect-agent\n";

/// The text with these lines at its beginning, in place of those that an earlier call put there.
pub(super) fn with_block(text: &str, lines: &str) -> String {
    format!("{BEGIN}{lines}{END}{}", without_block(text))
}

/// The text as it was before.
pub(super) fn without_block(text: &str) -> String {
    let Some((before, rest)) = text.split_once(BEGIN) else { return text.to_owned() };
    match rest.split_once(END) {
        Some((_, after)) => format!("{before}{after}"),
        // Somebody has taken the end away: what is theirs cannot be told from what is ours.
        None => text.to_owned(),
    }
}

/// Which lines of the text are ours, counted from 1.
pub(super) fn block_lines(text: &str) -> Option<RangeInclusive<usize>> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (inside, _) = rest.split_once(END)?;
    let first = before.lines().count() + 1;
    Some(first..=first + inside.lines().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn taking_out_gives_back_every_byte(text in "(.{0,20}\n?){0,5}", first in "(.{0,20}\n){0,3}", second in "(.{0,9}\n){0,3}") {
            let once = with_block(&text, &first);
            prop_assert_eq!(without_block(&once), text.clone());
            prop_assert_eq!(without_block(&with_block(&once, &second)), text);
        }
    }

    #[test]
    fn lines_of_the_block() {
        assert_eq!(block_lines(&with_block("x\n", "a\nb\n")), Some(1..=4));
        assert_eq!(block_lines(&format!("x\ny\n{}", with_block("", "a\n"))), Some(3..=5));
        assert_eq!(block_lines("x\n"), None);
    }

    #[test]
    fn a_block_without_an_end_is_left_alone() {
        let text = format!("a\n{BEGIN}b\n");
        assert_eq!(without_block(&text), text);
    }
}
