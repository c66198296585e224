//! sshd's rule for a program that it is to run: root's, and writable by nobody else, all the way up.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Why sshd would not run a program.
#[derive(Debug)]
pub enum UnsafeProgram {
    /// Its path does not begin with `/`.
    NotAbsolute(PathBuf),
    /// It is a directory or the like.
    NotRegular(PathBuf),
    /// This belongs to somebody other than root: the program, or a directory above it.
    Owner(PathBuf),
    /// To this its group or others may write: the program, or a directory above it.
    Writable(PathBuf),
    /// It cannot be looked at; most likely it is not there.
    System(PathBuf, io::Error),
}

impl fmt::Display for UnsafeProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAbsolute(path) => write!(f, "{path:?} is no absolute path"),
            Self::NotRegular(path) => write!(f, "{path:?} is not a regular file"),
            Self::Owner(path) => write!(f, "{path:?} is not root's"),
            Self::Writable(path) => write!(f, "{path:?} is writable by others than its owner"),
            Self::System(path, error) => write!(f, "{path:?}: {error}"),
        }
    }
}

impl std::error::Error for UnsafeProgram {}

/// Checks a program as sshd checks the one that it starts (`safe_path` in OpenSSH's `misc.c`): where symbolic links lead,
/// the file and every directory above it are root's, and their group and others cannot write there.
///
/// Whoever could write there could have sshd run a program of theirs in front of every account.
///
/// # Errors
/// The first that breaks the rule, from the program upwards.
pub fn check_program(program: &Path) -> Result<(), UnsafeProgram> {
    check_program_in(Path::new("/"), program)
}

/// The same for a system below `root`, whose own directories above `root` do not count.
///
/// # Errors
/// The first that breaks the rule, from the program upwards, named as it is seen from here.
pub fn check_program_in(root: &Path, program: &Path) -> Result<(), UnsafeProgram> {
    let Ok(below) = program.strip_prefix("/") else {
        return Err(UnsafeProgram::NotAbsolute(program.to_owned()));
    };
    let named = root.join(below);
    let system = |error| UnsafeProgram::System(named.clone(), error);
    let root = root.canonicalize().map_err(system)?;
    let real = named.canonicalize().map_err(system)?;
    if !real.is_file() {
        return Err(UnsafeProgram::NotRegular(named));
    }
    for path in real.ancestors().take_while(|path| path.starts_with(&root)) {
        let metadata = path.metadata().map_err(|error| UnsafeProgram::System(path.to_owned(), error))?;
        if metadata.uid() != 0 {
            return Err(UnsafeProgram::Owner(path.to_owned()));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(UnsafeProgram::Writable(path.to_owned()));
        }
    }
    Ok(())
}
