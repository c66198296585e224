//! Telling sshd and systemd what has changed.

use super::change::Change;
use super::{InstallFailure, NOBODY, STATE, UNIT};
use crate::root::Root;
use crate::sshd::{Sshd, UNITS};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io;
use std::path::Path;

/// Has sshd read its files again, and starts the agent. Says what was done and what is left to do.
pub(super) fn put_into_effect(
    root: &Root,
    sshd: &Sshd,
    changes: &[Change],
) -> Result<String, InstallFailure> {
    let mut told = String::new();
    if changes.is_empty() {
        return Ok(told);
    }
    if !root.is_this_system() {
        return Ok(
            "This is not the running system: its sshd and its agent start with the changes.\n".to_owned()
        );
    }
    let system = InstallFailure::system;
    if is_booted(root) && changes.iter().any(Change::is_of_systemd) {
        root.run_well("systemctl", &["daemon-reload"], "").map_err(system("systemd"))?;
    }
    if changes.iter().any(Change::is_of_sshd) {
        told += &reload_sshd(root, sshd, changes.iter().any(Change::is_mask)).map_err(system("sshd"))?;
    }
    let is_enrolled = root.path(STATE).join("link.json").exists();
    told += &match (is_enrolled, is_booted(root)) {
        (false, _) => "Next: instance-connect-agent enroll, with a join token of this instance.\n".to_owned(),
        (true, true) => {
            root.run_well("systemctl", &["restart", "--no-block", UNIT], "").map_err(system(UNIT))?;
            "The agent is started; instance-connect-agent status says whether it has a link.\n".to_owned()
        }
        (true, false) => format!(
            "Next: have your service manager run, as {}:{},\n    instance-connect-agent run\n",
            super::AGENT_USER,
            super::AGENT_GROUP
        ),
    };
    Ok(told)
}

/// Whether systemd runs there (sd_booted(3)).
pub(super) fn is_booted(root: &Root) -> bool {
    root.is_this_system() && Path::new("/run/systemd/system").is_dir()
}

/// Sessions go on: the process of each is its own. An option leaves the command line with a restart only.
pub(super) fn reload_sshd(root: &Root, sshd: &Sshd, restart: bool) -> io::Result<String> {
    if is_booted(root) {
        let verb = if restart { "restart" } else { "reload" };
        let is_active = |unit: &&&str| root.run_well("systemctl", &["is-active", unit], "").is_ok();
        return match UNITS.iter().find(is_active) {
            Some(unit) => root
                .run_well("systemctl", &[verb, unit], "")
                .map(|_| format!("sshd has been told ({verb} {unit}).\n")),
            None => Ok("sshd's service does not run; what starts it next reads the changes.\n".to_owned()),
        };
    }
    match running_sshd(root, sshd) {
        Some(pid) => {
            kill_process(pid, Signal::HUP)?;
            Ok(format!("sshd has been told (SIGHUP to {}).\n", pid.as_raw_nonzero()))
        }
        None => Ok("No running sshd was found; what starts it next reads the changes.\n".to_owned()),
    }
}

/// The sshd that waits for connections, by its own file.
fn running_sshd(root: &Root, sshd: &Sshd) -> Option<Pid> {
    let effective = sshd.effective(NOBODY, None).ok()?;
    let pid = fs::read_to_string(root.path(effective.get("pidfile")?)).ok()?.trim().parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Pid::from_raw(pid).filter(|_| name.trim_end() == "sshd")
}
