//! `instance-connect-agent`: enrols a machine, and keeps its link to the control plane.

mod host_commands;

use clap::{Args, Parser, Subcommand};
use host_commands::{DoctorArguments, InstallArguments, StatusArguments, UninstallArguments};
use instance_connect_agent::{
    AddressFailure, Directories, EnrollFailure, Enrollment, InstallFailure, LineCommand, NotifySocket,
    PassedSockets, RunFailure, RunSettings, SSH_DIRECTORY, ServerUrl, UpdateFailure, add_metadata_address,
    enroll, read_boot_id, remove_metadata_address, run, update_anchors,
};
use instance_connect_core::link::{JoinTokenText, TokenError};
use rustix::fs::Mode;
use rustix::process::{Signal, set_parent_process_death_signal, umask};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

/// Puts SSH keys that were pushed to this machine where its sshd finds them, for as long as they live.
#[derive(Parser)]
#[command(
    name = "instance-connect-agent",
    version,
    max_term_width = 100,
    after_help = "\
To bring a machine in, an administrator makes a join token for its instance; then, as root on the machine:
  instance-connect-agent install
  instance-connect-agent enroll --server https://ic.example.com:8444 --token-file /root/join-token
  systemctl start instance-connect-agent"
)]
struct Arguments {
    /// What to log: a level (error, warn, info, debug, trace), or a tracing filter
    #[arg(long, global = true, value_name = "LEVEL", env = "RUST_LOG", default_value = "info")]
    log: String,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Gives this machine its identity, in exchange for a join token
    ///
    /// The token is read from standard input, or from a file; never give it as an argument, where every user of the
    /// machine could read it. A token works once, within 15 minutes, and for one instance. Run this as root: it writes
    /// whom the machine trusts.
    Enroll(EnrollArguments),
    /// Keeps the link to the control plane until it is told to stop (SIGTERM, SIGINT)
    ///
    /// Keys that have been delivered keep working to their deadline, whether this runs or not. Where NOTIFY_SOCKET is set,
    /// it is told READY=1 as soon as the first link is open (sd_notify(3)). host.toml in the directory of --etc says what a
    /// control plane may not do here, metadata.toml which instances have a metadata service, lines.toml which serial lines
    /// people can be brought to.
    Run(RunArguments),
    /// Takes the anchors that the agent was sent, where one that this machine trusts has signed them
    ///
    /// Run as root, by instance-connect-anchors.path. Anchors that are as new as those of this machine are left alone.
    UpdateAnchors(Places),
    /// Sets this machine up: sshd asks for pushed keys from now on
    Install(InstallArguments),
    /// Puts this machine back as it was before install
    Uninstall(UninstallArguments),
    /// Becomes the program of a serial line; the agent starts it
    #[command(hide = true)]
    RunLine(RunLineArguments),
    /// Shows who this machine is, whether its link is open, and how many keys are live
    Status(StatusArguments),
    /// Says in plain words why a login with a pushed key would fail
    Doctor(DoctorArguments),
    /// Puts the metadata service's address, 169.254.169.254, on this machine, or takes it away
    ///
    /// Run as root, by instance-connect-metadata-address.service. The address is not put where somebody answers there
    /// already: a machine of a cloud has a metadata service of its own.
    MetadataAddress {
        #[command(subcommand)]
        change: AddressChange,
    },
}

#[derive(Subcommand)]
enum AddressChange {
    /// Puts it on the loopback interface
    Add,
    /// Takes it away again
    Remove,
}

#[derive(Args)]
struct EnrollArguments {
    /// The control plane's agents listener
    #[arg(long, value_name = "https://HOST:PORT")]
    server: ServerUrl,

    /// The join token's file, instead of standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Replaces an identity that the machine already has; the earlier one is revoked
    #[arg(long)]
    replace: bool,

    #[command(flatten)]
    places: Places,

    #[command(flatten)]
    host_keys: HostKeyDirectory,
}

#[derive(Args)]
struct RunArguments {
    #[command(flatten)]
    places: Places,

    /// Live keys, and the socket of the sshd command
    #[arg(long, value_name = "DIR", default_value = "/run/instance-connect")]
    run: PathBuf,

    #[command(flatten)]
    host_keys: HostKeyDirectory,

    /// Ends when the thread that started this process ends
    ///
    /// That is how the kernel has it: start the agent from a thread that lives as long as the program.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

#[derive(Args)]
struct RunLineArguments {
    /// The agent's process
    #[arg(long, value_name = "PID")]
    parent: i32,

    /// Whether standard input is a terminal, which is to be the program's own
    #[arg(long)]
    terminal: bool,

    #[arg(last = true, required = true)]
    words: Vec<OsString>,
}

#[derive(Args)]
struct HostKeyDirectory {
    /// Where sshd's public host keys are, which the control plane tells its clients
    #[arg(long, value_name = "DIR", default_value = SSH_DIRECTORY, hide_short_help = true)]
    ssh_host_keys: PathBuf,
}

#[derive(Args)]
struct Places {
    /// Which instance this is and whom it trusts
    #[arg(long, value_name = "DIR", default_value = "/etc/instance-connect")]
    etc: PathBuf,

    /// The agent's identity
    #[arg(long, value_name = "DIR", default_value = "/var/lib/instance-connect-agent")]
    state: PathBuf,
}

/// What went wrong, for the person who started this.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Enroll(#[from] EnrollFailure),
    #[error(transparent)]
    Run(#[from] RunFailure),
    #[error(transparent)]
    Install(#[from] InstallFailure),
    #[error(transparent)]
    Update(#[from] UpdateFailure),
    #[error(transparent)]
    Address(#[from] AddressFailure),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("{}: {error}", path.display())]
    TokenFile { path: PathBuf, error: io::Error },
    #[error("{what}: {error}")]
    System { what: &'static str, error: io::Error },
    #[error("--log: {0}")]
    Log(String),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Files are made with the modes they are to have; this is for the moment in between.
    umask(Mode::from_raw_mode(0o027));
    match start(arguments) {
        Ok(status) => status,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "instance-connect-agent: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Arguments) -> Result<ExitCode, Failure> {
    let filter = EnvFilter::try_new(&arguments.log).map_err(|error| Failure::Log(error.to_string()))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
    // A log that cannot be written is no reason to stop: telling of it on the same standard error would panic.
    log.log_internal_errors(false).init();
    // One thread: an agent is idle nearly always, and does one thing at a time.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::System { what: "the runtime cannot be started", error })?;
    match arguments.command {
        Command::Enroll(arguments) => runtime.block_on(start_enroll(arguments))?,
        Command::Run(arguments) => runtime.block_on(start_run(arguments))?,
        Command::UpdateAnchors(Places { etc, state }) => {
            let directories = Directories { etc, state, ..Directories::default() };
            let set = update_anchors(&directories)?;
            let _ = writeln!(io::stdout(), "this machine trusts anchor set {set}");
        }
        Command::Install(arguments) => arguments.start()?,
        Command::Uninstall(arguments) => arguments.start()?,
        Command::RunLine(RunLineArguments { parent, terminal, words }) => {
            let line = LineCommand { parent, terminal, words };
            match line.become_it() {
                Err(error) => return Err(Failure::System { what: "the program of a serial line", error }),
            }
        }
        Command::Status(arguments) => return Ok(arguments.start()),
        Command::MetadataAddress { change: AddressChange::Add } => add_metadata_address()?,
        Command::MetadataAddress { change: AddressChange::Remove } => remove_metadata_address()?,
        Command::Doctor(arguments) => return Ok(runtime.block_on(arguments.start())),
    }
    Ok(ExitCode::SUCCESS)
}

async fn start_enroll(arguments: EnrollArguments) -> Result<(), Failure> {
    let EnrollArguments { server, token_file, replace, places, host_keys } = arguments;
    let token = read_token(token_file.as_deref())?;
    let enrollment = Enrollment {
        server,
        token,
        directories: Directories { etc: places.etc, state: places.state, ..Directories::default() },
        replace,
        boot_id: boot_id()?,
        ssh_host_keys: host_keys.ssh_host_keys,
    };
    let enrolled = enroll(enrollment).await?;
    let _ = writeln!(
        io::stdout(),
        "enrolled as {} in {} (account {})",
        enrolled.instance_id,
        enrolled.region,
        enrolled.account_id
    );
    Ok(())
}

async fn start_run(arguments: RunArguments) -> Result<(), Failure> {
    let RunArguments { places, run: run_directory, host_keys, exit_with_parent } = arguments;
    let signals = |error| Failure::System { what: "signals cannot be received", error };
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    if exit_with_parent {
        set_parent_process_death_signal(Some(Signal::TERM)).map_err(|error| signals(error.into()))?;
    }
    let directories = Directories { etc: places.etc, state: places.state, run: run_directory };
    let signalled = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let stop = async move {
        // A task of its own, which neither panics nor is cancelled: the link asks whether to stop whenever it wakes, and to
        // ask a task costs less than to ask two signals.
        let _ = tokio::spawn(signalled).await;
    };
    let notify = NotifySocket::from_environment();
    let notify = notify.map_err(|error| Failure::System { what: "NOTIFY_SOCKET", error })?;
    let passed = PassedSockets::take();
    let passed = passed.map_err(|error| Failure::System { what: "the sockets that were passed", error })?;
    let ssh_host_keys = host_keys.ssh_host_keys;
    let settings = RunSettings {
        ssh_host_keys,
        notify,
        passed: Arc::new(passed),
        ..RunSettings::new(directories, boot_id()?)
    };
    run(settings, stop).await?;
    Ok(())
}

fn boot_id() -> Result<instance_connect_core::document::BootId, Failure> {
    read_boot_id()
        .map_err(|error| Failure::System { what: "the kernel does not say which boot this is", error })
}

/// Longer than any token; what is behind it is not read.
const TOKEN_LIMIT: u64 = 4096;

fn read_token(file: Option<&Path>) -> Result<JoinTokenText, Failure> {
    let failed = |error| Failure::TokenFile {
        path: file.unwrap_or_else(|| Path::new("standard input")).to_owned(),
        error,
    };
    let line = match file {
        Some(path) => read_line(File::open(path).map_err(failed)?),
        None => {
            if io::stdin().is_terminal() {
                let _ = write!(io::stderr(), "Join token: ");
            }
            read_line(io::stdin())
        }
    };
    Ok(line.map_err(failed)?.trim().parse()?)
}

fn read_line(source: impl Read) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(256));
    BufReader::new(source.take(TOKEN_LIMIT)).read_line(&mut line)?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    /// Also what `packaging/build` runs to get the files.
    #[test]
    fn pages() -> io::Result<()> {
        instance_connect_pages::write(Arguments::command(), "8")
    }
}
