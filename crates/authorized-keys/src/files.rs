//! Reading files that others wrote: bounded, regular files only, no symbolic link followed at the end, never waiting.

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Why a file is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileError {
    /// It is a directory, a device, a FIFO, a socket or a symbolic link.
    NotRegular,
    /// It is longer than such a file can be.
    TooLong,
    /// It is neither root's nor that of the user we run as, or others may write to it.
    Ownership,
    /// The system's error.
    System(Errno),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRegular => f.write_str("it is not a regular file"),
            Self::TooLong => f.write_str("it is too long"),
            Self::Ownership => f.write_str("it must be root's, and writable by its owner only"),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FileError {}

/// Reads a file of at most `limit` bytes. `None` where there is none.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, FileError> {
    let Some((file, _)) = open_regular(path)? else { return Ok(None) };
    read_all(&file, limit).map(Some)
}

/// The same for a file that says whom to trust: it must be root's, or that of the user we run as (where an ordinary
/// user runs an sshd of their own), and nobody else may be able to write to it.
pub(crate) fn read_trusted(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, FileError> {
    let Some((file, stat)) = open_regular(path)? else { return Ok(None) };
    let owned = stat.st_uid == 0 || stat.st_uid == geteuid().as_raw();
    if !owned || Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        return Err(FileError::Ownership);
    }
    read_all(&file, limit).map(Some)
}

/// Opens, then looks at what was opened. Opening does not wait for a FIFO's other end.
fn open_regular(path: &Path) -> Result<Option<(OwnedFd, Stat)>, FileError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        // A symbolic link, and a socket.
        Err(Errno::LOOP | Errno::NXIO) => return Err(FileError::NotRegular),
        Err(error) => return Err(FileError::System(error)),
    };
    let stat = fstat(&file).map_err(FileError::System)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(Some((file, stat))),
        _ => Err(FileError::NotRegular),
    }
}

fn read_all(file: &OwnedFd, limit: usize) -> Result<Vec<u8>, FileError> {
    // One byte more than may be there shows that there is too much. A file's length is not asked for: those of /proc
    // have none.
    let mut bytes = vec![0; limit + 1];
    let mut length = 0;
    while let Some(space) = bytes.get_mut(length..).filter(|space| !space.is_empty()) {
        match rustix::io::read(file, space) {
            Ok(0) => {
                bytes.truncate(length);
                return Ok(bytes);
            }
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(FileError::System(error)),
        }
    }
    Err(FileError::TooLong)
}
