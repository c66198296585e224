//! Keeping a link: open one, speak on it, wait a while, open the next, until told to stop.

use crate::Directories;
use crate::VERSION;
use crate::clock::{MachineClock, SystemClock};
use crate::connect::{Socket, connect};
use crate::files::make_directory;
use crate::host::HostFiles;
use crate::host_reports::HostReports;
use crate::lines::{LineTerms, Lines};
use crate::link::{End, Machine, converse};
use crate::live_keys::LiveKeys;
use crate::metadata::{Metadata, PassedSockets, Place, WatchedMetadata};
use crate::os_users::{OsUserSettings, OsUsers};
use crate::state::{State, StateError};
use crate::status::{LOCK, StatusFile};
use instance_connect_core::document::BootId;
use instance_connect_core::link::{
    AgentFacts, Backoff, BackoffSettings, Capabilities, ClockWatch, Signers, VersionText, limits,
};
use instance_connect_core::throttle::Bucket;
use instance_connect_notify::NotifySocket;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

/// Where sshd has its host keys unless told otherwise.
pub const SSH_DIRECTORY: &str = "/etc/ssh";

/// Where the distribution says which it is.
const OS_RELEASE: &str = "/etc/os-release";

/// Which agent to run, and how.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// Where its files are.
    pub directories: Directories,
    /// The boot it runs in.
    pub boot_id: BootId,
    /// The machine's clocks.
    pub clock: Arc<dyn MachineClock>,
    /// How long it waits between links.
    pub backoff: BackoffSettings,
    /// How often it asks the server for the clock.
    pub ping_interval: Duration,
    /// How often it looks at the time.
    pub tick: Duration,
    /// Where it looks OS users up.
    pub os_users: OsUserSettings,
    /// Where sshd's host keys are (`ssh_host_*_key.pub`).
    pub ssh_host_keys: PathBuf,
    /// Where the distribution says which it is (os-release(5)).
    pub os_release: PathBuf,
    /// Who is to be told when the first link is open.
    pub notify: Option<NotifySocket>,
    /// Where the metadata service is asked, as far as the service manager has opened it.
    pub passed: Arc<PassedSockets>,
    /// How it serves serial lines.
    pub lines: LineTerms,
}

impl RunSettings {
    /// The settings of a machine in service.
    pub fn new(directories: Directories, boot_id: BootId) -> Self {
        Self {
            directories,
            boot_id,
            clock: Arc::new(SystemClock),
            backoff: BackoffSettings::default(),
            ping_interval: limits::PING_INTERVAL,
            tick: Duration::from_secs(1),
            os_users: OsUserSettings::default(),
            ssh_host_keys: PathBuf::from(SSH_DIRECTORY),
            os_release: PathBuf::from(OS_RELEASE),
            notify: None,
            passed: Arc::default(),
            lines: LineTerms::default(),
        }
    }
}

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunFailure {
    /// It has no identity, or one that cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// What root has decided about the metadata service cannot be used.
    #[error("{0}")]
    Metadata(String),
    /// Another one serves the same directory.
    #[error("another agent is running here: it holds {}", .0.display())]
    Running(PathBuf),
    /// The run directory cannot be used.
    #[error("{}: {error}; the agent must own this directory", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        error: io::Error,
    },
}

/// Runs the agent until `stop` is ready. Live keys stay where they are.
///
/// # Errors
/// What keeps it from starting. Once started it goes on whatever happens.
pub async fn run(settings: RunSettings, stop: impl Future<Output = ()> + Send) -> Result<(), RunFailure> {
    // Told at once where somebody is watching; later the identity may come and go.
    State::load(&settings.directories.state)?;
    let run = settings.directories.run.clone();
    let directory = |error| RunFailure::Directory { path: run.clone(), error };
    let metadata = WatchedMetadata::read(&settings.directories.etc).map_err(RunFailure::Metadata)?;
    let _lock = lock(&run)?;
    let mut backoff = Backoff::new(settings.backoff);
    let mut machine = prepare(settings, metadata).map_err(directory)?;
    let mut stop = pin!(stop);
    tracing::info!(version = VERSION, run = %run.display(), "the agent starts");
    loop {
        let (why, lasting, stable) = match link(&mut machine, stop.as_mut()).await {
            End::Stopped => break,
            End::Renewed => continue,
            End::Lost { why, lasting, stable } => (why, lasting, stable),
        };
        if stable {
            backoff.reset();
        }
        machine.status.lost(&why, machine.clock.now().wall);
        let wait = if lasting { backoff.next_longest(random()) } else { backoff.next(random()) };
        tracing::warn!(why, wait_ms = wait.as_millis(), "no link");
        if idle(wait, &mut machine, stop.as_mut()).await {
            break;
        }
    }
    machine.lines.stop().await;
    tracing::info!("the agent stops; live keys stay until their deadlines");
    Ok(())
}

/// One link, if it can be had.
async fn link(machine: &mut Machine, mut stop: Pin<&mut (impl Future<Output = ()> + Send)>) -> End {
    let state = match State::load(&machine.state) {
        Ok(state) => state,
        Err(error) => return End::Lost { why: error.to_string(), lasting: true, stable: false },
    };
    let connected = tokio::select! {
        connected = connect(&state) => connected,
        () = stop.as_mut() => return End::Stopped,
    };
    match connected {
        Ok(socket) => {
            if let Some(metadata) = &machine.metadata {
                metadata.set_address(local_address(&socket).and_then(ipv4));
            }
            converse(socket, machine, stop).await
        }
        Err(error) => {
            let why = format!("{}: {error}", state.server);
            End::Lost { why, lasting: error.is_lasting(), stable: false }
        }
    }
}

/// This machine's address, as those see it who are where the control plane is.
pub(crate) fn local_address(socket: &Socket) -> Option<IpAddr> {
    let (stream, _) = socket.get_ref().get_ref();
    Some(stream.local_addr().ok()?.ip().to_canonical())
}

const fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// Waits, keeping house and hearing what the machine reports. Says whether to stop.
async fn idle(
    wait: Duration,
    machine: &mut Machine,
    mut stop: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> bool {
    let mut over = pin!(tokio::time::sleep(wait));
    let mut ticks = tokio::time::interval(machine.tick);
    loop {
        tokio::select! {
            () = over.as_mut() => return false,
            () = stop.as_mut() => return true,
            report = machine.reports.next() => machine.take_report(report),
            _ = ticks.tick() => machine.keep_house(),
        }
    }
}

fn prepare(settings: RunSettings, metadata: Option<WatchedMetadata>) -> io::Result<Machine> {
    let RunSettings {
        directories,
        boot_id,
        clock,
        backoff: _,
        ping_interval,
        tick,
        os_users,
        ssh_host_keys,
        os_release,
        notify,
        passed,
        lines,
    } = settings;
    let now = clock.boot();
    let mut host = HostFiles::new(&directories.etc);
    let reports = HostReports::bind(&directories.run)?;
    let metadata = metadata.map(|watched| {
        let place =
            Place { run: &directories.run, boot: &boot_id, clock: &clock, readings: reports.readings() };
        Metadata::start(watched, host.instance()?, place, passed)
    });
    let metadata = metadata.transpose()?;
    let capabilities = match &metadata {
        Some(_) => Capabilities::RENEWAL.with(Capabilities::METADATA),
        None => Capabilities::RENEWAL,
    };
    let mut lines = Lines::new(&directories.etc, directories.state.clone(), lines);
    lines.refresh(host.instance().ok().as_ref());
    Ok(Machine {
        host,
        lines,
        metadata,
        is_told_of_twins: false,
        ssh_host_keys,
        os_release,
        state: directories.state,
        keys: LiveKeys::open(&directories.run, &boot_id, now)?,
        users: OsUsers::new(os_users),
        reports,
        report_rate: Bucket::new(limits::REPORTS_SENT_RATE),
        clock_watch: ClockWatch::default(),
        signers: Signers::default(),
        status: StatusFile::new(&directories.run, clock.now().wall),
        facts: AgentFacts {
            boot_id,
            capabilities,
            agent_version: VersionText::lossy(VERSION),
            ping_interval,
        },
        clock,
        tick,
        notify,
    })
}

/// One agent for each run directory: a second would remove what the first has written.
fn lock(run: &Path) -> Result<File, RunFailure> {
    let path = run.join(LOCK);
    let directory = |error| RunFailure::Directory { path: run.to_owned(), error };
    make_directory(run, 0o750).map_err(directory)?;
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(directory)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RunFailure::Running(path)),
        Err(TryLockError::Error(error)) => Err(directory(error)),
    }
}

/// For the jitter only. Without randomness the waits are the longest there are.
pub(crate) fn random() -> u32 {
    let mut bytes = [0xff; 4];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}
