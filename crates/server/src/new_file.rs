//! Files that are written whole or not at all, also when the machine fails meanwhile.

use crate::system::SystemRandom;
use anyhow::Context as _;
use instance_connect_core::environment::Random as _;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// Makes a file that must not be there.
///
/// # Errors
/// It is there, or cannot be written.
pub(crate) fn create(path: &Path, contents: &[u8], mode: u32) -> anyhow::Result<()> {
    let created = beside(path, contents, mode, None).and_then(|written| {
        // Unlike a rename, a link never takes the place of anything.
        let linked = fs::hard_link(&written, path);
        fs::remove_file(&written)?;
        linked?;
        sync_directory(path)
    });
    created.with_context(|| format!("cannot create {}", path.display()))
}

/// Writes a file, in the place of what is there.
///
/// # Errors
/// It cannot be written.
pub(crate) fn replace(path: &Path, contents: &[u8], mode: u32) -> anyhow::Result<()> {
    replace_for(None, path, contents, mode)
}

/// The same, and gives it to the owner of another file: before it has its name, since whoever owns the directory decides
/// what that leads to.
///
/// # Errors
/// It cannot be written, or given away.
pub(crate) fn replace_for(
    owner: Option<&Metadata>,
    path: &Path,
    contents: &[u8],
    mode: u32,
) -> anyhow::Result<()> {
    let replaced = beside(path, contents, mode, owner).and_then(|written| {
        fs::rename(&written, path).inspect_err(|_| {
            let _ = fs::remove_file(&written);
        })?;
        sync_directory(path)
    });
    replaced.with_context(|| format!("cannot write {}", path.display()))
}

/// Puts a file in the place of another one in the same directory.
///
/// # Errors
/// It cannot be renamed.
pub(crate) fn promote(path: &Path, into: &Path) -> anyhow::Result<()> {
    let renamed = fs::rename(path, into).and_then(|()| sync_directory(into));
    renamed.with_context(|| format!("cannot put {} in place", path.display()))
}

/// Writes it under another name in the same directory, down to the disk, with this mode whatever the umask.
fn beside(path: &Path, contents: &[u8], mode: u32, owner: Option<&Metadata>) -> io::Result<PathBuf> {
    let mut random = [0; 4];
    SystemRandom.fill(&mut random);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:08x}", u32::from_be_bytes(random)));
    let written = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&written)?;
    let result = file
        .set_permissions(Permissions::from_mode(mode))
        .and_then(|()| owner.map_or(Ok(()), |owner| give(&file, owner)))
        .and_then(|()| file.write_all(contents))
        .and_then(|()| file.sync_all());
    result.map(|()| written.clone()).inspect_err(|_| {
        let _ = fs::remove_file(&written);
    })
}

fn give(file: &File, owner: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (owner.uid(), owner.gid()) == (own.uid(), own.gid()) {
        return Ok(());
    }
    fchown(file, Some(owner.uid()), Some(owner.gid()))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
