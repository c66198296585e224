//! `*` and `?` in actions, resources and conditions.

/// Whether `text` matches `pattern`, where `*` stands for any run of characters and `?` for one. Linear in practice
/// and never worse than the product of the lengths: one remembered star, no recursion, no regular expression.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                retry = Some((p + 1, t));
                p += 1;
            }
            (Some(expected), Some(found)) if *expected == b'?' || expected == found => {
                p += 1;
                t += 1;
            }
            _ => {
                // Let the last star swallow one more character, or give up where there is none.
                let Some((after_star, swallowed)) = retry else { return false };
                if swallowed == text.len() {
                    return false;
                }
                retry = Some((after_star, swallowed + 1));
                (p, t) = (after_star, swallowed + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;
    use proptest::prelude::*;

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
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("a*b*c", "a-b-b-c", true),
            ("*instance/*", "arn:instance/i-1", true),
            ("i-?", "i-12", false),
            ("**a", "bba", true),
            ("a", "A", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn many_stars_do_not_blow_up() {
        let pattern = "a*".repeat(2000) + "b";
        assert!(!matches(&pattern, &"a".repeat(6000)));
    }

    /// The definition, written for clearness.
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
            prop_assert_eq!(matches(&pattern, &text), by_definition(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
