//! Doing what was planned, one change after another, each with what undoes it.

use super::block::without_block;
use super::undo::{Record, Undo, remove, replace, undo_one};
use super::{
    AGENT_PROGRAM, AGENT_USER, DROP_IN, InstallFailure, KEYS_GROUP, KEYS_USER, LOCAL_UNITS, PAM, RECORD,
};
use crate::accounts::{account, group};
use crate::files;
use crate::root::Root;
use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

/// One change of the system. Paths are those that it has there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The users and groups of the agent and of the sshd command.
    Users,
    /// A directory.
    Directory { path: PathBuf, owner: &'static str, group: &'static str, mode: u32 },
    /// A program of ours, copied from where it is now, unless a package has brought it.
    Program { path: PathBuf },
    /// A user that may read live keys.
    Member { user: String },
    /// A file of our own.
    File { path: PathBuf, content: String },
    /// Lines of ours in a file of somebody else's: what is in it then.
    Block { path: PathBuf, content: String },
    /// A symbolic link of our own.
    Link { path: PathBuf, target: PathBuf },
}

impl Change {
    pub(super) fn file(path: PathBuf, content: &str) -> Self {
        Self::File { path, content: content.to_owned() }
    }

    /// Whether sshd has to be told of it.
    pub(super) fn is_of_sshd(&self) -> bool {
        match self {
            Self::File { path, .. } => path == Path::new(DROP_IN),
            Self::Block { path, .. } => path != Path::new(PAM),
            Self::Link { .. } => self.is_mask(),
            Self::Users | Self::Directory { .. } | Self::Program { .. } | Self::Member { .. } => false,
        }
    }

    /// Whether it takes an option off sshd's command line.
    pub(super) fn is_mask(&self) -> bool {
        matches!(self, Self::Link { target, .. } if target == Path::new("/dev/null"))
    }

    /// Whether systemd has to be told of it.
    pub(super) fn is_of_systemd(&self) -> bool {
        matches!(self, Self::File { path, .. } | Self::Link { path, .. } if path.starts_with(LOCAL_UNITS))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indented = |f: &mut fmt::Formatter<'_>, text: &str| {
            text.lines().filter(|line| !line.starts_with('#')).try_for_each(|line| write!(f, "\n    {line}"))
        };
        match self {
            Self::Users => write!(f, "make the system users {KEYS_USER} and {AGENT_USER}"),
            Self::Directory { path, owner, group, mode } => {
                write!(f, "make the directory {} ({owner}:{group} {mode:04o})", path.display())
            }
            Self::Program { path } => write!(f, "copy a program to {}", path.display()),
            Self::Member { user } => write!(f, "put the user {user} into the group {KEYS_GROUP}"),
            Self::File { path, content } => {
                write!(f, "write {}", path.display())?;
                if path == Path::new(DROP_IN) { indented(f, content) } else { Ok(()) }
            }
            Self::Block { path, content } => {
                write!(f, "put at the beginning of {}", path.display())?;
                indented(f, content.strip_suffix(&without_block(content)).unwrap_or(content))
            }
            Self::Link { path, target } => write!(f, "link {} to {}", path.display(), target.display()),
        }
    }
}

/// What puts a change back right after, byte for byte.
#[derive(Debug)]
enum Restore {
    Undo(Undo),
    /// `later` is for a file that is not ours.
    File {
        path: PathBuf,
        before: Before,
        later: Option<Undo>,
    },
    Attributes {
        path: PathBuf,
        before: Before,
    },
}

/// A file as it was.
#[derive(Debug)]
struct Before {
    bytes: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
}

/// Changes being made.
#[derive(Debug)]
pub(super) struct Changing<'a> {
    root: &'a Root,
    /// What an earlier call has done.
    earlier: Record,
    record_before: Option<Vec<u8>>,
    restore: Vec<Restore>,
}

impl<'a> Changing<'a> {
    pub(super) fn new(root: &'a Root) -> io::Result<Self> {
        // It says what to remove: it must be root's.
        let record_before = files::read_trusted(&root.path(RECORD), files::SMALL_FILE)?;
        let earlier = record_before.as_deref().map(serde_json::from_slice).transpose()?.unwrap_or_default();
        Ok(Self { root, earlier, record_before, restore: Vec::new() })
    }

    /// What an earlier call has done.
    pub(super) fn earlier(&self) -> &[Undo] {
        &self.earlier.undo
    }

    /// Those of the changes that are still to be made.
    pub(super) fn pending(&self, changes: Vec<Change>) -> Result<Vec<Change>, InstallFailure> {
        let mut pending = Vec::new();
        for change in changes {
            if !self.is_made(&change)? {
                pending.push(change);
            }
        }
        Ok(pending)
    }

    fn is_made(&self, change: &Change) -> Result<bool, InstallFailure> {
        let has = |path: &PathBuf, content: &str| {
            fs::read(self.root.path(path)).is_ok_and(|bytes| bytes == content.as_bytes())
        };
        let has_bytes = |path: &PathBuf, file: &Path| {
            fs::read(file).is_ok_and(|bytes| fs::read(self.root.path(path)).is_ok_and(|there| there == bytes))
        };
        Ok(match change {
            Change::Users => [KEYS_USER, AGENT_USER].iter().all(|name| account(self.root, name).is_some()),
            Change::Directory { path, owner, group, mode } => {
                let ids = self.ids(owner, group).ok();
                let metadata = fs::symlink_metadata(self.root.path(path)).ok();
                metadata.is_some_and(|found| {
                    found.is_dir()
                        && found.mode() & 0o7777 == *mode
                        && Some((found.uid(), found.gid())) == ids
                })
            }
            Change::Program { path } => {
                let file = self.program_file(path)?;
                file == self.root.path(path) || has_bytes(path, &file)
            }
            Change::Member { user } => {
                group(self.root, KEYS_GROUP).is_some_and(|group| group.members.contains(user))
            }
            Change::File { path, content } | Change::Block { path, content } => has(path, content),
            Change::Link { path, target } => {
                fs::read_link(self.root.path(path)).is_ok_and(|found| found == *target)
            }
        })
    }

    /// What a program of ours will be: the file that is there, where a package has brought it, and else the one beside this
    /// program. What a package has brought, packages replace.
    pub(super) fn program_file(&self, path: &Path) -> Result<PathBuf, InstallFailure> {
        let there = self.root.path(path);
        let beside = source(path).map_err(InstallFailure::system("this program's own path"))?;
        let is_ours = self.is_earlier(&Undo::Remove(path.to_owned()));
        match (there.is_file(), beside.is_file()) {
            (true, true) if is_ours => Ok(beside),
            (true, _) => Ok(there),
            (false, true) => Ok(beside),
            (false, false) => Err(InstallFailure::NoProgram { program: path.display().to_string(), beside }),
        }
    }

    fn is_earlier(&self, undo: &Undo) -> bool {
        self.earlier.undo.contains(undo)
    }

    /// Makes the changes.
    ///
    /// # Errors
    /// The first that fails. Those before it have been made, and are to be undone.
    pub(super) fn apply(&mut self, changes: &[Change]) -> Result<(), InstallFailure> {
        for change in changes {
            let failed = |error| InstallFailure::Change { what: change.to_string(), error };
            if let Change::Block { path, content } = change {
                self.refuse_link(path, content)?;
            }
            self.prepare(change).map_err(failed)?;
            // Before the change itself: whatever ends this program, what it did can be put back.
            self.save_record().map_err(failed)?;
            self.make(change).map_err(failed)?;
        }
        // The directory of the record may have been the last change.
        self.save_record().map_err(InstallFailure::system(RECORD))
    }

    /// A link is written by something else, which would write over our lines.
    fn refuse_link(&self, path: &Path, content: &str) -> Result<(), InstallFailure> {
        if !self.root.path(path).is_symlink() {
            return Ok(());
        }
        let lines = content.strip_suffix(&without_block(content)).unwrap_or(content).to_owned();
        Err(InstallFailure::Linked { path: path.to_owned(), lines })
    }

    /// Notes how a change is undone.
    fn prepare(&mut self, change: &Change) -> io::Result<()> {
        match change {
            Change::Users => {
                for name in [KEYS_USER, AGENT_USER] {
                    if account(self.root, name).is_none() {
                        self.restore.push(Restore::Undo(Undo::RemoveUser(name.to_owned())));
                    }
                }
            }
            Change::Directory { path, .. } => {
                self.make_parents(path)?;
                match self.before(path)? {
                    Some(before) => {
                        self.restore.push(Restore::Attributes { path: path.clone(), before });
                        for entry in self.roots_files(path)? {
                            let before = self.before(&entry)?;
                            self.restore
                                .extend(before.map(|before| Restore::Attributes { path: entry, before }));
                        }
                    }
                    None => self.restore.push(Restore::Undo(Undo::RemoveDirectory(path.clone()))),
                }
            }
            Change::Member { user } => self.restore.push(Restore::Undo(Undo::RemoveMember(user.clone()))),
            Change::Program { path } | Change::File { path, .. } | Change::Block { path, .. } => {
                self.make_parents(path)?;
                self.restore.push(match self.before(path)? {
                    Some(before) => {
                        let is_block = matches!(change, Change::Block { .. });
                        let later = is_block.then(|| Undo::RemoveBlock(path.clone()));
                        Restore::File { path: path.clone(), before, later }
                    }
                    None => Restore::Undo(Undo::Remove(path.clone())),
                });
                if let Change::File { .. } = change {
                    self.refuse_foreign(path)?;
                }
            }
            Change::Link { path, .. } => {
                self.make_parents(path)?;
                self.refuse_foreign(path)?;
                self.restore.push(Restore::Undo(Undo::Remove(path.clone())));
            }
        }
        Ok(())
    }

    /// What lies there under our name and is not ours stays.
    fn refuse_foreign(&self, path: &Path) -> io::Result<()> {
        let is_there = fs::symlink_metadata(self.root.path(path)).is_ok();
        if is_there && !self.is_earlier(&Undo::Remove(path.to_owned())) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is one already, and it is not ours",
            ));
        }
        Ok(())
    }

    fn make(&self, change: &Change) -> io::Result<()> {
        match change {
            Change::Users => self.make_users(),
            Change::Directory { path, owner, group, mode } => {
                let (uid, gid) = self.ids(owner, group)?;
                // An identity from before goes to whom the directory goes.
                for entry in self.roots_files(path)? {
                    lchown(self.root.path(entry), Some(uid), Some(gid))?;
                }
                let path = self.root.writable_path(path)?;
                if !path.is_dir() {
                    DirBuilder::new().mode(0o700).create(&path)?;
                }
                lchown(&path, Some(uid), Some(gid))?;
                fs::set_permissions(&path, Permissions::from_mode(*mode))
            }
            Change::Program { path } => {
                let bytes = fs::read(source(path)?)?;
                replace(&self.root.writable_path(path)?, &bytes, 0o755, (0, 0))
            }
            Change::Member { user } => {
                self.root.run_well("usermod", &["--append", "--groups", KEYS_GROUP, user], "").map(drop)
            }
            Change::File { path, content } => {
                replace(&self.root.writable_path(path)?, content.as_bytes(), 0o644, (0, 0))
            }
            Change::Block { path, content } => {
                let path = self.root.writable_path(path)?;
                let found = fs::metadata(&path)?;
                replace(&path, content.as_bytes(), found.mode() & 0o7777, (found.uid(), found.gid()))
            }
            Change::Link { path, target } => {
                let path = self.root.writable_path(path)?;
                remove(&path)?;
                symlink(target, path)
            }
        }
    }

    fn make_users(&self) -> io::Result<()> {
        if self.root.program("systemd-sysusers").is_some() {
            let users = include_str!("../../../../packaging/sysusers.d/instance-connect-agent.conf");
            return self.root.run_well("systemd-sysusers", &["-"], users).map(drop);
        }
        for (name, home) in [(KEYS_USER, "/"), (AGENT_USER, super::STATE)] {
            if account(self.root, name).is_none() {
                let arguments = [
                    "--system",
                    "--user-group",
                    "--no-create-home",
                    "--home-dir",
                    home,
                    "--shell",
                    "/usr/sbin/nologin",
                    name,
                ];
                self.root.run_well("useradd", &arguments, "")?;
            }
        }
        Ok(())
    }

    /// Directories above a path, which a package would have brought.
    fn make_parents(&mut self, path: &Path) -> io::Result<()> {
        let missing: Vec<&Path> =
            path.ancestors().skip(1).take_while(|above| !self.root.path(above).exists()).collect();
        for directory in missing.into_iter().rev() {
            self.restore.push(Restore::Undo(Undo::RemoveDirectory(directory.to_owned())));
            let path = self.root.writable_path(directory)?;
            fs::create_dir(&path)?;
            fs::set_permissions(path, Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    /// What is in a directory, if that is root's. In one that is somebody else's, whatever we do to a file could be done to
    /// a link of theirs.
    fn roots_files(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let path = self.root.path(directory);
        if !fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == 0) {
            return Ok(Vec::new());
        }
        fs::read_dir(path)?.map(|entry| Ok(directory.join(entry?.file_name()))).collect()
    }

    fn before(&self, path: &Path) -> io::Result<Option<Before>> {
        let path = self.root.path(path);
        let Ok(metadata) = fs::symlink_metadata(&path) else { return Ok(None) };
        let bytes = if metadata.is_file() { fs::read(path)? } else { Vec::new() };
        Ok(Some(Before { bytes, mode: metadata.mode() & 0o7777, owner: (metadata.uid(), metadata.gid()) }))
    }

    fn ids(&self, owner: &str, of_group: &str) -> io::Result<(u32, u32)> {
        if owner == "root" {
            return Ok((0, 0));
        }
        match (account(self.root, owner), group(self.root, of_group)) {
            (Some(account), Some(group)) => Ok((account.uid, group.gid)),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no {owner}:{of_group}"))),
        }
    }

    /// What has been done, with what an earlier call did.
    fn save_record(&self) -> io::Result<()> {
        let path = self.root.writable_path(RECORD)?;
        if !path.parent().is_some_and(Path::is_dir) {
            return Ok(());
        }
        let mut record = Record { schema: 1, undo: self.earlier.undo.clone() };
        for restore in &self.restore {
            let undo = match restore {
                Restore::Undo(undo) => undo.clone(),
                Restore::File { later: Some(undo), .. } => undo.clone(),
                Restore::File { later: None, .. } | Restore::Attributes { .. } => continue,
            };
            if !record.undo.contains(&undo) {
                record.undo.push(undo);
            }
        }
        replace(&path, &record.to_json()?, 0o644, (0, 0))
    }

    /// Puts everything back, and gives the failure that made it necessary, with what could not be.
    pub(super) fn undo(&mut self, failure: InstallFailure) -> InstallFailure {
        let mut left = Vec::new();
        let record = self.root.path(RECORD);
        let restored = match &self.record_before {
            Some(bytes) => replace(&record, bytes, 0o644, (0, 0)),
            None => remove(&record),
        };
        left.extend(restored.err().map(|error| format!("{RECORD}: {error}")));
        for restore in self.restore.drain(..).rev() {
            let (what, restored) = match &restore {
                Restore::Undo(undo) => (format!("{undo:?}"), undo_one(self.root, undo)),
                Restore::File { path, before, .. } => {
                    let path = self.root.path(path);
                    (path.display().to_string(), replace(&path, &before.bytes, before.mode, before.owner))
                }
                Restore::Attributes { path, before } => {
                    let path = self.root.path(path);
                    let restored = lchown(&path, Some(before.owner.0), Some(before.owner.1))
                        .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(before.mode)));
                    (path.display().to_string(), restored)
                }
            };
            left.extend(restored.err().map(|error| format!("{what}: {error}")));
        }
        if left.is_empty() {
            failure
        } else {
            InstallFailure::NotRestored { failure: Box::new(failure), left }
        }
    }
}

/// Where a program of ours is copied from: this one's own directory.
fn source(path: &Path) -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(match path.file_name() {
        Some(name) if path != Path::new(AGENT_PROGRAM) => own.with_file_name(name),
        _ => own,
    })
}
