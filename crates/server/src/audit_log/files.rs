//! The files of the audit log: the one that is written to, and the finished ones beside it.

use super::AuditSettings;
use anyhow::{Context as _, bail, ensure};
use instance_connect_core::audit::{Chain, FinishedFile, Line, LogNames};
use instance_connect_core::document::{UnixDay, UnixSeconds};
use instance_connect_core::limits;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The log as the one program that writes to it has it.
#[derive(Debug)]
pub(super) struct LogFile {
    paths: Paths,
    max_bytes: u64,
    /// To sync the names in it.
    directory: File,
    file: File,
    bytes: u64,
    /// When it was written to before this program opened it, by its time stamp. `None` while there was nothing in it.
    written_before: Option<i64>,
    /// The day of its last line.
    day: UnixDay,
    last_finished: Option<FinishedFile>,
    /// Of all lines so far.
    chain: Chain,
}

impl LogFile {
    /// Opens the log for appending. A line that a failure has cut off is ended, so that the next one stands alone.
    ///
    /// Until it has been told the [`Chain`] of what is there ([`LogFile::continue_chain`]), it begins a new one.
    ///
    /// # Errors
    /// Others could read or replace it, another program writes to it, or the system refuses.
    pub(super) fn open(settings: &AuditSettings) -> anyhow::Result<Self> {
        let paths = Paths::of(&settings.path)?;
        let directory = File::open(&paths.directory).context("cannot open its directory")?;
        check_directory(&directory.metadata()?)?;
        let mut file = match create(&paths.live) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_existing(&paths.live)?,
            created => created?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another program writes to it"),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let metadata = file.metadata()?;
        end_last_line(&mut file)?;
        let bytes = file.metadata()?.len();
        // A new file's name has to last as well as what is in it.
        directory.sync_all()?;
        let last_finished = paths.finished()?.pop();
        Ok(Self {
            paths,
            max_bytes: settings.max_bytes.into(),
            directory,
            file,
            bytes,
            written_before: (bytes > 0).then_some(metadata.mtime()),
            day: UnixSeconds(metadata.mtime()).day(),
            last_finished,
            chain: Chain::default(),
        })
    }

    /// A log whose disk takes no byte: a device stands for it.
    #[cfg(test)]
    pub(super) fn on_a_full_disk() -> Self {
        let path = Path::new("/dev/full");
        Self {
            paths: Paths::of(path).unwrap(),
            max_bytes: u64::MAX,
            directory: File::open("/dev").unwrap(),
            file: OpenOptions::new().append(true).open(path).unwrap(),
            bytes: 0,
            written_before: None,
            day: UnixSeconds(0).day(),
            last_finished: None,
            chain: Chain::default(),
        }
    }

    /// Where its files are.
    pub(super) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Which file it is that is written to now.
    pub(super) fn inode(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.ino())
    }

    /// Says what the lines that are there amount to.
    pub(super) fn continue_chain(&mut self, chain: Chain) {
        self.chain = chain;
    }

    /// Appends lines, each tied to the one before: returns when they are on disk.
    pub(super) fn append(&mut self, lines: &[Line], now: UnixSeconds) -> io::Result<()> {
        let mut text = Vec::with_capacity(lines.iter().map(Chain::length_of).sum());
        for line in lines {
            self.chain.append(line, &mut text);
        }
        self.write(&text, now)
    }

    /// Writes whole lines to one file, another one if this one is full or its day is over.
    pub(super) fn write(&mut self, lines: &[u8], now: UnixSeconds) -> io::Result<()> {
        let length = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        let is_over = now.day() != self.day || self.bytes.saturating_add(length) > self.max_bytes;
        if is_over && self.bytes > 0 {
            self.rotate(now)?;
        }
        self.file.write_all(lines)?;
        self.file.sync_data()?;
        self.bytes = self.bytes.saturating_add(length);
        self.day = now.day();
        Ok(())
    }

    fn rotate(&mut self, now: UnixSeconds) -> io::Result<()> {
        let finished = FinishedFile::after(self.last_finished.as_ref(), now);
        let path = self.paths.of_finished(&finished);
        // The name is taken first, so that no file that has it by some accident is lost.
        create(&path)?;
        fs::rename(&self.paths.live, &path)?;
        let file = create(&self.paths.live)?;
        file.try_lock()?;
        self.directory.sync_all()?;
        self.file = file;
        self.bytes = 0;
        self.last_finished = Some(finished);
        Ok(())
    }

    /// The files that an intent and its record can be spread over, oldest first: those written to shortly before the log
    /// was written to last, and the last two in any case, for the clock may have been set between.
    pub(super) fn recent(&self) -> io::Result<Vec<PathBuf>> {
        let age = i64::try_from(limits::AUDIT_INTENT_AGE.as_secs()).unwrap_or(i64::MAX);
        let mut last_written = self.written_before;
        let mut recent = vec![self.paths.live.clone()];
        for finished in self.paths.finished()?.iter().rev() {
            let path = self.paths.of_finished(finished);
            let written = fs::metadata(&path)?.mtime();
            let too_old = written.saturating_add(age) < *last_written.get_or_insert(written);
            if too_old && recent.len() > 1 {
                break;
            }
            recent.push(path);
        }
        recent.reverse();
        Ok(recent)
    }
}

/// Where the files are.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    directory: PathBuf,
    pub(super) live: PathBuf,
    names: LogNames,
}

impl Paths {
    fn of(live: &Path) -> anyhow::Result<Self> {
        let name = live.file_name().and_then(OsStr::to_str).context("it needs a name, in UTF-8")?;
        let directory = live.parent().filter(|directory| !directory.as_os_str().is_empty());
        Ok(Self {
            directory: directory.unwrap_or_else(|| Path::new(".")).to_owned(),
            live: live.to_owned(),
            names: LogNames::of(name),
        })
    }

    pub(super) fn of_finished(&self, finished: &FinishedFile) -> PathBuf {
        self.directory.join(self.names.finished(finished))
    }

    /// The finished files, in the order in which they were finished.
    pub(super) fn finished(&self) -> io::Result<Vec<FinishedFile>> {
        let entries = fs::read_dir(&self.directory)?;
        let names: Vec<_> = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        Ok(self.names.finished_among(&names))
    }
}

/// A new file for appending, for its owner only, whatever the umask.
fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create_new(true).append(true).read(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn open_existing(path: &Path) -> anyhow::Result<File> {
    // Looked at first: opening a pipe would wait for its other end. Nobody else can put one there.
    ensure!(fs::symlink_metadata(path)?.is_file(), "it is not a file");
    let file = OpenOptions::new().append(true).read(true).open(path)?;
    let metadata = file.metadata()?;
    ensure!(metadata.uid() == own_uid(), "it belongs to somebody else; move it away");
    // Refused, not narrowed: an operator should know that it was open.
    let private = metadata.mode() & 0o077 == 0;
    ensure!(private, "others may read or write it; check who did, then chmod 600");
    Ok(file)
}

fn check_directory(metadata: &Metadata) -> anyhow::Result<()> {
    let owner = metadata.uid();
    ensure!(owner == own_uid() || owner == 0, "its directory belongs to somebody else");
    let private = metadata.mode() & 0o022 == 0;
    ensure!(
        private,
        "others may write to its directory and so replace it; it needs one of its own, with mode 700"
    );
    Ok(())
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn end_last_line(file: &mut File) -> io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}
