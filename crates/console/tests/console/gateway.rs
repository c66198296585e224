//! The program, as systemd starts it.

use crate::control_plane::{ControlPlane, PATIENCE, now};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_instance-connect-console");

pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";

pub(crate) const ADDRESS: &str = "i-0123456789abcdef0.port0";

/// A gateway with its control plane, and a person's directory.
pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) plane: ControlPlane,
    pub(crate) address: SocketAddr,
    pub(crate) host_keys: Vec<String>,
    program: Child,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// With these arguments.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let plane = ControlPlane::start(directory.path());
        let world = Self::beside(directory, plane, arguments);
        world.plane.gateways.recv_timeout(PATIENCE).expect("the gateway never said that it is there");
        world
    }

    /// Beside a control plane that may be gone.
    pub(crate) fn beside(directory: TempDir, plane: ControlPlane, arguments: &[&str]) -> Self {
        let (ready, notify) = (directory.path().join("ready"), directory.path().join("notify"));
        let told = UnixDatagram::bind(&notify).unwrap();
        told.set_read_timeout(Some(PATIENCE)).unwrap();
        let program = Command::new(PROGRAM)
            .args(["serve", "--listen", "127.0.0.1:0", "--exit-with-parent", "--log", "debug"])
            .arg("--socket")
            .arg(plane.socket())
            .arg("--host-keys")
            .arg(directory.path().join("keys"))
            .arg("--ready-file")
            .arg(&ready)
            .args(arguments)
            .env("NOTIFY_SOCKET", &notify)
            .stderr(fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut message = [0; 100];
        let length = told.recv(&mut message).expect("the gateway did not start");
        assert_eq!(&message[..length], b"READY=1");
        let ready: Value = serde_json::from_slice(&fs::read(ready).unwrap()).unwrap();
        let address = ready["address"].as_str().unwrap().parse().unwrap();
        let host_keys =
            ready["host_keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned());
        Self { address, host_keys: host_keys.collect(), directory, plane, program }
    }

    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until a file is there.
    pub(crate) fn file_appears(&self, name: &str) {
        let began = now();
        while !self.file(name).exists() {
            assert!(began.elapsed() < PATIENCE, "{name}");
            std::thread::yield_now();
        }
    }

    /// What the gateway has written to its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.program)
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.program.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.program.wait().unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.program.try_wait().unwrap().is_none()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
        // Whatever clients and control planes do, nothing panics here, and no task is left over.
        if !std::thread::panicking() {
            let log = self.log();
            assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
        }
    }
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str], directory: &Path) -> (Option<i32>, String, String) {
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .current_dir(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut error) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    (child.wait().unwrap().code(), out, error)
}
