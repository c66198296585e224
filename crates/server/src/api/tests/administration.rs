//! Administration from the signed request to the record: on a real store and log, with a clock that stands still.

use super::*;
use instance_connect_core::administration::{self, Operation as Administrative};
use instance_connect_core::host_key::{HostKey, claimed};
use instance_connect_core::ids::{AccountId, InstanceId};
use instance_connect_core::inventory::{AgentChange, JoinToken, Status};
use instance_connect_core::revocation::Revocation;
use std::sync::atomic::AtomicU32;

/// A key to sign with: its id and its secret.
pub(super) type Key = (String, String);

/// What is wrong with a request, if anything is.
#[derive(Clone, Debug, Default)]
pub(super) struct Wrong {
    pub(super) region: Option<&'static str>,
    pub(super) service: Option<&'static str>,
    pub(super) seconds: i64,
    pub(super) unsigned: bool,
    pub(super) body_after_signing: Option<&'static str>,
    /// Of forms.
    pub(super) host: Option<&'static str>,
}

#[derive(Debug)]
pub(super) struct Answered {
    pub(super) code: String,
    body: Value,
}

impl Setting {
    pub(super) fn alice(&self) -> Key {
        (self.world.access_key.to_string(), SECRET_ACCESS_KEY.to_owned())
    }

    /// A signed request, unlike any before it.
    pub(super) fn request(&self, operation: Operation, body: &Value, key: &Key, wrong: &Wrong) -> Whole {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
        let target = format!("{}.{}", operation.target().unwrap(), operation.name());
        let headers = [
            ("amz-sdk-invocation-id", number.as_str()),
            ("content-type", api::CONTENT_TYPE),
            ("host", "localhost"),
            ("x-amz-target", &target),
        ];
        let (id, secret) = key.clone();
        let credentials = Credentials {
            access_key_id: id,
            secret_access_key: Secret::new(secret.into_bytes()),
            session_token: None,
        };
        let region = wrong.region.unwrap_or(self.world.region.as_str());
        let scope = SigningScope { region, service: wrong.service.unwrap_or_else(|| operation.service()) };
        let now = UnixSeconds(self.clock.wall().0 + wrong.seconds);
        let text = body.to_string();
        let signed = sign_headers("POST", "/", &headers, text.as_bytes(), &credentials, scope, now).unwrap();
        let mut request = Request::post("/").header("x-amz-date", signed.amz_date);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if !wrong.unsigned {
            request = request.header("authorization", signed.authorization);
        }
        request.body(Ok(wrong.body_after_signing.map_or(text, str::to_owned).into())).unwrap()
    }

    pub(super) async fn send(&self, request: Whole) -> Answered {
        let answer = Arc::clone(&self.api).answer(request, "192.0.2.1".parse().unwrap(), None).await;
        let code = answer.headers().get("x-amzn-errortype").map_or("", |value| value.to_str().unwrap());
        let code = code.to_owned();
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        Answered { code, body: serde_json::from_slice(&body).unwrap_or_default() }
    }

    async fn administer_as(&self, key: &Key, operation: Administrative, body: Value) -> Answered {
        let operation = Operation::Administer(operation);
        self.send(self.request(operation, &body, key, &Wrong::default())).await
    }

    /// As alice, who may do everything.
    async fn administer(&self, operation: Administrative, body: Value) -> Answered {
        self.administer_as(&self.alice(), operation, body).await
    }

    /// The same, with success.
    pub(super) async fn done(&self, operation: Administrative, body: Value) -> Value {
        let answered = self.administer(operation, body.clone()).await;
        assert_eq!(answered.code, "", "{operation:?} {body}: {answered:?}");
        answered.body
    }

    /// A user with an access key, and these statements in an inline policy if there are any.
    pub(super) async fn new_user(&self, name: &str, statements: &str) -> Key {
        self.done(Administrative::CreateUser, json!({ "UserName": name })).await;
        if !statements.is_empty() {
            let document = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
            let put = json!({ "UserName": name, "PolicyName": "own", "PolicyDocument": document });
            self.done(Administrative::PutUserPolicy, put).await;
        }
        key_of(&self.done(Administrative::CreateAccessKey, json!({ "UserName": name })).await)
    }

    pub(super) async fn sequence(&self) -> u64 {
        self.api.inventory.store().sequence().await.unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("audit.log")).unwrap()
    }
}

fn key_of(answer: &Value) -> Key {
    let text = |name: &str| answer["AccessKey"][name].as_str().unwrap().to_owned();
    (text("AccessKeyId"), text("SecretAccessKey"))
}

/// Every operation in JSON that the router knows, with credentials that are wrong in every way.
#[tokio::test]
async fn no_operation_takes_bad_credentials() {
    let setting = Setting::new().await;
    let alice = setting.alice();
    let unknown = ("AKIAEXAMPLEEXAMPLE99".to_owned(), SECRET_ACCESS_KEY.to_owned());
    let wrong_secret = (alice.0.clone(), "x".repeat(40));
    let before = setting.sequence().await;
    let mut rows = 0;
    for operation in Operation::all().filter(|operation| operation.target().is_some()) {
        let another_service = if operation.service() == administration::SERVICE {
            "ec2-instance-connect"
        } else {
            administration::SERVICE
        };
        let wrong = Wrong::default();
        for (key, wrong, expected) in [
            (&alice, Wrong { unsigned: true, ..wrong.clone() }, "MissingAuthenticationTokenException"),
            (&unknown, wrong.clone(), "UnrecognizedClientException"),
            (&wrong_secret, wrong.clone(), "InvalidSignatureException"),
            (&alice, Wrong { seconds: -301, ..wrong.clone() }, "InvalidSignatureException"),
            (&alice, Wrong { seconds: 301, ..wrong.clone() }, "InvalidSignatureException"),
            (&alice, Wrong { region: Some("eu-west-1"), ..wrong.clone() }, "InvalidSignatureException"),
            (&alice, Wrong { service: Some(another_service), ..wrong.clone() }, "InvalidSignatureException"),
            (&alice, Wrong { service: Some("ec2"), ..wrong.clone() }, "InvalidSignatureException"),
            (
                &alice,
                Wrong { body_after_signing: Some(r#"{"UserName":"mallory"}"#), ..wrong.clone() },
                "InvalidSignatureException",
            ),
        ] {
            let answered = setting.send(setting.request(operation, &json!({}), key, &wrong)).await;
            assert_eq!(answered.code, expected, "{operation:?}");
            rows += 1;
        }
    }
    assert_eq!(rows, 9 * (2 + Administrative::ALL.len()));
    assert_eq!(setting.sequence().await, before, "something was changed");
}

/// Members that each operation needs; those that it has, and are not here, may be left out.
fn needed(operation: Administrative) -> Value {
    let document = r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
    let arn = "arn:aws:iam::111122223333:policy/p";
    let (user, group, policy) = (json!("alice"), json!("g"), json!("p"));
    let instance = json!("i-0123456789abcdef0");
    let all = json!({
        "AccountId": "111122223333", "Status": "Active", "UserName": user, "GroupName": group, "PolicyName": policy,
        "PolicyDocument": document, "PolicyArn": arn, "PermissionsBoundary": arn, "AccessKeyId": "AKIAEXAMPLEEXAMPLE01",
        "Tags": [{ "Key": "a", "Value": "b" }], "TagKeys": ["a"], "InstanceId": instance, "Resources": [instance],
        "State": "running", "AvailabilityZone": "us-east-1a",
        "ActionName": "SendSSHPublicKey", "InstanceOSUser": "deploy",
        "Fingerprint": "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "Fingerprints": ["SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"],
        "SSHPublicKey": "ssh-ed25519 AAAA",
    });
    let mut members = all.as_object().unwrap().clone();
    loop {
        let body = Value::Object(members.clone());
        match administration::Request::parse(operation, body.to_string().as_bytes()) {
            Ok(_) => return body,
            Err(ApiError::Administration { message, .. }) => {
                members.remove(message.split('"').nth(1).unwrap()).unwrap();
            }
            Err(other) => panic!("{operation:?}: {other:?}"),
        }
    }
}

/// Every administrative operation, for a user without policies, a suspended one, and one whose account is suspended.
#[tokio::test]
async fn nobody_administers_without_being_allowed() {
    let setting = Setting::new().await;
    let nobody = setting.new_user("nobody", "").await;
    let everything = r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#;
    let suspended = setting.new_user("suspended", everything).await;
    setting.done(Administrative::UpdateUser, json!({ "UserName": "suspended", "Status": "Suspended" })).await;
    let account = setting.done(Administrative::CreateAccount, json!({ "AccountId": "444455556666" })).await;
    let root = key_of(&account);
    let suspend = json!({ "AccountId": "444455556666", "Status": "Suspended" });
    setting.done(Administrative::UpdateAccount, suspend).await;
    let before = setting.sequence().await;
    for operation in Administrative::ALL {
        for (key, expected) in
            [(&nobody, "AccessDeniedException"), (&suspended, "AuthException"), (&root, "AuthException")]
        {
            let answered = setting.administer_as(key, *operation, needed(*operation)).await;
            assert_eq!(answered.code, expected, "{operation:?}");
        }
    }
    assert_eq!(setting.sequence().await, before, "something was changed");
    let records = setting.audit_records();
    let denied = records.iter().filter(|record| record["errorCode"] == "AccessDeniedException");
    assert_eq!(denied.count(), Administrative::ALL.len(), "every denial is on record");
}

#[tokio::test]
async fn a_change_and_what_is_read_are_on_record() {
    let setting = Setting::new().await;
    let tags = json!([{ "Key": "team", "Value": "web" }]);
    let created = setting.done(Administrative::CreateUser, json!({ "UserName": "bob", "Tags": tags })).await;
    setting.done(Administrative::GetUser, json!({ "UserName": "bob" })).await;
    let refused = setting.administer(Administrative::CreateUser, json!({ "UserName": "Bob" })).await;
    assert_eq!(refused.code, "EntityAlreadyExists");
    let [intent, record, read, second_intent, failed] = setting.audit_records().try_into().unwrap();
    assert_eq!(intent["eventType"], "InstanceConnectIntent");
    assert_eq!(intent["requestID"], record["requestID"]);
    assert_eq!(
        (&record["eventSource"], &record["eventName"]),
        (&json!("instance-connect"), &json!("CreateUser"))
    );
    assert_eq!((&record["readOnly"], &read["readOnly"]), (&json!(false), &json!(true)));
    let parameters = json!({ "userName": "bob", "tags": [{ "key": "team", "value": "web" }] });
    assert_eq!(record["requestParameters"], parameters);
    let user = &created["User"];
    let elements = json!({ "user": {
        "userName": "bob", "userId": user["UserId"], "arn": user["Arn"], "status": "Active",
    }});
    assert_eq!(record["responseElements"], elements);
    let statement = json!({ "policy": "everything", "statement": "#0" });
    assert_eq!(record["additionalEventData"], json!({ "decidedBy": statement }));
    assert_eq!((&read["eventName"], &read["responseElements"]), (&json!("GetUser"), &Value::Null));
    assert_eq!(second_intent["requestID"], failed["requestID"]);
    assert_eq!(
        (&failed["errorCode"], &failed["responseElements"]),
        (&json!("EntityAlreadyExists"), &Value::Null)
    );
}

#[tokio::test]
async fn secrets_are_told_once_and_recorded_nowhere() {
    let setting = Setting::new().await;
    let key = key_of(&setting.done(Administrative::CreateAccessKey, json!({ "UserName": "alice" })).await);
    let account = setting.done(Administrative::CreateAccount, json!({})).await;
    let instance = json!({ "InstanceId": setting.world.instance.as_str() });
    let token = setting.done(Administrative::CreateJoinToken, instance).await;
    let token = token["JoinToken"]["Token"].as_str().unwrap().to_owned();
    let listed = setting.done(Administrative::ListAccessKeys, json!({})).await.to_string();
    assert!(listed.contains(&key.0) && !listed.contains(&key.1), "{listed}");
    let log = setting.log();
    for secret in [key.1.as_str(), &key_of(&account).1, &token] {
        assert!(secret.len() >= 40 && !log.contains(secret), "{secret}");
    }
    assert!(log.contains(&key.0), "the id is on record");
    // What was told works.
    assert_eq!(
        setting.administer_as(&key, Administrative::GetUser, json!({ "UserName": "alice" })).await.code,
        ""
    );
}

#[tokio::test]
async fn without_audit_nothing_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    let setting = Setting::with_audit_log(directory, |clock, _| AuditLog::on_a_full_disk(clock)).await;
    let before = setting.sequence().await;
    let answered = setting.administer(Administrative::CreateUser, json!({ "UserName": "bob" })).await;
    assert_eq!(answered.code, "ServiceException");
    assert_eq!(setting.sequence().await, before);
}

/// Whoever has seen a request on the wire can send it again.
#[tokio::test]
async fn an_administrative_request_is_performed_once() {
    let setting = Setting::new().await;
    for (operation, body) in [
        (Administrative::UpdateUser, json!({ "UserName": "alice", "Status": "Active" })),
        (Administrative::GetUser, json!({ "UserName": "alice" })),
    ] {
        let operation = Operation::Administer(operation);
        let request = || setting.request(operation, &body, &setting.alice(), &Wrong::default());
        let captured = request();
        let again = || {
            let mut copy = Request::post("/").body(captured.body().clone()).unwrap();
            *copy.headers_mut() = captured.headers().clone();
            copy
        };
        let (first, mut second) = (again(), again());
        // What nobody has signed may differ.
        second.headers_mut().insert("user-agent", HeaderValue::from_static("other"));
        assert_eq!(setting.send(first).await.code, "");
        assert_eq!(setting.send(second).await.code, "RequestReplayed");
        setting.clock.advance(Duration::from_secs(300));
        setting.api.inventory.refresh().await.unwrap();
        assert_eq!(setting.send(again()).await.code, "RequestReplayed");
        // The same asked anew is another request.
        assert_eq!(setting.send(request()).await.code, "");
    }
}

/// Page by page, newest first, each event once.
#[tokio::test]
async fn events_are_looked_up() {
    let setting = Setting::new().await;
    for user in ["one", "two", "three"] {
        setting.done(Administrative::CreateUser, json!({ "UserName": user })).await;
    }
    let look_up = async |body: Value| setting.done(Administrative::LookupEvents, body).await;
    let attribute = |key: &str, value: &str| json!([{ "AttributeKey": key, "AttributeValue": value }]);
    let (mut found, mut token) = (Vec::new(), Value::Null);
    loop {
        let attributes = attribute("EventName", "CreateUser");
        let answer =
            look_up(json!({ "LookupAttributes": attributes, "MaxResults": 1, "NextToken": token })).await;
        let events = answer["Events"].as_array().unwrap().iter();
        found.extend(events.map(|event| event["Resources"][0]["ResourceName"].as_str().unwrap().to_owned()));
        token = answer["NextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    assert_eq!(found, ["three", "two", "one"]);
    let two = look_up(json!({ "LookupAttributes": attribute("ResourceName", "two") })).await;
    assert_eq!(two["Events"].as_array().unwrap().len(), 1);
    let later = setting.clock.wall().0 + 1;
    assert_eq!(look_up(json!({ "StartTime": later })).await["Events"], json!([]));
    for wrong in [
        json!({ "NextToken": "../../etc/passwd" }),
        json!({ "MaxResults": 51 }),
        json!({ "MaxResults": 0 }),
        json!({ "LookupAttributes": attribute("Password", "x") }),
        json!({ "LookupAttributes": [] }),
    ] {
        let answered = setting.administer(Administrative::LookupEvents, wrong.clone()).await;
        assert_eq!(answered.code, "ValidationError", "{wrong}");
    }
    // A token that somebody has made up is no more than a place to begin at.
    for token in ["99990101T000000Z-0001.7", "-.7", "-.18446744073709551615"] {
        look_up(json!({ "NextToken": token })).await;
    }
}

/// An account that looks for events all the time is told to wait, and another one is not.
#[tokio::test]
async fn look_ups_are_throttled_by_account() {
    let setting = Setting::throttled("1000/1000", "100/100", "100/100").await;
    let root =
        key_of(&setting.done(Administrative::CreateAccount, json!({ "AccountId": "444455556666" })).await);
    let look_up = async |key: &Key| {
        setting.administer_as(key, Administrative::LookupEvents, json!({ "MaxResults": 1 })).await.code
    };
    for _ in 0..10 {
        assert_eq!(look_up(&root).await, "");
    }
    assert_eq!(look_up(&root).await, "ThrottlingException");
    assert_eq!(look_up(&setting.alice()).await, "");
    setting.clock.advance(Duration::from_millis(500));
    assert_eq!(look_up(&root).await, "");
    assert_eq!(look_up(&root).await, "ThrottlingException");
}

#[tokio::test]
async fn accounts_do_not_see_each_other() {
    let setting = Setting::new().await;
    let document = r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
    let policy = json!({ "PolicyName": "p", "PolicyDocument": document });
    setting.done(Administrative::CreatePolicy, policy).await;
    setting.done(Administrative::CreateGroup, json!({ "GroupName": "g" })).await;
    let root =
        key_of(&setting.done(Administrative::CreateAccount, json!({ "AccountId": "444455556666" })).await);
    let own =
        setting.administer_as(&root, Administrative::CreateUser, json!({ "UserName": "mallory" })).await;
    assert_eq!(own.code, "");
    let before = setting.sequence().await;
    let own_names = [Administrative::CreateUser, Administrative::CreateGroup, Administrative::CreatePolicy];
    for operation in Administrative::ALL.iter().filter(|operation| !own_names.contains(operation)) {
        let mut body = needed(*operation);
        let has_user = body.get("UserName").is_some();
        if has_user && (body.get("PolicyArn").is_some() || body.get("PermissionsBoundary").is_some()) {
            body["UserName"] = json!("mallory");
        }
        let answered = setting.administer_as(&root, *operation, body).await;
        let expected = match operation {
            Administrative::CreateInstance => "EntityAlreadyExists",
            operation if operation.is_for_the_management_account() => "AccessDeniedException",
            Administrative::EnableSerialConsoleAccess | Administrative::DisableSerialConsoleAccess => {
                continue;
            }
            Administrative::GetSerialConsoleAccessStatus
            | Administrative::GetAccountAuthorizationDetails
            | Administrative::ListUsers
            | Administrative::ListGroups
            | Administrative::ListPolicies
            | Administrative::ListAgents
            | Administrative::GetSignerCertificate
            | Administrative::DescribeSerialConsole
            | Administrative::DescribeInstances => {
                let text = answered.body.to_string();
                let foreign = ["111122223333", "alice", setting.world.instance.as_str()];
                assert!(!foreign.iter().any(|foreign| text.contains(foreign)), "{operation:?}: {text}");
                ""
            }
            // What they have asked for themselves names what they must not see.
            Administrative::LookupEvents => {
                let events = answered.body["Events"].as_array().unwrap();
                assert!(
                    events.iter().all(|event| event["AccessKeyId"] == root.0.as_str()) && !events.is_empty()
                );
                ""
            }
            _ => "NoSuchEntity",
        };
        assert_eq!(answered.code, expected, "{operation:?} {:?}", answered.body);
    }
    // A switch of the other account, on and off again.
    assert_eq!(setting.sequence().await, before + 2);
    // Alice's events are older than a page of their own.
    let by_alice = json!([{ "AttributeKey": "AccessKeyId", "AttributeValue": setting.alice().0 }]);
    let by_alice = json!({ "LookupAttributes": by_alice });
    let found = setting.administer_as(&root, Administrative::LookupEvents, by_alice).await;
    assert_eq!(found.body["Events"], json!([]));
    let alices = setting.administer_as(
        &root,
        Administrative::DeleteAccessKey,
        json!({ "AccessKeyId": setting.alice().0 }),
    );
    assert_eq!(alices.await.code, "NoSuchEntity");
    let account: AccountId = setting.world.account.clone();
    assert_eq!(setting.api.inventory.current().unwrap().management_account, Some(account));
}

/// A user who may do some of it does not come by more.
#[tokio::test]
async fn what_is_allowed_does_not_lead_to_more() {
    let setting = Setting::new().await;
    let own_keys = r#"{"Effect":"Allow","Action":"instance-connect:*AccessKey*","Resource":"arn:aws:iam::*:user/${aws:username}"}"#;
    let bob = setting.new_user("bob", own_keys).await;
    let everything = r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#;
    let document = format!(r#"{{"Statement":{everything}}}"#);
    let arn = "arn:aws:iam::111122223333:policy/all";
    setting
        .done(Administrative::CreatePolicy, json!({ "PolicyName": "all", "PolicyDocument": document }))
        .await;
    let alices = setting.alice().0;
    for (operation, body, expected) in [
        (Administrative::ListAccessKeys, json!({}), ""),
        (Administrative::CreateAccessKey, json!({ "UserName": "alice" }), "AccessDeniedException"),
        (
            Administrative::PutUserPolicy,
            json!({ "UserName": "bob", "PolicyName": "p", "PolicyDocument": document }),
            "AccessDeniedException",
        ),
        (
            Administrative::AttachUserPolicy,
            json!({ "UserName": "bob", "PolicyArn": arn }),
            "AccessDeniedException",
        ),
        // Another's key under one's own name.
        (
            Administrative::UpdateAccessKey,
            json!({ "AccessKeyId": alices, "Status": "Inactive" }),
            "NoSuchEntity",
        ),
        (
            Administrative::UpdateAccessKey,
            json!({ "UserName": "bob", "AccessKeyId": alices, "Status": "Inactive" }),
            "NoSuchEntity",
        ),
        (
            Administrative::DeleteAccessKey,
            json!({ "UserName": "alice", "AccessKeyId": alices }),
            "AccessDeniedException",
        ),
    ] {
        let answered = setting.administer_as(&bob, operation, body.clone()).await;
        assert_eq!(answered.code, expected, "{operation:?} {body}");
    }
    // Whoever may administer, within a boundary that does not let them out of it.
    let boundary = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},
        {"Effect":"Deny","Action":"instance-connect:*PermissionsBoundary","Resource":"*"}]}"#;
    setting
        .done(Administrative::CreatePolicy, json!({ "PolicyName": "most", "PolicyDocument": boundary }))
        .await;
    let carol = setting.new_user("carol", everything).await;
    let most = "arn:aws:iam::111122223333:policy/most";
    let set = json!({ "UserName": "carol", "PermissionsBoundary": most });
    setting.done(Administrative::PutUserPermissionsBoundary, set).await;
    let out = setting.administer_as(
        &carol,
        Administrative::DeleteUserPermissionsBoundary,
        json!({ "UserName": "carol" }),
    );
    assert_eq!(out.await.code, "AccessDeniedException");
    let kept = setting.administer_as(&carol, Administrative::DeletePolicy, json!({ "PolicyArn": most }));
    assert_eq!(kept.await.code, "DeleteConflict");
}

/// Nobody waits for a second here: whoever was answered can rely on it in this process.
#[tokio::test]
async fn who_is_suspended_is_so_before_it_is_answered() {
    let setting = Setting::new().await;
    let everything = r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#;
    let bob = setting.new_user("bob", everything).await;
    let root =
        key_of(&setting.done(Administrative::CreateAccount, json!({ "AccountId": "444455556666" })).await);
    let key = |status| json!({ "UserName": "bob", "AccessKeyId": bob.0, "Status": status });
    let user = |status| json!({ "UserName": "bob", "Status": status });
    let account = |status| json!({ "AccountId": "444455556666", "Status": status });
    for (operation, on, off, whose, expected) in [
        (
            Administrative::UpdateAccessKey,
            key("Active"),
            key("Inactive"),
            &bob,
            "UnrecognizedClientException",
        ),
        (Administrative::UpdateUser, user("Active"), user("Suspended"), &bob, "AuthException"),
        (Administrative::UpdateAccount, account("Active"), account("Suspended"), &root, "AuthException"),
    ] {
        let ask = async || setting.administer_as(whose, Administrative::ListUsers, json!({})).await.code;
        assert_eq!(ask().await, "");
        setting.done(operation, off).await;
        assert_eq!(ask().await, expected);
        setting.done(operation, on).await;
        assert_eq!(ask().await, "");
    }
    let management = json!({ "AccountId": "111122223333", "Status": "Suspended" });
    assert_eq!(setting.administer(Administrative::UpdateAccount, management).await.code, "InvalidInput");
}

/// Everything that can be made of a user, group and policy, and what is then shown of it.
#[tokio::test]
async fn what_is_put_is_what_is_shown() {
    use Administrative as A;
    let setting = Setting::new().await;
    let document = r#"{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#;
    let arn = "arn:aws:iam::111122223333:policy/reader";
    let steps = [
        (A::CreateUser, json!({ "UserName": "bob" })),
        (
            A::TagUser,
            json!({ "UserName": "bob", "Tags": [{ "Key": "a", "Value": "1" }, { "Key": "b", "Value": "2" }] }),
        ),
        (A::UntagUser, json!({ "UserName": "bob", "TagKeys": ["a"] })),
        (A::CreatePolicy, json!({ "PolicyName": "reader", "PolicyDocument": document })),
        (A::AttachUserPolicy, json!({ "UserName": "bob", "PolicyArn": arn })),
        (A::PutUserPermissionsBoundary, json!({ "UserName": "bob", "PermissionsBoundary": arn })),
        (A::PutUserPolicy, json!({ "UserName": "bob", "PolicyName": "own", "PolicyDocument": document })),
        (A::CreateGroup, json!({ "GroupName": "ops" })),
        (A::AddUserToGroup, json!({ "GroupName": "ops", "UserName": "bob" })),
        (A::AttachGroupPolicy, json!({ "GroupName": "ops", "PolicyArn": arn })),
        (A::PutGroupPolicy, json!({ "GroupName": "ops", "PolicyName": "own", "PolicyDocument": document })),
    ];
    for (operation, body) in steps {
        setting.done(operation, body).await;
    }
    let attached = json!([{ "PolicyName": "reader", "PolicyArn": arn }]);
    let user = setting.done(A::GetUser, json!({ "UserName": "bob" })).await["User"].clone();
    assert_eq!(user["Tags"], json!([{ "Key": "b", "Value": "2" }]));
    assert_eq!((&user["GroupList"], &user["UserPolicyList"]), (&json!(["ops"]), &json!(["own"])));
    assert_eq!((&user["AttachedManagedPolicies"], &user["PermissionsBoundary"]), (&attached, &json!(arn)));
    let group = setting.done(A::GetGroup, json!({ "GroupName": "ops" })).await["Group"].clone();
    assert_eq!((&group["Users"], &group["AttachedManagedPolicies"]), (&json!(["bob"]), &attached));
    for (operation, body, place) in [
        (A::GetUserPolicy, json!({ "UserName": "bob", "PolicyName": "own" }), "/PolicyDocument"),
        (A::GetGroupPolicy, json!({ "GroupName": "ops", "PolicyName": "own" }), "/PolicyDocument"),
        (A::GetPolicy, json!({ "PolicyArn": arn }), "/Policy/PolicyDocument"),
    ] {
        assert_eq!(setting.done(operation, body).await.pointer(place), Some(&json!(document)));
    }
    let details = setting.done(A::GetAccountAuthorizationDetails, json!({})).await;
    assert_eq!(details["UserDetailList"].as_array().unwrap().len(), 2);
    assert_eq!(details["UserDetailList"][1]["UserPolicyList"][0]["PolicyDocument"], document);
    assert_eq!(details["GroupDetailList"][0]["GroupName"], "ops");
    assert_eq!(details["Policies"][0]["Arn"], arn);
    for (operation, body) in [
        (A::DeleteUserPermissionsBoundary, json!({ "UserName": "bob" })),
        (A::DetachUserPolicy, json!({ "UserName": "bob", "PolicyArn": arn })),
        (A::DeleteUserPolicy, json!({ "UserName": "bob", "PolicyName": "own" })),
        (A::RemoveUserFromGroup, json!({ "GroupName": "ops", "UserName": "bob" })),
        (A::DetachGroupPolicy, json!({ "GroupName": "ops", "PolicyArn": arn })),
        (A::DeleteGroupPolicy, json!({ "GroupName": "ops", "PolicyName": "own" })),
        (A::DeleteGroup, json!({ "GroupName": "ops" })),
        (A::UpdatePolicy, json!({ "PolicyArn": arn, "PolicyDocument": document })),
        (A::DeletePolicy, json!({ "PolicyArn": arn })),
    ] {
        setting.done(operation, body.clone()).await;
        // What can be done once only is not there any more.
        if operation != A::UpdatePolicy {
            assert_eq!(setting.administer(operation, body).await.code, "NoSuchEntity", "{operation:?}");
        }
    }
}

#[tokio::test]
async fn instances_and_their_agents() {
    use Administrative as A;
    let setting = Setting::new().await;
    let (_link, _queue) = setting.connect();
    let created = setting.done(A::CreateInstance, json!({ "AvailabilityZone": "us-east-1b" })).await;
    let id = created["Instance"]["InstanceId"].clone();
    let wrong_zone = setting.administer(A::CreateInstance, json!({ "AvailabilityZone": "eu-west-1a" })).await;
    assert_eq!(wrong_zone.code, "InvalidInput");
    setting.done(A::CreateTags, json!({ "Resources": [id], "Tags": [{ "Key": "a", "Value": "" }] })).await;
    let seen =
        setting.done(A::DescribeInstances, json!({ "InstanceIds": [id] })).await["Instances"][0].clone();
    assert_eq!((&seen["State"], &seen["Agent"]), (&json!("running"), &Value::Null));
    assert_eq!(seen["Tags"], json!([{ "Key": "a", "Value": "" }]));
    setting.done(A::DeleteTags, json!({ "Resources": [id], "TagKeys": ["a"] })).await;
    setting.done(A::CreateJoinToken, json!({ "InstanceId": id })).await;
    setting.done(A::SetInstanceState, json!({ "InstanceId": id, "State": "terminated" })).await;
    for (operation, body) in [
        (A::SetInstanceState, json!({ "InstanceId": id, "State": "running" })),
        (A::CreateJoinToken, json!({ "InstanceId": id })),
    ] {
        assert_eq!(setting.administer(operation, body).await.code, "InvalidInput");
    }
    let unknown = json!({ "InstanceIds": ["i-0ffffffffffffffff"] });
    assert_eq!(setting.administer(A::DescribeInstances, unknown).await.code, "NoSuchEntity");
    assert_eq!(setting.done(A::ListAgents, json!({})).await["Agents"], json!([]));
}

#[tokio::test]
async fn agents_are_revoked_and_rearmed() {
    use Administrative as A;
    let setting = Setting::new().await;
    let (instance, store) = (setting.world.instance.clone(), setting.api.inventory.store());
    let (about, now) = (json!({ "InstanceId": instance.as_str() }), setting.clock.wall());
    for operation in [A::RevokeAgent, A::RearmAgent] {
        let answered = setting.administer(operation, about.clone()).await;
        assert_eq!(answered.code, "NoSuchEntity", "nobody is enrolled: {:?}", answered.body);
    }
    let expires_at = instance_connect_core::document::UnixSeconds(now.0 + 60);
    let token = JoinToken { secret_hash: [1; 32], instance: instance.clone(), expires_at };
    store.create_join_token(&token, now).await.unwrap();
    store.redeem_join_token(&token.secret_hash, &instance, now, false).await.unwrap();
    assert_eq!(setting.administer(A::RearmAgent, about.clone()).await.code, "InvalidInput");
    let state = async || {
        let seen = setting.done(A::DescribeInstances, json!({ "InstanceIds": [instance.as_str()] })).await;
        assert_eq!(setting.done(A::ListAgents, json!({})).await["Agents"][0], seen["Instances"][0]["Agent"]);
        seen["Instances"][0]["Agent"]["State"].clone()
    };
    store.change_agent(&instance, AgentChange::Suspend { presented: 1 }).await.unwrap();
    setting.api.inventory.refresh().await.unwrap();
    assert_eq!(state().await, "suspended");
    setting.done(A::RearmAgent, about.clone()).await;
    assert_eq!(state().await, "active");
    setting.done(A::RevokeAgent, about.clone()).await;
    assert_eq!(state().await, "revoked");
    assert_eq!(setting.administer(A::RearmAgent, about).await.code, "InvalidInput");
}

#[tokio::test(start_paused = true)]
async fn pushed_keys_are_revoked() {
    let setting = Setting::new().await;
    setting.spawn_agent();
    setting.push("deploy").await.unwrap();
    let bob = setting.new_user("bob", "").await;
    let of_alice = json!({ "UserName": "alice" });
    let denied = setting.administer_as(&bob, Administrative::RevokeUserKeys, of_alice.clone()).await;
    assert_eq!(denied.code, "AccessDeniedException");
    let nothing = setting.done(Administrative::RevokeUserKeys, json!({ "UserName": "bob" })).await;
    assert_eq!(nothing, json!({ "Withdrawn": [], "Unreached": [] }));
    let revoked = setting.done(Administrative::RevokeUserKeys, of_alice).await;
    let push = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11";
    let key = &revoked["Withdrawn"][0];
    assert_eq!((&key["InstanceOSUser"], &key["PushRequestId"]), (&json!("deploy"), &json!(push)));
    assert_eq!(
        (&key["PrincipalArn"], &revoked["Unreached"]),
        (&json!("arn:aws:iam::111122223333:user/alice"), &json!([]))
    );
    let record = setting.audit_records().pop().unwrap();
    let withdrawn = json!({ "count": 1, "pushRequestIds": [push] });
    assert_eq!(record["responseElements"]["withdrawn"], withdrawn);
    let instance = json!({ "InstanceId": setting.world.instance.as_str() });
    assert_eq!(setting.done(Administrative::RevokeInstanceKeys, instance).await["Withdrawn"], json!([]));
}

/// What is said of a push that was signed before its key was revoked.
const REFUSED: (u16, &str) = (400, "InvalidSignatureException");

/// Whoever has captured a push sends the same bytes again, once its key was revoked.
#[tokio::test(start_paused = true)]
async fn a_push_from_before_a_revocation_is_refused() {
    let instance = json!({ "InstanceId": World::new().instance.as_str() });
    let with = |name: &str, value: &str| {
        let mut members = instance.clone();
        members[name] = value.into();
        members
    };
    let key = World::new().authorized("deploy").unwrap().operation().key.fingerprint().to_string();
    let another = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (operation, members, refused) in [
        (Administrative::RevokeUserKeys, json!({ "UserName": "alice" }), true),
        (Administrative::RevokeInstanceKeys, instance.clone(), true),
        (Administrative::RevokeInstanceKeys, with("Fingerprint", &key), true),
        (Administrative::RevokeInstanceKeys, with("UserName", "alice"), true),
        (Administrative::RevokeInstanceKeys, with("Fingerprint", another), false),
        (Administrative::RevokeUserKeys, json!({ "UserName": "bob" }), false),
        (Administrative::RevokeInstanceKeys, with("UserName", "bob"), false),
    ] {
        let setting = Setting::new().await;
        setting.spawn_agent();
        setting.new_user("bob", "").await;
        let body = setting.world.push_body("deploy");
        let captured = || setting.signed(&body, SECRET_ACCESS_KEY);
        let (first, again, later) = (captured(), captured(), captured());
        assert_eq!(setting.sent(first).await, (200, String::new()));
        setting.done(operation, members.clone()).await;
        let expected = if refused { REFUSED } else { (200, "") };
        let told = setting.sent(again).await;
        assert_eq!((told.0, told.1.as_str()), expected, "{operation:?} {members}");
        // Minutes later, as long as the signature is good, and with another one at once.
        setting.clock.advance(Duration::from_secs(120));
        setting.api.inventory.refresh().await.unwrap();
        let told = setting.sent(later).await;
        assert_eq!((told.0, told.1.as_str()), expected, "{operation:?} {members}");
        assert_eq!(setting.sent(captured()).await, (200, String::new()), "{operation:?} {members}");
    }
}

/// The revocation has looked for keys before this one was on its way, and is followed before its machine has it.
#[tokio::test]
async fn a_push_that_a_revocation_overtakes_is_withdrawn() {
    let setting = Setting::new().await;
    let (link, mut queue) = setting.connect();
    let (store, world) = (setting.api.inventory.store(), &setting.world);
    let pushed = setting.sent(setting.signed(&world.push_body("deploy"), SECRET_ACCESS_KEY));
    let machine = async {
        let Some(ServerFrame::Grant(grant)) = queue.recv().await else { panic!() };
        let everything = Revocation { instance: None, fingerprint: None, principal: None, at: world.now };
        store.put_revocation(&world.account, &everything).await.unwrap();
        setting.api.inventory.refresh().await.unwrap();
        link.acknowledged(grant.id, AckOutcome::Installed { os_user_exists: true });
        let Some(ServerFrame::Withdraw(withdraw)) = queue.recv().await else { panic!() };
        assert_eq!(withdraw.os_user.as_str(), "deploy");
    };
    let (answer, ()) = tokio::join!(pushed, machine);
    assert_eq!((answer.0, answer.1.as_str()), REFUSED);
    assert_eq!(setting.audit_records().pop().unwrap()["additionalEventData"]["delivery"], "withdrawn");
}

#[tokio::test]
async fn why_a_user_may_push_or_not() {
    let setting = Setting::new().await;
    let (_link, _queue) = setting.connect();
    let push = r#"{"Sid":"Office","Effect":"Allow","Action":"ec2-instance-connect:SendSSHPublicKey","Resource":"*",
        "Condition":{"IpAddress":{"aws:SourceIp":"198.51.100.0/24"},"StringNotEquals":{"ec2:osuser":"root"}}}"#;
    setting.new_user("bob", push).await;
    let test = async |os_user: &str, source: &str| {
        let context = json!([{ "ContextKeyName": "aws:SourceIp", "ContextKeyValue": source }]);
        let body = json!({
            "UserName": "bob", "ActionName": "ec2-instance-connect:SendSSHPublicKey",
            "InstanceId": setting.world.instance.as_str(), "InstanceOSUser": os_user, "ContextEntries": context,
        });
        setting.done(Administrative::SimulatePrincipalPolicy, body).await
    };
    let allowed = test("deploy", "198.51.100.7").await;
    assert_eq!((&allowed["EvalDecision"], &allowed["Obstacles"]), (&json!("allowed"), &json!([])));
    assert_eq!(allowed["MatchedStatement"], json!({ "Policy": "own", "Statement": "Office" }));
    for (os_user, source, because) in [
        ("deploy", "192.0.2.1", "the request has \"192.0.2.1\""),
        ("root", "198.51.100.7", "the request has \"root\""),
    ] {
        let denied = test(os_user, source).await;
        assert_eq!(denied["EvalDecision"], "implicitDeny");
        let why = denied["Explanation"].as_str().unwrap();
        assert!(why.contains("statement Office (Allow)") && why.contains(because), "{why}");
    }
    setting.done(Administrative::UpdateUser, json!({ "UserName": "bob", "Status": "Suspended" })).await;
    let stop = json!({ "InstanceId": setting.world.instance.as_str(), "State": "stopped" });
    setting.done(Administrative::SetInstanceState, stop).await;
    let in_the_way = json!(["The user bob is suspended.", "The instance is stopped."]);
    assert_eq!(test("deploy", "198.51.100.7").await["Obstacles"], in_the_way);
}

/// However a list is cut, everything is in it once.
#[tokio::test]
async fn lists_are_given_in_parts() {
    let setting = Setting::new().await;
    for name in ["b", "c", "a", "e", "d"] {
        setting.done(Administrative::CreateGroup, json!({ "GroupName": name })).await;
    }
    for size in 1..=6 {
        let (mut names, mut marker) = (Vec::new(), Value::Null);
        loop {
            let body = json!({ "MaxItems": size, "Marker": marker });
            let answer = setting.done(Administrative::ListGroups, body).await;
            let groups = answer["Groups"].as_array().unwrap();
            assert!(groups.len() <= size);
            names.extend(groups.iter().map(|group| group["GroupName"].as_str().unwrap().to_owned()));
            marker = answer["Marker"].clone();
            assert_eq!(answer["IsTruncated"], json!(marker.is_string()));
            if marker.is_null() {
                break;
            }
        }
        assert_eq!(names, ["a", "b", "c", "d", "e"], "{size} at a time");
    }
}

#[tokio::test]
async fn a_principal_that_asks_too_much_is_throttled() {
    let setting = Setting::throttled("1/2", "100/100", "100/100").await;
    let ask = async || setting.administer(Administrative::ListUsers, json!({})).await.code;
    assert_eq!([ask().await, ask().await, ask().await], ["", "", "ThrottlingException"]);
}

/// A change waits for its turn, and who may make it is asked again when that comes.
#[tokio::test]
async fn a_right_that_is_taken_away_before_its_turn_changes_nothing() {
    let everything = r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#;
    for way in ["user", "key", "policy"] {
        let setting = Arc::new(Setting::new().await);
        let bob = setting.new_user("bob", everything).await;
        let (inventory, recorded) = (&setting.api.inventory, setting.audit_records().len());
        let id = inventory.current().unwrap().access_keys[&bob.0.parse().unwrap()].user.clone();
        let turn = inventory.turn().await;
        let asking = {
            let (setting, bob) = (Arc::clone(&setting), bob.clone());
            tokio::spawn(async move {
                setting.administer_as(&bob, Administrative::CreateGroup, json!({ "GroupName": "g" })).await
            })
        };
        // With its intent on disk it has been allowed, and waits.
        while setting.audit_records().len() == recorded {
            tokio::task::yield_now().await;
        }
        let store = inventory.store();
        match way {
            "user" => store.set_user_status(&id, Status::Suspended).await.unwrap(),
            "key" => store.set_access_key_status(&bob.0.parse().unwrap(), Status::Suspended).await.unwrap(),
            _ => store.delete_user_policy(&id, &"own".parse().unwrap()).await.unwrap(),
        }
        let before = setting.sequence().await;
        drop(turn);
        let expected = if way == "policy" { "AccessDeniedException" } else { "AuthException" };
        assert_eq!(asking.await.unwrap().code, expected, "{way}");
        assert_eq!(setting.sequence().await, before, "something was changed");
        assert_eq!(setting.audit_records().last().unwrap()["errorCode"], expected);
    }
}

const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp";
const OTHER_HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBcbDBcIVf5lZW8kHRq1oJ3mVjLIyUdBK5yyrn4hPA5y";

impl Setting {
    /// As the agent of alice's instance reports them.
    async fn report_host_key(&self, key: &str) {
        self.report_host_key_of(&self.world.instance, key).await;
    }

    async fn report_host_key_of(&self, instance: &InstanceId, key: &str) {
        let store = self.api.inventory.store();
        let generation = self.api.inventory.current().unwrap().agents[instance].used;
        store.report_host_keys(instance, generation, &claimed([key])).await.unwrap();
    }

    async fn enroll(&self) {
        self.enroll_as(self.world.instance.clone(), [1; 32]).await;
    }

    async fn enroll_as(&self, instance: InstanceId, secret_hash: [u8; 32]) {
        let store = self.api.inventory.store();
        let token = JoinToken { secret_hash, instance: instance.clone(), expires_at: UnixSeconds(i64::MAX) };
        store.create_join_token(&token, self.world.now).await.unwrap();
        store.redeem_join_token(&secret_hash, &instance, self.world.now, false).await.unwrap();
        self.api.inventory.refresh().await.unwrap();
    }
}

/// What machines with the distributions' own host package have to trust, with what it is called there.
#[tokio::test]
async fn the_signers_root_is_told_with_what_speaks_against_it() {
    let setting = Setting::new().await;
    let get = async || setting.done(Administrative::GetSignerCertificate, json!({})).await;
    let told = get().await;
    assert_eq!(told["Certificate"], setting.api.links.stock().root_pem());
    assert!(told["Certificate"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----\n"));
    assert_eq!(told["CommonName"], "Instance Connect signer root");
    assert_eq!(told["FileName"], "Instance_Connect_signer_root.pem");
    assert_eq!(told["SignerName"], "managed-ssh-signer.us-east-1.amazonaws.com");
    assert_eq!(told["Warnings"], json!([]));
    // The scripts take no zone of this form.
    for _ in 0..2 {
        let zone = json!({ "AvailabilityZone": "us-east-1ab" });
        setting.done(Administrative::CreateInstance, zone).await;
    }
    let warnings = get().await["Warnings"].clone();
    let [warning] = &warnings.as_array().unwrap()[..] else { panic!("{warnings}") };
    assert!(warning.as_str().unwrap().contains("in the zone us-east-1ab:"), "{warning}");
}

/// What a machine's host keys are may be known by whoever may push to it, as the OS user they may push for.
#[tokio::test]
async fn host_keys_are_told_to_who_may_push() {
    let setting = Setting::new().await;
    setting.enroll().await;
    setting.report_host_key(HOST_KEY).await;
    let push = r#"{"Effect":"Allow","Action":"ec2-instance-connect:SendSSHPublicKey","Resource":"*",
        "Condition":{"StringEquals":{"ec2:osuser":"deploy"}}}"#;
    let get = r#"{"Effect":"Allow","Action":"instance-connect:GetHostKeys","Resource":"*"}"#;
    let not = r#"{"Effect":"Deny","Action":"instance-connect:*","Resource":"*"}"#;
    let instance = setting.world.instance.to_string();
    for (name, statements, os_user, expected) in [
        ("pusher", push.to_owned(), Some("deploy"), ""),
        ("other-user", push.to_owned(), Some("root"), "AccessDeniedException"),
        ("no-user", push.to_owned(), None, "AccessDeniedException"),
        ("reader", get.to_owned(), None, ""),
        ("denied", format!("{push},{not}"), Some("deploy"), "AccessDeniedException"),
        ("nobody", String::new(), Some("deploy"), "AccessDeniedException"),
    ] {
        let key = setting.new_user(name, &statements).await;
        let body = json!({ "InstanceId": instance, "InstanceOSUser": os_user });
        let answered = setting.administer_as(&key, Administrative::GetHostKeys, body).await;
        assert_eq!(answered.code, expected, "{name}");
        if expected.is_empty() {
            assert_eq!(answered.body["HostKeys"][0]["PublicKey"], HOST_KEY, "{name}");
        } else {
            assert!(!answered.body.to_string().contains("ssh-ed25519"), "{name}");
        }
    }
}

#[tokio::test]
async fn changed_host_keys_are_not_told_until_they_are_accepted_as_shown() {
    let setting = Setting::new().await;
    setting.enroll().await;
    setting.report_host_key(HOST_KEY).await;
    setting.report_host_key(OTHER_HOST_KEY).await;
    let instance = json!(setting.world.instance.as_str());
    let told = async || setting.done(Administrative::GetHostKeys, json!({ "InstanceId": instance })).await;
    let before = told().await;
    assert_eq!(
        (&before["HostKeys"][0]["PublicKey"], &before["IsChangePending"]),
        (&json!(HOST_KEY), &json!(true))
    );
    assert_eq!(before["HostKeys"].as_array().unwrap().len(), 1);
    let shown = setting.done(Administrative::DescribeInstances, json!({ "InstanceIds": [instance] })).await;
    let [pinned, pending] =
        ["HostKeys", "PendingHostKeys"].map(|name| shown["Instances"][0][name][0].clone());
    assert_eq!((&pinned["PublicKey"], &pending["PublicKey"]), (&json!(HOST_KEY), &json!(OTHER_HOST_KEY)));
    let accept = |key: &Value| json!({ "InstanceId": instance, "Fingerprints": [key["Fingerprint"]] });
    let refused = setting.administer(Administrative::AcceptHostKeys, accept(&pinned)).await;
    assert_eq!(refused.code, "InvalidInput");
    setting.done(Administrative::AcceptHostKeys, accept(&pending)).await;
    let after = told().await;
    assert_eq!((&after["HostKeys"][0], &after["IsChangePending"]), (&pending, &json!(false)));
    // Once they are accepted there is nothing to accept.
    assert_eq!(
        setting.administer(Administrative::AcceptHostKeys, accept(&pending)).await.code,
        "InvalidInput"
    );
}

/// An agent has claimed the host key of a machine before that one came: the operator says from which instance it is taken, and has
/// to be allowed to change both.
#[tokio::test]
async fn a_host_key_is_taken_from_the_instance_that_is_named_by_who_may_change_both() {
    let setting = Setting::new().await;
    let claimant = setting.world.instance.clone();
    let zone = json!({ "AvailabilityZone": "us-east-1a" });
    let created = setting.done(Administrative::CreateInstance, zone).await;
    let rightful: InstanceId = created["Instance"]["InstanceId"].as_str().unwrap().parse().unwrap();
    for (instance, secret_hash) in [(&claimant, [1; 32]), (&rightful, [2; 32])] {
        setting.enroll_as(instance.clone(), secret_hash).await;
        setting.report_host_key_of(instance, HOST_KEY).await;
    }
    let pinned = async |instance: &InstanceId| {
        let told =
            setting.done(Administrative::GetHostKeys, json!({ "InstanceId": instance.as_str() })).await;
        told["HostKeys"].as_array().unwrap().len()
    };
    let fingerprint = HOST_KEY.parse::<HostKey>().unwrap().fingerprint().to_string();
    let accept = |take_from: Option<&str>| {
        let mut body = json!({ "InstanceId": rightful.as_str(), "Fingerprints": [fingerprint] });
        if let Some(other) = take_from {
            body["TakeFrom"] = json!(other);
        }
        body
    };
    let one = format!(
        r#"{{"Effect":"Allow","Action":"instance-connect:AcceptHostKeys","Resource":"arn:aws:ec2:*:*:instance/{rightful}"}}"#
    );
    let half = setting.new_user("half", &one).await;
    let claimed_by = claimant.as_str();
    for (key, take_from, expected) in [
        (&setting.alice(), None, "InvalidInput"),
        (&setting.alice(), Some("i-00000000000000000"), "NoSuchEntity"),
        (&setting.alice(), Some(rightful.as_str()), "InvalidInput"),
        (&half, None, "InvalidInput"),
        (&half, Some(claimed_by), "AccessDeniedException"),
    ] {
        let refused = setting.administer_as(key, Administrative::AcceptHostKeys, accept(take_from)).await;
        assert_eq!(refused.code, expected, "{take_from:?} {refused:?}");
        assert_eq!((pinned(&claimant).await, pinned(&rightful).await), (1, 0), "{take_from:?}");
    }
    setting.done(Administrative::AcceptHostKeys, accept(Some(claimed_by))).await;
    let record = setting.audit_records().pop().unwrap();
    assert_eq!(record["requestParameters"]["takeFrom"], claimed_by);
    let taken = json!({ "instanceId": claimed_by, "fingerprints": [fingerprint] });
    assert_eq!(record["responseElements"]["taken"], taken);
    assert_eq!((pinned(&claimant).await, pinned(&rightful).await), (0, 1));
}

/// A host is given work, and the keys of its guest: whoever has the right to the guest alone gives it to no other machine.
#[tokio::test]
async fn a_host_is_named_by_who_may_change_both() {
    use Administrative as A;
    let setting = Setting::new().await;
    let (_link, _queue) = setting.connect();
    let host = setting.world.instance.as_str();
    let created = setting.done(A::CreateInstance, json!({ "AvailabilityZone": "us-east-1a" })).await;
    let guest = created["Instance"]["InstanceId"].as_str().unwrap();
    let root = key_of(&setting.done(A::CreateAccount, json!({ "AccountId": "444455556666" })).await);
    let body = json!({ "InstanceId": "i-0444455556666", "AvailabilityZone": "us-east-1a" });
    let foreign = setting.administer_as(&root, A::CreateInstance, body).await.body;
    let foreign = foreign["Instance"]["InstanceId"].as_str().unwrap();

    let on = |effect: &str, instance: &str| {
        format!(
            r#"{{"Effect":"{effect}","Action":"instance-connect:SetInstanceHost","Resource":"arn:aws:ec2:*:*:instance/{instance}"}}"#
        )
    };
    let of_guest = setting.new_user("of-guest", &on("Allow", guest)).await;
    let of_host = setting.new_user("of-host", &on("Allow", host)).await;
    let denied = setting.new_user("denied", &[on("Allow", "*"), on("Deny", host)].join(",")).await;
    let of_both = setting.new_user("of-both", &[on("Allow", guest), on("Allow", host)].join(",")).await;

    let host_of = async |instance: &str| {
        let seen = setting.done(A::DescribeInstances, json!({ "InstanceIds": [instance] })).await;
        seen["Instances"][0]["HostInstanceId"].clone()
    };
    let set = async |key: &Key, instance: &str, host: Option<&str>| {
        let body = json!({ "InstanceId": instance, "HostInstanceId": host });
        setting.administer_as(key, A::SetInstanceHost, body).await.code
    };
    for (key, instance, host, expected) in [
        (&of_guest, guest, host, "AccessDeniedException"),
        (&of_host, guest, host, "AccessDeniedException"),
        (&denied, guest, host, "AccessDeniedException"),
        // Whether a machine is there is told to those who may.
        (&of_guest, guest, "i-0ffffffffffffffff", "AccessDeniedException"),
        (&setting.alice(), guest, "i-0ffffffffffffffff", "NoSuchEntity"),
        (&setting.alice(), "i-0ffffffffffffffff", host, "NoSuchEntity"),
        (&setting.alice(), guest, foreign, "NoSuchEntity"),
        (&root, foreign, host, "NoSuchEntity"),
        (&root, guest, foreign, "NoSuchEntity"),
        (&setting.alice(), guest, guest, "InvalidInput"),
    ] {
        assert_eq!(set(key, instance, Some(host)).await, expected, "{instance} {host}");
        assert_eq!(host_of(guest).await, Value::Null);
    }
    assert_eq!(set(&of_both, guest, Some(host)).await, "");
    assert_eq!((host_of(guest).await, host_of(host).await), (json!(host), Value::Null));
    let records = setting.audit_records();
    let record = records.iter().rev().find(|record| record["eventName"] == "SetInstanceHost").unwrap();
    assert_eq!(record["requestParameters"], json!({ "instanceId": guest, "hostInstanceId": host }));
    assert_eq!(record["additionalEventData"]["decidedBy"]["statement"], "#0");
    // What was done to the host is found under its name, too.
    let attributes = json!([
        { "AttributeKey": "ResourceName", "AttributeValue": host },
        { "AttributeKey": "EventName", "AttributeValue": "SetInstanceHost" },
        { "AttributeKey": "Username", "AttributeValue": "of-both" },
    ]);
    let found = setting.done(A::LookupEvents, json!({ "LookupAttributes": attributes })).await;
    assert_eq!(found["Events"].as_array().unwrap().len(), 1);

    // There is one level of hosts.
    let third = setting.done(A::CreateInstance, json!({ "AvailabilityZone": "us-east-1a" })).await;
    let third = third["Instance"]["InstanceId"].as_str().unwrap();
    assert_eq!(set(&setting.alice(), third, Some(guest)).await, "InvalidInput");
    assert_eq!(set(&setting.alice(), host, Some(third)).await, "InvalidInput");

    // Whose agent answers for it is whose link counts.
    let test = json!({ "UserName": "alice", "ActionName": "SendSSHPublicKey", "InstanceId": guest, "InstanceOSUser": "deploy" });
    let obstacles =
        async || setting.done(A::SimulatePrincipalPolicy, test.clone()).await["Obstacles"].clone();
    assert_eq!(obstacles().await, json!([]));
    // To take a guest away asks nothing of the host.
    assert_eq!(set(&of_host, guest, None).await, "AccessDeniedException");
    assert_eq!(set(&of_guest, guest, None).await, "");
    assert_eq!(host_of(guest).await, Value::Null);
    assert_eq!(obstacles().await, json!(["The instance's agent has no open link."]));
}
