//! The metadata service of this machine, which the distributions' own host scripts ask for keys (docs/metadata.md). What it
//! answers is decided in `core::imds` and `core::stock`; here are its sockets and its files.

mod address;
mod kept;
mod server;
mod settings;

pub use address::{AddressFailure, add_metadata_address, remove_metadata_address};
pub use server::passed_metadata_socket;
pub(crate) use settings::MetadataSettings;
pub use settings::MetadataSettingsError;

use crate::clock::MachineClock;
use crate::host_reports::Readings;
use crate::state::certificates;
use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, StatusCode};
use instance_connect_core::document::{BootId, BootInstant, InstanceId, RequestId};
use instance_connect_core::environment::Random;
use instance_connect_core::imds::{self, TokenKey, View};
use instance_connect_core::link::{Grant, InstanceFacts, Refusal, StockSigner, StockSigners};
use instance_connect_core::stock::{Signer, StockEntry, StockKeys};
use instance_connect_core::throttle::Bucket;
use kept::{Kept, KeptGrant};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// The service: what it shows, and to whom it says that it did.
#[derive(Debug)]
pub(crate) struct Metadata {
    instance: InstanceId,
    settings: MetadataSettings,
    /// The machine's own name, where the settings have none.
    hostname: Option<String>,
    tokens: TokenKey,
    kept: Kept,
    shown: Mutex<Shown>,
    clock: Arc<dyn MachineClock>,
    readings: Readings,
}

/// What changes while it runs.
#[derive(Debug)]
struct Shown {
    facts: Option<InstanceFacts>,
    stock: StockKeys,
    requests: Bucket,
    /// By which the machine reaches the control plane.
    address: Option<Ipv4Addr>,
}

/// Where the service is, and what it needs of the machine.
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

impl std::ops::Deref for Serving {
    type Target = Metadata;

    fn deref(&self) -> &Metadata {
        &self.metadata
    }
}

impl Metadata {
    /// Starts the service, with what an earlier agent has left: on the socket that was passed, if it is one of its address.
    ///
    /// # Errors
    /// Its directory cannot be used.
    pub(crate) fn start(
        settings: MetadataSettings,
        instance: InstanceId,
        place: Place<'_>,
        passed: Option<Arc<TcpListener>>,
    ) -> io::Result<Serving> {
        let Place { run, boot, clock, readings } = place;
        let kept = Kept::open(run)?;
        let uname = rustix::system::uname();
        let metadata = Arc::new(Self {
            shown: Mutex::new(Shown {
                facts: kept.facts().filter(|facts| facts.instance == instance),
                stock: StockKeys::new(instance.clone()),
                requests: Bucket::new(imds::REQUESTS),
                address: None,
            }),
            tokens: kept.token_key()?,
            hostname: uname.nodename().to_str().ok().map(str::to_owned),
            instance,
            kept,
            clock: Arc::clone(clock),
            readings,
            settings,
        });
        metadata.take_over(boot)?;
        let mut listening = JoinSet::new();
        listening.spawn(server::listen_and_serve(Arc::clone(&metadata), metadata.settings.listen, passed));
        Ok(Serving { metadata, _listening: listening })
    }

    /// Shows again what was shown before this agent was started.
    fn take_over(&self, boot: &BootId) -> io::Result<()> {
        let now = self.clock.boot();
        let mut shown = self.shown();
        if let Some(signers) = self.kept.signers() {
            shown.stock.set_signers(with_keys(&signers)?);
        }
        for (request, KeptGrant { grant, deadline }) in self.kept.grants(boot, now)? {
            match shown.stock.admit(grant.document.as_str(), &grant.twins, now) {
                Ok(entry) => shown.stock.install(entry, deadline),
                Err(refusal) => {
                    tracing::warn!(request_id = %request, %refusal, "a kept key is not shown any more");
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
        self.forget(self.shown().stock.set_signers(with_keys))
    }

    /// The instance is as the control plane says.
    pub(crate) fn set_facts(&self, facts: InstanceFacts) -> io::Result<()> {
        if facts.instance != self.instance {
            return Err(io::Error::other(format!("this machine does not answer for {}", facts.instance)));
        }
        self.kept.keep_facts(&facts)?;
        self.shown().facts = Some(facts);
        Ok(())
    }

    /// The machine reaches the control plane by this address.
    pub(crate) fn set_address(&self, address: Option<Ipv4Addr>) {
        self.shown().address = address;
    }

    /// Judges what is to be shown of a grant; `None` where that is nothing: its key is one that the scripts do not know.
    ///
    /// # Errors
    /// The scripts could not take it. Nobody must be told that such a key is on the machine.
    pub(crate) fn admit(&self, grant: &Grant) -> Result<Option<StockEntry>, Refusal> {
        let document = grant.document.as_str();
        if instance_connect_core::document::stock_text(document).is_none() {
            return Ok(None);
        }
        self.shown().stock.admit(document, &grant.twins, self.clock.boot()).map(Some)
    }

    /// Shows it until `deadline`.
    pub(crate) fn install(
        &self,
        entry: StockEntry,
        grant: &Grant,
        deadline: BootInstant,
    ) -> Result<(), Refusal> {
        self.kept.keep_grant(&entry.grant().request, grant, deadline).map_err(|error| {
            tracing::error!(%error, "a key cannot be kept for the metadata service");
            Refusal::Storage
        })?;
        self.shown().stock.install(entry, deadline);
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
        let was_shown = self.shown().stock.withdraw(request);
        self.kept.forget_grant(request)?;
        Ok(was_shown)
    }

    /// Ends all of it earlier, since the machine was paused.
    pub(crate) fn shorten(&self, by: Duration) -> io::Result<()> {
        self.shown().stock.shorten(by);
        self.kept.shorten(by)
    }

    /// Forgets what has ended.
    pub(crate) fn sweep(&self, now: BootInstant) {
        let ended = self.shown().stock.expire(now);
        if let Err(error) = self.forget(ended) {
            tracing::warn!(%error, "a key that has ended cannot be removed");
        }
    }

    /// Answers a request. What it says of the body is for the record: whoever reads on this machine may be anybody.
    fn answer(&self, request: &Request<impl Body>) -> Response<Full<Bytes>> {
        let now = self.clock.boot();
        let mut shown = self.shown();
        if !shown.requests.take(now.since(BootInstant(0))) {
            return response(StatusCode::SERVICE_UNAVAILABLE, Bytes::new(), []);
        }
        let header = |name: &str| request.headers().get_all(name).iter().map(HeaderValue::as_bytes).collect();
        let asked = imds::Request {
            method: request.method().as_str(),
            target: request.uri().path_and_query().map_or("", PathAndQuery::as_str),
            token: header(imds::TOKEN_HEADER),
            ttl: header(imds::TTL_HEADER),
            is_forwarded: request.headers().contains_key(imds::FORWARDED_HEADER),
        };
        let view = View {
            instance: &self.instance,
            facts: shown.facts.as_ref(),
            local_ipv4: self.settings.local_ipv4.or(shown.address),
            hostname: self.settings.local_hostname.as_deref().or(self.hostname.as_deref()),
            shows_tags: self.settings.tags,
            stock: &shown.stock,
        };
        let mut answered = imds::respond(&asked, &view, &self.tokens, now, &SystemRandom);
        for offer in std::mem::take(&mut answered.offers) {
            self.readings.shown(offer);
        }
        let status = StatusCode::from_u16(answered.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers: Vec<_> = answered.headers().collect();
        response(status, answered.body.into(), headers)
    }

    fn forget(&self, requests: Vec<RequestId>) -> io::Result<()> {
        requests.iter().try_for_each(|request| self.kept.forget_grant(request))
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        // Nothing panics while it is held with what is in it half changed.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
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
