//! The wiring: from settings to listeners that accept, in a process of its own.

use crate::admin::{self, Admin};
use crate::agents::Agents;
use crate::agents_tls::AgentsTls;
use crate::api::{Api, ClockGuard, Readiness};
use crate::audit_log::AuditLog;
use crate::config::{Settings, Source};
use crate::connections::Listener;
use crate::console::{Console, DoorSettings, Parts};
use crate::drain::Drain;
use crate::faults::{Control, Faults};
use crate::inventory::LiveInventory;
use crate::links::Links;
use crate::master_key::MasterKeyPlace;
use crate::metrics::Metrics;
use crate::pki::Pki;
use crate::public_tls::PublicTls;
use crate::sockets::Inherited;
use crate::stock::StockSigners;
use crate::stop::Stop;
use crate::streams::Streams;
use crate::system::{self, SystemClock, SystemRandom};
use crate::traces::{self, Destination, Exporting, Traces};
use crate::{descriptors, log, operator_events};
use anyhow::{Context as _, bail};
use instance_connect_core::environment::{Clock, Random};
use instance_connect_core::throttle::Throttle;
use instance_connect_notify::{NotifySocket, State};
use instance_connect_store::{MasterKey, SqliteStore, Store, StoreError};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

impl Settings {
    /// Opens the store. Blocks on the disk.
    pub(crate) fn open_store(&self) -> anyhow::Result<Arc<dyn Store>> {
        let place = MasterKeyPlace::here(self);
        let open = |key: MasterKey| SqliteStore::open(&self.data_dir, &key, Arc::new(SystemRandom));
        let store = match open(place.read()?) {
            // A rotation was interrupted after the last moment at which the current key was the right one.
            Err(StoreError::WrongMasterKey) if place.next().exists() => {
                let store = open(place.read_next()?);
                if store.is_ok()
                    && let Err(error) = place.promote_next()
                {
                    let error = format!("{error:#}");
                    tracing::warn!(
                        error,
                        "the next master key is in use; run rotate-master-key to put it in place"
                    );
                }
                store
            }
            store => store,
        };
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
    /// The faults that `dev` begins with; it lets others be caused
    #[arg(long, value_name = "FILE", hide = true)]
    dev_faults: Option<PathBuf>,
}

impl Arguments {
    /// Faults, in a control plane that `dev` has started.
    fn faults(&self, listening: Listening) -> anyhow::Result<Option<Faults>> {
        let Some(file) = &self.dev_faults else { return Ok(None) };
        let directory = self.configuration.file().parent().unwrap_or_else(|| Path::new(""));
        let Listening { public, agents, admin } = listening;
        Faults::of_dev(file, directory, &[public, agents, admin]).map(Some)
    }
}

/// Runs a control plane until it is told to stop (SIGTERM, SIGINT) and has finished what was under way.
///
/// # Errors
/// When something it needs is missing or does not start, or it was told to stop twice.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let inherited = Inherited::take()?;
    let settings = arguments.configuration.load()?;
    let notify = NotifySocket::from_environment().context("NOTIFY_SOCKET")?;
    let destination = Destination::find(settings.traces.as_ref(), |name| std::env::var(name).ok())?;
    let traces = destination.as_ref().map(Traces::to).transpose().context("traces")?;
    log::start(settings.log_format, settings.log_level, traces.as_ref());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(arguments, settings, traces, inherited, notify.as_ref()));
    // What still runs has had its time.
    runtime.shutdown_background();
    result
}

async fn serve(
    arguments: &Arguments,
    settings: Settings,
    traces: Option<Traces>,
    inherited: Inherited,
    notify: Option<&NotifySocket>,
) -> anyhow::Result<()> {
    let mut stop = Stop::listen(&[SignalKind::terminate(), SignalKind::interrupt()])?;
    let drain_timeout = settings.drain_timeout;
    let running = tokio::select! {
        running = start(arguments, settings, traces, inherited, notify) => running?,
        () = stop.wait() => return Ok(()),
    };
    if arguments.print_addresses {
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&running.listening)?)?;
    }
    tell(notify, State::Ready);
    stop.wait().await;
    tracing::info!("told to stop; finishing what is under way");
    tell(notify, State::Stopping);
    tokio::select! {
        () = running.end() => tracing::info!("everything under way is finished"),
        () = tokio::time::sleep(drain_timeout) => {
            tracing::warn!(seconds = drain_timeout.as_secs(), "not everything was finished in time");
        }
        () = stop.wait() => bail!("told to stop once more, before everything was finished"),
    }
    Ok(())
}

/// Tells the service manager. A control plane that cannot do that goes on.
fn tell(notify: Option<&NotifySocket>, state: State) {
    if let Some(Err(error)) = notify.map(|socket| socket.tell(state)) {
        tracing::warn!(%error, ?state, "cannot tell NOTIFY_SOCKET");
    }
}

/// A running control plane.
struct Running {
    listening: Listening,
    /// The end of connections.
    connections: Arc<Drain>,
    console: Arc<Console>,
    agents: Arc<Agents>,
    clock: Arc<dyn Clock>,
    traces: Option<Exporting>,
}

impl Running {
    /// Finishes what is under way, and begins nothing new. Links are the last to go: pushes wait for what comes over them.
    async fn end(self) {
        self.connections.begin();
        self.connections.idle().await;
        self.console.end().await;
        let Agents { region, audit, random, .. } = self.agents.as_ref();
        self.agents.end().await;
        if audit.record_refusals_so_far(region, self.clock.as_ref(), random.as_ref()).await.is_err() {
            tracing::error!("the counts of refused requests cannot be recorded");
        }
        if let Some(traces) = self.traces {
            traces.flush().await;
        }
    }
}

/// Where a running control plane accepts connections.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Listening {
    /// Clients of the API.
    pub(crate) public: SocketAddr,
    /// Agents.
    pub(crate) agents: SocketAddr,
    /// Those who watch.
    pub(crate) admin: SocketAddr,
}

/// Starts everything; when it returns, all listeners accept connections.
async fn start(
    arguments: &Arguments,
    settings: Settings,
    traces: Option<Traces>,
    mut inherited: Inherited,
    notify: Option<&NotifySocket>,
) -> anyhow::Result<Running> {
    // Asked to read its certificates again, it must not end, also where it has none: from here on the signal is heard.
    let _heard = signal(SignalKind::hangup())?;
    let capacity = settings.capacity.within(descriptors::raise_limit()?);
    let store = settings.open_store()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let region = settings.region;
    let pki = Arc::new(Pki::load(store.as_ref(), random.as_ref(), &region, clock.wall()).await?);
    let stock = StockSigners::load(store.as_ref(), &region, settings.stock, clock.wall()).await;
    let stock = Arc::new(stock.context("the signers of the metadata service")?);
    let inventory = Arc::new(LiveInventory::load(store, Arc::clone(&clock)).await?);
    let links = Arc::new(Links::new(Arc::clone(&pki), Arc::clone(&stock), Arc::clone(&clock)));
    let audit = AuditLog::open(&settings.audit, Arc::clone(&clock), random.as_ref())?;
    operator_events::record(inventory.store(), &audit, &region)
        .await
        .context("what commands have done cannot be recorded")?;
    let throttle = settings.throttle.map(|limits| Arc::new(Mutex::new(Throttle::new(limits))));
    let public_tls = PublicTls::load(settings.public.transport, &pki, clock.wall())?;
    let agents_tls = Arc::new(AgentsTls::new(Arc::clone(&pki), settings.agents_names, clock.wall())?);
    let spans = traces.as_ref().map(Traces::counts).unwrap_or_default();
    let metrics = Arc::new(Metrics::new(audit.syncs(), spans));

    let public_listener = inherited.listen("public", settings.public.listen, notify)?;
    let agents_listener = inherited.listen("agents", settings.agents, notify)?;
    let admin_listener = inherited.listen("admin", settings.admin, notify)?;
    inherited.finish()?;
    let listening = Listening {
        public: public_listener.local_addr()?,
        agents: agents_listener.local_addr()?,
        admin: admin_listener.local_addr()?,
    };
    let faults = arguments.faults(listening)?;
    let streams = Arc::new(Streams::new(Arc::clone(&links), Arc::clone(&random)));
    let agents = Arc::new(Agents {
        region: region.clone(),
        inventory: Arc::clone(&inventory),
        links: Arc::clone(&links),
        streams: Arc::clone(&streams),
        random: Arc::clone(&random),
        places: Arc::new(Semaphore::new(capacity.links)),
        drain: Drain::default(),
        audit: audit.clone(),
        clock_id: system::boot_id()?,
        certificate_lifetime: settings.agents_certificate_lifetime,
        throttle: throttle.clone(),
        metrics: Arc::clone(&metrics),
    });
    let console = Parts {
        region: region.clone(),
        inventory: Arc::clone(&inventory),
        streams,
        audit: audit.clone(),
        clock: Arc::clone(&clock),
        random: Arc::clone(&random),
    };
    let console = Arc::new(Console::new(console, settings.console.sessions));
    let door = settings.console.door.as_ref().map(DoorSettings::open).transpose()?;
    let clock_guard = Arc::<ClockGuard>::default();
    let api = Api {
        region: region.clone(),
        key_types: settings.key_types,
        inventory: Arc::clone(&inventory),
        links,
        console: Arc::clone(&console),
        audit: audit.clone(),
        clock: Arc::clone(&clock),
        clock_guard: Arc::clone(&clock_guard),
        readiness: Readiness::default(),
        clock_window: settings.clock_window,
        random: Arc::clone(&random),
        throttle,
        proxies: settings.public.proxies,
        metrics: Arc::clone(&metrics),
        traces: traces::RequestSpans::default(),
        faults: faults.clone().unwrap_or_default(),
    };

    let connections = Arc::<Drain>::default();
    let listener = |name, socket, limits| Listener {
        socket,
        limits,
        drain: Arc::clone(&connections),
        acceptance: Arc::default(),
        metrics: metrics.listener(name),
    };
    let public = listener("public", public_listener, capacity.public);
    let at_agents = listener("agents", agents_listener, capacity.agents);
    // It goes on to the last: whoever watches is to see how the others end.
    let watched = Listener { drain: Arc::default(), ..listener("admin", admin_listener, admin::CONNECTIONS) };
    let admin = Arc::new(Admin {
        metrics: Arc::clone(&metrics),
        inventory: Arc::clone(&inventory),
        audit: audit.clone(),
        clock: Arc::clone(&clock),
        clock_guard,
        drain: Arc::clone(&connections),
        public_tls: public_tls.clone(),
        agents_tls: Arc::clone(&agents_tls),
        stock: Arc::clone(&stock),
        listeners: [
            ("public", Arc::clone(&public.acceptance)),
            ("agents", Arc::clone(&at_agents.acceptance)),
        ],
        control: faults.map(|faults| Control::new(faults, listening.admin)),
    });

    let (pki, followed, drawn) = (Arc::clone(&pki), Arc::clone(&inventory), Arc::clone(&random));
    tokio::spawn(async move { pki.follow(&followed, drawn.as_ref()).await });
    let (followed, signing) = (Arc::clone(&inventory), Arc::clone(&clock));
    tokio::spawn(async move { stock.follow(&followed, signing.as_ref()).await });
    let (recording, log, of_region) = (Arc::clone(&inventory), audit.clone(), region.clone());
    tokio::spawn(async move { operator_events::follow(&recording, &log, &of_region).await });
    tokio::spawn(async move { inventory.follow().await });
    tokio::spawn(audit.record_refusals(region, Arc::clone(&clock), random));
    if let Some(tls) = &public_tls {
        tokio::spawn(Arc::clone(tls).keep(Arc::clone(&clock)));
    }
    tokio::spawn(Arc::clone(&agents_tls).keep(Arc::clone(&clock)));
    tokio::spawn(Arc::clone(&agents).serve(at_agents, agents_tls));
    tokio::spawn(Arc::new(api).serve(public, public_tls));
    tokio::spawn(admin.serve(watched));
    if let Some(door) = door {
        tokio::spawn(door.serve(Arc::clone(&console)));
    }
    let traces = traces.map(Traces::export);
    Ok(Running { listening, connections, console, agents, clock, traces })
}
