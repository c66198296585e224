//! The command line.

use crate::gateway::{World, run};
use std::fs;
use std::net::TcpListener;

#[test]
fn the_help_says_how_to_begin_and_every_bound() {
    let directory = tempfile::tempdir().unwrap();
    let (status, help, _) = run(&["--help"], directory.path());
    assert_eq!(status, Some(0));
    for said in ["serve", "init", "--socket", "ssh -i key", "send-serial-console-ssh-public-key"] {
        assert!(help.contains(said), "{said}: {help}");
    }
    assert!(help.lines().all(|line| line.len() <= 110), "{help}");
    let (_, help, _) = run(&["serve", "--help"], directory.path());
    for (option, default) in [
        ("--authentication-time", "10"),
        ("--unauthenticated-per-source", "4"),
        ("--unauthenticated", "64"),
        ("--sessions", "1024"),
        ("--longest-session", "3600"),
        ("--idle", "0"),
        ("--keep-alive", "30"),
        ("--keep-alives-unanswered", "3"),
    ] {
        let (_, said) = help.split_once(&format!("{option} <")).unwrap_or_else(|| panic!("{option}: {help}"));
        let (_, said) = said.split_once("[default: ").unwrap();
        assert!(said.starts_with(&format!("{default}]")), "{option}: {said}");
    }
}

#[test]
fn what_cannot_be_is_said_at_once() {
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (arguments, status, said) in [
        (&["serve", "--authentication-time", "0"][..], 2, "--authentication-time"),
        (&["serve", "--keep-alive", "0"], 2, "--keep-alive"),
        (&["serve", "--sessions", "0"], 2, "--sessions"),
        (&["serve", "--listen", "here"], 2, "--listen"),
        (&["serve", "--host-keys", "keys", "--listen", &taken], 1, "Address already in use"),
        (&["serve", "--host-keys", "/proc/none", "--listen", "127.0.0.1:0"], 1, "/proc/none: "),
        (&["init", "--host-keys", "/proc/none"], 1, "/proc/none: "),
    ] {
        let (code, out, error) = run(arguments, world.directory.path());
        assert_eq!((code, out.as_str()), (Some(status), ""), "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

/// What the control plane is told is what people will see.
#[test]
fn it_introduces_itself() {
    let world = World::new();
    // Once more, as after a restart of the control plane.
    world.plane.die();
    world.plane.begin();
    let serve = world.plane.gateways.recv_timeout(crate::control_plane::PATIENCE).unwrap();
    assert_eq!(serve.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(serve.address, world.address);
    // Clients that know no ED25519 have to be asked for.
    let file = fs::read_to_string(world.file("keys").join("ssh_host_ed25519_key.pub")).unwrap();
    assert_eq!(serve.host_keys, [file.trim_end()]);
    assert_eq!(serve.host_keys, world.host_keys);
}

/// systemd is told that it is there, whatever else is not.
#[test]
fn it_starts_without_a_control_plane_and_waits_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let plane = crate::control_plane::ControlPlane::start(directory.path());
    plane.die();
    let mut world = World::beside(directory, plane, &[]);
    let key = world.pushed_key();
    assert_eq!(world.ssh(&key, &["-T"], &[]).ends().status, Some(255));
    world.plane.begin();
    world.plane.gateways.recv_timeout(crate::control_plane::PATIENCE).unwrap();
    let _ssh = world.ssh(&key, &["-T"], &[]);
    world.plane.line();
    assert!(world.is_running());
}
