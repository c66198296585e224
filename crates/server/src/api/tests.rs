mod administration;
mod faults;
mod proxies;
mod query;
mod sockets;

use super::*;
use crate::audit_log::{AuditSettings, FileSize};
use crate::console::{Console, Parts};
use crate::links::{Link, Wanted};
use crate::pki::Pki;
use crate::stock::StockSigners;
use crate::streams::Streams;
use hyper::Request;
use instance_connect_core::audit::LinkClaim;
use instance_connect_core::console::ConsoleSettings;
use instance_connect_core::document::ServerInstant;
use instance_connect_core::link::{AckOutcome, Refusal, ServerFrame};
use instance_connect_core::secret::Secret;
use instance_connect_core::sigv4::{Credentials, SigningScope, sign_headers};
use instance_connect_core::throttle::ThrottleLimits;
use instance_connect_store::{MasterKey, SqliteStore, Store};
use instance_connect_testkit::{KEY_LINE, ManualClock, SECRET_ACCESS_KEY, SeededRandom, World};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

struct Setting {
    api: Arc<Api>,
    world: World,
    clock: Arc<ManualClock>,
    directory: tempfile::TempDir,
}

impl Setting {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings =
            AuditSettings { path: directory.path().join("audit.log"), max_bytes: FileSize::default() };
        Self::with_audit_log(directory, |clock, random| AuditLog::open(&settings, clock, random).unwrap())
            .await
    }

    async fn with_audit_log(
        directory: tempfile::TempDir,
        open: impl FnOnce(Arc<dyn Clock>, &dyn Random) -> AuditLog,
    ) -> Self {
        let (world, random) = (World::new(), Arc::new(SeededRandom::new(1)));
        let clock = Arc::new(ManualClock::new(world.now, ServerInstant(1_000_000_000)));
        let key = MasterKey::from_bytes([1; 32]);
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(&directory.path().join("data"), &key, random.clone()).unwrap());
        keep(&world, store.as_ref()).await;
        let pki = Pki::load(store.as_ref(), random.as_ref(), &world.region, world.now).await.unwrap();
        let inventory = Arc::new(LiveInventory::load(store, clock.clone()).await.unwrap());
        let links = Arc::new(Links::new(Arc::new(pki), StockSigners::of_tests().await, clock.clone()));
        let audit = open(clock.clone(), random.as_ref());
        let console = Parts {
            region: world.region.clone(),
            inventory: Arc::clone(&inventory),
            streams: Arc::new(Streams::new(Arc::clone(&links), random.clone())),
            audit: audit.clone(),
            clock: clock.clone(),
            random: random.clone(),
        };
        let api = Api {
            region: world.region.clone(),
            key_types: KeyTypes::default(),
            inventory,
            links,
            console: Arc::new(Console::new(console, ConsoleSettings::default())),
            audit,
            clock: clock.clone(),
            clock_guard: Arc::default(),
            readiness: Readiness::default(),
            clock_window: limits::CLOCK_WINDOW,
            random,
            throttle: None,
            proxies: Proxies::default(),
            traces: crate::traces::RequestSpans::default(),
            metrics: Arc::default(),
            faults: Faults::default(),
        };
        Self { api: Arc::new(api), world, clock, directory }
    }

    /// With rates as they are written: of a principal, of one at an instance, of requests that nobody signed.
    async fn throttled(principal: &str, instance: &str, unauthenticated: &str) -> Self {
        let [principal, instance, unauthenticated] =
            [principal, instance, unauthenticated].map(|rate| rate.parse().unwrap());
        let limits = ThrottleLimits { principal, instance, unauthenticated };
        let mut setting = Self::new().await;
        Arc::get_mut(&mut setting.api).unwrap().throttle = Some(Arc::new(Mutex::new(Throttle::new(limits))));
        setting
    }

    /// The agent's end of a link.
    fn connect(&self) -> (Arc<Link>, mpsc::Receiver<ServerFrame>) {
        let claim = LinkClaim {
            boot_id: "5c0c6f9e-3f60-4c11-9d0b-1c5a6f0e9a11".parse().unwrap(),
            source: "192.0.2.1".parse().unwrap(),
            generation: 1,
        };
        let (link, Wanted { frames: queue, .. }) = Link::new(claim, self.api.clock.monotonic(), false);
        self.api.links.slot(&self.world.instance).open(&link, None, self.api.clock.monotonic()).unwrap();
        (link, queue)
    }

    /// A verified push for this OS user.
    async fn push(&self, os_user: &str) -> Result<String, ApiError> {
        let body = self.world.push_body(os_user);
        let caller = self.world.verified(body.as_bytes()).unwrap();
        let origin = self.world.origin();
        let (operation, inventory) = (Operation::SendSshPublicKey, Arc::new(self.world.inventory.clone()));
        self.api
            .perform(
                Call {
                    operation,
                    caller,
                    body: body.into(),
                    parameters: Parameters::default(),
                    host: String::new(),
                    inventory,
                    used: used(),
                },
                &origin,
            )
            .await
    }

    /// Sends a request head and body, and reads the answer to its end.
    async fn exchange(&self, request: &[u8]) -> String {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(socket.local_addr().unwrap()).await.unwrap();
        let listener = Listener::new(socket, limits::API_CONNECTIONS);
        let server = tokio::spawn(Arc::clone(&self.api).serve(listener, None));
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        server.abort();
        answer
    }

    /// A push from the signed request to the answer: status and error name.
    async fn ask(&self, body: &str, secret: &str, source: &str) -> (u16, String) {
        self.sent_from(self.signed(body, secret), source).await
    }

    async fn sent(&self, request: Whole) -> (u16, String) {
        self.sent_from(request, "192.0.2.1").await
    }

    async fn sent_from(&self, request: Whole, source: &str) -> (u16, String) {
        let answer = Arc::clone(&self.api).answer(request, source.parse().unwrap(), None).await;
        let error = answer.headers().get("x-amzn-errortype").map_or("", |value| value.to_str().unwrap());
        (answer.status().as_u16(), error.to_owned())
    }

    /// The machine's agent, which takes every key and removes what is withdrawn.
    fn spawn_agent(&self) {
        let (link, mut queue) = self.connect();
        let (links, instance) = (Arc::clone(&self.api.links), self.world.instance.clone());
        tokio::spawn(async move {
            while let Some(frame) = queue.recv().await {
                match frame {
                    ServerFrame::Grant(grant) => {
                        link.acknowledged(grant.id, AckOutcome::Installed { os_user_exists: true });
                    }
                    ServerFrame::Withdraw(withdraw) => links.slot(&instance).withdrawn(withdraw.id),
                    other => panic!("{other:?}"),
                }
            }
        });
    }

    fn signed(&self, body: &str, secret: &str) -> Whole {
        let headers = [
            ("content-type", api::CONTENT_TYPE),
            ("host", "localhost"),
            ("x-amz-target", "AWSEC2InstanceConnectService.SendSSHPublicKey"),
        ];
        let credentials = Credentials {
            access_key_id: self.world.access_key.to_string(),
            secret_access_key: Secret::new(secret.into()),
            session_token: None,
        };
        let scope = SigningScope { region: self.world.region.as_str(), service: "ec2-instance-connect" };
        let now = self.clock.wall();
        let signed = sign_headers("POST", "/", &headers, body.as_bytes(), &credentials, scope, now).unwrap();
        let mut request = Request::post("/");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request
            .header("x-amz-date", signed.amz_date)
            .header("authorization", signed.authorization)
            .body(Ok(body.to_owned().into()))
            .unwrap()
    }

    fn audit_records(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.directory.path().join("audit.log")).unwrap();
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// What pushes have and nobody asks for.
fn used() -> UsedSignature {
    UsedSignature { signature: [0; 32], signed_at: UnixSeconds(i64::MAX), expires_at: UnixSeconds(0) }
}

/// Puts the world's account, user, key and instance into a store.
async fn keep(world: &World, store: &dyn Store) {
    let World { inventory, account, user, access_key, instance, .. } = world;
    let everything = r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
    store.create_account(&inventory.accounts[account]).await.unwrap();
    store.create_user(user, account, &inventory.users[user].name).await.unwrap();
    store.put_user_policy(user, &"everything".parse().unwrap(), everything).await.unwrap();
    store.create_access_key(&inventory.access_keys[access_key]).await.unwrap();
    store.create_instance(&inventory.instances[instance]).await.unwrap();
}

async fn acknowledge(link: Arc<Link>, queue: mpsc::Receiver<ServerFrame>) {
    answer_grants(link, queue, AckOutcome::Installed { os_user_exists: true }).await;
}

async fn answer_grants(link: Arc<Link>, mut queue: mpsc::Receiver<ServerFrame>, outcome: AckOutcome) {
    while let Some(frame) = queue.recv().await {
        if let ServerFrame::Grant(grant) = frame {
            link.acknowledged(grant.id, outcome);
        }
    }
}

#[tokio::test]
async fn a_success_is_on_record_before_it_is_answered() {
    let setting = Setting::new().await;
    let (link, queue) = setting.connect();
    tokio::spawn(acknowledge(link, queue));
    let body = setting.push("deploy").await.unwrap();
    assert_eq!(body, r#"{"RequestId":"0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11","Success":true}"#);
    let [intent, record] = setting.audit_records().try_into().unwrap();
    assert_eq!(intent["eventType"], "InstanceConnectIntent");
    assert_eq!(record["eventType"], "AwsApiCall");
    assert_eq!(record["eventName"], "SendSSHPublicKey");
    assert_eq!(record["eventTime"], "2031-02-11T02:05:06Z");
    assert_eq!(record["sourceIPAddress"], "192.0.2.1");
    assert_eq!(record["userAgent"], "test\n");
    assert_eq!(record["userIdentity"]["arn"], "arn:aws:iam::111122223333:user/alice");
    assert_eq!(record["requestParameters"]["instanceOSUser"], "deploy");
    assert_eq!(record["responseElements"]["success"], true);
    assert_eq!(record["responseElements"]["requestId"], record["requestID"]);
    assert_eq!(intent["requestID"], record["requestID"]);
    let statement = json!({ "policy": "policy", "statement": "#0" });
    assert_eq!(record["additionalEventData"], json!({ "osUserExists": true, "decidedBy": statement }));
}

#[tokio::test]
async fn a_denial_is_on_record_and_nothing_is_sent() {
    let mut setting = Setting::new().await;
    setting.world.set_policies(&[]);
    let (_link, mut queue) = setting.connect();
    assert!(matches!(setting.push("deploy").await, Err(ApiError::AccessDenied { .. })));
    assert!(queue.try_recv().is_err());
    let [record] = setting.audit_records().try_into().unwrap();
    assert_eq!(record["errorCode"], "AccessDeniedException");
    assert_eq!(record["responseElements"], Value::Null);
    assert_eq!(record["requestParameters"]["instanceOSUser"], "deploy");
}

#[tokio::test]
async fn without_audit_nothing_happens() {
    let directory = tempfile::tempdir().unwrap();
    let setting = Setting::with_audit_log(directory, |clock, _| AuditLog::on_a_full_disk(clock)).await;
    let (_link, mut queue) = setting.connect();
    assert_eq!(setting.push("deploy").await, Err(ApiError::Service));
    assert!(queue.try_recv().is_err(), "a key left without its intent on disk");
}

/// The intent fits on the disk and the record does not: the key that is on the machine by then has to go.
#[tokio::test]
async fn a_key_without_its_record_is_withdrawn() {
    let setting = Setting::new().await;
    let (link, mut queue) = setting.connect();
    let audit = setting.api.audit.clone();
    let agent = tokio::spawn(async move {
        let Some(ServerFrame::Grant(grant)) = queue.recv().await else { panic!("no grant") };
        audit.fail();
        link.acknowledged(grant.id, AckOutcome::Installed { os_user_exists: true });
        queue.recv().await
    });
    assert_eq!(setting.push("deploy").await, Err(ApiError::Service));
    assert!(matches!(agent.await.unwrap(), Some(ServerFrame::Withdraw(_))));
}

#[tokio::test(start_paused = true)]
async fn an_unacknowledged_push_is_on_record_as_unknown() {
    let setting = Setting::new().await;
    let (_link, _queue) = setting.connect();
    assert_eq!(setting.push("deploy").await, Err(ApiError::InstanceUnavailable));
    let [_intent, record] = setting.audit_records().try_into().unwrap();
    assert_eq!(record["errorCode"], "EC2InstanceUnavailableException");
    assert_eq!(record["additionalEventData"]["delivery"], "unknown");
}

/// The caller is told no more than that; whoever reads the log sees why.
#[tokio::test]
async fn a_push_that_the_machine_refuses_is_on_record_with_its_reason() {
    for (refusal, code) in [
        (Refusal::Vetoed, "AuthException"),
        (Refusal::UserFull, "ThrottlingException"),
        (Refusal::InstanceFull, "ThrottlingException"),
        (Refusal::NoClock, "EC2InstanceUnavailableException"),
    ] {
        let setting = Setting::new().await;
        let (link, queue) = setting.connect();
        tokio::spawn(answer_grants(link, queue, AckOutcome::Refused(refusal)));
        let body = setting.world.push_body("deploy");
        assert_eq!(setting.ask(&body, SECRET_ACCESS_KEY, SOURCE).await, (400, code.to_owned()));
        let [_intent, mut record] = setting.audit_records().try_into().unwrap();
        assert_eq!(record["errorCode"], code);
        let decided_by = json!({ "policy": "everything", "statement": "#0" });
        let expected = json!({ "delivery": "refused", "reason": refusal.name(), "decidedBy": decided_by });
        assert_eq!(record["additionalEventData"].take(), expected);
    }
}

/// Nobody was verified, so nothing waits for the record and it says what was claimed, not who it was.
#[tokio::test]
async fn a_request_that_is_not_verified_is_sampled() {
    let setting = Setting::new().await;
    let body = setting.world.push_body("deploy");
    let date = "20310211T020506Z";
    let scope = "20310211/us-east-1/ec2-instance-connect/aws4_request";
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nuser-agent: \u{9b}2J\r\ncontent-length: {}\r\n\
         content-type: application/x-amz-json-1.1\r\nx-amz-target: AWSEC2InstanceConnectService.SendSSHPublicKey\r\n\
         x-amz-date: {date}\r\nauthorization: AWS4-HMAC-SHA256 Credential=AKIAEXAMPLEEXAMPLE01/{scope}, \
         SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature={}\r\n\r\n{body}",
        body.len(),
        "0".repeat(64),
    );
    let answer = setting.exchange(head.as_bytes()).await;
    assert!(answer.contains("InvalidSignatureException"), "{answer}");
    let unread = setting.exchange(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(unread.starts_with("HTTP/1.1 404 "), "{unread}");
    // Lines are written in the order in which they came: once this one is there, they are.
    let (origin, caller) = (setting.world.origin(), setting.world.verified(b"").unwrap());
    let operation = Operation::SendSshPublicKey;
    let last = AuditedRequest::new(&origin, caller.get(), operation, &setting.world.region).intent();
    setting.api.audit.commit(last).await.unwrap();
    let [refused, unread, _last] = setting.audit_records().try_into().unwrap();
    assert_eq!(refused["eventName"], "RefuseRequest");
    assert_eq!(refused["errorCode"], "InvalidSignatureException");
    assert_eq!(refused["userIdentity"], json!({ "type": "Unknown", "accessKeyId": "AKIAEXAMPLEEXAMPLE01" }));
    assert_eq!(refused["sourceIPAddress"], "127.0.0.1");
    assert_eq!(refused["userAgent"], "\u{9b}2J");
    assert!(answer.contains(refused["requestID"].as_str().unwrap()), "{answer}");
    assert_eq!(unread["errorCode"], "UnknownOperationException");
    assert_eq!(unread["userIdentity"], json!({ "type": "Unknown" }));
}

#[test]
fn a_user_agent_is_cut_and_text() {
    let shown = |value: &[u8]| {
        let value = HeaderValue::from_bytes(value).unwrap();
        user_agent(&HeaderMap::from_iter([(USER_AGENT, value)]))
    };
    assert_eq!(shown(b"aws-cli/2.x"), "aws-cli/2.x");
    assert_eq!(shown(b"\xff\xc3\xbc\x9b"), "\u{fffd}\u{fc}\u{fffd}");
    assert_eq!(shown(&vec![b'x'; 1024 * 1024]), "x".repeat(limits::USER_AGENT));
    assert_eq!(user_agent(&HeaderMap::new()), "");
}

#[test]
fn a_clock_that_goes_back_is_not_believed() {
    let guard = ClockGuard::default();
    for (now, admitted) in
        [(1000, true), (970, true), (969, false), (1100, true), (1000, false), (1070, true)]
    {
        assert_eq!(guard.admit(UnixSeconds(now)).is_ok(), admitted, "{now}");
    }
}

const SOURCE: &str = "192.0.2.1";

fn throttled() -> (u16, String) {
    (400, "ThrottlingException".to_owned())
}

fn succeeded() -> (u16, String) {
    (200, String::new())
}

#[tokio::test]
async fn a_principal_is_throttled_before_what_it_asks_for_is_looked_at() {
    let setting = Setting::throttled("1/2", "100/100", "100/100").await;
    let (link, queue) = setting.connect();
    tokio::spawn(acknowledge(link, queue));
    let body = setting.world.push_body("deploy");
    // From wherever they come.
    assert_eq!(setting.ask(&body, SECRET_ACCESS_KEY, SOURCE).await, succeeded());
    let refused = setting.ask("{}", SECRET_ACCESS_KEY, "192.0.2.2").await;
    assert_eq!(refused.1, "InvalidArgsException");
    let records = setting.audit_records().len();
    for body in [body.as_str(), "{}"] {
        assert_eq!(setting.ask(body, SECRET_ACCESS_KEY, SOURCE).await, throttled());
    }
    assert_eq!(setting.audit_records().len(), records, "a throttled request is on record");
    setting.clock.advance(Duration::from_secs(1));
    setting.api.inventory.refresh().await.unwrap();
    assert_eq!(setting.ask(&body, SECRET_ACCESS_KEY, SOURCE).await, succeeded());
    assert_eq!(setting.ask(&body, SECRET_ACCESS_KEY, SOURCE).await, throttled());
}

#[tokio::test]
async fn an_instance_is_throttled_after_authorization_and_before_the_intent() {
    let mut setting = Setting::throttled("100/100", "1/1", "100/100").await;
    let (link, queue) = setting.connect();
    tokio::spawn(acknowledge(link, queue));
    let push = async |setting: &Setting| setting.push("deploy").await.map(|_| ());
    // What is not authorized is not counted.
    let policies = setting.world.clone();
    setting.world.set_policies(&[]);
    for _ in 0..3 {
        assert!(matches!(push(&setting).await, Err(ApiError::AccessDenied { .. })));
    }
    setting.world = policies;
    assert_eq!(push(&setting).await, Ok(()));
    assert_eq!(push(&setting).await, Err(ApiError::Throttling));
    // Both operations draw on one bucket.
    let body = format!(r#"{{"InstanceId":"{}","SSHPublicKey":"{KEY_LINE}"}}"#, setting.world.instance);
    let serial = async |setting: &Setting| {
        let (caller, origin) = (setting.world.verified(body.as_bytes()).unwrap(), setting.world.origin());
        let operation = Operation::SendSerialConsoleSshPublicKey;
        let inventory = Arc::new(setting.world.inventory.clone());
        setting
            .api
            .perform(
                Call {
                    operation,
                    caller,
                    body: body.clone().into(),
                    parameters: Parameters::default(),
                    host: String::new(),
                    inventory,
                    used: used(),
                },
                &origin,
            )
            .await
    };
    assert_eq!(serial(&setting).await, Err(ApiError::Throttling));
    setting.clock.advance(Duration::from_secs(1));
    assert_eq!(serial(&setting).await, Err(ApiError::SerialConsoleAccessDisabled));
    // The two that were refused meanwhile are few enough to be on record, and they say who it was.
    let records = setting.audit_records();
    let throttled: Vec<_> =
        records.iter().filter(|record| record["errorCode"] == "ThrottlingException").collect();
    let by_alice = throttled.iter().filter(|record| record["userIdentity"]["userName"] == "alice");
    assert_eq!((throttled.len(), by_alice.count()), (2, 2), "{records:?}");
    assert_eq!(push(&setting).await, Err(ApiError::Throttling));
}

#[tokio::test]
async fn a_source_that_sends_too_much_that_nobody_signed_is_not_listened_to() {
    let setting = Setting::throttled("100/100", "100/100", "1/2").await;
    let (link, queue) = setting.connect();
    tokio::spawn(acknowledge(link, queue));
    let body = setting.world.push_body("deploy");
    // What is right costs nothing.
    for _ in 0..5 {
        assert_eq!(setting.ask(&body, SECRET_ACCESS_KEY, SOURCE).await, succeeded());
    }
    assert_eq!(setting.ask(&body, "wrong", SOURCE).await.1, "InvalidSignatureException");
    assert_eq!(setting.ask("not JSON", SECRET_ACCESS_KEY, SOURCE).await.1, "SerializationException");
    for secret in ["wrong", SECRET_ACCESS_KEY] {
        assert_eq!(setting.ask(&body, secret, SOURCE).await, throttled());
    }
    let request = setting.signed(&body, SECRET_ACCESS_KEY);
    let answer = Arc::clone(&setting.api).answer(request, SOURCE.parse().unwrap(), None).await;
    assert!(answer.extensions().get::<Late>().is_some(), "whoever asks at once again is answered at once");
    // Others are not held to account for it.
    assert_eq!(setting.ask(&body, SECRET_ACCESS_KEY, "192.0.2.2").await, succeeded());
    setting.clock.advance(Duration::from_secs(1));
    setting.api.inventory.refresh().await.unwrap();
    assert_eq!(setting.ask(&body, SECRET_ACCESS_KEY, SOURCE).await, succeeded());
}

#[tokio::test]
async fn strangers_do_not_keep_a_throttled_caller_off_the_record() {
    let setting = Setting::throttled("1/1", "100/100", "100/100").await;
    for source in 0..=u8::MAX {
        let refused = setting.ask("{}", "wrong", &format!("192.0.2.{source}")).await;
        assert_eq!(refused.1, "InvalidSignatureException");
    }
    let judged = (400, "InvalidArgsException".to_owned());
    assert_eq!(setting.ask("{}", SECRET_ACCESS_KEY, SOURCE).await, judged);
    assert_eq!(setting.ask("{}", SECRET_ACCESS_KEY, SOURCE).await, throttled());
    // Once this one is on record, all before it are.
    setting.clock.advance(Duration::from_secs(1));
    setting.api.inventory.refresh().await.unwrap();
    assert_eq!(setting.ask("{}", SECRET_ACCESS_KEY, SOURCE).await, judged);
    let records = setting.audit_records();
    let codes: Vec<_> = records
        .iter()
        .filter(|record| record["userIdentity"]["userName"] == "alice")
        .map(|record| record["errorCode"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["InvalidArgsException", "ThrottlingException", "InvalidArgsException"]);
}

/// Told as throttling is, but its intent is on record, so what came of it is too.
#[tokio::test(start_paused = true)]
async fn a_push_to_a_busy_instance_is_on_record() {
    let setting = Setting::new().await;
    let (_link, _queue) = setting.connect();
    let pushes = (0..=limits::PUSHES_IN_FLIGHT_PER_INSTANCE).map(|_| setting.push("deploy"));
    let results = futures_util::future::join_all(pushes).await;
    assert_eq!(results.iter().filter(|result| **result == Err(ApiError::Busy)).count(), 1);
    let records = setting.audit_records();
    assert_eq!(records.iter().filter(|record| record["errorCode"] == "ThrottlingException").count(), 1);
    assert_eq!(records.len(), 2 * results.len());
}

#[tokio::test]
async fn without_limits_nobody_is_throttled() {
    let setting = Setting::new().await;
    let body = setting.world.push_body("deploy");
    for _ in 0..1000 {
        assert_eq!(setting.ask(&body, "wrong", SOURCE).await.1, "InvalidSignatureException");
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time_is_a_timeout() {
    let setting = Setting::new().await;
    for (error, status, code) in [
        (BodyError::TooSlow, 408, "RequestTimeoutException"),
        (BodyError::TooLarge, 413, "RequestEntityTooLargeException"),
        (BodyError::Incomplete, 400, "SerializationException"),
    ] {
        let mut request = setting.signed("", SECRET_ACCESS_KEY);
        *request.body_mut() = Err(error);
        let answer = Arc::clone(&setting.api).answer(request, "192.0.2.1".parse().unwrap(), None).await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["x-amzn-errortype"].to_str().unwrap()),
            (status, code)
        );
    }
}
