//! What configuration is read from, besides files: the process's variables and the home directory, as a snapshot.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// A snapshot of the `AWS_…` variables and the home directory. Tests make their own.
#[derive(Clone, Default)]
pub struct Environment {
    variables: HashMap<OsString, OsString>,
    home: Option<PathBuf>,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let ours = |(name, _): &(OsString, OsString)| name.as_encoded_bytes().starts_with(b"AWS_");
        Self { variables: std::env::vars_os().filter(ours).collect(), home: std::env::home_dir() }
    }

    /// An environment with these variables and this home directory.
    pub fn new<Name, Value>(variables: impl IntoIterator<Item = (Name, Value)>, home: Option<PathBuf>) -> Self
    where
        Name: Into<OsString>,
        Value: Into<OsString>,
    {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables, home }
    }

    /// A variable's value as text; an empty one counts as unset.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_os(name)?.to_str()
    }

    /// The file that `variable` names, else `default` below the home directory. A leading `~` is the home directory.
    pub(crate) fn file(&self, variable: &str, default: &str) -> Option<PathBuf> {
        match self.get_os(variable) {
            Some(path) => Some(self.expand(Path::new(path))),
            None => Some(self.home.as_ref()?.join(default)),
        }
    }

    /// `path` with a leading `~` replaced by the home directory.
    pub(crate) fn expand(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => path.to_owned(),
        }
    }

    fn get_os(&self, name: &str) -> Option<&OsStr> {
        let value = self.variables.get(OsStr::new(name))?;
        (!value.is_empty()).then_some(value)
    }
}

/// Names only: one of the values is a secret key.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.variables.keys().collect();
        names.sort();
        f.debug_struct("Environment").field("variables", &names).field("home", &self.home).finish()
    }
}
