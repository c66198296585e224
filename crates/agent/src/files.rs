//! Reading with a bound, and writing whole or not at all.

use rustix::fs::OFlags;
use rustix::process::geteuid;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::Path;

/// The largest file of the agent's own that is read: certificates, anchors, `host.toml`.
pub(crate) const SMALL_FILE: u64 = 256 * 1024;

/// The name under which a file is written before it is renamed. There is one writer at a time ([`lock_state`], [`lock_etc`]; the
/// agent alone in its run directory), so one name for each directory is enough, and what a crash leaves behind is overwritten.
pub(crate) const UNFINISHED: &str = ".new";

/// Reads a file of at most `limit` bytes; `None` when there is none.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    read_at_most(file, limit).map(Some)
}

fn read_at_most(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes")));
    }
    Ok(bytes)
}

/// Reads a file that says whom to trust, by the rules of the sshd command, so that no key is acknowledged that the command
/// would then refuse: a regular file and no symbolic link, root's or that of the user we run as, writable by nobody else.
pub(crate) fn read_trusted(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let opened = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // The permissions of what was opened, not of what the path may name a moment later.
    let metadata = file.metadata()?;
    let owned = metadata.uid() == 0 || metadata.uid() == geteuid().as_raw();
    if !metadata.is_file() || !owned || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("it must be a regular file, root's, and writable by its owner only"));
    }
    read_at_most(file, limit).map(Some)
}

/// In the directory of what root decides: whoever has locked it writes there. Only root can open it, so nobody else holds it.
pub(crate) const LOCK: &str = "lock";

/// Keeps other writers out of the directory of what root decides, until dropped. Waits for one that is at work.
pub(crate) fn lock_etc(etc: &Path) -> io::Result<File> {
    let options = OFlags::NOFOLLOW.bits().cast_signed();
    let mut opening = OpenOptions::new();
    opening.write(true).create(true).truncate(false).mode(0o600).custom_flags(options);
    let lock = opening.open(etc.join(LOCK))?;
    lock.lock()?;
    Ok(lock)
}

/// Keeps other writers out of the state directory, until dropped. What locks is the directory itself, which nobody but its owner
/// and root can open. Root does not wait for its owner.
pub(crate) fn lock_state(state: &Path) -> io::Result<File> {
    let directory = File::open(state)?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            "another program is changing it; try again in a minute",
        )),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Who a file is to belong to: user and group.
pub(crate) type Owner = (u32, u32);

/// Writes a file that survives a crash of the machine: whole, synced, then renamed into place.
pub(crate) fn write_durably(path: &Path, bytes: &[u8], mode: u32, owner: Option<Owner>) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let unfinished = directory.join(UNFINISHED);
    let file = create(&unfinished, bytes, mode)?;
    if let Some((user, group)) = owner {
        fchown(&file, Some(user), Some(group))?;
    }
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(directory)?.sync_all()
}

/// Makes a new file with just this mode, whatever the umask. An unfinished one of that name is replaced.
pub(crate) fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<File> {
    let create_new = || OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = match create_new() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            create_new()
        }
        created => created,
    }?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    Ok(file)
}

/// Makes a directory where there is none. The mode of one that is there is its administrator's business.
pub(crate) fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Those above it are nobody's secret; `/var/lib` and the like are there anyway.
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            DirBuilder::new().mode(mode).create(path)?;
        }
        other => other?,
    }
    // Only where the umask took something away: changing the mode can cost the setgid bit that a directory inherits.
    let actual = fs::metadata(path)?.mode();
    if actual & 0o777 != mode {
        fs::set_permissions(path, Permissions::from_mode(actual & 0o7000 | mode))?;
    }
    Ok(())
}

/// Whose a directory is.
pub(crate) fn owner(path: &Path) -> io::Result<Owner> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.uid(), metadata.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `enroll --replace` and a renewal at the same time: neither may put the other's file in place, or its own over it.
    #[test]
    fn there_is_one_writer_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let held = lock_state(directory.path()).unwrap();
        assert_eq!(lock_state(directory.path()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        lock_state(directory.path()).unwrap();

        let _held = lock_etc(directory.path()).unwrap();
        let file = directory.path().join(LOCK);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let another = File::open(file).unwrap();
        assert!(matches!(another.try_lock(), Err(TryLockError::WouldBlock)));
    }
}
