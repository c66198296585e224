//! Putting a machine back as it was before `install`.

use super::change::Changing;
use super::service::{is_booted, reload_sshd};
use super::undo::{Record, Undo, replace, undo_one};
use super::{
    ANCHORS_UNIT, DROP_IN, ETC, InstallFailure, LOCAL_UNITS, METADATA_UNIT, RECORD, RUN, STATE, UNIT, tell,
};
use crate::files::{LOCK, UNFINISHED};
use crate::root::Root;
use crate::sshd::Sshd;
use crate::{anchors, state};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How to uninstall.
#[derive(Clone, Debug)]
pub struct Uninstall {
    /// The system's root directory.
    pub root: PathBuf,
    /// Only say what would be changed.
    pub dry_run: bool,
    /// Remove the identity, what the machine trusts, and the users too.
    pub purge: bool,
}

/// Takes back what `install` has done, as it has noted it, telling what. sshd comes first, and is as it was before.
///
/// # Errors
/// sshd would not accept its configuration without us, or something cannot be removed. In the first case nothing has
/// changed.
pub fn uninstall(uninstall: &Uninstall, out: &mut dyn Write) -> Result<(), InstallFailure> {
    if !rustix::process::geteuid().is_root() {
        return Err(InstallFailure::NotRoot);
    }
    let root = Root::new(&uninstall.root).map_err(InstallFailure::system(uninstall.root.display()))?;
    let changing = Changing::new(&root).map_err(InstallFailure::system(RECORD))?;
    let undo: Vec<&Undo> = changing.earlier().iter().rev().collect();
    let (of_sshd, rest): (Vec<_>, Vec<_>) = undo.into_iter().partition(|undo| is_of_sshd(undo));
    let (kept, removed): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|undo| !uninstall.purge && is_identity(undo));
    for undo in of_sshd.iter().chain(&removed) {
        tell(out, &format!("{}\n", describe(undo)))?;
    }
    if of_sshd.is_empty() && removed.is_empty() {
        tell(out, "There is nothing to remove that install has noted in /etc/instance-connect.\n")?;
    }
    if uninstall.dry_run {
        return tell(out, "Nothing has been changed (--dry-run).\n");
    }
    if !of_sshd.is_empty() {
        tell(out, &leave_sshd(&root, &of_sshd)?)?;
    }
    if is_booted(&root) {
        // One that does not run, or is not there any more, is stopped.
        let _ = root.run_well("systemctl", &["stop", UNIT, ANCHORS_UNIT], "");
        // Root may have enabled it, and its link is in no record of ours.
        let _ = root.run_well("systemctl", &["disable", "--now", METADATA_UNIT], "");
    }
    remove_live_keys(&root).map_err(InstallFailure::system(RUN))?;
    if uninstall.purge {
        remove_identity(&root).map_err(InstallFailure::system(ETC))?;
    }
    for undo in &removed {
        undo_one(&root, undo).map_err(InstallFailure::system(describe(undo)))?;
    }
    note(&root, &kept).map_err(InstallFailure::system(RECORD))?;
    if uninstall.purge {
        for directory in [ETC, STATE] {
            // With something of somebody else's in it, it stays.
            let _ = fs::remove_dir(root.path(directory));
        }
    }
    if is_booted(&root) {
        root.run_well("systemctl", &["daemon-reload"], "").map_err(InstallFailure::system("systemd"))?;
    }
    if kept.is_empty() { Ok(()) } else { tell(out, LEFT) }
}

/// Notes what is left to be removed by a later call.
fn note(root: &Root, kept: &[&Undo]) -> io::Result<()> {
    if kept.is_empty() {
        return undo_one(root, &Undo::Remove(RECORD.into()));
    }
    let record = Record { schema: 1, undo: kept.iter().rev().map(|undo| (*undo).clone()).collect() };
    replace(&root.writable_path(RECORD)?, &record.to_json()?, 0o644, (0, 0))
}

const LEFT: &str = "\
Left: /etc/instance-connect (whom this machine trusts, and its veto), /var/lib/instance-connect-agent (its identity, which
still opens a link until it is revoked), and the users instance-connect-agent and instance-connect-keys.
instance-connect-agent uninstall --purge removes these too.
";

/// What sshd reads.
fn is_of_sshd(undo: &Undo) -> bool {
    match undo {
        Undo::Remove(path) => path == Path::new(DROP_IN) || is_mask(path),
        Undo::RemoveBlock(_) => true,
        Undo::RemoveDirectory(path) => Path::new(DROP_IN).starts_with(path),
        Undo::RemoveMember(_) | Undo::RemoveUser(_) => false,
    }
}

fn is_mask(path: &Path) -> bool {
    path.starts_with(LOCAL_UNITS) && path.extension().is_some_and(|extension| extension == "conf")
}

fn is_identity(undo: &Undo) -> bool {
    match undo {
        Undo::RemoveUser(_) => true,
        Undo::RemoveDirectory(path) => [ETC, STATE].iter().any(|kept| path == Path::new(kept)),
        Undo::Remove(_) | Undo::RemoveBlock(_) | Undo::RemoveMember(_) => false,
    }
}

fn describe(undo: &Undo) -> String {
    match undo {
        Undo::Remove(path) => format!("remove {}", path.display()),
        Undo::RemoveDirectory(path) => format!("remove the directory {}, if it is empty", path.display()),
        Undo::RemoveBlock(path) => format!("take our lines out of {}", path.display()),
        Undo::RemoveMember(user) => format!("take the user {user} out of the group {}", super::KEYS_GROUP),
        Undo::RemoveUser(name) => format!("remove the user {name}"),
    }
}

/// A file or link as it was.
enum Before {
    File { path: PathBuf, bytes: Vec<u8>, mode: u32, owner: (u32, u32) },
    Link { path: PathBuf, target: PathBuf },
}

/// Takes everything that sshd reads away, and puts it all back if sshd does not accept that.
fn leave_sshd(root: &Root, undo: &[&Undo]) -> Result<String, InstallFailure> {
    let before = undo.iter().filter_map(|undo| match undo {
        Undo::Remove(path) | Undo::RemoveBlock(path) => before(&root.path(path)).transpose(),
        Undo::RemoveDirectory(_) | Undo::RemoveMember(_) | Undo::RemoveUser(_) => None,
    });
    let before: Vec<Before> =
        before.collect::<io::Result<_>>().map_err(InstallFailure::system("sshd's files"))?;
    let left = undo.iter().try_for_each(|undo| {
        undo_one(root, undo).map_err(|error| InstallFailure::Change { what: describe(undo), error })
    });
    // Without sshd there is nobody to ask.
    let Some(sshd) = Sshd::find(root) else { return left.map(|()| String::new()) };
    match left.and_then(|()| sshd.check().map_err(InstallFailure::Refused)) {
        Ok(()) if !root.is_this_system() => Ok(String::new()),
        Ok(()) => {
            let masked = undo.iter().any(|undo| matches!(undo, Undo::Remove(path) if is_mask(path)));
            reload_sshd(root, &sshd, masked).map_err(InstallFailure::system("sshd"))
        }
        Err(failure) => Err(put_back(&before, failure)),
    }
}

fn before(path: &Path) -> io::Result<Option<Before>> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(None) };
    let path = path.to_owned();
    Ok(Some(if metadata.is_symlink() {
        Before::Link { target: fs::read_link(&path)?, path }
    } else {
        let owner = (metadata.uid(), metadata.gid());
        Before::File { bytes: fs::read(&path)?, path, mode: metadata.mode() & 0o7777, owner }
    }))
}

fn put_back(before: &[Before], failure: InstallFailure) -> InstallFailure {
    let put_back = |before: &Before| {
        let path = before.path();
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        match before {
            Before::File { bytes, mode, owner, .. } => replace(path, bytes, *mode, *owner),
            Before::Link { .. } if path.is_symlink() => Ok(()),
            Before::Link { target, .. } => std::os::unix::fs::symlink(target, path),
        }
    };
    let named = |before| {
        put_back(before).err().map(|error: io::Error| format!("{}: {error}", before.path().display()))
    };
    let left: Vec<String> = before.iter().filter_map(named).collect();
    if left.is_empty() { failure } else { InstallFailure::NotRestored { failure: Box::new(failure), left } }
}

impl Before {
    fn path(&self) -> &Path {
        match self {
            Self::File { path, .. } | Self::Link { path, .. } => path,
        }
    }
}

/// Keys that nobody asks for any more. They would have ended within the minute.
fn remove_live_keys(root: &Root) -> io::Result<()> {
    let run = root.writable_path(RUN)?;
    if run.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        fs::remove_dir_all(run)
    } else {
        Ok(())
    }
}

/// The files that enrolling and what came after it have written, whole or not.
fn remove_identity(root: &Root) -> io::Result<()> {
    let trusted =
        ["instance-id", "anchors", "host.toml", LOCK, UNFINISHED].map(|name| Path::new(ETC).join(name));
    let identity = [state::LINK, state::IDENTITY, state::SERVER_CA, anchors::NEXT, UNFINISHED]
        .map(|name| Path::new(STATE).join(name));
    for path in trusted.iter().chain(&identity) {
        undo_one(root, &Undo::Remove(path.clone()))?;
    }
    Ok(())
}
