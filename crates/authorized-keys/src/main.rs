//! The command that sshd runs for each key offered: see the library, and `docs/login.md`.

use instance_connect_authorized_keys::{
    Answer, Chained, CommandLine, Invocation, Login, Reporter, USAGE, answer,
};
use instance_connect_document::{BootInstant, MachineTime, UnixSeconds};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    let CommandLine { invocation, syslog, chained } = CommandLine::parse(std::env::args_os().skip(1));
    let outcome = match invocation {
        Ok(Invocation::Login(login)) => match answer(&login, machine_time) {
            Ok(answer) => give(&answer, &login, &syslog),
            Err(broken) => fail(&broken.to_string(), &syslog),
        },
        Ok(Invocation::UnknownUser) => Outcome::NoKey,
        Ok(Invocation::Help) => return print(USAGE.as_bytes()),
        Ok(Invocation::Version) => {
            return print(
                concat!("instance-connect-authorized-keys ", env!("CARGO_PKG_VERSION"), "\n").as_bytes(),
            );
        }
        Err(error) => fail(&error.to_string(), &syslog),
    };
    match chained {
        Some(chained) if outcome != Outcome::TheKey => ask_next(&chained, outcome, &syslog),
        _ if outcome == Outcome::Failed => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

/// What sshd has been told so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The key that it asked about may log in.
    TheKey,
    /// Some keys may log in. Which one is offered was not said, so others may know more.
    Keys,
    /// No pushed key may.
    NoKey,
    /// Nothing could be answered.
    Failed,
}

/// Gives sshd its answer, then says so. An answer that sshd does not take is not reported as given.
fn give(answer: &Answer, login: &Login, syslog: &Path) -> Outcome {
    if answer.keys.is_empty() && answer.log.is_empty() {
        return Outcome::NoKey;
    }
    if print(answer.keys.as_bytes()) == ExitCode::FAILURE {
        return fail("Unable to run EC2 Instance Connect: sshd did not take the key.", syslog);
    }
    let reporter = Reporter::new(syslog.to_owned());
    for line in &answer.log {
        reporter.log(line);
    }
    for offer in &answer.offers {
        reporter.key_offered(offer, &login.run);
    }
    match (answer.keys.is_empty(), login.fingerprint) {
        (true, _) => Outcome::NoKey,
        (false, Some(_)) => Outcome::TheKey,
        (false, None) => Outcome::Keys,
    }
}

/// Asks the command that was here before. Whatever it does, keys that have been given stay given.
fn ask_next(chained: &Chained, before: Outcome, syslog: &Path) -> ExitCode {
    match chained.ask(machine_time) {
        Ok(answer) => print(&answer),
        Err(error) => {
            fail(&error.to_string(), syslog);
            if before == Outcome::Keys { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

/// Says why nothing can be answered, to the log and to whoever runs this by hand. sshd drops what is on standard error.
fn fail(reason: &str, syslog: &Path) -> Outcome {
    Reporter::new(syslog.to_owned()).log(reason);
    let _ = writeln!(std::io::stderr(), "{reason}");
    Outcome::Failed
}

fn print(text: &[u8]) -> ExitCode {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
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
