mod sockets;

use super::*;
use crate::links::Link;
use crate::pki::Pki;
use instance_connect_core::document::ServerInstant;
use instance_connect_core::link::{AckOutcome, ServerFrame};
use instance_connect_store::{MasterKey, SqliteStore, Store};
use instance_connect_testkit::{ManualClock, SeededRandom, World};
use std::path::Path;
use tokio::sync::mpsc;

struct Setting {
    api: Arc<Api>,
    world: World,
    directory: tempfile::TempDir,
}

impl Setting {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let audit_log = directory.path().join("audit.log");
        Self::with_audit_log(directory, &audit_log).await
    }

    async fn with_audit_log(directory: tempfile::TempDir, audit_log: &Path) -> Self {
        let (world, random) = (World::new(), Arc::new(SeededRandom::new(1)));
        let clock = Arc::new(ManualClock::new(world.now, ServerInstant(1_000_000_000)));
        let key = MasterKey::from_bytes([1; 32]);
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(&directory.path().join("data"), &key, random.clone()).unwrap());
        keep(&world, store.as_ref()).await;
        let pki = Pki::load(store.as_ref(), random.as_ref(), &world.region, world.now).await.unwrap();
        let api = Api {
            region: world.region.clone(),
            key_types: KeyTypes::default(),
            inventory: Arc::new(LiveInventory::load(store, clock.clone()).await.unwrap()),
            links: Arc::new(Links::new(Arc::new(pki), clock.clone())),
            audit: AuditLog::open(audit_log).unwrap(),
            clock,
            clock_guard: ClockGuard::default(),
            clock_window: limits::CLOCK_WINDOW,
            random,
        };
        Self { api: Arc::new(api), world, directory }
    }

    /// The agent's end of a link.
    fn connect(&self) -> (Arc<Link>, mpsc::Receiver<ServerFrame>) {
        let (link, queue) = Link::new("5c0c6f9e-3f60-4c11-9d0b-1c5a6f0e9a11".parse().unwrap());
        let _ = self.api.links.slot(&self.world.instance).open(&link, self.api.clock.monotonic());
        (link, queue)
    }

    /// A verified push for this OS user.
    async fn push(&self, os_user: &str) -> Result<String, ApiError> {
        let body = self.world.push_body(os_user);
        let caller = self.world.verified(body.as_bytes()).unwrap();
        let origin = self.world.origin();
        let operation = Operation::SendSshPublicKey;
        self.api.perform(operation, caller, body.as_bytes(), &self.world.inventory, &origin).await
    }

    fn audit_records(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.directory.path().join("audit.log")).unwrap();
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
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

async fn acknowledge(link: Arc<Link>, mut queue: mpsc::Receiver<ServerFrame>) {
    while let Some(frame) = queue.recv().await {
        if let ServerFrame::Grant(grant) = frame {
            link.acknowledged(grant.id, AckOutcome::Installed { os_user_exists: true });
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
    // A device that takes no byte stands for a full disk.
    let setting = Setting::with_audit_log(tempfile::tempdir().unwrap(), Path::new("/dev/full")).await;
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
    assert_eq!(setting.push("deploy").await, Err(ApiError::InstanceUnavailable { refused: None }));
    let [_intent, record] = setting.audit_records().try_into().unwrap();
    assert_eq!(record["errorCode"], "EC2InstanceUnavailableException");
    assert_eq!(record["additionalEventData"]["delivery"], "unknown");
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
