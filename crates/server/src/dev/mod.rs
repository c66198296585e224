//! `instance-connectd dev`: a whole Instance Connect on one machine, in a private directory that vanishes with it.
//!
//! Everything is real: the control plane on its embedded store, an agent for each instance that enrols with a token
//! and links over mutual TLS, and an OpenSSH server for each that asks our command for keys. Each is a process of its
//! own. Only the machines are pretended: they are folders on this one.

mod control_plane;
mod directory;
mod gateway;
mod inventory;
mod machine;
mod os_user;
mod processes;
mod ready;

use crate::agents::create_join_token;
use crate::audit_log::FileSize;
use crate::config::{LogFormat, LogLevel, Source};
use crate::faults::Fault;
use crate::pki::Pki;
use crate::stop::Stop;
use crate::system::{SystemClock, SystemRandom};
use anyhow::Context as _;
use clap::builder::TypedValueParser as _;
use control_plane::ControlPlane;
pub(crate) use directory::is_directory_of_dev;
use directory::{Directory, write_private};
pub use directory::{ReapArguments, reap};
use futures_util::future::select_all;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use gateway::Gateway;
use instance_connect_core::environment::{Clock as _, Random as _};
use instance_connect_core::ids::{AvailabilityZone, IdError, Region};
use instance_connect_core::inventory::Instance;
use instance_connect_core::limits;
use instance_connect_core::sigv4::ClockWindow;
use instance_connect_core::ssh_key::KeyTypes;
use instance_connect_core::throttle::Rate;
use machine::{Invitation, Machine, Programs};
use os_user::OsAccount;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;
use tokio::signal::unix::SignalKind;
use zeroize::Zeroizing;

/// Arguments of `dev`.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  instance-connectd dev
      Start it, then follow what it prints.
  instance-connectd dev --ready-file ready.json &
      In CI: wait for ready.json, which names endpoint, credentials and instances.

LOGS
  DIR/control-plane.log, DIR/console.log, DIR/instances/*/agent.log and, of logins, DIR/instances/*/auth.log")]
pub struct Arguments {
    /// Private directory for everything; new or empty, and removed at the end [default: a fresh one in the temporary directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How many instances to run
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=200))]
    instances: u8,
    /// The region it is in
    #[arg(long, value_name = "NAME", default_value = "us-east-1", value_parser = parse_region)]
    region: Region,
    /// The types of keys that can be pushed: rsa, ed25519, ecdsa, ed25519-sk, ecdsa-sk. AWS takes the first two
    #[arg(long, value_name = "TYPES", default_value = "rsa,ed25519")]
    key_types: KeyTypes,
    /// Where the API listens: a loopback address
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Serve the API over TLS, with a certificate of an authority of its own (DIR/ca.pem)
    #[arg(long)]
    tls: bool,
    /// Also write the ready file here, once everything accepts connections
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// The OS user that logins open. As root any account [default: SUDO_USER, else the first ordinary account]; otherwise only yourself
    #[arg(long, value_name = "NAME")]
    os_user: Option<String>,
    /// How far a request's signing time may be from this machine's clock, before or after
    #[arg(long, value_name = "SECONDS", default_value_t = limits::CLOCK_WINDOW, value_parser = clap::value_parser!(u64).try_map(ClockWindow::try_from))]
    clock_window: ClockWindow,
    /// The OpenSSH server to run for each instance [default: sshd in PATH or /usr/sbin]
    #[arg(long, value_name = "FILE")]
    sshd: Option<PathBuf>,
    /// Run each instance's agent and sshd under this command, such as 'faketime -f +10m'
    #[arg(long, value_name = "COMMAND")]
    machine_prefix: Option<String>,
    #[command(flatten)]
    throttling: Throttling,
    /// How long after a serial console session the next one may be reserved, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, hide = true, value_parser = clap::value_parser!(u64).range(0..=600))]
    serial_console_teardown_delay: u64,
    /// Begin with a fault, such as error=ThrottlingException,times=2. More can be caused while it runs: docs/ci.md
    #[arg(long = "fault", value_name = "NAME=VALUE,...", value_parser = Fault::from_str)]
    faults: Vec<Fault>,
    /// Also create N instances without a machine, and write how they enrol to DIR/join-tokens: the agents listener's
    /// URL, then one token a line
    #[arg(long, value_name = "N", default_value_t = 0, hide = true, value_parser = clap::value_parser!(u16).range(..=4096))]
    instances_without_machine: u16,
    /// Start the control plane and agents again whenever they end
    #[arg(long, hide = true)]
    restart: bool,
    /// How long a file of the audit log grows, in bytes
    #[arg(long, value_name = "N", default_value_t, hide = true, value_parser = clap::value_parser!(u64).try_map(FileSize::try_from))]
    audit_max_bytes: FileSize,
}

/// Between the end of a program and its next start.
const RESTART_PAUSE: Duration = Duration::from_millis(20);

/// The certificate of its authority, below the directory.
const CA_FILE: &str = "ca.pem";

/// The audit log, below the directory.
const AUDIT_LOG: &str = "audit.log";

/// Machines that are being started at a time: one waits for another process or the disk while another computes.
const STARTING: usize = 4;

/// What callers are held to.
#[derive(Debug, clap::Args)]
struct Throttling {
    /// Throttle callers, as a control plane in production does
    #[arg(long)]
    throttle: bool,
    /// With --throttle: requests of one principal, a second and at once
    #[arg(long, value_name = "RATE/BURST", requires = "throttle", default_value_t = limits::PRINCIPAL_RATE)]
    throttle_principal: Rate,
    /// With --throttle: what one principal does to one instance
    #[arg(long, value_name = "RATE/BURST", requires = "throttle", default_value_t = limits::INSTANCE_RATE)]
    throttle_instance: Rate,
    /// With --throttle: requests of one source address that nobody has signed, and enrolments without a good token
    #[arg(long, value_name = "RATE/BURST", requires = "throttle", default_value_t = limits::UNAUTHENTICATED_RATE)]
    throttle_unauthenticated: Rate,
}

fn parse_region(text: &str) -> Result<Region, String> {
    let region: Region = text.parse().map_err(|error: IdError| error.to_string())?;
    // Its instances are in zone "a" of it, whose name has to be one.
    zone_of(&region).map(|_| region).map_err(|_| "a region is named like us-east-1".to_owned())
}

fn zone_of(region: &Region) -> Result<AvailabilityZone, IdError> {
    format!("{region}a").parse()
}

/// Runs it until a signal ends it.
///
/// # Errors
/// When something it needs is missing or does not start; the error says what to do.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    anyhow::ensure!(
        arguments.listen.ip().is_loopback(),
        "dev is for this machine: --listen takes a loopback address only"
    );
    crate::log::start(LogFormat::Text, LogLevel(tracing::Level::WARN), None);
    let account = OsAccount::choose(arguments.os_user.as_deref())?;
    let programs = Programs::find(arguments.sshd.clone(), arguments.machine_prefix.as_deref())?;
    let directory = Directory::create(arguments.dir.clone(), arguments.ready_file.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(arguments, &account, programs, &directory));
    // Sessions and agents end with this process; what they leave is removed by the directory's reaper.
    runtime.shutdown_background();
    result
}

async fn serve(
    arguments: &Arguments,
    account: &OsAccount,
    programs: Programs,
    directory: &Directory,
) -> anyhow::Result<()> {
    let mut stop = Stop::listen(&[SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()])?;
    let mut running = tokio::select! {
        running = start(arguments, account, programs, directory) => running?,
        () = stop.wait() => return Ok(()),
    };
    tokio::select! {
        () = stop.wait() => {}
        error = running.keep(arguments.restart) => return Err(error),
    }
    for machine in running.machines {
        machine.stop().await;
    }
    Ok(())
}

/// What runs.
struct Running {
    control_plane: ControlPlane,
    _gateway: Gateway,
    machines: Vec<Machine>,
}

impl Running {
    /// Returns when it cannot go on: without restarts as soon as the control plane has ended. An agent that ends is the
    /// business of whoever ended it.
    async fn keep(&mut self, restart: bool) -> anyhow::Error {
        if !restart {
            return self.control_plane.ended().await;
        }
        let agents = select_all(self.machines.iter_mut().map(|machine| Box::pin(machine.keep_agent())));
        tokio::select! {
            error = self.control_plane.keep() => error,
            (error, ..) = agents => error,
        }
    }
}

/// Starts everything, writes the ready file and says what to do next.
async fn start(
    arguments: &Arguments,
    account: &OsAccount,
    programs: Programs,
    directory: &Directory,
) -> anyhow::Result<Running> {
    let programs = programs.installed_in(directory)?;
    let configuration = write_configuration(arguments, directory)?;
    let settings = Source::of_file(Some(configuration.clone())).load()?;
    write_master_key(&directory.path().join("master.key"))?;
    let store = settings.open_store()?;
    let inventory = inventory::create(store.as_ref(), arguments, account).await?;
    let pki = Pki::load(store.as_ref(), &SystemRandom, &settings.region, SystemClock.wall()).await?;
    write_private(&directory.path().join(CA_FILE), pki.root_pem())?;
    let join_token = async |instance: &Instance| {
        create_join_token(store.as_ref(), &pki, &SystemRandom, &instance.id, SystemClock.wall()).await
    };
    let faults = directory.path().join("faults.json");
    write_private(&faults, serde_json::to_vec(&arguments.faults)?)?;
    let mut control_plane = ControlPlane::start(configuration, faults, directory).await?;
    let agents = control_plane.listening.agents;
    let gateway = Gateway::start(&programs, directory).await?;

    let machines = (0..).zip(&inventory.instances).map(async |(number, instance)| {
        let invitation = Invitation { agents, join_token: join_token(instance).await? };
        let started = Machine::start(number, &instance.id, account, &programs, directory, &invitation).await;
        started.with_context(|| format!("cannot start instance {}", instance.id))
    });
    let machines: Vec<Machine> = tokio::select! {
        machines = stream::iter(machines).buffered(STARTING).try_collect() => machines?,
        ended = control_plane.ended() => return Err(ended),
    };
    if !inventory.without_machine.is_empty() {
        let mut lines = Zeroizing::new(format!("https://{agents}\n"));
        for instance in &inventory.without_machine {
            lines.push_str(&join_token(instance).await?);
            lines.push('\n');
        }
        write_private(&directory.path().join("join-tokens"), lines.as_str())?;
    }
    let ready = ready::Ready::new(
        arguments,
        account,
        &inventory,
        control_plane.listening,
        directory,
        &machines,
        &gateway,
    );
    ready.write(directory, arguments.ready_file.as_deref())?;
    ready.explain(directory);
    Ok(Running { control_plane, _gateway: gateway, machines })
}

/// The control plane's configuration. Texts and lists are written alike in JSON and TOML.
fn write_configuration(arguments: &Arguments, directory: &Directory) -> anyhow::Result<PathBuf> {
    let Arguments {
        region,
        key_types,
        clock_window,
        listen,
        tls,
        audit_max_bytes,
        throttling,
        serial_console_teardown_delay,
        ..
    } = arguments;
    let Throttling { throttle, throttle_principal, throttle_instance, throttle_unauthenticated } = throttling;
    let key_types = serde_json::to_string(key_types)?;
    let (socket, teardown_delay) = (gateway::SOCKET, serial_console_teardown_delay);
    let path = directory.path().join("instance-connectd.toml");
    let text = format!(
        r#"region = "{region}"
data_dir = "data"
key_types = {key_types}
clock_window = {clock_window}

[public]
listen = "{listen}"
tls = {tls}
names = ["127.0.0.1", "::1", "localhost"]

[agents]
listen = "127.0.0.1:0"
names = ["127.0.0.1"]

[admin]
listen = "127.0.0.1:0"

[console]
socket = "{socket}"
teardown_delay = "{teardown_delay}s"

[audit]
file = "{AUDIT_LOG}"
max_bytes = {audit_max_bytes}

[throttle]
enabled = {throttle}
principal = "{throttle_principal}"
instance = "{throttle_instance}"
unauthenticated = "{throttle_unauthenticated}"

[log]
level = "warn"
"#
    );
    write_private(&path, text)?;
    Ok(path)
}

/// The key that the store's secrets are sealed with, in a file: it must be in no argument and no environment.
fn write_master_key(path: &Path) -> anyhow::Result<()> {
    let mut key = Zeroizing::new([0; 32]);
    SystemRandom.fill(key.as_mut_slice());
    write_private(path, key.as_slice())
}
