//! `instance-connectd config`: what is wrong with a configuration, and what one may say.

use super::written::Flags;
use super::{Source, describe};
use anyhow::Context as _;
use std::io::Write as _;
use std::path::PathBuf;

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say what is wrong with a configuration, each with its line, or "ok".
    Check {
        /// The configuration [default: /etc/instance-connect/instance-connectd.toml]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the JSON schema of the configuration, for editors.
    Schema,
    /// Print a configuration with every key, what it means and its default.
    Example,
}

/// Runs it.
///
/// # Errors
/// What is wrong with the configuration that was to be checked.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let text = match arguments.command {
        Command::Check { config } => {
            Source::of_file(config).load()?;
            "ok\n".to_owned()
        }
        Command::Schema => schema_text()?,
        Command::Example => describe::example(&Flags::new()),
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

/// The schema as it is published.
pub(super) fn schema_text() -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(&describe::schema())? + "\n")
}
