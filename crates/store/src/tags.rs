//! What tags may be: on an instance by EC2's rules, on a user by IAM's.

use crate::Refusal;
use crate::limits::{TAG_KEY, TAG_VALUE, TAGS};
use instance_connect_core::iam::{folded, is_tag_text};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn check_instance_tags(tags: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let plain = |text: &str, longest| text.chars().count() <= longest && !text.chars().any(char::is_control);
    if tags.len() > TAGS {
        return Err(Refusal::TooManyTags);
    }
    for (key, value) in tags {
        if key.is_empty() || !plain(key, TAG_KEY) {
            return Err(Refusal::TagKey);
        }
        if !plain(value, TAG_VALUE) {
            return Err(Refusal::TagValue);
        }
    }
    Ok(())
}

/// Policies decide by a user's tags, so no two keys may be one to a condition (wire.md 7.6).
pub(crate) fn check_user_tags(tags: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if tags.len() > TAGS {
        return Err(Refusal::TooManyTags);
    }
    let mut keys = BTreeSet::new();
    for (key, value) in tags {
        if key.is_empty() || !is_iam_text(key, TAG_KEY) {
            return Err(Refusal::UserTagKey);
        }
        if !is_iam_text(value, TAG_VALUE) {
            return Err(Refusal::UserTagValue);
        }
        if !keys.insert(folded(key.chars()).collect::<String>()) {
            return Err(Refusal::UserTagKeyTwice);
        }
    }
    Ok(())
}

/// A text of a tag, and nothing that AWS keeps for itself.
fn is_iam_text(text: &str, longest: usize) -> bool {
    let reserved = text.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:"));
    text.chars().count() <= longest && is_tag_text(text) && !reserved
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the rule of the conditions that read them, also beyond ASCII.
    #[test]
    fn keys_of_user_tags_that_differ_in_case_only() {
        for (one, other, same) in [
            ("Team", "tEAM", true),
            ("Équipe", "éQUIPE", true),
            // Kelvin's sign is a K, an I with a dot is no I, and an i without one neither.
            ("\u{212a}ey", "key", true),
            ("\u{130}d", "id", false),
            ("\u{131}d", "Id", false),
            // A sigma is one letter wherever it stands.
            ("ΟΔΟΣ", "οδοσ", true),
            ("ΟΔΟΣ", "οδος", false),
            ("Stra\u{1e9e}e", "straße", true),
            ("STRASSE", "straße", false),
        ] {
            let tags = BTreeMap::from([one, other].map(|key| (key.to_owned(), String::new())));
            let expected = if same { Err(Refusal::UserTagKeyTwice) } else { Ok(()) };
            assert_eq!(check_user_tags(&tags), expected, "{one} {other}");
        }
    }

    #[test]
    fn text_of_user_tags() {
        for text in [
            "",
            "Cost Center",
            "a_.:/=+-@Z09",
            "Größe",
            "ключ",
            "部門",
            "\u{a0}\u{2003}\u{2028}",
            "aw",
            "s:aws:",
        ] {
            assert!(is_iam_text(text, 256), "{text:?}");
        }
        for text in [
            "a*",
            "${aws:username}",
            "a\tb",
            "a\nb",
            "a\0b",
            "\u{85}",
            "a,b",
            "\u{200b}",
            "aws:",
            "AWS:x",
            "Aws:ä",
        ] {
            assert!(!is_iam_text(text, 256), "{text:?}");
        }
        assert!(is_iam_text("ää", 2) && !is_iam_text("äää", 2));
    }
}
