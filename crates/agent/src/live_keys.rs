//! The hand-over files in `RUN/live`: written whole before a grant is acknowledged, kept when the agent stops.
//!
//! Files are small and on a memory file system, so they are written on the spot: a grant's file is there before
//! anything else happens. There is no sync, for a key does not outlive the boot.

use crate::files::{self, UNFINISHED, make_directory};
use instance_connect_core::document::{
    self as document, BootId, BootInstant, ClaimedGrant, HANDOVER_LIMIT, Handover, LONGEST_LIFETIME,
    RequestId, live_file, merge,
};
use instance_connect_core::link::{Admitted, KeyUses, LiveIndex, Refusal, Withdraw, Withdrawals};
use instance_connect_kill_point::kill_point;
use instance_connect_planted::planted;
use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Directories: the agent, and the group of the sshd command.
const DIRECTORY_MODE: u32 = 0o750;

/// Files: the agent writes, the group of the sshd command reads. The group comes from a setgid `RUN/live`, so that the
/// agent need not be allowed to give files away.
const FILE_MODE: u32 = 0o640;

/// The live keys of this machine.
#[derive(Debug)]
pub(crate) struct LiveKeys {
    run: PathBuf,
    boot: BootId,
    index: LiveIndex,
    withdrawals: Withdrawals,
    /// What becomes of the keys.
    pub(crate) uses: KeyUses,
    /// With the bug planted: what the next write or sweep renames.
    unrenamed: Vec<(PathBuf, PathBuf)>,
}

impl LiveKeys {
    /// Takes over what an earlier agent left: live keys of this boot stay, everything else is removed.
    pub(crate) fn open(run: &Path, boot: &BootId, now: BootInstant) -> io::Result<Self> {
        make_directory(run, DIRECTORY_MODE)?;
        make_directory(&run.join("live"), DIRECTORY_MODE)?;
        let mut keys = Self {
            run: run.to_owned(),
            boot: boot.clone(),
            index: LiveIndex::default(),
            withdrawals: Withdrawals::default(),
            uses: KeyUses::default(),
            unrenamed: Vec::new(),
        };
        for directory in entries(&run.join("live"))? {
            for file in entries(&directory.path())? {
                if let Err(error) = keys.take_over(&directory, &file, now) {
                    tracing::warn!(file = ?file.path(), %error, "a file that is in the way");
                }
            }
            remove_if_empty(&directory.path());
        }
        Ok(keys)
    }

    /// Whether what a request pushed may be installed.
    ///
    /// # Errors
    /// It was withdrawn, or may have been.
    pub(crate) fn permits(&mut self, request: &RequestId, now: BootInstant) -> Result<(), Refusal> {
        self.withdrawals.permits(request, now)
    }

    /// Puts a grant where the sshd command finds it, if it may be installed ([`Self::permits`]).
    ///
    /// # Errors
    /// There is no room, or the file cannot be written. Then nothing has changed.
    pub(crate) fn install(&mut self, admitted: &Admitted<'_>, now: BootInstant) -> Result<(), Refusal> {
        let path = live_file(admitted.user(), admitted.fingerprint());
        self.index.room_for(&path, now)?;
        // Nobody else writes here, so what is not in the index is not there or is of no use.
        let existing = if self.index.contains(&path) { self.read(&path) } else { Ok(None) };
        let written = existing.and_then(|existing| {
            let file = merge(existing.as_deref(), admitted.section(), now).map_err(io::Error::other)?;
            self.replace(path.clone(), &file, now)
        });
        match written {
            Ok(()) => {
                let deadline = admitted.section().deadline;
                self.uses.installed(admitted.request(), admitted.user(), *admitted.fingerprint(), deadline);
                Ok(())
            }
            Err(error) => {
                tracing::error!(file = path, %error, "a key cannot be written");
                Err(Refusal::Storage)
            }
        }
    }

    /// Removes what one request put there. Says whether there was anything.
    pub(crate) fn withdraw(&mut self, withdraw: &Withdraw, now: BootInstant) -> io::Result<bool> {
        self.withdrawals.remember(withdraw.request_id.clone(), now);
        self.uses.withdrawn(&withdraw.request_id);
        let path = live_file(&withdraw.os_user, &withdraw.fingerprint);
        let Some(existing) = self.read(&path)? else { return Ok(false) };
        let line = format!("\n#Request={}\n", withdraw.request_id);
        if !existing.windows(line.len()).any(|window| window == line.as_bytes()) {
            return Ok(false);
        }
        match document::withdraw(&existing, &withdraw.request_id, now) {
            Some(file) => self.replace(path, &file, now)?,
            None => self.remove(&path)?,
        }
        Ok(true)
    }

    /// Ends every live key earlier by the time that this machine has lost.
    pub(crate) fn shorten(&mut self, by: Duration, now: BootInstant) -> io::Result<()> {
        let mut outcome = Ok(());
        self.uses.shortened(by);
        for path in self.index.paths() {
            // One that fails keeps none of the others.
            if let Err(error) = self.shorten_one(&path, by, now) {
                outcome = Err(error);
            }
        }
        outcome
    }

    fn shorten_one(&mut self, path: &str, by: Duration, now: BootInstant) -> io::Result<()> {
        let existing = self.read(path)?.unwrap_or_default();
        match document::shorten(&existing, by, now) {
            // A key that cannot be given its end is better gone.
            Some(file) => self.replace(path.to_owned(), &file, now).or_else(|_| self.remove(path)),
            None => self.remove(path),
        }
    }

    /// Removes files past their deadline. Housekeeping: the sshd command refuses them anyway.
    pub(crate) fn sweep(&mut self, now: BootInstant) {
        self.finish_planted();
        self.uses.tick(now);
        for path in self.index.expired(now) {
            if let Err(error) = self.remove(&path) {
                // It opens nothing any more. The next start tries again.
                tracing::warn!(file = path, %error, "a file past its deadline cannot be removed");
                self.index.remove(&path);
            }
        }
    }

    fn take_over(&mut self, directory: &DirEntry, file: &DirEntry, now: BootInstant) -> io::Result<()> {
        let (directory, name) = (directory.file_name(), file.file_name());
        if name == UNFINISHED {
            return fs::remove_file(file.path());
        }
        let (Some(directory), Some(name)) = (hex_name(&directory), hex_name(&name)) else {
            tracing::warn!(file = ?file.path(), "not a file of this agent; left alone");
            return Ok(());
        };
        let path = format!("live/{directory}/{name}");
        let existing = self.read(&path)?.unwrap_or_default();
        match self.last_deadline(&existing, now) {
            Some(deadline) => {
                self.find_uses(&existing);
                self.index.insert(path, deadline);
            }
            None => fs::remove_file(self.run.join(path))?,
        }
        Ok(())
    }

    /// Notes whose keys are in a file that an earlier agent wrote, as far as its sections say so.
    fn find_uses(&mut self, file: &[u8]) {
        let Ok(handover) = Handover::parse(file) else { return };
        for section in handover.sections() {
            if let Some(claimed) = ClaimedGrant::of(section.document) {
                self.uses.found(&claimed.request, &claimed.user, claimed.fingerprint, section.deadline);
            }
        }
    }

    /// When the last grant of a file ends that is live in this boot; `None` when there is none.
    fn last_deadline(&self, file: &[u8], now: BootInstant) -> Option<BootInstant> {
        let of_this_boot = format!("\n#Boot={}\n", self.boot);
        let handover = Handover::parse(file).ok()?;
        let live = handover.sections().iter().filter(|section| {
            section.deadline > now
                && section.deadline.since(now) <= LONGEST_LIFETIME
                && section.document.contains(&of_this_boot)
        });
        live.map(|section| section.deadline).max()
    }

    /// A file that is too large to be one of ours is as good as none.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        match files::read(&self.run.join(path), HANDOVER_LIMIT as u64) {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(Some(Vec::new())),
            other => other,
        }
    }

    /// Writes a file and notes when its last grant ends.
    fn replace(&mut self, path: String, file: &str, now: BootInstant) -> io::Result<()> {
        self.write(&path, file)?;
        let deadline = self.last_deadline(file.as_bytes(), now).unwrap_or(now);
        self.index.insert(path, deadline);
        Ok(())
    }

    fn write(&mut self, path: &str, file: &str) -> io::Result<()> {
        self.finish_planted();
        let path = self.run.join(path);
        let directory = path.parent().unwrap_or(&self.run);
        let unfinished = directory.join(UNFINISHED);
        match files::create(&unfinished, file.as_bytes(), FILE_MODE) {
            // The first key of this user.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_directory(directory, DIRECTORY_MODE)?;
                files::create(&unfinished, file.as_bytes(), FILE_MODE)
            }
            created => created,
        }?;
        kill_point("rename-before");
        if planted("ack-before-rename") {
            self.unrenamed.push((unfinished, path));
        } else {
            fs::rename(&unfinished, &path)?;
        }
        kill_point("rename-after");
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        let file = self.run.join(path);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.index.remove(path),
        }
        if !self.index.has_more_of_user(path) {
            file.parent().map(remove_if_empty);
        }
        Ok(())
    }

    /// With the bug planted: renames what should have been renamed before the ack.
    fn finish_planted(&mut self) {
        for (unfinished, path) in self.unrenamed.drain(..) {
            let _ = fs::rename(unfinished, path);
        }
    }
}

fn entries(directory: &Path) -> io::Result<Vec<DirEntry>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    fs::read_dir(directory)?.collect()
}

/// The hex of 32 bytes, which is how directories and files here are named.
fn hex_name(name: &OsStr) -> Option<&str> {
    let is_hex =
        |name: &&str| name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    name.to_str().filter(is_hex)
}

/// The kernel refuses where something is left in it, and then it stays.
fn remove_if_empty(directory: &Path) {
    let _ = fs::remove_dir(directory);
}
