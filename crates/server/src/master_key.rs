//! Where the key is that the store's secrets are sealed with: a systemd credential, or a file.

use crate::config::Settings;
use crate::new_file;
use instance_connect_store::{MasterKey, MasterKeyError};
use std::fs;
use std::path::{Path, PathBuf};

/// The name of the systemd credential.
const CREDENTIAL: &str = "master-key";

/// The name of the file, beside the configuration.
const FILE: &str = "master.key";

/// Where the master key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MasterKeyPlace {
    /// Given by systemd (`LoadCredential=`, `LoadCredentialEncrypted=`), for as long as the service runs.
    Credential(PathBuf),
    /// Kept by ourselves.
    File(PathBuf),
}

impl MasterKeyPlace {
    /// The file that the settings name; without one the credential, if there is one; else the file beside the
    /// configuration. `credentials` is `$CREDENTIALS_DIRECTORY`.
    pub(crate) fn of(settings: &Settings, credentials: Option<&Path>) -> Self {
        let credential = credentials.map(|directory| directory.join(CREDENTIAL));
        match (&settings.master_key, credential) {
            (Some(file), _) => Self::File(file.clone()),
            (None, Some(credential)) if credential.exists() => Self::Credential(credential),
            (None, _) => Self::File(settings.directory.join(FILE)),
        }
    }

    /// The same, in the environment of this process.
    pub(crate) fn here(settings: &Settings) -> Self {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        Self::of(settings, credentials.as_deref())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Credential(path) | Self::File(path) => path,
        }
    }

    /// Reads the key.
    ///
    /// # Errors
    /// It is not there, it is somebody else's, others may read it, or it is no key.
    pub(crate) fn read(&self) -> Result<MasterKey, MasterKeyError> {
        let own_uid = rustix::process::geteuid().as_raw();
        match self {
            Self::Credential(path) => MasterKey::read_credential(path, own_uid),
            Self::File(path) => MasterKey::read_file(path, own_uid),
        }
    }

    /// Where the next key is while it takes the place of this one.
    pub(crate) fn next(&self) -> PathBuf {
        let mut name = self.path().as_os_str().to_owned();
        name.push(".next");
        name.into()
    }

    /// Reads the next key.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_next(&self) -> Result<MasterKey, MasterKeyError> {
        MasterKey::read_file(&self.next(), rustix::process::geteuid().as_raw())
    }

    /// Puts the next key in the place of this one.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub(crate) fn promote_next(&self) -> anyhow::Result<()> {
        new_file::promote(&self.next(), self.path())
    }

    /// Writes the next key, for whoever owns this one.
    ///
    /// # Errors
    /// It cannot be written, or given away.
    pub(crate) fn write_next(&self, key: &[u8; 32]) -> anyhow::Result<()> {
        new_file::replace_for(Some(&fs::metadata(self.path())?), &self.next(), key, 0o600)
    }
}
