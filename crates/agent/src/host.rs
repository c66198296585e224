//! What the machine's administrator decides, in files that are root's: which instance this is, whom it trusts, and
//! what it does not let a control plane do. Changes count at once, without a restart.

use crate::files::{self, SMALL_FILE};
use instance_connect_core::document::{Anchors, BOOT_ID_FILE, BootId, HostVeto, InstanceId};
use instance_connect_core::link::{MachineTerms, Refusal};
use instance_connect_planted::planted;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A file that is read again when it changes.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    path: PathBuf,
    parse: fn(Option<&str>) -> Result<T, String>,
    read_at: Option<Stamp>,
    value: Option<T>,
}

/// What tells one state of a file from another.
type Stamp = Option<(u64, u64, i64, i64, u32, u32)>;

impl<T> Watched<T> {
    /// The file at `path`; `parse` is given `None` when it is missing.
    pub(crate) const fn new(path: PathBuf, parse: fn(Option<&str>) -> Result<T, String>) -> Self {
        Self { path, parse, read_at: None, value: None }
    }

    /// What the file says now; `None` when it cannot be read or understood, which is logged once for each change.
    pub(crate) fn refresh(&mut self) -> Option<&T> {
        let stamp = std::fs::symlink_metadata(&self.path).ok().map(|metadata| stamp(&metadata));
        if self.read_at != Some(stamp) {
            self.read_at = Some(stamp);
            self.value = match read_text(&self.path, self.parse) {
                Ok(value) => Some(value),
                Err(reason) => {
                    tracing::error!(file = %self.path.display(), reason, "a file cannot be used");
                    None
                }
            };
        }
        self.value()
    }

    /// What the file says now.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub(crate) fn read(&mut self) -> Result<&T, String> {
        self.read_at = None;
        let (path, parse) = (&self.path, self.parse);
        let value = read_text(path, parse).map_err(|reason| format!("{}: {reason}", path.display()))?;
        Ok(self.value.insert(value))
    }

    /// What the file said when it was last looked at.
    pub(crate) fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }
}

fn stamp(metadata: &Metadata) -> (u64, u64, i64, i64, u32, u32) {
    (
        metadata.ino(),
        metadata.size(),
        metadata.ctime(),
        metadata.ctime_nsec(),
        metadata.mode(),
        metadata.uid(),
    )
}

fn read_text<T>(path: &Path, parse: fn(Option<&str>) -> Result<T, String>) -> Result<T, String> {
    let bytes = files::read_trusted(path, SMALL_FILE).map_err(|error| error.to_string())?;
    let text = bytes.map(String::from_utf8).transpose().map_err(|_| "it is not UTF-8 text")?;
    parse(text.as_deref())
}

/// The files in `/etc/instance-connect`.
#[derive(Debug)]
pub(crate) struct HostFiles {
    instance: Watched<InstanceId>,
    anchors: Watched<Anchors>,
    veto: Watched<HostVeto>,
}

impl HostFiles {
    pub(crate) fn new(etc: &Path) -> Self {
        Self {
            instance: Watched::new(etc.join("instance-id"), |text| {
                let text = text.ok_or("it is missing; enrol this machine first")?;
                text.trim_end()
                    .parse()
                    .map_err(|error: instance_connect_core::document::IdError| error.to_string())
            }),
            anchors: Watched::new(etc.join("anchors"), |text| {
                let text = text.ok_or("it is missing; enrol this machine first")?;
                Anchors::parse(text).map_err(|error| error.to_string())
            }),
            veto: Watched::new(etc.join("host.toml"), |text| {
                let text = text.filter(|_| !planted("agent-veto-ignored"));
                text.map_or_else(|| Ok(HostVeto::default()), HostVeto::parse)
                    .map_err(|error| error.to_string())
            }),
        }
    }

    /// Which instance this is.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(crate) fn instance(&mut self) -> io::Result<InstanceId> {
        let unusable = || io::Error::other("its instance-id cannot be used");
        self.instance.refresh().cloned().ok_or_else(unusable)
    }

    /// Whom this machine trusts; `None` where the file cannot be used.
    pub(crate) fn anchors(&mut self) -> Option<&Anchors> {
        self.anchors.refresh()
    }

    /// What a grant is judged by.
    ///
    /// # Errors
    /// A file that cannot be used: then nothing is let in.
    pub(crate) fn terms<'a>(&'a mut self, boot: &'a BootId) -> Result<MachineTerms<'a>, Refusal> {
        let instance = self.instance.refresh().ok_or(Refusal::WrongInstance)?;
        let anchors = self.anchors.refresh().ok_or(Refusal::SignerUntrusted)?;
        let veto = self.veto.refresh().ok_or(Refusal::Vetoed)?;
        Ok(MachineTerms { anchors, veto, instance, boot })
    }
}

/// Reads which boot this is, from the kernel.
///
/// # Errors
/// The kernel does not say.
pub fn read_boot_id() -> io::Result<BootId> {
    let text = std::fs::read_to_string(BOOT_ID_FILE)?;
    text.trim_end().parse().map_err(io::Error::other)
}
