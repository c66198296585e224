//! Who comes in, and what it looks like not to.

use crate::control_plane::{PATIENCE, now};
use crate::gateway::{ADDRESS, INSTANCE, World, run};
use instance_connect_core::stream::StreamFrame;
use std::fs::{self, Permissions};
use std::io::Read as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;

const DENIED: &str = "Permission denied (publickey).\r\n";

#[test]
fn whoever_is_not_expected_sees_one_and_the_same() {
    let world = World::new();
    let expected = world.pushed_key();
    let other = world.key("ed25519");
    let no_instance = format!("{INSTANCE}.port1");
    let unknown = "i-0fedcba9876543210.port0";
    for (user, key) in [
        (ADDRESS, &other),
        (unknown, &expected),
        (unknown, &other),
        (no_instance.as_str(), &expected),
        (INSTANCE, &expected),
        ("root", &expected),
        ("root", &other),
    ] {
        let outcome = world.ssh(key, &["-T", "-l", user], &[]).ends();
        let seen = (outcome.status, outcome.stdout.as_str(), outcome.stderr.rsplit(": ").next().unwrap());
        assert_eq!(seen, (Some(255), "", DENIED), "{user}");
    }
    assert!(world.plane.attaches().is_empty());
    // What is no address is not even asked about.
    let asked: Vec<String> = world.plane.offers().iter().map(|offer| offer.address.to_string()).collect();
    assert_eq!(asked, [ADDRESS, unknown, unknown]);
    // The key and the line together.
    let _ssh = world.ssh(&expected, &["-T"], &[]);
    world.plane.line();
}

/// The time that a refusal takes does not say what it was for: it is at least 200 ms, asked about or not, and the control plane has
/// answered by then. Eight of them, next to which all the rest that ssh does is short.
#[test]
fn refusals_take_the_same_time() {
    let world = World::new();
    let mut keys: Vec<_> = (0..8).map(|_| world.key("ed25519")).collect();
    let last = keys.pop().unwrap();
    for user in [ADDRESS, "i-0fedcba9876543210.port0", "root"] {
        let mut arguments = vec!["-T", "-l", user];
        arguments.extend(keys.iter().flat_map(|key| ["-i", key.file.to_str().unwrap()]));
        let began = now();
        let outcome = world.ssh(&last, &arguments, &[]).ends();
        let took = began.elapsed();
        assert!(outcome.stderr.ends_with(DENIED), "{user}: {outcome:?}");
        assert!(took.as_millis() >= 8 * 200, "{user}: {took:?}");
    }
    assert_eq!(world.plane.offers().len(), 2 * 8);
}

#[test]
fn keys_are_the_only_way_in() {
    let world = World::new();
    let key = world.pushed_key();
    let methods = "PreferredAuthentications=password,keyboard-interactive,hostbased,gssapi-with-mic";
    let outcome = world.ssh(&key, &["-T", "-o", methods], &[]).ends();
    assert_eq!(outcome.status, Some(255), "{outcome:?}");
    assert!(outcome.stderr.ends_with(DENIED), "{outcome:?}");
    assert!(world.plane.offers().is_empty());
}

#[test]
fn keys_of_each_type_and_rsa_without_sha_1() {
    let world = World::new();
    for kind in ["ed25519", "rsa", "ecdsa"] {
        let key = world.key(kind);
        world.plane.expect(ADDRESS, &key.line);
        let mut ssh = world.ssh(&key, &["-T"], &[]);
        world.plane.line().says("login: ");
        ssh.sees("login: ");
    }
    let key = world.key("rsa");
    world.plane.expect(ADDRESS, &key.line);
    let asked = world.plane.offers().len();
    let outcome = world.ssh(&key, &["-T", "-o", "PubkeyAcceptedAlgorithms=ssh-rsa"], &[]).ends();
    assert_eq!(outcome.status, Some(255), "{outcome:?}");
    assert!(outcome.stderr.contains("Permission denied"), "{outcome:?}");
    assert_eq!(world.plane.offers().len(), asked);
}

/// A key that somebody has certified is not the key that was pushed.
#[test]
fn a_certificate_is_no_key() {
    let world = World::new();
    let key = world.pushed_key();
    let authority = world.key("ed25519");
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen
        .args(["-q", "-I", "id", "-n", ADDRESS, "-s"])
        .arg(&authority.file)
        .arg(key.file.with_extension("pub"));
    assert!(keygen.status().unwrap().success());
    let certificate = format!("CertificateFile={}-cert.pub", key.file.display());
    let only = "PubkeyAcceptedAlgorithms=ssh-ed25519-cert-v01@openssh.com";
    let outcome = world.ssh(&key, &["-T", "-o", &certificate, "-o", only], &[]).ends();
    assert_eq!(outcome.status, Some(255), "{outcome:?}");
    assert!(world.plane.attaches().is_empty());
}

#[test]
fn keys_that_a_connection_may_offer_are_counted() {
    let world = World::new();
    let pushed = world.pushed_key();
    let files: Vec<String> = (0..12).map(|_| world.key("ed25519").file.display().to_string()).collect();
    let options = |count: usize| {
        let mut options = vec!["-T".to_owned()];
        options.extend(files[..count].iter().flat_map(|file| ["-i".to_owned(), file.clone()]));
        options.extend(["-i".to_owned(), pushed.file.display().to_string()]);
        options
    };
    // Each ssh here has a key of its own besides, which is offered last.
    let first = world.key("ed25519");
    let few = options(7);
    let few: Vec<&str> = few.iter().map(String::as_str).collect();
    let _ssh = world.ssh(&first, &few, &[]);
    world.plane.line();
    assert_eq!(world.plane.offers().len(), 8);

    let many = options(12);
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let outcome = world.ssh(&first, &many, &[]).ends();
    assert_eq!(outcome.status, Some(255));
    assert!(outcome.stderr.contains("Too many authentication"), "{outcome:?}");
    assert_eq!(world.plane.offers().len(), 16, "the ninth is not asked about");
}

#[test]
fn each_host_key_proves_the_gateway_and_stays() {
    let mut world = World::with(&["--ecdsa-host-key"]);
    for algorithm in ["ssh-ed25519", "ecdsa-sha2-nistp256"] {
        let key = world.pushed_key();
        let mut ssh = world.ssh(&key, &["-T", "-o", &format!("HostKeyAlgorithms={algorithm}")], &[]);
        world.plane.line().send(&StreamFrame::Data(b"here"));
        ssh.sees("here");
    }
    let keys = world.host_keys.clone();
    assert_eq!(world.plane.gateways.try_iter().count(), 0);
    assert!(world.stop().success());
    let (status, out, error) = run(&["init", "--host-keys", "keys"], world.directory.path());
    assert_eq!((status, error.as_str()), (Some(0), ""));
    let fingerprints: Vec<&str> = out.lines().collect();
    assert_eq!(fingerprints.len(), 2, "{out}");
    for (line, key) in fingerprints.iter().zip(&keys) {
        assert!(line.starts_with(&format!("{} SHA256:", key.split(' ').next().unwrap())), "{line} {key}");
    }
}

#[test]
fn a_gateway_does_not_start_with_host_keys_that_others_can_read() {
    let directory = tempfile::tempdir().unwrap();
    run(&["init", "--host-keys", "keys"], directory.path());
    let key = directory.path().join("keys/ssh_host_ed25519_key");
    fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    let serve = ["serve", "--host-keys", "keys", "--socket", "none", "--listen", "127.0.0.1:0"];
    let (status, out, error) = run(&serve, directory.path());
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert!(error.contains("keys/ssh_host_ed25519_key: others can read or change it"), "{error}");
}

/// Strangers learn the name of the program, and which algorithms it has.
#[test]
fn the_first_line_says_no_version() {
    let world = World::new();
    let mut socket = TcpStream::connect(world.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut line = [0; 25];
    socket.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"SSH-2.0-InstanceConnect\r\n");
}

/// Keys of a person are nobody's business but the control plane's, and their private halves are not even there.
#[test]
fn the_log_has_who_and_when_and_no_more() {
    let world = World::new();
    let key = world.pushed_key();
    let mut ssh = world.ssh(&key, &["-T"], &[]);
    let mut line = world.plane.line();
    ssh.types("hunter2\r");
    line.hears("hunter2\r");
    line.says("s3cret");
    line.ends("Bye.");
    ssh.ends();
    let log = world.log();
    assert!(log.contains("key=\"SHA256:") && !log.contains(&key.line), "{log}");
    assert!(log.contains(ADDRESS) && log.contains("127.0.0.1") && log.contains("5f8b0e0c"), "{log}");
    assert!(!log.contains("hunter2") && !log.contains("s3cret"), "{log}");
}
