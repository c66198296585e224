//! The program itself: its arguments, its signals, and being killed.

use crate::control_plane::{ControlPlane, PATIENCE};
use crate::machine::{Machine, Push};
use instance_connect_agent::{MachineClock as _, SystemClock, read_boot_id};
use instance_connect_core::document::{BootInstant, DocumentTerms, UnixSeconds};
use instance_connect_core::link::{AckOutcome, GoodbyeCode};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::time::timeout;

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_instance-connect-agent"));
    command.env_remove("RUST_LOG").kill_on_drop(true).stdin(Stdio::null());
    command
}

async fn output(mut command: Command) -> Output {
    timeout(PATIENCE, command.output()).await.unwrap().unwrap()
}

fn enroll_command(control_plane: &ControlPlane, directory: &Path) -> Command {
    let mut command = program();
    command.args(["enroll", "--server", &control_plane.url().to_string()]);
    command.arg("--etc").arg(directory.join("etc")).arg("--state").arg(directory.join("state"));
    command
}

fn run_agent(directory: &Path) -> Child {
    let mut command = program();
    command.arg("run").arg("--etc").arg(directory.join("etc")).arg("--state").arg(directory.join("state"));
    command.arg("--run").arg(directory.join("run")).stderr(Stdio::null()).spawn().unwrap()
}

#[tokio::test]
async fn help_teaches_and_the_version_is_told() {
    for arguments in [&["--help"][..], &["enroll", "--help"], &["run", "--help"]] {
        let mut command = program();
        let help = output({
            command.args(arguments);
            command
        })
        .await;
        assert!(help.status.success());
        assert!(!help.stdout.is_empty());
    }
    let mut command = program();
    command.arg("--version");
    let version = String::from_utf8(output(command).await.stdout).unwrap();
    assert_eq!(version, format!("instance-connect-agent {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn a_token_is_read_from_a_file_or_from_standard_input() {
    let (control_plane, directory) = (ControlPlane::start().await, TempDir::new().unwrap());
    let token = control_plane.authority.token();
    let file = directory.path().join("token");
    fs::write(&file, format!("{}\n", *token.expose())).unwrap();
    let mut command = enroll_command(&control_plane, directory.path());
    command.arg("--token-file").arg(&file);
    let enrolled = output(command).await;
    assert!(enrolled.status.success(), "{enrolled:?}");
    assert_eq!(
        String::from_utf8(enrolled.stdout).unwrap(),
        "enrolled as i-0123456789abcdef0 in us-east-1 (account 123456789012)\n"
    );

    let mut command = enroll_command(&control_plane, directory.path());
    command.arg("--replace").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(token.expose().as_bytes()).await.unwrap();
    drop(stdin);
    let enrolled = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    assert!(enrolled.status.success(), "{enrolled:?}");
    assert_eq!(control_plane.requests().len(), 2);
}

#[tokio::test]
async fn a_mistyped_token_is_not_repeated() {
    let (control_plane, directory) = (ControlPlane::start().await, TempDir::new().unwrap());
    let file = directory.path().join("token");
    fs::write(&file, "ict1_secret").unwrap();
    let mut command = enroll_command(&control_plane, directory.path());
    command.arg("--token-file").arg(&file);
    let refused = output(command).await;
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("a join token is ict1_") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn enrolled_run_killed_run_again_and_terminated() {
    let (mut control_plane, directory) = (ControlPlane::start().await, TempDir::new().unwrap());
    let file = directory.path().join("token");
    fs::write(&file, control_plane.authority.token().expose().as_bytes()).unwrap();
    let mut command = enroll_command(&control_plane, directory.path());
    command.arg("--token-file").arg(&file);
    assert!(output(command).await.status.success());

    let clock = SystemClock;
    let push = Push { user: "nobody-here", ..Push::default() };
    let live = directory.path().join("run");
    let live = live.join(instance_connect_core::document::live_file(&push.user(), &push.fingerprint()));
    let mut agent = run_agent(directory.path());
    let mut link = control_plane.accept(&clock).await;
    let document = real_document(&control_plane, &push);
    let deadline = BootInstant(clock.boot().0 + 30_000_000_000);
    let missing = AckOutcome::Installed { os_user_exists: false };
    assert_eq!(link.grant(&document, deadline).await, missing);
    agent.kill().await.unwrap();
    link.closed().await;
    let file = fs::read(&live).unwrap();

    let mut agent = run_agent(directory.path());
    let link = control_plane.accept(&clock).await;
    assert_eq!(fs::read(&live).unwrap(), file, "still live, so it stays");
    let pid = Pid::from_raw(agent.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(link.goodbye().await.code, GoodbyeCode::ShuttingDown);
    assert!(timeout(PATIENCE, agent.wait()).await.unwrap().unwrap().success());
    assert_eq!(fs::read(&live).unwrap(), file);
}

#[tokio::test]
async fn an_agent_can_be_made_to_end_with_its_parent() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::new(&control_plane);
    let mut parent = Command::new("sh");
    parent.args(["-c", "\"$@\" & read -r line", "sh", env!("CARGO_BIN_EXE_instance-connect-agent"), "run"]);
    parent.arg("--exit-with-parent").arg("--etc").arg(&machine.directories.etc);
    parent.arg("--state").arg(&machine.directories.state).arg("--run").arg(&machine.directories.run);
    let mut parent = parent.stdin(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let link = control_plane.accept(&SystemClock).await;
    parent.kill().await.unwrap();
    assert_eq!(link.goodbye().await.code, GoodbyeCode::ShuttingDown);
}

/// A document for the boot this machine is really in.
fn real_document(control_plane: &ControlPlane, push: &Push) -> String {
    let terms = DocumentTerms {
        expires_at: UnixSeconds(SystemClock.wall().0 + 60),
        instance: &push.instance.parse().unwrap(),
        caller: "arn:aws:iam::123456789012:user/jane",
        request: &push.request_id().parse().unwrap(),
        user: &push.user(),
        boot: &read_boot_id().unwrap(),
        key_line: &push.key_line(),
    };
    terms.sign(&control_plane.authority.signer).unwrap()
}

/// The program's own words when it cannot start.
#[tokio::test]
async fn a_machine_that_is_not_enrolled_cannot_run() {
    let control_plane = ControlPlane::start().await;
    let machine = Machine::new(&control_plane);
    fs::remove_file(machine.directories.state.join("link.json")).unwrap();
    let mut command = program();
    command
        .arg("run")
        .arg("--etc")
        .arg(&machine.directories.etc)
        .arg("--state")
        .arg(&machine.directories.state);
    command.arg("--run").arg(&machine.directories.run);
    let refused = output(command).await;
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.starts_with("instance-connect-agent: this machine is not enrolled"), "{text}");
    assert!(!machine.directories.run.exists());
}
