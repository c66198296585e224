//! A control plane that says something else, or nothing.

use crate::control_plane::{Instead, now};
use crate::gateway::World;

/// Whatever it says but yes, nobody comes in, and it looks like any refusal.
#[test]
fn only_a_yes_lets_anybody_in() {
    let world = World::new();
    let key = world.pushed_key();
    for said in [
        "{\"expected\":false}\n",
        "{\"expected\":1}\n",
        "{\"serving\":{}}\n",
        "{\"refused\":{\"reason\":\"no\"}}\n",
        "{\"attached\":{\"session\":\"1\",\"mode\":\"write\",\"notice\":\"\"}}\n",
        "yes\n",
        &"x".repeat(17_000),
    ] {
        world.plane.says_instead(Instead { of_expected: Some(said.into()), of_attached: None });
        let outcome = world.ssh(&key, &["-T"], &[]).ends();
        assert_eq!(outcome.status, Some(255), "{said}: {outcome:?}");
        assert!(outcome.stderr.ends_with("Permission denied (publickey).\r\n"), "{said}: {outcome:?}");
    }
    assert!(world.plane.attaches().is_empty());
    world.plane.says_instead(Instead::default());
    let _ssh = world.ssh(&key, &["-T"], &[]);
    world.plane.line();
}

/// Nobody waits for it longer than for anything else before authentication.
#[test]
fn no_answer_is_a_no_in_time() {
    let world = World::with(&["--authentication-time", "60"]);
    let key = world.pushed_key();
    world.plane.says_instead(Instead { of_expected: Some(Vec::new()), of_attached: None });
    let began = now();
    let outcome = world.ssh(&key, &["-T"], &[]).ends();
    assert_eq!(outcome.status, Some(255), "{outcome:?}");
    assert!(outcome.stderr.contains("Permission denied (publickey)"), "{outcome:?}");
    // It was refused, and not cut: that is before the time is over.
    assert!((3..60).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[test]
fn what_is_no_answer_to_an_attach_is_said_in_words() {
    let world = World::new();
    let key = world.pushed_key();
    for said in ["{\"expected\":true}\n", "{\"refused\":{\"reason\":\"\u{1b}[2J\"}}\n", "yes\n"] {
        world.plane.says_instead(Instead { of_expected: None, of_attached: Some(said.into()) });
        let outcome = world.ssh(&key, &["-T"], &[]).ends();
        assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(1), ""), "{said}: {outcome:?}");
        assert!(
            outcome.stdout.contains("[The control plane sent something that cannot be shown."),
            "{outcome:?}"
        );
    }
}

/// Whoever gives up while a session is being attached gives it up there too.
#[test]
fn a_client_that_leaves_before_it_is_attached_is_gone() {
    let world = World::new();
    let key = world.pushed_key();
    world.plane.says_instead(Instead { of_expected: None, of_attached: Some(Vec::new()) });
    let mut ssh = world.ssh(&key, &["-tt"], &[]);
    world.plane.asked_to_attach();
    ssh.types("\r~.");
    assert_eq!(ssh.ends().status, Some(255));
    world.plane.left_before_an_answer();
}
