//! Agents' identities while they are used: judged, renewed, suspended (docs/link.md 2 and 7.1).

use super::{AgentConnection, Agents};
use crate::inventory::StaleInventory;
use crate::links::Link;
use crate::new_ids;
use crate::pki::AgentKey;
use anyhow::Context as _;
use instance_connect_core::audit::{self, CloneEvidence, LinkClaim, ShownBy};
use instance_connect_core::document::BootId;
use instance_connect_core::inventory::{AgentChange, AgentStanding};
use instance_connect_core::link::{AgentUrn, Goodbye, GoodbyeCode, Renewed, ServerFrame};
use instance_connect_store::{Refusal, StoreError};

impl Agents {
    /// What a certificate is worth now.
    pub(super) fn standing(&self, identity: &AgentUrn) -> Result<AgentStanding, StaleInventory> {
        let inventory = self.inventory.current()?;
        let instance = inventory.instances.get(&identity.instance);
        let is_its_instance = instance.is_some_and(|instance| {
            instance.account == identity.account
                && instance.region == identity.region
                && identity.region == self.region
        });
        let agent = inventory.agents.get(&identity.instance).filter(|_| is_its_instance);
        Ok(agent.map_or(AgentStanding::Revoked, |agent| agent.standing(identity.generation)))
    }

    /// Whether a newer certificate than this one was issued, or is to be.
    pub(super) fn is_renewal_due(&self, identity: &AgentUrn) -> bool {
        let inventory = self.inventory.current();
        let agent = inventory.as_ref().ok().and_then(|inventory| inventory.agents.get(&identity.instance));
        agent.is_some_and(|agent| identity.generation < agent.newest)
    }

    /// A link is about to open with this certificate: those before it are stale from now on.
    pub(super) async fn begin_to_use(&self, agent: &AgentConnection) -> Result<(), StoreError> {
        let identity = &agent.certificate.identity;
        let used = self.inventory.current().ok();
        let used = used.and_then(|inventory| Some(inventory.agents.get(&identity.instance)?.used));
        let generation = identity.generation;
        if used == Some(generation) {
            return Ok(());
        }
        self.links.slot(&identity.instance).used.note(agent.accepted_at);
        self.inventory.store().change_agent(&identity.instance, AgentChange::Use { generation }).await?;
        self.follow_store().await;
        Ok(())
    }

    /// Notes which anchors a machine says that it trusts. Only `rotate-anchor` asks for it, in the store.
    pub(super) async fn trusts_anchors(&self, identity: &AgentUrn, set: u32) {
        let change = AgentChange::TrustAnchors { set };
        if let Err(error) = self.inventory.store().change_agent(&identity.instance, change).await {
            tracing::error!(%error, instance = %identity.instance, "cannot note a machine's anchors");
        }
    }

    /// Issues the next certificate of an agent, for a key of which it has the private one.
    ///
    /// # Errors
    /// The identity is not good any more, or something failed here.
    pub(super) async fn renew(
        &self,
        identity: &AgentUrn,
        claim: &LinkClaim,
        key: &AgentKey,
    ) -> anyhow::Result<Renewed> {
        let presented = identity.generation;
        let renewed =
            self.inventory.store().change_agent(&identity.instance, AgentChange::Renew { presented }).await?;
        let urn = AgentUrn { generation: renewed.newest, ..identity.clone() };
        let (pki, now) = (self.links.pki(), self.links.clock().wall());
        let event_id = new_ids::uuid(self.random.as_ref());
        let record = audit::renewal(&urn, presented, claim.source, now, &event_id);
        self.audit.commit(record).await.context("a renewal cannot be recorded")?;
        let chain = pki.agent_chain(key, &urn, now, self.certificate_lifetime)?;
        self.follow_store().await;
        let (instance, generation) = (&urn.instance, urn.generation);
        tracing::info!(%instance, generation, "an agent's certificate is renewed");
        Ok(Renewed { chain: chain.parse()?, server_ca: pki.server_ca().parse()? })
    }

    /// Ends a connection with a stale certificate: it suspends the identity, unless the certificate was good when the connection
    /// began. Gives the last word for it.
    pub(super) async fn end_stale(&self, agent: &AgentConnection, boot_id: Option<&BootId>) -> Goodbye {
        let identity = &agent.certificate.identity;
        let slot = self.links.slot(&identity.instance);
        if slot.used.is_after(agent.accepted_at) {
            return overtaken();
        }
        let (open, shown_by) = (slot.current(), ShownBy { boot_id, source: agent.source });
        self.suspend(CloneEvidence::StaleCertificate, identity, shown_by, open.as_deref()).await
    }

    /// Suspends an identity that two machines hold, and ends the link that is open, if there is one. Gives the last word
    /// for the link that showed it.
    pub(super) async fn suspend(
        &self,
        evidence: CloneEvidence,
        identity: &AgentUrn,
        shown_by: ShownBy<'_>,
        open: Option<&Link>,
    ) -> Goodbye {
        let goodbye = Goodbye::new(GoodbyeCode::IdentitySuspended, "two machines hold this identity");
        let presented = identity.generation;
        let suspend = AgentChange::Suspend { presented };
        match self.inventory.store().change_agent(&identity.instance, suspend).await {
            Ok(_) => {
                let instance = &identity.instance;
                tracing::error!(%instance, ?evidence, ?shown_by, open = ?open.map(Link::claim), "an identity is suspended");
                let (now, event_id) = (self.links.clock().wall(), new_ids::uuid(self.random.as_ref()));
                let links = (shown_by, open.map(Link::claim));
                let record = audit::suspension(evidence, identity, links, now, &event_id);
                if let Err(error) = self.audit.commit(record).await {
                    tracing::error!(%error, "a suspension cannot be recorded");
                }
            }
            // Somebody else was first: it is suspended, revoked or replaced already.
            Err(StoreError::Refused(Refusal::AgentState)) => {}
            // Both links are closed all the same; when they come back it is tried again.
            Err(error) => tracing::error!(%error, "an identity cannot be suspended"),
        }
        // Before either hears of it: whoever comes back at once finds that it is so.
        self.follow_store().await;
        if let Some(open) = open {
            open.send(ServerFrame::Goodbye(goodbye.clone()));
        }
        goodbye
    }

    /// Ends a link that another one has replaced. A machine has dropped its link before it opens the next: if there is
    /// somebody at its other end, there are two machines.
    pub(super) async fn end_replaced(&self, replaced: &Link, identity: &AgentUrn, by: &Link) {
        if replaced.answers().await {
            let goodbye = self.suspend(CloneEvidence::TwoLinks, identity, by.shown(), Some(replaced)).await;
            by.send(ServerFrame::Goodbye(goodbye));
        } else {
            let text = "the same identity opened another link";
            replaced.send(ServerFrame::Goodbye(Goodbye::new(GoodbyeCode::Replaced, text)));
        }
    }

    /// Brings the snapshot up to what has just been changed.
    async fn follow_store(&self) {
        if let Err(error) = self.inventory.refresh().await {
            tracing::error!(error = format!("{error:#}"), "cannot follow the store");
        }
    }
}

/// The last word for a connection that was accepted before another one of its identity, which is before it: nobody is at
/// its other end any more.
pub(super) fn overtaken() -> Goodbye {
    Goodbye::new(GoodbyeCode::Overloaded, "a later connection of this identity has opened its link")
}
