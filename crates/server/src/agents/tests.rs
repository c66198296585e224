//! The agents listener as agents meet it: over TLS, enrolled by the real agent's own enrolment.

mod anchors;
mod facts;
mod identities;
mod metadata;

use super::*;
use crate::audit_log::{AuditSettings, FileSize};
use crate::links::DeliveryError;
use crate::metrics::Observed;
use crate::pki::Pki;
use crate::stock::{StockSettings, StockSigners};
use crate::streams::Streams;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use instance_connect_agent::{Directories, EnrollFailure, Enrollment, enroll, read_boot_id};
use instance_connect_core::document::{BootInstant, Fingerprint, ServerInstant, UnixSeconds};
use instance_connect_core::environment::Clock as _;
use instance_connect_core::grant::Grant;
use instance_connect_core::host_key::{HostKey, KnownHostKeys, claimed};
use instance_connect_core::ids::InstanceId;
use instance_connect_core::inventory::{Account, Instance, InstanceState, JoinToken, Status};
use instance_connect_core::link::{
    Ack, AckOutcome, AgentFrame, Capabilities, EnrollRequest, Goodbye, GoodbyeCode, Hello, HostKeyText,
    JoinTokenText, Offered, Ping, ReportedHostKeys, ServerFrame, VersionText, limits,
};
use instance_connect_core::places::ConnectionLimits;
use instance_connect_core::throttle::ThrottleLimits;
use instance_connect_store::{MasterKey, SqliteStore, Store};
use instance_connect_testkit::{ManualClock, SeededRandom, World};
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};
use zeroize::Zeroizing;

/// Longer than anything here takes: a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

type Socket = WebSocketStream<TlsStream<TcpStream>>;

struct Setting {
    agents: Arc<Agents>,
    world: World,
    clock: Arc<ManualClock>,
    address: SocketAddr,
    directory: TempDir,
}

impl Setting {
    async fn new() -> Self {
        Self::with_connections(ConnectionLimits { in_all: 10, per_source: 10 }).await
    }

    async fn with_connections(connections: ConnectionLimits) -> Self {
        Self::with(connections, None, None).await
    }

    /// With the rate at which enrolments may fail, as it is written.
    async fn throttled(rate: &str) -> Self {
        let limits = ThrottleLimits { unauthenticated: rate.parse().unwrap(), ..ThrottleLimits::default() };
        Self::with(ConnectionLimits { in_all: 10, per_source: 10 }, Some(limits), None).await
    }

    /// With signers of its own if something is said of them, and else with those that all tests share.
    async fn with(
        connections: ConnectionLimits,
        throttle: Option<ThrottleLimits>,
        stock: Option<StockSettings>,
    ) -> Self {
        let (directory, world) = (tempfile::tempdir().unwrap(), World::new());
        let random = Arc::new(SeededRandom::new(7));
        // TLS looks at the real clock, so certificates have to be of today.
        let today = crate::system::SystemClock.wall();
        let clock = Arc::new(ManualClock::new(today, ServerInstant(1_000_000_000)));
        let key = MasterKey::from_bytes([1; 32]);
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(&directory.path().join("data"), &key, random.clone()).unwrap());
        let account =
            Account { id: world.account.clone(), status: Status::Active, serial_console_access: false };
        store.create_account(&account).await.unwrap();
        let instance: &Instance = &world.inventory.instances[&world.instance];
        store.create_instance(instance).await.unwrap();
        let pki = Pki::load(store.as_ref(), random.as_ref(), &world.region, today).await.unwrap();
        let pki = Arc::new(pki);
        let tls = AgentsTls::new(Arc::clone(&pki), vec!["127.0.0.1".to_owned()], today).unwrap();
        let settings =
            AuditSettings { path: directory.path().join("audit.log"), max_bytes: FileSize::default() };
        let audit = AuditLog::open(&settings, clock.clone(), random.as_ref()).unwrap();
        let stock = match stock {
            Some(settings) => {
                Arc::new(StockSigners::load(store.as_ref(), &world.region, settings, today).await.unwrap())
            }
            None => StockSigners::of_tests().await,
        };
        let links = Arc::new(Links::new(pki, stock, clock.clone()));
        let agents = Arc::new(Agents {
            region: world.region.clone(),
            inventory: Arc::new(LiveInventory::load(store, clock.clone()).await.unwrap()),
            streams: Arc::new(Streams::new(Arc::clone(&links), random.clone())),
            links,
            random,
            places: Arc::new(Semaphore::new(10)),
            drain: Drain::default(),
            audit,
            clock_id: read_boot_id().unwrap(),
            certificate_lifetime: Duration::from_secs(90 * 86_400),
            metrics: Arc::default(),
            throttle: throttle.map(|limits| Arc::new(Mutex::new(Throttle::new(limits)))),
        });
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener::new(socket, connections);
        tokio::spawn(Arc::clone(&agents).serve(listener, Arc::new(tls)));
        Self { agents, world, clock, address, directory }
    }

    /// Lets time pass without anything happening.
    async fn wait(&self, duration: Duration) {
        self.clock.advance(duration);
        self.agents.inventory.refresh().await.unwrap();
    }

    /// What a request is answered that comes without a certificate.
    fn answer(&self, request: Whole, peer: &str) -> impl Future<Output = Response<Body>> + use<> {
        Arc::clone(&self.agents).answer(request, None, peer.parse().unwrap(), TlsSession::default())
    }

    async fn join_token(&self) -> Zeroizing<String> {
        let Agents { inventory, links, random, .. } = self.agents.as_ref();
        let (pki, instance, now) = (links.pki(), &self.world.instance, links.clock().wall());
        create_join_token(inventory.store(), pki, random.as_ref(), instance, now).await.unwrap()
    }

    /// A join token as somebody guesses it who knows all but its secret.
    fn guess(&self, instance: &InstanceId) -> JoinTokenText {
        let ca = self.agents.links.pki().root_sha256();
        JoinTokenText::new(instance.clone(), Zeroizing::new([9; 32]), ca)
    }

    /// Waits until so many links have ended for this reason.
    async fn ended(&self, reason: &str, number: u32) {
        let line = format!("instance_connect_links_ended_total{{reason=\"{reason}\"}} {number}\n");
        let told = || {
            let observed = Observed {
                is_ready: true,
                stock_signer_expires: UnixSeconds(0),
                audit_queue: 0,
                store_age: Duration::ZERO,
            };
            self.agents.metrics.text(observed).unwrap()
        };
        let counted = async {
            while !told().contains(&line) {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(PATIENCE, counted).await.is_ok(), "{line} is not in {}", told());
    }

    fn audit_records(&self) -> Vec<serde_json::Value> {
        let log = std::fs::read_to_string(self.directory.path().join("audit.log")).unwrap();
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Enrols a machine whose folder has this name.
    async fn enroll(&self, name: &str) -> Result<(), EnrollFailure> {
        let token = self.join_token().await;
        self.enroll_with(name, token.parse().unwrap()).await
    }

    async fn enroll_with(&self, name: &str, token: JoinTokenText) -> Result<(), EnrollFailure> {
        let home = self.directory.path().join(name);
        let below = |folder: &str| home.join(folder);
        let enrollment = Enrollment {
            server: format!("https://{}", self.address).parse().unwrap(),
            token,
            directories: Directories { etc: below("etc"), state: below("state"), run: below("run") },
            replace: name != "first",
            boot_id: read_boot_id().unwrap(),
            ssh_host_keys: home,
        };
        enroll(enrollment).await.map(|_| ())
    }

    /// A connection of the machine in this folder, upgraded to a link on which nothing has been said.
    async fn upgrade(&self, name: &str) -> Result<Socket, tungstenite::Error> {
        self.upgrade_on(self.connect(name).await).await
    }

    /// A connection of the machine in this folder, on which nothing has been asked.
    async fn connect(&self, name: &str) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let tls = client_tls(&self.directory.path().join(name).join("state"));
        let name = "127.0.0.1".try_into().unwrap();
        TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap()
    }

    async fn upgrade_on(&self, stream: TlsStream<TcpStream>) -> Result<Socket, tungstenite::Error> {
        let url = format!("wss://{}{LINK_PATH}", self.address);
        tokio_tungstenite::client_async(url, stream).await.map(|(socket, _)| socket)
    }

    /// An open link of the machine in this folder: hello, welcome, signer.
    async fn open(&self, name: &str) -> Socket {
        self.open_as(name, hello()).await
    }

    /// The same, with this hello.
    async fn open_as(&self, name: &str, hello: AgentFrame) -> Socket {
        let mut socket = self.upgrade(name).await.unwrap();
        send(&mut socket, &hello).await;
        assert!(matches!(next(&mut socket).await, Some(ServerFrame::Welcome(_))));
        assert!(matches!(next(&mut socket).await, Some(ServerFrame::Signer(_))));
        timeout(PATIENCE, self.agents.links.connected(&self.world.instance)).await.unwrap();
        socket
    }

    fn grant(&self) -> Grant {
        let request = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap();
        let authorized = self.world.authorized("deploy").unwrap();
        let clock = self.agents.links.clock();
        Grant::issue(&authorized, request, clock.wall(), clock.monotonic()).unwrap()
    }
}

fn client_tls(state: &Path) -> rustls::ClientConfig {
    let chain = CertificateDer::pem_file_iter(state.join("identity.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(state.join("identity.pem")).unwrap();
    trusting_its_server(state).with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
}

/// TLS as an agent with this state speaks it, but for its own certificate.
fn trusting_its_server(state: &Path) -> rustls::ConfigBuilder<rustls::ClientConfig, WantsClientCert> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(state.join("server-ca.pem")).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
}

fn hello() -> AgentFrame {
    hello_with(Capabilities::NONE)
}

fn hello_with(capabilities: Capabilities) -> AgentFrame {
    AgentFrame::Hello(Hello {
        version_min: limits::VERSION_MIN,
        version_max: limits::VERSION_MAX,
        capabilities,
        sent_at: BootInstant(1),
        boot_id: read_boot_id().unwrap(),
        agent_version: VersionText::lossy("test"),
    })
}

fn enroll_request(token: JoinTokenText) -> Whole {
    let key = rcgen::KeyPair::generate().unwrap();
    let request = EnrollRequest {
        token,
        csr: rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap(),
        boot_id: read_boot_id().unwrap(),
        agent_version: VersionText::lossy("test"),
        replace: true,
        ssh_host_keys: Vec::new(),
    };
    hyper::Request::post(ENROLL_PATH).body(Ok(request.to_json().to_vec().into())).unwrap()
}

async fn send(socket: &mut Socket, frame: &AgentFrame) {
    socket.send(Message::binary(frame.encode())).await.unwrap();
}

/// The next frame; `None` when the link has ended.
async fn next(socket: &mut Socket) -> Option<ServerFrame> {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("something comes in time") {
            Some(Ok(Message::Binary(bytes))) => return ServerFrame::decode(&bytes).unwrap(),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
            Some(Ok(_)) => {}
        }
    }
}

async fn goodbye(socket: &mut Socket) -> GoodbyeCode {
    loop {
        match next(socket).await {
            Some(ServerFrame::Goodbye(Goodbye { code, .. })) => return code,
            Some(_) => {}
            None => panic!("no goodbye"),
        }
    }
}

fn status(error: &tungstenite::Error) -> u16 {
    match error {
        tungstenite::Error::Http(response) => response.status().as_u16(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_push_travels_over_an_enrolled_link() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut socket = setting.open("first").await;
    let (links, grant) = (Arc::clone(&setting.agents.links), setting.grant());
    let push = tokio::spawn(async move { links.deliver(grant).await });
    let Some(ServerFrame::Grant(grant)) = next(&mut socket).await else { panic!("no grant") };
    let outcome = AckOutcome::Installed { os_user_exists: true };
    send(&mut socket, &AgentFrame::Ack(Ack { id: grant.id, outcome })).await;
    assert!(push.await.unwrap().unwrap().os_user_exists);
}

/// A machine can say what it likes, but not fill the disk with it, and only in its own name.
#[tokio::test]
async fn what_a_machine_says_of_its_keys_is_on_record_within_bounds() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut socket = setting.open("first").await;
    let request_id = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11";
    let offered = AgentFrame::Offered(Offered {
        offered_at: BootInstant(1),
        lost: 3,
        fingerprint: Fingerprint::from_bytes([7; 32]),
        os_user: "deploy".parse().unwrap(),
        request_ids: vec![request_id.parse().unwrap()],
    });
    let mut said = async |times: usize| {
        for _ in 0..times {
            send(&mut socket, &offered).await;
        }
        // Once this is answered, all before it have been heard; and once that is on record, so are they.
        send(&mut socket, &AgentFrame::Ping(Ping { sent_at: BootInstant(2) })).await;
        assert!(matches!(next(&mut socket).await, Some(ServerFrame::Pong(_))));
        let world = &setting.world;
        let line = audit::refusal(Refused::ApiRequest, &world.origin(), &world.region, "code", None, "id");
        setting.agents.audit.commit(line).await.unwrap();
        let mut records = setting.audit_records();
        records.retain(|record| record["eventName"] == "KeyOffered");
        records
    };
    let records = said(1).await;
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(record["userIdentity"]["type"], "InstanceConnectAgent");
    assert_eq!(record["recipientAccountId"], setting.world.account.as_str());
    assert_eq!(record["requestParameters"]["instanceId"], setting.world.instance.as_str());
    assert_eq!(
        (&record["requestID"], &record["additionalEventData"]["reportsLost"]),
        (&request_id.into(), &3.into())
    );
    let mut recorded = 0;
    for _ in 0..20 {
        recorded = said(40).await.len();
    }
    assert_eq!(recorded, 500);
    setting.clock.advance(Duration::from_secs(1));
    let records = said(1).await;
    assert_eq!(records.last().unwrap()["additionalEventData"]["reportsNotRecorded"], 301);
}

#[tokio::test]
async fn an_enrolment_again_revokes_the_identity_before_it_at_once() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut old = setting.open("first").await;
    setting.enroll("second").await.unwrap();
    assert_eq!(goodbye(&mut old).await, GoodbyeCode::IdentityRevoked);
    assert_eq!(status(&setting.upgrade("first").await.unwrap_err()), 403);
    setting.open("second").await;
    // Both are on record, in their order.
    let records = setting.audit_records();
    let generations: Vec<_> =
        records.iter().map(|record| &record["responseElements"]["generation"]).collect();
    assert_eq!(generations, [1, 2]);
}

#[tokio::test]
async fn at_the_end_agents_are_told_to_come_back() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut socket = setting.open("first").await;
    timeout(PATIENCE, setting.agents.end()).await.unwrap();
    let code = goodbye(&mut socket).await;
    assert_eq!(code, GoodbyeCode::ShuttingDown);
    assert!(!code.is_lasting());
}

/// A stolen key can keep upgraded connections in stock. What it says on them after it was replaced counts for nothing.
#[tokio::test]
async fn a_revoked_identity_that_says_hello_late_replaces_nobody() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut stock = setting.upgrade("first").await.unwrap();
    setting.enroll("second").await.unwrap();
    let mut current = setting.open("second").await;
    send(&mut stock, &hello()).await;
    assert_eq!(goodbye(&mut stock).await, GoodbyeCode::IdentityRevoked);
    // The successor still has its place.
    let (links, grant) = (Arc::clone(&setting.agents.links), setting.grant());
    let push = tokio::spawn(async move { links.deliver(grant).await });
    let Some(ServerFrame::Grant(grant)) = next(&mut current).await else { panic!("no grant") };
    let outcome = AckOutcome::Installed { os_user_exists: true };
    send(&mut current, &AgentFrame::Ack(Ack { id: grant.id, outcome })).await;
    assert!(push.await.unwrap().is_ok());
}

#[tokio::test]
async fn connections_that_say_nothing_are_few() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(setting.upgrade("first").await.unwrap());
    }
    // A thief with the certificate cannot keep the agent out: whoever is there longest without a word gives way.
    let mut agent = setting.open("first").await;
    assert_eq!(goodbye(&mut silent[0]).await, GoodbyeCode::Overloaded);
    // It has said hello, and gives way to nobody.
    for _ in 0..5 {
        silent.push(setting.upgrade("first").await.unwrap());
    }
    for gone in &mut silent[1..5] {
        assert_eq!(goodbye(gone).await, GoodbyeCode::Overloaded);
    }
    send(&mut agent, &AgentFrame::Ping(Ping { sent_at: BootInstant(2) })).await;
    assert!(matches!(next(&mut agent).await, Some(ServerFrame::Pong(_))));
}

#[tokio::test]
async fn it_is_counted_why_links_end() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut link = setting.open("first").await;
    send(&mut link, &AgentFrame::Goodbye(Goodbye::new(GoodbyeCode::ShuttingDown, ""))).await;
    setting.ended("closed_by_agent", 1).await;
    setting.open("first").await.close(None).await.unwrap();
    setting.ended("closed_by_agent", 2).await;
    drop(setting.open("first").await);
    setting.ended("broken", 1).await;
    let mut link = setting.open("first").await;
    send(&mut link, &hello()).await;
    setting.ended("protocol_error", 1).await;
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_link_with_a_word() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    for (message, code) in [
        (Message::text("hello"), GoodbyeCode::ProtocolError),
        (Message::binary(vec![]), GoodbyeCode::ProtocolError),
        (Message::binary(vec![0xff]), GoodbyeCode::UnknownFrame),
        (Message::binary(vec![0x81; 20_000]), GoodbyeCode::ProtocolError),
        (Message::binary(hello().encode()), GoodbyeCode::ProtocolError),
    ] {
        let mut socket = setting.open("first").await;
        socket.send(message.clone()).await.unwrap();
        assert_eq!(goodbye(&mut socket).await, code, "{message:?}");
    }
}

#[tokio::test]
async fn a_token_works_once_and_tells_nothing_before() {
    let setting = Setting::new().await;
    let token = setting.join_token().await;
    setting.enroll_with("first", token.parse().unwrap()).await.unwrap();
    let again = setting.enroll_with("second", token.parse().unwrap()).await.unwrap_err();
    assert!(again.to_string().contains("used"), "{again}");
    // That it was refused is on record before the enrolment that follows is.
    setting.enroll("second").await.unwrap();
    let records = setting.audit_records();
    let codes: Vec<_> = records.iter().map(|record| record.get("errorCode")).collect();
    assert_eq!(codes, [None, Some(&"token_used".into()), None]);
    assert!(records.iter().all(|record| record["eventName"] == "EnrollAgent"));
    // An unknown token for an instance that is there, that is not, and that is gone: all the same.
    let refusals = async |id: &InstanceId| {
        let refused = setting.enroll_with("third", setting.guess(id)).await.unwrap_err().to_string();
        assert!(refused.contains("(token_unknown)"), "{refused}");
        refused
    };
    let known = refusals(&setting.world.instance).await;
    assert_eq!(refusals(&"i-00000000000000000".parse().unwrap()).await, known);
    setting
        .agents
        .inventory
        .store()
        .set_instance_state(&setting.world.instance, InstanceState::Terminated, setting.world.now)
        .await
        .unwrap();
    setting.agents.inventory.refresh().await.unwrap();
    assert_eq!(refusals(&setting.world.instance).await, known);
}

#[tokio::test]
async fn whoever_guesses_tokens_is_slowed() {
    let setting = Setting::throttled("1/2").await;
    let refused = async |token| match setting.enroll_with("guess", token).await.unwrap_err() {
        EnrollFailure::Refused(error) => error.code,
        other => panic!("{other}"),
    };
    let guess = || setting.guess(&setting.world.instance);
    // What is right costs nothing.
    for _ in 0..5 {
        setting.enroll("second").await.unwrap();
    }
    for _ in 0..2 {
        assert_eq!(refused(guess()).await, EnrollErrorCode::TokenUnknown);
    }
    // Now a good token is not looked at, nor used up.
    let token: JoinTokenText = setting.join_token().await.parse().unwrap();
    assert_eq!(refused(token.clone()).await, EnrollErrorCode::Throttled);
    let ask = async |token, peer: &str| setting.answer(enroll_request(token), peer).await;
    let answer = ask(token.clone(), "127.0.0.1").await;
    assert_eq!(answer.status(), 429);
    assert!(answer.extensions().get::<Late>().is_some(), "whoever asks at once again is answered at once");
    // Others are not held to account for it.
    let elsewhere = setting.join_token().await.parse().unwrap();
    assert_eq!(ask(elsewhere, "192.0.2.1").await.status(), 200);
    setting.wait(Duration::from_secs(1)).await;
    setting.enroll_with("second", token).await.unwrap();
    // All before it are on record by now.
    let records = setting.audit_records();
    let codes: Vec<_> = records.iter().filter_map(|record| record["errorCode"].as_str()).collect();
    assert_eq!(codes, ["token_unknown", "token_unknown", "throttled", "throttled"]);
    assert_eq!(refused(guess()).await, EnrollErrorCode::TokenUnknown);
    assert_eq!(refused(guess()).await, EnrollErrorCode::Throttled);
}

/// Those who ask at once are all admitted before the first of them is refused, unless each is counted beforehand.
#[tokio::test]
async fn guesses_sent_at_once_are_no_more_than_those_sent_one_after_the_other() {
    let setting = Setting::throttled("1/2").await;
    let guesses = (0..10).map(|_| {
        let request = enroll_request(setting.guess(&setting.world.instance));
        setting.answer(request, "192.0.2.1")
    });
    let answers = futures_util::future::join_all(guesses).await;
    assert_eq!(answers.iter().filter(|answer| answer.status() == 403).count(), 2);
    assert_eq!(answers.iter().filter(|answer| answer.status() == 429).count(), 8);
}

#[tokio::test]
async fn strangers_at_the_api_do_not_keep_a_refused_enrolment_off_the_record() {
    let setting = Setting::new().await;
    let (audit, world) = (&setting.agents.audit, &setting.world);
    for source in 0..=u8::MAX {
        audit.refuse(Share::Strangers, [127, 0, 0, source].into(), "code", || {
            audit::refusal(Refused::ApiRequest, &world.origin(), &world.region, "code", None, "id")
        });
    }
    setting.enroll_with("first", setting.guess(&world.instance)).await.unwrap_err();
    // Once this one is on record, all before it are.
    setting.enroll("first").await.unwrap();
    assert!(setting.audit_records().iter().any(|record| record["errorCode"] == "token_unknown"));
}

/// The connection ends as soon as the request has been taken up: what the token has done is on record all the same.
#[tokio::test]
async fn whoever_hangs_up_during_an_enrolment_does_not_keep_it_off_the_record() {
    let setting = Setting::new().await;
    let request = enroll_request(setting.join_token().await.parse().unwrap());
    let answer = setting.answer(request, "192.0.2.1");
    assert!(answer.now_or_never().is_none(), "it is not done at once");
    let recorded = async {
        while !setting.audit_records().iter().any(|record| record["eventName"] == "EnrollAgent") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, recorded).await.unwrap();
}

#[tokio::test]
async fn without_a_certificate_there_is_no_link() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let tls = trusting_its_server(&setting.directory.path().join("first/state")).with_no_client_auth();
    let stream = TcpStream::connect(setting.address).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
    let url = format!("wss://{}{LINK_PATH}", setting.address);
    assert_eq!(status(&tokio_tungstenite::client_async(url, stream).await.unwrap_err()), 401);
}

#[tokio::test]
async fn what_no_agent_asks_for_is_answered_late() {
    let setting = Setting::new().await;
    for (method, path, status) in
        [("GET", LINK_PATH, 401), ("POST", LINK_PATH, 404), ("GET", ENROLL_PATH, 404), ("GET", "/", 404)]
    {
        let request = hyper::Request::builder().method(method).uri(path).body(Ok("".into())).unwrap();
        let answer = setting.answer(request, "192.0.2.1").await;
        assert_eq!(answer.status(), status, "{method} {path}");
        assert!(answer.extensions().get::<Late>().is_some(), "{method} {path}");
    }
}

#[tokio::test]
async fn a_machine_that_is_not_there_is_not_waited_for_long() {
    let setting = Setting::new().await;
    let delivery = setting.agents.links.deliver(setting.grant());
    assert_eq!(timeout(PATIENCE, delivery).await.unwrap().unwrap_err(), DeliveryError::Unknown);
}

/// Nothing that anyone does before it has proved to be an agent takes an agent's place.
#[tokio::test]
async fn connections_that_are_no_links_push_out_each_other_and_no_link() {
    let setting = Setting::with_connections(ConnectionLimits { in_all: 1, per_source: 1 }).await;
    setting.enroll("first").await.unwrap();
    let mut link = setting.open("first").await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(setting.address).await.unwrap());
    }
    for connection in &mut silent[..2] {
        assert_eq!(timeout(PATIENCE, connection.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
    }
    send(&mut link, &AgentFrame::Ping(Ping { sent_at: BootInstant(2) })).await;
    assert!(matches!(next(&mut link).await, Some(ServerFrame::Pong(_))));
    setting.enroll("second").await.unwrap();
}

#[tokio::test]
async fn a_handshake_has_10_seconds() {
    let setting = Setting::new().await;
    let mut silent = TcpStream::connect(setting.address).await.unwrap();
    // The beginning of a handshake record.
    silent.write_all(b"\x16\x03\x01").await.unwrap();
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    assert_eq!(silent.read(&mut [0]).await.unwrap_or(0), 0);
    let took = start.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(11)).contains(&took), "{took:?}");
}

const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp";
const OTHER_HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBcbDBcIVf5lZW8kHRq1oJ3mVjLIyUdBK5yyrn4hPA5y";

impl Setting {
    /// The pinned and the pending host keys, as lines.
    async fn host_keys(&self) -> [Vec<String>; 2] {
        let mut known = self
            .agents
            .inventory
            .store()
            .host_keys(std::slice::from_ref(&self.world.instance))
            .await
            .unwrap();
        let KnownHostKeys { pinned, pending } = known.remove(&self.world.instance).unwrap_or_default();
        [pinned, pending].map(|keys| keys.iter().map(HostKey::to_string).collect())
    }

    fn host_key_records(&self) -> Vec<serde_json::Value> {
        let mut records = self.audit_records();
        records.retain(|record| record["eventName"] == "ReportHostKeys");
        records
    }

    /// Waits until there are so many records of host keys, and what they say is stored.
    async fn recorded(&self, number: usize, expected: [Vec<String>; 2]) {
        let wait = async {
            while self.host_key_records().len() < number || self.host_keys().await != expected {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap();
        assert_eq!(self.host_key_records().len(), number);
    }
}

fn host_keys(lines: &[&str]) -> AgentFrame {
    let lines = lines.iter().map(|line| HostKeyText::lossy(line)).collect();
    AgentFrame::HostKeys(ReportedHostKeys { lines })
}

/// Sends a frame, and returns when the server has taken it.
async fn send_and_wait(socket: &mut Socket, frame: &AgentFrame) {
    send(socket, frame).await;
    send(socket, &AgentFrame::Ping(Ping { sent_at: BootInstant(2) })).await;
    assert!(matches!(next(socket).await, Some(ServerFrame::Pong(_))));
}

#[tokio::test]
async fn host_keys_of_the_enrolment_are_pinned_and_later_ones_wait() {
    let setting = Setting::new().await;
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    for (name, key) in [("first", HOST_KEY), ("second", OTHER_HOST_KEY)] {
        let home = setting.directory.path().join(name);
        std::fs::create_dir(&home).unwrap();
        std::fs::write(home.join("ssh_host_ed25519_key.pub"), format!("{key} root@{name}\n")).unwrap();
    }
    setting.enroll("first").await.unwrap();
    assert_eq!(setting.host_keys().await, [lines(&[HOST_KEY]), Vec::new()]);
    let [record] = setting.host_key_records().try_into().unwrap();
    assert_eq!(record["responseElements"], serde_json::json!({ "pinned": true }));

    // Many, lines that are none, and what would be a line of its own in a file: what is left is the key itself.
    let mut socket = setting.open("first").await;
    let evil = format!("command=\"x\" {OTHER_HOST_KEY}");
    send_and_wait(&mut socket, &host_keys(&[HOST_KEY, &evil, "x", "", "* ssh-rsa AAAA"])).await;
    setting.recorded(1, [lines(&[HOST_KEY]), Vec::new()]).await;
    // Too soon after the last one: they wait, and the last of them counts.
    for report in [&[OTHER_HOST_KEY][..], &[OTHER_HOST_KEY, HOST_KEY]] {
        send_and_wait(&mut socket, &host_keys(report)).await;
    }
    setting.recorded(1, [lines(&[HOST_KEY]), Vec::new()]).await;
    setting.wait(limits::HOST_KEY_REPORTS).await;
    send(&mut socket, &AgentFrame::Ping(Ping { sent_at: BootInstant(3) })).await;
    setting.recorded(2, [lines(&[HOST_KEY]), lines(&[OTHER_HOST_KEY, HOST_KEY])]).await;

    // Another machine takes the identity over, and is not believed either.
    setting.enroll("second").await.unwrap();
    assert_eq!(setting.host_keys().await, [lines(&[HOST_KEY]), lines(&[OTHER_HOST_KEY])]);
    let last = setting.host_key_records().pop().unwrap();
    assert_eq!(last["responseElements"], serde_json::json!({ "pinned": false }));
}

/// An agent that lies gets nobody's trust by it, and is on record.
#[tokio::test]
async fn another_instances_host_key_is_refused_loudly() {
    let setting = Setting::new().await;
    let store = setting.agents.inventory.store();
    let victim = Instance {
        id: "i-0fedcba9876543210".parse().unwrap(),
        ..(*setting.world.inventory.instances[&setting.world.instance]).clone()
    };
    store.create_instance(&victim).await.unwrap();
    let token =
        JoinToken { secret_hash: [5; 32], instance: victim.id.clone(), expires_at: UnixSeconds(i64::MAX) };
    store.create_join_token(&token, UnixSeconds(0)).await.unwrap();
    store.redeem_join_token(&[5; 32], &victim.id, UnixSeconds(0), false).await.unwrap();
    store.report_host_keys(&victim.id, 1, &claimed([HOST_KEY])).await.unwrap();
    setting.agents.inventory.refresh().await.unwrap();

    setting.enroll("first").await.unwrap();
    let mut socket = setting.open("first").await;
    send_and_wait(&mut socket, &host_keys(&[HOST_KEY])).await;
    setting.recorded(1, [Vec::new(), vec![HOST_KEY.to_owned()]]).await;
    let [record] = setting.host_key_records().try_into().unwrap();
    assert_eq!(record["errorCode"], "HostKeyInUse");
    assert_eq!(record["errorMessage"], "a host key of i-0fedcba9876543210");
    let of_victim = store.host_keys(std::slice::from_ref(&victim.id)).await.unwrap();
    assert_eq!(of_victim[&victim.id].pinned, claimed([HOST_KEY]));
}
