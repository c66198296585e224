//! Enrolment: who is believed, what is written, and what is said when it does not work.

use crate::control_plane::{ControlPlane, INSTANCE, PATIENCE};
use crate::machine::{BOOT, boot, mode};
use http::StatusCode;
use instance_connect_agent::{Directories, EnrollFailure, Enrollment, enroll};
use instance_connect_core::link::{EnrollError, EnrollErrorCode, JoinTokenText};
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use tokio::time::timeout;
use zeroize::Zeroizing;

const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp";

fn enrollment(control_plane: &ControlPlane, directory: &Path) -> Enrollment {
    let at = |name: &str| directory.join(name);
    Enrollment {
        server: control_plane.url(),
        token: control_plane.authority.token(),
        directories: Directories { etc: at("a/etc"), state: at("b/state"), run: at("run") },
        replace: false,
        boot_id: boot(BOOT),
        ssh_host_keys: at("ssh"),
    }
}

async fn failure(enrollment: Enrollment) -> EnrollFailure {
    timeout(PATIENCE, enroll(enrollment)).await.unwrap().unwrap_err()
}

#[tokio::test]
async fn an_identity_is_written_whole_and_with_tight_modes() {
    let (control_plane, directory) = (ControlPlane::start().await, TempDir::new().unwrap());
    fs::create_dir(directory.path().join("ssh")).unwrap();
    for (name, text) in [
        ("ssh_host_ed25519_key.pub", format!("{HOST_KEY} root@host\n")),
        ("ssh_host_ed25519_key", "private".to_owned()),
        // Nothing that is no host key is sent, and no key of another file.
        ("ssh_host_x_key.pub", "ssh-x AAAA\n".to_owned()),
        ("ssh_host_z_key.pub", format!("command=\"x\" {HOST_KEY}\n")),
        ("id.pub", HOST_KEY.to_owned()),
    ] {
        fs::write(directory.path().join("ssh").join(name), text).unwrap();
    }
    let enrolled = enroll(enrollment(&control_plane, directory.path())).await.unwrap();
    assert_eq!(enrolled.instance_id, INSTANCE);
    let rows = [
        ("a/etc", 0o755),
        ("a/etc/instance-id", 0o644),
        ("a/etc/anchors", 0o644),
        ("a/etc/host.toml", 0o644),
        ("b/state", 0o700),
        ("b/state/identity.pem", 0o600),
        ("b/state/server-ca.pem", 0o644),
        ("b/state/link.json", 0o644),
    ];
    for (path, expected) in rows {
        assert_eq!(mode(&directory.path().join(path)), expected, "{path}");
    }
    let read = |path: &str| fs::read_to_string(directory.path().join(path)).unwrap();
    assert_eq!(read("a/etc/instance-id"), format!("{INSTANCE}\n"));
    assert_eq!(read("a/etc/anchors"), control_plane.authority.anchors());
    assert_eq!(read("b/state/server-ca.pem"), control_plane.authority.server_ca());
    assert!(read("b/state/link.json").contains(&control_plane.url().to_string()));
    assert_eq!(fs::read_dir(directory.path().join("b/state")).unwrap().count(), 3);
    let requests = control_plane.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(*requests[0].token.expose(), *control_plane.authority.token().expose());
    assert_eq!(requests[0].ssh_host_keys, [HOST_KEY]);
    assert_eq!((requests[0].boot_id.as_str(), requests[0].replace), (BOOT, false));
}

#[tokio::test]
async fn a_second_identity_needs_replace_and_leaves_host_toml_alone() {
    let (control_plane, directory) = (ControlPlane::start().await, TempDir::new().unwrap());
    enroll(enrollment(&control_plane, directory.path())).await.unwrap();
    let host_toml = directory.path().join("a/etc/host.toml");
    fs::write(&host_toml, "deny_users = [\"mallory\"]\n").unwrap();
    let key = fs::read(directory.path().join("b/state/identity.pem")).unwrap();
    let again = failure(enrollment(&control_plane, directory.path())).await;
    assert!(matches!(&again, EnrollFailure::AlreadyEnrolled(instance) if instance == INSTANCE), "{again}");
    assert_eq!(control_plane.requests().len(), 1, "the token was not used up");
    enroll(Enrollment { replace: true, ..enrollment(&control_plane, directory.path()) }).await.unwrap();
    assert!(control_plane.requests()[1].replace);
    assert_eq!(fs::read_to_string(&host_toml).unwrap(), "deny_users = [\"mallory\"]\n");
    assert_ne!(fs::read(directory.path().join("b/state/identity.pem")).unwrap(), key);
}

/// Catches the planted `pin-ignored`.
#[tokio::test]
async fn a_server_without_the_tokens_ca_never_sees_the_token() {
    let (control_plane, directory) = (ControlPlane::start().await, TempDir::new().unwrap());
    let token = JoinTokenText::new(INSTANCE.parse().unwrap(), Zeroizing::new([3; 32]), [0; 32]);
    let refused = failure(Enrollment { token, ..enrollment(&control_plane, directory.path()) }).await;
    assert!(matches!(refused, EnrollFailure::WrongCa(_)), "{refused}");
    assert!(control_plane.requests().is_empty());
    assert!(!directory.path().join("b/state/link.json").exists());
}

#[tokio::test]
async fn a_server_of_another_name_never_sees_the_token() {
    let (control_plane, directory) = (ControlPlane::start().await, TempDir::new().unwrap());
    let server = format!("https://localhost:{}", control_plane.port).parse().unwrap();
    let refused = failure(Enrollment { server, ..enrollment(&control_plane, directory.path()) }).await;
    assert!(matches!(refused, EnrollFailure::Connect { .. }), "{refused}");
    assert!(control_plane.requests().is_empty());
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let (control_plane, directory) = (ControlPlane::start().await, TempDir::new().unwrap());
    for (code, advice) in [
        (EnrollErrorCode::TokenUsed, "ask for a new join token"),
        (EnrollErrorCode::TokenExpired, "ask for a new join token"),
        (EnrollErrorCode::AlreadyEnrolled, "enrol with --replace"),
        (EnrollErrorCode::Unavailable, "try again in a minute"),
    ] {
        control_plane.answer(move |_, _| {
            let error = EnrollError { code, message: "no\x1b[2Jno".to_owned() };
            (StatusCode::from_u16(code.status()).unwrap(), error.to_json())
        });
        let refused = failure(enrollment(&control_plane, directory.path())).await.to_string();
        assert!(refused.contains(advice) && refused.contains(code.name()), "{refused}");
        assert!(!refused.contains('\x1b'), "text from outside is escaped");
    }
    control_plane.answer(|_, _| (StatusCode::NOT_FOUND, b"<html>".to_vec()));
    let refused = failure(enrollment(&control_plane, directory.path())).await.to_string();
    assert!(refused.contains("is this the address of an agents listener?"), "{refused}");
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_not_written() {
    let (control_plane, directory) = (ControlPlane::start().await, TempDir::new().unwrap());
    let spoil: [fn(&mut instance_connect_core::link::EnrollAnswer); 6] = [
        |answer| answer.instance_id = "i-0123456789abcdef1".parse().unwrap(),
        |answer| answer.anchors = "us-east-1 rsa AAAA\n".to_owned(),
        |answer| answer.certificate_chain = answer.server_ca.clone(),
        |answer| answer.certificate_chain = String::new(),
        |answer| answer.server_ca = answer.certificate_chain.clone(),
        |answer| {
            answer.server_ca = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()
        },
    ];
    for spoil in spoil {
        control_plane.answer(move |authority, request| {
            let mut answer = authority.enroll_answer(request);
            spoil(&mut answer);
            (StatusCode::OK, answer.to_json())
        });
        let refused = failure(enrollment(&control_plane, directory.path())).await;
        assert!(matches!(refused, EnrollFailure::Answer { .. }), "{refused}");
        assert_eq!(fs::read_dir(directory.path().join("b/state")).unwrap().count(), 0);
    }
    control_plane.answer(|_, _| (StatusCode::OK, vec![b' '; 100_000]));
    assert!(matches!(
        failure(enrollment(&control_plane, directory.path())).await,
        EnrollFailure::Answer { .. }
    ));
}

#[tokio::test]
async fn directories_that_cannot_be_written_cost_no_token() {
    let (control_plane, directory) = (ControlPlane::start().await, TempDir::new().unwrap());
    fs::write(directory.path().join("b"), "a file").unwrap();
    let refused = failure(enrollment(&control_plane, directory.path())).await;
    assert!(matches!(refused, EnrollFailure::Files { .. }), "{refused}");
    assert!(control_plane.requests().is_empty());
}
