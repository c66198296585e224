//! `instance-connect-console`: the SSH gateway of the serial console.

use clap::{Args, Parser, Subcommand};
use instance_connect_console::{HostKeyError, HostKeys, RunFailure, RunSettings, Settings, run};
use instance_connect_core::places::ConnectionLimits;
use instance_connect_notify::NotifySocket;
use rustix::fs::Mode;
use rustix::process::{Signal, set_parent_process_death_signal, umask};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Brings people whom the control plane expects to the serial console of their instance, for as long as the limits here say.
#[derive(Parser)]
#[command(
    name = "instance-connect-console",
    version,
    max_term_width = 100,
    after_help = "\
It runs beside the control plane, as a process of its own, and asks it through a socket who may come in:
  instance-connect-console serve --listen 0.0.0.0:2022 \\
      --socket /run/instance-connect-console/control-plane.sock
People push a key and connect within a minute:
  aws ec2-instance-connect send-serial-console-ssh-public-key --instance-id i-0123456789abcdef0 \\
      --serial-port 0 --ssh-public-key file://key.pub
  ssh -i key -p 2022 i-0123456789abcdef0.port0@console.example.com"
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
    /// Serves the console until it is told to stop (SIGTERM, SIGINT)
    ///
    /// Host keys are made at the first start. While the control plane is gone nobody can come in; the gateway waits for it. Where
    /// NOTIFY_SOCKET is set, it is told READY=1 as soon as clients can connect (sd_notify(3)).
    Serve(ServeArguments),
    /// Makes the host keys, where there are none, and prints their fingerprints
    Init(HostKeyDirectory),
}

#[derive(Args)]
struct HostKeyDirectory {
    /// Where the host keys are: nobody else may read it
    #[arg(long, value_name = "DIR", default_value = "/var/lib/instance-connect-console")]
    host_keys: PathBuf,
}

#[derive(Args)]
struct ServeArguments {
    /// The control plane's socket for the console (its `console.socket`)
    #[arg(long, value_name = "PATH", default_value = "/run/instance-connect-console/control-plane.sock")]
    socket: PathBuf,

    /// Where people connect
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:2022")]
    listen: SocketAddr,

    #[command(flatten)]
    host_keys: HostKeyDirectory,

    /// Show the ECDSA host key as well, to clients that know no ED25519
    ///
    /// Both keys are made. OpenSSH has ED25519 since 2014, and ssh-audit fails NIST's curves.
    #[arg(long)]
    ecdsa_host_key: bool,

    /// Written as soon as clients can connect: the address and the host keys, as JSON
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,

    #[command(flatten)]
    limits: Limits,

    /// Ends when the thread that started this process ends
    ///
    /// That is how the kernel has it: start the gateway from a thread that lives as long as the program.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Limits")]
struct Limits {
    /// Time for the key exchange and the authentication of a client
    #[arg(long, value_name = "SECONDS", default_value_t = seconds(Settings::default().authentication),
        value_parser = clap::value_parser!(u64).range(1..=120))]
    authentication_time: u64,

    /// Connections of one source, an IPv4 address or an IPv6 /64, that have not authenticated
    #[arg(long, value_name = "N", default_value_t = small(Settings::default().unauthenticated.per_source),
        value_parser = clap::value_parser!(u32).range(1..=1024))]
    unauthenticated_per_source: u32,

    /// The same of all sources
    #[arg(long, value_name = "N", default_value_t = small(Settings::default().unauthenticated.in_all),
        value_parser = clap::value_parser!(u32).range(1..=4096))]
    unauthenticated: u32,

    /// Sessions in all
    #[arg(long, value_name = "N", default_value_t = small(Settings::default().sessions),
        value_parser = clap::value_parser!(u32).range(1..=65536))]
    sessions: u32,

    /// The longest a session lasts
    #[arg(long, value_name = "SECONDS", default_value_t = seconds(Settings::default().longest_session),
        value_parser = clap::value_parser!(u64).range(1..=604_800))]
    longest_session: u64,

    /// After how long without a key typed a session ends; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=604_800))]
    idle: u64,

    /// How often a client is asked whether it is still there
    #[arg(long, value_name = "SECONDS", default_value_t = seconds(Settings::default().keep_alive),
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    keep_alive: u64,

    /// So many questions unanswered in a row end the session
    #[arg(long, value_name = "N", default_value_t = Settings::default().keep_alives_unanswered,
        value_parser = clap::value_parser!(u32).range(1..=100))]
    keep_alives_unanswered: u32,
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs()
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Limits {
    fn settings(&self) -> Settings {
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Settings {
            authentication: Duration::from_secs(self.authentication_time),
            unauthenticated: ConnectionLimits {
                in_all: count(self.unauthenticated),
                per_source: count(self.unauthenticated_per_source),
            },
            sessions: count(self.sessions),
            longest_session: Duration::from_secs(self.longest_session),
            idle: Some(Duration::from_secs(self.idle)).filter(|idle| !idle.is_zero()),
            keep_alive: Duration::from_secs(self.keep_alive),
            keep_alives_unanswered: self.keep_alives_unanswered,
        }
    }
}

/// What went wrong, for the person who started this.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    HostKeys(#[from] HostKeyError),
    #[error(transparent)]
    Run(#[from] RunFailure),
    #[error("{what}: {error}")]
    System { what: &'static str, error: io::Error },
    #[error("--log: {0}")]
    Log(String),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Files are made with the modes they are to have; this is for the moment in between.
    umask(Mode::from_raw_mode(0o077));
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "instance-connect-console: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Arguments) -> Result<(), Failure> {
    // What the SSH library logs, which quotes clients, goes nowhere: it speaks to `log`, and nothing here listens to that.
    let filter = EnvFilter::try_new(&arguments.log).map_err(|error| Failure::Log(error.to_string()))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
    // A log that cannot be written is no reason to stop: telling of it on the same standard error would panic.
    log.log_internal_errors(false).init();
    match arguments.command {
        Command::Serve(arguments) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            let runtime =
                runtime.map_err(|error| Failure::System { what: "the runtime cannot be started", error })?;
            runtime.block_on(serve(arguments))
        }
        Command::Init(HostKeyDirectory { host_keys }) => {
            for fingerprint in HostKeys::load_or_make(&host_keys)?.fingerprints() {
                let _ = writeln!(io::stdout(), "{fingerprint}");
            }
            Ok(())
        }
    }
}

async fn serve(arguments: ServeArguments) -> Result<(), Failure> {
    let signals = |error| Failure::System { what: "signals cannot be received", error };
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    if arguments.exit_with_parent {
        set_parent_process_death_signal(Some(Signal::TERM)).map_err(|error| signals(error.into()))?;
    }
    let notify = NotifySocket::from_environment();
    let notify = notify.map_err(|error| Failure::System { what: "NOTIFY_SOCKET", error })?;
    let settings = RunSettings {
        socket: arguments.socket,
        listen: arguments.listen,
        host_keys: arguments.host_keys.host_keys,
        ecdsa_host_key: arguments.ecdsa_host_key,
        settings: arguments.limits.settings(),
        notify,
        ready_file: arguments.ready_file,
    };
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    run(settings, stop).await?;
    Ok(())
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
