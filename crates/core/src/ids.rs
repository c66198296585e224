//! The ids of the control plane, parsed once. Those a document carries are in `document`.

use instance_connect_document::text_id;
pub use instance_connect_document::{BootId, Fingerprint, IdError, InstanceId, OsUser, Region, RequestId};

text_id! {
    /// An AWS account id: 12 digits.
    AccountId, |text| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()), "an account id is 12 digits"
}

text_id! {
    /// An availability zone as an instance has it, such as `us-east-1a`.
    AvailabilityZone,
    |text| (6..=32).contains(&text.len()) && text.bytes().all(|b| is_word(b) || b == b'-'),
    "an availability zone is 6 to 32 letters, digits, hyphens and underscores, such as us-east-1a"
}

text_id! {
    /// An access key id: 16 to 128 word characters (the IAM model).
    AccessKeyId, is_iam_id, "an access key id is 16 to 128 letters, digits and underscores"
}

text_id! {
    /// The unique id of a user, such as `AIDA…` (the IAM model).
    UserId, is_iam_id, "a user id is 16 to 128 letters, digits and underscores"
}

text_id! {
    /// The name of a user within an account (the IAM model).
    UserName,
    |text| (1..=64).contains(&text.len()) && text.bytes().all(is_iam_name),
    "a user name is 1 to 64 letters, digits or any of + = , . @ _ -"
}

text_id! {
    /// The name of a policy of one user (the IAM model).
    PolicyName,
    |text| (1..=128).contains(&text.len()) && text.bytes().all(is_iam_name),
    "a policy name is 1 to 128 letters, digits or any of + = , . @ _ -"
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
