//! The commands that set a machine up, and look after it.

use clap::{Args, ValueEnum};
use instance_connect_agent::{
    Directories, Install, InstallFailure, MachineClock as _, Status, SystemClock, Uninstall, doctor, install,
    uninstall,
};
use instance_connect_core::document::UnixSeconds;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Sets this machine up: sshd asks for pushed keys from now on
///
/// Makes the system users, directories, the agent's service, and a file in /etc/ssh/sshd_config.d with our
/// AuthorizedKeysCommand (lines at the beginning of sshd_config where sshd would not read such a file first). A command that
/// sshd asks already is kept: it is asked where no pushed key was found.
///
/// sshd checks the result before it is told to use it. If anything goes wrong, everything is as it was before. authorized_keys
/// files, passwords and whatever else opens this machine stay as they are. Doing it again changes nothing.
#[derive(Args)]
pub(crate) struct InstallArguments {
    #[command(flatten)]
    system: System,

    /// Leave out the AuthorizedKeysCommand that is there; uninstall brings it back
    #[arg(long)]
    no_chain: bool,

    /// Mask the drop-in of sshd's service that sets an AuthorizedKeysCommand on its command line
    ///
    /// An option there beats every file. The stock ec2-instance-connect package has such a drop-in. sshd is restarted then;
    /// sessions go on.
    #[arg(long)]
    mask_unit_drop_in: bool,
}

/// Puts this machine back as it was before install
///
/// sshd's files are as before, byte for byte. The machine's identity and its users stay, unless --purge is given.
#[derive(Args)]
pub(crate) struct UninstallArguments {
    #[command(flatten)]
    system: System,

    /// Remove the identity, whom this machine trusts, and the users too
    #[arg(long)]
    purge: bool,
}

#[derive(Args)]
struct System {
    /// The system's root directory: another one is that of an image or a container
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,

    /// Only say what would be changed
    #[arg(long)]
    dry_run: bool,
}

impl InstallArguments {
    pub(crate) fn start(self) -> Result<(), InstallFailure> {
        let Self { system: System { root, dry_run }, no_chain, mask_unit_drop_in } = self;
        install(&Install { root, dry_run, no_chain, mask_drop_in: mask_unit_drop_in }, &mut io::stdout())
    }
}

impl UninstallArguments {
    pub(crate) fn start(self) -> Result<(), InstallFailure> {
        let Self { system: System { root, dry_run }, purge } = self;
        uninstall(&Uninstall { root, dry_run, purge }, &mut io::stdout())
    }
}

/// Shows who this machine is, whether its link is open, and how many keys are live
///
/// Exit status: 0 when keys that are pushed arrive here, 1 when they do not. Run it as root, or there is little to see.
#[derive(Args)]
pub(crate) struct StatusArguments {
    /// text for people, json for programs
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Says in plain words why a login with a pushed key would fail
///
/// Looks at everything between a push and a shell: sshd's configuration and what is in effect, the command it asks, the
/// agent, its identity, link and clock, and with --os-user an account. Each finding comes with why it matters and what mends
/// it. Nothing is changed.
///
/// Exit status: 0 when nothing was found by which such a login fails, 1 otherwise. Run it as root.
#[derive(Args)]
pub(crate) struct DoctorArguments {
    /// The account that a key is pushed for
    #[arg(long, value_name = "NAME")]
    os_user: Option<String>,

    /// text for people, json for programs
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

impl StatusArguments {
    pub(crate) fn start(self) -> ExitCode {
        let status = Status::read(&Directories::default(), now(), SystemClock.boot());
        let text = match self.output {
            Output::Text => status.to_text(),
            Output::Json => status.to_json() + "\n",
        };
        print(&text, status.is_linked())
    }
}

impl DoctorArguments {
    pub(crate) async fn start(self) -> ExitCode {
        let diagnosis = doctor(self.os_user, now()).await;
        let text = match self.output {
            Output::Text => diagnosis.to_text(),
            Output::Json => diagnosis.to_json() + "\n",
        };
        print(&text, diagnosis.is_healthy())
    }
}

/// The wall clock, from where TLS reads it too when it judges certificates.
#[expect(clippy::disallowed_methods, reason = "this is main: the one place that reads the clocks")]
fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixSeconds(since.as_secs().try_into().unwrap_or(i64::MAX))
}

fn print(text: &str, good: bool) -> ExitCode {
    let written = io::stdout().write_all(text.as_bytes()).is_ok();
    if good && written { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
