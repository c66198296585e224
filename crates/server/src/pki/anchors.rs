//! Anchors: the keys that vouch for signers, and how one follows the other (docs/link.md 7.2). Each has a signer of its own.

use super::ed25519;
use instance_connect_core::document::{
    AnchorSet, Anchors, SignerStatement, SigningKey, UnixDay, UnixSeconds,
};
use instance_connect_core::environment::Random;
use instance_connect_core::ids::Region;
use instance_connect_core::inventory::AnchorRotation;
use instance_connect_core::link::HeldAnchors;
use instance_connect_planted::planted;
use instance_connect_store::Store;

/// How long a signer statement holds. It is issued again each day.
const SIGNER_LIFETIME_DAYS: u32 = 30;

/// The anchors of one moment, and the key that signs documents.
#[derive(Debug)]
pub(super) struct AnchorKeys {
    pub(super) rotation: AnchorRotation,
    region: Region,
    /// The one that vouches for the signer.
    current: SigningKey,
    /// The key that signs documents. No other anchor ever vouches for it: whoever has it is rid of it with its anchor.
    signer: SigningKey,
    /// The anchors that machines are to trust, as they are written there.
    pub(super) set: String,
    /// What machines say that trust this set, or the one before.
    issued: Vec<HeldAnchors>,
}

impl AnchorKeys {
    /// Loads them from the store, and makes those that are not there yet.
    pub(super) async fn load(
        store: &dyn Store,
        random: &dyn Random,
        region: &Region,
    ) -> anyhow::Result<Self> {
        let rotation = store.anchor_rotation().await?;
        let current = ed25519(store, &numbered("anchor", rotation.current), random).await?;
        let signer_of = if planted("signer-kept") { 1 } else { rotation.current };
        let signer = ed25519(store, &numbered("signer", signer_of), random).await?;
        let set = anchor_set(store, random, region, rotation.set()).await?;
        let mut issued = vec![HeldAnchors::of(&Anchors::parse(&set)?)];
        if let before @ 1.. = rotation.set().saturating_sub(1) {
            let before = anchor_set(store, random, region, before).await?;
            issued.push(HeldAnchors::of(&Anchors::parse(&before)?));
        }
        Ok(Self { rotation, region: region.clone(), current, signer, set, issued })
    }

    /// The key that signs documents.
    pub(super) const fn signer(&self) -> &SigningKey {
        &self.signer
    }

    /// The anchor's statement for the signer, issued on the day of `now`.
    pub(super) fn signer_statement(&self, now: UnixSeconds) -> SignerStatement {
        let not_after = UnixDay(now.day().0.saturating_add(SIGNER_LIFETIME_DAYS));
        SignerStatement::issue(&self.current, self.signer.verifying_key(), &self.region, not_after)
    }

    /// The set to send to machines that have an earlier one, if it is time for it: what was delivered under an anchor that
    /// is given up has to live out its minute.
    pub(super) fn to_send(&self, now: UnixSeconds) -> Option<(u32, &str)> {
        let may = self.rotation.is_rolling_over || !self.rotation.has_just_changed(now);
        may.then_some((self.rotation.set(), self.set.as_str()))
    }

    /// Which set a machine with these anchors trusts; `None` where they are none that was issued. A number from before is
    /// taken as it is: such a machine is behind, whatever its file says.
    pub(super) fn trusted_by(&self, held: HeldAnchors) -> Option<u32> {
        let is_earlier = self.issued.iter().all(|issued| held.set < issued.set);
        let is_ours = self.issued.contains(&held) || planted("anchors-believed");
        (is_earlier || is_ours).then_some(held.set)
    }
}

/// The anchor set with this number, byte for byte as it was issued before ([`AnchorRotation::set`] counts them): each anchor
/// signs that which has it alone, and then the one with the next.
async fn anchor_set(
    store: &dyn Store,
    random: &dyn Random,
    region: &Region,
    number: u32,
) -> anyhow::Result<String> {
    let (anchor, has_next) = (number.div_ceil(2), number.is_multiple_of(2));
    let current = ed25519(store, &numbered("anchor", anchor), random).await?;
    let mut trusted = vec![current.verifying_key()];
    if has_next {
        let next = numbered("anchor", anchor.saturating_add(1));
        trusted.push(ed25519(store, &next, random).await?.verifying_key());
    }
    Ok(AnchorSet::issue(&current, number, region, &trusted))
}

/// The name of a key in the store that there is one of for each anchor.
fn numbered(purpose: &str, anchor: u32) -> String {
    if anchor == 1 { purpose.to_owned() } else { format!("{purpose}-{anchor}") }
}
