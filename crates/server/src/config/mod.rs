//! The configuration of a control plane: one TOML file, with a flag for each of its keys over it, parsed once into
//! `Settings`.

mod commands;
mod describe;
mod key;
mod keys;
mod settings;
#[cfg(test)]
mod tests;
mod written;

pub use commands::{Arguments, run};
pub(crate) use key::{LogFormat, LogLevel};
pub(crate) use settings::{Settings, Transport};

use clap::{Arg, ArgMatches, Command, FromArgMatches};
use key::{Definition, Key, Value};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use written::{Flags, Place, Problem, WrittenKeys};

/// Where the configuration is, unless it is said.
pub(crate) const DEFAULT_FILE: &str = "/etc/instance-connect/instance-connectd.toml";

/// Bytes of a configuration file.
const FILE_BYTES: u64 = 64 * 1024;

/// The arguments that say what the configuration is: the file, and flags over it.
#[derive(Clone, Debug, Default)]
pub struct Source {
    file: Option<PathBuf>,
    flags: Flags,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    file: PathBuf,
    problems: Vec<Problem>,
}

impl Source {
    /// A file without any flags.
    pub(crate) fn of_file(file: Option<PathBuf>) -> Self {
        Self { file, flags: Flags::new() }
    }

    /// The file.
    pub(crate) fn file(&self) -> &Path {
        self.file.as_deref().unwrap_or_else(|| Path::new(DEFAULT_FILE))
    }

    /// Whether anything is said in flags.
    pub(crate) fn has_flags(&self) -> bool {
        !self.flags.is_empty()
    }

    /// The text of a file that says what the flags say, and describes all other keys.
    ///
    /// # Errors
    /// What is wrong with that.
    pub(crate) fn as_file(&self) -> Result<String, Invalid> {
        let text = describe::example(&self.flags);
        self.parse(&text).map(|_| text)
    }

    /// Reads and parses all of it.
    ///
    /// # Errors
    /// The file cannot be read, or [`Invalid`] with everything that is wrong with it.
    pub(crate) fn load(&self) -> anyhow::Result<Settings> {
        let file = self.file();
        let mut text = String::new();
        let read = File::open(file).and_then(|opened| opened.take(FILE_BYTES + 1).read_to_string(&mut text));
        match read {
            Ok(bytes) if bytes as u64 > FILE_BYTES => {
                anyhow::bail!("{} has more than {FILE_BYTES} bytes", file.display())
            }
            Ok(_) => Ok(self.parse(&text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => anyhow::bail!(
                "there is no configuration {}: `instance-connectd init` writes one, --config names another",
                file.display()
            ),
            Err(error) => Err(anyhow::Error::new(error).context(format!("cannot read {}", file.display()))),
        }
    }

    /// Parses the text of the file, and the flags over it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn parse(&self, text: &str) -> Result<Settings, Invalid> {
        let mut problems = Vec::new();
        let file = written::read_file(text, &mut problems);
        let settings = file.and_then(|mut written| {
            written::read_flags(&self.flags, &mut written, &mut problems);
            let directory = self.file().parent().unwrap_or_else(|| Path::new(""));
            Settings::read(&mut Keys { written, directory, problems: &mut problems })
        });
        match settings {
            Some(settings) if problems.is_empty() => Ok(settings),
            Some(_) | None => {
                problems.sort();
                Err(Invalid { file: self.file().to_owned(), problems })
            }
        }
    }
}

impl std::error::Error for Invalid {}

/// A line for each problem: `FILE:LINE: what is wrong`.
impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        for (index, Problem { place, message }) in self.problems.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "\n" })?;
            match place {
                Place::Line(line) => write!(f, "{file}:{line}: {message}")?,
                Place::Flag => f.write_str(message)?,
                Place::Nowhere => write!(f, "{file}: {message}")?,
            }
        }
        Ok(())
    }
}

/// What is written for the keys, while it is being parsed.
struct Keys<'a> {
    written: WrittenKeys,
    /// The file's directory.
    directory: &'a Path,
    problems: &'a mut Vec<Problem>,
}

impl Keys<'_> {
    /// The value of a key that has a default. `None` when it is wrong, which has been noted.
    fn get<T: Value>(&mut self, key: &Key<T>) -> Option<T> {
        match self.get_optional(key)? {
            Some(value) => Some(value),
            None => self.parsed(key, &key.definition.default_texts()),
        }
    }

    /// The value of a key that may be left out. `Some(None)` without one, `None` when it is wrong.
    fn get_optional<T: Value>(&mut self, key: &Key<T>) -> Option<Option<T>> {
        let Some(written) = self.written.get(key.definition.path) else { return Some(None) };
        let texts = written.as_ref()?.texts.clone();
        self.parsed(key, &texts).map(Some)
    }

    /// The path that is written for a key. In the file it is relative to the file's directory, in a flag to the current
    /// one.
    fn path(&mut self, key: &Key<PathBuf>) -> Option<PathBuf> {
        let path = self.get(key)?;
        Some(self.absolute(key, &path))
    }

    /// The same of a key that may be left out.
    fn optional_path(&mut self, key: &Key<PathBuf>) -> Option<Option<PathBuf>> {
        let path = self.get_optional(key)?;
        Some(path.map(|path| self.absolute(key, &path)))
    }

    fn absolute(&self, key: &Key<PathBuf>, path: &Path) -> PathBuf {
        match self.place(key) {
            Place::Line(_) => self.directory.join(path),
            Place::Flag | Place::Nowhere => path.to_owned(),
        }
    }

    /// Where a key is written.
    fn place<T>(&self, key: &Key<T>) -> Place {
        let written = self.written.get(key.definition.path).and_then(Option::as_ref);
        written.map_or(Place::Nowhere, |written| written.place)
    }

    /// Notes what is wrong about a key, with its name before it.
    fn refuse<T>(&mut self, key: &Key<T>, message: &str) {
        let place = self.place(key);
        let name = match place {
            Place::Flag => format!("--{}", key.definition.flag()),
            Place::Line(_) | Place::Nowhere => key.definition.path.to_owned(),
        };
        self.problems.push(Problem { place, message: format!("{name}: {message}") });
    }

    fn parsed<T: Value>(&mut self, key: &Key<T>, texts: &[String]) -> Option<T> {
        T::parse(texts).map_err(|message| self.refuse(key, &message)).ok()
    }
}

/// `--config`, and a flag for each key.
impl clap::Args for Source {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help(format!("The configuration [default: {DEFAULT_FILE}]"));
        let flags = keys::ALL.iter().map(|definition| {
            Arg::new(definition.path)
                .long(definition.flag())
                .value_name(definition.value_name)
                .help(describe::help(definition))
                .help_heading("Settings, over what the configuration says")
        });
        command.arg(config).args(flags)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Source {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flag = |definition: &&'static Definition| {
            Some((*definition, matches.get_one::<String>(definition.path)?.clone()))
        };
        Ok(Self {
            file: matches.get_one::<PathBuf>("config").cloned(),
            flags: keys::ALL.iter().filter_map(flag).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
