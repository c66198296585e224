//! The command that sshd runs for each key offered: see the library, and `docs/login.md`.

use instance_connect_authorized_keys::{Answer, Invocation, Login, Reporter, USAGE, answer};
use instance_connect_document::{BootInstant, MachineTime, UnixSeconds};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    let (syslog, invocation) = Invocation::parse(std::env::args_os().skip(1));
    match invocation {
        Ok(Invocation::Login(login)) => match answer(&login, machine_time) {
            Ok(answer) => give(&answer, &login, syslog),
            Err(broken) => fail(&broken.to_string(), syslog),
        },
        Ok(Invocation::UnknownUser) => ExitCode::SUCCESS,
        Ok(Invocation::Help) => print(USAGE),
        Ok(Invocation::Version) => {
            print(concat!("instance-connect-authorized-keys ", env!("CARGO_PKG_VERSION"), "\n"))
        }
        Err(error) => fail(&error.to_string(), syslog),
    }
}

/// Gives sshd its answer, then says so. An answer that sshd does not take is not reported as given.
fn give(answer: &Answer, login: &Login, syslog: PathBuf) -> ExitCode {
    if answer.keys.is_empty() && answer.log.is_empty() {
        return ExitCode::SUCCESS;
    }
    if print(&answer.keys) == ExitCode::FAILURE {
        return fail("Unable to run EC2 Instance Connect: sshd did not take the key.", syslog);
    }
    let reporter = Reporter::new(syslog);
    for line in &answer.log {
        reporter.log(line);
    }
    for offer in &answer.offers {
        reporter.key_offered(offer, &login.run);
    }
    ExitCode::SUCCESS
}

/// Says why nothing can be answered, to the log and to whoever runs this by hand. sshd drops what is on standard error.
fn fail(reason: &str, syslog: PathBuf) -> ExitCode {
    Reporter::new(syslog).log(reason);
    let _ = writeln!(std::io::stderr(), "{reason}");
    ExitCode::FAILURE
}

fn print(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[expect(clippy::disallowed_methods, reason = "this is main: the one place that reads the clocks")]
fn machine_time() -> MachineTime {
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // A boot clock that cannot be read is past every deadline. A wall clock before 1970 counts as 1970.
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    MachineTime {
        boot: BootInstant::from(Duration::try_from(boot).unwrap_or(Duration::MAX)),
        wall: UnixSeconds(wall.as_secs().try_into().unwrap_or(i64::MAX)),
    }
}
