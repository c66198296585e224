//! Asking the command that was here before: the real program with real commands behind it.

#![expect(clippy::unwrap_used, reason = "a test whose world cannot be set up fails there")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_instance-connect-authorized-keys");
const FINGERPRINT: &str = "SHA256:bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8";

/// A machine without any pushed key.
struct Machine {
    directory: TempDir,
    syslog: UnixDatagram,
}

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("run")).unwrap();
        let syslog = UnixDatagram::bind(directory.path().join("log")).unwrap();
        syslog.set_nonblocking(true).unwrap();
        Self { directory, syslog }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Runs it for a login of `user`, with this chained command.
    fn ask(&self, user: &str, chained: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.args(["--etc", &self.path("etc"), "--run", &self.path("run"), "--syslog", &self.path("log")]);
        command.args([user, FINGERPRINT, "1000", "--chain"]).args(chained).output().unwrap()
    }

    fn shell(&self, script: &str) -> Output {
        self.ask("alice", &["/bin/sh", "-c", script])
    }

    fn logged(&self) -> String {
        let mut datagram = [0; 4096];
        let length = self.syslog.recv(&mut datagram).unwrap_or_default();
        let line = String::from_utf8_lossy(datagram.get(..length).unwrap_or_default()).into_owned();
        line.split_once("]: ").map(|(_, line)| line.to_owned()).unwrap_or_default()
    }
}

fn answer(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn without_a_pushed_key_the_chained_command_answers_with_the_arguments_it_was_given() {
    let machine = Machine::new();
    let output =
        machine.ask("alice", &["/bin/sh", "-c", "printf '%s|' \"$@\"", "sh", "alice", "a b", "--run"]);
    assert_eq!(answer(&output), (Some(0), "alice|a b|--run|".to_owned()));
    assert_eq!(machine.logged(), "");
}

#[test]
fn it_is_asked_for_users_that_cannot_be_pushed_for() {
    let output = Machine::new().ask("Domain\\Some One", &["/bin/echo", "ssh-ed25519 AAAA"]);
    assert_eq!(answer(&output), (Some(0), "ssh-ed25519 AAAA\n".to_owned()));
}

#[test]
fn where_our_installation_is_broken_it_still_answers() {
    let machine = Machine::new();
    fs::remove_dir(machine.path("run")).unwrap();
    fs::write(machine.path("run"), "no directory").unwrap();
    let output = machine.ask("alice", &["/bin/echo", "ssh-ed25519 AAAA"]);
    assert_eq!(answer(&output), (Some(0), "ssh-ed25519 AAAA\n".to_owned()));
    assert!(machine.logged().starts_with("Unable to run EC2 Instance Connect"));

    let output = Command::new(PROGRAM)
        .args(["--syslog", &machine.path("log"), "--option-of-a-later-version"])
        .args(["alice", FINGERPRINT, "1000", "--chain", "/bin/echo", "ssh-ed25519 AAAA"])
        .output()
        .unwrap();
    assert_eq!(answer(&output), (Some(0), "ssh-ed25519 AAAA\n".to_owned()));
}

#[test]
fn what_it_printed_before_it_failed_does_not_count() {
    for (script, reason) in [
        ("echo ssh-ed25519 AAAA; exit 22", "it failed (exit status: 22)"),
        ("echo ssh-ed25519 AAAA; kill -9 $$", "it failed (signal: 9 (SIGKILL))"),
    ] {
        let machine = Machine::new();
        let output = machine.shell(script);
        assert_eq!(answer(&output), (Some(1), String::new()));
        assert_eq!(machine.logged(), format!("The chained command \"/bin/sh\" gave no answer: {reason}"));
    }
}

/// Nobody waits for more than the limit; that it came from a command without end shows that it was cut off.
#[test]
fn a_flood_is_cut_off_and_nothing_of_it_passed_on() {
    let machine = Machine::new();
    let output = machine.shell("while :; do echo ssh-ed25519 AAAA; done");
    assert_eq!(answer(&output), (Some(1), String::new()));
    assert_eq!(
        machine.logged(),
        "The chained command \"/bin/sh\" gave no answer: it printed more than 256 KiB"
    );
}

/// In each of them something would go on for ever: the command, or what it started. All at once, since each takes its time.
#[test]
fn one_that_hangs_is_ended_and_what_it_started_with_it() {
    std::thread::scope(|scope| {
        for script in ["cat", "exec >/dev/null; cat", "cat & echo ssh-ed25519 AAAA"] {
            scope.spawn(move || {
                let machine = Machine::new();
                let fifo = machine.path("fifo");
                assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
                // Opened for both, a FIFO never ends, and reading waits.
                let script = script.replace("cat", "cat <&3");
                let output = machine.shell(&format!("exec 3<>{fifo}; {script}"));
                assert_eq!(answer(&output), (Some(1), String::new()), "{script}");
                assert!(machine.logged().ends_with("it took more than 5 s"), "{script}");
                assert!(!is_open_anywhere(Path::new(&fifo)), "{script}: something still runs");
            });
        }
    });
}

/// Whether a process has this file open. A killed one may take a moment to go.
fn is_open_anywhere(file: &Path) -> bool {
    (0..1_000_000).all(|_| {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut open =
            processes.flat_map(|process| fs::read_dir(process.path().join("fd"))).flatten().flatten();
        open.any(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|target| target == file))
    })
}

#[test]
fn a_program_that_others_could_replace_is_not_run() {
    let machine = Machine::new();
    let program = machine.path("command");
    fs::write(&program, "#!/bin/sh\necho ssh-ed25519 AAAA\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o777)).unwrap();
    for (chained, reason) in [
        (program.as_str(), "others than its owner"),
        ("bin/sh", "is no absolute path"),
        ("/usr", "is not a regular file"),
        ("/usr/bin/no-such-command", "No such file or directory"),
    ] {
        let output = machine.ask("alice", &[chained]);
        assert_eq!(answer(&output), (Some(1), String::new()), "{chained}");
        let logged = machine.logged();
        // An ordinary user's file is refused for its owner before anybody looks at its mode.
        assert!(logged.contains(reason) || logged.contains("is not root's"), "{logged}");
    }
}

#[test]
fn a_chain_without_a_command_fails() {
    let machine = Machine::new();
    let output = machine.ask("alice", &[]);
    assert_eq!(answer(&output), (Some(1), String::new()));
    assert!(machine.logged().contains("an option has no value"));
}

/// Whoever could choose a user name must not choose a command with it.
#[test]
fn a_user_named_like_the_option_runs_nothing() {
    let machine = Machine::new();
    let output = machine.ask("--chain", &["/bin/echo", "ssh-ed25519 AAAA"]);
    assert_eq!(answer(&output), (Some(1), String::new()));
}
