//! `credential_process`: a program that prints credentials as JSON, format version 1. The AWS CLI is one, for profiles that only it knows.
//!
//! Its words are split as a shell does and not run by one, as the AWS CLI has it. What it prints on standard output is
//! never shown; what it says on standard error is, when it fails.

use super::Issued;
use crate::error::Error;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::printable::printable;
use instance_connect_core::secret::Secret;
use instance_connect_core::shell::quoted;
use instance_connect_core::sigv4::Credentials;
use instance_connect_planted::planted;
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
    /// What it is, for messages.
    name: String,
    program: String,
    arguments: Vec<String>,
    kind: Kind,
}

/// Whose program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The profile names it.
    OfProfile,
    AwsCli,
}

/// Makes the AWS CLI pass over every endpoint that variables or profiles name, for whatever service. They are ours, and nobody signs in
/// there: our service would get their token.
const IGNORE_CONFIGURED_ENDPOINT_URLS: &str = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS";

/// What the AWS CLI does not get: our service, and the authority that vouches for it, which shall not vouch for those of AWS.
const OURS_ALONE: [&str; 2] = ["AWS_ENDPOINT_URL", "AWS_CA_BUNDLE"];

/// How the AWS CLI, of either version, exits where it does not know a command.
const UNKNOWN_COMMAND: [i32; 2] = [2, 252];

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
        let name = format!("the credential_process of profile {profile}");
        Some(Self { name, program, arguments: words.collect(), kind: Kind::OfProfile })
    }

    /// The AWS CLI, asked for the credentials of a profile, or of whatever its own variables say.
    pub(crate) fn aws_cli(profile: Option<&str>) -> Self {
        let command = ["configure", "export-credentials", "--format=process"].map(str::to_owned);
        // One word, whatever the name begins with.
        let named = profile.map(|profile| format!("--profile={profile}"));
        Self {
            name: format!("`{}`", export_command(profile)),
            program: "aws".to_owned(),
            arguments: command.into_iter().chain(named).collect(),
            kind: Kind::AwsCli,
        }
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
        if self.kind == Kind::AwsCli && status.code().is_some_and(|code| UNKNOWN_COMMAND.contains(&code)) {
            return Err(
                self.refused("is unknown to the `aws` on the PATH: it takes version 2 of the AWS CLI")
            );
        }
        if !status.success() {
            return Err(self.failed(&format!("failed ({status})"), &complaint));
        }
        self.parse(&output)
    }

    async fn finish(&self, output: &mut Vec<u8>, complaint: &mut Vec<u8>) -> Result<ExitStatus, Error> {
        let cannot = |what: &str, error| self.refused(&format!("cannot be {what}: {error}"));
        let mut child = self.command().spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if self.kind == Kind::AwsCli => {
                self.refused("cannot be asked: there is no AWS CLI, version 2, on the PATH")
            }
            _ => cannot(&format!("started as {:?}", self.program), error),
        })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let read = tokio::try_join!(bounded(stdout, output), beginning(stderr, complaint));
        read.map_err(|error| cannot("read", error))?;
        child.wait().await.map_err(|error| cannot("waited for", error))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            // The caller's own input may be a key, or a session.
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if self.kind == Kind::AwsCli {
            for variable in OURS_ALONE {
                command.env_remove(variable);
            }
            if !planted("sign-ins-at-our-endpoint") {
                command.env(IGNORE_CONFIGURED_ENDPOINT_URLS, "true");
            }
        }
        command
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

    /// What it is, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// An error of this program, without its arguments.
    pub(crate) fn refused(&self, what: &str) -> Error {
        Error::Credentials(format!("{} {what}", self.name))
    }
}

/// What people type to see the credentials of a profile that the AWS CLI knows.
pub(crate) fn export_command(profile: Option<&str>) -> String {
    let export = "aws configure export-credentials";
    match profile {
        None => export.to_owned(),
        Some(name) => format!("{export} --profile {}", quoted(&printable(name))),
    }
}

/// Without its arguments: some people put secrets there.
impl fmt::Debug for CredentialProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, program, .. } = self;
        f.debug_struct("CredentialProcess")
            .field("name", name)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever variables and profiles say: who signs in does so at AWS, by the authorities of the system.
    #[test]
    fn nobody_signs_in_at_our_endpoint() {
        let variables = |process: CredentialProcess| {
            let command = process.command();
            let text = |text: &std::ffi::OsStr| text.to_str().unwrap().to_owned();
            let variables = command.as_std().get_envs();
            let mut variables: Vec<_> =
                variables.map(|(name, value)| (text(name), value.map(text))).collect();
            variables.sort();
            variables
        };
        let expected = [
            ("AWS_CA_BUNDLE", None),
            ("AWS_ENDPOINT_URL", None),
            ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", Some("true")),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
        assert_eq!(variables(CredentialProcess::aws_cli(None)), expected);
        // A program of the profile's own gets what the AWS CLI would give it.
        assert_eq!(variables(CredentialProcess::new("x", vec!["program".to_owned()]).unwrap()), []);
    }

    /// People paste what is between the backquotes.
    #[test]
    fn a_profile_is_one_word() {
        for (name, expected) in [("dev", "dev"), ("$(id)", "'$(id)'"), ("\u{1b}[m", r"''\\'u{1b}[m'")] {
            let expected = format!("aws configure export-credentials --profile {expected}");
            assert_eq!(export_command(Some(name)), expected);
        }
    }
}
