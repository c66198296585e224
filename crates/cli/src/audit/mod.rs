//! The audit log, for people who look into it.

pub(crate) mod arguments;
mod files;
mod verify;

use crate::arguments::ServiceOptions;
use crate::failure::Failure;
use arguments::{Audit, AuditOptions};

/// Runs a command of `audit`.
pub(crate) async fn run(_service: &ServiceOptions, options: &AuditOptions) -> Result<u8, Failure> {
    let format = options.format.output;
    match &options.command {
        Audit::Verify(options) => verify::run(options, format),
    }
}
