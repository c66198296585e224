//! Decisions of `core` that take a verified caller, from the signed request to the grant. They stand here because a
//! verified caller takes the whole world below it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use instance_connect_core::api::{AccessDenied, ApiError, SendSshPublicKey};
use instance_connect_core::authz::{self, authorize};
use instance_connect_core::document::{BootId, ServerInstant, SigningKey};
use instance_connect_core::grant::Grant;
use instance_connect_core::host_facts::HostFacts;
use instance_connect_core::iam::{Action, Decision, Denial, Policy, PolicyKind, StatementRef};
use instance_connect_core::inventory::{InstanceState, Instances, Status, UserKind};
use instance_connect_core::sigv4::AuthenticationError;
use instance_connect_core::ssh_key::KeyTypes;
use instance_connect_testkit::{KEY_LINE, World};

const ALLOW_DEPLOY: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow",
    "Action":"ec2-instance-connect:SendSSHPublicKey","Resource":"arn:aws:ec2:us-east-1:111122223333:instance/*",
    "Condition":{"StringEquals":{"ec2:osuser":"deploy"}}}}"#;
const DENY_ALL: &str = r#"{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#;

fn denied(denial: Denial) -> ApiError {
    ApiError::AccessDenied(Box::new(AccessDenied {
        caller: "arn:aws:iam::111122223333:user/alice".into(),
        action: Action::SendSshPublicKey,
        resource: "arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0".into(),
        denial,
    }))
}

const NOT_ALLOWED: Denial = Denial::Implicit(PolicyKind::IdentityBased);

fn statement(kind: PolicyKind, policy: &str, statement: &str) -> StatementRef {
    StatementRef { kind, policy: policy.into(), statement: statement.into() }
}

/// A push that names the zone the instance should be in.
fn issue_in_zone(world: &World, zone: &str) -> Result<Grant, ApiError> {
    let body = world.push_body("deploy").replacen('{', &format!(r#"{{"AvailabilityZone":"{zone}","#), 1);
    let caller = world.verified(body.as_bytes())?;
    let operation = SendSshPublicKey::parse(body.as_bytes(), &KeyTypes::default())?;
    let authorized = authorize(caller, operation, &world.inventory, &world.region, &world.origin())?;
    let request = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap();
    Grant::issue(&authorized, request, world.now, ServerInstant(7_000_000_000))
}

fn issue(world: &World) -> Result<Grant, ApiError> {
    let request = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap();
    Grant::issue(&world.authorized("deploy")?, request, world.now, ServerInstant(7_000_000_000))
}

/// An agent says of its machine what it likes: nobody is let in by it, nobody kept out, and a policy for pushes asks for it in vain.
#[test]
fn what_agents_claim_decides_nothing() {
    const BY_ADDRESS: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow",
        "Action":"ec2-instance-connect:SendSSHPublicKey","Resource":"*",
        "Condition":{"IpAddress":{"ec2-instance-connect:privateIpAddress":"10.0.1.9/32"}}}}"#;
    assert_ne!(
        Policy::parse("policy", BY_ADDRESS).unwrap().warnings(),
        [""; 0],
        "it is never true, and its author is told"
    );
    let facts = HostFacts {
        architecture: "x86_64".parse().unwrap(),
        addresses: vec!["10.0.1.9".parse().unwrap()],
        ..HostFacts::default()
    };
    for (policies, is_let_in) in
        [(&[ALLOW_DEPLOY][..], true), (&[ALLOW_DEPLOY, DENY_ALL], false), (&[], false)]
    {
        let mut world = World::new();
        world.set_policies(policies);
        let before = world.authorized("deploy").map(|authorized| authorized.decided_by().cloned());
        assert_eq!(before.is_ok(), is_let_in, "{policies:?}");
        world.inventory.claims.insert_mut(world.instance.clone(), facts.claims());
        let claimed = world.authorized("deploy").map(|authorized| authorized.decided_by().cloned());
        assert_eq!(claimed, before, "{policies:?}");
    }
}

#[test]
fn policies_decide() {
    let mut world = World::new();
    world.set_policies(&[ALLOW_DEPLOY]);
    let first = statement(PolicyKind::IdentityBased, "policy", "#0");
    assert_eq!(world.authorized("deploy").unwrap().decided_by(), Some(&first));
    assert_eq!(world.authorized("root").unwrap_err(), denied(NOT_ALLOWED));
    world.set_policies(&[ALLOW_DEPLOY, DENY_ALL]);
    let refused = world.authorized("deploy").unwrap_err();
    assert_eq!(refused, denied(Denial::Explicit(first.clone())));
    assert_eq!(refused.denied_by(), Some(&first));
    world.set_policies(&[]);
    assert_eq!(world.authorized("deploy").unwrap_err(), denied(NOT_ALLOWED));
}

#[test]
fn a_boundary_decides_too() {
    let mut world = World::new();
    world.set_boundary(ALLOW_DEPLOY);
    assert!(world.authorized("deploy").is_ok());
    let outside = Denial::Implicit(PolicyKind::PermissionsBoundary);
    assert_eq!(world.authorized("root").unwrap_err(), denied(outside));
    world.set_boundary(DENY_ALL);
    let explicit = Denial::Explicit(statement(PolicyKind::PermissionsBoundary, "boundary", "#0"));
    assert_eq!(world.authorized("deploy").unwrap_err(), denied(explicit));
}

#[test]
fn the_root_is_allowed_unless_denied() {
    let mut world = World::new();
    world.set_policies(&[]);
    world.change_user(|user| user.kind = UserKind::Root);
    assert_eq!(world.authorized("deploy").unwrap().decided_by(), None);
    world.set_policies(&[DENY_ALL]);
    assert!(world.authorized("deploy").unwrap_err().denied_by().is_some());
}

#[test]
fn tags_of_the_users_own_instance_count() {
    let mut world = World::new();
    world.set_policies(&[
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*",
        "Condition":{"StringEquals":{"aws:ResourceTag/team":"${aws:PrincipalTag/team}"}}}}"#,
    ]);
    world.change_user(|user| drop(user.tags.insert("team".into(), "blue".into())));
    world.change_instance(|instance| drop(instance.tags.insert("team".into(), "blue".into())));
    assert!(world.authorized("deploy").is_ok());
    // Another account's instance, or one of another region, is judged as if it had no tags.
    world.change_instance(|instance| instance.region = "us-east-2".parse().unwrap());
    assert_eq!(world.authorized("deploy").unwrap_err(), denied(NOT_ALLOWED));
    world.change_instance(|instance| {
        instance.region = "us-east-1".parse().unwrap();
        instance.account = "444455556666".parse().unwrap();
    });
    assert_eq!(world.authorized("deploy").unwrap_err(), denied(NOT_ALLOWED));
}

#[test]
fn an_operation_is_explained_as_it_is_judged() {
    let mut world = World::new();
    world.set_policies(&[ALLOW_DEPLOY]);
    let operation = world.authorized("deploy").unwrap().operation().clone();
    let explain = |world: &World| {
        let user = world.inventory.users.get(&world.user).unwrap();
        authz::explain(user, &operation, &world.inventory, &world.region, &world.origin())
    };
    assert!(matches!(explain(&world).decision, Decision::Allowed(Some(by)) if by.statement == "#0"));
    world.set_boundary(DENY_ALL);
    let by_boundary = statement(PolicyKind::PermissionsBoundary, "boundary", "#0");
    assert_eq!(explain(&world).decision, Decision::Denied(Denial::Explicit(by_boundary)));
    world.set_policies(&[]);
    world.change_user(|user| user.boundary = None);
    assert_eq!(explain(&world).decision, Decision::Denied(NOT_ALLOWED));
    // As for the caller who is told that it is not there: with an ARN of the caller's own, and without tags.
    const BY_TAG: &str = r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:ec2:*:111122223333:*",
        "Condition":{"StringEquals":{"aws:ResourceTag/team":"blue"}}}}"#;
    world.set_policies(&[BY_TAG]);
    world.change_instance(|instance| drop(instance.tags.insert("team".into(), "blue".into())));
    assert!(matches!(explain(&world).decision, Decision::Allowed(_)));
    world.change_instance(|instance| instance.account = "444455556666".parse().unwrap());
    assert_eq!(explain(&world).decision, Decision::Denied(NOT_ALLOWED));
}

#[test]
fn what_does_not_exist_is_said_only_after_an_allow() {
    let mut world = World::new();
    world.inventory.instances = Instances::default();
    let not_found = ApiError::InstanceNotFound { instance: "i-0123456789abcdef0".into() };
    assert_eq!(world.authorized("deploy").unwrap_err(), not_found);
    world.set_policies(&[]);
    assert_eq!(world.authorized("deploy").unwrap_err(), denied(NOT_ALLOWED));
}

#[test]
fn another_account_s_instance_does_not_exist() {
    let mut world = World::new();
    world.change_instance(|instance| instance.account = "444455556666".parse().unwrap());
    let not_found = ApiError::InstanceNotFound { instance: "i-0123456789abcdef0".into() };
    assert_eq!(world.authorized("deploy").unwrap_err(), not_found);
    // A policy about the other account's ARN helps nobody: the caller's own is what is judged.
    world.set_policies(&[
        r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:ec2:*:444455556666:*"}}"#,
    ]);
    assert_eq!(world.authorized("deploy").unwrap_err(), denied(NOT_ALLOWED));
}

#[test]
fn an_instance_in_another_zone_is_not_there() {
    let mut world = World::new();
    assert!(issue_in_zone(&world, "us-east-1a").is_ok());
    let not_found = ApiError::InstanceNotFound { instance: "i-0123456789abcdef0".into() };
    assert_eq!(issue_in_zone(&world, "us-east-1b").unwrap_err(), not_found);
    // In which zone it is, or that it is stopped, is nothing for others to know.
    world.change_instance(|instance| instance.state = InstanceState::Stopped);
    assert_eq!(issue_in_zone(&world, "us-east-1b").unwrap_err(), not_found);
    world.set_policies(&[]);
    assert_eq!(issue_in_zone(&world, "us-east-1b").unwrap_err(), denied(NOT_ALLOWED));
}

#[test]
fn suspended_and_inactive() {
    let mut world = World::new();
    world.suspend_user();
    assert_eq!(world.authorized("deploy").unwrap_err(), ApiError::Suspended);

    let mut world = World::new();
    world.inventory.accounts.get_mut(&world.account).unwrap().status = Status::Suspended;
    assert_eq!(world.authorized("deploy").unwrap_err(), ApiError::Suspended);

    let mut world = World::new();
    world.inventory.access_keys.get_mut(&world.access_key).unwrap().status = Status::Suspended;
    let unknown = ApiError::Authentication(AuthenticationError::UnknownKey);
    assert_eq!(world.authorized("deploy").unwrap_err(), unknown);
}

#[test]
fn a_grant_is_for_a_running_instance() {
    let mut world = World::new();
    let grant = issue(&world).unwrap();
    assert_eq!(grant.deadline(), ServerInstant(67_000_000_000));
    let boot: BootId = "5c0c6f9e-3f60-4c11-9d0b-1c5a6f0e9a11".parse().unwrap();
    let document = grant.document(&boot, &SigningKey::from_seed(&[7; 32]).unwrap()).unwrap();
    let expiry = world.now.0 + 60;
    let start = format!(
        "#Timestamp={expiry}\n#Instance=i-0123456789abcdef0\n#Caller=arn:aws:iam::111122223333:user/alice\n"
    );
    assert!(document.starts_with(&start), "{document}");
    assert!(
        document.contains(&format!("\n#User=deploy\n#Boot={boot}\n#Alg=ed25519\n{KEY_LINE}\n")),
        "{document}"
    );

    for state in [InstanceState::Pending, InstanceState::Stopped, InstanceState::Terminated] {
        world.change_instance(|instance| instance.state = state);
        assert_eq!(issue(&world).unwrap_err(), ApiError::InstanceStateInvalid { state: state.as_str() });
    }
}
