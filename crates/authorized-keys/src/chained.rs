//! The command that sshd asked before ours came: where no pushed key was found, it is asked next, as sshd would have.
//!
//! It may hang, flood or fail without keeping a login: it has a time, its answer has a size, and only an answer with exit
//! status 0 is passed on, which is sshd's own rule.

use crate::program::{UnsafeProgram, check_program};
use instance_connect_document::MachineTime;
use instance_connect_planted::planted;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How long it may take: as long as the stock host scripts of EC2 may, and much less than sshd's patience.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer: some hundred keys of the longest kind.
const OUTPUT_LIMIT: usize = 256 * 1024;

/// How often is looked whether it has ended, once it has closed its output.
const END_POLL: Duration = Duration::from_millis(1);

/// A command with its arguments, as sshd has filled them in.
#[derive(Debug)]
pub struct Chained {
    /// The program: sshd's rules for it are ours (`check_program`).
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// Why there is no answer of the chained command.
#[derive(Debug)]
pub struct ChainedError {
    program: PathBuf,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Unsafe(UnsafeProgram),
    Start(io::Error),
    Read(Errno),
    TooSlow,
    TooLong,
    Failed(ExitStatus),
}

impl fmt::Display for ChainedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "The chained command {:?} gave no answer: ", self.program)?;
        match &self.reason {
            Reason::Unsafe(error) => write!(f, "it is not run, since {error}"),
            Reason::Start(error) => write!(f, "it cannot be started: {error}"),
            Reason::Read(error) => write!(f, "its output cannot be read: {error}"),
            Reason::TooSlow => write!(f, "it took more than {} s", PATIENCE.as_secs()),
            Reason::TooLong => write!(f, "it printed more than {} KiB", OUTPUT_LIMIT / 1024),
            Reason::Failed(status) => write!(f, "it failed ({status})"),
        }
    }
}

impl std::error::Error for ChainedError {}

impl Chained {
    /// Runs it, and gives what it printed.
    ///
    /// # Errors
    /// Whatever keeps it from a whole answer and exit status 0. It has been killed then, with what it started.
    pub fn ask(&self, clock: fn() -> MachineTime) -> Result<Vec<u8>, ChainedError> {
        self.run(clock).map_err(|reason| ChainedError { program: self.program.clone(), reason })
    }

    fn run(&self, clock: fn() -> MachineTime) -> Result<Vec<u8>, Reason> {
        if !planted("chained-path-unchecked") {
            check_program(&self.program).map_err(Reason::Unsafe)?;
        }
        let started = clock().boot;
        let time_left = || PATIENCE.checked_sub(clock().boot.since(started)).ok_or(Reason::TooSlow);
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // So that what it starts can be killed with it.
            .process_group(0)
            .spawn()
            .map_err(Reason::Start)?;
        let answer = whole_answer(&mut child, &time_left);
        if answer.is_err() {
            // It is not waited for: what even SIGKILL does not end would hold up the login after all.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        }
        answer
    }
}

fn whole_answer(
    child: &mut Child,
    time_left: &dyn Fn() -> Result<Duration, Reason>,
) -> Result<Vec<u8>, Reason> {
    let mut answer = Vec::new();
    if let Some(output) = child.stdout.take() {
        read_to_end(&output, &mut answer, time_left)?;
    }
    loop {
        let left = time_left()?;
        match child.try_wait().map_err(Reason::Start)? {
            Some(status) if status.success() => return Ok(answer),
            Some(status) => return Err(Reason::Failed(status)),
            None => wait(&mut [], left.min(END_POLL)).map(drop)?,
        }
    }
}

fn read_to_end(
    output: impl AsFd,
    answer: &mut Vec<u8>,
    time_left: &dyn Fn() -> Result<Duration, Reason>,
) -> Result<(), Reason> {
    let mut buffer = [0; 4096];
    loop {
        // Reading waits for nothing where there is something to read, be it the end.
        if !wait(&mut [PollFd::new(&output, PollFlags::IN)], time_left()?)? {
            continue;
        }
        match rustix::io::read(&output, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => answer.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(Reason::Read(error)),
        }
        if answer.len() > OUTPUT_LIMIT {
            return Err(Reason::TooLong);
        }
    }
}

/// Waits for an event, but not longer than this. Says whether there was one.
fn wait(events: &mut [PollFd<'_>], time: Duration) -> Result<bool, Reason> {
    let time = Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() };
    match poll(events, Some(&time)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(Reason::Read(error)),
    }
}
