//! The command as sshd runs it: the real program, real files, the real boot clock.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test whose world cannot be set up fails there"
)]

use instance_connect_document::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const SECOND: u64 = 1_000_000_000;
const PROGRAM: &str = env!("CARGO_BIN_EXE_instance-connect-authorized-keys");
const CALLER: &str = "arn:aws:iam::111122223333:user/jane";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
const FINGERPRINT: &str = "SHA256:bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8";
const REQUEST: &str = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11";

/// A machine in a directory of its own, set up and with both receivers listening, and its control plane.
struct Machine {
    directory: TempDir,
    syslog: UnixDatagram,
    offers: UnixDatagram,
    anchor: SigningKey,
    signer: SigningKey,
    region: Region,
}

/// What a pushed grant says, by default just what the machine expects.
struct Push {
    user: String,
    instance: String,
    boot: String,
    request: String,
    key: String,
    /// From now, in nanoseconds; negative is past.
    ends_in: i64,
}

impl Default for Push {
    fn default() -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        Self {
            user: "alice".to_owned(),
            instance: "i-0123456789abcdef0".to_owned(),
            boot: boot.trim_end().to_owned(),
            request: REQUEST.to_owned(),
            key: KEY.to_owned(),
            // Enough for the slowest machine to run a test in, and within the minute.
            ends_in: 50_000_000_000,
        }
    }
}

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["etc", "run"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let bind = |name| {
            let socket = UnixDatagram::bind(directory.path().join(name)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let machine = Self {
            syslog: bind("log"),
            offers: bind("run/offers.sock"),
            anchor: SigningKey::from_seed(&[1; 32]).unwrap(),
            signer: SigningKey::from_seed(&[2; 32]).unwrap(),
            region: "us-east-1".parse().unwrap(),
            directory,
        };
        machine.set_up("instance-id", "i-0123456789abcdef0\n");
        machine.set_up("anchors", &Anchors::line(&machine.region, &machine.anchor.verifying_key()));
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file of root's.
    fn set_up(&self, name: &str, content: &str) {
        let path = self.path("etc").join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    }

    fn statement(&self) -> String {
        SignerStatement::issue(&self.anchor, self.signer.verifying_key(), &self.region, UnixDay(u32::MAX))
            .to_string()
    }

    fn document(&self, push: &Push) -> String {
        DocumentTerms {
            expires_at: UnixSeconds(4_000_000_000),
            instance: &push.instance.parse().unwrap(),
            caller: CALLER,
            request: &push.request.parse().unwrap(),
            user: &push.user.parse().unwrap(),
            boot: &push.boot.parse().unwrap(),
            key_line: &push.key,
        }
        .sign(&self.signer)
        .unwrap()
    }

    /// Hands a grant over, as an agent does, under the name of `alice` and [`KEY`].
    fn hand_over(&self, push: &Push) {
        self.hand_over_as(push, &self.statement(), &self.document(push), &key_path("alice", KEY));
    }

    fn hand_over_as(&self, push: &Push, statement: &str, document: &str, name: &str) {
        let now = boot_now();
        let deadline = BootInstant(now.0.saturating_add_signed(push.ends_in));
        let path = self.path("run").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let existing = fs::read(&path).ok();
        // Appended and not merged with what is there: merging would leave out ended grants, which tests want in.
        let mut file = existing.map(|file| String::from_utf8(file).unwrap()).unwrap_or_default();
        file += &merge(None, &Section { deadline, statement, document }, now).unwrap();
        fs::write(path, file).unwrap();
    }

    /// Runs the command with sshd's arguments.
    fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--etc").arg(self.path("etc")).arg("--run").arg(self.path("run"));
        command.arg("--syslog").arg(self.path("log"));
        command
    }

    /// Runs the command for `alice`, and expects that it says nothing to sshd. What the log got, without tag and pid.
    fn refusal(&self) -> Vec<String> {
        let output = self.run(["alice", FINGERPRINT, "1000"]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), ""));
        assert_eq!(received(&self.offers), [""; 0]);
        self.logged()
    }

    /// Runs the command for `alice`, and expects it to find its installation broken.
    fn breakage(&self) -> String {
        let output = self.run(["alice", FINGERPRINT, "1000"]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
        let logged = self.logged();
        assert_eq!(text(&output.stderr), format!("{}\n", logged[0]));
        assert_eq!(logged.len(), 1);
        logged[0].replace(self.directory.path().to_str().unwrap(), "")
    }

    fn logged(&self) -> Vec<String> {
        let message = |datagram: &String| {
            let rest = datagram.strip_prefix("<86>ec2-instance-connect[").unwrap();
            let (pid, message) = rest.split_once("]: ").unwrap();
            assert!(pid.parse::<u32>().is_ok());
            message.to_owned()
        };
        received(&self.syslog).iter().map(message).collect()
    }
}

fn received(socket: &UnixDatagram) -> Vec<String> {
    let mut datagrams = Vec::new();
    let mut buffer = [0; 8192];
    while let Ok(length) = socket.recv(&mut buffer) {
        datagrams.push(text(&buffer[..length]).to_owned());
    }
    datagrams
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn boot_now() -> BootInstant {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    BootInstant(u64::try_from(now.tv_sec).unwrap() * SECOND + u64::try_from(now.tv_nsec).unwrap())
}

fn key_path(user: &str, key: &str) -> String {
    live_file(&user.parse().unwrap(), &KeyLine::parse(key).unwrap().fingerprint())
}

/// A key of its own for each number.
fn key(number: u8) -> String {
    let blob = [&b"\0\0\0\x0bssh-ed25519\0\0\0 "[..], &[number; 32]].concat();
    format!("ssh-ed25519 {}", base64_encode(&blob))
}

fn refused(reason: &str) -> [String; 1] {
    [format!("Refused the ssh key with fingerprint: {FINGERPRINT}, for user alice: {reason}")]
}

fn providing(request: &str) -> String {
    format!(
        "Providing ssh key from EC2 Instance Connect with fingerprint: {FINGERPRINT}, request-id: {request}, \
         for IAM principal: {CALLER}"
    )
}

#[test]
fn a_pushed_key_is_printed_logged_and_reported() {
    let machine = Machine::new();
    machine.hand_over(&Push::default());
    let before = boot_now();
    let output = machine.run(["alice", FINGERPRINT, "1000"]);
    assert_eq!(
        (output.status.code(), text(&output.stdout), text(&output.stderr)),
        (Some(0), &*format!("{KEY}\n"), "")
    );
    assert_eq!(machine.logged(), [providing(REQUEST)]);
    let offers = received(&machine.offers);
    let offer = Offer::parse(offers[0].as_bytes()).unwrap();
    assert_eq!(offers.len(), 1);
    assert_eq!((offer.user.as_str(), offer.fingerprint.to_string().as_str()), ("alice", FINGERPRINT));
    assert_eq!(offer.requests, [REQUEST.parse().unwrap()]);
    assert!((before..=boot_now()).contains(&offer.at));
    // It may be asked for again until its deadline: sshd asks at least twice for one login.
    assert_eq!(text(&machine.run(["alice", FINGERPRINT, "1000"]).stdout), format!("{KEY}\n"));
}

/// Every type that can be pushed: sshd gets the line as it stands in the document. Those of FIDO devices are followed no
/// further than here, for want of a device.
#[test]
fn keys_of_every_type_are_printed() {
    for name in [
        "ssh-rsa",
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    ] {
        let machine = Machine::new();
        let length = u32::try_from(name.len()).unwrap().to_be_bytes();
        let key = format!("{name} {}", base64_encode(&[&length, name.as_bytes(), b"the key"].concat()));
        let push = Push { key: key.clone(), ..Push::default() };
        machine.hand_over_as(&push, &machine.statement(), &machine.document(&push), &key_path("alice", &key));
        let fingerprint = KeyLine::parse(&key).unwrap().fingerprint().to_string();
        let output = machine.run(["alice", &fingerprint, "1000"]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), &*format!("{key}\n")), "{name}");
    }
}

#[test]
fn no_key_is_silence_and_nothing_else_is_read() {
    let machine = Machine::new();
    fs::remove_dir_all(machine.path("etc")).unwrap();
    for arguments in
        [&["alice", FINGERPRINT, "1000"][..], &["alice"], &["$(id)/../..", FINGERPRINT], &["alice", ""]]
    {
        let output = machine.run(arguments);
        assert_eq!((output.status.code(), output.stdout, output.stderr), (Some(0), vec![], vec![]));
    }
    // The same before an agent has ever run, and without a log to write to.
    fs::remove_dir_all(machine.path("run")).unwrap();
    fs::remove_file(machine.path("log")).unwrap();
    let output = machine.run(["alice", FINGERPRINT, "1000"]);
    assert_eq!((output.status.code(), output.stdout, output.stderr), (Some(0), vec![], vec![]));
    assert_eq!(machine.logged(), [""; 0]);
}

#[test]
fn another_users_document_served_under_this_name_is_refused() {
    let machine = Machine::new();
    machine.hand_over(&Push { user: "bob".to_owned(), ..Push::default() });
    assert_eq!(machine.refusal(), refused("it is for another user"));
}

#[test]
fn another_users_key_file_is_not_found() {
    let machine = Machine::new();
    let push = Push { user: "bob".to_owned(), ..Push::default() };
    machine.hand_over_as(&push, &machine.statement(), &machine.document(&push), &key_path("bob", KEY));
    assert_eq!(machine.refusal(), [""; 0]);
}

#[test]
fn another_instances_document_is_refused() {
    let machine = Machine::new();
    machine.hand_over(&Push { instance: "i-0123456789abcdef1".to_owned(), ..Push::default() });
    assert_eq!(machine.refusal(), refused("it is for another instance"));
}

#[test]
fn a_document_from_before_a_reboot_is_refused() {
    let machine = Machine::new();
    machine.hand_over(&Push { boot: REQUEST.to_owned(), ..Push::default() });
    assert_eq!(machine.refusal(), refused("it is from before this boot"));
}

#[test]
fn another_key_under_this_fingerprint_is_refused() {
    let machine = Machine::new();
    machine.hand_over(&Push { key: key(7), ..Push::default() });
    assert_eq!(machine.refusal(), refused("it is for another key"));
}

#[test]
fn one_flipped_bit_is_refused() {
    let machine = Machine::new();
    let push = Push::default();
    let document = machine.document(&push).replace("user/jane", "user/kane");
    machine.hand_over_as(&push, &machine.statement(), &document, &key_path("alice", KEY));
    assert_eq!(machine.refusal(), refused("its signature is not its signer's"));
}

#[test]
fn a_signer_not_under_the_anchor_is_refused() {
    let machine = Machine::new();
    machine.hand_over(&Push::default());
    let other = SigningKey::from_seed(&[3; 32]).unwrap().verifying_key();
    machine.set_up("anchors", &Anchors::line(&machine.region, &other));
    assert_eq!(machine.refusal(), refused("its signer is not vouched for by an anchor of this machine"));
}

#[test]
fn a_key_past_its_deadline_is_refused() {
    let machine = Machine::new();
    // Run after this instant, whatever its resolution: the deadline is now or was.
    machine.hand_over(&Push { ends_in: 0, ..Push::default() });
    assert_eq!(machine.refusal(), refused("its deadline has passed"));
}

#[test]
fn a_deadline_more_than_60_s_ahead_is_refused() {
    let machine = Machine::new();
    machine.hand_over(&Push { ends_in: 3_600_000_000_000, ..Push::default() });
    assert_eq!(machine.refusal(), refused("its deadline is further ahead than a key may live"));
}

#[test]
fn the_hosts_veto_is_obeyed() {
    let machine = Machine::new();
    machine.hand_over(&Push::default());
    let rows = [
        ("deny_users = [\"alice\"]", "this machine's host.toml denies the user"),
        ("allow_users = [\"bob\"]", "this machine's host.toml does not allow the user"),
        ("max_lifetime_seconds = 1", "its deadline is further ahead than a key may live"),
    ];
    for (veto, reason) in rows {
        machine.set_up("host.toml", veto);
        assert_eq!(machine.refusal(), refused(reason), "{veto}");
    }
    machine.set_up("host.toml", "allow_users = [\"alice\"]");
    assert_eq!(text(&machine.run(["alice", FINGERPRINT, "1000"]).stdout), format!("{KEY}\n"));
}

#[test]
fn root_needs_to_be_allowed_by_name() {
    let machine = Machine::new();
    let offered_to = |user: &str, uid: &[&str]| {
        let push = Push { user: user.to_owned(), ..Push::default() };
        machine.hand_over_as(&push, &machine.statement(), &machine.document(&push), &key_path(user, KEY));
        let arguments = [&[user, FINGERPRINT], uid].concat();
        let output = machine.run(arguments);
        assert_eq!(output.status.code(), Some(0));
        text(&output.stdout) == format!("{KEY}\n")
    };
    assert!(!offered_to("root", &["0"]));
    assert!(!offered_to("root", &[]), "without %U the name tells");
    assert!(!offered_to("root", &["%U"]));
    assert!(!offered_to("toor", &["0"]), "whatever uid 0 is called");
    assert!(offered_to("alice", &[]));
    machine.set_up("host.toml", "allow_users = [\"root\"]");
    assert!(offered_to("root", &["0"]));
    assert!(offered_to("root", &[]));
    assert!(!offered_to("toor", &["0"]));
}

#[test]
fn a_key_pushed_twice_is_printed_once_and_logged_for_both() {
    const SECOND_REQUEST: &str = "11111111-6a0e-4c11-9d0b-1c5a6f0e9a11";
    let machine = Machine::new();
    machine.hand_over(&Push::default());
    machine.hand_over(&Push {
        request: SECOND_REQUEST.to_owned(),
        ends_in: 55_000_000_000,
        ..Push::default()
    });
    let output = machine.run(["alice", FINGERPRINT, "1000"]);
    assert_eq!(text(&output.stdout), format!("{KEY}\n"));
    assert_eq!(machine.logged(), [providing(REQUEST), providing(SECOND_REQUEST)]);
    let offer = Offer::parse(received(&machine.offers)[0].as_bytes()).unwrap();
    assert_eq!(offer.requests, [REQUEST.parse().unwrap(), SECOND_REQUEST.parse().unwrap()]);
}

#[test]
fn beside_a_live_grant_an_ended_one_is_passed_over_and_a_forged_one_is_reported() {
    let machine = Machine::new();
    machine.hand_over(&Push {
        request: "22222222-6a0e-4c11-9d0b-1c5a6f0e9a11".to_owned(),
        ends_in: -1,
        ..Push::default()
    });
    machine.hand_over(&Push::default());
    let output = machine.run(["alice", FINGERPRINT, "1000"]);
    assert_eq!(text(&output.stdout), format!("{KEY}\n"));
    assert_eq!(machine.logged(), [providing(REQUEST)]);
    let push = Push::default();
    let forged = machine.document(&push).replace("user/jane", "user/root");
    machine.hand_over_as(&push, &machine.statement(), &forged, &key_path("alice", KEY));
    let output = machine.run(["alice", FINGERPRINT, "1000"]);
    assert_eq!(text(&output.stdout), format!("{KEY}\n"));
    let [forgery] = refused("its signature is not its signer's");
    assert_eq!(machine.logged(), [providing(REQUEST), forgery]);
}

#[test]
fn without_a_fingerprint_all_live_keys_of_the_user_are_printed() {
    let machine = Machine::new();
    let mut expected = Vec::new();
    for number in 0..5 {
        let push = Push {
            key: key(number),
            ends_in: if number == 4 { 0 } else { 50_000_000_000 },
            ..Push::default()
        };
        machine.hand_over_as(
            &push,
            &machine.statement(),
            &machine.document(&push),
            &key_path("alice", &push.key),
        );
        expected.extend((number != 4).then_some(push.key));
    }
    let directory = machine.path("run").join(live_directory(&"alice".parse().unwrap()));
    fs::write(directory.join(".half-written"), "junk").unwrap();
    fs::write(directory.join("F".repeat(64)), "junk").unwrap();
    fs::create_dir(directory.join("0".repeat(64))).unwrap();
    expected.sort();
    for fingerprint in [None, Some(""), Some("MD5:aa:bb"), Some("%f")] {
        let output = machine.run(["alice"].into_iter().chain(fingerprint));
        let mut keys: Vec<&str> = text(&output.stdout).lines().collect();
        keys.sort_unstable();
        assert_eq!((output.status.code(), keys), (Some(0), expected.iter().map(String::as_str).collect()));
        let logged = machine.logged();
        assert_eq!(logged.len(), 5, "the directory among them is odd, the ended key is not: {logged:?}");
        assert_eq!(logged.iter().filter(|line| line.ends_with("it is not a regular file")).count(), 1);
        assert_eq!(received(&machine.offers).len(), 4);
    }
}

/// What the chained command would do, nobody finds out: it is not run. Without a fingerprint it may know more.
#[test]
fn a_pushed_key_is_not_at_the_mercy_of_a_chained_command() {
    let machine = Machine::new();
    machine.hand_over(&Push::default());
    let marker = machine.path("asked");
    let touch = format!("touch {}; echo ssh-ed25519 BBBB; exit 1", marker.display());
    let output = machine.run(["alice", FINGERPRINT, "1000", "--chain", "/bin/sh", "-c", &touch]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), format!("{KEY}\n").as_str()));
    assert!(!marker.exists());

    let output = machine.run(["alice", "MD5:16:27:ac", "1000", "--chain", "/bin/sh", "-c", &touch]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), format!("{KEY}\n").as_str()));
    assert!(marker.exists());

    let output = machine.run(["alice", "MD5:16:27:ac", "1000", "--chain", "/bin/echo", "ssh-ed25519 BBBB"]);
    let both = format!("{KEY}\nssh-ed25519 BBBB\n");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), both.as_str()));
}

#[test]
fn a_scan_reads_no_more_than_64_files() {
    let machine = Machine::new();
    let statement = machine.statement();
    for number in 0..=64 {
        let push = Push { key: key(number), ..Push::default() };
        machine.hand_over_as(&push, &statement, &machine.document(&push), &key_path("alice", &push.key));
    }
    // Nobody reads the sockets meanwhile; their queues are full long before the last line.
    let output = machine.run(["alice"]);
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(0), 64));
}

#[test]
fn what_is_no_key_file_is_refused() {
    let machine = Machine::new();
    machine.hand_over(&Push::default());
    let path = machine.path("run").join(key_path("alice", KEY));
    let good = fs::read(&path).unwrap();
    let elsewhere = machine.path("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();

    symlink(&elsewhere, &path).unwrap();
    assert_eq!(machine.refusal(), refused("it is not a regular file"), "a symbolic link");
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    assert_eq!(machine.refusal(), refused("it is not a regular file"), "a directory");
    fs::remove_dir(&path).unwrap();

    for kind in [FileType::Fifo, FileType::Socket] {
        // A FIFO has no writer here, and whoever opened it without care would wait for one.
        mknodat(CWD, &path, kind, Mode::RWXU, 0).unwrap();
        assert_eq!(machine.refusal(), refused("it is not a regular file"), "{kind:?}");
        fs::remove_file(&path).unwrap();
    }

    fs::write(&path, [&good[..], &vec![b'x'; 64 * 1024 + 1 - good.len()]].concat()).unwrap();
    assert_eq!(machine.refusal(), refused("it is too long"));
    fs::write(&path, [&good[..], b"x\n"].concat()).unwrap();
    assert_eq!(
        machine.refusal(),
        refused("a section of the hand-over file does not begin with its deadline")
    );
    fs::write(&path, b"").unwrap();
    assert_eq!(machine.refusal(), refused("the hand-over file is not text, or is cut off"));
    fs::write(&path, &good).unwrap();
    assert_eq!(text(&machine.run(["alice", FINGERPRINT, "1000"]).stdout), format!("{KEY}\n"));
}

#[test]
fn a_broken_installation_fails_and_says_why() {
    let machine = Machine::new();
    machine.hand_over(&Push::default());
    let said =
        |file: &str, reason: &str| format!("Unable to run EC2 Instance Connect: \"/etc/{file}\": {reason}");
    machine.set_up("host.toml", "\nallow_user = []");
    let keys = "the keys here are allow_users, deny_users, max_lifetime_seconds, stream_ports";
    assert_eq!(machine.breakage(), said("host.toml", &format!("line 2: {keys}")));
    fs::remove_file(machine.path("etc/host.toml")).unwrap();

    let anchors = fs::read_to_string(machine.path("etc/anchors")).unwrap();
    machine.set_up("anchors", "# ours\nus-east-1 rsa AAAA");
    assert_eq!(machine.breakage(), said("anchors", "line 2: the second field is not ed25519"));
    machine.set_up("anchors", &"#".repeat(64 * 1024 + 1));
    assert_eq!(machine.breakage(), said("anchors", "it is too long"));
    fs::remove_file(machine.path("etc/anchors")).unwrap();
    assert_eq!(machine.breakage(), said("anchors", "it is missing"));
    symlink(machine.path("elsewhere"), machine.path("etc/anchors")).unwrap();
    assert_eq!(machine.breakage(), said("anchors", "it is not a regular file"));
    fs::remove_file(machine.path("etc/anchors")).unwrap();
    machine.set_up("anchors", &anchors);

    machine.set_up("instance-id", "mi-0123456789abcdef0");
    let id = "an instance id is i- and 8 to 30 lower-case hex digits";
    assert_eq!(machine.breakage(), said("instance-id", id));
}

#[test]
fn anchors_that_others_may_write_to_are_not_trusted() {
    let machine = Machine::new();
    machine.hand_over(&Push::default());
    let anchors = machine.path("etc/anchors");
    for mode in [0o660, 0o606] {
        fs::set_permissions(&anchors, fs::Permissions::from_mode(mode)).unwrap();
        let reason = "it must be root's, and writable by its owner only";
        assert_eq!(
            machine.breakage(),
            format!("Unable to run EC2 Instance Connect: \"/etc/anchors\": {reason}"),
            "{mode:o}"
        );
    }
}

#[test]
fn full_and_absent_receivers_hold_nothing_up() {
    let machine = Machine::new();
    machine.hand_over(&Push::default());
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    for name in ["log", "run/offers.sock"] {
        let full = loop {
            if let Err(error) = sender.send_to(b"full", machine.path(name)) {
                break error.kind();
            }
        };
        assert_eq!(full, ErrorKind::WouldBlock);
    }
    let expected = (Some(0), format!("{KEY}\n"));
    let printed = || {
        let output = machine.run(["alice", FINGERPRINT, "1000"]);
        (output.status.code(), text(&output.stdout).to_owned())
    };
    assert_eq!(printed(), expected);
    for name in ["log", "run/offers.sock"] {
        fs::remove_file(machine.path(name)).unwrap();
    }
    assert_eq!(printed(), expected);
    // Something else than a datagram socket in their place.
    let _listener = UnixListener::bind(machine.path("log")).unwrap();
    fs::create_dir(machine.path("run/offers.sock")).unwrap();
    assert_eq!(printed(), expected);
}

#[test]
fn a_key_that_nobody_takes_is_not_reported_as_given() {
    let machine = Machine::new();
    machine.hand_over(&Push::default());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = machine.command();
    command.args(["alice", FINGERPRINT, "1000"]).stdout(writer).stderr(Stdio::null());
    assert_eq!(command.status().unwrap().code(), Some(1));
    assert_eq!(machine.logged(), ["Unable to run EC2 Instance Connect: sshd did not take the key."]);
    assert_eq!(received(&machine.offers), [""; 0]);
}

#[test]
fn command_lines_that_cannot_be_followed_fail_and_say_why() {
    let machine = Machine::new();
    let stock = "Unable to run EC2 Instance Connect: insufficient args provided.  Please check your sshd configuration.";
    let rows: [(&[&str], &str); 5] = [
        (&[], stock),
        (&[""], "EC2 Instance Connect was invoked without a user to authorize and will do nothing."),
        (
            &["--etc"],
            "Unable to run EC2 Instance Connect: an option has no value. Please check your sshd configuration.",
        ),
        (
            &["--bogus", "alice"],
            "Unable to run EC2 Instance Connect: unknown option. Please check your sshd configuration (--help lists them).",
        ),
        (
            &["alice", FINGERPRINT, "0", "more"],
            "Unable to run EC2 Instance Connect: more args than %u %f %U. Please check your sshd configuration.",
        ),
    ];
    for (arguments, expected) in rows {
        let output = machine.run(arguments);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
        assert_eq!(text(&output.stderr), format!("{expected}\n"));
        assert_eq!(machine.logged(), [expected]);
    }
    // Also without any of our options, as a wrong sshd_config has it.
    let output = Command::new(PROGRAM).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), &*format!("{stock}\n")));
}

#[test]
fn help_and_version_are_printed() {
    let help = Command::new(PROGRAM).arg("--help").output().unwrap();
    assert!(help.status.success() && text(&help.stdout).contains("AuthorizedKeysCommand /usr/libexec/"));
    let version = Command::new(PROGRAM).arg("--version").output().unwrap();
    let expected = format!("instance-connect-authorized-keys {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&version.stdout), expected);
}

/// What runs before login is this and nothing else.
#[test]
fn the_dependency_tree_is_pinned() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", "instance-connect-authorized-keys"])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut crates: Vec<&str> =
        text(&output.stdout).lines().filter_map(|line| line.split_whitespace().next()).collect();
    crates.sort_unstable();
    crates.dedup();
    let expected = [
        "aws-lc-rs",
        "aws-lc-sys",
        "bitflags",
        "instance-connect-authorized-keys",
        "instance-connect-document",
        // Nothing, in a release.
        "instance-connect-planted",
        "linux-raw-sys",
        "rustix",
        "zeroize",
    ];
    assert_eq!(crates, expected);
}
