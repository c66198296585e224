//! Setting a machine up so that sshd asks our command, and putting it back. `docs/hosts.md` tells administrators what is
//! changed and why.
//!
//! What to change is decided in `plan`, before anything is; it is done in `change`, which knows how to undo each step.
//! sshd checks the result before it is told to use it, and if anything goes wrong all is as it was.

mod block;
mod change;
mod elf;
mod plan;
mod service;
mod undo;
mod uninstall;

pub use uninstall::{Uninstall, uninstall};

use crate::root::Root;
use crate::sshd::{COMMAND, COMMAND_USER, CONFIGS, Setting, Sshd, read_config, read_unit_options};
use block::block_lines;
use change::{Change, Changing};
pub(crate) use elf::is_static_file;
use instance_connect_authorized_keys::{UnsafeProgram, check_program_in};
pub(crate) use plan::is_ours;
use plan::{Plan, SHIPPED_UNITS, SshdCommand, Survey, Wishes};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The sshd command.
pub(crate) const COMMAND_PROGRAM: &str = "/usr/libexec/instance-connect/instance-connect-authorized-keys";
/// The program that PAM runs when a login begins and ends.
pub(crate) const SESSION_PROGRAM: &str = "/usr/libexec/instance-connect/instance-connect-session";
/// What PAM does for sshd.
pub(crate) const PAM: &str = "/etc/pam.d/sshd";
/// This program.
const AGENT_PROGRAM: &str = "/usr/bin/instance-connect-agent";
/// Ours in sshd's configuration. sshd takes the first value it meets, so the name sorts before what others use.
pub(crate) const DROP_IN: &str = "/etc/ssh/sshd_config.d/00-instance-connect.conf";
/// The user that the agent runs as.
pub(crate) const AGENT_USER: &str = "instance-connect-agent";
/// The user that sshd runs the command as, unless another command is chained, and the group that may read live keys.
pub(crate) const KEYS_USER: &str = "instance-connect-keys";
pub(crate) const KEYS_GROUP: &str = KEYS_USER;
/// The group that the agent runs as: what it writes is for the sshd command.
const AGENT_GROUP: &str = KEYS_GROUP;
/// The agent's service.
pub(crate) const UNIT: &str = "instance-connect-agent.service";
/// What has root take the anchors that the agent was sent.
pub(crate) const ANCHORS_UNIT: &str = "instance-connect-anchors.path";
/// What takes them.
pub(crate) const ANCHORS_SERVICE: &str = "instance-connect-anchors.service";
/// What opens the metadata service's port, where root has enabled it.
pub(crate) const METADATA_UNIT: &str = "instance-connect-metadata.socket";
/// What puts the metadata service's address on the machine.
const METADATA_ADDRESS_UNIT: &str = "instance-connect-metadata-address.service";
/// What starts with the system.
const WANTED_BY: &str = "/etc/systemd/system/multi-user.target.wants";
/// Where the administrator's own units are, and links that mask what packages have brought.
const LOCAL_UNITS: &str = "/etc/systemd/system";
/// Where packages have their units.
const PACKAGED_UNITS: &str = "/usr/lib/systemd/system";
/// What was changed, so that it can be put back.
const RECORD: &str = "/etc/instance-connect/installed.json";
/// No login is of this user: what sshd says for it holds for everybody.
pub(crate) const NOBODY: &str = "instance-connect-nobody";
const ETC: &str = "/etc/instance-connect";
const STATE: &str = "/var/lib/instance-connect-agent";
const RUN: &str = "/run/instance-connect";

/// How to install.
#[derive(Clone, Debug)]
pub struct Install {
    /// The system's root directory.
    pub root: PathBuf,
    /// Only say what would be changed.
    pub dry_run: bool,
    /// Leave out the command that sshd asks today.
    pub no_chain: bool,
    /// Mask a drop-in of sshd's service that sets a command.
    pub mask_drop_in: bool,
}

/// Why a machine is not installed, or not put back. It is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum InstallFailure {
    /// It is not root who asks.
    #[error("this changes what sshd trusts: run it as root")]
    NotRoot,
    /// There is no sshd.
    #[error("there is no sshd in {}; install OpenSSH's server first", .0.display())]
    NoSshd(PathBuf),
    /// There is no configuration.
    #[error("there is no {}", CONFIGS[0])]
    NoConfig,
    /// What is there does not work without us.
    #[error("nothing has been changed, since sshd refuses its configuration as it is. Mend this first:\n{0}")]
    BrokenBefore(String),
    /// Its configuration does not lie in the file named so.
    #[error("nothing has been changed: {} is a symbolic link, so something else writes it. Have that write these lines, before any other AuthorizedKeysCommand:\n{lines}", path.display())]
    Linked {
        /// The file.
        path: PathBuf,
        /// What would be put into it.
        lines: String,
    },
    /// A command on sshd's command line, which no file can beat.
    #[error("nothing has been changed: {} starts sshd with {options}, and an option beats every file. {mend}", file.display())]
    CommandLine {
        /// The unit, drop-in or environment file that says so.
        file: PathBuf,
        /// What it says.
        options: String,
        /// What to do.
        mend: &'static str,
    },
    /// sshd itself would refuse such a command.
    #[error(
        "nothing has been changed: sshd asks the command {0:?} today, but no AuthorizedKeysCommandUser says as whom, so sshd does not run it. Set one, or leave the command out with --no-chain"
    )]
    ChainedWithoutUser(String),
    /// The command runs as another user at each login.
    #[error(
        "nothing has been changed: the AuthorizedKeysCommandUser {0:?} is another one at each login, so it cannot be given access to the keys. Set a fixed one, or leave the command out with --no-chain"
    )]
    ChainedUser(String),
    /// sshd would not run the command.
    #[error(
        "nothing has been changed: sshd asks the command {command:?} today, but does not run it, since {reason}. Mend that, or leave the command out with --no-chain"
    )]
    ChainedUnsafe {
        /// The command.
        command: String,
        /// What is wrong with its program.
        reason: UnsafeProgram,
    },
    /// A program of ours is missing.
    #[error("nothing has been changed: {program} is not installed, and not beside {} either", beside.display())]
    NoProgram {
        /// By its path in the system.
        program: String,
        /// Where it was looked for.
        beside: PathBuf,
    },
    /// A program that runs as root in an environment of users' choice would be loaded by what listens to that.
    #[error(
        "nothing has been changed: {} is not a statically linked program, and users whose environment PAM reads (pam_env) could have it load theirs as root. Build it with: cargo rustc --release -p instance-connect-authorized-keys --bin instance-connect-session -- -C target-feature=+crt-static", .0.display()
    )]
    NotStatic(PathBuf),
    /// A change failed.
    #[error("everything is as it was before, since this failed: {what}: {error}")]
    Change {
        /// The change.
        what: String,
        /// Why.
        error: io::Error,
    },
    /// sshd refuses what came of it.
    #[error("everything is as it was before, since sshd refuses what was changed:\n{0}")]
    Refused(String),
    /// sshd accepts it, and asks another command.
    #[error("everything is as it was before, since sshd would still ask another command: {0}")]
    NotInEffect(String),
    /// Not everything could be undone.
    #[error("{failure}\nThis could not be put back: {}", left.join("; "))]
    NotRestored {
        /// What failed.
        failure: Box<Self>,
        /// What is not as it was.
        left: Vec<String>,
    },
    /// What is there cannot be read, or the report not be written.
    #[error("{what}: {error}")]
    System {
        /// What.
        what: String,
        /// Why.
        error: io::Error,
    },
}

impl InstallFailure {
    fn system(what: impl ToString) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what: what.to_string(), error }
    }
}

/// Sets the machine up, telling what is done. Doing it again changes nothing.
///
/// # Errors
/// Whatever keeps it from being done. Then everything is as before.
pub fn install(install: &Install, out: &mut dyn Write) -> Result<(), InstallFailure> {
    if !rustix::process::geteuid().is_root() {
        return Err(InstallFailure::NotRoot);
    }
    let root = Root::new(&install.root).map_err(InstallFailure::system(install.root.display()))?;
    let sshd = Sshd::find(&root).ok_or_else(|| InstallFailure::NoSshd(root.directory().to_owned()))?;
    sshd.check().map_err(InstallFailure::BrokenBefore)?;
    let mut changing = Changing::new(&root).map_err(InstallFailure::system(RECORD))?;
    let survey = survey(&root, &sshd, &changing)?;
    let plan = survey.plan(Wishes { no_chain: install.no_chain, mask_drop_in: install.mask_drop_in })?;
    check_chained(&root, plan.chained.as_ref())?;
    let pending = changing.pending(plan.changes.clone())?;
    tell(out, &describe(&pending, &plan, &survey))?;
    if install.dry_run {
        return tell(out, "Nothing has been changed (--dry-run).\n");
    }
    let made = changing.apply(&pending).and_then(|()| check_result(&root, &sshd, &plan));
    made.map_err(|failure| changing.undo(failure))?;
    let told = service::tell_sshd(&root, &sshd, &pending).map_err(|failure| {
        let failure = changing.undo(failure);
        // It may have read what has just been taken back.
        let _ = service::tell_sshd(&root, &sshd, &pending);
        failure
    })?;
    tell(out, &told)?;
    tell(out, &service::start_agent(&root, &pending))
}

fn survey(root: &Root, sshd: &Sshd, changing: &Changing<'_>) -> Result<Survey, InstallFailure> {
    let config = CONFIGS.iter().map(PathBuf::from).find(|path| root.path(path).exists());
    let config = config.ok_or(InstallFailure::NoConfig)?;
    let shown = config.display().to_string();
    let config_text = fs::read_to_string(root.path(&config)).map_err(InstallFailure::system(&shown))?;
    let own_lines = block_lines(&config_text);
    let is_ours = |setting: &Setting| {
        let in_block = own_lines.as_ref().is_some_and(|lines| lines.contains(&setting.line));
        setting.file == Path::new(DROP_IN) || setting.file == config && in_block
    };
    let mut settings = read_config(root, &config).map_err(InstallFailure::system(&shown))?;
    settings.retain(|setting| !is_ours(setting));
    let session_program = changing.program_file(Path::new(SESSION_PROGRAM))?;
    Ok(Survey {
        session_is_static: is_static_file(&session_program)
            .map_err(InstallFailure::system(session_program.display()))?,
        session_program,
        has_block: own_lines.is_some(),
        settings,
        effective: sshd.effective(NOBODY, None).map_err(InstallFailure::BrokenBefore)?,
        unit_options: read_unit_options(root),
        packaged_units: SHIPPED_UNITS
            .map(|(name, _)| name)
            .into_iter()
            .filter(|name| root.path(Path::new(PACKAGED_UNITS).join(name)).exists())
            .collect(),
        has_systemd: root.program("systemctl").is_some(),
        pam_text: pam_text(root),
        config,
        config_text,
    })
}

/// What PAM does for sshd. `None` where it does nothing, or something else writes the file.
fn pam_text(root: &Root) -> Option<String> {
    let path = root.path(PAM);
    if path.is_symlink() { None } else { fs::read_to_string(path).ok() }
}

/// The command that comes after ours is run by ours, not by sshd any more, under the same rules.
fn check_chained(root: &Root, chained: Option<&SshdCommand>) -> Result<(), InstallFailure> {
    let Some(SshdCommand { command, .. }) = chained else { return Ok(()) };
    let program = crate::sshd::words(command).into_iter().next().unwrap_or_default();
    check_program_in(root.directory(), Path::new(&program))
        .map_err(|reason| InstallFailure::ChainedUnsafe { command: command.clone(), reason })
}

/// sshd accepts what was changed, and asks our command.
fn check_result(root: &Root, sshd: &Sshd, plan: &Plan) -> Result<(), InstallFailure> {
    sshd.check().map_err(InstallFailure::Refused)?;
    let options = read_unit_options(root);
    let effective = sshd.effective(NOBODY, options.as_ref()).map_err(InstallFailure::Refused)?;
    let found = [COMMAND, COMMAND_USER].map(|keyword| effective.get(keyword).unwrap_or("none"));
    if found == [plan.sshd.command.as_str(), plan.sshd.user.as_str()] {
        Ok(())
    } else {
        Err(InstallFailure::NotInEffect(found.join(" as ")))
    }
}

fn describe(pending: &[Change], plan: &Plan, survey: &Survey) -> String {
    let mut text: String = pending.iter().map(|change| format!("{change}\n")).collect();
    if pending.is_empty() {
        text.push_str("Everything is installed; there is nothing to change.\n");
    }
    if let Some(SshdCommand { command, user }) = &plan.chained {
        text.push_str(&format!(
            "sshd asks this command today; it stays, and is asked where no pushed key was found, both as {user}:\n    {command}\n"
        ));
    }
    if !survey.hears_of_logins() {
        text.push_str(&format!(
            "Note: sshd does not use PAM here, or something else writes {PAM}; that keys are offered is recorded, logins are not.\n"
        ));
    }
    for exception in survey.exceptions() {
        text.push_str(&format!(
            "Note: for logins that fit \"Match {}\", {} sets another command; pushed keys do not open those.\n",
            exception.matching.as_deref().unwrap_or_default(),
            exception.place(),
        ));
    }
    text
}

fn tell(out: &mut dyn Write, text: &str) -> Result<(), InstallFailure> {
    out.write_all(text.as_bytes()).map_err(InstallFailure::system("standard output"))
}
