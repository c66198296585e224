//! What root has set up on this machine, and the boot it is in.

use crate::files::{FileError, read, read_trusted};
use instance_connect_document::{Anchors, BOOT_ID_FILE, BootId, HostVeto, InstanceId};
use std::fmt;
use std::path::{Path, PathBuf};

/// Largest file of the installation. The largest that makes sense, sixteen anchors with comments, has a few KiB.
const INSTALLATION_FILE_LIMIT: usize = 64 * 1024;

/// What a document is judged by.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) instance: InstanceId,
    pub(crate) anchors: Anchors,
    pub(crate) veto: HostVeto,
    pub(crate) boot: BootId,
}

/// Why nothing can be judged on this machine: which file is broken, and how.
#[derive(Debug)]
pub struct BrokenHost {
    path: PathBuf,
    reason: String,
}

impl BrokenHost {
    pub(crate) fn new(path: PathBuf, reason: impl fmt::Display) -> Self {
        Self { path, reason: reason.to_string() }
    }
}

impl fmt::Display for BrokenHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unable to run EC2 Instance Connect: {:?}: {}", self.path, self.reason)
    }
}

impl std::error::Error for BrokenHost {}

impl Host {
    /// Reads `instance-id`, `anchors` and `host.toml` in `etc`, and the boot id.
    pub(crate) fn read(etc: &Path) -> Result<Self, BrokenHost> {
        Ok(Self {
            instance: required(etc.join("instance-id"), read_trusted, |text| text.trim_ascii_end().parse())?,
            anchors: required(etc.join("anchors"), read_trusted, Anchors::parse)?,
            veto: optional(etc.join("host.toml"), read_trusted, HostVeto::parse)?.unwrap_or_default(),
            boot: required(BOOT_ID_FILE.into(), read, |text| text.trim_ascii_end().parse())?,
        })
    }
}

type Read = fn(&Path, usize) -> Result<Option<Vec<u8>>, FileError>;

fn required<T, E: fmt::Display>(
    path: PathBuf,
    read: Read,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, BrokenHost> {
    let missing = BrokenHost::new(path.clone(), "it is missing");
    optional(path, read, parse)?.ok_or(missing)
}

fn optional<T, E: fmt::Display>(
    path: PathBuf,
    read: Read,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, BrokenHost> {
    let bytes = match read(&path, INSTALLATION_FILE_LIMIT) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) => return Err(BrokenHost::new(path, error)),
    };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Err(BrokenHost::new(path, "it is not text"));
    };
    parse(text).map(Some).map_err(|error| BrokenHost::new(path, error))
}
