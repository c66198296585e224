//! What a link says to a machine with a metadata service, and hears of its guests (docs/link.md 7.3).

use super::{Conversation, Ended};
use instance_connect_core::audit::Proof;
use instance_connect_core::ids::InstanceId;
use instance_connect_core::inventory::Instance;
use instance_connect_core::limits::GUESTS_PER_HOST;
use instance_connect_core::link::{Domain, GuestKey, GuestReport, InstanceFacts, ServerFrame};
use instance_connect_planted::planted;
use std::collections::BTreeMap;

/// What the machine was told last.
#[derive(Default)]
pub(super) struct Told {
    /// Which signers: the number of [`InForce`](crate::stock::InForce).
    signers: Option<u64>,
    /// As of which change of the inventory.
    inventory: Option<u64>,
    instances: BTreeMap<InstanceId, InstanceFacts>,
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

    /// Writes what its metadata service is to say of its instance and of its guests, as far as that is news.
    pub(super) async fn write_instances(&mut self) -> Result<(), Ended> {
        let Some(told) = &mut self.metadata else { return Ok(()) };
        // While the store does not answer nothing changes.
        let Ok(inventory) = self.agents.inventory.current() else { return Ok(()) };
        if told.inventory.replace(inventory.sequence) == Some(inventory.sequence) {
            return Ok(());
        }
        let own = inventory.instances.get(&self.identity.instance);
        let guests = inventory.guests_of(&self.identity.instance).take(GUESTS_PER_HOST);
        let domain = self.agents.links.stock().domain();
        let current: Vec<InstanceFacts> = own.into_iter().chain(guests).map(|of| facts(of, domain)).collect();
        for facts in current {
            let Some(told) = &mut self.metadata else { return Ok(()) };
            if told.instances.get(&facts.instance) != Some(&facts) {
                told.instances.insert(facts.instance.clone(), facts.clone());
                self.write(&ServerFrame::Instance(facts)).await?;
            }
        }
        Ok(())
    }

    /// Records what the agent says of a guest's key, if it is a guest of its machine.
    pub(super) fn take_guest_report(&self, report: &GuestReport) {
        let guest = &report.instance;
        let inventory = self.agents.inventory.current();
        let is_guest = inventory
            .is_ok_and(|inventory| inventory.guests_of(&self.identity.instance).any(|one| one.id == *guest));
        if !is_guest && !planted("guests-of-others") {
            tracing::warn!(instance = %self.identity.instance, %guest, "an agent reports on what is no guest of its machine");
            return;
        }
        let proof = match &report.report {
            GuestKey::Offered(offered) => Proof::Offered(offered),
            GuestKey::ExpiredUnused(unused) => Proof::ExpiredUnused(unused),
        };
        // At a rate of its own, so that one guest does not keep others off the record.
        self.record(&self.agents.links.slot(guest), guest, proof);
    }
}

fn facts(instance: &Instance, domain: &Domain) -> InstanceFacts {
    InstanceFacts {
        instance: instance.id.clone(),
        account: instance.account.clone(),
        region: instance.region.clone(),
        availability_zone: instance.availability_zone.clone(),
        domain: domain.clone(),
        tags: InstanceFacts::fitting_tags(&instance.tags),
    }
}
