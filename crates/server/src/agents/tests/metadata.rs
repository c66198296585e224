//! Machines with a metadata service (docs/link.md 7.3): what they are told, what their grants carry, and their guests.

use super::*;
use crate::links::Delivered;
use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use instance_connect_core::api::SendSshPublicKey;
use instance_connect_core::authz::authorize;
use instance_connect_core::document::{ClaimedGrant, stock_text};
use instance_connect_core::ids::{OsUser, RequestId};
use instance_connect_core::inventory::StockChange;
use instance_connect_core::link::{self, ExpiredUnused, GuestReport, InstanceFacts, StockSigner, Twin};
use instance_connect_core::ssh_key::KeyTypes;
use instance_connect_testkit::KEY_LINE;
use std::collections::BTreeMap;
use tokio::task::JoinHandle;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC6Za2q7C157u8PghE+1LcAmz4lThcxSHdNkbW/dca1RMvdhsP54ZFSofeqx1Cd\
    Qr86jb9D92zWN3GbHXOEHTluRS37OYJOpWDORFa1OrQTOa3T0OlorzN3I7BkbzmvT3k2VYXamQOG1GQ544GJ3Bi1NIauNIVTjJc9iAbrv1/kYJQRsd6A\
    0bW/wvJZxmdMcqkQh/0Ww95kDjEO6B+NnMoGxdUgT2EMvb73pJXbTS3/U2AqEVnrlKzjDBPWH7AHPSH5qADI0F0qFAw0o4Mx9bisohPTal+W0RLmhCy8\
    21AHrwX5PGfr/cZDzPLEFXrVAn9wXLDki3OeKss0R1V2TXHL";

const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBPS98PYyLqXPZFuFQOx2+PHTbcnL\
    D+jAfBx5pyN73glTJ/FIMSxFP8TCplS5bKJgkGUk/Z8WqHlRTC/aNupd8MY=";

const GUEST: &str = "i-0aaaaaaaaaaaaaaaa";
const OTHER: &str = "i-0bbbbbbbbbbbbbbbb";

const STAPLE_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

impl Setting {
    /// With signers of its own, which can be rotated.
    async fn with_own_signers() -> Self {
        let settings = StockSettings {
            domain: "amazonaws.com".parse().unwrap(),
            rotation: Duration::from_secs(30 * 24 * 60 * 60),
            overlap: Duration::from_secs(600),
            staple_lifetime: STAPLE_LIFETIME,
        };
        Self::with(ConnectionLimits { in_all: 10, per_source: 10 }, None, Some(settings)).await
    }

    /// The link of an agent with a metadata service, on which all has been read that is said at its beginning.
    async fn open_with_metadata(&self) -> Socket {
        let mut socket = self.open_as("first", hello_with(Capabilities::METADATA)).await;
        said(&mut socket).await;
        socket
    }

    /// Has the next generation take over, as this process does when its time has come.
    async fn rotate(&self) {
        let Agents { inventory, links, .. } = self.agents.as_ref();
        let (store, now) = (inventory.store(), self.clock.wall());
        let current = store.stock_rotation().await.unwrap().current;
        store.change_stock_signer(current, StockChange::Due, now).await.unwrap();
        links.stock().step(store, now).await.unwrap();
    }

    /// Gives an instance one tag and no others.
    async fn tag(&self, instance: &InstanceId, value: &str) {
        let inventory = &self.agents.inventory;
        inventory.store().put_instance_tags(instance, &tags(value)).await.unwrap();
        inventory.refresh().await.unwrap();
    }

    /// Another instance, for which the first one's agent answers: the world in which pushes are to it.
    async fn add_guest(&self, id: &str) -> World {
        self.add(id, Some(&self.world.instance)).await;
        self.world.with_guest(id)
    }

    async fn add(&self, id: &str, host: Option<&InstanceId>) -> InstanceId {
        let (inventory, world) = (&self.agents.inventory, &self.world);
        let instance = Instance {
            id: id.parse().unwrap(),
            host: host.cloned(),
            ..(*world.inventory.instances[&world.instance]).clone()
        };
        inventory.store().create_instance(&instance).await.unwrap();
        inventory.refresh().await.unwrap();
        instance.id
    }

    /// What is to be said of an instance of the world.
    fn facts(&self, instance: &InstanceId, tags: BTreeMap<String, String>) -> ServerFrame {
        ServerFrame::Instance(InstanceFacts {
            instance: instance.clone(),
            account: self.world.account.clone(),
            region: self.world.region.clone(),
            availability_zone: "us-east-1a".parse().unwrap(),
            domain: "amazonaws.com".parse().unwrap(),
            tags,
        })
    }

    /// Who is to be named as signer.
    fn signers(&self) -> link::StockSigners {
        self.agents.links.stock().in_force().signers.clone()
    }

    /// A grant of this key for the instance of this world.
    fn grant_of(&self, world: &World, key_line: &str) -> Grant {
        let body = world.push_body("deploy").replace(KEY_LINE, key_line);
        let operation = SendSshPublicKey::parse(body.as_bytes(), &KeyTypes::all()).unwrap();
        let caller = world.verified(body.as_bytes()).unwrap();
        let authorized =
            authorize(caller, operation, &world.inventory, &world.region, &world.origin()).unwrap();
        let request = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap();
        Grant::issue(&authorized, request, self.clock.wall(), self.clock.monotonic()).unwrap()
    }

    fn push(&self, grant: Grant) -> JoinHandle<Result<Delivered, DeliveryError>> {
        let links = Arc::clone(&self.agents.links);
        tokio::spawn(async move { links.deliver(grant).await })
    }
}

fn tags(value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("Name".to_owned(), value.to_owned())])
}

/// What the server says until it has answered two pings, one after the other. All that it has to say by now is in it: at
/// the latest it says so between the two, when there is nothing else for it to do.
async fn said(socket: &mut Socket) -> Vec<ServerFrame> {
    let mut said = Vec::new();
    for _ in 0..2 {
        send(socket, &AgentFrame::Ping(Ping { sent_at: BootInstant(2) })).await;
        loop {
            match next(socket).await.expect("the link stays open") {
                ServerFrame::Pong(_) => break,
                frame => said.push(frame),
            }
        }
    }
    said
}

/// The grant that must be the next frame; it is acknowledged.
async fn take_grant(socket: &mut Socket) -> link::Grant {
    let grant = match next(socket).await {
        Some(ServerFrame::Grant(grant)) => grant,
        other => panic!("{other:?}"),
    };
    let outcome = AckOutcome::Installed { os_user_exists: true };
    send(socket, &AgentFrame::Ack(Ack { id: grant.id, outcome })).await;
    grant
}

/// Whether this is the signature of this signer, by the leaf of its chain.
fn is_signature(twin: &Twin, signer: &StockSigner, text: &str) -> bool {
    let leaf = CertificateDer::from_pem_slice(signer.chain.as_str().as_bytes()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &leaf.public_key().subject_public_key.data);
    key.verify(text.as_bytes(), twin.signature.as_slice()).is_ok()
}

#[tokio::test]
async fn a_metadata_service_hears_what_it_is_to_say_before_any_grant() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut socket = setting.upgrade("first").await.unwrap();
    // It waits when the link opens.
    let push = setting.push(setting.grant());
    tokio::task::yield_now().await;
    send(&mut socket, &hello_with(Capabilities::METADATA)).await;
    let Some(ServerFrame::Welcome(welcome)) = next(&mut socket).await else { panic!("no welcome") };
    assert!(welcome.capabilities.contains(Capabilities::METADATA));
    assert!(matches!(next(&mut socket).await, Some(ServerFrame::Signer(_))));
    let facts = setting.facts(&setting.world.instance, BTreeMap::new());
    assert_eq!(next(&mut socket).await, Some(facts));
    assert_eq!(next(&mut socket).await, Some(ServerFrame::StockSigners(setting.signers())));
    take_grant(&mut socket).await;
    push.await.unwrap().unwrap();
    assert_eq!(said(&mut socket).await, []);
}

/// An older agent takes a frame that it does not know for the end of the link.
#[tokio::test]
async fn a_machine_without_a_metadata_service_hears_nothing_of_it() {
    let setting = Setting::with_own_signers().await;
    setting.enroll("first").await.unwrap();
    let all_others = Capabilities::RENEWAL.with(Capabilities::HOST_KEYS);
    let mut socket = setting.open_as("first", hello_with(all_others)).await;
    assert_eq!(said(&mut socket).await, []);
    setting.rotate().await;
    setting.tag(&setting.world.instance, "web").await;
    setting.add_guest(GUEST).await;
    assert_eq!(said(&mut socket).await, []);
    let push = setting.push(setting.grant());
    assert_eq!(take_grant(&mut socket).await.twins, []);
    push.await.unwrap().unwrap();
    assert_eq!(said(&mut socket).await, []);
}

#[tokio::test]
async fn a_grant_is_signed_by_each_generation_unless_the_scripts_do_not_know_its_key() {
    let setting = Setting::with_own_signers().await;
    setting.enroll("first").await.unwrap();
    let mut socket = setting.open_with_metadata().await;
    setting.rotate().await;
    // The chains as they were sent.
    let [ServerFrame::StockSigners(signers)] = &said(&mut socket).await[..] else { panic!("no signers") };
    let [first, second] = &signers.each[..] else { panic!("{signers:?}") };
    assert_eq!([first.generation, second.generation], [1, 2]);
    for key_line in [RSA, KEY_LINE] {
        let push = setting.push(setting.grant_of(&setting.world, key_line));
        let grant = take_grant(&mut socket).await;
        push.await.unwrap().unwrap();
        let text = stock_text(grant.document.as_str()).unwrap();
        assert!(text.contains(key_line), "{text}");
        let [by_first, by_second] = &grant.twins[..] else { panic!("{:?}", grant.twins) };
        assert_eq!([by_first.generation, by_second.generation], [1, 2]);
        for (twin, signer, is_its) in [
            (by_first, first, true),
            (by_second, second, true),
            (by_first, second, false),
            (by_second, first, false),
        ] {
            assert_eq!(is_signature(twin, signer, &text), is_its);
        }
        assert!(!is_signature(by_second, second, grant.document.as_str()));
    }
    let push = setting.push(setting.grant_of(&setting.world, ECDSA));
    assert_eq!(take_grant(&mut socket).await.twins, []);
    push.await.unwrap().unwrap();
}

#[tokio::test]
async fn new_signers_and_staples_are_told_before_the_next_grant() {
    let setting = Setting::with_own_signers().await;
    setting.enroll("first").await.unwrap();
    let mut socket = setting.open_with_metadata().await;
    setting.rotate().await;
    let push = setting.push(setting.grant());
    assert_eq!(next(&mut socket).await, Some(ServerFrame::StockSigners(setting.signers())));
    let generations: Vec<u32> = take_grant(&mut socket).await.twins.iter().map(|t| t.generation).collect();
    assert_eq!(generations, [1, 2]);
    push.await.unwrap().unwrap();
    assert_eq!(said(&mut socket).await, []);

    let Agents { inventory, links, .. } = setting.agents.as_ref();
    for quarter in 1..=10 {
        let later = (STAPLE_LIFETIME / 4 * quarter).as_secs();
        let later = UnixSeconds(setting.clock.wall().0.saturating_add_unsigned(later));
        let before = setting.signers();
        links.stock().step(inventory.store(), later).await.unwrap();
        // The link has not run since then, and nobody signs this one: so it finds the signers and the grant at once.
        let mut push = Box::pin(links.deliver(setting.grant_of(&setting.world, ECDSA)));
        assert!((&mut push).now_or_never().is_none());
        assert_ne!(setting.signers(), before);
        assert_eq!(next(&mut socket).await, Some(ServerFrame::StockSigners(setting.signers())));
        take_grant(&mut socket).await;
        push.await.unwrap();
    }
}

#[tokio::test]
async fn what_an_instance_is_comes_again_when_it_has_changed() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut socket = setting.open_with_metadata().await;
    let instance = &setting.world.instance;
    setting.tag(instance, "web").await;
    assert_eq!(said(&mut socket).await, [setting.facts(instance, tags("web"))]);
    // The inventory changes, and nothing of what it was told.
    setting.tag(instance, "web").await;
    let other = setting.add(OTHER, None).await;
    setting.tag(&other, "other").await;
    assert_eq!(said(&mut socket).await, []);
    setting.tag(instance, "db").await;
    assert_eq!(said(&mut socket).await, [setting.facts(instance, tags("db"))]);
}

#[tokio::test]
async fn a_guest_is_told_of_and_pushed_to_over_its_hosts_link() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let guest = setting.add_guest(GUEST).await;
    let mut socket = setting.open_as("first", hello_with(Capabilities::METADATA)).await;
    let facts = |instance: &InstanceId| setting.facts(instance, BTreeMap::new());
    let signers = ServerFrame::StockSigners(setting.signers());
    let told = [facts(&setting.world.instance), facts(&guest.instance), signers];
    assert_eq!(said(&mut socket).await, told);

    let push = setting.push(setting.grant_of(&guest, KEY_LINE));
    let grant = take_grant(&mut socket).await;
    assert_eq!(push.await.unwrap().unwrap().grant.instance(), &guest.instance);
    let document = grant.document.as_str();
    assert_eq!(ClaimedGrant::of(document).unwrap().instance, guest.instance);
    // Of the machine that has the key.
    assert!(document.contains(&format!("#Boot={}\n", read_boot_id().unwrap())), "{document}");
    let (signers, twins) = (setting.signers().each, grant.twins);
    let ([signer], [twin]) = (&signers[..], &twins[..]) else { panic!("{signers:?} {twins:?}") };
    assert!(is_signature(twin, signer, &stock_text(document).unwrap()));

    // Whatever changes, that alone is said.
    setting.tag(&guest.instance, "web").await;
    assert_eq!(said(&mut socket).await, [setting.facts(&guest.instance, tags("web"))]);
    let other = setting.add_guest(OTHER).await;
    assert_eq!(said(&mut socket).await, [facts(&other.instance)]);
    // What is not its guest any more is none of its business.
    let store = setting.agents.inventory.store();
    store.set_instance_host(&guest.instance, None).await.unwrap();
    setting.tag(&guest.instance, "db").await;
    assert_eq!(said(&mut socket).await, []);
}

/// A host can say what it likes of its guests, and nothing of anybody else's instances. Catches the planted `guests-of-others`.
#[tokio::test]
async fn a_host_reports_on_its_own_guests_alone() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let (host, store) = (&setting.world.instance, setting.agents.inventory.store());
    let guest = setting.add_guest(GUEST).await.instance;
    let former = setting.add_guest("i-0cccccccccccccccc").await.instance;
    store.set_instance_host(&former, None).await.unwrap();
    let other_host = setting.add(OTHER, None).await;
    let of_another = setting.add("i-0dddddddddddddddd", Some(&other_host)).await;
    let mut socket = setting.open_with_metadata().await;

    let request: RequestId = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap();
    let reports = |instance: &InstanceId| {
        let (fingerprint, os_user): (_, OsUser) =
            (Fingerprint::from_bytes([7; 32]), "deploy".parse().unwrap());
        let offered = Offered {
            offered_at: BootInstant(1),
            lost: 0,
            fingerprint,
            os_user: os_user.clone(),
            request_ids: vec![request.clone()],
        };
        let unused =
            ExpiredUnused { at: BootInstant(1), lost: 0, fingerprint, os_user, request_id: request.clone() };
        [AgentFrame::Offered(offered), AgentFrame::ExpiredUnused(unused)]
            .map(|report| AgentFrame::GuestReport(GuestReport::of(instance.clone(), report).unwrap()))
    };
    let unknown: InstanceId = "i-0eeeeeeeeeeeeeeee".parse().unwrap();
    for instance in [&former, &other_host, &of_another, &unknown, host, &guest] {
        for report in reports(instance) {
            send(&mut socket, &report).await;
        }
    }
    assert_eq!(said(&mut socket).await, []);
    // While the store does not answer nobody is known to be its guest.
    setting.clock.advance(Duration::from_secs(60));
    send_and_wait(&mut socket, &reports(&guest)[0]).await;

    // Once this is on record, all before it are.
    let world = &setting.world;
    let line = audit::refusal(Refused::ApiRequest, &world.origin(), &world.region, "code", None, "id");
    setting.agents.audit.commit(line).await.unwrap();
    let mut records = setting.audit_records();
    records.retain(|record| record["eventName"] != "EnrollAgent" && record["errorCode"] != "code");
    let names: Vec<_> = records.iter().map(|record| &record["eventName"]).collect();
    assert_eq!(names, ["KeyOffered", "KeyExpiredUnused"], "{records:?}");
    for record in records {
        let agent = format!("urn:instance-connect:us-east-1:{}:agent:{host}:1", world.account);
        assert_eq!(record["userIdentity"]["type"], "InstanceConnectAgent");
        assert_eq!(record["userIdentity"]["principalId"], agent);
        assert_eq!(record["requestParameters"]["instanceId"], guest.as_str());
        assert_eq!(record["requestID"], request.as_str());
    }
}
