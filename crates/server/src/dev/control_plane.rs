//! The control plane of `dev`: a process of its own, as it is in service, so that it can end while the rest goes on.

use super::RESTART_PAUSE;
use super::directory::{Directory, open_log};
use crate::control_plane::Listening;
use anyhow::{Context as _, anyhow};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Its log, below the directory.
pub(super) const LOG: &str = "control-plane.log";

/// How long it may take from its start until it accepts connections.
const START_WAIT: Duration = Duration::from_secs(20);

/// How many times in a row starting it again may fail. Its port may be somebody's for a moment.
const FAILED_STARTS: usize = 100;

/// Bytes of the line that says where it listens.
const LISTENING_BYTES: u64 = 4096;

/// Bytes of its log that are shown when it has ended.
const LAST_WORDS: u64 = 4096;

/// A running control plane.
#[derive(Debug)]
pub(super) struct ControlPlane {
    program: Program,
    process: Child,
    pub(super) listening: Listening,
}

impl ControlPlane {
    /// Starts it, and returns when it accepts connections.
    pub(super) async fn start(
        configuration: PathBuf,
        faults: PathBuf,
        directory: &Directory,
    ) -> anyhow::Result<Self> {
        let mut program = Program {
            configuration,
            faults,
            addresses: Vec::new(),
            log: directory.path().join(LOG),
            process_group: directory.process_group()?,
        };
        let (process, listening) = program.start().await?;
        // At every later start it has the same addresses.
        program.addresses = vec![
            format!("--public-listen={}", listening.public),
            format!("--agents-listen={}", listening.agents),
            format!("--admin-listen={}", listening.admin),
        ];
        Ok(Self { program, process, listening })
    }

    /// Waits until it ends. Gives how it ended and its last words.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match self.process.wait().await {
            Ok(status) => self.program.last_words(status),
            Err(error) => error.into(),
        }
    }

    /// Starts it again whenever it ends. Gives the last of many starts that failed.
    pub(super) async fn keep(&mut self) -> anyhow::Error {
        let (mut ended, mut failed_starts) = (self.ended().await, 0);
        while failed_starts < FAILED_STARTS {
            tracing::warn!("{ended}; starting it again");
            sleep(RESTART_PAUSE).await;
            match self.program.start().await {
                Ok((process, _listening)) => {
                    self.process = process;
                    (ended, failed_starts) = (self.ended().await, 0);
                }
                Err(error) => (ended, failed_starts) = (error, failed_starts + 1),
            }
        }
        ended
    }
}

/// What is started, each time in the same way.
#[derive(Debug)]
struct Program {
    configuration: PathBuf,
    /// With which faults it begins.
    faults: PathBuf,
    /// Flags that say where it listens.
    addresses: Vec<String>,
    log: PathBuf,
    process_group: i32,
}

impl Program {
    async fn start(&self) -> anyhow::Result<(Child, Listening)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").arg("--print-addresses").arg("--config").arg(&self.configuration);
        command.arg("--dev-faults").arg(&self.faults);
        command.args(&self.addresses).process_group(self.process_group);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(open_log(&self.log)?);
        let mut process = command.spawn().context("cannot start the control plane")?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            let mut said = BufReader::new(stdout.take(LISTENING_BYTES));
            if timeout(START_WAIT, said.read_line(&mut line)).await.is_err() {
                process.start_kill()?;
            }
        }
        match serde_json::from_str(&line) {
            Ok(listening) => Ok((process, listening)),
            Err(_) => Err(self.last_words(process.wait().await?)),
        }
    }

    fn last_words(&self, status: ExitStatus) -> anyhow::Error {
        let log = end_of(&self.log).unwrap_or_default();
        let last_words = match log.trim_end() {
            "" => anyhow!("its log is empty"),
            text => anyhow!("its log ends with:\n{text}"),
        };
        last_words.context(format!("the control plane ended ({status})"))
    }
}

fn end_of(log: &Path) -> std::io::Result<String> {
    let mut log = File::open(log)?;
    let length = log.metadata()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS)))?;
    let mut end = Vec::new();
    log.take(LAST_WORDS).read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}
