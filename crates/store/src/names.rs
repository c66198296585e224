//! Names that only the store gives meaning to, parsed once.

use instance_connect_core::document::text_id;

text_id! {
    /// The name of a key pair the control plane signs with, such as `agents-ca`, or `anchor.2` once anchors roll over.
    AuthorityName,
    |text| {
        let is_plain = |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        (1..=64).contains(&text.len()) && text.bytes().all(is_plain)
    },
    "an authority name is 1 to 64 lower-case letters, digits, hyphens and dots"
}

#[cfg(test)]
mod tests {
    use super::AuthorityName;
    use instance_connect_core::ids::PolicyName;

    #[test]
    fn names_are_bounded_and_plain() {
        for text in ["a", "Push-To_Web", "+=,.@_-", &"x".repeat(128)] {
            assert_eq!(text.parse::<PolicyName>().unwrap().as_str(), text);
        }
        for text in ["", "a b", "a/b", "a\n", "ä", &"x".repeat(129)] {
            assert!(text.parse::<PolicyName>().is_err(), "{text:?}");
        }
        for text in ["agents-ca", "anchor.2", &"x".repeat(64)] {
            assert_eq!(text.parse::<AuthorityName>().unwrap().as_str(), text);
        }
        for text in ["", "Root", "a/b", "a_b", &"x".repeat(65)] {
            assert!(text.parse::<AuthorityName>().is_err(), "{text:?}");
        }
    }
}
