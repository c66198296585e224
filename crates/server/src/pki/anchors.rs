//! Anchors: the keys that vouch for signers, and how one follows the other (docs/link.md 7.2).

use super::ed25519;
use instance_connect_core::document::{AnchorSet, SigningKey, UnixSeconds};
use instance_connect_core::environment::Random;
use instance_connect_core::ids::Region;
use instance_connect_core::inventory::AnchorRotation;
use instance_connect_core::link::limits;
use instance_connect_store::Store;

/// The anchors of one moment.
#[derive(Debug)]
pub(super) struct AnchorKeys {
    pub(super) rotation: AnchorRotation,
    /// The one that vouches for signers.
    pub(super) current: SigningKey,
    /// The anchors that machines are to trust, as they are written there.
    pub(super) set: String,
}

impl AnchorKeys {
    /// Loads them from the store, and makes those that are not there yet.
    pub(super) async fn load(
        store: &dyn Store,
        random: &dyn Random,
        region: &Region,
    ) -> anyhow::Result<Self> {
        let rotation = store.anchor_rotation().await?;
        let current = ed25519(store, &authority(rotation.current), random).await?;
        let mut trusted = vec![current.verifying_key()];
        if rotation.is_rolling_over {
            let next = ed25519(store, &authority(rotation.current.saturating_add(1)), random).await?;
            trusted.push(next.verifying_key());
        }
        let set = AnchorSet::issue(&current, rotation.set(), region, &trusted);
        Ok(Self { rotation, current, set })
    }

    /// The set to send to machines that have an earlier one, if it is time for it: what was delivered under an anchor that
    /// is given up has to live out its minute.
    pub(super) fn to_send(&self, now: UnixSeconds) -> Option<(u32, &str)> {
        let withheld = i64::try_from(limits::ANCHORS_WITHHELD.as_secs()).unwrap_or(i64::MAX);
        let may =
            self.rotation.is_rolling_over || now.0 >= self.rotation.changed_at.0.saturating_add(withheld);
        may.then_some((self.rotation.set(), self.set.as_str()))
    }
}

/// The name of an anchor's key in the store.
fn authority(number: u32) -> String {
    if number == 1 { "anchor".to_owned() } else { format!("anchor-{number}") }
}
