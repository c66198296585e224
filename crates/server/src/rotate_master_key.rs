//! `instance-connectd rotate-master-key`: everything that is sealed in the inventory gets another key.
//!
//! The next key is written beside the current one before anything is sealed with it, and takes its place afterwards. At each
//! moment in between one of the two files is the right key, and both this program and `serve` find out which.

use crate::config::Source;
use crate::master_key::MasterKeyPlace;
use crate::system::{SystemClock, SystemRandom};
use anyhow::{Context as _, bail};
use instance_connect_core::environment::{Clock as _, Random};
use instance_connect_kill_point::kill_point;
use instance_connect_store::SqliteStore;
use std::io::Write as _;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Arguments of `rotate-master-key`.
#[derive(Debug, clap::Args)]
#[command(after_help = "The service has to be stopped meanwhile:
  systemctl stop instance-connectd
  instance-connectd rotate-master-key
  systemctl start instance-connectd

Backups of the inventory from before need the old key: keep it with them, or make a new backup of both.")]
pub struct Arguments {
    #[command(flatten)]
    configuration: Source,
}

/// Runs it.
///
/// # Errors
/// The service runs, the key is not the inventory's, or something cannot be written; the error says what to do.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = arguments.configuration.load()?;
    let place = MasterKeyPlace::here(&settings);
    let MasterKeyPlace::File(path) = &place else {
        bail!(
            "the master key is a systemd credential of this process, which cannot be changed from within: run this as root, \
             outside of the service (--master-key names its file)"
        );
    };
    if !SqliteStore::exists(&settings.data_dir) {
        bail!("there is no inventory in {}; `instance-connectd init` makes one", settings.data_dir.display());
    }
    // Finishes an earlier run that was interrupted.
    drop(settings.open_store()?);
    let current = place.read()?;
    // Where that could not be done, the file that is written next would be the only right key there is.
    drop(SqliteStore::open(&settings.data_dir, &current, Arc::new(SystemRandom))?);
    let mut bytes = Zeroizing::new([0; 32]);
    SystemRandom.fill(bytes.as_mut_slice());
    place.write_next(&bytes)?;
    kill_point("next-key-after");
    let new = place.read_next()?;
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    SqliteStore::rotate_master_key(&settings.data_dir, &current, &new, &random, SystemClock.wall())
        .with_context(|| format!("nothing was changed in {}", settings.data_dir.display()))?;
    kill_point("rotation-after");
    place.promote_next()?;
    let said = writeln!(
        std::io::stdout(),
        "{} is a new master key. Back it up, and apart from the inventory; backups of the inventory from before need the \
         old one.",
        path.display()
    );
    said.context("cannot write to standard output; the new key is in place")
}
