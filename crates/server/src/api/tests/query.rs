//! EC2's query API and STS's, from signed requests to answers and records.

use super::administration::{Key, Wrong};
use super::*;
use instance_connect_core::administration::Operation as Administrative;
use instance_connect_core::ids::InstanceId;
use instance_connect_core::inventory::{Account, Instance, InstanceState, Status};
use instance_connect_core::query::{FORM, Operation, Service};

const SECOND: &str = "i-0fedcba9876543210";
const FOREIGN: &str = "i-00000000000000004";
const NOBODYS: &str = "i-00000000000000009";

/// What is told of an answer.
#[derive(Debug, PartialEq)]
struct Answered {
    status: u16,
    body: String,
}

impl Answered {
    /// What stands in the first element of this name.
    fn text(&self, element: &str) -> &str {
        let (_, rest) = self.body.split_once(&format!("<{element}>")).unwrap_or(("", "</"));
        rest.split("</").next().unwrap()
    }

    fn code(&self) -> (u16, &str) {
        (self.status, self.text("Code"))
    }
}

impl Setting {
    /// With a second instance, and one of another account.
    async fn with_instances() -> Self {
        let setting = Self::new().await;
        let store = setting.api.inventory.store();
        let first = &*setting.world.inventory.instances[&setting.world.instance];
        let other = Account {
            id: "444455556666".parse().unwrap(),
            status: Status::Active,
            serial_console_access: false,
        };
        store.create_account(&other).await.unwrap();
        for instance in [
            Instance { id: SECOND.parse().unwrap(), ..first.clone() },
            Instance { id: FOREIGN.parse().unwrap(), account: other.id, ..first.clone() },
        ] {
            store.create_instance(&instance).await.unwrap();
        }
        setting.api.inventory.refresh().await.unwrap();
        setting
    }

    fn form(&self, operation: Operation, parameters: &str, key: &Key, wrong: &Wrong) -> Whole {
        let service = operation.service();
        let text = format!("Action={}&Version={}{parameters}", operation.name(), service.version());
        let headers = [("content-type", FORM), ("host", wrong.host.unwrap_or("localhost"))];
        let credentials = Credentials {
            access_key_id: key.0.clone(),
            secret_access_key: Secret::new(key.1.clone().into_bytes()),
            session_token: None,
        };
        let region = wrong.region.unwrap_or(self.world.region.as_str());
        let scope = SigningScope { region, service: wrong.service.unwrap_or_else(|| service.signing_name()) };
        let now = UnixSeconds(self.clock.wall().0 + wrong.seconds);
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

    async fn told(&self, request: Whole) -> Answered {
        let answer = Arc::clone(&self.api).answer(request, "192.0.2.1".parse().unwrap(), None).await;
        assert!(answer.headers().get("x-amzn-errortype").is_none(), "that header is of JSON");
        let content_type = answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
        assert!(content_type.starts_with("text/xml"), "{content_type}");
        let id = answer.headers()["x-amzn-requestid"].to_str().unwrap().to_owned();
        let status = answer.status().as_u16();
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains(&id), "the request's id is in the answer, too: {body}");
        Answered { status, body }
    }

    async fn query_as(&self, key: &Key, operation: Operation, parameters: &str) -> Answered {
        self.told(self.form(operation, parameters, key, &Wrong::default())).await
    }

    /// As alice, who may do everything.
    async fn query(&self, operation: Operation, parameters: &str) -> Answered {
        self.query_as(&self.alice(), operation, parameters).await
    }

    fn instance(&self, id: &str) -> Arc<Instance> {
        Arc::clone(&self.api.inventory.current().unwrap().instances[&id.parse::<InstanceId>().unwrap()])
    }
}

/// Parameters with which the operation is done, on this instance where it is on one.
fn needed(operation: Operation, id: &str) -> String {
    match operation {
        Operation::CreateTags | Operation::DeleteTags => {
            format!("&ResourceId.1={id}&Tag.1.Key=team&Tag.1.Value=web")
        }
        Operation::StartInstances | Operation::StopInstances | Operation::TerminateInstances => {
            format!("&InstanceId.1={id}")
        }
        Operation::DescribeInstances
        | Operation::DescribeInstanceTypes
        | Operation::DescribeTags
        | Operation::DescribeRegions
        | Operation::GetSerialConsoleAccessStatus
        | Operation::EnableSerialConsoleAccess
        | Operation::DisableSerialConsoleAccess
        | Operation::GetCallerIdentity => String::new(),
    }
}

/// Every operation of the table, with credentials that are wrong in every way.
#[tokio::test]
async fn no_operation_of_ec2_takes_bad_credentials() {
    let setting = Setting::with_instances().await;
    let alice = setting.alice();
    let unknown = ("AKIAEXAMPLEEXAMPLE99".to_owned(), SECRET_ACCESS_KEY.to_owned());
    let wrong_secret = (alice.0.clone(), "x".repeat(40));
    let before = setting.sequence().await;
    for operation in Operation::ALL {
        let is_ec2 = operation.service() == Service::Ec2;
        let [mismatch, expired, unknown_key] = match operation.service() {
            Service::Ec2 => [(401, "AuthFailure"), (400, "RequestExpired"), (401, "AuthFailure")],
            Service::Sts => {
                let mismatch = (403, "SignatureDoesNotMatch");
                [mismatch, mismatch, (403, "InvalidClientTokenId")]
            }
        };
        let wrong = Wrong::default();
        let other_body =
            format!("Action={}&Version={}&DryRun=false", operation.name(), operation.service().version());
        let other_body: &'static str = other_body.leak();
        for (key, wrong, expected) in [
            // Whoever signs for neither is answered by EC2, which has no operation of STS's.
            (
                &alice,
                Wrong { unsigned: true, ..wrong.clone() },
                if is_ec2 { (403, "MissingAuthenticationToken") } else { (400, "InvalidAction") },
            ),
            (&unknown, wrong.clone(), unknown_key),
            (&wrong_secret, wrong.clone(), mismatch),
            (&alice, Wrong { seconds: -301, ..wrong.clone() }, expired),
            (&alice, Wrong { seconds: 301, ..wrong.clone() }, expired),
            (&alice, Wrong { region: Some("eu-west-1"), ..wrong.clone() }, mismatch),
            (
                &alice,
                Wrong { service: Some("ec2-instance-connect"), ..wrong.clone() },
                if is_ec2 { (401, "AuthFailure") } else { (400, "InvalidAction") },
            ),
            (
                &alice,
                Wrong { service: Some(if is_ec2 { "sts" } else { "ec2" }), ..wrong.clone() },
                (400, "InvalidAction"),
            ),
            (&alice, Wrong { body_after_signing: Some(other_body), ..wrong.clone() }, mismatch),
        ] {
            let request = setting.form(*operation, &needed(*operation, SECOND), key, &wrong);
            assert_eq!(setting.told(request).await.code(), expected, "{operation:?} {wrong:?}");
        }
    }
    assert_eq!(setting.sequence().await, before, "something was changed");
}

/// Each operation of the table, by whoever may do nothing, everything but it, and it alone.
#[tokio::test]
async fn each_operation_of_ec2_is_allowed_by_its_own_action() {
    let setting = Setting::with_instances().await;
    let statement = |effect: &str, action: &str, resource: &str| {
        format!(r#"{{"Effect":"{effect}","Action":"{action}","Resource":"{resource}"}}"#)
    };
    let everything = statement("Allow", "*", "*");
    let nothing = setting.new_user("nothing", "").await;
    for (number, operation) in Operation::ALL.iter().enumerate() {
        let (action, parameters) = (operation.action(), needed(*operation, SECOND));
        let all_but = format!("{everything},{}", statement("Deny", action, "*"));
        let all_but = setting.new_user(&format!("all-but-{number}"), &all_but).await;
        let only = setting.new_user(&format!("only-{number}"), &statement("Allow", action, "*")).await;
        let before = setting.sequence().await;
        if !operation.is_judged() {
            for key in [&nothing, &all_but] {
                assert_eq!(setting.query_as(key, *operation, &parameters).await.status, 200);
            }
            continue;
        }
        for key in [&nothing, &all_but] {
            let refused = setting.query_as(key, *operation, &parameters).await;
            assert_eq!(refused.code(), (403, "UnauthorizedOperation"), "{operation:?}");
            assert!(refused.text("Message").contains(&format!("is not authorized to perform: {action} ")));
        }
        let record = setting.audit_records().pop().unwrap();
        assert_eq!(record["errorCode"], "Client.UnauthorizedOperation");
        assert_eq!(record["eventSource"], "ec2.amazonaws.com");
        assert_eq!(record["eventName"], operation.name());
        assert_eq!(record["readOnly"], operation.is_read_only());
        // Whoever may do it hears so and nothing is done; whoever may not hears no more than before.
        let dry = format!("{parameters}&DryRun=true");
        assert_eq!(setting.query_as(&nothing, *operation, &dry).await.code(), (403, "UnauthorizedOperation"));
        assert_eq!(setting.query_as(&only, *operation, &dry).await.code(), (412, "DryRunOperation"));
        assert_eq!(setting.sequence().await, before, "{operation:?}");
        let done = setting.query_as(&only, *operation, &parameters).await;
        // The one before has terminated it.
        assert_eq!(done.status, 200, "{operation:?} {done:?}");
        let record = setting.audit_records().pop().unwrap();
        assert_eq!((&record["eventName"], &record["errorCode"]), (&json!(operation.name()), &Value::Null));
        assert_eq!(record["responseElements"].is_null(), operation.is_read_only(), "{record}");
    }
}

#[tokio::test]
async fn whoever_is_suspended_asks_in_vain() {
    let setting = Setting::with_instances().await;
    let bob = setting.new_user("bob", r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#).await;
    setting.done(Administrative::UpdateUser, json!({ "UserName": "bob", "Status": "Suspended" })).await;
    for operation in Operation::ALL {
        let expected = match operation.service() {
            Service::Ec2 => (401, "AuthFailure"),
            Service::Sts => (403, "AccessDenied"),
        };
        let answered = setting.query_as(&bob, *operation, &needed(*operation, SECOND)).await;
        assert_eq!(answered.code(), expected, "{operation:?}");
    }
}

/// Each instance of a request is judged, and the tags that it has.
#[tokio::test]
async fn several_instances_are_changed_all_or_none() {
    let setting = Setting::with_instances().await;
    let first = setting.world.instance.to_string();
    let own = format!(
        r#"{{"Effect":"Allow","Action":"ec2:*","Resource":"arn:aws:ec2:*:*:instance/{SECOND}"}},
           {{"Effect":"Allow","Action":"ec2:StartInstances","Resource":"*","Condition":{{"StringEquals":{{"ec2:ResourceTag/team":"web"}}}}}}"#
    );
    let bob = setting.new_user("bob", &own).await;
    let before = setting.sequence().await;
    for operation in [Operation::StopInstances, Operation::TerminateInstances, Operation::StartInstances] {
        for ids in [[SECOND, &first], [&first, SECOND], [SECOND, FOREIGN], [SECOND, NOBODYS]] {
            let parameters = format!("&InstanceId.1={}&InstanceId.2={}", ids[0], ids[1]);
            let refused = setting.query_as(&bob, operation, &parameters).await;
            assert_eq!(refused.code(), (403, "UnauthorizedOperation"), "{ids:?}");
        }
    }
    assert_eq!(setting.sequence().await, before);
    let parameters = format!("&ResourceId.1={first}&Tag.1.Key=team&Tag.1.Value=web");
    assert_eq!(setting.query(Operation::CreateTags, &parameters).await.text("return"), "true");
    let both = format!("&InstanceId.1={first}&InstanceId.2={SECOND}");
    assert_eq!(setting.query_as(&bob, Operation::StartInstances, &both).await.status, 200);
    assert_eq!(setting.query_as(&bob, Operation::StopInstances, &both).await.status, 403);
}

/// Whoever may do everything in their account learns nothing of another's.
#[tokio::test]
async fn another_accounts_instance_is_nobodys() {
    let setting = Setting::with_instances().await;
    let before = setting.sequence().await;
    for operation in [
        Operation::DescribeInstances,
        Operation::CreateTags,
        Operation::DeleteTags,
        Operation::StartInstances,
        Operation::StopInstances,
        Operation::TerminateInstances,
    ] {
        let mut told = Vec::new();
        for id in [FOREIGN, NOBODYS] {
            for dry in ["", "&DryRun=true"] {
                let parameters = match operation {
                    Operation::DescribeInstances => format!("&InstanceId.1={id}"),
                    _ => needed(operation, id),
                };
                let answered = setting.query(operation, &format!("{parameters}{dry}")).await;
                let request_id = answered.text("RequestID").to_owned();
                told.push((dry, answered.status, answered.body.replace(id, "ID").replace(&request_id, "")));
            }
        }
        let (foreign, nobodys) = told.split_at(2);
        assert_eq!(foreign, nobodys, "{operation:?}");
    }
    for operation in [Operation::DescribeInstances, Operation::DescribeTags, Operation::DescribeInstanceTypes]
    {
        assert!(!setting.query(operation, "").await.body.contains(FOREIGN), "{operation:?}");
    }
    assert_eq!(setting.sequence().await, before);
}

/// Tags that are set decide what policies allow, so policies can say which ones may be.
#[tokio::test]
async fn policies_say_which_tags_may_be_set() {
    let setting = Setting::with_instances().await;
    let only_team = r#"{"Effect":"Allow","Action":"ec2:CreateTags","Resource":"*","Condition":{
        "StringEquals":{"aws:RequestTag/team":["web","db"]},"ForAllValues:StringEquals":{"aws:TagKeys":["team","note"]}}},
        {"Effect":"Allow","Action":"ec2:DeleteTags","Resource":"*"},
        {"Effect":"Deny","Action":"ec2:DeleteTags","Resource":"*","Condition":{"ForAnyValue:StringLike":{"aws:TagKeys":"t*"}}}"#;
    let bob = setting.new_user("bob", only_team).await;
    for (operation, tags, allowed) in [
        (Operation::CreateTags, "&Tag.1.Key=team&Tag.1.Value=web", true),
        (Operation::CreateTags, "&Tag.1.Key=team&Tag.1.Value=db&Tag.2.Key=note&Tag.2.Value=x", true),
        (Operation::CreateTags, "&Tag.1.Key=team&Tag.1.Value=root", false),
        (Operation::CreateTags, "&Tag.1.Key=team&Tag.1.Value=web&Tag.2.Key=other&Tag.2.Value=x", false),
        (Operation::CreateTags, "&Tag.1.Key=note&Tag.1.Value=x", false),
        // Values compare with regard to case, and keys without.
        (Operation::CreateTags, "&Tag.1.Key=Team&Tag.1.Value=web", true),
        (Operation::CreateTags, "&Tag.1.Key=Team&Tag.1.Value=Web", false),
        (Operation::DeleteTags, "&Tag.1.Key=note", true),
        (Operation::DeleteTags, "&Tag.1.Key=note&Tag.2.Key=team", false),
        (Operation::DeleteTags, "&Tag.1.Key=Team", false),
    ] {
        let answered = setting.query_as(&bob, operation, &format!("&ResourceId.1={SECOND}{tags}")).await;
        assert_eq!(answered.status == 200, allowed, "{operation:?} {tags} {answered:?}");
    }
}

/// Whoever may not take a tag takes it neither by naming none, nor without its value, nor spelled in another way.
#[tokio::test]
async fn tags_that_are_protected_are_taken_in_no_way() {
    let setting = Setting::with_instances().await;
    let tags = "&Tag.1.Key=team&Tag.1.Value=secure&Tag.2.Key=note&Tag.2.Value=x";
    let first = setting.world.instance.to_string();
    setting.query(Operation::CreateTags, &format!("&ResourceId.1={SECOND}{tags}")).await;
    setting
        .query(Operation::CreateTags, &format!("&ResourceId.1={first}&Tag.1.Key=note&Tag.1.Value=x"))
        .await;
    let deny = |condition: &str| {
        format!(
            r#"{{"Effect":"Allow","Action":"ec2:*","Resource":"*"}},
            {{"Effect":"Deny","Action":["ec2:CreateTags","ec2:DeleteTags"],"Resource":"*","Condition":{{{condition}}}}}"#
        )
    };
    let by_key = deny(r#""ForAnyValue:StringEquals":{"aws:TagKeys":["TEAM"]}"#);
    let by_pattern = deny(r#""ForAnyValue:StringLike":{"aws:TagKeys":["T?A*"]}"#);
    let by_value = deny(r#""StringEquals":{"aws:RequestTag/Team":"secure"}"#);
    let allowed = |keys: &str| {
        format!(
            r#"{{"Effect":"Allow","Action":"ec2:DeleteTags","Resource":"*","Condition":{{"ForAllValues:StringEquals":{{"aws:TagKeys":{keys}}}}}}}"#
        )
    };
    let only_note = allowed(r#"["Note"]"#);
    for (number, policy) in [by_key, by_pattern, by_value, only_note].iter().enumerate() {
        let bob = setting.new_user(&format!("bob-{number}"), policy).await;
        for tags in
            ["", "&Tag.1.Key=team", "&Tag.1.Key=note&Tag.2.Key=team", "&Tag.1.Key=team&Tag.1.Value=secure"]
        {
            for resources in
                [format!("&ResourceId.1={SECOND}"), format!("&ResourceId.1={first}&ResourceId.2={SECOND}")]
            {
                let refused =
                    setting.query_as(&bob, Operation::DeleteTags, &format!("{resources}{tags}")).await;
                assert_eq!(refused.code(), (403, "UnauthorizedOperation"), "{policy} {resources} {tags}");
            }
        }
        // What is on this one is nobody's concern.
        let parameters = format!("&ResourceId.1={first}&DryRun=true");
        assert_eq!(setting.query_as(&bob, Operation::DeleteTags, &parameters).await.status, 412, "{policy}");
    }
    assert_eq!(setting.instance(SECOND).tags["team"], "secure");
}

/// What is said twice in a second has one signature. SDKs try it again, and sign it anew: the answer has them wait until
/// that is another one.
#[tokio::test]
async fn what_is_switched_back_within_a_second_is_tried_again() {
    let setting = Setting::with_instances().await;
    let [on, off] = [Operation::EnableSerialConsoleAccess, Operation::DisableSerialConsoleAccess];
    for operation in [on, off] {
        assert_eq!(setting.query(operation, "").await.status, 200, "{operation:?}");
    }
    let request = setting.form(on, "", &setting.alice(), &Wrong::default());
    let answer = Arc::clone(&setting.api).answer(request, "192.0.2.1".parse().unwrap(), None).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["x-amz-retry-after"], "1000");
    setting.clock.advance(Duration::from_secs(1));
    let answered = setting.query(on, "").await;
    assert_eq!(answered.text("serialConsoleAccessEnabled"), "true", "{answered:?}");
}

/// SDKs send what they heard nothing of again, byte by byte. Catches the planted `change-replayed`.
#[tokio::test]
async fn a_request_of_ec2s_api_is_taken_again() {
    let setting = Setting::with_instances().await;
    let captured = setting.form(
        Operation::StopInstances,
        &needed(Operation::StopInstances, SECOND),
        &setting.alice(),
        &Wrong::default(),
    );
    let again = || {
        let mut copy = Request::post("/").body(captured.body().clone()).unwrap();
        *copy.headers_mut() = captured.headers().clone();
        copy
    };
    for previous in ["running", "stopped"] {
        let answered = setting.told(again()).await;
        assert_eq!(answered.status, 200, "{answered:?}");
        let (_, state) = answered.body.split_once("<previousState>").unwrap();
        assert!(state.contains(&format!("<name>{previous}</name>")), "{answered:?}");
        assert_eq!(setting.instance(SECOND).state, InstanceState::Stopped);
    }
    // What was done since is not undone by whoever has seen it.
    let restarted =
        setting.query(Operation::StartInstances, &needed(Operation::StartInstances, SECOND)).await;
    assert_eq!(restarted.status, 200);
    // Later than any request of the same second comes, nobody is told to sign it anew: its client would stop it again.
    for (seconds, status, code) in
        [(1, 503, "RequestLimitExceeded"), (2, 503, "RequestLimitExceeded"), (3, 400, "RequestExpired")]
    {
        setting.clock.advance(Duration::from_secs(1));
        assert_eq!(setting.told(again()).await.code(), (status, code), "{seconds} s");
        assert_eq!(setting.instance(SECOND).state, InstanceState::Running);
        let record = setting.audit_records().pop().unwrap();
        assert_eq!(record["errorCode"], format!("Client.{code}"));
    }
    // Each time it is judged anew.
    setting
        .done(Administrative::DeleteUserPolicy, json!({ "UserName": "alice", "PolicyName": "everything" }))
        .await;
    assert_eq!(setting.told(again()).await.code(), (403, "UnauthorizedOperation"));
}

/// A service does not know by which names it is reached: its callers do, and have signed one.
#[tokio::test]
async fn the_region_is_where_its_caller_has_reached_it() {
    let setting = Setting::with_instances().await;
    let answered = setting.query(Operation::DescribeRegions, "").await;
    assert_eq!(answered.text("regionName"), setting.world.region.as_str(), "{answered:?}");
    assert_eq!(answered.text("regionEndpoint"), "localhost");
    // The longest, which filters are compared with.
    let long = Wrong { host: Some("h".repeat(4096).leak()), ..Wrong::default() };
    let request = setting.form(Operation::DescribeRegions, "", &setting.alice(), &long);
    assert_eq!(setting.told(request).await.text("regionEndpoint"), "h".repeat(limits::HOST));
    let other = setting.query(Operation::DescribeRegions, "&RegionName.1=eu-north-9").await;
    assert_eq!(other.code(), (400, "InvalidParameterValue"));
}

/// Pushes go by it, and terminated is for good.
#[tokio::test]
async fn a_state_has_its_consequences() {
    let setting = Setting::with_instances().await;
    let (link, queue) = setting.connect();
    tokio::spawn(acknowledge(link, queue));
    let body = setting.world.push_body("deploy");
    let first = setting.world.instance.to_string();
    let push = async || setting.ask(&body, SECRET_ACCESS_KEY, "192.0.2.1").await.1;
    assert_eq!(push().await, "");
    for (operation, push_error) in [
        (Operation::StopInstances, "EC2InstanceStateInvalidException"),
        (Operation::StartInstances, ""),
        (Operation::TerminateInstances, "EC2InstanceStateInvalidException"),
    ] {
        setting.clock.advance(Duration::from_secs(10));
        setting.api.inventory.refresh().await.unwrap();
        let answered = setting.query(operation, &format!("&InstanceId.1={first}")).await;
        assert_eq!(answered.status, 200, "{answered:?}");
        assert_eq!(push().await, push_error, "{operation:?}");
    }
    assert_eq!(
        setting.instance(&first).launched_at.0,
        setting.world.now.0 + 20,
        "launched when it was started last"
    );
    // For good, and with it none of the others.
    for operation in [Operation::StartInstances, Operation::StopInstances] {
        let both = format!("&InstanceId.1={first}&InstanceId.2={SECOND}");
        assert_eq!(setting.query(operation, &both).await.code(), (400, "IncorrectInstanceState"));
    }
    assert_eq!(setting.instance(SECOND).state, InstanceState::Running);
}

#[tokio::test]
async fn tags_are_added_and_taken_up_to_their_number() {
    let setting = Setting::with_instances().await;
    let first = setting.world.instance.to_string();
    let both = format!("&ResourceId.1={first}&ResourceId.2={SECOND}");
    let many: String = (1..=49).map(|n| format!("&Tag.{n}.Key=k{n}")).collect();
    assert_eq!(
        setting.query(Operation::CreateTags, &format!("&ResourceId.1={SECOND}{many}")).await.status,
        200
    );
    let two = "&Tag.1.Key=a&Tag.1.Value=1&Tag.2.Key=b";
    // The first could have them, and does not get them.
    let before = setting.sequence().await;
    assert_eq!(
        setting.query(Operation::CreateTags, &format!("{both}{two}")).await.code(),
        (400, "TagLimitExceeded")
    );
    assert_eq!(setting.sequence().await, before);
    assert_eq!(
        setting.query(Operation::CreateTags, &format!("{both}&Tag.1.Key=a&Tag.1.Value=1")).await.status,
        200
    );
    assert_eq!(setting.instance(&first).tags["a"], "1");
    assert_eq!(
        setting.query(Operation::DeleteTags, &format!("{both}&Tag.1.Key=a&Tag.1.Value=2")).await.status,
        200
    );
    assert_eq!(setting.instance(&first).tags["a"], "1", "it has another value");
    assert_eq!(setting.query(Operation::DeleteTags, &both).await.status, 200);
    assert!(setting.instance(&first).tags.is_empty() && setting.instance(SECOND).tags.is_empty());
}

#[tokio::test]
async fn the_switch_decides_what_a_serial_push_is_told() {
    let setting = Setting::with_instances().await;
    let body = json!({ "InstanceId": SECOND, "SSHPublicKey": KEY_LINE });
    let push = async || {
        let operation = super::Operation::SendSerialConsoleSshPublicKey;
        let request = setting.request(operation, &body, &setting.alice(), &Wrong::default());
        setting.send(request).await.code
    };
    let switched = async |operation, shown: &str| {
        let answered = setting.query(operation, "").await;
        assert_eq!(answered.text("serialConsoleAccessEnabled"), shown, "{answered:?}");
    };
    switched(Operation::GetSerialConsoleAccessStatus, "false").await;
    assert_eq!(push().await, "SerialConsoleAccessDisabledException");
    switched(Operation::EnableSerialConsoleAccess, "true").await;
    switched(Operation::GetSerialConsoleAccessStatus, "true").await;
    assert_eq!(push().await, "EC2InstanceTypeInvalidException");
    // The same switch as administration's.
    let shown = setting.done(Administrative::GetSerialConsoleAccessStatus, json!({})).await;
    assert_eq!(shown["SerialConsoleAccessEnabled"], true);
    setting.query(Operation::StopInstances, &needed(Operation::StopInstances, SECOND)).await;
    assert_eq!(push().await, "EC2InstanceStateInvalidException");
    switched(Operation::DisableSerialConsoleAccess, "false").await;
    assert_eq!(push().await, "SerialConsoleAccessDisabledException");
}

#[tokio::test]
async fn without_audit_ec2s_api_changes_and_tells_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let setting = Setting::with_audit_log(directory, |clock, _| AuditLog::on_a_full_disk(clock)).await;
    let before = setting.sequence().await;
    let first = setting.world.instance.to_string();
    for operation in Operation::ALL {
        let answered = setting.query(*operation, &needed(*operation, &first)).await;
        assert_eq!(answered.status, 500, "{operation:?}");
        assert!(!answered.body.contains(&first) && !answered.body.contains("alice"), "{answered:?}");
    }
    assert_eq!(setting.sequence().await, before);
}

#[tokio::test]
async fn too_many_requests_are_told_in_each_services_words() {
    let setting = Setting::throttled("1/1", "1/1", "1/1").await;
    assert_eq!(setting.query(Operation::GetCallerIdentity, "").await.status, 200);
    for _ in 0..2 {
        let answered = setting.query(Operation::DescribeInstances, "").await;
        assert_eq!(answered.code(), (503, "RequestLimitExceeded"));
        assert_eq!(setting.query(Operation::GetCallerIdentity, "").await.code(), (400, "Throttling"));
    }
    // So is a source that has asked too often without a good signature, whoever asks from there then.
    let setting = Setting::throttled("9/9", "9/9", "1/1").await;
    let unsigned = Wrong { unsigned: true, ..Wrong::default() };
    let unsigned = setting.form(Operation::DescribeInstances, "", &setting.alice(), &unsigned);
    assert_eq!(setting.told(unsigned).await.code(), (403, "MissingAuthenticationToken"));
    assert_eq!(setting.query(Operation::DescribeInstances, "").await.code(), (503, "RequestLimitExceeded"));
    assert_eq!(setting.query(Operation::GetCallerIdentity, "").await.code(), (400, "Throttling"));
}
