//! Telling sshd and systemd what has changed.

use super::change::Change;
use super::{ANCHORS_UNIT, InstallFailure, NOBODY, STATE, UNIT};
use crate::root::Root;
use crate::sshd::{Sshd, UNITS};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io;
use std::path::Path;

/// Has sshd read its files again, where they have been changed. Says how.
pub(super) fn tell_sshd(root: &Root, sshd: &Sshd, changes: &[Change]) -> Result<String, InstallFailure> {
    if !root.is_this_system() || !changes.iter().any(Change::is_of_sshd) {
        return Ok(String::new());
    }
    if is_booted(root) && changes.iter().any(Change::is_of_systemd) {
        root.run_well("systemctl", &["daemon-reload"], "").map_err(InstallFailure::system("systemd"))?;
    }
    reload_sshd(root, sshd, changes.iter().any(Change::is_mask)).map_err(InstallFailure::system("sshd"))
}

/// Starts the agent of a machine that is enrolled. Says what is left to do, also where it does not start: that is no reason
/// to take anything back.
pub(super) fn start_agent(root: &Root, changes: &[Change]) -> String {
    if changes.is_empty() {
        return String::new();
    }
    if !root.is_this_system() {
        return "This is not the running system: its sshd and its agent start with the changes.\n".to_owned();
    }
    if !root.path(STATE).join("link.json").exists() {
        return "Next: instance-connect-agent enroll, with a join token of this instance.\n".to_owned();
    }
    if !is_booted(root) {
        let (user, group) = (super::AGENT_USER, super::AGENT_GROUP);
        return format!(
            "Next: have your service manager run instance-connect-agent run as {user}:{group}.\n"
        );
    }
    let reload = root.run_well("systemctl", &["daemon-reload"], "");
    let restart = ["restart", "--no-block", ANCHORS_UNIT, UNIT];
    match reload.and_then(|_| root.run_well("systemctl", &restart, "")) {
        Ok(_) => {
            "The agent is started; instance-connect-agent status says whether it has a link.\n".to_owned()
        }
        Err(error) => format!("Next: systemctl start {UNIT}, which has just failed: {error}\n"),
    }
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
