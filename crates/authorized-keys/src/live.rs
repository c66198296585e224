//! Finding what the agent handed over: one file opened when the key is known, a short scan when it is not.

use crate::Login;
use crate::files::{FileError, read};
use crate::host::BrokenHost;
use instance_connect_document::{Fingerprint, HANDOVER_LIMIT, live_directory, live_file};
use std::io::ErrorKind;

/// Most key files that a scan reads: as many live keys as an OS user can have.
const SCANNED_FILES: usize = 64;

/// Most names that a scan looks at, so that a directory full of something else does not hold up a login.
const SCANNED_NAMES: usize = 1024;

/// A file that may open the account to one key.
#[derive(Debug)]
pub(crate) struct KeyFile {
    /// The key that its name stands for.
    pub(crate) fingerprint: Fingerprint,
    /// What is in it, or why it is not read.
    pub(crate) content: Result<Vec<u8>, FileError>,
}

/// The files to judge for a login. Where the key is known, this is one `open`.
///
/// # Errors
/// Where the run directory cannot be looked into: that there is no key cannot be known then.
pub(crate) fn key_files(login: &Login) -> Result<Vec<KeyFile>, BrokenHost> {
    let Some(fingerprint) = login.fingerprint else {
        return scan(login);
    };
    let path = login.run.join(live_file(&login.user, &fingerprint));
    match read(&path, HANDOVER_LIMIT) {
        Ok(None) => Ok(Vec::new()),
        Ok(Some(file)) => Ok(vec![KeyFile { fingerprint, content: Ok(file) }]),
        Err(error @ FileError::System(_)) => Err(BrokenHost::new(path, error)),
        Err(odd) => Ok(vec![KeyFile { fingerprint, content: Err(odd) }]),
    }
}

fn scan(login: &Login) -> Result<Vec<KeyFile>, BrokenHost> {
    let directory = login.run.join(live_directory(&login.user));
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(BrokenHost::new(directory, error)),
    };
    let mut fingerprints: Vec<Fingerprint> = entries
        .take(SCANNED_NAMES)
        .filter_map(|entry| named_by(entry.ok()?.file_name().to_str()?))
        .take(SCANNED_FILES)
        .collect();
    // The order of a directory is nobody's; the same files give the same answer.
    fingerprints.sort_unstable();
    let key_file = |fingerprint| {
        let path = login.run.join(live_file(&login.user, &fingerprint));
        // A file that went away in between was no key any more.
        let content = read(&path, HANDOVER_LIMIT).transpose()?;
        Some(KeyFile { fingerprint, content })
    };
    Ok(fingerprints.into_iter().filter_map(key_file).collect())
}

/// The fingerprint that a file name spells, in 64 lower-case hex digits. Other names are not key files.
fn named_by(name: &str) -> Option<Fingerprint> {
    let digits = name.as_bytes();
    if digits.len() != 64 || !digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, position) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(name.get(position..position + 2)?, 16).ok()?;
    }
    Some(Fingerprint::from_bytes(bytes))
}
