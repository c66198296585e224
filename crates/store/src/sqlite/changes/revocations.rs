//! What was revoked, for as long as a push from before can be sent again.

use super::Done;
use crate::limits::{REVOCATION_KEPT, REVOCATIONS};
use instance_connect_core::ids::AccountId;
use instance_connect_core::revocation::Revocation;
use rusqlite::{Params, Transaction};

/// A later time stays: the clock may have gone back.
const PUT: &str = "INSERT INTO revocations (account, instance, fingerprint, principal, revoked_at)
    VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT DO UPDATE SET revoked_at = max(revoked_at, excluded.revoked_at)";

/// Keeps one, and forgets those of which nothing can be sent again. Of too many the oldest come to stand for everything of
/// the account: so they can keep somebody out who has signed long ago, but nothing that was revoked back in.
pub(in crate::sqlite) fn put(tx: &Transaction<'_>, account: &AccountId, revocation: &Revocation) -> Done {
    let Revocation { instance, fingerprint, principal, at } = revocation;
    tx.execute("DELETE FROM revocations WHERE revoked_at < ?1", [at.0.saturating_sub(REVOCATION_KEPT)])?;
    let fingerprint = fingerprint.map(|fingerprint| fingerprint.to_string()).unwrap_or_default();
    let instance = instance.as_ref().map(|instance| instance.as_str()).unwrap_or_default();
    let principal = principal.as_deref().unwrap_or_default();
    tx.execute(PUT, (account.as_str(), instance, &fingerprint, principal, at.0))?;
    while count(tx, [account.as_str()])? > REVOCATIONS {
        let oldest = "DELETE FROM revocations WHERE (account, instance, fingerprint, principal) = (
                SELECT account, instance, fingerprint, principal FROM revocations
                WHERE account = ?1 AND (instance, fingerprint, principal) <> ('', '', '')
                ORDER BY revoked_at LIMIT 1
            ) RETURNING revoked_at";
        let revoked_at: i64 = tx.query_row(oldest, [account.as_str()], |row| row.get(0))?;
        tx.execute(PUT, (account.as_str(), "", "", "", revoked_at))?;
    }
    Ok(())
}

fn count(tx: &Transaction<'_>, account: impl Params) -> rusqlite::Result<u32> {
    tx.query_row("SELECT count(*) FROM revocations WHERE account = ?1", account, |row| row.get(0))
}
