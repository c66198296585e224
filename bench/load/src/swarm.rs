//! The agents of many instances in one process. They are the real agent (its library: the same checks, files and
//! acks), or a stand-in that acknowledges at once, to see what the control plane alone takes.

use crate::bare_link::BareLink;
use crate::figures::summary;
use anyhow::{Context as _, anyhow};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use instance_connect_agent::{
    Directories, Enrollment, RunSettings, ServerUrl, enroll, read_boot_id, run as run_agent,
};
use instance_connect_core::document::BootId;
use instance_connect_core::link::JoinTokenText;
use serde_json::json;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tokio::io::AsyncReadExt as _;
use tracing_subscriber::EnvFilter;

/// Enrolments under way at a time: one waits for the disk while another computes.
const ENROLLING: usize = 8;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// OS users that the machines have
    #[arg(long, value_delimiter = ',')]
    users: Vec<String>,
    /// Acknowledge grants at once, without looking at them
    #[arg(long)]
    acknowledge_only: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RoundTripArguments {
    #[command(flatten)]
    place: Place,
    /// How many pings
    #[arg(long)]
    count: usize,
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The agents listener's URL and join tokens, one a line, as `instance-connectd dev` writes them
    #[arg(long)]
    join_tokens: PathBuf,
    /// An empty directory for the agents' files
    #[arg(long)]
    dir: PathBuf,
}

struct Machine {
    instance: String,
    directories: Directories,
}

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let place = &arguments.place;
    let boot = boot_id()?;
    let machines = enroll_all(place, &boot).await?;
    let passwd = place.dir.join("passwd");
    let accounts: String = (arguments.users.iter())
        .zip(2000..)
        .map(|(user, uid)| format!("{user}:x:{uid}:{uid}::/nonexistent:/bin/sh\n"))
        .collect();
    std::fs::write(&passwd, accounts)?;
    // The log of the agents, as each would write one.
    let log = Mutex::new(File::create(place.dir.join("agents.log"))?);
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("info"))
        .with_writer(log)
        .with_ansi(false)
        .init();
    let mut instances = Vec::new();
    for Machine { instance, directories } in machines {
        instances.push(instance);
        if arguments.acknowledge_only {
            let link = BareLink::open(&directories.state, &boot).await?;
            tokio::spawn(async move {
                if let Err(error) = link.acknowledge_everything().await {
                    tracing::error!("{error:#}");
                }
            });
        } else {
            let mut settings = RunSettings::new(directories, boot.clone());
            settings.os_users.passwd.clone_from(&passwd);
            tokio::spawn(async move {
                if let Err(error) = run_agent(settings, std::future::pending()).await {
                    tracing::error!("{error}");
                }
            });
        }
    }
    crate::report(&json!({ "instances": instances }))?;
    // Whoever started this holds the other end; when it is gone, so are we.
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    Ok(())
}

pub(crate) async fn round_trip(arguments: &RoundTripArguments) -> anyhow::Result<()> {
    let boot = boot_id()?;
    let machines = enroll_all(&arguments.place, &boot).await?;
    let machine = machines.first().context("no join token")?;
    let mut link = BareLink::open(&machine.directories.state, &boot).await?;
    let mut durations = Vec::with_capacity(arguments.count);
    for _ in 0..arguments.count {
        durations.push(link.round_trip().await?);
    }
    crate::report(&summary(durations))
}

fn boot_id() -> anyhow::Result<BootId> {
    Ok(read_boot_id()?)
}

async fn enroll_all(place: &Place, boot: &BootId) -> anyhow::Result<Vec<Machine>> {
    let path = &place.join_tokens;
    let file = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = file.lines();
    let server: ServerUrl = lines.next().unwrap_or_default().parse()?;
    let tokens: Vec<JoinTokenText> = lines.map(str::parse).collect::<Result<_, _>>()?;
    let enrolments = tokens.into_iter().map(|token| enroll_one(&server, token, &place.dir, boot));
    stream::iter(enrolments).buffer_unordered(ENROLLING).try_collect().await
}

async fn enroll_one(
    server: &ServerUrl,
    token: JoinTokenText,
    dir: &Path,
    boot: &BootId,
) -> anyhow::Result<Machine> {
    let instance = token.instance().to_string();
    let home = dir.join(&instance);
    let directories = Directories { etc: home.join("etc"), state: home.join("state"), run: home.join("run") };
    let enrollment = Enrollment {
        server: server.clone(),
        token,
        directories: directories.clone(),
        replace: false,
        boot_id: boot.clone(),
        ssh_host_keys: home,
    };
    enroll(enrollment).await.map_err(|error| anyhow!("{error}"))?;
    Ok(Machine { instance, directories })
}
