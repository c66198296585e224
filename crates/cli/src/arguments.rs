//! The command line.

use crate::administration::arguments::Administration;
use crate::audit::arguments::AuditOptions;
use crate::failure::Exit;
use crate::inventory::{ApplyOptions, ExportOptions};
use crate::target::Target;
use crate::{output, public_key};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use instance_connect_core::ids::OsUser;
use instance_connect_core::ssh_key::holds_private_key;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes, as the AWS CLI has them:
  0    success
  252  a parameter is wrong
  253  the configuration or the credentials are missing or wrong
  254  the service refused
  255  anything else, such as no connection
`ssh` otherwise exits as ssh does, 255 included.";

const WHERE_FROM: &str = "\
What is not given is taken from where the AWS CLI takes it: AWS_PROFILE, AWS_REGION, AWS_DEFAULT_REGION, \
AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT, \
AWS_ENDPOINT_URL, AWS_CA_BUNDLE, AWS_MAX_ATTEMPTS, ~/.aws/config and ~/.aws/credentials, a profile's \
credential_process included.";

/// Push an SSH public key to a machine for 60 seconds, and log in with it.
#[derive(Parser)]
#[command(name = "instance-connect", version, after_help = EXIT_CODES, after_long_help = long_help())]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) service: ServiceOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Push an existing public key; for 60 seconds it opens the user's account
    SendKey(SendKeyOptions),
    /// Log in, or run a command, with a key made for this one time
    Ssh(SshOptions),
    /// Look at the audit log, and prove that nobody has changed it
    Audit(AuditOptions),
    /// Bring users, groups, policies, instances and settings to what one file says
    Apply(ApplyOptions),
    /// Print all of them as such a file
    Export(ExportOptions),
    #[command(flatten)]
    Administer(Administration),
}

/// Which service is called, and as whom.
#[derive(Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct ServiceOptions {
    /// Use this profile of the AWS files; keys in variables are then not looked at
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Use this region
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) region: Option<String>,
    /// Call the service at this URL
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) endpoint_url: Option<String>,
    /// Trust the certificate authorities in this PEM file instead of the system's
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_bundle: Option<PathBuf>,
    /// Allow plain http to another machine
    #[arg(long, global = true)]
    pub(crate) allow_plain_http: bool,
    /// Use the service that `instance-connectd dev --ready-file FILE` started: its URL and region, the addresses and host
    /// keys of its instances, and its administrator's key unless a profile or keys in variables are given
    #[arg(long, global = true, value_name = "FILE", env = "INSTANCE_CONNECT_READY_FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Show what is done on standard error, without secrets
    #[arg(long, global = true)]
    pub(crate) debug: bool,
}

#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct SendKeyOptions {
    /// The instance, and the user on it
    #[arg(value_name = "[USER@]INSTANCE")]
    pub(crate) target: Target,
    /// The public key: a file, `-` for standard input, or the key itself
    // A key in an SSH2 block begins with hyphens.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub(crate) ssh_public_key: String,
    /// The user on the instance [default: the ready file's, else ec2-user]
    #[arg(long, value_name = "NAME", visible_alias = "instance-os-user")]
    pub(crate) os_user: Option<OsUser>,
    /// The instance's availability zone, for older services that want it
    #[arg(long, value_name = "NAME")]
    pub(crate) availability_zone: Option<String>,
    /// A sentence, or the JSON that the AWS CLI prints
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: OutputFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    Text,
    Json,
}

/// Options come before the command; what follows `--` goes to ssh, options of ssh first.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct SshOptions {
    /// The instance, and the user on it
    #[arg(value_name = "[USER@]INSTANCE")]
    pub(crate) target: Target,
    /// The user on the instance [default: the ready file's, else ec2-user]
    #[arg(long, value_name = "NAME")]
    pub(crate) os_user: Option<OsUser>,
    /// The instance's address [default: the ready file's]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) host: Option<String>,
    /// The port its SSH server listens on [default: the ready file's, else 22]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// Trust the host keys in this file alone [default: the ready file's key, else those that the service has pinned, else
    /// your own known hosts]. An entry may name the instance id instead of the address. A key that is not known is never
    /// accepted
    #[arg(long, value_name = "FILE")]
    pub(crate) known_hosts: Option<PathBuf>,
    /// Print the ssh command, and neither push a key nor connect
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// A command to run there; options for ssh may stand before it when `--` comes first
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub(crate) rest: Vec<OsString>,
}

impl Arguments {
    /// Reads the command line. Help and mistakes are printed here, and become an exit code.
    pub(crate) fn read() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            if !asked_for
                && std::env::args_os().any(|argument| holds_private_key(&argument.to_string_lossy()))
            {
                // clap would repeat the word it did not expect.
                output::failure(&public_key::private_key("an argument", None));
            } else {
                output::command_line(&error);
            }
            if asked_for { ExitCode::SUCCESS } else { ExitCode::from(Exit::Parameter as u8) }
        })
    }
}

fn long_help() -> String {
    format!("{WHERE_FROM}\n\n{EXIT_CODES}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    /// Also what `packaging/build` runs to get the files.
    #[test]
    fn pages() -> std::io::Result<()> {
        instance_connect_pages::write(Arguments::command(), "1")
    }
}
