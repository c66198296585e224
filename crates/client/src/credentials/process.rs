//! `credential_process`: a program that prints credentials as JSON, format version 1.
//!
//! Its words are split as a shell does and not run by one, as the AWS CLI has it. What it prints on standard output is
//! never shown; what it says on standard error is, when it fails.

use super::Issued;
use crate::error::Error;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::printable::printable;
use instance_connect_core::secret::Secret;
use instance_connect_core::sigv4::Credentials;
use serde::Deserialize;
use std::fmt;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, sink};
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// How long the program may take; somebody may have to find a token and touch it.
const LIMIT: Duration = Duration::from_secs(60);

/// Largest output read. Credentials are a few KiB, most of it a session token.
const LARGEST_OUTPUT: u64 = 64 * 1024;

/// The beginning of standard error that is kept for a message.
const LONGEST_COMPLAINT: u64 = 1024;

/// The program of one profile.
pub(crate) struct CredentialProcess {
    profile: String,
    program: String,
    arguments: Vec<String>,
}

/// What it prints. Members that are not here are left alone.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    version: i64,
    access_key_id: Option<String>,
    secret_access_key: Option<Zeroizing<String>>,
    session_token: Option<Zeroizing<String>>,
    expiration: Option<String>,
}

impl CredentialProcess {
    /// The program that these `words` of `profile` name. `None` without any.
    pub(crate) fn new(profile: &str, words: Vec<String>) -> Option<Self> {
        let mut words = words.into_iter();
        let program = words.next()?;
        Some(Self { profile: profile.to_owned(), program, arguments: words.collect() })
    }

    /// Starts the program and reads what it prints. It ends with this call, also when nobody waits for that any more.
    pub(crate) async fn run(&self) -> Result<Issued, Error> {
        let mut complaint = Vec::new();
        let mut output = Zeroizing::new(Vec::new());
        let status = match timeout(LIMIT, self.finish(&mut output, &mut complaint)).await {
            Ok(status) => status?,
            Err(_) => {
                let seconds = LIMIT.as_secs();
                return Err(self.failed(&format!("took longer than {seconds} s"), &complaint));
            }
        };
        if !status.success() {
            return Err(self.failed(&format!("failed ({status})"), &complaint));
        }
        self.parse(&output)
    }

    async fn finish(&self, output: &mut Vec<u8>, complaint: &mut Vec<u8>) -> Result<ExitStatus, Error> {
        let cannot = |what: &str, error| self.refused(&format!("cannot be {what}: {error}"));
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            // The caller's own input may be a key, or a session.
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| cannot(&format!("started as {:?}", self.program), error))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let read = tokio::try_join!(bounded(stdout, output), beginning(stderr, complaint));
        read.map_err(|error| cannot("read", error))?;
        child.wait().await.map_err(|error| cannot("waited for", error))
    }

    fn parse(&self, output: &[u8]) -> Result<Issued, Error> {
        // An error of the parser may quote what it found, so only its place is passed on.
        let output: Output = serde_json::from_slice(output).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            self.refused(&format!("printed no credentials in JSON (line {line}, column {column})"))
        })?;
        if output.version != 1 {
            return Err(self.refused(&format!("printed version {} of the format, not 1", output.version)));
        }
        let without = |member: &str| self.refused(&format!("printed no {member}"));
        let secret = |text: Option<Zeroizing<String>>| {
            text.filter(|text| !text.is_empty()).map(|text| Secret::new(text.as_bytes().to_vec()))
        };
        let id = output.access_key_id.filter(|id| !id.is_empty());
        let credentials = Credentials {
            access_key_id: id.ok_or_else(|| without("AccessKeyId"))?,
            secret_access_key: secret(output.secret_access_key).ok_or_else(|| without("SecretAccessKey"))?,
            session_token: secret(output.session_token),
        };
        let expires = output.expiration.map(|text| self.time(&text)).transpose()?;
        Ok(Issued { credentials: Arc::new(credentials), expires })
    }

    fn time(&self, text: &str) -> Result<UnixSeconds, Error> {
        let timestamp: Result<jiff::Timestamp, _> = text.parse();
        timestamp.map(|timestamp| UnixSeconds(timestamp.as_second())).map_err(|_| {
            self.refused("printed an Expiration that is not a time such as 2026-01-02T03:04:05Z")
        })
    }

    /// An error with what the program itself said.
    fn failed(&self, what: &str, complaint: &[u8]) -> Error {
        let complaint = String::from_utf8_lossy(complaint);
        match complaint.trim() {
            "" => self.refused(&format!("{what} and said nothing")),
            complaint => self.refused(&format!("{what}: {}", printable(complaint))),
        }
    }

    /// An error of this program, without its arguments.
    pub(crate) fn refused(&self, what: &str) -> Error {
        Error::Credentials(format!("the credential_process of profile {} {what}", self.profile))
    }
}

/// Without its arguments: some people put secrets there.
impl fmt::Debug for CredentialProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { profile, program, .. } = self;
        f.debug_struct("CredentialProcess")
            .field("profile", profile)
            .field("program", program)
            .finish_non_exhaustive()
    }
}

/// Reads until the end; an error ends the program, which may go on for ever.
async fn bounded(stream: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) -> io::Result<()> {
    let Some(stream) = stream else { return Ok(()) };
    // Room for all of it at once: a growing buffer would leave copies of secrets behind.
    into.reserve_exact(usize::try_from(LARGEST_OUTPUT + 1).unwrap_or_default());
    let length = stream.take(LARGEST_OUTPUT + 1).read_to_end(into).await?;
    if length as u64 > LARGEST_OUTPUT {
        return Err(io::Error::other(format!("it printed more than {LARGEST_OUTPUT} bytes")));
    }
    Ok(())
}

/// Reads until the end and keeps the beginning: a program that cannot write would not finish.
async fn beginning(stream: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) -> io::Result<()> {
    let Some(mut stream) = stream else { return Ok(()) };
    (&mut stream).take(LONGEST_COMPLAINT).read_to_end(into).await?;
    tokio::io::copy(&mut stream, &mut sink()).await?;
    Ok(())
}
