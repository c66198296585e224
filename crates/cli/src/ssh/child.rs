//! The running `ssh`: its agent is served, signals are passed on, and its exit code becomes ours.

use super::cannot;
use crate::failure::{Exit, Failure};
use rustix::process::{Pid, Signal, kill_process};
use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::ExitStatus;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// The signals that end a program, when somebody asks it to.
pub(super) struct Signals([(Signal, tokio::signal::unix::Signal); 4]);

impl Signals {
    /// From now on these signals come here instead of ending the process.
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |number: Signal| {
            let kind = SignalKind::from_raw(number.as_raw());
            signal(kind).map(|signal| (number, signal)).map_err(|error| cannot("listen for signals", error))
        };
        Ok(Self([listen(Signal::INT)?, listen(Signal::TERM)?, listen(Signal::HUP)?, listen(Signal::QUIT)?]))
    }

    /// Waits for one of them and says which.
    async fn next(&mut self) -> Signal {
        let [(int, on_int), (term, on_term), (hup, on_hup), (quit, on_quit)] = &mut self.0;
        tokio::select! {
            _ = on_int.recv() => *int,
            _ = on_term.recv() => *term,
            _ = on_hup.recv() => *hup,
            _ = on_quit.recv() => *quit,
        }
    }

    /// Waits for one of them; the exit code a shell gives to a program that it ended.
    pub(super) async fn first(&mut self) -> u8 {
        code_of_signal(self.next().await.as_raw())
    }
}

/// Runs ssh to its end. `serving` runs beside it as long as it lasts; when it ends, ssh goes on.
pub(super) async fn run(
    command: &mut Command,
    serving: impl Future,
    signals: &mut Signals,
) -> Result<u8, Failure> {
    let mut child = command.kill_on_drop(true).spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            let program = command.as_std().get_program().display();
            Failure::new(Exit::General, format!("there is no {program} on this machine"))
                .hint("install the OpenSSH client")
        }
        _ => cannot("start ssh", error),
    })?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut serving = pin!(serving);
    let mut is_served = true;
    loop {
        tokio::select! {
            status = child.wait() => return status.map(exit_code).map_err(|error| cannot("wait for ssh", error)),
            _ = &mut serving, if is_served => is_served = false,
            // A terminal has sent it to ssh as well, who takes one as it takes two.
            signal = signals.next() => {
                if let Some(id) = id {
                    // It may just have ended; then its exit comes next.
                    let _ = kill_process(id, signal);
                }
            }
        }
    }
}

/// ssh's exit code, or that of a shell for a program that a signal ended.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.unwrap_or_else(|| code_of_signal(status.signal().unwrap_or_default()))
}

fn code_of_signal(number: i32) -> u8 {
    u8::try_from(128 + number).unwrap_or(u8::MAX)
}
