//! The table of operations, their members, and what policies make of them.

use super::*;
use crate::api::{AdministrationErrorCode as Code, ApiError};
use crate::iam::{AccessRequest, Action, Decision, Policy, RequestedAction, ResourceType, evaluate};
use crate::ids::Region;
use crate::inventory::{Status, User, UserKind};
use crate::origin::Origin;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

const POLICY: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;

fn alice() -> User {
    User {
        kind: UserKind::IamUser,
        id: "AIDAEXAMPLEEXAMPLE01".parse().unwrap(),
        account: "111122223333".parse().unwrap(),
        name: "alice".parse().unwrap(),
        status: Status::Active,
        tags: BTreeMap::new(),
        policies: Vec::new(),
        boundary: None,
    }
}

fn region() -> Region {
    "us-east-1".parse().unwrap()
}

/// A body that is right for the operation, made of every member that any operation has.
fn body(operation: Operation) -> Value {
    let all = json!({
        "AccountId": "444455556666", "Status": "Suspended", "UserName": "bob", "GroupName": "ops",
        "PolicyName": "push", "PolicyDocument": POLICY, "PolicyArn": "arn:aws:iam::111122223333:policy/push",
        "PermissionsBoundary": "arn:aws:iam::111122223333:policy/push", "AccessKeyId": "AKIAEXAMPLEEXAMPLE01",
        "Tags": [{ "Key": "team", "Value": "web" }], "TagKeys": ["team"], "InstanceId": "i-0123456789abcdef0",
        "HostInstanceId": "i-0fedcba9876543210", "InstanceType": "t3.micro", "ImageId": "ami-0123456789abcdef0",
        "PrivateIpAddress": "10.0.1.9", "PublicIpAddress": "192.0.2.9", "Ipv6Address": "2001:db8::9",
        "InstanceIds": ["i-0123456789abcdef0"], "Resources": ["i-0123456789abcdef0"], "State": "stopped",
        "AvailabilityZone": "us-east-1a", "Marker": "x", "MaxItems": 7,
        "ActionName": "SendSSHPublicKey", "InstanceOSUser": "deploy",
        "ContextEntries": [{ "ContextKeyName": "aws:SourceIp", "ContextKeyValue": "192.0.2.1" }],
        "Fingerprint": "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "Fingerprints": ["SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"],
        "SSHPublicKey": "ssh-ed25519 AAAA", "DurationMilliseconds": 250,
    });
    // One that the operation does not have is refused by name, so what is left are those that it has.
    let Value::Object(mut members) = all else { panic!() };
    loop {
        let text = Value::Object(members.clone()).to_string();
        match Request::parse(operation, text.as_bytes()) {
            Ok(_) => return Value::Object(members),
            Err(error) => {
                let message = message(&error);
                let unknown =
                    message.strip_prefix("Unknown member \"").and_then(|rest| rest.split('"').next());
                members.remove(unknown.unwrap_or_else(|| panic!("{operation:?}: {message}"))).unwrap();
            }
        }
    }
}

fn parse(operation: Operation, body: &Value) -> Result<Request, ApiError> {
    Request::parse(operation, body.to_string().as_bytes()).map(|(request, _)| request)
}

/// The ARN of what a request is about.
fn resource(request: &Request, caller: &User) -> String {
    request.about().resource.arn(caller, &region())
}

fn message(error: &ApiError) -> String {
    match error {
        ApiError::Administration { message, .. } => message.clone(),
        other => panic!("{other:?}"),
    }
}

fn code(error: &ApiError) -> Option<Code> {
    match error {
        ApiError::Administration { code, .. } => Some(*code),
        _ => None,
    }
}

#[test]
fn every_operation_is_named_once_and_known_to_policies() {
    for operation in Operation::ALL {
        let named = Operation::ALL.iter().filter(|other| other.name().eq_ignore_ascii_case(operation.name()));
        assert_eq!(named.count(), 1, "{operation:?}");
        assert_eq!(operation.action(), format!("{SERVICE}:{}", operation.name()));
        assert!(Action::all().any(|action| action == Action::Administer(*operation)));
        let reads = ["Get", "List", "Describe", "Lookup", "Simulate"]
            .iter()
            .any(|verb| operation.name().starts_with(verb));
        assert_eq!(operation.is_read_only(), reads, "{operation:?}");
        let request = parse(*operation, &body(*operation)).unwrap();
        assert_eq!(matches!(request, Request::Read(_)), reads, "{operation:?}");
    }
}

/// The form that a Deny is checked against when it is loaded is the one that requests have.
#[test]
fn every_resource_has_the_form_that_the_table_says() {
    for operation in Operation::ALL {
        let resource = resource(&parse(*operation, &body(*operation)).unwrap(), &alice());
        let expected = match operation.resource_type() {
            ResourceType::Any => "*",
            ResourceType::User => "arn:aws:iam::111122223333:user/bob",
            ResourceType::Group => "arn:aws:iam::111122223333:group/ops",
            ResourceType::Policy => "arn:aws:iam::111122223333:policy/push",
            ResourceType::Account => "arn:aws:instance-connect::444455556666:account",
            ResourceType::Instance => "arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0",
            ResourceType::InstanceConnectEndpoint => panic!("{operation:?}"),
        };
        assert_eq!(resource, expected, "{operation:?}");
    }
}

/// Whose keys they are may be left out, and which id an instance gets.
#[test]
fn resources_of_what_is_left_out() {
    for (operation, body, expected) in [
        (Operation::CreateAccessKey, json!({}), "arn:aws:iam::111122223333:user/alice"),
        (Operation::ListAccessKeys, json!({ "UserName": null }), "arn:aws:iam::111122223333:user/alice"),
        (
            Operation::CreateInstance,
            json!({ "AvailabilityZone": "us-east-1a" }),
            "arn:aws:ec2:us-east-1:111122223333:instance/*",
        ),
    ] {
        assert_eq!(resource(&parse(operation, &body).unwrap(), &alice()), expected);
    }
    let root = User { kind: UserKind::Root, ..alice() };
    let request = parse(Operation::CreateAccessKey, &json!({})).unwrap();
    assert_eq!(resource(&request, &root), "arn:aws:iam::111122223333:root");
}

/// Each member of each operation is wrong once: of another type, too long, or one that it does not have.
#[test]
fn no_member_of_another_type_or_name_passes() {
    for operation in Operation::ALL {
        let right = body(*operation);
        for name in right.as_object().unwrap().keys() {
            for value in [
                json!({ "a": 1 }),
                json!(-1),
                json!(1.5),
                json!(true),
                json!("x".repeat(20_000)),
                json!([[]]),
            ] {
                let mut wrong = right.clone();
                wrong[name] = value;
                assert!(parse(*operation, &wrong).is_err(), "{operation:?} {wrong}");
            }
            let twice = format!("{{{:?}:1,{}", name, right.to_string().strip_prefix('{').unwrap());
            assert_eq!(Request::parse(*operation, twice.as_bytes()), Err(ApiError::Serialization), "{twice}");
        }
        let mut unknown = right.clone();
        unknown["PermissionBoundary"] = json!("x");
        let error = parse(*operation, &unknown).unwrap_err();
        assert_eq!(
            message(&error),
            "Unknown member \"PermissionBoundary\"; this operation has no such parameter"
        );
        let without_any = parse(*operation, &json!({}));
        let needs_none = right.as_object().unwrap().keys().all(|name| {
            let optional = ["AccountId", "UserName", "Marker", "MaxItems", "InstanceIds"];
            optional.contains(&name.as_str())
        });
        let needs_user = operation.resource_type() == ResourceType::User
            && !matches!(operation, Operation::CreateAccessKey | Operation::ListAccessKeys);
        assert_eq!(without_any.is_ok(), needs_none && !needs_user, "{operation:?}");
    }
}

#[test]
fn values_that_the_model_does_not_allow() {
    use Operation as O;
    let value = |value: &str, member: &str, must: &str| {
        format!(
            "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: Member must {must}"
        )
    };
    let name = r"satisfy regular expression pattern: [\w+=,.@-]+";
    let two_tags = json!([{ "Key": "a", "Value": "1" }, { "Key": "a" }]);
    let rows = [
        (O::CreateUser, json!({ "UserName": "a b" }), value("a b", "userName", name)),
        (
            O::CreateUser,
            json!({ "UserName": "u".repeat(65) }),
            // It may be a secret in the wrong place.
            value("***", "userName", "have length less than or equal to 64"),
        ),
        (
            O::CreateGroup,
            json!({ "GroupName": "" }),
            value("", "groupName", "have length greater than or equal to 1"),
        ),
        (
            O::GetUser,
            json!({}),
            "1 validation error detected: Value null at 'userName' failed to satisfy constraint: Member must not be null"
                .to_owned(),
        ),
        (
            O::UpdateUser,
            json!({ "UserName": "a", "Status": "Gone" }),
            value("Gone", "status", "satisfy enum value set: [Active, Suspended, Inactive]"),
        ),
        (
            O::TagUser,
            json!({ "UserName": "a", "Tags": two_tags }),
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.".to_owned(),
        ),
        (
            O::CreateTags,
            json!({ "Resources": ["i-0123456789abcdef0", "i-0123456789abcdef1"], "Tags": [{ "Key": "a" }] }),
            "Resources names one instance; tag several one after the other".to_owned(),
        ),
        (
            O::ListUsers,
            json!({ "MaxItems": 101 }),
            value("101", "maxItems", "have value from 1 to 100"),
        ),
    ];
    for (operation, body, expected) in rows {
        let error = parse(operation, &body).unwrap_err();
        assert_eq!((code(&error), message(&error)), (Some(Code::ValidationError), expected));
    }
    let foreign = json!({ "PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess" });
    assert_eq!(code(&parse(O::GetPolicy, &foreign).unwrap_err()), Some(Code::ValidationError));
    let document = json!({ "PolicyName": "p", "PolicyDocument": r#"{"Statement":[]}"# });
    assert_eq!(code(&parse(O::CreatePolicy, &document).unwrap_err()), Some(Code::MalformedPolicyDocument));
}

#[test]
fn parameters_as_a_record_shows_them() {
    let body = json!({ "UserName": "bob", "Tags": [{ "Key": "Team", "Value": "Web" }] });
    let (_, recorded) = Request::parse(Operation::CreateUser, body.to_string().as_bytes()).unwrap();
    assert_eq!(recorded, json!({ "userName": "bob", "tags": [{ "key": "Team", "value": "Web" }] }));
}

/// The decision on these statements for an operation with these members.
fn decide(statements: &str, operation: Operation, body: &Value) -> bool {
    let document = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
    let policy = Policy::parse("p", &document).unwrap_or_else(|error| panic!("{document}: {error}"));
    let caller = User { policies: vec![Arc::new(policy)], ..alice() };
    let request = parse(operation, body).unwrap();
    let origin = Origin {
        request: "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap(),
        time: UnixSeconds(1_928_462_706),
        source: "192.0.2.1".parse().unwrap(),
        user_agent: String::new(),
        tls: None,
    };
    let decision = evaluate(&AccessRequest {
        caller: &caller,
        action: RequestedAction::Administer { operation, policy: request.about().policy },
        resource: &resource(&request, &caller),
        resource_tags: None,
        region: &region(),
        origin: &origin,
    });
    matches!(decision, Decision::Allowed(_))
}

#[test]
fn decisions() {
    use Operation as O;
    let own = json!({ "UserName": "alice" });
    let other = json!({ "UserName": "bob" });
    let attach = |policy: &str| json!({ "UserName": "bob", "PolicyArn": format!("arn:aws:iam::111122223333:policy/{policy}") });
    let own_keys = r#"{"Effect":"Allow","Action":"instance-connect:*AccessKey*",
        "Resource":"arn:aws:iam::*:user/${aws:username}"}"#;
    let readers =
        r#"{"Effect":"Allow","Action":["instance-connect:Get*","instance-connect:List*"],"Resource":"*"}"#;
    let all_but = r#"{"Effect":"Allow","NotAction":"instance-connect:*","Resource":"*"}"#;
    let attachers = r#"{"Effect":"Allow","Action":"instance-connect:AttachUserPolicy","Resource":"*",
        "Condition":{"ArnLike":{"instance-connect:PolicyARN":"arn:aws:iam::*:policy/dev-*"}}}"#;
    let not_admins = r#"{"Effect":"Allow","Action":"*","Resource":"*"},
        {"Effect":"Deny","Action":"instance-connect:*","NotResource":"arn:aws:iam::*:user/*"}"#;
    for (statements, operation, body, expected) in [
        (own_keys, O::CreateAccessKey, own.clone(), true),
        (own_keys, O::CreateAccessKey, json!({}), true),
        (own_keys, O::CreateAccessKey, other.clone(), false),
        (own_keys, O::GetUser, own.clone(), false),
        (readers, O::GetUser, other.clone(), true),
        (readers, O::ListUsers, json!({}), true),
        (readers, O::CreateUser, other.clone(), false),
        (all_but, O::GetUser, other.clone(), false),
        (attachers, O::AttachUserPolicy, attach("dev-push"), true),
        (attachers, O::AttachUserPolicy, attach("everything"), false),
        (not_admins, O::GetUser, other.clone(), true),
        (not_admins, O::CreateGroup, json!({ "GroupName": "g" }), false),
        // What is about nothing in particular is not about users.
        (not_admins, O::ListUsers, json!({}), false),
        (
            r#"{"Effect":"Allow","Action":"ec2-instance-connect:*","Resource":"*"}"#,
            O::GetUser,
            other.clone(),
            false,
        ),
        (r#"{"Effect":"Allow","Action":"INSTANCE-connect:getuser","Resource":"*"}"#, O::GetUser, other, true),
        (
            r#"{"Effect":"Allow","Action":"*","Resource":"arn:aws:ec2:*:*:instance/i-0123456789abcdef0"}"#,
            O::CreateInstance,
            json!({ "AvailabilityZone": "us-east-1a" }),
            false,
        ),
    ] {
        assert_eq!(decide(statements, operation, &body), expected, "{statements} {operation:?} {body}");
    }
}

proptest! {
    #[test]
    fn administration_members_never_panic(operation in prop::sample::select(Operation::ALL), body: Vec<u8>) {
        let _ = Request::parse(operation, &body);
    }

    #[test]
    fn policy_arns_are_read_exactly(text in "arn:aws:iam::[0-9]{11,13}:(policy|user)/[a-z/ ]{0,4}") {
        if let Ok(arn) = text.parse::<PolicyArn>() {
            prop_assert_eq!(arn.to_string(), text);
        }
    }
}
