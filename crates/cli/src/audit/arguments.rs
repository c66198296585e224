//! The commands of `audit`.

use crate::administration::arguments::Format;
use clap::{Args, Subcommand};
use instance_connect_core::audit::ChainValue;
use std::path::PathBuf;

/// What was done with the service, and on the machines
#[derive(Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct AuditOptions {
    #[command(subcommand)]
    pub(crate) command: Audit,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Subcommand)]
pub(crate) enum Audit {
    /// Check files of a log, without the service: exits 0 if nobody has changed a line, and else 1
    Verify(VerifyOptions),
}

/// Whoever can write all files can also make the chain anew. Keep the newest value, which this prints, where they cannot
/// write, and give it to the next run with --expect: then neither what was changed before it nor what was cut off there goes unseen.
#[derive(Args)]
pub(crate) struct VerifyOptions {
    /// Files of one log, oldest first; or the directory of `audit.log` and its finished files
    #[arg(value_name = "FILE|DIRECTORY", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// There must be a line with this chain value
    #[arg(long, value_name = "VALUE")]
    pub(crate) expect: Option<ChainValue>,
    /// The line before the first one had this chain value
    #[arg(long, value_name = "VALUE")]
    pub(crate) after: Option<ChainValue>,
}
