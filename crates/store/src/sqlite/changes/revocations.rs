//! What was revoked, for as long as a push from before can be sent again.

use super::Done;
use crate::limits::{REVOCATION_KEPT, REVOCATIONS};
use instance_connect_core::ids::AccountId;
use instance_connect_core::revocation::Revocation;
use rusqlite::{OptionalExtension, Transaction};

/// A later time stays: the clock may have gone back.
const PUT: &str = "INSERT INTO revocations (account, instance, fingerprint, principal, revoked_at)
    VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT DO UPDATE SET revoked_at = max(revoked_at, excluded.revoked_at)";

/// The instance of an account that has the most, if one has several.
const MOST: &str = "SELECT instance FROM revocations WHERE account = ?1 AND instance <> ''
    GROUP BY instance HAVING count(*) > 1 ORDER BY count(*) DESC, instance LIMIT 1";

/// Takes the oldest of an instance, or of the account where that is empty, but for the one that stands for all of its keys.
const TAKE_OLDEST: &str = "DELETE FROM revocations WHERE (account, instance, fingerprint, principal) = (
        SELECT account, instance, fingerprint, principal FROM revocations
        WHERE account = ?1 AND ?2 IN (instance, '') AND (instance, fingerprint, principal) <> (?2, '', '')
        ORDER BY revoked_at LIMIT 1
    ) RETURNING revoked_at";

/// Keeps one, and forgets those of which nothing can be sent again. Of too many the oldest come to stand for all keys: so they
/// can keep somebody out who has signed long ago, but nothing that was revoked back in.
///
/// All keys, that is, of the instance that has the most, and of the account only where no instance has two: else whoever may
/// revoke on one instance could, with made-up fingerprints, have pushes to all others refused.
pub(in crate::sqlite) fn put(tx: &Transaction<'_>, account: &AccountId, revocation: &Revocation) -> Done {
    let Revocation { instance, fingerprint, principal, at } = revocation;
    let account = account.as_str();
    tx.execute("DELETE FROM revocations WHERE revoked_at < ?1", [at.0.saturating_sub(REVOCATION_KEPT)])?;
    let fingerprint = fingerprint.map(|fingerprint| fingerprint.to_string()).unwrap_or_default();
    let instance = instance.as_ref().map(|instance| instance.as_str()).unwrap_or_default();
    let principal = principal.as_deref().unwrap_or_default();
    tx.execute(PUT, (account, instance, &fingerprint, principal, at.0))?;
    // Twice at most: where none stands for all keys yet, the first turn puts one in the place of the oldest, and the second,
    // for the same instance, has one less.
    while count(tx, account)? > REVOCATIONS {
        let most: Option<String> = tx.query_row(MOST, [account], |row| row.get(0)).optional()?;
        let instance = most.unwrap_or_default();
        let revoked_at: i64 = tx.query_row(TAKE_OLDEST, (account, &instance), |row| row.get(0))?;
        tx.execute(PUT, (account, &instance, "", "", revoked_at))?;
    }
    Ok(())
}

fn count(tx: &Transaction<'_>, account: &str) -> rusqlite::Result<u32> {
    tx.query_row("SELECT count(*) FROM revocations WHERE account = ?1", [account], |row| row.get(0))
}
