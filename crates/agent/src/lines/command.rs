//! Programs of lines: started without a shell, each in a session of its own, and ended with everything that they have started.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{
    Pid, Signal, getppid, ioctl_tiocsctty, kill_process, kill_process_group, set_parent_process_death_signal,
    setsid, umask,
};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// What a program finds in its environment, besides `TERM` where it has a terminal: nothing of the agent's.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/"),
    ("LANG", "C.UTF-8"),
];

/// A terminal that nobody's window says the size of.
const WINDOW: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

/// The agent's own program, in between: it makes of itself what a line's program has to be, and then becomes that program.
#[derive(Clone, Debug)]
pub struct LineCommand {
    /// Whether its standard input is the terminal that is to be its own.
    pub terminal: bool,
    /// The agent that starts it: if it is gone already, nothing is started.
    pub parent: i32,
    /// The program and its arguments.
    pub words: Vec<OsString>,
}

impl LineCommand {
    /// Becomes the program.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn become_it(self) -> io::Result<Infallible> {
        let Some((program, arguments)) = self.words.split_first() else {
            return Err(io::Error::other("there is no program"));
        };
        setsid()?;
        if self.terminal {
            ioctl_tiocsctty(io::stdin())?;
        }
        // An agent that is killed ends nobody by itself. This one ends with it, and so do those that listen to its terminal or
        // its pipe.
        set_parent_process_death_signal(Some(Signal::TERM))?;
        if Pid::as_raw(getppid()) != self.parent {
            return Err(io::Error::other("the agent has ended"));
        }
        umask(rustix::fs::Mode::from_raw_mode(0o022));
        Err(std::process::Command::new(program).args(arguments).exec())
    }
}

/// A program that runs. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    /// Its process group, which outlives the program itself where it has started others. `None` once all have been ended.
    group: Option<Pid>,
}

/// The agent's ends of what a program writes and reads.
pub(super) struct Ends {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
}

impl Running {
    /// Starts a program, by way of the agent's own.
    ///
    /// # Errors
    /// Why it cannot be started. That there is no such program is said on the line.
    pub(super) fn start(agent: &Path, words: &[String], terminal: bool) -> io::Result<(Self, Ends)> {
        let mut command = std::process::Command::new(agent);
        command.arg("run-line").arg("--parent").arg(std::process::id().to_string());
        command.env_clear().envs(ENVIRONMENT).current_dir("/");
        let (read, write) = if terminal {
            command.arg("--terminal").env("TERM", "vt220");
            let (ours, theirs) = terminal_pair()?;
            command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
            (ours.try_clone()?, ours)
        } else {
            let (input, ours) = io::pipe()?;
            let (output, theirs) = io::pipe()?;
            // What a program complains of belongs to whoever looks at its line.
            command.stdin(Stdio::from(input)).stdout(theirs.try_clone()?).stderr(theirs);
            (OwnedFd::from(output), OwnedFd::from(ours))
        };
        for ours in [&read, &write] {
            fcntl_setfl(ours, fcntl_getfl(ours)? | OFlags::NONBLOCK)?;
        }
        command.arg("--").args(words);
        let child = Command::from(command).kill_on_drop(true).spawn()?;
        let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        Ok((Self { child, group }, Ends { read, write }))
    }

    /// Ends the program and what it has started, with `parting` of time to do so by itself. Says how it ended.
    pub(super) async fn end(mut self, parting: Duration) -> String {
        self.signal(Signal::HUP);
        self.signal(Signal::TERM);
        let ended = timeout(parting, self.child.wait()).await;
        // Where the program has ended, its number is still that of its group as long as there is anybody in that, and not given
        // to others as soon as there is not: numbers go round.
        self.signal(Signal::KILL);
        self.group = None;
        match ended {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it had to be killed".to_owned(),
        }
    }

    fn signal(&self, signal: Signal) {
        let Some(group) = self.group else { return };
        // Before it has a group of its own there is only the process.
        if kill_process_group(group, signal).is_err() && self.child.id().is_some() {
            let _ = kill_process(group, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// A terminal's two ends: ours, and the program's.
fn terminal_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(ours.as_fd(), flags)?;
    tcsetwinsize(&theirs, WINDOW)?;
    Ok((ours, theirs))
}
