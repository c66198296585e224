//! The keys that sign documents for the metadata service, one generation after another, with what vouches for them: their
//! chains and staples (wire.md 3.6, 3.7; docs/link.md 7.3).

mod authority;
mod staple;
#[cfg(test)]
mod tests;

use crate::inventory::LiveInventory;
use anyhow::{Context as _, bail, ensure};
use arc_swap::ArcSwap;
pub(crate) use authority::ROOT_NAME;
use authority::{Leaf, StockAuthority};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::RSA_PSS_SHA256;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::environment::Clock;
use instance_connect_core::ids::{AvailabilityZone, Region};
use instance_connect_core::inventory::{StockChange, StockRotation};
use instance_connect_core::limits::STAPLES_BACKDATED;
use instance_connect_core::link::{self, Domain, Staple, StockSigner, Twin, TwinSignature};
use instance_connect_planted::planted;
use instance_connect_store::{Refusal, Store, StoreError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// The domains that the stock host scripts take (wire.md 3.3).
pub(crate) const DOMAINS: [&str; 4] = ["amazonaws.com", "amazonaws.com.cn", "c2s.ic.gov", "sc2s.sgov.gov"];

/// How often it is looked whether something is due.
const LOOK: Duration = Duration::from_secs(1);

/// How soon it is tried again where the store has failed.
const AGAIN: Duration = Duration::from_secs(1);

/// A leaf is replaced at the latest so many seconds before its end, whenever its rotation would be.
const LEAF_REPLACED_BEFORE: i64 = 24 * 60 * 60;

/// Generations that are passed over at once because their leaf is of another time. One is, where a process ended between
/// making it and having it take over.
const PASSED_OVER: usize = 8;

/// What the configuration says of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StockSettings {
    /// What the signers' names end in.
    pub(crate) domain: Domain,
    /// How long one signs.
    pub(crate) rotation: Duration,
    /// How long the one before is still in force.
    pub(crate) overlap: Duration,
    /// How long a staple is good.
    pub(crate) staple_lifetime: Duration,
}

/// Those of one control plane.
#[derive(Debug)]
pub(crate) struct StockSigners {
    authority: StockAuthority,
    settings: StockSettings,
    in_force: ArcSwap<InForce>,
    changed: watch::Sender<u64>,
    /// Places to sign at: as many as there are processors, since there is nothing in it to wait for.
    places: Arc<Semaphore>,
}

/// Those of one moment.
#[derive(Debug)]
pub(crate) struct InForce {
    /// Which moment of this process: it goes up with each change of what machines are told.
    pub(crate) version: u64,
    /// What machines are told.
    pub(crate) signers: link::StockSigners,
    rotation: StockRotation,
    /// In ascending order of their generations.
    generations: Vec<Generation>,
    staples_made_at: UnixSeconds,
}

#[derive(Clone, Debug)]
struct Generation {
    number: u32,
    is_revoked: bool,
    leaf: Arc<Leaf>,
}

/// What keeps machines in these zones from using the distributions' own host package: its scripts take few forms of names.
pub(crate) fn refused_by_the_scripts<'a>(
    region: &Region,
    zones: impl IntoIterator<Item = &'a AvailabilityZone>,
) -> Vec<String> {
    let scripts_give = "The distributions' host scripts give no key to instances";
    let is_refused = |zone: &&AvailabilityZone| zone.region_for_stock_scripts() != Some(region.as_str());
    let first: Option<AvailabilityZone> = format!("{region}a").parse().ok();
    if first.as_ref().is_none_or(|zone| is_refused(&zone)) {
        return vec![format!("{scripts_give} of the region {region}: they take names such as us-east-1.")];
    }
    let refused: BTreeSet<&str> =
        zones.into_iter().filter(is_refused).map(AvailabilityZone::as_str).collect();
    let warning =
        |zone| format!("{scripts_give} in the zone {zone}: they take {region} with one letter behind it.");
    refused.into_iter().map(warning).collect()
}

impl StockSigners {
    /// Loads them from the store, and makes those that are not there yet.
    pub(crate) async fn load(
        store: &dyn Store,
        region: &Region,
        settings: StockSettings,
        now: UnixSeconds,
    ) -> anyhow::Result<Self> {
        let authority = StockAuthority::load(store, region, &settings.domain, now).await?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let signers = Self {
            authority,
            settings,
            in_force: ArcSwap::from_pointee(InForce::none()),
            changed: watch::Sender::new(0),
            places: Arc::new(Semaphore::new(processors)),
        };
        signers.step(store, now).await?;
        Ok(signers)
    }

    /// Has the next generation take over now, as an operator has said, and gives what there is then. What runs follows.
    pub(crate) async fn rotate(
        store: &dyn Store,
        region: &Region,
        settings: &StockSettings,
        revokes: bool,
        now: UnixSeconds,
    ) -> anyhow::Result<StockRotation> {
        let authority = StockAuthority::load(store, region, &settings.domain, now).await?;
        let current = store.stock_rotation().await?.current;
        authority.leaf(store, current.saturating_add(1), now).await?;
        Ok(store.change_stock_signer(current, StockChange::Ordered { revokes }, now).await?)
    }

    /// Those in force now.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }

    /// Tells the version of what machines are told, whenever that changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What the signers' names end in, and `services/domain` says.
    pub(crate) const fn domain(&self) -> &Domain {
        &self.settings.domain
    }

    /// The name of every signer, which the stock host scripts compare.
    pub(crate) fn signer_name(&self) -> &str {
        self.authority.signer_name()
    }

    /// The certificate that machines have to trust, as a PEM file.
    pub(crate) fn root_pem(&self) -> String {
        self.authority.root_pem()
    }

    /// Signs the text of a document for the metadata service with each generation in force that is not revoked: off the
    /// async threads, as one signature takes a millisecond.
    pub(crate) async fn sign(&self, text: String) -> anyhow::Result<Vec<Twin>> {
        let place = Arc::clone(&self.places).acquire_owned().await?;
        let in_force = self.in_force();
        let signed = tokio::task::spawn_blocking(move || {
            // Kept while it signs, also when nobody waits for that any more.
            let _place = place;
            in_force.sign(text.as_bytes())
        });
        signed.await?
    }

    /// Rotates, renews staples and follows what others have rotated, until the process ends.
    pub(crate) async fn follow(&self, inventory: &LiveInventory, clock: &dyn Clock) {
        let mut changes = inventory.changes();
        // What has changed before somebody listened.
        changes.mark_changed();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                _ = looks.tick() => if !self.is_something_due(clock.wall()) { continue },
            }
            while let Err(error) = self.step(inventory.store(), clock.wall()).await {
                tracing::error!(error = format!("{error:#}"), "cannot keep the stock signers; trying again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Does what is due at `now`, and takes what others have done.
    pub(crate) async fn step(&self, store: &dyn Store, now: UnixSeconds) -> anyhow::Result<()> {
        let rotation = self.rotate_if_due(store, now).await?;
        let before = self.in_force();
        if before.rotation == rotation && !self.is_something_due(now) {
            return Ok(());
        }
        let mut generations = Vec::new();
        for (number, is_revoked) in rotation.in_force(now, self.settings.overlap) {
            let leaf = self.leaf(store, number, now).await?;
            generations.push(Generation { number, is_revoked, leaf });
        }
        if before.rotation.current != rotation.current {
            tracing::info!(
                generation = rotation.current,
                "documents for the metadata service have another signer"
            );
        }
        let version = before.version.saturating_add(1);
        let next = self.put_together(version, rotation, generations, now)?;
        self.in_force.store(Arc::new(next));
        self.changed.send_replace(version);
        Ok(())
    }

    /// Whether there is something to do at `now`, as far as this process knows.
    fn is_something_due(&self, now: UnixSeconds) -> bool {
        let in_force = self.in_force.load();
        let newest = in_force.generations.last().map(|generation| generation.leaf.as_ref());
        let wanted = in_force.rotation.in_force(now, self.settings.overlap);
        let has = in_force.generations.iter().map(|generation| (generation.number, generation.is_revoked));
        let staples_age = now.0.abs_diff(in_force.staples_made_at.0);
        !has.eq(wanted)
            || newest.is_none_or(|leaf| self.is_rotation_due(in_force.rotation, leaf, now))
            || staples_age >= self.settings.staple_lifetime.as_secs() / 4
    }

    /// Whether the newest generation has signed long enough, or is of another time than this.
    fn is_rotation_due(&self, rotation: StockRotation, leaf: &Leaf, now: UnixSeconds) -> bool {
        let has_served = now.0.saturating_sub(rotation.changed_at.0);
        u64::try_from(has_served).is_ok_and(|served| served >= self.settings.rotation.as_secs())
            || !leaf.is_good(now, UnixSeconds(now.0.saturating_add(LEAF_REPLACED_BEFORE)))
    }

    /// Has the next generation take over where it is time for that. Of several control planes one does it.
    async fn rotate_if_due(&self, store: &dyn Store, now: UnixSeconds) -> anyhow::Result<StockRotation> {
        for _ in 0..PASSED_OVER {
            let rotation = store.stock_rotation().await?;
            let is_due = match rotation.current {
                0 => true,
                current => self.is_rotation_due(rotation, &*self.leaf(store, current, now).await?, now),
            };
            if !is_due {
                return Ok(rotation);
            }
            // It is there, and in every backup, before anybody is told of it.
            self.leaf(store, rotation.current.saturating_add(1), now).await?;
            match store.change_stock_signer(rotation.current, StockChange::Due, now).await {
                Ok(_) | Err(StoreError::Refused(Refusal::StockChange)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bail!("{PASSED_OVER} stock signers in a row cannot be used at this time")
    }

    /// The leaf of a generation, as it is known already, or in the store, or made now.
    async fn leaf(&self, store: &dyn Store, number: u32, now: UnixSeconds) -> anyhow::Result<Arc<Leaf>> {
        let in_force = self.in_force();
        match in_force.generations.iter().find(|generation| generation.number == number) {
            Some(known) => Ok(Arc::clone(&known.leaf)),
            None => Ok(Arc::new(self.authority.leaf(store, number, now).await?)),
        }
    }

    fn put_together(
        &self,
        version: u64,
        rotation: StockRotation,
        generations: Vec<Generation>,
        now: UnixSeconds,
    ) -> anyhow::Result<InForce> {
        let (from, until) =
            (now.0.saturating_sub(STAPLES_BACKDATED), self.settings.staple_lifetime.as_secs());
        let validity = staple::Validity {
            made_at: now,
            from: UnixSeconds(from),
            until: UnixSeconds(now.0.saturating_add_unsigned(until)),
        };
        let signer = |generation: &Generation| -> anyhow::Result<StockSigner> {
            let revoked_at = generation.is_revoked.then_some(rotation.changed_at);
            let staples: Vec<Staple> = self.authority.staples(&generation.leaf, revoked_at, validity)?;
            ensure!(staples.len() <= link::limits::STAPLES, "a chain has too many staples for a frame");
            let chain =
                self.authority.chain(&generation.leaf).parse().context("the chain of a stock signer")?;
            Ok(StockSigner {
                generation: generation.number,
                is_revoked: generation.is_revoked,
                chain,
                staples,
            })
        };
        let each = generations.iter().map(signer).collect::<Result<_, _>>()?;
        let signers = link::StockSigners { each };
        Ok(InForce { version, signers, rotation, generations, staples_made_at: now })
    }
}

#[cfg(test)]
impl StockSigners {
    /// Some that all tests share which need them, but nothing of them: to make a key takes long.
    pub(crate) async fn of_tests() -> Arc<Self> {
        static SHARED: tokio::sync::OnceCell<Arc<StockSigners>> = tokio::sync::OnceCell::const_new();
        Arc::clone(SHARED.get_or_init(tests::shared).await)
    }
}

impl InForce {
    /// Before anything is loaded.
    fn none() -> Self {
        Self {
            version: 0,
            signers: link::StockSigners::default(),
            rotation: StockRotation::NONE,
            generations: Vec::new(),
            staples_made_at: UnixSeconds(0),
        }
    }

    /// When the newest certificate ends.
    pub(crate) fn expires(&self) -> UnixSeconds {
        self.generations.last().map_or(UnixSeconds(0), |newest| newest.leaf.not_after())
    }

    /// Signatures of this text by those that are not revoked. Takes a millisecond for each.
    fn sign(&self, text: &[u8]) -> anyhow::Result<Vec<Twin>> {
        let signing = self.generations.iter();
        let signing = signing.filter(|each| !each.is_revoked || planted("revoked-signer-signs"));
        let twin = |generation: &Generation| -> anyhow::Result<Twin> {
            let mut signature: Box<TwinSignature> = Box::new([0; _]);
            let signed = generation.leaf.key().sign(
                &RSA_PSS_SHA256,
                &SystemRandom::new(),
                text,
                signature.as_mut_slice(),
            );
            signed.ok().context("the stock signer cannot sign")?;
            Ok(Twin { generation: generation.number, signature })
        };
        signing.map(twin).collect()
    }
}
