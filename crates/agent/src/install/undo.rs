//! What `install` notes of what it did, and putting it back, be it at once or years later.

use super::KEYS_GROUP;
use super::block::without_block;
use crate::accounts::{account, group};
use crate::files;
use crate::root::Root;
use serde::{Deserialize, Serialize};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// What puts a change back, also long after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Undo {
    /// Remove what is there.
    Remove(PathBuf),
    /// Remove the directory, if there is nothing of anybody else's in it.
    RemoveDirectory(PathBuf),
    /// Take our lines out.
    RemoveBlock(PathBuf),
    /// Take the user out of the group of those that read live keys.
    RemoveMember(String),
    /// Remove a user.
    RemoveUser(String),
}

/// What was done to a machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) schema: u32,
    /// In the order of the changes.
    pub(super) undo: Vec<Undo>,
}

impl Record {
    pub(super) fn to_json(&self) -> io::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

/// Puts one change back.
pub(super) fn undo_one(root: &Root, undo: &Undo) -> io::Result<()> {
    match undo {
        Undo::Remove(path) => remove(&root.writable_path(path)?),
        Undo::RemoveDirectory(path) => match fs::remove_dir(root.writable_path(path)?) {
            Err(error)
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) =>
            {
                Err(error)
            }
            _ => Ok(()),
        },
        Undo::RemoveBlock(path) => {
            let path = root.writable_path(path)?;
            let Some(bytes) = files::read(&path, files::SMALL_FILE)? else { return Ok(()) };
            let text = String::from_utf8(bytes).map_err(io::Error::other)?;
            let found = fs::metadata(&path)?;
            replace(&path, without_block(&text).as_bytes(), found.mode() & 0o7777, (found.uid(), found.gid()))
        }
        Undo::RemoveMember(user) => {
            if group(root, KEYS_GROUP).is_some_and(|group| group.members.contains(user)) {
                root.run_well("gpasswd", &["--delete", user, KEYS_GROUP], "")?;
            }
            Ok(())
        }
        Undo::RemoveUser(name) => {
            if account(root, name).is_some() {
                root.run_well("userdel", &[name], "")?;
            }
            if group(root, name).is_some() {
                root.run_well("groupdel", &[name], "")?;
            }
            Ok(())
        }
    }
}

/// The name under which a file of others' directories is written before it is renamed. sshd includes no such name.
const UNFINISHED: &str = ".instance-connect-agent.new";

/// Puts a file in place whole, or not at all.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32, (uid, gid): (u32, u32)) -> io::Result<()> {
    let unfinished = path.with_file_name(UNFINISHED);
    let file = files::create(&unfinished, bytes, 0o600)?;
    fchown(&file, Some(uid), Some(gid))?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
