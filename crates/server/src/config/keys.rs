//! Every key there is. A new one is a static here, its row in [`ALL`], and its use in `Settings`.

use super::key::{Definition, Key, LogFormat, LogLevel, Names};
use crate::audit_log::FileSize;
use crate::traces::Endpoint;
use instance_connect_core::ids::Region;
use instance_connect_core::link::Domain;
use instance_connect_core::proxies::TrustedProxies;
use instance_connect_core::sigv4::ClockWindow;
use instance_connect_core::ssh_key::KeyTypes;
use instance_connect_core::throttle::Rate;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The most connections or links that can be asked for: more than one machine has descriptors for.
const MOST: u64 = 1_000_000;

pub(super) static REGION: Key<Region> =
    Key::with_default("region", "NAME", "\"us-east-1\"", "The region it serves");
pub(super) static DATA_DIR: Key<PathBuf> = Key::with_default(
    "data_dir",
    "DIR",
    "\"/var/lib/instance-connect\"",
    "Directory of the inventory; its own and private",
);
pub(super) static MASTER_KEY: Key<PathBuf> = Key::optional(
    "master_key",
    "FILE",
    "\"/etc/instance-connect/master.key\"",
    "The key that secrets in the inventory are sealed with; without it the systemd credential master-key, else master.key beside the configuration",
);
pub(super) static KEY_TYPES: Key<KeyTypes> = Key::with_default(
    "key_types",
    "TYPES",
    "[\"rsa\", \"ed25519\"]",
    "The types of keys that can be pushed: rsa, ed25519, ecdsa, ed25519-sk, ecdsa-sk. AWS takes the first two",
);
pub(super) static CLOCK_WINDOW: Key<ClockWindow> = Key::with_default(
    "clock_window",
    "SECONDS",
    "300",
    "How far a request's signing time may be from this machine's clock, before or after",
);

pub(super) static DRAIN_TIMEOUT: Key<u64> = Key::with_default(
    "drain_timeout",
    "SECONDS",
    "10",
    "Told to stop, how long it finishes what is under way before it ends",
)
.within(0, 3600);

pub(super) static PUBLIC_LISTEN: Key<SocketAddr> =
    Key::with_default("public.listen", "ADDRESS", "\"0.0.0.0:8443\"", "Where clients of the API connect");
pub(super) static PUBLIC_TLS: Key<bool> = Key::with_default(
    "public.tls",
    "BOOLEAN",
    "true",
    "Whether that is TLS. Plain http is served on loopback addresses only",
);
pub(super) static PUBLIC_NAMES: Key<Names> = Key::optional(
    "public.names",
    "NAMES",
    "[\"connect.example.com\"]",
    "Host names and addresses clients reach it by. Without a certificate they get one of our own authority (ca.pem) for these",
);
pub(super) static PUBLIC_CERTIFICATE: Key<PathBuf> = Key::optional(
    "public.certificate",
    "FILE",
    "\"/etc/instance-connect/tls/fullchain.pem\"",
    "The certificate with its chain, in PEM; read again when it changes and on SIGHUP",
);
pub(super) static PUBLIC_KEY: Key<PathBuf> = Key::optional(
    "public.key",
    "FILE",
    "\"/etc/instance-connect/tls/privkey.pem\"",
    "The certificate's private key, in PEM",
);

pub(super) static PUBLIC_TRUSTED_PROXIES: Key<TrustedProxies> = Key::with_default(
    "public.trusted_proxies",
    "NETWORKS",
    "[]",
    "Addresses and networks of load balancers whose word on the client's address is taken (X-Forwarded-For)",
);
pub(super) static PUBLIC_PROXY_PROTOCOL: Key<bool> = Key::with_default(
    "public.proxy_protocol",
    "BOOLEAN",
    "false",
    "Whether trusted proxies begin each connection with a header of the PROXY protocol, version 2",
);

pub(super) static AGENTS_LISTEN: Key<SocketAddr> =
    Key::with_default("agents.listen", "ADDRESS", "\"0.0.0.0:8444\"", "Where agents connect");
pub(super) static AGENTS_NAMES: Key<Names> = Key::optional(
    "agents.names",
    "NAMES",
    "[\"connect.example.com\"]",
    "Host names and addresses agents reach it by; without them those of the public listener",
);

pub(super) static AGENTS_CERTIFICATE_DAYS: Key<u64> = Key::with_default(
    "agents.certificate_days",
    "DAYS",
    "90",
    "How long an agent's certificate is good; it is renewed after two thirds of that. A machine that is off for longer has to be enrolled again",
)
.within(1, 365);

pub(super) static ADMIN_LISTEN: Key<SocketAddr> = Key::with_default(
    "admin.listen",
    "ADDRESS",
    "\"127.0.0.1:9464\"",
    "Where /metrics, /healthz and /readyz are, in plain http for everybody who can connect",
);

pub(super) static STOCK_DOMAIN: Key<Domain> = Key::with_default(
    "stock.domain",
    "DOMAIN",
    "\"amazonaws.com\"",
    "What the metadata service's signers are called, managed-ssh-signer.REGION.DOMAIN: amazonaws.com, amazonaws.com.cn, c2s.ic.gov or sc2s.sgov.gov. With another one there is another root",
);
pub(super) static STOCK_SIGNER_ROTATION: Key<Duration> = Key::with_default(
    "stock.signer_rotation",
    "TIME",
    "\"30d\"",
    "How long a signer of the metadata service signs before the next one does, from 5m to 60d",
);
pub(super) static STOCK_SIGNER_OVERLAP: Key<Duration> = Key::with_default(
    "stock.signer_overlap",
    "TIME",
    "\"10m\"",
    "How long machines then still show the one before, to those who began to read; from 2m, since a key that was pushed just before lives for 60s, to 1d",
);
pub(super) static STOCK_STAPLE_LIFETIME: Key<Duration> = Key::with_default(
    "stock.staple_lifetime",
    "TIME",
    "\"24h\"",
    "How long it is believed that a signer is not revoked; staples are made anew after a quarter of that",
);

pub(super) static CONSOLE_SOCKET: Key<PathBuf> = Key::optional(
    "console.socket",
    "FILE",
    "\"/run/instance-connect-console/control-plane.sock\"",
    "The unix socket that the serial console's gateway, instance-connect-console, asks at; without it nobody has a serial console",
);
pub(super) static CONSOLE_USER: Key<String> = Key::with_default(
    "console.user",
    "NAME",
    "\"instance-connect-console\"",
    "The OS user that the gateway runs as; nobody else is heard at the socket",
);
pub(super) static CONSOLE_TEARDOWN_DELAY: Key<Duration> = Key::with_default(
    "console.teardown_delay",
    "TIME",
    "\"30s\"",
    "How long after a serial console session the next one may be reserved, from 0s to 10m",
);

pub(super) static AUDIT_FILE: Key<PathBuf> = Key::optional(
    "audit.file",
    "FILE",
    "\"/var/lib/instance-connect/audit.log\"",
    "The audit log; without it audit.log in data_dir",
);
pub(super) static AUDIT_MAX_BYTES: Key<FileSize> = Key::with_default(
    "audit.max_bytes",
    "BYTES",
    "104857600",
    "How long a file of the audit log grows before another one begins",
);

pub(super) static THROTTLE_ENABLED: Key<bool> =
    Key::with_default("throttle.enabled", "BOOLEAN", "true", "Whether callers are throttled");
pub(super) static THROTTLE_PRINCIPAL: Key<Rate> = Key::with_default(
    "throttle.principal",
    "RATE/BURST",
    "\"20/100\"",
    "Requests of one principal, a second and at once",
);
pub(super) static THROTTLE_INSTANCE: Key<Rate> = Key::with_default(
    "throttle.instance",
    "RATE/BURST",
    "\"5/10\"",
    "What one principal does to one instance",
);
pub(super) static THROTTLE_UNAUTHENTICATED: Key<Rate> = Key::with_default(
    "throttle.unauthenticated",
    "RATE/BURST",
    "\"50/500\"",
    "Requests of one source address that nobody has signed",
);

pub(super) static LIMITS_PUBLIC: Key<u64> =
    Key::with_default("limits.public_connections", "N", "10000", "Connections at the public listener in all")
        .within(1, MOST);
pub(super) static LIMITS_PUBLIC_PER_SOURCE: Key<u64> = Key::with_default(
    "limits.public_connections_per_source",
    "N",
    "512",
    "Connections at the public listener of one source, an IPv4 address or an IPv6 /64",
)
.within(1, MOST);
pub(super) static LIMITS_AGENTS: Key<u64> = Key::with_default(
    "limits.agents_connections",
    "N",
    "10000",
    "Connections at the agents listener that are no links yet, in all",
)
.within(1, MOST);
pub(super) static LIMITS_AGENTS_PER_SOURCE: Key<u64> = Key::with_default(
    "limits.agents_connections_per_source",
    "N",
    "4096",
    "The same of one source; a whole site of machines may be behind one address",
)
.within(1, MOST);
pub(super) static LIMITS_LINKS: Key<u64> =
    Key::with_default("limits.links", "N", "20000", "Links to agents").within(1, MOST);

pub(super) static LOG_FORMAT: Key<LogFormat> =
    Key::with_default("log.format", "FORMAT", "\"text\"", "How the log is written: text or json");
pub(super) static LOG_LEVEL: Key<LogLevel> = Key::with_default(
    "log.level",
    "LEVEL",
    "\"info\"",
    "From which level on: error, warn, info or debug. RUST_LOG in the environment overrides it",
);

pub(super) static TRACES_ENDPOINT: Key<Endpoint> = Key::optional(
    "traces.endpoint",
    "URL",
    "\"http://127.0.0.1:4318\"",
    "The OpenTelemetry collector that traces of requests are sent to (OTLP over http); without it, and without OTEL_EXPORTER_OTLP_ENDPOINT in the environment, there are none",
);

/// All keys, in the order in which they are shown: those above the sections first.
pub(super) static ALL: &[&Definition] = &[
    &REGION.definition,
    &DATA_DIR.definition,
    &MASTER_KEY.definition,
    &KEY_TYPES.definition,
    &CLOCK_WINDOW.definition,
    &DRAIN_TIMEOUT.definition,
    &PUBLIC_LISTEN.definition,
    &PUBLIC_TLS.definition,
    &PUBLIC_NAMES.definition,
    &PUBLIC_CERTIFICATE.definition,
    &PUBLIC_KEY.definition,
    &PUBLIC_TRUSTED_PROXIES.definition,
    &PUBLIC_PROXY_PROTOCOL.definition,
    &AGENTS_LISTEN.definition,
    &AGENTS_NAMES.definition,
    &AGENTS_CERTIFICATE_DAYS.definition,
    &ADMIN_LISTEN.definition,
    &STOCK_DOMAIN.definition,
    &STOCK_SIGNER_ROTATION.definition,
    &STOCK_SIGNER_OVERLAP.definition,
    &STOCK_STAPLE_LIFETIME.definition,
    &CONSOLE_SOCKET.definition,
    &CONSOLE_USER.definition,
    &CONSOLE_TEARDOWN_DELAY.definition,
    &AUDIT_FILE.definition,
    &AUDIT_MAX_BYTES.definition,
    &THROTTLE_ENABLED.definition,
    &THROTTLE_PRINCIPAL.definition,
    &THROTTLE_INSTANCE.definition,
    &THROTTLE_UNAUTHENTICATED.definition,
    &LIMITS_PUBLIC.definition,
    &LIMITS_PUBLIC_PER_SOURCE.definition,
    &LIMITS_AGENTS.definition,
    &LIMITS_AGENTS_PER_SOURCE.definition,
    &LIMITS_LINKS.definition,
    &LOG_FORMAT.definition,
    &LOG_LEVEL.definition,
    &TRACES_ENDPOINT.definition,
];
