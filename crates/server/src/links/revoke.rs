//! Revocation: which keys are, or may be, on the machines, and how they are withdrawn before their minute is over.
//!
//! No grant is kept at rest, so this is an index in memory of what this process has delivered. A key is in it from before it
//! leaves until it has expired, so that nothing slips through between a push and its revocation: an agent refuses a grant
//! whose withdrawal came first (docs/link.md 6.3).

use super::{Links, Slot, lock};
use instance_connect_core::document::ServerInstant;
use instance_connect_core::grant::Grant;
use instance_connect_core::ids::{Fingerprint, InstanceId, OsUser, RequestId};
use instance_connect_core::limits;
use instance_connect_core::link::{ServerFrame, Withdraw, WithdrawId};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::time::timeout;

/// A key that is, or may be, on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveKey {
    /// The instance.
    pub(crate) instance: InstanceId,
    /// Whose agent has it.
    pub(super) machine: InstanceId,
    /// The request that pushed it.
    pub(crate) request: RequestId,
    /// For whom it was pushed.
    pub(crate) os_user: OsUser,
    /// The key.
    pub(crate) fingerprint: Fingerprint,
    /// The ARN of who pushed it.
    pub(crate) principal: String,
    /// When it has expired, on this process's monotonic clock.
    pub(crate) until: ServerInstant,
}

impl LiveKey {
    pub(super) fn of(grant: &Grant) -> Self {
        Self {
            instance: grant.instance().clone(),
            machine: grant.machine().clone(),
            request: grant.request().clone(),
            os_user: grant.os_user().clone(),
            fingerprint: grant.fingerprint(),
            principal: grant.caller().to_owned(),
            until: grant.deadline(),
        }
    }
}

/// Which keys are meant: those that fit in every respect that is given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Selection<'a> {
    pub(crate) instance: Option<&'a InstanceId>,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) principal: Option<&'a str>,
}

/// A key that was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revoked {
    pub(crate) key: LiveKey,
    /// Whether its machine has said that it is gone. If not, its withdrawal is sent again whenever the machine's agent
    /// comes back, until the key has expired.
    pub(crate) confirmed: bool,
}

impl Links {
    /// Withdraws every key that is meant, and waits for the machines to say so, for [`limits::DELIVERY_WAIT`] in all.
    pub(crate) async fn revoke(&self, selection: Selection<'_>) -> Vec<Revoked> {
        let slots: Vec<Arc<Slot>> = match selection.instance {
            Some(instance) => lock(&self.slots).get(instance).cloned().into_iter().collect(),
            None => lock(&self.slots).values().cloned().collect(),
        };
        let now = self.clock.monotonic();
        let mut sent = Vec::new();
        for slot in slots {
            for key in slot.live.meant(selection, now) {
                let machine = self.slot(&key.machine);
                let withdraw = self.owe(&machine, &key, now);
                sent.push((Arc::clone(&slot), machine, key, withdraw));
            }
        }
        let confirmations = async {
            for (_, machine, _, withdraw) in &sent {
                machine.send_withdrawal(withdraw).await;
            }
            for (_, machine, _, withdraw) in &sent {
                machine.confirmed(withdraw.id).await;
            }
        };
        // Whatever has not been confirmed by then stays owed.
        let _ = timeout(limits::DELIVERY_WAIT, confirmations).await;
        let revoked = sent.into_iter().map(|(slot, machine, key, withdraw)| {
            let confirmed = !machine.is_owed(withdraw.id);
            if confirmed {
                slot.live.end(&key.request);
            }
            Revoked { key, confirmed }
        });
        revoked.collect()
    }
}

impl Slot {
    /// Sends a withdrawal over the link that is open now, if there is one, and waits for room in its queue.
    async fn send_withdrawal(&self, withdraw: &Withdraw) {
        let link = self.link.borrow().clone();
        if let Some(link) = link {
            // A link that ends meanwhile takes no more; the next one begins with what is owed.
            let _ = link.frames.send(ServerFrame::Withdraw(withdraw.clone())).await;
        }
    }

    /// Waits until the machine says that a withdrawn key is not there.
    async fn confirmed(&self, id: WithdrawId) {
        let mut confirmations = self.confirmations.subscribe();
        while self.is_owed(id) {
            // The slot keeps its sender.
            let _ = confirmations.changed().await;
        }
    }

    fn is_owed(&self, id: WithdrawId) -> bool {
        lock(&self.owed).iter().any(|owed| owed.withdraw.id == id)
    }
}

/// The live keys of one instance, oldest first. All live equally long, so that is also the order in which they expire.
#[derive(Debug, Default)]
pub(super) struct LiveKeys(Mutex<VecDeque<LiveKey>>);

/// As many as can be revoked of one instance are under way to it or on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl LiveKeys {
    /// A grant is about to leave for the machine.
    pub(super) fn begin(&self, grant: &Grant, now: ServerInstant) -> Result<(), Full> {
        let mut keys = lock(&self.0);
        while keys.front().is_some_and(|key| key.until <= now) {
            keys.pop_front();
        }
        if keys.len() >= limits::REVOCABLE_PER_INSTANCE {
            return Err(Full);
        }
        keys.push_back(LiveKey::of(grant));
        Ok(())
    }

    /// What this request has pushed is not on the machine, and will not be.
    pub(super) fn end(&self, request: &RequestId) {
        let mut keys = lock(&self.0);
        // The newest are refused, so they are looked at first.
        if let Some(position) = keys.iter().rposition(|key| key.request == *request) {
            keys.remove(position);
        }
    }

    fn meant(&self, selection: Selection<'_>, now: ServerInstant) -> Vec<LiveKey> {
        let is_meant = |key: &&LiveKey| {
            key.until > now
                && selection.fingerprint.is_none_or(|fingerprint| fingerprint == key.fingerprint)
                && selection.principal.is_none_or(|principal| principal == key.principal)
        };
        lock(&self.0).iter().filter(is_meant).cloned().collect()
    }
}
