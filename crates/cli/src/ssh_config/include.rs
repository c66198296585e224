//! The one line in the user's configuration, and our own file: written whole or not at all, and only where they are the user's own.

use crate::failure::{Exit, Failure};
use rustix::process::geteuid;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// Largest configuration read.
const LARGEST_FILE: u64 = 1024 * 1024;

/// The first line, by which we know our own file.
const FIRST_LINE: &str = "# Written by `instance-connect ssh-config install`, and taken away by `remove`.";

/// In our file, where the user's was made for the line: then it goes with it.
const MADE: &str = "# The configuration that includes it was made for that.";

/// A file as it is.
struct Existing {
    content: Vec<u8>,
    mode: u32,
}

/// Writes our file, unless somebody else's has its name.
pub(super) fn write_own_file(file: &Path, text: &str) -> Result<(), Failure> {
    let made = match read(file)? {
        Some(old) if !is_ours(&old.content) => return Err(foreign(file)),
        Some(old) => has_line(&old.content, MADE.as_bytes()),
        None => false,
    };
    if let Some(directory) = file.parent() {
        let made = DirBuilder::new().mode(0o700).recursive(true).create(directory);
        made.map_err(|error| cannot("make", directory, &error))?;
    }
    let made = if made { format!("{MADE}\n") } else { String::new() };
    let text = format!("{FIRST_LINE}\n{text}{made}");
    replace(file, text.as_bytes(), 0o600)
}

/// Whether our file is there; somebody else's of its name is an error.
pub(super) fn own_file(file: &Path) -> Result<bool, Failure> {
    match read(file)? {
        Some(old) if !is_ours(&old.content) => Err(foreign(file)),
        found => Ok(found.is_some()),
    }
}

/// Whether the configuration has our line, wherever its owner has put it.
pub(super) fn is_included(config: &Path, file: &Path) -> Result<bool, Failure> {
    let line = line(file)?;
    Ok(read(config)?.is_some_and(|config| has_line(&config.content, line.as_bytes())))
}

/// Puts our line at the very beginning: behind a `Host` it would belong to that.
pub(super) fn include(config: &Path, file: &Path) -> Result<(), Failure> {
    let line = line(file)?;
    match read(config)? {
        Some(old) => replace(config, &[line.as_bytes(), b"\n", &old.content].concat(), old.mode),
        None => {
            if let Some(ours) = read(file)? {
                replace(file, &[ours.content.as_slice(), MADE.as_bytes(), b"\n"].concat(), ours.mode)?;
            }
            replace(config, format!("{line}\n").as_bytes(), 0o600)
        }
    }
}

/// Takes our line out, and nothing else. Whether it was there.
pub(super) fn leave_out(config: &Path, file: &Path) -> Result<bool, Failure> {
    let line = line(file)?;
    let Some(old) = read(config)? else { return Ok(false) };
    if !has_line(&old.content, line.as_bytes()) {
        return Ok(false);
    }
    let lines = old.content.split_inclusive(|byte| *byte == b'\n');
    let rest: Vec<u8> =
        lines.filter(|found| found.trim_ascii() != line.as_bytes()).flatten().copied().collect();
    let was_made = read(file)?.is_some_and(|ours| has_line(&ours.content, MADE.as_bytes()));
    if rest.is_empty() && was_made {
        std::fs::remove_file(config).map_err(|error| cannot("remove", config, &error))?;
    } else {
        replace(config, &rest, old.mode)?;
    }
    Ok(true)
}

fn line(file: &Path) -> Result<String, Failure> {
    match file.to_str() {
        // ssh takes `*`, `?` and `[` in it for patterns, and `~` and `$` for what they stand for elsewhere.
        Some(path)
            if !path.contains(['"', '\\', '*', '?', '[', '$', '~']) && !path.contains(char::is_control) =>
        {
            Ok(format!("Include \"{path}\""))
        }
        _ => Err(Failure::new(Exit::Parameter, format!("ssh cannot include {}", file.display()))),
    }
}

fn has_line(content: &[u8], line: &[u8]) -> bool {
    content.split(|byte| *byte == b'\n').any(|found| found.trim_ascii() == line)
}

fn is_ours(content: &[u8]) -> bool {
    content.starts_with(FIRST_LINE.as_bytes())
}

fn foreign(file: &Path) -> Failure {
    Failure::new(Exit::General, format!("{} is not ours: its first line is another", file.display()))
        .hint("move it away, and try again")
}

/// What is in a file, `None` where there is none. It must be a file, and the user's own: what is written in its place would be.
fn read(path: &Path) -> Result<Option<Existing>, Failure> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot("read", path, &error)),
    };
    let refuse = |why: &str| {
        Failure::new(Exit::General, format!("{} {why}, so it is left alone", path.display()))
            .hint("include what `instance-connect ssh-config print` prints by hand, at the beginning of your configuration")
    };
    if metadata.is_symlink() {
        return Err(refuse("is a symbolic link"));
    }
    if !metadata.is_file() {
        return Err(refuse("is not a file"));
    }
    if metadata.uid() != geteuid().as_raw() {
        return Err(refuse("is somebody else's"));
    }
    if metadata.len() > LARGEST_FILE {
        return Err(refuse("is too large"));
    }
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST_FILE).read_to_end(&mut content));
    read.map_err(|error| cannot("read", path, &error))?;
    Ok(Some(Existing { content, mode: metadata.mode() & 0o7777 }))
}

/// Puts a new file in the place of an old one, in one step and on the disk.
fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    let written = || {
        let directory = path.parent().unwrap_or_else(|| Path::new("/"));
        let mut file = tempfile::Builder::new().prefix(".instance-connect-").tempfile_in(directory)?;
        file.write_all(content)?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok::<_, std::io::Error>(())
    };
    written().map_err(|error| cannot("write", path, &error))
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::General, format!("cannot {what} {}: {error}", path.display()))
}
