//! A machine in a directory of its own, with an agent whose clock only moves when told to.

use crate::control_plane::{ACCOUNT, Authority, ControlPlane, INSTANCE, PATIENCE, REGION};
use instance_connect_agent::{
    Directories, LineTerms, MachineClock, OsUserSettings, RunFailure, RunSettings, run,
};
use instance_connect_core::document::{
    Accepted, Anchors, BootId, BootInstant, DocumentTerms, Expected, Fingerprint, Handover, MachineTime,
    OsUser, Refusal, UnixSeconds, base64_decode, base64_encode, live_file, verify,
};
use instance_connect_core::link::BackoffSettings;
use rcgen::KeyPair;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) const BOOT: &str = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11";
pub(crate) const OTHER_BOOT: &str = "1b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11";
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// Clocks that a test moves.
#[derive(Debug)]
pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn advance(&self, duration: Duration) {
        self.0.fetch_add(duration.as_nanos().try_into().unwrap(), Ordering::SeqCst);
    }

    /// The deadline of a key pushed now.
    pub(crate) fn in_a_minute(&self) -> BootInstant {
        self.boot().after(MINUTE)
    }
}

impl MachineClock for TestClock {
    fn boot(&self) -> BootInstant {
        BootInstant(self.0.load(Ordering::SeqCst))
    }

    /// A wall clock that is hours behind the server's makes no difference.
    fn wall(&self) -> UnixSeconds {
        UnixSeconds(1_800_000_000 + i64::try_from(self.boot().0 / 1_000_000_000).unwrap())
    }
}

/// A machine that is enrolled, and perhaps its agent.
pub(crate) struct Machine {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) directories: Directories,
    /// How the next agent serves lines.
    pub(crate) lines: LineTerms,
    authority: Arc<Authority>,
    directory: TempDir,
    agent: Option<Agent>,
}

struct Agent {
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), RunFailure>>,
}

impl Machine {
    /// Enrolled, without an agent running.
    pub(crate) fn new(control_plane: &ControlPlane) -> Self {
        let directory = TempDir::new().unwrap();
        let at = |name: &str| directory.path().join(name);
        let directories = Directories { etc: at("etc"), state: at("state"), run: at("run") };
        let authority = Arc::clone(&control_plane.authority);
        fs::create_dir(&directories.etc).unwrap();
        fs::create_dir(&directories.state).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = format!("https://127.0.0.1:{}", control_plane.port);
        let link = format!(
            r#"{{"schema":1,"server":"{server}","instance_id":"{INSTANCE}","region":"{REGION}","account_id":"{ACCOUNT}"}}"#
        );
        for (path, text) in [
            ("etc/instance-id", format!("{INSTANCE}\n")),
            ("etc/anchors", authority.anchors()),
            ("etc/host.toml", "deny_users = [\"mallory\"]\n".to_owned()),
            ("state/identity.pem", key.serialize_pem() + &authority.agent_chain(&key)),
            ("state/server-ca.pem", authority.server_ca()),
            ("state/link.json", link),
            ("passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n".to_owned()),
        ] {
            fs::write(directory.path().join(path), text).unwrap();
        }
        let clock = Arc::new(TestClock(AtomicU64::new(1_000_000_000_000)));
        let lines = LineTerms {
            program: env!("CARGO_BIN_EXE_instance-connect-agent").into(),
            backoff: BackoffSettings { first: Duration::from_millis(1), longest: Duration::from_millis(20) },
            ..LineTerms::default()
        };
        let machine = Self { clock, directories, lines, authority, directory, agent: None };
        machine.write_id_command("exit 1");
        machine
    }

    /// Enrolled, with its agent running.
    pub(crate) fn start(control_plane: &ControlPlane) -> Self {
        let mut machine = Self::new(control_plane);
        machine.start_agent();
        machine
    }

    pub(crate) fn settings(&self) -> RunSettings {
        RunSettings {
            clock: Arc::clone(&self.clock) as Arc<dyn MachineClock>,
            backoff: BackoffSettings { first: Duration::from_millis(1), longest: Duration::from_millis(20) },
            tick: Duration::from_millis(5),
            os_users: OsUserSettings { passwd: self.path("passwd"), id_command: self.path("id") },
            ssh_host_keys: self.path("ssh"),
            os_release: self.path("os-release"),
            lines: self.lines.clone(),
            ..RunSettings::new(self.directories.clone(), boot(BOOT))
        }
    }

    pub(crate) fn start_agent(&mut self) {
        let (stop, stopping) = oneshot::channel();
        let stopping = async {
            let _ = stopping.await;
        };
        let running = tokio::spawn(run(self.settings(), stopping));
        self.agent = Some(Agent { stop, running });
    }

    /// Tells the agent to stop, and does not wait.
    pub(crate) fn tell_agent_to_stop(&mut self) -> JoinHandle<Result<(), RunFailure>> {
        let Agent { stop, running } = self.agent.take().unwrap();
        stop.send(()).unwrap();
        running
    }

    /// Ends the agent without a word, as a kill does.
    pub(crate) async fn kill_agent(&mut self) {
        let Agent { running, .. } = self.agent.take().unwrap();
        running.abort();
        assert!(timeout(PATIENCE, running).await.unwrap().unwrap_err().is_cancelled());
    }

    /// Replaces what is asked for OS users that are not local. A shell writes it: were it open for writing in this
    /// process, a child that another test starts just then could keep it busy.
    pub(crate) fn write_id_command(&self, script: &str) {
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod 755 \"$0\"";
        let mut shell = std::process::Command::new("sh");
        assert!(shell.args(["-c", write]).arg(self.path("id")).arg(script).status().unwrap().success());
    }

    /// Says which serial lines the machine has, in one step.
    pub(crate) fn write_lines(&self, lines: &str) {
        fs::write(self.path("lines.new"), lines).unwrap();
        fs::rename(self.path("lines.new"), self.path("etc/lines.toml")).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The hand-over file of a key.
    pub(crate) fn live_file(&self, push: &Push) -> PathBuf {
        self.directories.run.join(live_file(&push.user(), &push.fingerprint()))
    }

    /// The file's sections, or nothing when there is no file.
    pub(crate) fn sections(&self, push: &Push) -> usize {
        let file = fs::read(self.live_file(push)).unwrap_or_default();
        Handover::parse(&file).map_or(0, |handover| handover.sections().len())
    }

    /// The document of a push as the control plane signs it for this machine.
    pub(crate) fn sign(&self, push: &Push) -> String {
        push.sign(&self.authority, self.clock.wall())
    }

    /// Asks what the sshd command would: which requests open the account to the key now.
    pub(crate) fn login(&self, push: &Push) -> Vec<Result<String, Refusal>> {
        let file = fs::read(self.live_file(push)).unwrap_or_default();
        let Ok(handover) = Handover::parse(&file) else { return Vec::new() };
        let expected = Expected {
            anchors: &Anchors::parse(&self.authority.anchors()).unwrap(),
            instance: &INSTANCE.parse().unwrap(),
            user: &push.user(),
            boot: &boot(BOOT),
            fingerprint: Some(push.fingerprint()),
            longest_lifetime: MINUTE,
        };
        let now = MachineTime { boot: self.clock.boot(), wall: self.clock.wall() };
        let request = |accepted: Accepted<'_>| accepted.request().to_string();
        handover.sections().iter().map(|section| verify(section, &expected, now).map(request)).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(agent) = &self.agent {
            agent.running.abort();
        }
    }
}

pub(crate) fn boot(text: &str) -> BootId {
    text.parse().unwrap()
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// What was asked for in one push; by default what this machine accepts.
#[derive(Clone)]
pub(crate) struct Push {
    pub(crate) user: &'static str,
    pub(crate) instance: &'static str,
    pub(crate) boot: &'static str,
    /// Tells keys apart.
    pub(crate) key: u8,
    /// Tells requests apart.
    pub(crate) request: u8,
}

impl Default for Push {
    fn default() -> Self {
        Self { user: "alice", instance: INSTANCE, boot: BOOT, key: 0, request: 0 }
    }
}

impl Push {
    pub(crate) fn user(&self) -> OsUser {
        self.user.parse().unwrap()
    }

    pub(crate) fn request_id(&self) -> String {
        format!("{:08x}-6a0e-4c11-9d0b-1c5a6f0e9a11", self.request)
    }

    pub(crate) fn key_line(&self) -> String {
        let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
        blob.extend([self.key; 32]);
        format!("ssh-ed25519 {}", base64_encode(&blob))
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_blob(&base64_decode(self.key_line().split(' ').nth(1).unwrap()).unwrap())
    }

    pub(crate) fn sign(&self, authority: &Authority, wall: UnixSeconds) -> String {
        let terms = DocumentTerms {
            expires_at: UnixSeconds(wall.0 + 60),
            instance: &self.instance.parse().unwrap(),
            caller: "arn:aws:iam::123456789012:user/jane",
            request: &self.request_id().parse().unwrap(),
            user: &self.user(),
            boot: &boot(self.boot),
            key_line: &self.key_line(),
        };
        terms.sign(&authority.signer).unwrap()
    }
}
