//! The inventory of an account as one file: read from the service (`export`), and the service brought to what it says
//! (`apply`). The file is TOML: comments survive review, an account id stays a text, nothing is an alias for something
//! else, and in its `'''` a policy stands as it is, ready to be copied from and to AWS.

mod apply;
mod arguments;
mod current;
mod document;
mod file;
mod offline;
mod plan;
mod write;

pub(crate) use arguments::{ApplyOptions, ExportOptions};
pub(crate) use offline::Offline;

use crate::arguments::ServiceOptions;
use crate::failure::Failure;
use crate::{output, service};
use instance_connect_core::inventory::InstanceState;

/// Prints the whole inventory.
pub(crate) async fn export(service: &ServiceOptions, _: &ExportOptions) -> Result<u8, Failure> {
    let client = service::administration(service)?;
    let mut current = current::read(&client).await?;
    // What is gone for good is nothing to bring about again.
    current.instances.retain(|_, instance| instance.state != InstanceState::Terminated);
    output::result(write::toml(&current).trim_end())?;
    Ok(0)
}

/// Shows what differs, asks, and changes it.
pub(crate) async fn apply(service: &ServiceOptions, options: &ApplyOptions) -> Result<u8, Failure> {
    apply::run(&service::administration(service)?, options).await
}
