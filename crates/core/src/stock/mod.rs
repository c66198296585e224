//! What the metadata service of an instance shows of its live keys: documents for the stock host scripts, each signed by one or
//! two generations of the signer (docs/link.md 7.3). The files behind it are the agent's.
//!
//! The scripts give up everything that they were shown for a user when one signature in it is not that of the chain that they
//! were shown before (wire.md 3.5). So no entry comes in that was not verified here, and none is shown under a generation that
//! has not signed it.

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use crate::limits::{LIVE_KEYS_PER_INSTANCE, LIVE_KEYS_PER_USER};
use crate::link::{Refusal, StockSigner, Twin};
use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use instance_connect_document::{
    BootInstant, ClaimedGrant, Fingerprint, InstanceId, LONGEST_LIFETIME, Offer, OsUser, RequestId,
    SECTIONS_PER_FILE, stock_entry, stock_text,
};
use instance_connect_planted::planted;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Who signs, as announced, with the key that the leaf of its chain certifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// What was announced: generation, chain and staples.
    pub announced: StockSigner,
    /// The RSA key of the chain's first certificate: the DER of a PKCS#1 `RSAPublicKey`, which is what the certificate's
    /// `subjectPublicKey` holds.
    pub public_key: Vec<u8>,
}

impl Signer {
    /// Whether the twin is this signer's over that text. A salt of another length than 32 bytes is refused, as by the scripts.
    fn has_signed(&self, text: &str, twin: &Twin) -> bool {
        let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &self.public_key);
        let is_signed = key.verify(text.as_bytes(), twin.signature.as_slice()).is_ok();
        is_signed || planted("twins-unchecked")
    }
}

/// A grant that can be shown. Only [`StockKeys::admit`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockEntry {
    grant: ClaimedGrant,
    text: String,
    twins: Vec<Twin>,
}

impl StockEntry {
    /// Who may log in with what, and which request says so.
    pub const fn grant(&self) -> &ClaimedGrant {
        &self.grant
    }

    /// As a reader of that generation sees it.
    fn under(&self, generation: u32) -> Option<String> {
        let twin = self.twins.iter().find(|twin| twin.generation == generation)?;
        Some(stock_entry(&self.text, twin.signature.as_slice()))
    }

    fn is_signed_under(&self, generation: u32) -> bool {
        self.twins.iter().any(|twin| twin.generation == generation)
    }
}

/// What an OS user's `active-keys` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveKeys {
    /// The document: one entry for each key.
    pub text: String,
    /// The keys in it, each with the live requests that pushed it.
    pub offers: Vec<Offer>,
}

/// What one instance's metadata service shows: its signers, and its live keys with their signatures.
#[derive(Debug)]
pub struct StockKeys {
    instance: InstanceId,
    signers: Vec<Signer>,
    entries: Vec<Timed>,
}

#[derive(Debug)]
struct Timed {
    entry: StockEntry,
    deadline: BootInstant,
}

impl Timed {
    /// A key that seems to live for longer than keys do is not shown either: its clock is not this one.
    fn is_live(&self, now: BootInstant) -> bool {
        self.deadline > now && self.deadline.since(now) <= LONGEST_LIFETIME
    }
}

impl StockKeys {
    /// Of an instance, without signers and keys.
    pub const fn new(instance: InstanceId) -> Self {
        Self { instance, signers: Vec::new(), entries: Vec::new() }
    }

    /// From now on these sign, and nobody else. Entries keep the signatures that hold under their keys: a generation's number
    /// may come back with another key, after a backup was restored. Those without any are gone; their requests are returned.
    pub fn set_signers(&mut self, signers: Vec<Signer>) -> Vec<RequestId> {
        self.signers = signers;
        let mut entries = std::mem::take(&mut self.entries);
        entries.iter_mut().for_each(|timed| self.keep_verified(&mut timed.entry));
        let (kept, gone) = entries.into_iter().partition(|timed| !timed.entry.twins.is_empty());
        self.entries = kept;
        requests(gone)
    }

    /// Who signs under that generation, where it is announced.
    pub fn signer(&self, generation: u32) -> Option<&Signer> {
        self.signers.iter().find(|signer| signer.announced.generation == generation)
    }

    /// Judges the signatures of a grant whose document has been verified ([`crate::link::admit`]). Those of generations that
    /// are not announced are dropped.
    ///
    /// # Errors
    /// The document is none, or another instance's; its key is of a kind that cannot be shown, one of its signatures is not its
    /// signer's, or there is none of a signer in force that is not revoked; there are as many live keys as may be.
    pub fn admit(&self, document: &str, twins: &[Twin], now: BootInstant) -> Result<StockEntry, Refusal> {
        let grant = ClaimedGrant::of(document).ok_or(Refusal::Malformed)?;
        if grant.instance != self.instance {
            return Err(Refusal::WrongInstance);
        }
        let text = stock_text(document).ok_or(Refusal::StockSignature)?;
        let announced = twins.iter().filter(|twin| self.signer(twin.generation).is_some());
        let mut entry = StockEntry { grant, text, twins: announced.cloned().collect() };
        let claimed = entry.twins.len();
        self.keep_verified(&mut entry);
        let is_shown = self.shown_generations().any(|generation| entry.is_signed_under(generation));
        if entry.twins.len() < claimed || !is_shown {
            return Err(Refusal::StockSignature);
        }
        self.room_for(&entry.grant, now)?;
        Ok(entry)
    }

    fn keep_verified(&self, entry: &mut StockEntry) {
        let StockEntry { text, twins, .. } = entry;
        twins.retain(|twin| self.signer(twin.generation).is_some_and(|signer| signer.has_signed(text, twin)));
    }

    /// As for hand-over files ([`crate::link::LiveIndex`]): a key that is live already needs no room.
    fn room_for(&self, grant: &ClaimedGrant, now: BootInstant) -> Result<(), Refusal> {
        let live: BTreeSet<_> =
            self.live(now).map(|entry| (&entry.grant.user, entry.grant.fingerprint)).collect();
        if live.contains(&(&grant.user, grant.fingerprint)) {
            return Ok(());
        }
        if live.iter().filter(|(user, _)| **user == grant.user).count() >= LIVE_KEYS_PER_USER {
            return Err(Refusal::UserFull);
        }
        if live.len() >= LIVE_KEYS_PER_INSTANCE { Err(Refusal::InstanceFull) } else { Ok(()) }
    }

    /// Shows an entry until `deadline`, in the place of what the same request had. Nothing happens where the signers were
    /// replaced since it was admitted and none of them has signed it. Of more than [`SECTIONS_PER_FILE`] entries of a key the
    /// one that ends first makes room, as in its hand-over file; its request is returned.
    pub fn install(&mut self, mut entry: StockEntry, deadline: BootInstant) -> Option<RequestId> {
        self.keep_verified(&mut entry);
        if entry.twins.is_empty() {
            return None;
        }
        self.withdraw(&entry.grant.request);
        let is_same_key = |other: &StockEntry| {
            other.grant.user == entry.grant.user && other.grant.fingerprint == entry.grant.fingerprint
        };
        let of_key = self.entries.iter().filter(|timed| is_same_key(&timed.entry));
        let is_full = of_key.clone().count() >= SECTIONS_PER_FILE;
        let ends_first = of_key.min_by_key(|timed| timed.deadline).filter(|_| is_full);
        let evicted = ends_first.map(|timed| timed.entry.grant.request.clone());
        if let Some(request) = &evicted {
            self.withdraw(request);
        }
        self.entries.push(Timed { entry, deadline });
        evicted
    }

    /// Shows no more what this request pushed. Whether there was something.
    pub fn withdraw(&mut self, request: &RequestId) -> bool {
        let before = self.entries.len();
        self.entries.retain(|timed| timed.entry.grant.request != *request);
        self.entries.len() < before
    }

    /// All entries end that much earlier.
    pub fn shorten(&mut self, by: Duration) {
        self.entries.iter_mut().for_each(|timed| timed.deadline = timed.deadline.before(by));
    }

    /// Forgets the entries that have ended: they are shown to nobody any more. Their requests are returned.
    pub fn expire(&mut self, now: BootInstant) -> Vec<RequestId> {
        let entries = std::mem::take(&mut self.entries);
        let (kept, gone) = entries.into_iter().partition(|timed| timed.deadline > now);
        self.entries = kept;
        requests(gone)
    }

    /// Whether there is something that this request pushed, live or not.
    pub fn contains(&self, request: &RequestId) -> bool {
        self.entries.iter().any(|timed| timed.entry.grant.request == *request)
    }

    /// The generation that a reader who begins now shall see: the newest, not revoked, under which every live entry can be
    /// shown; where there is none, the newest of those under which most can. `None` without a signer.
    ///
    /// While a grant is live that came with the older generation's signature alone, readers who would begin with the newer one
    /// would miss its key.
    pub fn generation(&self, now: BootInstant) -> Option<u32> {
        let shown =
            |generation: &u32| self.live(now).filter(|entry| entry.is_signed_under(*generation)).count();
        self.shown_generations().max_by_key(|generation| (shown(generation), *generation))
    }

    /// Those of signers that are not revoked.
    fn shown_generations(&self) -> impl Iterator<Item = u32> {
        let announced = self.signers.iter().map(|signer| &signer.announced);
        announced.filter(|signer| !signer.is_revoked).map(|signer| signer.generation)
    }

    /// The document of a user for readers of that generation; `None` where no key of his is live that it has signed. Of a key
    /// that several requests pushed, the entry is shown that ends last.
    pub fn document(&self, user: &OsUser, generation: u32, now: BootInstant) -> Option<ActiveKeys> {
        let mut keys: BTreeMap<Fingerprint, Vec<&Timed>> = BTreeMap::new();
        for timed in self.shown(generation, now).filter(|timed| timed.entry.grant.user == *user) {
            keys.entry(timed.entry.grant.fingerprint).or_default().push(timed);
        }
        let last = keys.values().filter_map(|entries| entries.iter().max_by_key(|timed| timed.deadline));
        let text: String = last.filter_map(|timed| timed.entry.under(generation)).collect();
        let offers = keys.into_iter().map(|(fingerprint, entries)| Offer {
            user: user.clone(),
            fingerprint,
            requests: entries.into_iter().map(|timed| timed.entry.grant.request.clone()).collect(),
            at: now,
        });
        (!text.is_empty()).then(|| ActiveKeys { text, offers: offers.collect() })
    }

    /// The users who have a document for readers of that generation.
    pub fn users(&self, generation: u32, now: BootInstant) -> BTreeSet<&OsUser> {
        self.shown(generation, now).map(|timed| &timed.entry.grant.user).collect()
    }

    fn shown(&self, generation: u32, now: BootInstant) -> impl Iterator<Item = &Timed> {
        let live = self.entries.iter().filter(move |timed| timed.is_live(now));
        live.filter(move |timed| timed.entry.is_signed_under(generation))
    }

    fn live(&self, now: BootInstant) -> impl Iterator<Item = &StockEntry> {
        self.entries.iter().filter(move |timed| timed.is_live(now)).map(|timed| &timed.entry)
    }
}

fn requests(entries: Vec<Timed>) -> Vec<RequestId> {
    entries.into_iter().map(|timed| timed.entry.grant.request).collect()
}
