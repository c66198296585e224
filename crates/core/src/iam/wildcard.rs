//! `*` and `?`, matched without recursion: one remembered star, and a step back only to it.

use super::pattern::folded;
use std::iter::once;

/// A part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<L> {
    /// This text, or this character.
    Literal(L),
    /// `*`: any run of characters, none included.
    AnyRun,
    /// `?`: one character.
    AnyCharacter,
}

/// Whether `text` matches the pattern whose tokens `token` tells by position, `None` behind the last. `strip` takes a literal
/// from the front of a text.
///
/// Wildcards do not match a colon that stands before byte `colons_from` of the text. That is what keeps them within
/// their part of an ARN; everywhere else it is 0.
///
/// Each step takes one token or gives the last star one more character, so for one pattern the time is linear in the
/// text, whatever both hold, and it never exceeds the product of their lengths.
pub(crate) fn matches<L>(
    mut token: impl FnMut(usize) -> Option<Token<L>>,
    strip: impl for<'t> Fn(&'t str, L) -> Option<&'t str>,
    text: &str,
    colons_from: usize,
) -> bool {
    let without_first = |rest: &str| {
        let offset = text.len() - rest.len();
        rest.chars().next().filter(|&c| c != ':' || offset >= colons_from).map(char::len_utf8)
    };
    let (mut position, mut rest) = (0, text);
    // The position behind the last star, and what follows what it has swallowed so far.
    let mut retry: Option<(usize, &str)> = None;
    loop {
        let after = match token(position) {
            None if rest.is_empty() => return true,
            None => None,
            Some(Token::AnyRun) => {
                retry = Some((position + 1, rest));
                Some(rest)
            }
            Some(Token::AnyCharacter) => without_first(rest).and_then(|n| rest.get(n..)),
            Some(Token::Literal(literal)) => strip(rest, literal),
        };
        if let Some(after) = after {
            (position, rest) = (position + 1, after);
        } else {
            let Some((behind_star, tried)) = retry else { return false };
            let Some(shorter) = without_first(tried).and_then(|n| tried.get(n..)) else { return false };
            retry = Some((behind_star, shorter));
            (position, rest) = (behind_star, shorter);
        }
    }
}

/// What follows a literal that a text begins with.
pub(super) fn exactly<'t>(text: &'t str, literal: &str) -> Option<&'t str> {
    text.strip_prefix(literal)
}

/// The same without regard to case.
pub(super) fn in_any_case<'t>(text: &'t str, literal: &str) -> Option<&'t str> {
    let mut rest = text.chars();
    let same = |wanted| rest.next().is_some_and(|found| folded(once(wanted)).eq(folded(once(found))));
    literal.chars().all(same).then_some(rest.as_str())
}

/// Where the sixth part of an ARN begins, in bytes; `None` for a text that has fewer parts.
pub(super) fn resource_part(arn: &str) -> Option<usize> {
    arn.match_indices(':').nth(4).map(|(fifth, _)| fifth + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    fn tokens(pattern: &str) -> Vec<Token<&str>> {
        let token = |part| match part {
            "*" => Token::AnyRun,
            "?" => Token::AnyCharacter,
            literal => Token::Literal(literal),
        };
        let parts = pattern.split_inclusive(['*', '?']).flat_map(|part| {
            let (literal, wildcard) = part.split_at(part.trim_end_matches(['*', '?']).len());
            [literal, wildcard]
        });
        parts.filter(|part| !part.is_empty()).map(token).collect()
    }

    /// The answer, and the number of tokens looked at.
    fn counted(pattern: &str, text: &str, colons_from: usize) -> (bool, usize) {
        let (tokens, steps) = (tokens(pattern), Cell::new(0));
        let token = |position: usize| {
            steps.set(steps.get() + 1);
            tokens.get(position).copied()
        };
        (matches(token, exactly, text, colons_from), steps.get())
    }

    #[test]
    fn table() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("*", "", true),
            ("*", "anything", true),
            ("?", "", false),
            ("?", "a", true),
            ("?", "é", true),
            ("??", "é", false),
            ("*é", "caffè né", true),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("a*b*c", "a-b-b-c", true),
            ("*instance/*", "arn:instance/i-1", true),
            ("i-?", "i-12", false),
            ("**a", "bba", true),
            ("a", "A", false),
        ] {
            assert_eq!(counted(pattern, text, 0).0, expected, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn wildcards_stay_in_their_part_of_an_arn() {
        for (pattern, text, expected) in [
            ("a:*:c:d:e:f", "a:b:c:d:e:f", true),
            ("a:*:e:f", "a:b:c:d:e:f", false),
            ("a:*f", "a:b:c:d:e:f", false),
            ("a:b?c:d:e:f", "a:b:c:d:e:f", false),
            ("a:b:c:d:e:*", "a:b:c:d:e:f:g:h", true),
            ("a:b:c:d:e:f?g*", "a:b:c:d:e:f:g:h", true),
            ("a:b*:c:d:e:f", "a:b:c:d:e:f", true),
            ("*:b:c:d:*:f", ":b:c:d::f", true),
        ] {
            let from = resource_part(text).unwrap();
            assert_eq!(counted(pattern, text, from).0, expected, "{pattern:?} {text:?}");
        }
        assert_eq!(resource_part("a:b:c:d:e"), None);
    }

    /// Twice the text takes twice the steps, however hard the pattern is.
    #[test]
    fn linear_for_every_pattern() {
        for pattern in ["a*".repeat(2000) + "b", "*a?a?a*b".to_owned(), "*".repeat(3000) + "b"] {
            let steps = |length: usize| counted(&pattern, &"a".repeat(length), 0).1;
            let (once, twice) = (steps(3000), steps(6000));
            assert!(twice <= 2 * once + 10, "{once} {twice}");
            assert!(twice <= (tokens(&pattern).len() + 1) * 6001);
        }
    }

    /// The definition, written for clearness: part by part, by recursion.
    fn by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], text) => (0..=text.len()).any(|n| by_definition(rest, &text[n..])),
            ([b'?', rest @ ..], [_, text @ ..]) => by_definition(rest, text),
            ([a, rest @ ..], [b, text @ ..]) => a == b && by_definition(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let expected = by_definition(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(counted(&pattern, &text, 0).0, expected);
        }

        #[test]
        fn agrees_with_the_definition_part_by_part(
            pattern in "[ab*?]{0,3}(:[ab*?]{0,3}){4}:[ab:*?]{0,6}",
            text in "[ab]{0,3}(:[ab]{0,3}){4}:[ab:]{0,6}",
        ) {
            let mut parts = pattern.splitn(6, ':').zip(text.splitn(6, ':'));
            let expected = parts.all(|(pattern, text)| by_definition(pattern.as_bytes(), text.as_bytes()));
            prop_assert_eq!(counted(&pattern, &text, resource_part(&text).unwrap()).0, expected);
        }
    }
}
