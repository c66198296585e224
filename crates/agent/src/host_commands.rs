//! The commands that set a machine up, and look after it.

use clap::Args;
use instance_connect_agent::{Install, InstallFailure, Uninstall, install, uninstall};
use std::io;
use std::path::PathBuf;

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
