//! The program in sshd's PAM stack: it tells the agent that a login begins or ends (`docs/login.md`). It never waits for
//! anybody, and whatever happens it ends with 0: nobody's login depends on it. It runs as root, in an environment that users can
//! choose (`pam_env`): it is linked statically, since the dynamic loader would do what such variables ask for.

use instance_connect_authorized_keys::{PamEnvironment, Reporter, session_events, started};
use instance_connect_document::{BootInstant, SessionId};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the agent hands over, unless `--run DIR` says otherwise.
const RUN: &str = "/run/instance-connect";

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let run = match (arguments.next(), arguments.next()) {
        (Some(option), Some(run)) if option == "--run" => PathBuf::from(run),
        _ => PathBuf::from(RUN),
    };
    let _ = report(&run);
}

/// `None` where there is nothing to tell.
fn report(run: &Path) -> Option<()> {
    let environment = PamEnvironment::read(std::env::vars_os());
    // PAM runs in sshd's process of this login, from its beginning to its end.
    let process = u32::try_from(rustix::process::getppid()?.as_raw_nonzero().get()).ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let session = SessionId { process, started: started(&stat)? };
    let boot = Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::Boottime)).ok()?;
    let reporter = Reporter::new(PathBuf::new());
    for event in session_events(&environment, session, BootInstant::from(boot)) {
        reporter.session_changed(&event, run);
    }
    Some(())
}
