//! One login at a time to one host name: where ssh finds the agent, and what host keys it is told.
//!
//! An `IdentityAgent` is the same path for every ssh to a host, so its owner changes: whoever has the lock may listen there, until its
//! own ssh has connected. OpenSSH connects once, after the host has proved itself, and keeps that connection while it
//! authenticates; a turn is over within a few round trips.

use crate::failure::{Exit, Failure};
use crate::ssh::cannot;
use instance_connect_planted::planted;
use rustix::process::geteuid;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// Longest path of a socket, without the NUL behind it.
const LONGEST_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// What names of files have behind that of the host, which has no `@` in it.
const LOCK: &str = "@lock";
const KNOWN_HOSTS: &str = "@known_hosts";

/// Largest file of host keys read: there are at most 16 of some KiB.
const LARGEST_FILE: u64 = 256 * 1024;

/// The turn of this process. Its files are removed when it is dropped, before others have theirs.
pub(super) struct Turn {
    socket: PathBuf,
    known_hosts: PathBuf,
    lock_path: PathBuf,
    /// Held until the end, also by the kernel, if this process is killed.
    _lock: File,
}

impl Turn {
    /// Waits until it is our turn. `host` is a file name.
    pub(super) fn wait(directory: &Path, host: &str) -> Result<Self, Failure> {
        make_private(directory)?;
        let socket = directory.join(host);
        if socket.as_os_str().len() > LONGEST_PATH {
            return Err(Failure::new(
                Exit::Parameter,
                format!("{} is too long for a socket", socket.display()),
            )
            .hint("use the instance id, or `instance-connect ssh-config install --agents DIR` with a shorter path"));
        }
        let lock_path = directory.join(format!("{host}{LOCK}"));
        let lock =
            lock(&lock_path).map_err(|error| cannot(&format!("lock {}", lock_path.display()), error))?;
        Ok(Self { known_hosts: known_hosts(directory, host), socket, lock_path, _lock: lock })
    }

    /// Leaves word of the host keys for `known-hosts`.
    pub(super) fn tell_host_keys(&self, text: &str) -> Result<(), Failure> {
        std::fs::write(&self.known_hosts, text)
            .map_err(|error| cannot(&format!("write {}", self.known_hosts.display()), error))
    }

    /// Listens where ssh looks for its agent. The directory keeps others out.
    pub(super) fn listen(&self) -> Result<UnixListener, Failure> {
        // Whoever was killed has left it.
        let _ = std::fs::remove_file(&self.socket);
        UnixListener::bind(&self.socket).map_err(|error| cannot("listen for ssh", error))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        for path in [&self.socket, &self.known_hosts, &self.lock_path] {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What was left for `host` by whoever has its turn.
pub(super) fn told_host_keys(directory: &Path, host: &str) -> Option<String> {
    let mut text = String::new();
    File::open(known_hosts(directory, host)).ok()?.take(LARGEST_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

fn known_hosts(directory: &Path, host: &str) -> PathBuf {
    directory.join(format!("{host}{KNOWN_HOSTS}"))
}

/// Removes what logins that were killed have left in a directory, and the directory if that was all. What is there of somebody
/// else's stays.
pub(crate) fn remove_agents(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_socket = entry.file_type().is_ok_and(|file| file.is_socket());
        let name = entry.file_name();
        if is_socket || name.to_str().is_some_and(|name| name.ends_with(LOCK) || name.ends_with(KNOWN_HOSTS))
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let _ = std::fs::remove_dir(directory);
}

/// Makes the directory, for this user alone; one that is there must be that.
fn make_private(directory: &Path) -> Result<(), Failure> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(cannot(&format!("make {}", directory.display()), error));
        }
        _ => {}
    }
    let metadata = std::fs::symlink_metadata(directory)
        .map_err(|error| cannot(&format!("look at {}", directory.display()), error))?;
    if metadata.is_dir() && metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    let message =
        format!("{} must be a directory that is yours and that nobody else can enter", directory.display());
    Err(Failure::new(Exit::Configuration, message).hint("remove it, and it is made anew"))
}

/// Takes the lock. Whoever had it has removed its file, which others may be waiting for: then it counts for nothing.
fn lock(path: &Path) -> std::io::Result<File> {
    loop {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if !planted("turns-ignored") {
            file.lock()?;
        }
        let (ours, there) = (file.metadata()?, std::fs::symlink_metadata(path));
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            return Ok(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tempfile::TempDir;

    #[tokio::test]
    async fn nothing_is_left_of_a_turn() {
        let home = TempDir::new().unwrap();
        let directory = home.path().join("agents");
        let turn = Turn::wait(&directory, "i-1").unwrap();
        assert_eq!(directory.metadata().unwrap().mode() & 0o777, 0o700);
        turn.tell_host_keys("keys").unwrap();
        assert_eq!(told_host_keys(&directory, "i-1").as_deref(), Some("keys"));
        assert_eq!(told_host_keys(&directory, "i-2"), None);
        drop(turn.listen().unwrap());
        // What a process that was killed has left is in nobody's way.
        let _listener = turn.listen().unwrap();
        drop(turn);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_is_not_of_a_login_stays() {
        let home = TempDir::new().unwrap();
        let directory = home.path().join("agents");
        let turn = Turn::wait(&directory, "i-1").unwrap();
        turn.tell_host_keys("keys").unwrap();
        let _listener = turn.listen().unwrap();
        // As if it were killed.
        std::mem::forget(turn);
        std::fs::write(directory.join("notes"), "").unwrap();
        remove_agents(&directory);
        let left: Vec<_> =
            std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["notes"]);
        std::fs::remove_file(directory.join("notes")).unwrap();
        remove_agents(&directory);
        assert!(!directory.exists());
        remove_agents(&directory);
    }

    #[test]
    fn one_at_a_time() {
        let home = TempDir::new().unwrap();
        let directory = home.path().join("agents");
        let (inside, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let turn = Turn::wait(&directory, "i-1").unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                        turns.fetch_add(1, Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
        });
        assert_eq!(turns.load(Ordering::SeqCst), 200);
    }

    #[test]
    fn directories_that_others_can_reach() {
        let home = TempDir::new().unwrap();
        let open = home.path().join("open");
        DirBuilder::new().mode(0o755).create(&open).unwrap();
        let link = home.path().join("link");
        std::os::unix::fs::symlink(home.path(), &link).unwrap();
        let file = home.path().join("file");
        std::fs::write(&file, "").unwrap();
        for directory in [open, link, file] {
            let Err(error) = Turn::wait(&directory, "i-1") else { panic!("{}", directory.display()) };
            assert_eq!(error.exit, Exit::Configuration);
        }
        let Err(error) = Turn::wait(&home.path().join("agents"), &"x".repeat(108)) else {
            panic!("too long")
        };
        assert!(error.hint.unwrap().starts_with("use the instance id"));
    }
}
