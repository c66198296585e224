//! The ready file of `instance-connectd dev`: where a service on this machine is, who may call it, and its instances.

use crate::failure::{Exit, Failure};
use instance_connect_client::{Credentials, Secret};
use instance_connect_core::ids::{InstanceId, OsUser};
use serde::Deserialize;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The version of the file that is understood.
const SCHEMA: u32 = 1;

/// The largest file read: a thousand instances take about half of it.
const LARGEST_FILE: u64 = 1024 * 1024;

/// What commands need of it.
#[derive(Deserialize)]
pub(crate) struct ReadyFile {
    schema: u32,
    pub(crate) endpoint_url: String,
    pub(crate) region: String,
    admin: Option<Keys>,
    /// A service without one has none.
    pub(crate) serial_console: Option<SerialConsole>,
    #[serde(default)]
    instances: Vec<Entry>,
}

#[derive(Deserialize)]
struct Keys {
    access_key_id: String,
    secret_access_key: String,
}

/// The gateway of the serial lines.
#[derive(Deserialize)]
pub(crate) struct SerialConsole {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) host_key: String,
}

/// One instance and how it is reached.
#[derive(Deserialize)]
pub(crate) struct Entry {
    instance_id: String,
    os_user: Option<String>,
    pub(crate) ssh_host: Option<String>,
    pub(crate) ssh_port: Option<u16>,
    pub(crate) host_key: Option<String>,
    pub(crate) known_hosts: Option<PathBuf>,
}

impl ReadyFile {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let refuse = |why: String| {
            Failure::new(Exit::Configuration, format!("ready file {}: {why}", path.display())).hint(
                "`instance-connectd dev --ready-file FILE` writes it when everything accepts connections",
            )
        };
        let mut text = Zeroizing::new(String::new());
        let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
        file.take(LARGEST_FILE).read_to_string(&mut text).map_err(|error| refuse(error.to_string()))?;
        // The position only: the reason may quote a value, and one of them is a secret.
        let file: Self = serde_json::from_str(&text)
            .map_err(|error| refuse(format!("line {} is not what it should be", error.line())))?;
        if file.schema != SCHEMA {
            return Err(refuse(format!("schema {}, where this program knows {SCHEMA}", file.schema)));
        }
        Ok(file)
    }

    /// The administrator's key.
    pub(crate) fn administrator(&mut self) -> Option<Credentials> {
        let Keys { access_key_id, secret_access_key } = self.admin.take()?;
        let secret_access_key = Secret::new(secret_access_key.into_bytes());
        Some(Credentials { access_key_id, secret_access_key, session_token: None })
    }

    /// The entry of an instance.
    pub(crate) fn instance(&self, id: &InstanceId) -> Option<&Entry> {
        self.instances.iter().find(|entry| entry.instance_id == id.as_str())
    }

    /// The ids it has, for a message.
    pub(crate) fn ids(&self) -> String {
        let ids: Vec<&str> = self.instances.iter().map(|entry| entry.instance_id.as_str()).collect();
        if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
    }
}

impl Entry {
    /// The user it is meant for.
    pub(crate) fn user(&self) -> Option<OsUser> {
        self.os_user.as_deref()?.parse().ok()
    }
}
