//! The wiring: from settings to listeners that accept.

use crate::agents::{self, Agents};
use crate::api::{Api, ClockGuard};
use crate::audit_log::AuditLog;
use crate::inventory::LiveInventory;
use crate::links::Links;
use crate::pki::Pki;
use crate::system::{self, SystemClock, SystemRandom};
use anyhow::Context as _;
use instance_connect_core::environment::{Clock, Random};
use instance_connect_core::ids::Region;
use instance_connect_core::ssh_key::KeyTypes;
use instance_connect_store::Store;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// What a control plane is started with.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) region: Region,
    /// The types of keys that can be pushed.
    pub(crate) key_types: KeyTypes,
    /// Where the control API listens.
    pub(crate) api: SocketAddr,
    /// Where agents connect.
    pub(crate) agents: SocketAddr,
    /// Host names and addresses agents reach that listener by.
    pub(crate) agents_names: Vec<String>,
    /// The audit log.
    pub(crate) audit_log: PathBuf,
}

/// A running control plane. It runs until the process ends.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    /// Where the control API accepts connections.
    pub(crate) api: SocketAddr,
    /// Where agents are accepted.
    pub(crate) agents: SocketAddr,
    pub(crate) links: Arc<Links>,
    pub(crate) enrolment: Arc<Agents>,
}

impl ControlPlane {
    /// Starts everything; when it returns, both listeners accept connections.
    pub(crate) async fn start(settings: Settings, store: Arc<dyn Store>) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let region = settings.region;
        let pki = Arc::new(Pki::load(store.as_ref(), random.as_ref(), &region, clock.wall()).await?);
        let inventory = Arc::new(LiveInventory::load(Arc::clone(&store), Arc::clone(&clock)).await?);
        let links = Arc::new(Links::new(Arc::clone(&pki), Arc::clone(&clock)));
        let audit = AuditLog::open(&settings.audit_log)?;
        let tls = pki.agents_tls(&settings.agents_names, clock.wall())?;

        let agents_listener = bind(settings.agents).await?;
        let api_listener = bind(settings.api).await?;
        let (agents_address, api_address) = (agents_listener.local_addr()?, api_listener.local_addr()?);
        let enrolment = Arc::new(Agents {
            region: region.clone(),
            store,
            inventory: Arc::clone(&inventory),
            links: Arc::clone(&links),
            random: Arc::clone(&random),
            places: Arc::new(Semaphore::new(agents::LINKS)),
            audit: audit.clone(),
            clock_id: system::boot_id()?,
        });
        let api = Api {
            region,
            key_types: settings.key_types,
            inventory: Arc::clone(&inventory),
            links: Arc::clone(&links),
            audit,
            clock,
            clock_guard: ClockGuard::default(),
            random,
        };

        tokio::spawn(async move { inventory.follow().await });
        tokio::spawn(Arc::clone(&enrolment).serve(agents_listener, tls));
        tokio::spawn(Arc::new(api).serve(api_listener));
        Ok(Self { api: api_address, agents: agents_address, links, enrolment })
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}
