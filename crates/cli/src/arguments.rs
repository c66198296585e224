//! The command line.

use crate::administration::arguments::Administration;
use crate::audit::arguments::AuditOptions;
use crate::console::arguments::ConsoleOptions;
use crate::failure::Exit;
use crate::instances::arguments::{AnsibleOptions, InstancesOptions};
use crate::inventory::{ApplyOptions, ExportOptions};
use crate::machine::Address;
use crate::ssh_config::HostPattern;
use crate::target::Target;
use crate::{output, public_key};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use instance_connect_core::ids::OsUser;
use instance_connect_core::ssh_key::holds_private_key;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// The one table of them: every command's help has it, and docs/command-line.md.
const EXIT_CODES: &str = "\
Exit codes, as the AWS CLI has them:
  0    done
  1    `policy test`: the push would be refused; `audit verify`: the log is not as it was written
  2    `apply --dry-run`: something would be changed
  252  a parameter is wrong
  253  the configuration or the credentials are missing or wrong
  254  the service refused
  255  anything else, such as no connection
`ssh`, `sftp` and `console`, which runs ssh, otherwise exit as those programs do, 255 included; what a signal ends exits with 128 and its number.";

const WHERE_FROM: &str = "\
What is not given is taken from where the AWS CLI takes it: AWS_PROFILE, AWS_REGION, AWS_DEFAULT_REGION, \
AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT, \
AWS_ENDPOINT_URL_EC2 (to find instances), AWS_ENDPOINT_URL_STS (for whoami), AWS_ENDPOINT_URL, AWS_CA_BUNDLE, \
AWS_MAX_ATTEMPTS, ~/.aws/config and ~/.aws/credentials, a profile's credential_process included. A profile that assumes a \
role or signs in by SSO or `aws login` takes the AWS CLI, version 2, which is asked for its credentials.";

/// Push an SSH public key to a machine for 60 seconds, and log in with it.
#[derive(Parser)]
#[command(name = "instance-connect", version)]
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
    ///
    /// Options come before the command; what follows `--` goes to ssh, options of it first.
    Ssh(SshOptions),
    /// Copy files to and fro with sftp, with a key made for this one time
    ///
    /// What follows `--` goes to sftp, such as `-b FILE`.
    Sftp(SftpOptions),
    /// Attach to an instance's serial console, which works without a network of the instance's
    ///
    /// A key is made for this one time and pushed, and ssh leads to the gateway of the serial lines, which says how to leave and how to send a
    /// BREAK. One person writes at a time; others can look on.
    Console(ConsoleOptions),
    /// List instances, with their names, states and addresses
    ///
    /// Asks EC2's DescribeInstances, page by page. What is shown fits in every respect that is given.
    Instances(InstancesOptions),
    /// Say whose credentials are used, where they are from, and which service they are shown to
    ///
    /// Asks GetCallerIdentity of STS, which needs no permission. No secret is shown.
    Whoami(WhoamiOptions),
    /// Make plain ssh, scp, sftp, rsync, Ansible and editors reach instances by id or name
    #[command(subcommand)]
    SshConfig(SshConfig),
    /// Connect ssh to an instance, with a key made for this one time; for ssh's ProxyCommand, as `ssh-config` writes it
    Proxy(ProxyOptions),
    /// Tell ssh the host keys of the instance that `proxy` connects it to; for ssh's KnownHostsCommand
    KnownHosts(KnownHostsOptions),
    /// Be an inventory of Ansible's: instances in groups by tag, zone and state
    ///
    /// Prints what Ansible asks an inventory script for. Ansible is given a script of two lines that runs this with "$@".
    AnsibleInventory(AnsibleOptions),
    /// Look at the audit log, and prove that nobody has changed it
    Audit(AuditOptions),
    /// Bring users, groups, policies, instances and settings to what one file says
    ///
    /// What the file names becomes exactly as it says, tags and attachments included. What it does not name stays, unless --prune is
    /// given. Access keys are never touched.
    Apply(ApplyOptions),
    /// Print all of them as such a file
    ///
    /// It is the whole inventory of your account. No secret is in it, and no access key.
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
    /// keys of its instances, and its administrator's key unless a profile or keys in variables are given [env: INSTANCE_CONNECT_READY_FILE]
    // Not by clap: what `ssh-config` writes for good is what was named on its command line.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Show what is done on standard error, without secrets
    #[arg(long, global = true)]
    pub(crate) debug: bool,
}

#[derive(Args)]
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

/// How a list is shown.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    Table,
    Json,
    Text,
}

#[derive(Args)]
pub(crate) struct WhoamiOptions {
    /// Lines for people, JSON with STS's names, or as the AWS CLI: account, ARN and user id behind tabs
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: ListFormat,
}

#[derive(Args)]
pub(crate) struct SshOptions {
    #[command(flatten)]
    pub(crate) login: LoginOptions,
    /// A command to run there; options for ssh may stand before it when `--` comes first
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub(crate) rest: Vec<OsString>,
}

#[derive(Args)]
pub(crate) struct SftpOptions {
    #[command(flatten)]
    pub(crate) login: LoginOptions,
    /// Options for sftp
    #[arg(value_name = "OPTION", last = true)]
    pub(crate) rest: Vec<OsString>,
}

/// Who logs in where.
#[derive(Args)]
pub(crate) struct LoginOptions {
    /// The instance, and the user on it
    #[arg(value_name = "[USER@]INSTANCE")]
    pub(crate) target: Target,
    /// The user on the instance [default: the ready file's, else ec2-user]
    #[arg(long, value_name = "NAME")]
    pub(crate) os_user: Option<OsUser>,
    /// The instance's address [default: the ready file's, else as EC2's DescribeInstances says]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) host: Option<String>,
    /// Which of the addresses that DescribeInstances says
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub(crate) address: Address,
    /// The port its SSH server listens on [default: the ready file's, else 22]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// Trust the host keys in this file alone [default: the ready file's key, else those that the service has pinned, else
    /// your own known hosts]. An entry may name the instance id instead of the address. A key that is not known is never
    /// accepted
    #[arg(long, value_name = "FILE")]
    pub(crate) known_hosts: Option<PathBuf>,
    /// Print the command that would be run, and neither push a key nor connect. The service may be asked for the address
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Subcommand)]
pub(crate) enum SshConfig {
    /// Write the configuration beside yours, and let yours include it
    ///
    /// Options of the service that are given here are written down: --profile, --region, --endpoint-url, --ca-bundle,
    /// --allow-plain-http and --ready-file.
    Install(SshConfigOptions),
    /// Take both away again
    Remove(SshConfigFile),
    /// Print the configuration, to be included where you want it
    ///
    /// Options of the service are in it, as with `install`.
    Print(SshConfigOptions),
}

#[derive(Args)]
pub(crate) struct SshConfigFile {
    /// The configuration of ssh that includes it [default: ~/.ssh/config]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct SshConfigOptions {
    #[command(flatten)]
    pub(crate) file: SshConfigFile,
    /// Log in as this user unless ssh is told another on its command line [default: as ssh does, from your own
    /// configuration]
    #[arg(long, value_name = "NAME")]
    pub(crate) os_user: Option<OsUser>,
    /// Reach instances of such names without `.ec2` behind them; `*` and `?` stand for any characters. May be given several
    /// times
    #[arg(long = "name", value_name = "PATTERN")]
    pub(crate) names: Vec<HostPattern>,
    /// Which of an instance's addresses is connected to
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub(crate) address: Address,
    /// The directory for the sockets through which ssh reaches keys; it is yours alone, and its path short [default:
    /// instance-connect, beside the configuration]
    #[arg(long, value_name = "DIR")]
    pub(crate) agents: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ProxyOptions {
    /// An instance id, or a name with or without `.ec2` behind it (ssh's %h)
    // Not parsed here: what is wrong with it is better said without clap's words.
    #[arg(value_name = "HOST")]
    pub(crate) host: String,
    /// The port; for 22 the ready file's (ssh's %p)
    #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// The user on the instance (ssh's %r)
    #[arg(value_name = "USER")]
    pub(crate) user: OsUser,
    /// The directory of ssh's IdentityAgent, which is DIR/HOST
    #[arg(long, value_name = "DIR")]
    pub(crate) agents: PathBuf,
    /// HOST before ssh has made its letters small (ssh's %n)
    #[arg(long, value_name = "HOST", allow_hyphen_values = true)]
    pub(crate) typed: Option<String>,
    /// Which of the instance's addresses is connected to
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub(crate) address: Address,
}

#[derive(Args)]
pub(crate) struct KnownHostsOptions {
    /// The host that `proxy` was given (ssh's %h)
    #[arg(value_name = "HOST")]
    pub(crate) host: String,
    /// The name by which ssh knows the host (ssh's %H)
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The type of the key by which it proves itself, or NONE (ssh's %t)
    #[arg(value_name = "TYPE")]
    pub(crate) key_type: String,
    /// The key (ssh's %K)
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// The directory that `proxy` was given
    #[arg(long, value_name = "DIR")]
    pub(crate) agents: PathBuf,
}

impl Arguments {
    /// Reads the command line. Help and mistakes are printed here, and become an exit code.
    pub(crate) fn read() -> Result<Self, ExitCode> {
        let matches = command().try_get_matches();
        matches.and_then(|matches| Self::from_arg_matches(&matches)).map_err(|error| {
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

/// The command line with the exit codes in the help of each command.
fn command() -> clap::Command {
    with_exit_codes(Arguments::command()).after_long_help(format!("{WHERE_FROM}\n\n{EXIT_CODES}"))
}

fn with_exit_codes(command: clap::Command) -> clap::Command {
    let help = match command.get_after_help() {
        Some(own) => format!("{own}\n\n{EXIT_CODES}"),
        None => EXIT_CODES.to_owned(),
    };
    command.after_help(help).mut_subcommands(with_exit_codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also what `packaging/build` runs to get the files.
    #[test]
    fn pages() -> std::io::Result<()> {
        instance_connect_pages::write(command(), "1")
    }

    #[test]
    fn the_documents_have_the_table_of_exit_codes() {
        assert!(include_str!("../../../docs/command-line.md").contains(EXIT_CODES));
    }
}
