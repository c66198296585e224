//! The wiring: from settings to listeners that accept, in a process of its own.

use crate::agents::Agents;
use crate::api::{Api, ClockGuard, Readiness};
use crate::audit_log::{AuditLog, AuditSettings};
use crate::connections;
use crate::descriptors::{self, Capacity};
use crate::inventory::LiveInventory;
use crate::links::Links;
use crate::pki::Pki;
use crate::system::{self, SystemClock, SystemRandom};
use anyhow::Context as _;
use instance_connect_core::environment::{Clock, Random};
use instance_connect_core::ids::Region;
use instance_connect_core::sigv4::ClockWindow;
use instance_connect_core::ssh_key::KeyTypes;
use instance_connect_core::throttle::{Throttle, ThrottleLimits};
use instance_connect_store::{MasterKey, SqliteStore, Store};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Bytes of a settings file.
const SETTINGS_BYTES: u64 = 64 * 1024;

/// What a control plane is started with: a JSON object in a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    #[serde(with = "text")]
    pub(crate) region: Region,
    /// The types of keys that can be pushed.
    pub(crate) key_types: KeyTypes,
    /// Where the control API listens.
    pub(crate) api: SocketAddr,
    /// Where agents connect.
    pub(crate) agents: SocketAddr,
    /// Host names and addresses agents reach that listener by.
    pub(crate) agents_names: Vec<String>,
    /// The store's directory.
    pub(crate) store: PathBuf,
    /// The file of the key that the store's secrets are sealed with.
    pub(crate) master_key: PathBuf,
    /// The audit log.
    pub(crate) audit: AuditSettings,
    /// How far a signed request's time may be from ours.
    pub(crate) clock_window: ClockWindow,
    /// What callers are held to; without it, to nothing.
    pub(crate) throttle: Option<ThrottleLimits>,
    /// How many connections and links it holds.
    pub(crate) capacity: Capacity,
}

impl Settings {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let mut text = String::new();
        File::open(path)?.take(SETTINGS_BYTES).read_to_string(&mut text)?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Opens the store. Blocks on the disk.
    pub(crate) fn open_store(&self) -> anyhow::Result<Arc<dyn Store>> {
        let master_key = MasterKey::read_file(&self.master_key)?;
        Ok(Arc::new(SqliteStore::open(&self.store, &master_key, Arc::new(SystemRandom))?))
    }
}

/// Values that are written as their text.
mod text {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};
    use std::fmt::Display;
    use std::str::FromStr;

    pub(super) fn serialize<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Arguments of the hidden command that runs a control plane.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to run it with
    #[arg(long, value_name = "FILE")]
    settings: PathBuf,
}

/// Runs a control plane until the process is ended. Once it accepts connections it says where, as one line of JSON on
/// standard output.
///
/// # Errors
/// When something it needs is missing or does not start.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    crate::start_log();
    let path = &arguments.settings;
    let settings = Settings::read(path).with_context(|| format!("settings {}", path.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listening = start(settings).await?;
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&listening)?)?;
        std::future::pending().await
    })
}

/// Where a running control plane accepts connections.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Listening {
    /// Clients of the control API.
    pub(crate) api: SocketAddr,
    /// Agents.
    pub(crate) agents: SocketAddr,
}

/// Starts everything; when it returns, both listeners accept connections. It runs until the process ends.
async fn start(settings: Settings) -> anyhow::Result<Listening> {
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
    let tls = pki.agents_tls(&settings.agents_names, clock.wall())?;

    let agents_listener = listen(settings.agents)?;
    let api_listener = listen(settings.api)?;
    let (agents_address, api_address) = (agents_listener.local_addr()?, api_listener.local_addr()?);
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
    };

    tokio::spawn(async move { inventory.follow().await });
    tokio::spawn(audit.record_refusals(region, clock, random));
    tokio::spawn(agents.serve(agents_listener, tls, capacity.agents));
    tokio::spawn(Arc::new(api).serve(api_listener, capacity.api));
    Ok(Listening { api: api_address, agents: agents_address })
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    connections::listen(address).with_context(|| format!("cannot listen on {address}"))
}

#[cfg(test)]
mod tests {
    use super::Settings;
    use serde_json::{Value, json};

    fn settings() -> Value {
        json!({
            "region": "us-east-1",
            "api": "127.0.0.1:8443",
            "agents": "127.0.0.1:8444",
            "agents_names": ["127.0.0.1"],
            "store": "/data",
            "master_key": "/master.key",
            "audit": { "path": "/audit.log", "max_bytes": 1_048_576 },
            "key_types": ["rsa", "ed25519"],
            "clock_window": 300,
            "throttle": { "principal": "20/100", "instance": "5/10", "unauthenticated": "50/500" },
            "capacity": {
                "api": { "in_all": 100, "per_source": 10 },
                "agents": { "in_all": 100, "per_source": 10 },
                "links": 100,
            },
        })
    }

    #[test]
    fn settings_are_written_as_they_are_read() {
        let read: Settings = serde_json::from_value(settings()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), settings());
    }

    #[test]
    fn numbers_out_of_their_range_are_refused_with_the_range() {
        let refused = |pointer: &str, value: u64| {
            let mut settings = settings();
            *settings.pointer_mut(pointer).unwrap() = value.into();
            serde_json::from_value::<Settings>(settings).unwrap_err().to_string()
        };
        for seconds in [0, 901, u64::MAX] {
            assert_eq!(refused("/clock_window", seconds), "a clock window has 1 to 900 seconds");
        }
        for bytes in [0, 4095, 1_073_741_825, u64::MAX] {
            let expected = "a file of the audit log has 4096 to 1073741824 bytes";
            assert_eq!(refused("/audit/max_bytes", bytes), expected);
        }
    }

    #[test]
    fn settings_that_are_not_understood_are_refused() {
        assert!(serde_json::from_value::<Settings>(settings()).is_ok());
        for (name, value) in [
            ("audit_logs", json!("/audit.log")),
            ("audit", json!("/audit.log")),
            ("key_types", json!([])),
            ("throttle", json!({ "principal": "0/1" })),
            ("capacity", json!({ "links": 1 })),
            ("region", json!("us east 1")),
            ("region", Value::Null),
            ("api", json!("localhost:http")),
            ("agents_names", json!("127.0.0.1")),
        ] {
            let mut settings = settings();
            settings[name] = value;
            assert!(serde_json::from_value::<Settings>(settings).is_err(), "{name}");
        }
    }
}
