//! From when on pushes have to be signed, where keys were revoked: whoever has captured a push could send it again for as long
//! as its signature is good.

use crate::api::ApiError;
use crate::console::ConsolePush;
use crate::grant::Grant;
use crate::ids::{AccountId, Fingerprint, InstanceId};
use instance_connect_document::UnixSeconds;
use instance_connect_planted::planted;
use std::collections::HashMap;

/// Keys of one account were revoked: those that fit in every respect that is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// On this machine.
    pub instance: Option<InstanceId>,
    /// With this fingerprint.
    pub fingerprint: Option<Fingerprint>,
    /// Pushed by whom this ARN names.
    pub principal: Option<String>,
    /// When. Times of signatures are whole seconds too, so what was signed in this one is revoked.
    pub at: UnixSeconds,
}

/// A push, as far as revocations are about it.
#[derive(Clone, Copy, Debug)]
pub struct SignedPush<'a> {
    /// The account of the instance.
    pub account: &'a AccountId,
    /// The instance.
    pub instance: &'a InstanceId,
    /// The key's fingerprint.
    pub fingerprint: Fingerprint,
    /// The ARN of who pushes it.
    pub principal: &'a str,
    /// When that is signed.
    pub signed_at: UnixSeconds,
}

impl<'a> SignedPush<'a> {
    /// The push that a grant is issued for.
    pub fn of(grant: &'a Grant, account: &'a AccountId, signed_at: UnixSeconds) -> Self {
        let (instance, fingerprint, principal) = (grant.instance(), grant.fingerprint(), grant.caller());
        Self { account, instance, fingerprint, principal, signed_at }
    }
}

impl<'a> SignedPush<'a> {
    /// The push of a key for a console.
    pub fn of_console(push: &'a ConsolePush, signed_at: UnixSeconds) -> Self {
        let ConsolePush { account, instance, fingerprint, principal, .. } = push;
        Self { account, instance, fingerprint: *fingerprint, principal, signed_at }
    }
}

impl Revocation {
    fn means(&self, push: &SignedPush<'_>) -> bool {
        self.instance.as_ref().is_none_or(|instance| instance == push.instance)
            && self.fingerprint.is_none_or(|fingerprint| fingerprint == push.fingerprint)
            && self.principal.as_ref().is_none_or(|principal| principal == push.principal)
    }
}

/// What was revoked for as long as a signature can be good, by account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations(pub HashMap<AccountId, Vec<Revocation>>);

impl Revocations {
    /// Refuses a push that was signed before such keys were revoked.
    ///
    /// # Errors
    /// [`ApiError::SignedBeforeRevocation`].
    pub fn admit(&self, push: &SignedPush<'_>) -> Result<(), ApiError> {
        let signed_at = push.signed_at;
        let revoked = self.0.get(push.account).into_iter().flatten().filter(|known| known.means(push));
        match revoked.map(|revocation| revocation.at).max() {
            Some(revoked_at) if signed_at <= revoked_at && !planted("revoked-pushes-replayed") => {
                Err(ApiError::SignedBeforeRevocation { signed_at, revoked_at })
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "arn:aws:iam::111122223333:user/alice";
    const AT: UnixSeconds = UnixSeconds(1000);
    const KEY: Fingerprint = Fingerprint::from_bytes([1; 32]);
    const OTHER_KEY: Fingerprint = Fingerprint::from_bytes([2; 32]);

    fn revocation(instance: &str, fingerprint: Option<Fingerprint>, principal: &str) -> Revocation {
        let instance = (!instance.is_empty()).then(|| instance.parse().unwrap());
        let principal = (!principal.is_empty()).then(|| principal.to_owned());
        Revocation { instance, fingerprint, principal, at: AT }
    }

    #[test]
    fn what_was_signed_before_a_revocation_is_refused() {
        const HERE: &str = "i-0123456789abcdef0";
        let (account, instance): (AccountId, _) = ("111122223333".parse().unwrap(), HERE.parse().unwrap());
        let signed = |second| SignedPush {
            account: &account,
            instance: &instance,
            fingerprint: KEY,
            principal: ALICE,
            signed_at: UnixSeconds(second),
        };
        for (revocation, is_meant) in [
            (revocation("", None, ""), true),
            (revocation(HERE, None, ""), true),
            (revocation("", None, ALICE), true),
            (revocation(HERE, Some(KEY), ALICE), true),
            (revocation("i-0fedcba9876543210", None, ALICE), false),
            (revocation(HERE, Some(OTHER_KEY), ""), false),
            (revocation(HERE, Some(KEY), "arn:aws:iam::111122223333:user/bob"), false),
        ] {
            let revocations = Revocations([(account.clone(), vec![revocation.clone()])].into());
            for (second, is_before) in [(999, true), (1000, true), (1001, false)] {
                let admitted = revocations.admit(&signed(second));
                assert_eq!(admitted.is_err(), is_meant && is_before, "{revocation:?} {second}");
            }
        }
        // Of several the latest counts; another account's are nothing to this one.
        let everything = |second| Revocation { at: UnixSeconds(second), ..revocation("", None, "") };
        let revocations = Revocations(
            [
                (account.clone(), vec![everything(2000), revocation(HERE, None, "")]),
                ("444455556666".parse().unwrap(), vec![everything(3000)]),
            ]
            .into(),
        );
        let (signed_at, revoked_at) = (UnixSeconds(1500), UnixSeconds(2000));
        let refused = Err(ApiError::SignedBeforeRevocation { signed_at, revoked_at });
        assert_eq!(revocations.admit(&signed(1500)), refused);
        assert_eq!(revocations.admit(&signed(2001)), Ok(()));
    }
}
