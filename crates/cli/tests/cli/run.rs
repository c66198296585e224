//! Starting the program with an environment of its own.

use crate::server::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, Server};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";

/// A home directory and an environment that nothing leaks into.
pub(crate) struct Person {
    pub(crate) home: TempDir,
    variables: Vec<(String, String)>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Person {
    /// Nothing configured.
    pub(crate) fn new() -> Self {
        Self { home: TempDir::new().unwrap(), variables: Vec::new() }
    }

    /// Good credentials in variables, and this server as the endpoint.
    pub(crate) fn of(server: &Server) -> Self {
        Self::new()
            .with("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
            .with("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
            .with("AWS_REGION", REGION)
            .with("AWS_ENDPOINT_URL", &server.url())
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes a file below the home directory.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Puts a script of this name in front of the PATH.
    pub(crate) fn script(&self, name: &str, content: &str) {
        let path = self.file(&format!("bin/{name}"), &format!("#!/bin/sh\n{content}\n"));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The program with these arguments, ready to be started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_instance-connect"));
        let path = std::env::var("PATH").unwrap();
        command
            .args(arguments)
            .env_clear()
            .env("PATH", format!("{}/bin:{path}", self.home.path().display()))
            .env("HOME", self.home.path())
            .env("TMPDIR", self.temporary())
            // A bug that is planted is in the program, too.
            .envs(std::env::vars().filter(|(name, _)| name == "PLANTED_BUG"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        outcome(self.command(arguments).output().unwrap())
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Outcome {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        outcome(child.wait_with_output().unwrap())
    }

    /// Where the program puts its directory.
    pub(crate) fn temporary(&self) -> PathBuf {
        let path = self.home.path().join("tmp");
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Nothing of a login is left.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(std::fs::read_dir(self.temporary()).unwrap().count(), 0);
    }
}

pub(crate) fn outcome(output: std::process::Output) -> Outcome {
    Outcome {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Makes a key pair with OpenSSH and returns the private key's file.
pub(crate) fn key_pair(directory: &Path) -> PathBuf {
    let path = directory.join("id_test");
    let arguments = ["-q", "-t", "ed25519", "-N", "", "-C", "me@host", "-f"];
    assert!(Command::new("ssh-keygen").args(arguments).arg(&path).status().unwrap().success());
    path
}
