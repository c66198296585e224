//! `instance-connectd dev`: a whole Instance Connect on one machine, in a private directory that vanishes with it.
//!
//! Everything is real: the control plane on its embedded store, an agent for each instance that enrols with a token
//! and links over mutual TLS, and an OpenSSH server for each that asks our command for keys. Only the machines are
//! pretended: they are folders on this one.

mod accounts;
mod directory;
mod inventory;
mod machine;
mod os_user;
mod processes;
mod ready;

use crate::control_plane::{ControlPlane, Settings};
use crate::system::SystemRandom;
use anyhow::Context as _;
use directory::{Directory, write_private};
pub use directory::{ReapArguments, reap};
use instance_connect_core::environment::Random as _;
use instance_connect_core::ids::{AvailabilityZone, IdError, Region};
use instance_connect_core::inventory::Instance;
use instance_connect_core::ssh_key::KeyTypes;
use instance_connect_store::{MasterKey, SqliteStore, Store};
use machine::{Machine, Programs};
use os_user::OsAccount;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

/// Arguments of `dev`.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  instance-connectd dev
      Start it, then follow what it prints.
  instance-connectd dev --ready-file ready.json &
      In CI: wait for ready.json, which names endpoint, credentials and instances.")]
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
    /// Where the API listens; plain http, so on loopback only
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Also write the ready file here, once everything accepts connections
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// The OS user that logins open. As root any account [default: SUDO_USER, else the first ordinary account]; otherwise only yourself
    #[arg(long, value_name = "NAME")]
    os_user: Option<String>,
    /// The OpenSSH server to run for each instance [default: sshd in PATH or /usr/sbin]
    #[arg(long, value_name = "FILE")]
    sshd: Option<PathBuf>,
    /// Run each instance's agent and sshd under this command, such as 'faketime -f +10m'
    #[arg(long, value_name = "COMMAND")]
    machine_prefix: Option<String>,
    /// Also create N instances without a machine, and write how they enrol to DIR/join-tokens: the agents listener's
    /// URL, then one token a line
    #[arg(long, value_name = "N", default_value_t = 0, hide = true, value_parser = clap::value_parser!(u16).range(..=4096))]
    instances_without_machine: u16,
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
        "dev speaks plain http: --listen takes a loopback address only"
    );
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .log_internal_errors(false)
        .init();
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
    let mut stop = Stop::listen()?;
    tokio::select! {
        started = start(arguments, account, programs, directory) => {
            let machines = started?;
            stop.wait().await;
            for machine in machines {
                machine.stop().await;
            }
            Ok(())
        }
        () = stop.wait() => Ok(()),
    }
}

/// Starts everything, writes the ready file and says what to do next.
async fn start(
    arguments: &Arguments,
    account: &OsAccount,
    programs: Programs,
    directory: &Directory,
) -> anyhow::Result<Vec<Machine>> {
    let programs = programs.installed_in(directory)?;
    let mut master_key = [0; 32];
    SystemRandom.fill(&mut master_key);
    let data = directory.path().join("data");
    let store = SqliteStore::open(&data, &MasterKey::from_bytes(master_key), Arc::new(SystemRandom))?;
    let store: Arc<dyn Store> = Arc::new(store);
    let inventory = inventory::create(store.as_ref(), arguments, account).await?;
    let settings = Settings {
        region: arguments.region.clone(),
        key_types: arguments.key_types.clone(),
        api: arguments.listen,
        agents: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        agents_names: vec![Ipv4Addr::LOCALHOST.to_string()],
        audit_log: directory.path().join("audit.log"),
    };
    let audit_log = settings.audit_log.clone();
    let control_plane = ControlPlane::start(settings, store).await?;
    let mut machines = Vec::new();
    for (number, instance) in (0..).zip(&inventory.instances) {
        let machine =
            Machine::start(number, &instance.id, account, &programs, directory, &control_plane).await;
        machines.push(machine.with_context(|| format!("cannot start instance {}", instance.id))?);
    }
    if !inventory.without_machine.is_empty() {
        write_join_tokens(&inventory.without_machine, directory, &control_plane).await?;
    }
    let ready = ready::Ready::new(arguments, account, &inventory, &control_plane, &audit_log, &machines);
    ready.write(directory, arguments.ready_file.as_deref())?;
    ready.explain(directory);
    Ok(machines)
}

/// For agents that are not started here.
async fn write_join_tokens(
    instances: &[Instance],
    directory: &Directory,
    control_plane: &ControlPlane,
) -> anyhow::Result<()> {
    let mut lines = Zeroizing::new(format!("https://{}\n", control_plane.agents));
    for instance in instances {
        lines.push_str(&control_plane.enrolment.create_join_token(&instance.id).await?);
        lines.push('\n');
    }
    write_private(&directory.path().join("join-tokens"), &lines)
}

/// The signals that end it.
struct Stop([tokio::signal::unix::Signal; 3]);

impl Stop {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
