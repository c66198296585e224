//! Closing the intents that a killed program has left without a record.

use super::BATCH;
use super::files::LogFile;
use crate::api::fresh_uuid;
use anyhow::Context as _;
use instance_connect_core::audit::OpenIntents;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::environment::Random;
use instance_connect_core::limits;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

/// Bytes read from a file at once.
const BUFFER: usize = 256 * 1024;

/// Writes a record for each intent that has none. How many that were.
pub(super) fn close_open_intents(
    log: &mut LogFile,
    now: UnixSeconds,
    random: &dyn Random,
) -> anyhow::Result<usize> {
    let mut intents = OpenIntents::default();
    for path in log.recent()? {
        read_lines(&path, &mut intents).with_context(|| format!("cannot read {}", path.display()))?;
    }
    let records = intents.close(|| fresh_uuid(random))?;
    for batch in records.chunks(BATCH) {
        let lines: Vec<u8> = batch.iter().flat_map(|line| line.as_bytes()).copied().collect();
        log.append(&lines, now)?;
    }
    Ok(records.len())
}

fn read_lines(path: &Path, intents: &mut OpenIntents) -> anyhow::Result<()> {
    let mut reader = BufReader::with_capacity(BUFFER, File::open(path)?);
    let mut line = Vec::new();
    // What is longer than any line of ours is read in pieces, which are no lines of ours either.
    while reader.by_ref().take(limits::AUDIT_LINE).read_until(b'\n', &mut line)? > 0 {
        intents.read(&line)?;
        line.clear();
    }
    Ok(())
}
