//! What is known about the machine's sshd: what its files say, what its service adds to them, and what it makes of both.

mod config;
mod effective;
mod program;
mod unit;

pub(crate) use config::{Setting, matches, read_config, words};
pub(crate) use effective::Effective;
pub(crate) use program::Sshd;
pub(crate) use unit::{UNIT_DIRECTORIES, UNITS, UnitOptions, read_unit_options};

/// sshd's configuration, and where distributions keep it that leave `/etc` to the administrator.
pub(crate) const CONFIGS: [&str; 2] = ["/etc/ssh/sshd_config", "/usr/etc/ssh/sshd_config"];

/// The keywords by which sshd asks a command for keys, as `sshd -T` spells them.
pub(crate) const COMMAND: &str = "authorizedkeyscommand";
pub(crate) const COMMAND_USER: &str = "authorizedkeyscommanduser";
