//! A policy document and the OS user it is asked about: parsing, and what evaluation never does.
#![no_main]

use instance_connect_core::api::ApiError;
use instance_connect_core::iam::{Denial, Policy};
use instance_connect_core::limits;
use instance_connect_testkit::World;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

const ALLOW_ALL: &str = r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
const DENY_ALL: &str = r#"{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#;

static WORLD: LazyLock<World> = LazyLock::new(World::new);

/// What the policies of a user decide.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Decision {
    Allowed,
    DeniedByStatement,
    DeniedByNone,
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (user, document) = text.split_once('\n').unwrap_or(("ec2-user", text));
    if Policy::parse("policy", document).is_err() {
        return;
    }
    assert!(document.len() <= limits::POLICY_TEXT);
    let user = if user.parse::<instance_connect_core::ids::OsUser>().is_ok() { user } else { "ec2-user" };
    let alone = decide(&[document], user);
    assert_eq!(decide(&[document, document], user), alone);
    // A Deny never widens, an Allow never narrows, and their order does not matter.
    assert_eq!(decide(&[document, DENY_ALL], user), Decision::DeniedByStatement);
    let with_allow = decide(&[document, ALLOW_ALL], user);
    assert_eq!(decide(&[ALLOW_ALL, document], user), with_allow);
    assert_eq!(with_allow == Decision::DeniedByStatement, alone == Decision::DeniedByStatement);
    assert_ne!(with_allow, Decision::DeniedByNone);
});

fn decide(policies: &[&str], user: &str) -> Decision {
    let mut world = WORLD.clone();
    world.set_policies(policies);
    match world.authorized(user) {
        Ok(_) => Decision::Allowed,
        Err(ApiError::AccessDenied(denied)) => match denied.denial {
            Denial::Explicit(_) => Decision::DeniedByStatement,
            Denial::Implicit(_) => Decision::DeniedByNone,
        },
        Err(other) => panic!("{other:?}"),
    }
}
