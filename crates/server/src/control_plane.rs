//! The wiring: from settings to listeners that accept, in a process of its own.

use crate::agents::Agents;
use crate::api::{Api, ClockGuard, Readiness};
use crate::audit_log::AuditLog;
use crate::config::{Settings, Source};
use crate::inventory::LiveInventory;
use crate::links::Links;
use crate::master_key::MasterKeyPlace;
use crate::pki::Pki;
use crate::public_tls::PublicTls;
use crate::system::{self, SystemClock, SystemRandom};
use crate::{connections, descriptors, log};
use anyhow::Context as _;
use instance_connect_core::environment::{Clock, Random};
use instance_connect_core::throttle::Throttle;
use instance_connect_store::{SqliteStore, Store};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

impl Settings {
    /// Opens the store. Blocks on the disk.
    pub(crate) fn open_store(&self) -> anyhow::Result<Arc<dyn Store>> {
        let master_key = MasterKeyPlace::here(self).read()?;
        let store = SqliteStore::open(&self.data_dir, &master_key, Arc::new(SystemRandom));
        let store =
            store.with_context(|| format!("cannot use the inventory in {}", self.data_dir.display()))?;
        Ok(Arc::new(store))
    }
}

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    configuration: Source,
    /// Once it accepts connections, say where: one line of JSON on standard output
    #[arg(long, hide = true)]
    print_addresses: bool,
}

/// Runs a control plane until the process is ended.
///
/// # Errors
/// When something it needs is missing or does not start.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = arguments.configuration.load()?;
    log::start(settings.log_format, settings.log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listening = start(settings).await?;
        if arguments.print_addresses {
            writeln!(std::io::stdout(), "{}", serde_json::to_string(&listening)?)?;
        }
        std::future::pending().await
    })
}

/// Where a running control plane accepts connections.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Listening {
    /// Clients of the API.
    pub(crate) public: SocketAddr,
    /// Agents.
    pub(crate) agents: SocketAddr,
}

/// Starts everything; when it returns, both listeners accept connections. It runs until the process ends.
async fn start(settings: Settings) -> anyhow::Result<Listening> {
    // Asked to read its certificates again, it must not end, also where it has none: from here on the signal is heard.
    let _heard = signal(SignalKind::hangup())?;
    let capacity = settings.capacity.within(descriptors::raise_limit()?);
    let store = settings.open_store()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let region = settings.region;
    let pki = Arc::new(Pki::load(store.as_ref(), random.as_ref(), &region, clock.wall()).await?);
    let inventory = Arc::new(LiveInventory::load(Arc::clone(&store), Arc::clone(&clock)).await?);
    let links = Arc::new(Links::new(Arc::clone(&pki), Arc::clone(&clock)));
    let audit = AuditLog::open(&settings.audit, Arc::clone(&clock), random.as_ref())?;
    let throttle = settings.throttle.map(|limits| Arc::new(Mutex::new(Throttle::new(limits))));
    let public_tls = PublicTls::load(settings.public.transport, &pki, clock.wall())?;
    let tls = pki.agents_tls(&settings.agents_names, clock.wall())?;

    let agents_listener = listen(settings.agents)?;
    let public_listener = listen(settings.public.listen)?;
    let (agents_address, public_address) = (agents_listener.local_addr()?, public_listener.local_addr()?);
    let agents = Arc::new(Agents {
        region: region.clone(),
        store,
        inventory: Arc::clone(&inventory),
        links: Arc::clone(&links),
        random: Arc::clone(&random),
        places: Arc::new(Semaphore::new(capacity.links)),
        audit: audit.clone(),
        clock_id: system::boot_id()?,
        throttle: throttle.clone(),
    });
    let api = Api {
        region: region.clone(),
        key_types: settings.key_types,
        inventory: Arc::clone(&inventory),
        links,
        audit: audit.clone(),
        clock: Arc::clone(&clock),
        clock_guard: ClockGuard::default(),
        readiness: Readiness::default(),
        clock_window: settings.clock_window,
        random: Arc::clone(&random),
        throttle,
        proxies: settings.public.proxies,
    };

    tokio::spawn(async move { inventory.follow().await });
    tokio::spawn(audit.record_refusals(region, Arc::clone(&clock), random));
    tokio::spawn(agents.serve(agents_listener, tls, capacity.agents));
    if let Some(tls) = &public_tls {
        tokio::spawn(Arc::clone(tls).keep(clock));
    }
    tokio::spawn(Arc::new(api).serve(public_listener, public_tls, capacity.public));
    Ok(Listening { public: public_address, agents: agents_address })
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    connections::listen(address).with_context(|| format!("cannot listen on {address}"))
}
