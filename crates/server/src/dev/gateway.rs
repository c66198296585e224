//! The serial console's gateway of `dev`: a process of its own, as it is in service.

use super::directory::{Directory, open_log};
use super::machine::Programs;
use anyhow::{Context as _, bail};
use serde::Deserialize;
use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::UnixDatagram;
use tokio::process::Child;

/// Its log, below the directory.
pub(super) const LOG: &str = "console.log";

/// The control plane's socket for it, below the directory.
pub(super) const SOCKET: &str = "console.sock";

/// How long it may take from its start until it accepts connections.
const START_WAIT: Duration = Duration::from_secs(20);

/// A running gateway.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) listening: Listening,
    _process: Child,
}

/// Where people connect, and whom they should meet there: of the ready file of the gateway itself.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    pub(super) host_keys: Vec<String>,
}

impl Gateway {
    /// Starts it, and returns when it accepts connections.
    pub(super) async fn start(programs: &Programs, directory: &Directory) -> anyhow::Result<Self> {
        let below = |name: &str| directory.path().join(name);
        let (notify, ready) = (below("console-notify.sock"), below("console-ready.json"));
        let told = UnixDatagram::bind(&notify)?;
        let mut command = programs.command(&programs.console);
        command.arg("serve").arg("--socket").arg(below(SOCKET)).arg("--listen").arg("127.0.0.1:0");
        command.arg("--host-keys").arg(directory.subdirectory("console", 0o700)?);
        command.arg("--ready-file").arg(&ready).env("NOTIFY_SOCKET", &notify);
        command.stdin(Stdio::null()).stderr(open_log(&below(LOG))?).kill_on_drop(true);
        let mut process = command.spawn().context("cannot start the serial console's gateway")?;
        let mut message = [0; 64];
        let ended = tokio::select! {
            // It has one thing to say.
            said = told.recv(&mut message) => {
                said?;
                fs::remove_file(&notify)?;
                let listening = serde_json::from_slice(&fs::read(&ready)?)?;
                return Ok(Self { listening, _process: process });
            }
            status = process.wait() => format!("it ended ({})", status?),
            () = tokio::time::sleep(START_WAIT) => "it did not start in time".to_owned(),
        };
        let log = fs::read_to_string(below(LOG)).unwrap_or_default();
        bail!("the serial console's gateway: {ended}; its log says:\n{}", log.trim_end())
    }

    /// The host key that clients are shown first.
    pub(super) fn host_key(&self) -> &str {
        self.listening.host_keys.first().map_or("", String::as_str)
    }
}
