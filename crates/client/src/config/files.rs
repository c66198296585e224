//! The shared config and credentials files, and the profile chosen from them.

use super::ini::{Section, Text, nested, parse, second_word};
use crate::environment::Environment;
use crate::error::Error;
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

/// The largest file read. Real ones are a few KiB; a device or a log file named by mistake must not fill the memory.
const LARGEST_FILE: u64 = 1024 * 1024;

/// What the two files hold.
#[derive(Default)]
pub(super) struct Files {
    /// Where the config file is, for messages.
    pub(super) config_path: Option<PathBuf>,
    /// Where the credentials file is, for messages.
    pub(super) credentials_path: Option<PathBuf>,
    /// The profiles of the config file by name.
    config: HashMap<String, Section>,
    /// The sections of the credentials file by name.
    credentials: HashMap<String, Section>,
    /// The `services` sections of the config file by name.
    services: HashMap<String, Section>,
}

/// One profile's settings from both files. What the credentials file says comes first.
#[derive(Clone, Copy, Default)]
pub(super) struct Profile<'a> {
    /// From the config file.
    pub(super) config: Option<&'a Section>,
    /// From the credentials file.
    pub(super) credentials: Option<&'a Section>,
}

impl Files {
    /// Reads both files; one that does not exist is an empty one.
    pub(super) fn read(environment: &Environment) -> Result<Self, Error> {
        let mut files = Self {
            config_path: environment.file("AWS_CONFIG_FILE", ".aws/config"),
            credentials_path: environment.file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
            ..Self::default()
        };
        for (name, section) in sections(files.config_path.as_deref())? {
            // Any first word with this beginning is taken, as botocore does.
            if name == "default" {
                files.config.insert(name, section);
            } else if name.starts_with("profile") {
                files.config.extend(second_word(&name).map(|name| (name, section)));
            } else if name.starts_with("services") {
                files.services.extend(second_word(&name).map(|name| (name, section)));
            }
        }
        files.credentials = sections(files.credentials_path.as_deref())?.into_iter().collect();
        Ok(files)
    }

    /// The profile `name`, `None` when neither file has it.
    pub(super) fn profile(&self, name: &str) -> Option<Profile<'_>> {
        let profile = Profile { config: self.config.get(name), credentials: self.credentials.get(name) };
        (profile.config.is_some() || profile.credentials.is_some()).then_some(profile)
    }

    /// `endpoint_url` of `service` in the `services` section that the profile names.
    pub(super) fn service_endpoint(
        &self,
        profile: Profile<'_>,
        service: &str,
    ) -> Result<Option<String>, Error> {
        let Some(name) = profile.get("services") else { return Ok(None) };
        let Some(section) = self.services.get(name) else {
            return Err(Error::Configuration(format!(
                "the profile uses the services section {name:?}, which does not exist in {}",
                shown(self.config_path.as_deref()),
            )));
        };
        let Some(settings) = section.get(service) else { return Ok(None) };
        let Some(Ok(mut settings)) = nested(settings) else {
            return Err(Error::Configuration(format!(
                "{service} in the services section {name:?} must be followed by indented lines of key = value"
            )));
        };
        let url = settings.remove("endpoint_url").filter(|url| !url.is_empty());
        Ok(url.map(|url| url.to_string()))
    }
}

impl<'a> Profile<'a> {
    /// A setting; an empty one counts as unset.
    pub(super) fn get(self, key: &str) -> Option<&'a str> {
        let found = |section: Option<&'a Section>| Some(section?.get(key)?.as_str());
        found(self.credentials).or_else(|| found(self.config)).filter(|value| !value.is_empty())
    }
}

fn sections(path: Option<&Path>) -> Result<super::ini::Sections, Error> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let refuse = |why: String| Error::Configuration(format!("{}: {why}", path.display()));
    let Some(text) = read_bounded(path).map_err(refuse)? else { return Ok(Vec::new()) };
    parse(&text).map_err(refuse)
}

/// The text of a file, `None` when it does not exist.
fn read_bounded(path: &Path) -> Result<Option<Text>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    };
    let mut text = Text::default();
    match file.take(LARGEST_FILE + 1).read_to_string(&mut text) {
        Err(error) if error.kind() == ErrorKind::IsADirectory => Ok(None),
        Err(error) => Err(error.to_string()),
        Ok(_) if text.len() as u64 > LARGEST_FILE => Err(format!("larger than {LARGEST_FILE} bytes")),
        Ok(_) => Ok(Some(text)),
    }
}

/// A path for a message.
pub(super) fn shown(path: Option<&Path>) -> String {
    path.map_or_else(|| "(no home directory)".to_owned(), |path| path.display().to_string())
}
