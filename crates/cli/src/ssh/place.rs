//! A directory of our own for one login: the agent's socket, the public key, the host key. No secret is in it.

use super::cannot;
use crate::failure::{Exit, Failure};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// File names in the directory.
pub(super) const SOCKET: &str = "agent";
pub(super) const PUBLIC_KEY: &str = "key.pub";
pub(super) const KNOWN_HOSTS: &str = "known_hosts";

/// What the name begins with; six characters follow.
const PREFIX: &str = "instance-connect-";

/// Longest path of a directory: a socket's address holds 104 bytes on the narrowest system, `/agent` and a NUL included.
const LONGEST_PATH: usize = 104 - 7;

/// The directory, removed when dropped.
pub(super) struct Place(TempDir);

impl Place {
    /// Makes the directory, for this user alone, and fills it.
    pub(super) fn create(public_key: &str, known_hosts: Option<&str>) -> Result<Self, Failure> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).rand_bytes(6).permissions(Permissions::from_mode(0o700));
        let mut last = no_base();
        let made = bases().into_iter().find_map(|base| {
            let action = format!("make a directory in {}", base.display());
            builder.tempdir_in(base).map_err(|error| last = cannot(&action, error)).ok()
        });
        let Some(directory) = made else { return Err(last) };
        let place = Self(directory);
        place.write(PUBLIC_KEY, &format!("{public_key}\n"))?;
        if let Some(known_hosts) = known_hosts {
            place.write(KNOWN_HOSTS, known_hosts)?;
        }
        Ok(place)
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Where the agent listens.
    pub(super) fn socket(&self) -> PathBuf {
        self.path().join(SOCKET)
    }

    fn write(&self, name: &str, content: &str) -> Result<(), Failure> {
        let path = self.path().join(name);
        std::fs::write(&path, content).map_err(|error| cannot(&format!("write {}", path.display()), error))
    }
}

/// The path a directory would have, for a dry run.
pub(super) fn planned() -> Result<PathBuf, Failure> {
    let base = bases().into_iter().next().ok_or_else(no_base)?;
    Ok(base.join(format!("{PREFIX}XXXXXX")))
}

/// The user's runtime directory, else those for temporary files. ssh must be able to name what is in it: its options take
/// quotes, but no way to escape one, and a socket's path is short.
fn bases() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let candidates = [runtime, Some(std::env::temp_dir()), Some("/tmp".into())];
    candidates.into_iter().flatten().filter(|path| is_usable(path)).collect()
}

fn no_base() -> Failure {
    Failure::new(Exit::General, "no usable directory for temporary files").hint("set TMPDIR to a short path")
}

fn is_usable(path: &Path) -> bool {
    let short = path.as_os_str().len() + 1 + PREFIX.len() + 6 <= LONGEST_PATH;
    let nameable = |text: &str| !text.contains(['"', '\\', '$', '~']) && !text.contains(char::is_control);
    short && path.is_absolute() && path.to_str().is_some_and(nameable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_this_user_alone_and_gone_afterwards() {
        let place = Place::create("ssh-ed25519 AAAA", Some("host key\n")).unwrap();
        let path = place.path().to_owned();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_to_string(path.join(PUBLIC_KEY)).unwrap(), "ssh-ed25519 AAAA\n");
        assert!(place.socket().as_os_str().len() < 104);
        drop(place);
        assert!(!path.exists());
    }

    #[test]
    fn paths_that_ssh_can_name() {
        for (path, usable) in [
            ("/tmp", true),
            ("/run/user/1000", true),
            ("/tmp/with blank and 100%", true),
            ("relative", false),
            ("/tmp/\"", false),
            ("/tmp/$HOME", false),
            (&format!("/{}", "x".repeat(80)), false),
        ] {
            assert_eq!(is_usable(Path::new(path)), usable, "{path}");
        }
    }
}
