//! The ids of the control plane, parsed once. Those a document carries are in `document`.

use instance_connect_document::text_id;
pub use instance_connect_document::{BootId, Fingerprint, IdError, InstanceId, OsUser, Region, RequestId};

text_id! {
    /// An AWS account id: 12 digits.
    AccountId, is_account_id, "an account id is 12 digits"
}

text_id! {
    /// An availability zone as an instance has it, such as `us-east-1a`.
    AvailabilityZone,
    |text| (6..=32).contains(&text.len()) && text.bytes().all(|b| is_word(b) || b == b'-'),
    "an availability zone is 6 to 32 letters, digits, hyphens and underscores, such as us-east-1a"
}

text_id! {
    /// An instance type such as `t3.micro` or `m7i.metal-24xl`: a family, a dot and a size.
    InstanceType,
    |text| {
        let is_part = |part: &str| {
            part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') && !part.is_empty()
        };
        text.len() <= 32 && text.split_once('.').is_some_and(|(family, size)| is_part(family) && is_part(size))
    },
    "an instance type is a family, a dot and a size in lower-case letters, digits and hyphens, such as t3.micro"
}

text_id! {
    /// The id of the image that an instance was made from, such as `ami-0123456789abcdef0`.
    ImageId,
    |text| {
        let is_hex = |hex: &str| hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        text.strip_prefix("ami-").is_some_and(|hex| (8..=28).contains(&hex.len()) && is_hex(hex))
    },
    "an image id is ami- and 8 to 28 lower-case hex digits"
}

impl AvailabilityZone {
    /// The region that the stock host scripts take a machine in this zone to be in: the zone without its last letter. They
    /// give up at zones of other forms than `^([a-z]+-){2,3}[0-9][a-z]$` (wire.md 3.3).
    pub fn region_for_stock_scripts(&self) -> Option<&str> {
        let region = self.as_str().strip_suffix(|letter: char| letter.is_ascii_lowercase())?;
        let mut parts = region.split('-');
        let number = parts.next_back().unwrap_or_default();
        let words: Vec<&str> = parts.collect();
        let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
        let has_form = matches!(number.as_bytes(), [b'0'..=b'9']) && (2..=3).contains(&words.len());
        (has_form && words.iter().all(is_word)).then_some(region)
    }
}

text_id! {
    /// An access key id: 16 to 128 word characters (the IAM model).
    AccessKeyId, is_iam_id, "an access key id is 16 to 128 letters, digits and underscores"
}

text_id! {
    /// The unique id of a user, such as `AIDA…` (the IAM model), or of an account's root (wire.md 7.6).
    UserId,
    |text| is_iam_id(text) || is_account_id(text),
    "a user id is 16 to 128 letters, digits and underscores; that of an account's root is the account id"
}

impl UserId {
    /// The id of an account's root: the account's own.
    pub fn root(account: &AccountId) -> Self {
        Self(account.as_str().into())
    }

    /// Whether it is the id of some account's root.
    pub fn is_root(&self) -> bool {
        is_account_id(&self.0)
    }
}

text_id! {
    /// The name of a user within an account (the IAM model).
    UserName,
    |text| (1..=64).contains(&text.len()) && text.bytes().all(is_iam_name),
    "a user name is 1 to 64 letters, digits or any of + = , . @ _ -"
}

text_id! {
    /// The name of a group within an account (the IAM model).
    GroupName,
    |text| (1..=128).contains(&text.len()) && text.bytes().all(is_iam_name),
    "a group name is 1 to 128 letters, digits or any of + = , . @ _ -"
}

text_id! {
    /// The name of an inline policy within its user or group, or of a managed policy within its account (the IAM model).
    PolicyName,
    |text| (1..=128).contains(&text.len()) && text.bytes().all(is_iam_name),
    "a policy name is 1 to 128 letters, digits or any of + = , . @ _ -"
}

fn is_account_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_iam_id(text: &str) -> bool {
    (16..=128).contains(&text.len()) && text.bytes().all(is_word)
}

fn is_iam_name(b: u8) -> bool {
    is_word(b) || matches!(b, b'+' | b'=' | b',' | b'.' | b'@' | b'-')
}

/// `\w` as AWS's patterns mean it.
fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

#[cfg(test)]
mod tests {
    use super::{AccountId, AvailabilityZone, UserId};

    #[test]
    fn zones_that_the_stock_scripts_take() {
        for (zone, region) in [
            ("us-east-1a", Some("us-east-1")),
            ("us-gov-west-1b", Some("us-gov-west-1")),
            ("lab-rack-7z", Some("lab-rack-7")),
            ("us-west-2-lax-1a", None),
            ("us-east-1", None),
            ("us-east-1A", None),
            ("US-east-1a", None),
            ("us-east-1ab", None),
            ("use1-az1", None),
            ("us-east-12a", None),
            ("a-b-c-d-1a", None),
            ("rack-1a", None),
            ("us--east-1a", None),
            ("us--1a", None),
            ("laboratorya", None),
        ] {
            let parsed: AvailabilityZone = zone.parse().unwrap();
            assert_eq!(parsed.region_for_stock_scripts(), region, "{zone}");
        }
    }

    #[test]
    fn an_accounts_root_has_the_accounts_id() {
        let account: AccountId = "111122223333".parse().unwrap();
        let root = UserId::root(&account);
        assert_eq!((root.as_str(), root.is_root()), ("111122223333", true));
        assert_eq!("111122223333".parse(), Ok(root));
        assert!(!"AIDAEXAMPLEEXAMPLE01".parse::<UserId>().unwrap().is_root());
        // Sixteen digits are a user's id.
        assert!(!"1111222233334444".parse::<UserId>().unwrap().is_root());
        for text in ["", "11112222333", "1111222233334", "11112222333a", "AIDAEXAMPLEEXAM"] {
            assert!(text.parse::<UserId>().is_err(), "{text:?}");
        }
    }
}
