//! The private directory of `dev`, and the reaper that removes it, also when `dev` is killed.

use super::processes;
use crate::system::SystemRandom;
use anyhow::{Context as _, bail, ensure};
use instance_connect_core::environment::Random as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tokio::signal::unix::{SignalKind, signal};

/// A file that says what the directory is, so that the reaper removes nothing else.
const MARKER: &str = ".instance-connect-dev";

/// The ready file in the directory itself.
pub(super) const READY_FILE: &str = "ready.json";

/// The longest path of the directory: below it are Unix sockets, whose paths have at most 107 bytes.
const LONGEST_PATH: usize = 55;

/// The directory, for as long as the process lives.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    // Its standard input is a pipe from this process: when that closes, however this process ends, it cleans up.
    reaper: Child,
}

/// Arguments of the hidden command that cleans up.
#[derive(Debug, clap::Args)]
pub struct ReapArguments {
    directory: PathBuf,
    #[arg(long)]
    ready_file: Option<PathBuf>,
}

impl Directory {
    /// Creates it: at `named`, which must be new or empty, or fresh in the temporary directory.
    pub(super) fn create(named: Option<PathBuf>, ready_file: Option<&Path>) -> anyhow::Result<Self> {
        let path = match named {
            Some(path) => std::path::absolute(path)?,
            None => fresh_path()?,
        };
        let length = path.as_os_str().len();
        ensure!(
            length <= LONGEST_PATH,
            "{} is too long; --dir takes at most {LONGEST_PATH} bytes",
            path.display()
        );
        // The path gets into sshd's configuration, where blanks end a word and percent signs are replaced.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
        let is_plain = path.to_str().is_some_and(|text| text.chars().all(plain));
        ensure!(is_plain, "{}: --dir takes letters, digits and any of / . _ - only", path.display());
        if path.exists() {
            let mut entries =
                fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))?;
            ensure!(
                entries.next().is_none(),
                "{} is not empty; --dir takes a new or empty directory",
                path.display()
            );
            fs::remove_dir(&path)?;
        }
        // Others may pass through to the sshd command and its files, and list nothing.
        let created = DirBuilder::new().mode(0o711).create(&path);
        created
            .and_then(|()| set_mode(&path, 0o711))
            .with_context(|| format!("cannot create {}", path.display()))?;
        let path = path.canonicalize()?;
        fs::write(path.join(MARKER), "")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("reap-dev").arg(&path).stdin(Stdio::piped()).process_group(0);
        if let Some(ready_file) = ready_file {
            command.arg("--ready-file").arg(std::path::absolute(ready_file)?);
        }
        let reaper = command.spawn().context("cannot start the process that cleans up")?;
        Ok(Self { path, reaper })
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The process group whose members the reaper ends, with all below them, before it removes the directory.
    pub(super) fn process_group(&self) -> anyhow::Result<i32> {
        i32::try_from(self.reaper.id()).context("the reaper's id")
    }

    /// Creates a directory below it with this mode, whatever the umask.
    pub(super) fn subdirectory(&self, relative: impl AsRef<Path>, mode: u32) -> anyhow::Result<PathBuf> {
        let path = self.path.join(relative);
        let created = DirBuilder::new().recursive(true).create(&path).and_then(|()| set_mode(&path, mode));
        created.with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // The end of its input; then it may take the moment it needs.
        drop(self.reaper.stdin.take());
        let _ = self.reaper.wait();
    }
}

/// Whether a directory is one that `dev` made.
pub(crate) fn is_directory_of_dev(path: &Path) -> bool {
    path.join(MARKER).is_file()
}

/// Sets permissions.
pub(super) fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// Writes a file that only its owner can read, whole or not at all.
pub(super) fn write_private(path: &Path, contents: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:08x}", random()));
    let written = path.with_file_name(name);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&written);
    let result = file.and_then(|mut file| file.write_all(contents.as_ref()));
    result
        .and_then(|()| fs::rename(&written, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Opens a log for appending that only its owner can read.
pub(super) fn open_log(path: &Path) -> anyhow::Result<File> {
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    opened.with_context(|| format!("cannot open {}", path.display()))
}

fn fresh_path() -> anyhow::Result<PathBuf> {
    Ok(std::env::temp_dir().join(format!("instance-connect-{:08x}", random())))
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    SystemRandom.fill(&mut bytes);
    u32::from_be_bytes(bytes)
}

/// Waits for the end of `dev`, then ends what still runs and removes what it made.
///
/// # Errors
/// When the directory is not one of `dev`, or cannot be removed.
pub fn reap(arguments: &ReapArguments) -> anyhow::Result<()> {
    let directory = &arguments.directory;
    // Only the end of `dev` counts. Not signals to all that was started with it: the kernel's own, for one, hangs up on a
    // group whose parent has gone, when somebody in it is stopped.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let _heard = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    drop(entered);
    // Nothing is ever written: this ends when the other end of the pipe is gone.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    if !is_directory_of_dev(directory) {
        bail!("{} is not a directory of dev", directory.display());
    }
    if let Some(ready_file) = &arguments.ready_file {
        // Unless another `dev` has put its own there meanwhile.
        let own = fs::read(directory.join(READY_FILE)).ok();
        if own.is_some() && own == fs::read(ready_file).ok() {
            let _ = fs::remove_file(ready_file);
        }
    }
    processes::end_group();
    // Whoever was started at that very moment may still write a last file.
    for _ in 0..50 {
        if fs::remove_dir_all(directory).is_ok() {
            return Ok(());
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "there is no event to wait for: other processes are ending"
        )]
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    bail!("cannot remove {}", directory.display())
}
