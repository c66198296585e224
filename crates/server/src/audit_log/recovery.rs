//! What a start does with what is there: it goes on with the chain, and closes the intents that a killed program has left
//! without a record.

use super::BATCH;
use super::files::LogFile;
use crate::new_ids;
use anyhow::Context as _;
use instance_connect_core::audit::{Chain, OpenIntents};
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::environment::Random;
use instance_connect_core::limits;
use instance_connect_planted::planted;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

/// Bytes read from a file at once.
const BUFFER: usize = 256 * 1024;

/// Goes on with the chain, and writes a record for each intent that has none. How many that were.
pub(super) fn recover(log: &mut LogFile, now: UnixSeconds, random: &dyn Random) -> anyhow::Result<usize> {
    let (mut chain, mut intents) = (Chain::default(), OpenIntents::default());
    for path in log.recent()? {
        let read = read_lines(&path, |line| {
            chain.read(line);
            Ok(intents.read(line)?)
        });
        read.with_context(|| format!("cannot read {}", path.display()))?;
    }
    log.continue_chain(chain);
    if planted("interrupted-skipped") {
        return Ok(0);
    }
    let records = intents.close(|| new_ids::uuid(random)).context("cannot close what was left open")?;
    for batch in records.chunks(BATCH) {
        log.append(batch, now)?;
    }
    Ok(records.len())
}

/// What is longer than any line of ours is read in pieces, which are no lines of ours either.
fn read_lines(path: &Path, mut read: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut reader = BufReader::with_capacity(BUFFER, File::open(path)?);
    let mut line = Vec::new();
    while reader.by_ref().take(limits::AUDIT_LINE).read_until(b'\n', &mut line)? > 0 {
        read(&line)?;
        line.clear();
    }
    Ok(())
}
