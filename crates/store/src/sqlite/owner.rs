//! As root, the files of a database are used as the user whose they are.

use crate::StoreError;
use rustix::process::{Gid, Uid, getegid, geteuid, getgroups};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Works on a database in `directory`; as root as the directory's owner, who decides what the names in it lead to: root
/// would follow them to files of its own. Only the calling thread becomes somebody else, and is root again afterwards. A
/// thread that is started meanwhile stays the owner.
///
/// # Errors
/// The work's, or this process may not become the owner.
pub(super) fn as_owner<T>(
    directory: &Path,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let owner = match std::fs::metadata(directory) {
        Ok(owner) => owner,
        // It is made, and is root's then.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return work(),
        Err(error) => return Err(internal(error)),
    };
    if !geteuid().is_root() || owner.uid() == 0 {
        return work();
    }
    let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    let groups = getgroups().map_err(internal)?;
    let own_gid = getegid();
    set_thread_groups(&[gid])
        .and_then(|()| set_thread_res_gid(None, gid, None))
        .and_then(|()| set_thread_res_uid(None, uid, None))
        .map_err(internal)?;
    let done = work();
    set_thread_res_uid(None, Uid::ROOT, None)
        .and_then(|()| set_thread_res_gid(None, own_gid, None))
        .and_then(|()| set_thread_groups(&groups))
        .map_err(internal)?;
    done
}

fn internal(error: impl Into<io::Error>) -> StoreError {
    StoreError::Internal(Box::new(error.into()))
}

#[cfg(test)]
mod tests {
    use crate::seal::tests::Counting;
    use crate::{MasterKey, SqliteStore, StoreError};
    use instance_connect_core::document::UnixSeconds;
    use instance_connect_core::environment::Random;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
    use std::path::Path;
    use std::sync::Arc;

    const OWNER: u32 = 65_534;

    fn open(directory: &Path, key: u8) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(directory, &MasterKey::from_bytes([key; 32]), Arc::new(Counting::default()))
    }

    fn rotate(directory: &Path) -> Result<(), StoreError> {
        let (from, to) = (MasterKey::from_bytes([1; 32]), MasterKey::from_bytes([2; 32]));
        SqliteStore::rotate_master_key(
            directory,
            &from,
            &to,
            &(Arc::new(Counting::default()) as Arc<dyn Random>),
            UnixSeconds(7),
        )
    }

    /// Only root can be led astray; others have nothing to test here.
    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn root_follows_no_name_in_a_directory_of_somebody_else() {
        if !is_root() {
            return;
        }
        for name in ["inventory.open", "inventory.lock", "inventory.sqlite", "inventory.sqlite-wal"] {
            let place = tempfile::tempdir().unwrap();
            fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
            let (data, roots) = (place.path().join("data"), place.path().join("shadow"));
            drop(open(&data, 1).unwrap());
            fs::write(&roots, "root's").unwrap();
            fs::set_permissions(&roots, Permissions::from_mode(0o600)).unwrap();
            let mode = fs::metadata(&data).unwrap().mode();
            assert_eq!(mode & 0o777, 0o700);
            for entry in fs::read_dir(&data).unwrap() {
                chown(entry.unwrap().path(), Some(OWNER), Some(OWNER)).unwrap();
            }
            chown(&data, Some(OWNER), Some(OWNER)).unwrap();
            let _ = fs::remove_file(data.join(name));
            symlink(&roots, data.join(name)).unwrap();
            assert!(open(&data, 1).is_err(), "{name}");
            assert!(rotate(&data).is_err(), "{name}");
            let after = fs::metadata(&roots).unwrap();
            assert_eq!((after.uid(), after.gid(), after.mode() & 0o777), (0, 0, 0o600), "{name}");
            assert_eq!(fs::read(&roots).unwrap(), b"root's", "{name}");
            assert!(is_root());
        }
    }

    #[test]
    fn what_root_makes_there_is_the_owners() {
        if !is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        let data = place.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
        chown(&data, Some(OWNER), Some(OWNER)).unwrap();
        let store = open(&data, 1).unwrap();
        assert!(is_root());
        let owners = || fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().metadata().unwrap().uid());
        assert!(owners().count() >= 3 && owners().all(|owner| owner == OWNER));
        drop(store);
        rotate(&data).unwrap();
        assert!(owners().all(|owner| owner == OWNER));
        drop(open(&data, 2).unwrap());
    }
}
