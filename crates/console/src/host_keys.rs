//! The gateway's host keys: made once, and the same from then on, so that people's `known_hosts` stay true.

use crate::algorithms::public_line;
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};
use rustix::fs::OFlags;
use rustix::process::geteuid;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The files, as sshd names its own.
const FILES: [(&str, Algorithm); 2] = [
    ("ssh_host_ed25519_key", Algorithm::Ed25519),
    ("ssh_host_ecdsa_key", Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }),
];

/// The largest key file that is read, in bytes.
const LARGEST_FILE: u64 = 16 * 1024;

/// The host keys of a gateway.
#[derive(Clone)]
pub struct HostKeys(Vec<PrivateKey>);

impl fmt::Debug for HostKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostKeys").field(&self.fingerprints()).finish()
    }
}

/// Why there are no host keys.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// A file or the directory cannot be used.
    #[error("{}: {error}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        error: io::Error,
    },
    /// Somebody else could read it.
    #[error("{}: others can read or change it: it must be its owner's alone (chmod {mode:o}), the gateway's or root's", path.display())]
    Exposed {
        /// Which one.
        path: PathBuf,
        /// The mode that it should have.
        mode: u32,
    },
    /// It holds something else.
    #[error("{}: not an OpenSSH private key of type {algorithm} without a passphrase", path.display())]
    Unusable {
        /// Which one.
        path: PathBuf,
        /// What it should be.
        algorithm: String,
    },
    /// There is no key at all.
    #[error("{}: no host key; `instance-connect-console init` makes them", .0.display())]
    Missing(PathBuf),
}

impl HostKeys {
    /// The keys in a directory; the first time, they are made there. What is there is used as it is: whoever removes the ECDSA key
    /// serves the other alone.
    ///
    /// # Errors
    /// A [`HostKeyError`].
    pub fn load_or_make(directory: &Path) -> Result<Self, HostKeyError> {
        match Self::load(directory) {
            Err(HostKeyError::Missing(_)) => {
                make(directory)?;
                Self::load(directory)
            }
            loaded => loaded,
        }
    }

    /// The keys in a directory.
    ///
    /// # Errors
    /// A [`HostKeyError`].
    pub fn load(directory: &Path) -> Result<Self, HostKeyError> {
        check_directory(directory)?;
        let mut keys = Vec::new();
        for (name, algorithm) in FILES {
            keys.extend(load_key(&directory.join(name), &algorithm)?);
        }
        if keys.is_empty() { Err(HostKeyError::Missing(directory.to_owned())) } else { Ok(Self(keys)) }
    }

    /// Those of today's clients, without that of NIST's curve: there is one only for clients that know no ED25519, and scanners
    /// such as ssh-audit fail it.
    #[must_use]
    pub fn without_ecdsa(self) -> Self {
        let (ed25519, ecdsa): (Vec<_>, Vec<_>) =
            self.0.into_iter().partition(|key| key.algorithm() == Algorithm::Ed25519);
        // Whoever has removed the other one means this one.
        Self(if ed25519.is_empty() { ecdsa } else { ed25519 })
    }

    /// Each public half as `type base64`.
    pub fn public(&self) -> Vec<String> {
        self.0.iter().filter_map(public_line).collect()
    }

    /// Each fingerprint, as `ssh-keygen -l` prints it.
    pub fn fingerprints(&self) -> Vec<String> {
        let fingerprint =
            |key: &PrivateKey| format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256));
        self.0.iter().map(fingerprint).collect()
    }

    pub(crate) fn private(&self) -> &[PrivateKey] {
        &self.0
    }
}

/// A directory in which others could put another key is none; one that is not there yet is.
fn check_directory(directory: &Path) -> Result<(), HostKeyError> {
    let metadata = match fs::metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(HostKeyError::Missing(directory.to_owned()));
        }
        other => other.map_err(at(directory))?,
    };
    if !is_ours(metadata.uid()) || metadata.mode() & 0o022 != 0 {
        return Err(HostKeyError::Exposed { path: directory.to_owned(), mode: 0o700 });
    }
    Ok(())
}

fn load_key(path: &Path, algorithm: &Algorithm) -> Result<Option<PrivateKey>, HostKeyError> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(at(path))?,
    };
    // The permissions of what was opened, not of what the path may name a moment later.
    let metadata = file.metadata().map_err(at(path))?;
    if !metadata.is_file() || !is_ours(metadata.uid()) || metadata.mode() & 0o077 != 0 {
        return Err(HostKeyError::Exposed { path: path.to_owned(), mode: 0o600 });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(
        usize::try_from(metadata.len().min(LARGEST_FILE)).unwrap_or(0) + 1,
    ));
    file.take(LARGEST_FILE).read_to_end(&mut text).map_err(at(path))?;
    match PrivateKey::from_openssh(&*text) {
        Ok(key) if !key.is_encrypted() && key.algorithm() == *algorithm => Ok(Some(key)),
        Ok(_) | Err(_) => {
            Err(HostKeyError::Unusable { path: path.to_owned(), algorithm: algorithm.to_string() })
        }
    }
}

fn is_ours(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw()
}

fn make(directory: &Path) -> Result<(), HostKeyError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(at(directory))?;
    for (name, algorithm) in FILES {
        let path = directory.join(name);
        let unusable = || HostKeyError::Unusable { path: path.clone(), algorithm: algorithm.to_string() };
        let key = PrivateKey::random(&mut safe_rng(), algorithm.clone()).map_err(|_| unusable())?;
        let text = key.to_openssh(LineEnding::LF).map_err(|_| unusable())?;
        write_new(&path, text.as_bytes(), 0o600).map_err(at(&path))?;
        let public = public_line(&key).ok_or_else(unusable)?;
        let path = directory.join(format!("{name}.pub"));
        write_new(&path, format!("{public}\n").as_bytes(), 0o644).map_err(at(&path))?;
    }
    Ok(())
}

/// Writes a file whole, down to the disk, and then gives it its name.
fn write_new(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    if let Err(error) = fs::remove_file(&unfinished)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> HostKeyError {
    let path = path.to_owned();
    |error| HostKeyError::File { path, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn keys_are_made_once_for_the_gateway_alone() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("a/keys");
        assert!(matches!(HostKeys::load(&directory), Err(HostKeyError::Missing(_))));
        let keys = HostKeys::load_or_make(&directory).unwrap();
        assert_eq!(mode(&directory), 0o700);
        let files = ["ssh_host_ed25519_key", "ssh_host_ecdsa_key"].map(|name| directory.join(name));
        for (file, public) in files.iter().zip(keys.public()) {
            assert_eq!(mode(file), 0o600);
            assert_eq!(fs::read_to_string(file.with_extension("pub")).unwrap(), format!("{public}\n"));
        }
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 4);
        assert_eq!(HostKeys::load_or_make(&directory).unwrap().public(), keys.public());
        assert!(format!("{keys:?}").starts_with("HostKeys([\"ssh-ed25519 SHA256:"), "{keys:?}");
        // Whoever wants only one of them removes the other.
        fs::remove_file(&files[1]).unwrap();
        assert_eq!(HostKeys::load_or_make(&directory).unwrap().public(), keys.public()[..1]);
    }

    #[test]
    fn what_openssh_reads_is_what_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let keys = HostKeys::load_or_make(directory.path()).unwrap();
        for (name, told) in ["ssh_host_ed25519_key", "ssh_host_ecdsa_key"].into_iter().zip(keys.public()) {
            let read = std::process::Command::new("ssh-keygen")
                .args(["-y", "-f"])
                .arg(directory.path().join(name))
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&read.stdout).trim_end(), told, "{read:?}");
        }
    }

    #[test]
    fn exposed_or_other_keys_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        HostKeys::load_or_make(directory.path()).unwrap();
        let [ed25519, ecdsa] =
            ["ssh_host_ed25519_key", "ssh_host_ecdsa_key"].map(|name| directory.path().join(name));
        let refused = || HostKeys::load_or_make(directory.path()).unwrap_err();
        for exposed in [0o640, 0o604, 0o620, 0o602, 0o644] {
            fs::set_permissions(&ed25519, Permissions::from_mode(exposed)).unwrap();
            assert!(matches!(refused(), HostKeyError::Exposed { .. }), "{exposed:o}");
        }
        fs::set_permissions(&ed25519, Permissions::from_mode(0o600)).unwrap();
        for exposed in [0o770, 0o707] {
            fs::set_permissions(directory.path(), Permissions::from_mode(exposed)).unwrap();
            assert!(matches!(refused(), HostKeyError::Exposed { .. }), "{exposed:o}");
        }
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        let kept = fs::read(&ecdsa).unwrap();
        fs::write(&ecdsa, fs::read(&ed25519).unwrap()).unwrap();
        assert!(matches!(refused(), HostKeyError::Unusable { .. }), "a key of another type");
        fs::write(&ecdsa, b"").unwrap();
        assert!(matches!(refused(), HostKeyError::Unusable { .. }));
        fs::write(&ecdsa, kept).unwrap();
        HostKeys::load_or_make(directory.path()).unwrap();
        fs::rename(&ecdsa, directory.path().join("other")).unwrap();
        symlink("other", &ecdsa).unwrap();
        assert!(matches!(refused(), HostKeyError::File { .. }), "a symbolic link");
    }
}
