//! The command lines of `apply` and `export`.

use clap::Args;

/// Print the whole inventory of your account as a file for `apply`: users, groups, policies, instances, settings. No secret
/// is in it, and no access key
#[derive(Args)]
pub(crate) struct ExportOptions {}

/// What the file names becomes exactly as it says, tags and attachments included. What it does not name stays, unless
/// --prune is given. Access keys are never touched.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 when everything is as the file says, with --dry-run 2 when something would be changed; otherwise as ever.

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
