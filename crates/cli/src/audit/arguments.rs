//! The commands of `audit`.

use crate::administration::arguments::Format;
use clap::{Args, Subcommand};
use instance_connect_core::audit::{ChainValue, parse_time};
use instance_connect_core::document::UnixSeconds;
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
    ///
    /// Whoever can write all files can also make the chain anew. Keep the newest value, which this prints, where they cannot write, and
    /// give it to the next run with --expect: then neither what was changed before it nor what was cut off there goes unseen.
    Verify(VerifyOptions),
    /// Show what has happened, newest first: in your account, or by principals of the management account in all
    Query(QueryOptions),
    /// Show what has happened last, and with --follow what happens from then on
    Tail(TailOptions),
}

/// Which events are meant: those that fit in every respect that is given.
#[derive(Args)]
pub(crate) struct Filter {
    /// Such as SendSSHPublicKey, KeyOffered, SessionOpened, KeyExpiredUnused
    #[arg(long, value_name = "NAME")]
    pub(crate) event_name: Option<String>,
    /// Of this user
    #[arg(long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Signed with this access key
    #[arg(long, value_name = "ID")]
    pub(crate) access_key_id: Option<String>,
    /// About this instance, user, group or policy
    #[arg(long, value_name = "NAME", visible_alias = "instance")]
    pub(crate) resource_name: Option<String>,
    /// Of this request: a push, and all that became of its key
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,
    /// This event
    #[arg(long, value_name = "ID")]
    pub(crate) event_id: Option<String>,
    /// In these files of a log, or in the directory of `audit.log`, without the service
    #[arg(long = "file", value_name = "FILE|DIRECTORY")]
    pub(crate) files: Vec<PathBuf>,
}

/// Which past events are shown.
#[derive(Args)]
pub(crate) struct QueryOptions {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// Not before this time, such as 2031-02-11T02:05:06Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) start_time: Option<UnixSeconds>,
    /// Not after this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) end_time: Option<UnixSeconds>,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_items: u32,
}

/// Which events are shown as they come.
#[derive(Args)]
pub(crate) struct TailOptions {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// So many of the past
    #[arg(long, short = 'n', value_name = "NUMBER", default_value = "10")]
    pub(crate) lines: u32,
    /// Ask for more every 2 seconds, until it is stopped. Each time is a request of its own, which is on record too
    #[arg(long, short)]
    pub(crate) follow: bool,
}

fn time(text: &str) -> Result<UnixSeconds, String> {
    parse_time(text).ok_or_else(|| "a time is written like 2031-02-11T02:05:06Z".to_owned())
}

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
