//! Asking sshd what it thinks of its configuration.

use super::{Effective, UnitOptions};
use crate::root::Root;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Output;

/// The machine's sshd.
#[derive(Clone, Debug)]
pub(crate) struct Sshd {
    root: Root,
    /// By its path in that system.
    pub(crate) program: PathBuf,
}

impl Sshd {
    /// Finds it.
    pub(crate) fn find(root: &Root) -> Option<Self> {
        root.program("sshd").map(|program| Self { root: root.clone(), program })
    }

    /// Lets it check its configuration and host keys.
    ///
    /// # Errors
    /// What it says is wrong.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.ask(&["-t"], None).map(drop)
    }

    /// What holds for a login of this user, from this machine itself; `options` are those of its service.
    ///
    /// # Errors
    /// What it says is wrong.
    pub(crate) fn effective(&self, user: &str, options: Option<&UnitOptions>) -> Result<Effective, String> {
        // Old versions refuse a configuration with Match unless they are told all of these.
        let login = format!("user={user},host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22");
        let output = self.ask(&["-T", "-C", &login], options)?;
        Ok(Effective::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    fn ask(&self, arguments: &[&str], options: Option<&UnitOptions>) -> Result<Output, String> {
        let options = options.map(UnitOptions::arguments).unwrap_or_default();
        let mut arguments = arguments.to_vec();
        arguments.extend(options.iter().map(String::as_str));
        let run = || self.root.run(&self.program, &arguments, "");
        let output = run().and_then(|output| match missing_directory(&output) {
            // Its service makes it, and where that does not run yet there is none: such as in an image.
            Some(directory) => {
                let directory = self.root.writable_path(directory)?;
                fs::create_dir(&directory)?;
                fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
                let output = run();
                fs::remove_dir(directory)?;
                output
            }
            None => Ok(output),
        });
        let output =
            output.map_err(|error| format!("{} cannot be asked: {error}", self.program.display()))?;
        if output.status.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(if said.is_empty() { output.status.to_string() } else { said })
    }
}

/// The directory that sshd insists on before it says anything.
fn missing_directory(output: &Output) -> Option<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let (_, rest) = said.split_once("Missing privilege separation directory: ")?;
    Some(rest.lines().next()?.trim().to_owned())
}
