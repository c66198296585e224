//! The command lines of `apply` and `export`.

use clap::Args;

#[derive(Args)]
pub(crate) struct ExportOptions {}

#[derive(Args)]
#[command(after_help = "\
  instance-connect export > inventory.toml
  instance-connect apply -f inventory.toml --dry-run
  instance-connect apply -f inventory.toml")]
pub(crate) struct ApplyOptions {
    /// The inventory: a TOML file as `export` prints it, or `-` for standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: String,
    /// Delete groups and policies that the file does not name, suspend users and take everything from them, terminate
    /// instances
    #[arg(long)]
    pub(crate) prune: bool,
    /// Show what would be changed, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}
