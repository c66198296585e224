//! Anchors that roll over. The agent keeps what it is sent where root finds it; root replaces the file (docs/link.md 7.2).

use crate::Directories;
use crate::files::{self, SMALL_FILE, write_durably};
use instance_connect_core::document::{AnchorSet, AnchorSetRefusal, Anchors};
use rustix::fs::OFlags;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// In the state directory: the set that the agent was sent last.
pub(crate) const NEXT: &str = "anchors.next";

/// Why this machine's anchors stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum UpdateFailure {
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    File(String, io::Error),
    /// What stands in a file is not what it should be.
    #[error("{0}: {1}")]
    Malformed(String, String),
    /// The set is not for this machine.
    #[error("the anchors that the agent was sent are not taken: {0}")]
    Refused(AnchorSetRefusal),
}

/// Keeps a set that is for this machine, for root to take.
pub(crate) fn keep(state: &Path, current: &Anchors, text: &str) -> Result<u32, String> {
    let set: AnchorSet =
        text.parse().map_err(|error: instance_connect_core::document::AnchorSetError| error.to_string())?;
    set.replaces(current).map_err(|refusal| refusal.to_string())?;
    let _lock = files::lock_state(state).map_err(|error| error.to_string())?;
    write_durably(&state.join(NEXT), set.as_str().as_bytes(), 0o644, None)
        .map_err(|error| error.to_string())?;
    Ok(set.number())
}

/// Replaces this machine's anchors by the set that its agent was sent, where one of them has signed it. To be run as root. Gives the
/// number of the set that the machine trusts then.
///
/// # Errors
/// See [`UpdateFailure`]; then nothing has been changed.
pub fn update_anchors(directories: &Directories) -> Result<u32, UpdateFailure> {
    let (file, next) = (directories.etc.join("anchors"), directories.state.join(NEXT));
    let name = |path: &Path| path.display().to_string();
    let malformed =
        |path: &Path, reason: &dyn ToString| UpdateFailure::Malformed(name(path), reason.to_string());
    // What is read stays until it is replaced: enrolment does not come between.
    let _lock = files::lock_etc(&directories.etc)
        .map_err(|error| UpdateFailure::File(name(&directories.etc.join(files::LOCK)), error))?;
    let current =
        files::read_trusted(&file, SMALL_FILE).map_err(|error| UpdateFailure::File(name(&file), error))?;
    let current = current.ok_or_else(|| malformed(&file, &"it is missing; enrol this machine first"))?;
    let current = String::from_utf8(current).map_err(|_| malformed(&file, &"it is not UTF-8 text"))?;
    let current = Anchors::parse(&current).map_err(|error| malformed(&file, &error))?;
    let sent = read_unsafe(&next).map_err(|error| UpdateFailure::File(name(&next), error))?;
    let Some(sent) = sent else { return Ok(current.set()) };
    // What is in it is not repeated: the agent could have named any file of root's.
    let set: AnchorSet = sent.parse().map_err(|_| malformed(&next, &"it is no anchor set"))?;
    match set.replaces(&current) {
        Ok(()) => {}
        Err(AnchorSetRefusal::NotNewer) => return Ok(current.set()),
        Err(refusal @ AnchorSetRefusal::Untrusted) => return Err(UpdateFailure::Refused(refusal)),
    }
    write_durably(&file, set.as_str().as_bytes(), 0o644, None)
        .map_err(|error| UpdateFailure::File(name(&file), error))?;
    Ok(set.number())
}

/// Reads a file in a directory that is not root's: whatever stands under its name, nothing is waited for and no link is followed.
pub(crate) fn read_unsafe(path: &Path) -> io::Result<Option<String>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let file = match OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    file.take(SMALL_FILE).read_to_string(&mut text)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use instance_connect_core::document::SigningKey;
    use std::fs;

    fn set(by: u8, number: u32, anchors: &[u8]) -> String {
        let key = |seed: u8| SigningKey::from_seed(&[seed; 32]).unwrap();
        let anchors: Vec<_> = anchors.iter().map(|seed| key(*seed).verifying_key()).collect();
        AnchorSet::issue(&key(by), number, &"us-east-1".parse().unwrap(), &anchors)
    }

    /// What the agent leaves for root is nobody's word but the signature's.
    #[test]
    fn root_takes_what_its_own_anchor_has_signed() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let directories = Directories { etc: at("etc"), state: at("state"), run: at("run") };
        fs::create_dir(&directories.etc).unwrap();
        fs::create_dir(&directories.state).unwrap();
        let (file, next) = (at("etc/anchors"), at("state/anchors.next"));
        let read = || fs::read_to_string(&file).unwrap();
        assert!(update_anchors(&directories).is_err(), "not enrolled");
        fs::write(&file, set(1, 1, &[1])).unwrap();
        assert_eq!(update_anchors(&directories).unwrap(), 1, "nothing was sent");

        let both = set(1, 2, &[1, 2]);
        assert_eq!(keep(&directories.state, &Anchors::parse(&read()).unwrap(), &both), Ok(2));
        assert_eq!(update_anchors(&directories).unwrap(), 2);
        assert_eq!(read(), both);
        assert_eq!(update_anchors(&directories).unwrap(), 2, "again changes nothing");

        // A thief who is the agent on this machine.
        for forged in [set(9, 9, &[9]), both.replacen("set 2", "set 7", 1), "root:x:0:0\n".to_owned()] {
            fs::write(&next, &forged).unwrap();
            let error = update_anchors(&directories).unwrap_err().to_string();
            assert!(!error.contains("root:x"), "{error}");
            assert_eq!(read(), both);
            assert!(keep(&directories.state, &Anchors::parse(&both).unwrap(), &forged).is_err());
        }
        fs::remove_file(&next).unwrap();
        std::os::unix::fs::symlink(&file, &next).unwrap();
        assert!(update_anchors(&directories).is_err(), "no link is followed");
        fs::remove_file(&next).unwrap();
        fs::write(&next, set(1, 1, &[1])).unwrap();
        assert_eq!(update_anchors(&directories).unwrap(), 2, "no way back");
        fs::write(&next, set(2, 3, &[2])).unwrap();
        assert_eq!(update_anchors(&directories).unwrap(), 3);
    }
}
