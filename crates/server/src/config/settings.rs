//! The settings of a control plane, and what they demand of each other.

use super::key::{Key, LogFormat, LogLevel, Names};
use super::{Keys, keys};
use crate::audit_log::AuditSettings;
use crate::console::DoorSettings;
use crate::descriptors::Capacity;
use crate::proxies::Proxies;
use crate::stock::StockSettings;
use crate::traces::Endpoint;
use instance_connect_core::console::{self, ConsoleSettings};
use instance_connect_core::ids::Region;
use instance_connect_core::places::ConnectionLimits;
use instance_connect_core::proxies::TrustedProxies;
use instance_connect_core::sigv4::ClockWindow;
use instance_connect_core::ssh_key::KeyTypes;
use instance_connect_core::throttle::ThrottleLimits;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// What a control plane is started with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) region: Region,
    /// The store's directory.
    pub(crate) data_dir: PathBuf,
    /// The file of the key that the store's secrets are sealed with, if one is named.
    pub(crate) master_key: Option<PathBuf>,
    /// The directory of the configuration itself.
    pub(crate) directory: PathBuf,
    /// The types of keys that can be pushed.
    pub(crate) key_types: KeyTypes,
    /// How far a signed request's time may be from ours.
    pub(crate) clock_window: ClockWindow,
    /// How long what is under way may take once it is to stop.
    pub(crate) drain_timeout: Duration,
    pub(crate) public: Public,
    /// Where agents connect.
    pub(crate) agents: SocketAddr,
    /// Host names and addresses agents reach that listener by.
    pub(crate) agents_names: Vec<String>,
    /// How long agents' certificates are good.
    pub(crate) agents_certificate_lifetime: Duration,
    /// Where those connect who watch.
    pub(crate) admin: SocketAddr,
    /// Who signs what the metadata service shows.
    pub(crate) stock: StockSettings,
    pub(crate) console: SerialConsole,
    pub(crate) audit: AuditSettings,
    /// What callers are held to; without it, to nothing.
    pub(crate) throttle: Option<ThrottleLimits>,
    /// How many connections and links it holds.
    pub(crate) capacity: Capacity,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: LogLevel,
    /// The collector that traces are sent to, unless the environment names another one.
    pub(crate) traces: Option<Endpoint>,
}

/// The public listener.
#[derive(Clone, Debug)]
pub(crate) struct Public {
    pub(crate) listen: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) proxies: Proxies,
}

/// The serial console.
#[derive(Clone, Debug)]
pub(crate) struct SerialConsole {
    /// Where its gateway asks, if there is one.
    pub(crate) door: Option<DoorSettings>,
    pub(crate) sessions: ConsoleSettings,
}

/// How the public listener is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Plain http, on a loopback address.
    Plain,
    /// TLS with a certificate from files.
    Files { certificate: PathBuf, key: PathBuf },
    /// TLS with a certificate of our own authority, for these names.
    Own { names: Vec<String> },
}

impl Settings {
    /// `None` when something is wrong, which has been noted then.
    pub(super) fn read(keys: &mut Keys<'_>) -> Option<Self> {
        // Everything is looked at before the first `?`, so that all that is wrong is said at once.
        let region = keys.get(&keys::REGION);
        let data_dir = keys.path(&keys::DATA_DIR);
        let master_key = keys.optional_path(&keys::MASTER_KEY);
        let key_types = keys.get(&keys::KEY_TYPES);
        let clock_window = keys.get(&keys::CLOCK_WINDOW);
        let drain_timeout = keys.get(&keys::DRAIN_TIMEOUT);
        let names = keys.get_optional(&keys::PUBLIC_NAMES);
        let public = public(keys, names.as_ref());
        let agents = keys.get(&keys::AGENTS_LISTEN);
        let agents_names = agents_names(keys, names.as_ref());
        let certificate_days = keys.get(&keys::AGENTS_CERTIFICATE_DAYS);
        let admin = keys.get(&keys::ADMIN_LISTEN);
        let stock = stock(keys);
        let console = console(keys);
        let audit_file = keys.optional_path(&keys::AUDIT_FILE);
        let audit_max_bytes = keys.get(&keys::AUDIT_MAX_BYTES);
        let throttle = throttle(keys);
        let capacity = capacity(keys);
        let (log_format, log_level) = (keys.get(&keys::LOG_FORMAT), keys.get(&keys::LOG_LEVEL));
        let traces = keys.get_optional(&keys::TRACES_ENDPOINT);
        let data_dir = data_dir?;
        Some(Self {
            region: region?,
            audit: AuditSettings {
                path: audit_file?.unwrap_or_else(|| data_dir.join("audit.log")),
                max_bytes: audit_max_bytes?,
            },
            data_dir,
            master_key: master_key?,
            directory: keys.directory.to_owned(),
            key_types: key_types?,
            clock_window: clock_window?,
            drain_timeout: Duration::from_secs(drain_timeout?),
            public: public?,
            agents: agents?,
            agents_names: agents_names?,
            agents_certificate_lifetime: DAY * u32::try_from(certificate_days?).unwrap_or(u32::MAX),
            admin: admin?,
            stock: stock?,
            console: console?,
            throttle: throttle?,
            capacity: capacity?,
            log_format: log_format?,
            log_level: log_level?,
            traces: traces?,
        })
    }
}

/// `names` are the public listener's, if they could be parsed.
fn public(keys: &mut Keys<'_>, names: Option<&Option<Names>>) -> Option<Public> {
    let (listen, tls) = (keys.get(&keys::PUBLIC_LISTEN), keys.get(&keys::PUBLIC_TLS));
    let certificate = keys.optional_path(&keys::PUBLIC_CERTIFICATE);
    let key = keys.optional_path(&keys::PUBLIC_KEY);
    let proxies = proxies(keys);
    let (listen, names) = (listen?, names?);
    let transport = match (tls?, certificate?, key?, names) {
        (false, None, None, _) if listen.ip().is_loopback() => Transport::Plain,
        (false, None, None, _) => {
            keys.refuse(
                &keys::PUBLIC_TLS,
                &format!("plain http is for loopback addresses only, and public.listen is {listen}"),
            );
            return None;
        }
        (false, certificate, _, _) => {
            let message = "has no use while public.tls is false";
            match certificate {
                Some(_) => keys.refuse(&keys::PUBLIC_CERTIFICATE, message),
                None => keys.refuse(&keys::PUBLIC_KEY, message),
            }
            return None;
        }
        (true, Some(certificate), Some(key), _) => Transport::Files { certificate, key },
        (true, Some(_), None, _) => {
            keys.refuse(&keys::PUBLIC_CERTIFICATE, "needs public.key beside it");
            return None;
        }
        (true, None, Some(_), _) => {
            keys.refuse(&keys::PUBLIC_KEY, "needs public.certificate beside it");
            return None;
        }
        (true, None, None, Some(Names(names))) if !names.is_empty() => {
            Transport::Own { names: names.clone() }
        }
        (true, None, None, Some(_) | None) => {
            keys.refuse(
                &keys::PUBLIC_NAMES,
                "the names clients reach the API by are needed, for its certificate (or public.certificate and public.key)",
            );
            return None;
        }
    };
    Some(Public { listen, transport, proxies: proxies? })
}

fn proxies(keys: &mut Keys<'_>) -> Option<Proxies> {
    let trusted = keys.get(&keys::PUBLIC_TRUSTED_PROXIES);
    let proxy_protocol = keys.get(&keys::PUBLIC_PROXY_PROTOCOL);
    let proxies = Proxies { trusted: trusted?, proxy_protocol: proxy_protocol? };
    if proxies.proxy_protocol && proxies.trusted == TrustedProxies::default() {
        keys.refuse(&keys::PUBLIC_PROXY_PROTOCOL, "has no use without public.trusted_proxies");
        return None;
    }
    Some(proxies)
}

fn agents_names(keys: &mut Keys<'_>, public: Option<&Option<Names>>) -> Option<Vec<String>> {
    let own = keys.get_optional(&keys::AGENTS_NAMES)?;
    match own.as_ref().or(public?.as_ref()) {
        Some(Names(names)) if !names.is_empty() => Some(names.clone()),
        Some(_) | None => {
            keys.refuse(
                &keys::AGENTS_NAMES,
                "the names agents reach the control plane by are needed, here or as public.names",
            );
            None
        }
    }
}

fn stock(keys: &mut Keys<'_>) -> Option<StockSettings> {
    const MINUTE: Duration = Duration::from_secs(60);
    let domain = keys.get(&keys::STOCK_DOMAIN);
    // A leaf lasts 90 days.
    let rotation = time_within(keys, &keys::STOCK_SIGNER_ROTATION, 5 * MINUTE, 60 * DAY, "5m to 60d");
    // Of a key that was pushed just before, the one before has the only signature: it is shown for the rest of its minute.
    let overlap = time_within(keys, &keys::STOCK_SIGNER_OVERLAP, 2 * MINUTE, DAY, "2m to 1d");
    let staple_lifetime = time_within(keys, &keys::STOCK_STAPLE_LIFETIME, MINUTE, 30 * DAY, "1m to 30d");
    let stock = StockSettings {
        domain: domain?,
        rotation: rotation?,
        overlap: overlap?,
        staple_lifetime: staple_lifetime?,
    };
    if stock.overlap >= stock.rotation {
        // Machines are told of two at a time.
        keys.refuse(&keys::STOCK_SIGNER_OVERLAP, "is shorter than stock.signer_rotation");
        return None;
    }
    Some(stock)
}

fn console(keys: &mut Keys<'_>) -> Option<SerialConsole> {
    let (socket, user) = (keys.optional_path(&keys::CONSOLE_SOCKET), keys.get(&keys::CONSOLE_USER));
    let longest = console::limits::LONGEST_TEARDOWN_DELAY;
    let delay = time_within(keys, &keys::CONSOLE_TEARDOWN_DELAY, Duration::ZERO, longest, "0s to 10m");
    let (socket, user) = (socket?, user?);
    let door = socket.map(|socket| DoorSettings { socket, user });
    Some(SerialConsole { door, sessions: ConsoleSettings { teardown_delay: delay? } })
}

fn time_within(
    keys: &mut Keys<'_>,
    key: &Key<Duration>,
    least: Duration,
    most: Duration,
    bounds: &str,
) -> Option<Duration> {
    let time = keys.get(key)?;
    let fits = (least..=most).contains(&time);
    if !fits {
        keys.refuse(key, &format!("is from {bounds}"));
    }
    fits.then_some(time)
}

/// Without throttling `Some(None)`.
fn throttle(keys: &mut Keys<'_>) -> Option<Option<ThrottleLimits>> {
    let enabled = keys.get(&keys::THROTTLE_ENABLED);
    let principal = keys.get(&keys::THROTTLE_PRINCIPAL);
    let instance = keys.get(&keys::THROTTLE_INSTANCE);
    let unauthenticated = keys.get(&keys::THROTTLE_UNAUTHENTICATED);
    let limits =
        ThrottleLimits { principal: principal?, instance: instance?, unauthenticated: unauthenticated? };
    Some(enabled?.then_some(limits))
}

fn capacity(keys: &mut Keys<'_>) -> Option<Capacity> {
    let mut number = |key| keys.get(key).and_then(|number| usize::try_from(number).ok());
    let public = (number(&keys::LIMITS_PUBLIC), number(&keys::LIMITS_PUBLIC_PER_SOURCE));
    let agents = (number(&keys::LIMITS_AGENTS), number(&keys::LIMITS_AGENTS_PER_SOURCE));
    let links = number(&keys::LIMITS_LINKS);
    let connections = |(in_all, per_source): (Option<usize>, Option<usize>)| {
        Some(ConnectionLimits { in_all: in_all?, per_source: per_source? })
    };
    Some(Capacity { public: connections(public)?, agents: connections(agents)?, links: links? })
}
