//! Ids and secrets that are made up: of accounts, users, access keys.

use instance_connect_core::document::base64_encode;
use instance_connect_core::environment::Random;
use instance_connect_core::ids::{AccountId, IdError, UserId};
use instance_connect_core::inventory::{AccessKey, Status};
use instance_connect_core::secret::Secret;
use zeroize::Zeroizing;

/// An id for another account.
pub(crate) fn account_id(random: &dyn Random) -> Result<AccountId, IdError> {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    format!("{:012}", u64::from_be_bytes(bytes) % 1_000_000_000_000).parse()
}

/// An id for another user.
pub(crate) fn user_id(random: &dyn Random) -> Result<UserId, IdError> {
    format!("AIDA{}", letters(random)).parse()
}

/// Another access key of a user.
pub(crate) fn access_key(random: &dyn Random, user: UserId) -> Result<AccessKey, IdError> {
    let id = format!("AKIA{}", letters(random)).parse()?;
    let mut bytes = Zeroizing::new([0; 30]);
    random.fill(bytes.as_mut_slice());
    let secret = Secret::new(base64_encode(bytes.as_slice()).into_bytes());
    Ok(AccessKey { id, secret, user, status: Status::Active })
}

/// The 16 letters and digits that AWS's ids end in: base 32.
fn letters(random: &dyn Random) -> String {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    let letter =
        |byte: &u8| char::from(if byte % 32 < 26 { b'A' + byte % 32 } else { b'2' + byte % 32 - 26 });
    bytes.iter().map(letter).collect()
}
