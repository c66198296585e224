//! What a link says of anchors and signers (docs/link.md 6.1 and 7.2).

use super::{Conversation, Ended};
use crate::links::Slot;
use instance_connect_core::link::{GoodbyeCode, ServerFrame, Signer};
use std::sync::Arc;

/// Anchor sets of a machine, by their numbers.
#[derive(Clone, Copy)]
pub(super) struct AnchorSets {
    /// Which it says that it trusts.
    held: u32,
    /// The last that it was sent; 0 before the first.
    sent: u32,
    /// Whether what it says was noted.
    is_noted: bool,
}

impl Conversation<'_> {
    /// Takes the machine's word on its anchors. On one link they only go forward.
    pub(super) async fn take_anchors(&mut self, slot: &Slot, set: u32) -> Result<(), Ended> {
        let is_later = self.anchor_sets.is_none_or(|sets| set > sets.held);
        if is_later && set <= self.agents.links.pki().newest_anchor_set() {
            let sent = self.anchor_sets.map_or(0, |sets| sets.sent);
            self.anchor_sets = Some(AnchorSets { held: set, sent, is_noted: false });
            self.note_anchors(slot);
        }
        self.send_anchors().await
    }

    /// Notes what the machine says of its anchors, if it is time: in a task of its own, as with host keys.
    pub(super) fn note_anchors(&mut self, slot: &Slot) {
        let Some(sets) = self.anchor_sets.as_mut().filter(|sets| !sets.is_noted) else { return };
        if !slot.anchors.permits(self.agents.links.clock().monotonic()) {
            return;
        }
        sets.is_noted = true;
        let (agents, identity, held) = (Arc::clone(self.agents), self.identity.clone(), sets.held);
        let under_way = agents.drain.under_way();
        tokio::spawn(async move {
            let _under_way = under_way;
            agents.trusts_anchors(&identity, held).await;
        });
    }

    /// Sends the anchor set that the machine is to trust, if it has an earlier one and was not sent it yet.
    pub(super) async fn send_anchors(&mut self) -> Result<(), Ended> {
        let Some(sets) = &mut self.anchor_sets else { return Ok(()) };
        let (pki, now) = (self.agents.links.pki(), self.agents.links.clock().wall());
        let Some((number, set)) = pki.anchors_after(sets.held.max(sets.sent), now) else { return Ok(()) };
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
