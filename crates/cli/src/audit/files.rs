//! Files of an audit log on this machine. They are only read: the service that writes them takes no notice.

use crate::failure::{Exit, Failure};
use instance_connect_core::audit::LogNames;
use instance_connect_core::limits;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

/// The live file of a log, unless it was given another name.
const LIVE: &str = "audit.log";

/// How often the service may begin another file while a directory is being read.
const READINGS: usize = 5;

/// A file that has been opened.
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    pub(super) lines: BufReader<File>,
}

impl LogFile {
    fn open(path: PathBuf) -> Result<Self, Failure> {
        let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
        Ok(Self { path, lines: BufReader::with_capacity(256 * 1024, file) })
    }

    /// Reads a line with its line feed, if it has one. False at the end of the file. What is longer than any line of ours
    /// is read in pieces, as the service does.
    pub(super) fn read_line(&mut self, line: &mut Vec<u8>) -> Result<bool, Failure> {
        line.clear();
        let read = self.lines.by_ref().take(limits::AUDIT_LINE).read_until(b'\n', line);
        read.map(|bytes| bytes > 0).map_err(|error| unreadable(&self.path, &error))
    }
}

/// Opens the files that these paths name, in their order: files as they are given, a directory's oldest first.
pub(super) fn open(paths: &[PathBuf]) -> Result<Vec<LogFile>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(open_directory(path)?);
        } else {
            files.push(LogFile::open(path.clone())?);
        }
    }
    Ok(files)
}

/// A file that is finished meanwhile is neither missed nor read twice: all are open before one is read.
fn open_directory(directory: &Path) -> Result<Vec<LogFile>, Failure> {
    let list = || finished(directory).map_err(|error| unreadable(directory, &error));
    for _ in 0..READINGS {
        let before = list()?;
        let mut paths = before.clone();
        let live = directory.join(LIVE);
        if live.exists() {
            paths.push(live);
        }
        let files = paths.into_iter().map(LogFile::open).collect::<Result<Vec<_>, _>>();
        if list()? == before {
            return match files {
                Ok(files) if files.is_empty() => {
                    let message = format!("{}: there is no audit log here", directory.display());
                    Err(Failure::new(Exit::Parameter, message).hint("name its files, oldest first"))
                }
                files => files,
            };
        }
    }
    let message = format!("{}: files come and go here faster than they can be read", directory.display());
    Err(Failure::new(Exit::General, message))
}

fn finished(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let log = LogNames::of(LIVE);
    let entries = fs::read_dir(directory)?;
    let names: Vec<_> = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    Ok(log.finished_among(&names).iter().map(|file| directory.join(log.finished(file))).collect())
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(Exit::General, format!("{}: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            failure.hint("only the service's own user and root can read the audit log")
        }
        _ => failure,
    }
}
