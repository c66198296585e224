//! Reading events back, newest first.

use super::files::Paths;
use anyhow::{Context as _, bail};
use instance_connect_core::audit::{Event, EventFilter, FinishedFile, LogPosition};
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::ids::AccountId;
use instance_connect_core::limits;
use instance_connect_planted::planted;
use serde_json::Value;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

/// Bytes read from a file at once.
const CHUNK: u64 = 64 * 1024;

/// How often the writer may begin another file while they are being listed.
const LISTINGS: usize = 5;

/// How much later than its time an event may be written, in seconds.
const WRITTEN_AFTER: i64 = limits::AUDIT_INTENT_AGE.as_secs().cast_signed();

/// What is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) filter: EventFilter,
    /// Whose events; without it, everybody's, and those that are nobody's.
    pub(crate) account: Option<AccountId>,
    pub(crate) max_results: usize,
    /// Where an earlier look-up ended.
    pub(crate) from: Option<LogPosition>,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) events: Vec<Value>,
    /// Where the next look-up goes on, if there is more to read. There may be no events before it.
    pub(crate) next: Option<LogPosition>,
}

/// A file of the log, and which finished one is before it.
struct Part {
    after: Option<FinishedFile>,
    /// `None` for the live file.
    finished: Option<FinishedFile>,
    path: PathBuf,
}

/// Looks for events. Reads [`limits::LOOKUP_READ`] bytes at most.
pub(super) fn lookup(paths: &Paths, wanted: &Wanted) -> anyhow::Result<Found> {
    let mut found = Found { events: Vec::new(), next: None };
    let mut left = limits::LOOKUP_READ;
    let (parts, mut live) = parts(paths)?;
    for part in parts.iter().rev() {
        let is_live = part.finished.is_none();
        if wanted.from.as_ref().is_some_and(|from| part.is_behind(from)) || part.is_too_new(&wanted.filter) {
            continue;
        }
        if part.is_too_old(&wanted.filter) {
            break;
        }
        let file = match live.take() {
            Some(file) if is_live => file,
            _ => match File::open(&part.path) {
                // Deleted meanwhile: what is older is gone too, or next.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file.with_context(|| format!("cannot read {}", part.path.display()))?,
            },
        };
        let length = file.metadata()?.len();
        let from = wanted.from.as_ref().filter(|from| from.after == part.after);
        let end = from.map_or(length, |from| from.offset.min(length));
        let read = read_back(&file, end, &mut left, |line| {
            if let Some(event) = Event::read(line) {
                let is_theirs = wanted.account.as_ref().is_none_or(|account| event.is_of(account));
                if (is_theirs || planted("events-of-others")) && wanted.filter.admits(&event) {
                    found.events.push(event.answer());
                }
            }
            found.events.len() < wanted.max_results
        });
        let offset = read.with_context(|| format!("cannot read {}", part.path.display()))?;
        if offset > 0 || found.events.len() >= wanted.max_results || left == 0 {
            found.next = Some(LogPosition { after: part.after.clone(), offset });
            break;
        }
    }
    Ok(found)
}

impl Part {
    /// Whether all of it was read before.
    fn is_behind(&self, from: &LogPosition) -> bool {
        self.after > from.after
    }

    /// Whether whatever is in it is too new.
    fn is_too_new(&self, filter: &EventFilter) -> bool {
        match (&self.after, filter.end) {
            (Some(after), Some(end)) => !after.is_before(UnixSeconds(end.0.saturating_add(WRITTEN_AFTER))),
            _ => false,
        }
    }

    /// Whether whatever is in it, and in those before it, is too old.
    fn is_too_old(&self, filter: &EventFilter) -> bool {
        match (&self.finished, filter.start) {
            (Some(finished), Some(start)) => finished.is_before(start),
            _ => false,
        }
    }
}

/// All files, oldest first, and the last of them open: no file that is finished meanwhile is missed.
fn parts(paths: &Paths) -> anyhow::Result<(Vec<Part>, Option<File>)> {
    for _ in 0..LISTINGS {
        let finished = paths.finished()?;
        let live = File::open(&paths.live).context("cannot read the live file")?;
        if paths.finished()? != finished {
            continue;
        }
        let before = std::iter::once(None).chain(finished.iter().cloned().map(Some));
        let files = finished.iter().cloned().map(Some).chain([None]);
        let parts = before.zip(files).map(|(after, finished)| {
            let path = finished.as_ref().map_or_else(|| paths.live.clone(), |file| paths.of_finished(file));
            Part { after, finished, path }
        });
        return Ok((parts.collect(), Some(live)));
    }
    bail!("the files of the audit log change faster than they can be listed")
}

/// Gives the lines before `end`, the last one first, until `read` wants no more or no more bytes may be read. How far it
/// has come: what is before that has not been given. What has no line feed yet is being written, and what is longer than
/// any line of ours is none.
fn read_back(file: &File, end: u64, left: &mut u64, mut read: impl FnMut(&[u8]) -> bool) -> io::Result<u64> {
    // What is read from `start` on of a line whose beginning is not, and whether all behind that is.
    let (mut start, mut rest, mut has_end) = (end, Vec::new(), false);
    while start > 0 && *left > 0 {
        let length = CHUNK.min(start).min(*left);
        (start, *left) = (start - length, *left - length);
        let mut chunk = vec![0; usize::try_from(length).unwrap_or_default()];
        file.read_exact_at(&mut chunk, start)?;
        chunk.append(&mut rest);
        while let Some(feed) = chunk.iter().rposition(|byte| *byte == b'\n') {
            let begin = start + feed as u64 + 1;
            let line = chunk.get(feed + 1..).unwrap_or_default();
            if has_end && line.len() as u64 <= limits::AUDIT_LINE && !read(line) {
                return Ok(begin);
            }
            has_end = true;
            chunk.truncate(feed);
        }
        rest = chunk;
        if rest.len() as u64 > limits::AUDIT_LINE {
            // It is no line of ours, and shall not be kept.
            rest.clear();
            has_end = false;
        }
    }
    if start > 0 {
        // Behind its line feed, if it has one: there the next look-up goes on.
        return Ok(start + rest.len() as u64 + u64::from(has_end));
    }
    if has_end {
        read(&rest);
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn file(text: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        file
    }

    /// All lines, read with so many bytes and lines at a time.
    fn lines(text: &[u8], bytes: u64, lines: usize) -> Vec<Vec<u8>> {
        let (file, mut end, mut all) = (file(text), text.len() as u64, Vec::new());
        for _ in 0..1000 {
            let (mut left, mut count) = (bytes, 0);
            end = read_back(&file, end, &mut left, |line| {
                all.push(line.to_vec());
                count += 1;
                count < lines
            })
            .unwrap();
            if end == 0 {
                return all;
            }
        }
        panic!("it does not come to an end");
    }

    #[test]
    fn lines_come_back_last_first_however_they_are_read() {
        let written: Vec<Vec<u8>> =
            [0, 1, 7, 65_535, 65_536, 65_537, 131_072, 3, 262_144].map(|length| vec![b'x'; length]).to_vec();
        let text = [written.join(&b'\n'), b"\nbeing writ".to_vec()].concat();
        let expected: Vec<Vec<u8>> = written.iter().rev().cloned().collect();
        for (bytes, count) in [(u64::MAX, 100), (u64::MAX, 1), (270_000, 100), (300_000, 2)] {
            assert!(lines(&text, bytes, count) == expected, "{bytes} {count}");
        }
        assert_eq!(lines(b"", 9, 9), Vec::<Vec<u8>>::new());
        assert_eq!(lines(b"\n", 9, 9), [b""]);
    }

    #[test]
    fn what_is_longer_than_a_line_is_passed_over() {
        let text = [b"first\n".to_vec(), vec![b'x'; 600_000], b"\nlast\n".to_vec()].concat();
        for bytes in [u64::MAX, 300_000] {
            assert_eq!(lines(&text, bytes, 9), [b"last".to_vec(), b"first".to_vec()], "{bytes}");
        }
    }
}
