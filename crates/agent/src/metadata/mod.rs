//! The metadata service of this machine, which the distributions' own host scripts ask for keys (docs/metadata.md). What it
//! answers is decided in `core::imds` and `core::stock`; here are its sockets and its files.

mod address;
#[cfg(test)]
mod fixture;
mod kept;
mod listeners;
mod server;
mod settings;
#[cfg(test)]
mod tests;

pub use address::{AddressFailure, add_metadata_address, remove_metadata_address};
pub use listeners::PassedSockets;
pub(crate) use settings::{Guest, METADATA_ADDRESS, Own, Shows, WatchedMetadata};

use crate::clock::MachineClock;
use crate::host_reports::Readings;
use crate::state::certificates;
use crate::status::{ListenerStatus, MetadataStatus};
use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, StatusCode};
use instance_connect_core::document::{BootId, BootInstant, ClaimedGrant, InstanceId, RequestId, stock_text};
use instance_connect_core::environment::Random;
use instance_connect_core::imds::{self, TokenKey, View};
use instance_connect_core::limits::GUESTS_PER_HOST;
use instance_connect_core::link::{
    AgentFrame, Grant, GuestReport, InstanceFacts, KeyUses, Refusal, StockSigner, StockSigners, limits,
};
use instance_connect_core::stock::{Signer, StockEntry, StockKeys};
use instance_connect_core::throttle::Bucket;
use kept::{Kept, KeptGrant};
use settings::{Interface, MetadataSettings};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// The service: what it shows of each instance for which this machine's agent answers, and to whom it says that it did.
#[derive(Debug)]
pub(crate) struct Metadata {
    /// The machine's own.
    instance: InstanceId,
    /// Its name, where the settings have none.
    hostname: Option<String>,
    tokens: TokenKey,
    kept: Kept,
    state: Mutex<State>,
    clock: Arc<dyn MachineClock>,
    readings: Readings,
}

/// What changes while it runs.
#[derive(Debug)]
struct State {
    settings: MetadataSettings,
    /// By which the machine reaches the control plane.
    address: Option<Ipv4Addr>,
    signers: Vec<Signer>,
    /// The machine's own instance and its guests.
    instances: BTreeMap<InstanceId, Shown>,
    /// What is still to be said of keys of guests.
    reports: VecDeque<AgentFrame>,
    listeners: Vec<ListenerStatus>,
    /// The interfaces of guests on which it listens.
    served: BTreeSet<Interface>,
    /// Whether `metadata.toml` is such that it cannot be used: what root means by it is not known.
    is_doubtful: bool,
}

/// What is shown of one instance.
#[derive(Debug)]
struct Shown {
    facts: Option<InstanceFacts>,
    stock: StockKeys,
    requests: Bucket,
    /// What became of its keys, if it is a guest. Of the machine's own the agent knows more.
    uses: Option<KeyUses>,
    /// The requests of which the agent was told that their keys were shown, if it is the machine's own: whoever reads again and
    /// again is to drive no other's reading off the record.
    told: BTreeSet<RequestId>,
}

/// What the service needs of the machine.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) run: &'a Path,
    pub(crate) boot: &'a BootId,
    pub(crate) clock: &'a Arc<dyn MachineClock>,
    pub(crate) readings: Readings,
}

/// The service, until this is dropped.
#[derive(Debug)]
pub(crate) struct Serving {
    metadata: Arc<Metadata>,
    _listening: JoinSet<()>,
}

impl Deref for Serving {
    type Target = Metadata;

    fn deref(&self) -> &Metadata {
        &self.metadata
    }
}

impl Metadata {
    /// Starts the service, with what an earlier agent has left, on sockets that were passed or of its own. It follows its
    /// settings as they change.
    ///
    /// # Errors
    /// Its directory cannot be used.
    pub(crate) fn start(
        watched: WatchedMetadata,
        instance: InstanceId,
        place: Place<'_>,
        passed: Arc<PassedSockets>,
    ) -> io::Result<Serving> {
        let Place { run, boot, clock, readings } = place;
        let kept = Kept::open(run)?;
        let uname = rustix::system::uname();
        let metadata = Arc::new(Self {
            state: Mutex::new(State {
                settings: watched.settings.clone(),
                address: None,
                signers: Vec::new(),
                instances: BTreeMap::new(),
                reports: VecDeque::new(),
                listeners: Vec::new(),
                served: BTreeSet::new(),
                is_doubtful: false,
            }),
            tokens: kept.token_key()?,
            hostname: uname.nodename().to_str().ok().map(str::to_owned),
            instance,
            kept,
            clock: Arc::clone(clock),
            readings,
        });
        metadata.take_over(boot)?;
        let mut listening = JoinSet::new();
        listening.spawn(listeners::keep(Arc::clone(&metadata), watched, passed));
        Ok(Serving { metadata, _listening: listening })
    }

    /// Shows again what was shown before this agent was started.
    fn take_over(&self, boot: &BootId) -> io::Result<()> {
        let now = self.clock.boot();
        let mut state = self.state();
        match self.kept.signers().as_ref().map(with_keys) {
            Some(Ok(signers)) => state.signers = signers,
            Some(Err(error)) => tracing::warn!(%error, "the kept signers are not shown any more"),
            None => {}
        }
        for facts in self.kept.facts()? {
            let instance = facts.instance.clone();
            self.shown(&mut state, &instance).facts = Some(facts);
        }
        for (request, KeptGrant { grant, deadline }) in self.kept.grants(boot, now)? {
            let document = grant.document.as_str();
            let instance = ClaimedGrant::of(document).map(|claimed| claimed.instance);
            let shown = instance.map(|instance| self.shown(&mut state, &instance));
            match shown.map(|shown| (shown.stock.admit(document, &grant.twins, now), shown)) {
                Some((Ok(entry), shown)) => shown.take_over(entry, deadline),
                unusable => {
                    let refusal = unusable.and_then(|(refused, _)| refused.err());
                    tracing::warn!(request_id = %request, ?refusal, "a kept key is not shown any more");
                    self.kept.forget_grant(&request)?;
                }
            }
        }
        Ok(())
    }

    /// These sign from now on.
    pub(crate) fn set_signers(&self, signers: &StockSigners) -> io::Result<()> {
        let with_keys = with_keys(signers)?;
        self.kept.keep_signers(signers)?;
        let generations: Vec<u32> = signers.each.iter().map(|signer| signer.generation).collect();
        tracing::info!(?generations, "who signs for the metadata service");
        let mut state = self.state();
        state.signers.clone_from(&with_keys);
        let gone = state.instances.values_mut().map(|shown| shown.stock.set_signers(with_keys.clone()));
        let gone: Vec<RequestId> = gone.flatten().collect();
        self.forget(&gone)
    }

    /// An instance is as the control plane says: this one, or a guest, listed in the settings or not yet.
    pub(crate) fn set_facts(&self, facts: InstanceFacts) -> io::Result<()> {
        let mut state = self.state();
        if !state.instances.contains_key(&facts.instance) && state.instances.len() > GUESTS_PER_HOST {
            self.forget_one_of_nobodys(&mut state)?;
        }
        self.kept.keep_facts(&facts)?;
        let instance = facts.instance.clone();
        self.shown(&mut state, &instance).facts = Some(facts);
        Ok(())
    }

    /// How it is doing, for people to look at.
    pub(crate) fn status(&self) -> MetadataStatus {
        let state = self.state();
        let signing =
            state.signers.iter().map(|signer| &signer.announced).filter(|signer| !signer.is_revoked);
        MetadataStatus {
            generations: signing.map(|signer| signer.generation).collect(),
            guests: state.settings.guests.len(),
            listeners: state.listeners.clone(),
        }
    }

    fn set_listeners(&self, listeners: Vec<ListenerStatus>, served: BTreeSet<Interface>) {
        let mut state = self.state();
        (state.listeners, state.served) = (listeners, served);
    }

    /// The machine reaches the control plane by this address.
    pub(crate) fn set_address(&self, address: Option<Ipv4Addr>) {
        self.state().address = address;
    }

    /// The guest that a grant says it is for, if it is one of this machine's.
    pub(crate) fn guest(&self, grant: &Grant) -> Option<Guest> {
        let instance = ClaimedGrant::of(grant.document.as_str())?.instance;
        self.state().settings.guest(&instance).cloned()
    }

    /// Whether what is installed for a guest now can be read by it.
    ///
    /// # Errors
    /// Root's word on it is not known, nobody listens on its interface, or it is not known yet where the guest is: the scripts
    /// would find no key.
    pub(crate) fn serves(&self, guest: &Guest) -> Result<(), Refusal> {
        let state = self.state();
        if state.is_doubtful {
            return Err(Refusal::Vetoed);
        }
        let has_facts = state.instances.get(&guest.instance).is_some_and(|shown| shown.facts.is_some());
        let is_served = has_facts && state.served.contains(&guest.interface);
        if is_served { Ok(()) } else { Err(Refusal::NotServed) }
    }

    /// Judges what is to be shown of a grant; `None` where that is nothing: its key is one that the scripts do not know.
    ///
    /// # Errors
    /// The scripts could not take it. Nobody must be told that such a key is on the machine.
    pub(crate) fn admit(&self, grant: &Grant) -> Result<Option<StockEntry>, Refusal> {
        let document = grant.document.as_str();
        if stock_text(document).is_none() {
            return Ok(None);
        }
        let instance = ClaimedGrant::of(document).ok_or(Refusal::Malformed)?.instance;
        let now = self.clock.boot();
        self.shown(&mut self.state(), &instance).stock.admit(document, &grant.twins, now).map(Some)
    }

    /// Shows it until `deadline`.
    pub(crate) fn install(
        &self,
        entry: StockEntry,
        grant: &Grant,
        deadline: BootInstant,
    ) -> Result<(), Refusal> {
        let claimed = entry.grant().clone();
        self.kept.keep_grant(&claimed.request, grant, deadline).map_err(|error| {
            tracing::error!(%error, "a key cannot be kept for the metadata service");
            Refusal::Storage
        })?;
        let mut state = self.state();
        let shown = self.shown(&mut state, &claimed.instance);
        let evicted = shown.stock.install(entry, deadline);
        if let Some(uses) = &mut shown.uses {
            uses.installed(&claimed.request, &claimed.user, claimed.fingerprint, deadline);
        }
        drop(state);
        if let Some(evicted) = evicted {
            self.give_up(&evicted);
        }
        Ok(())
    }

    /// What was installed a moment ago is not, after all.
    pub(crate) fn give_up(&self, request: &RequestId) {
        if let Err(error) = self.withdraw(request) {
            tracing::error!(%error, "a key cannot be removed from what is kept for the metadata service");
        }
    }

    /// Shows no more what a request has pushed. Says whether there was anything.
    pub(crate) fn withdraw(&self, request: &RequestId) -> io::Result<bool> {
        let mut was_shown = false;
        for shown in self.state().instances.values_mut() {
            was_shown |= shown.stock.withdraw(request);
            shown.uses.iter_mut().for_each(|uses| uses.withdrawn(request));
        }
        self.kept.forget_grant(request)?;
        Ok(was_shown)
    }

    /// Ends all of it earlier, since the machine was paused.
    pub(crate) fn shorten(&self, by: Duration) -> io::Result<()> {
        for shown in self.state().instances.values_mut() {
            shown.stock.shorten(by);
            shown.uses.iter_mut().for_each(|uses| uses.shortened(by));
        }
        self.kept.shorten(by)
    }

    /// Forgets what has ended, and notes what of it no guest was shown.
    pub(crate) fn sweep(&self, now: BootInstant) {
        let mut state = self.state();
        let mut ended = Vec::new();
        for shown in state.instances.values_mut() {
            ended.extend(shown.stock.expire(now));
            let Shown { stock, told, .. } = shown;
            told.retain(|request| stock.contains(request));
            shown.uses.iter_mut().for_each(|uses| uses.tick(now));
        }
        state.collect_reports();
        if let Err(error) = self.forget(&ended) {
            tracing::warn!(%error, "a key that has ended cannot be removed");
        }
    }

    /// Whether there is something to say of a guest's key.
    pub(crate) fn has_report(&self) -> bool {
        !self.state().reports.is_empty()
    }

    /// It.
    pub(crate) fn next_report(&self) -> Option<AgentFrame> {
        self.state().reports.pop_front()
    }

    /// Answers a request of an instance. What it says of keys is for the record: whoever asks on a machine may be anybody there.
    fn answer(&self, instance: &InstanceId, request: &Request<impl Body>) -> Response<Full<Bytes>> {
        let now = self.clock.boot();
        let mut state = self.state();
        if !self.shown(&mut state, instance).requests.take(now.since(BootInstant(0))) {
            // Closed, so that whoever asks too much has to begin anew each time.
            return response(
                StatusCode::SERVICE_UNAVAILABLE,
                Bytes::new(),
                [("connection", "close".to_owned())],
            );
        }
        let header = |name: &str| request.headers().get_all(name).iter().map(HeaderValue::as_bytes).collect();
        let asked = imds::Request {
            method: request.method().as_str(),
            target: request.uri().path_and_query().map_or("", PathAndQuery::as_str),
            token: header(imds::TOKEN_HEADER),
            ttl: header(imds::TTL_HEADER),
            is_forwarded: request.headers().contains_key(imds::FORWARDED_HEADER),
        };
        let Some(answered) = self.respond(&mut state, instance, &asked, now) else {
            return response(StatusCode::SERVICE_UNAVAILABLE, Bytes::new(), []);
        };
        let status = StatusCode::from_u16(answered.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers: Vec<_> = answered.headers().collect();
        response(status, answered.body.into(), headers)
    }

    fn respond(
        &self,
        state: &mut State,
        instance: &InstanceId,
        asked: &imds::Request<'_>,
        now: BootInstant,
    ) -> Option<imds::Response> {
        let is_own = *instance == self.instance;
        let State { settings, address, instances, .. } = state;
        let nothing = Shows::default();
        let shows = match &settings.own {
            Some(own) if is_own => &own.shows,
            _ => settings.guest(instance).map_or(&nothing, |guest| &guest.shows),
        };
        // What the machine says of itself is not said of a guest.
        let (own_address, own_name) =
            if is_own { (*address, self.hostname.as_deref()) } else { (None, None) };
        let shown = instances.get_mut(instance)?;
        let view = View {
            instance,
            facts: shown.facts.as_ref(),
            local_ipv4: shows.local_ipv4.or(own_address),
            hostname: shows.local_hostname.as_deref().or(own_name),
            shows_tags: shows.tags,
            stock: &shown.stock,
        };
        let mut answered = imds::respond(asked, &view, &self.tokens, now, &SystemRandom);
        for offer in std::mem::take(&mut answered.offers) {
            match &mut shown.uses {
                Some(uses) => uses.offered(offer),
                None if shown.told.is_superset(&offer.requests.iter().cloned().collect()) => {}
                None => {
                    shown.told.extend(offer.requests.iter().cloned());
                    self.readings.shown(offer);
                }
            }
        }
        Some(answered)
    }

    /// The machine's own instance.
    fn own(&self) -> &InstanceId {
        &self.instance
    }

    /// The guest that asks on an interface from that address.
    fn guest_at(&self, interface: &Interface, source: Ipv4Addr) -> Option<InstanceId> {
        self.state().settings.guest_at(interface, source).map(|guest| guest.instance.clone())
    }

    /// Whether the machine itself is shown its keys.
    pub(crate) fn has_own(&self) -> bool {
        self.state().settings.own.is_some()
    }

    fn set_settings(&self, settings: MetadataSettings) {
        let mut state = self.state();
        (state.settings, state.is_doubtful) = (settings, false);
    }

    /// What is in the settings may be what root has just taken away.
    fn doubt_settings(&self) {
        self.state().is_doubtful = true;
    }

    /// What is shown of an instance: nothing, at first.
    fn shown<'a>(&self, state: &'a mut State, instance: &InstanceId) -> &'a mut Shown {
        let State { instances, signers, .. } = state;
        instances.entry(instance.clone()).or_insert_with(|| {
            let mut stock = StockKeys::new(instance.clone());
            stock.set_signers(signers.clone());
            let uses = (*instance != self.instance).then(KeyUses::default);
            Shown { facts: None, stock, requests: Bucket::new(imds::REQUESTS), uses, told: BTreeSet::new() }
        })
    }

    /// Makes room for another instance. There is always one that is neither the machine's own nor listed, as no more can be
    /// listed than there is room for.
    fn forget_one_of_nobodys(&self, state: &mut State) -> io::Result<()> {
        let is_nobodys =
            |instance: &&InstanceId| **instance != self.instance && state.settings.guest(instance).is_none();
        let Some(gone) = state.instances.keys().find(is_nobodys).cloned() else { return Ok(()) };
        if let Some(mut shown) = state.instances.remove(&gone) {
            // All of it has ended by then.
            self.forget(&shown.stock.expire(BootInstant(u64::MAX)))?;
        }
        self.kept.forget_facts(&gone)
    }

    fn forget(&self, requests: &[RequestId]) -> io::Result<()> {
        requests.iter().try_for_each(|request| self.kept.forget_grant(request))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held with what is in it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Collects what is to be said of keys of guests.
    fn collect_reports(&mut self) {
        let Self { instances, reports, .. } = self;
        let guests = instances.iter_mut().filter_map(|(id, shown)| Some((id, shown.uses.as_mut()?)));
        for (instance, uses) in guests {
            while reports.len() < limits::OFFERED_QUEUE
                && let Some(report) = uses.next_report()
            {
                reports.extend(GuestReport::of(instance.clone(), report).map(AgentFrame::GuestReport));
            }
        }
    }
}

impl Shown {
    /// Shows what an earlier agent has shown. What became of it before is not known.
    fn take_over(&mut self, entry: StockEntry, deadline: BootInstant) {
        let ClaimedGrant { request, user, fingerprint, .. } = entry.grant().clone();
        let _ = self.stock.install(entry, deadline);
        self.uses.iter_mut().for_each(|uses| uses.found(&request, &user, fingerprint, deadline));
    }
}

fn response(
    status: StatusCode,
    body: Bytes,
    headers: impl IntoIterator<Item = (&'static str, String)>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// Each signer with the key that its leaf certifies.
fn with_keys(signers: &StockSigners) -> io::Result<Vec<Signer>> {
    let with_key = |signer: &StockSigner| {
        let public_key = leaf_key(signer.chain.as_str().as_bytes()).map_err(io::Error::other)?;
        Ok(Signer { announced: signer.clone(), public_key })
    };
    signers.each.iter().map(with_key).collect()
}

/// The key in the first certificate of a chain: DER of an `RSAPublicKey`.
fn leaf_key(chain: &[u8]) -> Result<Vec<u8>, String> {
    let certificates = certificates(chain)?;
    let leaf = certificates.first().ok_or("there is no certificate in the chain")?;
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).map_err(|error| error.to_string())?;
    Ok(leaf.public_key().subject_public_key.data.to_vec())
}

/// The kernel's randomness, by way of the cryptographic library.
#[derive(Debug)]
struct SystemRandom;

impl Random for SystemRandom {
    #[expect(clippy::expect_used, reason = "without randomness no token is safe to hand out")]
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the kernel gives randomness");
    }
}
