//! The system that is looked at or changed: this one, or one below a directory (an image, a container, a test).

use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Where systems have their programs.
const PROGRAM_DIRECTORIES: [&str; 6] =
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

/// A system, by its root directory.
#[derive(Clone, Debug)]
pub(crate) struct Root(PathBuf);

impl Root {
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        directory.canonicalize().map(Self)
    }

    /// The one that runs this program.
    pub(crate) fn this_system() -> Self {
        Self("/".into())
    }

    /// Whether it is the one that runs this program.
    pub(crate) fn is_this_system(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// The directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    /// Where a path of that system is for us.
    pub(crate) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        self.0.join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// The same for a file that is to be written. A symbolic link must not lead out of the directory.
    ///
    /// # Errors
    /// One does, or there is no such directory.
    pub(crate) fn writable_path(&self, inside: impl AsRef<Path>) -> io::Result<PathBuf> {
        let path = self.path(inside);
        let mut above = path.ancestors().skip(1);
        let existing = above.find(|directory| directory.symlink_metadata().is_ok()).unwrap_or(&self.0);
        if existing.canonicalize()?.starts_with(&self.0) {
            Ok(path)
        } else {
            Err(io::Error::other(format!("a symbolic link leads out of {}", self.0.display())))
        }
    }

    /// A program of that system, by the path that it has there.
    pub(crate) fn program(&self, name: &str) -> Option<PathBuf> {
        let candidates = PROGRAM_DIRECTORIES.iter().map(|directory| Path::new(directory).join(name));
        let is_program = |path: &PathBuf| {
            let metadata = self.path(path).metadata();
            metadata.is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
        };
        candidates.into_iter().find(is_program)
    }

    /// Runs a program of that system, with these lines on its standard input.
    ///
    /// # Errors
    /// It cannot be started. How it ended is in the output.
    pub(crate) fn run(&self, program: &Path, arguments: &[&str], input: &str) -> io::Result<Output> {
        let mut command = if self.is_this_system() {
            Command::new(program)
        } else {
            let mut command = Command::new("chroot");
            command.arg(&self.0).arg(program);
            command
        };
        command.args(arguments).env("LC_ALL", "C").current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read what it is given says so by how it ends.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    }

    /// Runs a program that must succeed.
    ///
    /// # Errors
    /// There is none, or it failed: then with what it said.
    pub(crate) fn run_well(&self, name: &str, arguments: &[&str], input: &str) -> io::Result<String> {
        let program = self
            .program(name)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no {name}")))?;
        let output = self.run(&program, arguments, input)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(io::Error::other(format!("{name} {}: {}: {said}", arguments.join(" "), output.status)))
    }
}
