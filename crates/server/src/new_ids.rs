//! New ids and secrets, in the forms that AWS's have.

use instance_connect_core::document::base64_encode;
use instance_connect_core::environment::Random;
use instance_connect_core::ids::{AccessKeyId, AccountId, IdError, InstanceId, RequestId, UserId};
use instance_connect_core::inventory::{AccessKey, Status};
use instance_connect_core::secret::Secret;
use zeroize::Zeroizing;

/// A random UUID.
pub(crate) fn uuid(random: &dyn Random) -> String {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    uuid_of(bytes)
}

/// The UUID of these random bytes.
pub(crate) fn uuid_of(bytes: [u8; 16]) -> String {
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// The id of another request: a UUID.
#[expect(clippy::expect_used, reason = "the hyphenated form of a UUID is what a request id is")]
pub(crate) fn request_id(random: &dyn Random) -> RequestId {
    uuid(random).parse().expect("a UUID is a request id")
}

/// An account id: 12 digits, the first of which is none of those that read as a small number.
pub(crate) fn account_id(random: &dyn Random) -> Result<AccountId, IdError> {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    (100_000_000_000 + u64::from_le_bytes(bytes) % 900_000_000_000).to_string().parse()
}

/// The unique id of a user.
pub(crate) fn user_id(random: &dyn Random) -> Result<UserId, IdError> {
    format!("AIDA{}", letters(random)).parse()
}

/// An instance id, with EC2's 17 digits.
pub(crate) fn instance_id(random: &dyn Random) -> Result<InstanceId, IdError> {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    format!("i-0{:016x}", u64::from_le_bytes(bytes)).parse()
}

/// An active access key with 240 random bits for its secret, and the text of that.
pub(crate) fn access_key(
    random: &dyn Random,
    user: UserId,
) -> Result<(AccessKey, Zeroizing<String>), IdError> {
    let id: AccessKeyId = format!("AKIA{}", letters(random)).parse()?;
    let mut bytes = Zeroizing::new([0; 30]);
    random.fill(bytes.as_mut_slice());
    let text = Zeroizing::new(base64_encode(bytes.as_slice()));
    let secret = Secret::new(text.as_bytes().to_vec());
    Ok((AccessKey { id, secret, user, status: Status::Active }, text))
}

/// 16 letters and digits of base 32.
fn letters(random: &dyn Random) -> String {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    let letter = |byte: &u8| match byte % 32 {
        letter @ 0..26 => char::from(b'A' + letter),
        digit => char::from(b'2' + digit - 26),
    };
    bytes.iter().map(letter).collect()
}
