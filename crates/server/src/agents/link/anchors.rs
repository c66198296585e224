//! What a link says of anchors and signers (docs/link.md 6.1 and 7.2).

use super::{Conversation, Ended};
use crate::links::Slot;
use instance_connect_core::link::{GoodbyeCode, HeldAnchors, ServerFrame, Signer};

/// What a machine says of its anchors, and is told.
#[derive(Clone, Copy)]
pub(super) struct AnchorSets {
    /// Those that it says it trusts.
    held: HeldAnchors,
    /// The number of the last set that it was sent; 0 before the first.
    sent: u32,
    /// What was noted of that.
    noted: Option<u32>,
}

impl Conversation<'_> {
    /// Takes the machine's word on its anchors.
    pub(super) async fn take_anchors(&mut self, slot: &Slot, held: HeldAnchors) -> Result<(), Ended> {
        if self.anchor_sets.is_none_or(|sets| held != sets.held) {
            let sent = self.anchor_sets.map_or(0, |sets| sets.sent);
            self.anchor_sets = Some(AnchorSets { held, sent, noted: None });
            // A set that is later than ours may come from another node of the control plane: by the next ping we know it, too.
            if held.set <= self.agents.links.pki().newest_anchor_set() {
                self.note_anchors(slot);
            }
        }
        self.send_anchors().await
    }

    /// Notes what the machine says of its anchors, if it is time. Anchors that are
    /// none of ours are noted as no set: whatever the machine has said before, it is not to pass for one that has followed.
    pub(super) fn note_anchors(&mut self, slot: &Slot) {
        let Some(sets) = &mut self.anchor_sets else { return };
        let trusted = self.agents.links.pki().trusted_by(sets.held);
        let set = trusted.unwrap_or(0);
        if sets.noted == Some(set) || !slot.anchors.permits(self.agents.links.clock().monotonic()) {
            return;
        }
        sets.noted = Some(set);
        if trusted.is_none() {
            tracing::warn!(
                instance = %self.identity.instance, set = sets.held.set,
                "the anchors of a machine are not those that were issued under this number; compare its \
                 /etc/instance-connect/anchors with another machine's, and enrol it anew with --replace"
            );
        }
        self.aside(|agents, identity| async move { agents.trusts_anchors(&identity, set).await });
    }

    /// Sends the anchor set that the machine is to trust, if it has an earlier one and was not sent it yet.
    pub(super) async fn send_anchors(&mut self) -> Result<(), Ended> {
        let Some(sets) = &mut self.anchor_sets else { return Ok(()) };
        let (pki, now) = (self.agents.links.pki(), self.agents.links.clock().wall());
        let Some((number, set)) = pki.anchors_after(sets.held.set.max(sets.sent), now) else { return Ok(()) };
        sets.sent = number;
        let too_long = |_| Ended::with(GoodbyeCode::InternalError, "no anchor set");
        self.send(&ServerFrame::Anchors(set.parse().map_err(too_long)?)).await
    }

    /// Writes the statement for the key that signs now, if it was not sent yet.
    pub(super) async fn write_signer(&mut self) -> Result<(), Ended> {
        let (pki, now) = (self.agents.links.pki(), self.agents.links.clock().wall());
        let Some((of, statement)) = pki.statement_after(self.signer_sent, now) else { return Ok(()) };
        self.signer_sent = Some(of);
        let too_long = |_| Ended::with(GoodbyeCode::InternalError, "no signer statement");
        let statement = statement.to_string().parse().map_err(too_long)?;
        self.write(&ServerFrame::Signer(Signer { statement })).await
    }
}
