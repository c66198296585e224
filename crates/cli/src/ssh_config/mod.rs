//! `ssh-config`: plain ssh, and everything that runs it, reaches instances by id or name. A file of our own beside the user's
//! configuration says how; one line at the very beginning of that includes it.

mod include;
mod text;

pub(crate) use text::HostPattern;

use crate::arguments::{ServiceOptions, SshConfig, SshConfigFile, SshConfigOptions};
use crate::failure::{Exit, Failure};
use crate::machine::SUFFIX;
use crate::output;
use crate::ssh::proxy::remove_agents;
use include::{include, is_included, leave_out, own_file, write_own_file};
use instance_connect_core::printable::printable;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use text::Text;

/// Names beside the user's configuration: our file, and the directory of the agents' sockets.
const FILE: &str = "instance-connect.config";
const AGENTS: &str = "instance-connect";

/// Where everything is.
struct Place {
    /// The user's configuration.
    config: PathBuf,
    /// Ours.
    file: PathBuf,
    agents: PathBuf,
}

impl Place {
    fn find(options: &SshConfigFile) -> Result<Self, Failure> {
        let config = match &options.config {
            Some(config) => absolute(config)?,
            None => std::env::home_dir()
                .filter(|home| home.is_absolute())
                .map(|home| home.join(".ssh/config"))
                .ok_or_else(|| {
                    Failure::new(Exit::General, "there is no home directory")
                        .hint("name a file with --config")
                })?,
        };
        let Some(directory) = config.parent() else {
            return Err(Failure::new(Exit::Parameter, format!("{} is no file", config.display())));
        };
        Ok(Self { file: directory.join(FILE), agents: directory.join(AGENTS), config })
    }

    /// Where the sockets are. A directory that was named stays: it may be for more than that.
    fn agents_of(&self, options: &SshConfigOptions) -> Result<PathBuf, Failure> {
        options.agents.as_deref().map_or_else(|| Ok(self.agents.clone()), absolute)
    }
}

pub(crate) fn run(service: &ServiceOptions, command: &SshConfig) -> Result<u8, Failure> {
    match command {
        SshConfig::Install(options) => install(service, options, &Place::find(&options.file)?)?,
        SshConfig::Remove(options) => remove(&Place::find(options)?)?,
        SshConfig::Print(options) => {
            let place = Place::find(&options.file)?;
            output::result(Text::new(service, options, &place.agents_of(options)?)?.0.trim_end())?;
        }
    }
    Ok(0)
}

fn install(service: &ServiceOptions, options: &SshConfigOptions, place: &Place) -> Result<(), Failure> {
    let text = Text::new(service, options, &place.agents_of(options)?)?;
    // Looked at before anything is written.
    let is_included = is_included(&place.config, &place.file)?;
    is_understood(&text)?;
    write_own_file(&place.file, &text.0)?;
    if !is_included {
        include(&place.config, &place.file)?;
    }
    let names = options.names.iter().map(|name| format!(", ssh {name}"));
    output::result(&format!(
        "{} includes {}: ssh i-…, ssh NAME{SUFFIX}{} reach instances, and so do scp, sftp and rsync",
        place.config.display(),
        place.file.display(),
        names.collect::<String>()
    ))
}

/// Asks the ssh that is here whether it understands the text: over a word that it does not know it would refuse every host.
fn is_understood(text: &Text) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| Failure::new(Exit::General, format!("cannot ask ssh: {error}"));
    let mut file = tempfile::NamedTempFile::new().map_err(cannot)?;
    file.write_all(text.0.as_bytes()).map_err(cannot)?;
    let asked = Command::new("ssh").arg("-G").arg("-F").arg(file.path()).arg("--").arg("any.host").output();
    let answer = asked.map_err(cannot)?;
    if answer.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&answer.stderr);
    let message =
        format!("this ssh does not understand it, so nothing was written: {}", printable(said.trim()));
    Err(Failure::new(Exit::General, message).hint("OpenSSH 8.5 or newer is needed: ssh -V tells which it is"))
}

fn remove(place: &Place) -> Result<(), Failure> {
    let was_there = own_file(&place.file)?;
    let was_included = leave_out(&place.config, &place.file)?;
    if was_there {
        let removed = std::fs::remove_file(&place.file);
        removed.map_err(|error| {
            Failure::new(Exit::General, format!("cannot remove {}: {error}", place.file.display()))
        })?;
    }
    remove_agents(&place.agents);
    let config = place.config.display();
    let done =
        if was_included { "includes nothing of ours any more" } else { "did not include anything of ours" };
    output::result(&format!("{config} {done}"))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::new(Exit::Parameter, format!("{}: {error}", path.display())))
}
