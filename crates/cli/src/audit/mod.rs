//! The audit log, for people who look into it.

pub(crate) mod arguments;
mod files;
mod query;
mod verify;

use crate::arguments::ServiceOptions;
use crate::failure::Failure;
use arguments::{Audit, AuditOptions};

/// Runs a command of `audit`.
pub(crate) async fn run(service: &ServiceOptions, options: &AuditOptions) -> Result<u8, Failure> {
    let format = options.format.output;
    match &options.command {
        Audit::Verify(options) => verify::run(options, format),
        Audit::Query(options) => query::run(service, options, format).await,
        Audit::Tail(options) => query::tail(service, options, format).await,
    }
}
