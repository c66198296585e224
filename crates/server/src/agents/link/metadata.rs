//! What a link says to a machine with a metadata service (docs/link.md 7.3).

use super::{Conversation, Ended};
use instance_connect_core::link::{InstanceFacts, ServerFrame};

/// What the machine was told last.
#[derive(Default)]
pub(super) struct Told {
    /// Which signers: the number of [`InForce`](crate::stock::InForce).
    signers: Option<u64>,
    instance: Option<InstanceFacts>,
}

impl Conversation<'_> {
    /// Writes who signs the documents of its metadata service now, if that is news.
    pub(super) async fn write_stock_signers(&mut self) -> Result<(), Ended> {
        let Some(told) = &mut self.metadata else { return Ok(()) };
        let in_force = self.agents.links.stock().in_force();
        if told.signers == Some(in_force.version) {
            return Ok(());
        }
        told.signers = Some(in_force.version);
        self.write(&ServerFrame::StockSigners(in_force.signers.clone())).await
    }

    /// Writes what its metadata service is to say of its instance, if that is news.
    pub(super) async fn write_instance(&mut self) -> Result<(), Ended> {
        let Some(told) = &mut self.metadata else { return Ok(()) };
        // While the store does not answer nothing changes, and an instance that is gone has no link.
        let Ok(inventory) = self.agents.inventory.current() else { return Ok(()) };
        let Some(instance) = inventory.instances.get(&self.identity.instance) else { return Ok(()) };
        let facts = InstanceFacts {
            instance: instance.id.clone(),
            account: instance.account.clone(),
            region: instance.region.clone(),
            availability_zone: instance.availability_zone.clone(),
            domain: self.agents.links.stock().domain().clone(),
            tags: InstanceFacts::fitting_tags(&instance.tags),
        };
        if told.instance.as_ref() == Some(&facts) {
            return Ok(());
        }
        told.instance = Some(facts.clone());
        self.write(&ServerFrame::Instance(facts)).await
    }
}
