//! Identities that are renewed, copied, suspended and revoked.

use super::*;
use crate::pki::agent_certificate;
use instance_connect_core::inventory::{AgentChange, AgentState};
use instance_connect_core::link::{AgentUrn, Renew, Renewed};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

const OTHER_BOOT: &str = "6c0c6f9e-3f60-4c11-9d0b-1c5a6f0e9a11";

fn hello_in(boot: &str, capabilities: Capabilities) -> AgentFrame {
    let AgentFrame::Hello(hello) = hello() else { panic!("not a hello") };
    AgentFrame::Hello(Hello { boot_id: boot.parse().unwrap(), capabilities, ..hello })
}

impl Setting {
    /// The machine in this folder says hello in this boot; no more than that.
    async fn say_hello(&self, name: &str, boot: &str) -> Socket {
        let mut socket = self.upgrade(name).await.unwrap();
        send(&mut socket, &hello_in(boot, Capabilities::RENEWAL)).await;
        socket
    }

    /// Puts what a link has answered to a renew into a folder of its own.
    fn keep(&self, name: &str, key: &KeyPair, renewed: &Renewed) {
        let state = self.directory.path().join(name).join("state");
        std::fs::create_dir_all(&state).unwrap();
        std::fs::write(state.join("identity.pem"), key.serialize_pem() + renewed.chain.as_str()).unwrap();
        std::fs::write(state.join("server-ca.pem"), renewed.server_ca.as_str()).unwrap();
    }

    async fn change_agent(&self, change: AgentChange) {
        self.agents.inventory.store().change_agent(&self.world.instance, change).await.unwrap();
        self.agents.inventory.refresh().await.unwrap();
    }

    fn agent_state(&self) -> AgentState {
        self.agents.inventory.current().unwrap().agents[&self.world.instance].state
    }

    pub(super) fn records_of(&self, event: &str) -> Vec<Value> {
        self.audit_records().into_iter().filter(|record| record["eventName"] == event).collect()
    }
}

fn request() -> (KeyPair, AgentFrame) {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    (key, AgentFrame::Renew(Renew { request: request.parse().unwrap() }))
}

/// It is answered on this link.
async fn is_open(socket: &mut Socket) {
    send(socket, &AgentFrame::Ping(Ping { sent_at: BootInstant(2) })).await;
    while !matches!(next(socket).await.expect("a pong"), ServerFrame::Pong(_)) {}
}

/// Asks for the next certificate on an open link.
async fn renew(socket: &mut Socket) -> (KeyPair, Renewed) {
    let (key, request) = request();
    send(socket, &request).await;
    loop {
        match next(socket).await.expect("an answer") {
            ServerFrame::Renewed(renewed) => return (key, renewed),
            ServerFrame::Renew | ServerFrame::Welcome(_) | ServerFrame::Signer(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn generation(renewed: &Renewed) -> u64 {
    let certificate = CertificateDer::from_pem_slice(renewed.chain.as_str().as_bytes()).unwrap();
    agent_certificate(&certificate).unwrap().identity.generation
}

/// A copied disk image. Catches the planted `clones-unnoticed`.
#[tokio::test]
async fn two_machines_with_one_identity_suspend_it() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut first = setting.open("first").await;
    // It reads, and so it answers.
    let first = tokio::spawn(async move { goodbye(&mut first).await });
    let mut second = setting.say_hello("first", OTHER_BOOT).await;
    assert_eq!(goodbye(&mut second).await, GoodbyeCode::IdentitySuspended);
    assert_eq!(first.await.unwrap(), GoodbyeCode::IdentitySuspended);
    assert_eq!(status(&setting.upgrade("first").await.unwrap_err()), 403);
    assert_eq!(setting.agent_state(), AgentState::Suspended);

    let [record] = &setting.records_of("SuspendAgent")[..] else { panic!("not recorded once") };
    let boot = read_boot_id().unwrap();
    let expected = json!({
        "instanceId": setting.world.instance.as_str(),
        "reason": "two_links",
        "links": [
            { "bootId": OTHER_BOOT, "sourceIPAddress": "127.0.0.1", "generation": 1 },
            { "bootId": boot.as_str(), "sourceIPAddress": "127.0.0.1", "generation": 1 },
        ],
    });
    assert_eq!(record["requestParameters"], expected);
    assert_eq!(record["recipientAccountId"], setting.world.account.as_str());
    // It is in the store, and outlasts the process.
    let stored = setting.agents.inventory.store().inventory().await.unwrap().inventory;
    assert_eq!(stored.agents[&setting.world.instance].state, AgentState::Suspended);
    // To enrol the right machine anew is one of the two ways back.
    setting.enroll("second").await.unwrap();
    setting.open("second").await;
    assert_eq!(status(&setting.upgrade("first").await.unwrap_err()), 403);
}

#[tokio::test]
async fn a_machine_that_has_gone_down_is_replaced_by_its_next_boot() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    // It is not read from any more, as from a machine without power.
    let silent = setting.open("first").await;
    let mut second = setting.say_hello("first", OTHER_BOOT).await;
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    send(&mut second, &AgentFrame::Ping(Ping { sent_at: BootInstant(2) })).await;
    while !matches!(next(&mut second).await, Some(ServerFrame::Pong(_))) {}
    let took = start.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(6)).contains(&took), "{took:?}");
    // It is asked once more, and not read from meanwhile.
    tokio::time::sleep(limits::PROBE + Duration::from_millis(100)).await;
    tokio::time::resume();
    setting.ended("replaced", 1).await;
    drop(silent);
    assert_eq!(setting.agent_state(), AgentState::Active);
    assert!(setting.records_of("SuspendAgent").is_empty());
}

/// A broken network: the machine opens another link at once, and nothing is ever heard on the one before.
#[tokio::test]
async fn a_second_link_of_the_same_boot_replaces_the_first() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut first = setting.open("first").await;
    // A push was under way on it.
    let (links, grant) = (Arc::clone(&setting.agents.links), setting.grant());
    let push = tokio::spawn(async move { links.deliver(grant).await });
    assert!(matches!(next(&mut first).await, Some(ServerFrame::Grant(_))));
    let mut second = setting.open("first").await;
    let Some(ServerFrame::Grant(grant)) = next(&mut second).await else { panic!("no grant") };
    let outcome = AckOutcome::Installed { os_user_exists: true };
    send(&mut second, &AgentFrame::Ack(Ack { id: grant.id, outcome })).await;
    assert!(push.await.unwrap().is_ok(), "it does not wait until the first link is known to be silent");
    is_silent(&mut first).await;
    send(&mut second, &AgentFrame::Ping(Ping { sent_at: BootInstant(2) })).await;
    assert!(matches!(next(&mut second).await, Some(ServerFrame::Pong(_))));
    assert_eq!(setting.agent_state(), AgentState::Active);
    assert!(setting.records_of("SuspendAgent").is_empty());
}

/// What was replaced is not read from until the time is over that it has to answer; then it is told.
async fn is_silent(replaced: &mut Socket) {
    tokio::time::pause();
    tokio::time::sleep(limits::PROBE + Duration::from_millis(100)).await;
    tokio::time::resume();
    assert_eq!(goodbye(replaced).await, GoodbyeCode::Replaced);
}

/// A copied disk knows which boot it was copied in, too. Catches the planted `clones-unnoticed`.
#[tokio::test]
async fn a_copy_that_says_the_same_boot_is_found_by_the_link_that_it_replaces() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut first = setting.open("first").await;
    let mut copy = setting.open("first").await;
    // The first reads, and so it answers.
    assert_eq!(goodbye(&mut first).await, GoodbyeCode::IdentitySuspended);
    assert_eq!(setting.agent_state(), AgentState::Suspended, "whoever comes back at once is told the same");
    assert_eq!(goodbye(&mut copy).await, GoodbyeCode::IdentitySuspended);
    let [record] = &setting.records_of("SuspendAgent")[..] else { panic!("not recorded once") };
    let boot = read_boot_id().unwrap();
    let link = json!({ "bootId": boot.as_str(), "sourceIPAddress": "127.0.0.1", "generation": 1 });
    let expected = json!({
        "instanceId": setting.world.instance.as_str(), "reason": "two_links", "links": [link, link],
    });
    assert_eq!(record["requestParameters"], expected);
    assert_eq!(status(&setting.upgrade("first").await.unwrap_err()), 403);
}

/// The machine has given up a connection and made the next; what it had said on the first comes only then, in whatever boot:
/// lost at first, or kept back by somebody on the way. Catches the planted `late-hellos-believed`.
#[tokio::test]
async fn a_hello_that_comes_late_shows_no_second_machine() {
    let boot = read_boot_id().unwrap();
    for late in [boot.as_str(), OTHER_BOOT] {
        let setting = Setting::new().await;
        setting.enroll("first").await.unwrap();
        let mut given_up = setting.upgrade("first").await.unwrap();
        setting.clock.advance(Duration::from_secs(1));
        let mut next = setting.open("first").await;
        send(&mut given_up, &hello_in(late, Capabilities::RENEWAL)).await;
        assert_eq!(goodbye(&mut given_up).await, GoodbyeCode::Overloaded, "comes back soon, if it is there");
        is_open(&mut next).await;
        assert_eq!(setting.agent_state(), AgentState::Active);
    }
}

/// The same, and the machine has renewed its certificate meanwhile. Catches the planted `late-hellos-believed`.
#[tokio::test]
async fn a_certificate_that_was_good_when_its_connection_began_shows_no_copy() {
    for asks_late in [false, true] {
        let setting = Setting::new().await;
        setting.enroll("first").await.unwrap();
        let connected = setting.connect("first").await;
        let given_up =
            if asks_late { Err(connected) } else { Ok(setting.upgrade_on(connected).await.unwrap()) };
        setting.clock.advance(Duration::from_secs(1));
        let mut first = setting.open("first").await;
        let (key, renewed) = renew(&mut first).await;
        setting.keep("renewed", &key, &renewed);
        drop(first);
        setting.clock.advance(Duration::from_secs(1));
        let mut next = setting.open("renewed").await;
        let mut given_up = match given_up {
            Ok(asked) => asked,
            Err(connected) => setting.upgrade_on(connected).await.unwrap(),
        };
        send(&mut given_up, &hello()).await;
        assert_eq!(goodbye(&mut given_up).await, GoodbyeCode::Overloaded);
        is_open(&mut next).await;
        assert_eq!(setting.agent_state(), AgentState::Active);
        // Whoever begins now with the old one has a copy.
        assert_eq!(
            goodbye(&mut setting.say_hello("first", OTHER_BOOT).await).await,
            GoodbyeCode::IdentitySuspended
        );
    }
}

/// Links that are replaced again and again wait for their turn: those that are asked do not become many.
#[tokio::test]
async fn links_that_replace_each_other_are_few() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let boot = read_boot_id().unwrap();
    let mut replaced = Vec::new();
    for _ in 0..5 {
        replaced.push(setting.open("first").await);
    }
    let mut waiting = setting.say_hello("first", boot.as_str()).await;
    assert!(matches!(next(&mut waiting).await, Some(ServerFrame::Welcome(_))));
    assert!(matches!(next(&mut waiting).await, Some(ServerFrame::Signer(_))));
    // Until it has its turn, keys go over the link before it.
    let (links, grant) = (Arc::clone(&setting.agents.links), setting.grant());
    let push = tokio::spawn(async move { links.deliver(grant).await });
    let Some(ServerFrame::Grant(grant)) = next(&mut replaced[4]).await else { panic!("no grant") };
    let outcome = AckOutcome::Installed { os_user_exists: true };
    send(&mut replaced[4], &AgentFrame::Ack(Ack { id: grant.id, outcome })).await;
    assert!(push.await.unwrap().is_ok());
    send(&mut waiting, &AgentFrame::Ping(Ping { sent_at: BootInstant(2) })).await;
    is_silent(&mut replaced[0]).await;
    while !matches!(next(&mut waiting).await.expect("a pong"), ServerFrame::Pong(_)) {}
}

#[tokio::test]
async fn a_link_ends_with_its_certificate() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut link = setting.open("first").await;
    let lifetime = setting.agents.certificate_lifetime;
    setting.wait(lifetime).await;
    send(&mut link, &AgentFrame::Ping(Ping { sent_at: BootInstant(2) })).await;
    assert!(matches!(next(&mut link).await, Some(ServerFrame::Pong(_))));
    // TLS goes by the real clock, and would let it in.
    let mut late = setting.upgrade("first").await.unwrap();
    setting.wait(Duration::from_secs(1)).await;
    send(&mut link, &AgentFrame::Ping(Ping { sent_at: BootInstant(3) })).await;
    assert_eq!(goodbye(&mut link).await, GoodbyeCode::CertificateExpired);
    send(&mut late, &hello()).await;
    assert_eq!(goodbye(&mut late).await, GoodbyeCode::CertificateExpired);
}

#[tokio::test]
async fn the_old_certificate_is_good_until_the_new_one_is_used_and_shows_a_copy_from_then_on() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut first = setting.open("first").await;
    let (key, renewed) = renew(&mut first).await;
    assert_eq!(generation(&renewed), 2);
    setting.keep("renewed", &key, &renewed);
    let [record] = &setting.records_of("RenewAgent")[..] else { panic!("not recorded once") };
    assert!(record["userIdentity"]["principalId"].as_str().unwrap().ends_with(":1"), "{record}");
    assert_eq!(record["responseElements"], json!({ "generation": 2 }));

    // The machine may have stopped before it had stored the new one.
    drop(first);
    let mut first = setting.open("first").await;
    let mut renewed = setting.open("renewed").await;
    send(&mut renewed, &AgentFrame::Ping(Ping { sent_at: BootInstant(2) })).await;
    assert!(matches!(next(&mut renewed).await, Some(ServerFrame::Pong(_))));
    is_silent(&mut first).await;
    assert_eq!(setting.agent_state(), AgentState::Active);

    // Somebody has a copy of the old one, though: in another boot or not.
    let boot = read_boot_id().unwrap();
    let mut copy = setting.say_hello("first", boot.as_str()).await;
    assert_eq!(goodbye(&mut copy).await, GoodbyeCode::IdentitySuspended);
    assert_eq!(goodbye(&mut renewed).await, GoodbyeCode::IdentitySuspended);
    let [record] = &setting.records_of("SuspendAgent")[..] else { panic!("not recorded once") };
    assert_eq!(record["requestParameters"]["reason"], "stale_certificate");
    let generations: Vec<_> = record["requestParameters"]["links"].as_array().unwrap().iter().collect();
    assert_eq!(generations.iter().map(|link| &link["generation"]).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(status(&setting.upgrade("renewed").await.unwrap_err()), 403);
}

/// Two machines with one certificate cannot both go on, and the one that loses says so.
#[tokio::test]
async fn whoever_comes_first_after_a_rearm_is_renewed_and_the_other_suspends_it_again() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    setting.change_agent(AgentChange::Suspend { presented: 1 }).await;
    assert_eq!(status(&setting.upgrade("first").await.unwrap_err()), 403);
    setting.change_agent(AgentChange::Rearm).await;

    let mut copy = setting.say_hello("first", OTHER_BOOT).await;
    // It is asked to, although its certificate is new.
    while next(&mut copy).await.expect("a renew") != ServerFrame::Renew {}
    let (key, renewed) = renew(&mut copy).await;
    assert_eq!(generation(&renewed), 3);
    setting.keep("copy", &key, &renewed);
    drop(copy);
    let mut copy = setting.say_hello("copy", OTHER_BOOT).await;
    let mut asked = Vec::new();
    send(&mut copy, &AgentFrame::Ping(Ping { sent_at: BootInstant(2) })).await;
    loop {
        match next(&mut copy).await.expect("a pong") {
            ServerFrame::Pong(_) => break,
            frame => asked.push(frame),
        }
    }
    assert!(!asked.contains(&ServerFrame::Renew), "it has the newest certificate");

    let boot = read_boot_id().unwrap();
    let mut right_one = setting.say_hello("first", boot.as_str()).await;
    assert_eq!(goodbye(&mut right_one).await, GoodbyeCode::IdentitySuspended);
    assert_eq!(goodbye(&mut copy).await, GoodbyeCode::IdentitySuspended);
    assert_eq!(setting.records_of("SuspendAgent").len(), 1);
}

#[tokio::test]
async fn a_revoked_identity_is_closed_and_refused_until_it_is_enrolled_again() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut link = setting.open("first").await;
    setting.change_agent(AgentChange::Revoke).await;
    assert_eq!(goodbye(&mut link).await, GoodbyeCode::IdentityRevoked);
    assert_eq!(status(&setting.upgrade("first").await.unwrap_err()), 403);
    let rearm =
        setting.agents.inventory.store().change_agent(&setting.world.instance, AgentChange::Rearm).await;
    assert!(rearm.is_err(), "only what is suspended is re-armed");
    setting.enroll("second").await.unwrap();
    setting.open("second").await;
}

#[tokio::test]
async fn renewals_are_few_and_of_good_keys() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut link = setting.open("first").await;
    renew(&mut link).await;
    // Another one at once is not answered, and does not raise the generation.
    send(&mut link, &request().1).await;
    send(&mut link, &AgentFrame::Ping(Ping { sent_at: BootInstant(2) })).await;
    assert!(matches!(next(&mut link).await, Some(ServerFrame::Pong(_))));
    setting.wait(limits::RENEWAL_INTERVAL).await;
    assert_eq!(generation(&renew(&mut link).await.1), 3);

    let none = AgentFrame::Renew(Renew { request: "none".parse().unwrap() });
    send(&mut link, &none).await;
    assert_eq!(goodbye(&mut link).await, GoodbyeCode::ProtocolError);
}

/// A restored backup knows an older state of the identity. The certificate was issued by this control plane all the same.
#[tokio::test]
async fn a_certificate_issued_after_the_backup_is_good() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let (pki, now) = (setting.agents.links.pki(), setting.agents.links.clock().wall());
    let world = &setting.world;
    let urn = AgentUrn {
        region: world.region.clone(),
        account: world.account.clone(),
        instance: world.instance.clone(),
        generation: 7,
    };
    let (key, AgentFrame::Renew(Renew { request })) = request() else { panic!("no request") };
    let public = pki::AgentKey::from_request(request.as_str()).unwrap();
    let chain = pki.agent_chain(&public, &urn, now, Duration::from_secs(3600)).unwrap();
    let renewed = Renewed { chain: chain.parse().unwrap(), server_ca: pki.server_ca().parse().unwrap() };
    setting.keep("later", &key, &renewed);
    let mut link = setting.open("later").await;
    assert_eq!(generation(&renew(&mut link).await.1), 8);
}

/// Each intermediate vouches for one kind: a stolen node's certificate is no agent's.
#[tokio::test]
async fn a_nodes_certificate_is_no_agents() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let (pki, now) = (setting.agents.links.pki(), setting.agents.links.clock().wall());
    let (chain, key) = pki.server_chain(&["127.0.0.1".to_owned()], now).unwrap();
    let tls = trusting_its_server(&setting.directory.path().join("first/state"))
        .with_client_auth_cert(chain, key)
        .unwrap();
    let stream = TcpStream::connect(setting.address).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    // With TLS 1.3 the client learns it when it reads.
    let refused = async {
        let mut stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await?;
        stream.write_all(b"GET /link HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        stream.read(&mut [0]).await
    };
    let error = timeout(PATIENCE, refused).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("fatal alert") && error.contains("Certificate"), "{error}");
}

/// What is being written when the link goes is written to its end before the process ends.
#[tokio::test]
async fn a_renewal_is_under_way_until_it_is_on_record() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut link = setting.open("first").await;
    send(&mut link, &request().1).await;
    send(&mut link, &AgentFrame::Ping(Ping { sent_at: BootInstant(2) })).await;
    while !matches!(next(&mut link).await.expect("a pong"), ServerFrame::Pong(_)) {}
    drop(link);
    timeout(PATIENCE, setting.agents.end()).await.unwrap();
    assert_eq!(setting.records_of("RenewAgent").len(), 1);
}

/// A thief who holds links open with the old certificate, and says nothing.
#[tokio::test]
async fn a_stale_certificate_without_a_hello_suspends_and_takes_no_place_of_the_right_machine() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut first = setting.open("first").await;
    let (key, renewed) = renew(&mut first).await;
    setting.keep("renewed", &key, &renewed);
    drop(setting.open("renewed").await);
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(setting.upgrade("first").await.unwrap());
    }
    let mut renewed = setting.open("renewed").await;
    assert_eq!(setting.agent_state(), AgentState::Active);
    // One of them hangs up, still without a word.
    silent.pop();
    assert_eq!(goodbye(&mut renewed).await, GoodbyeCode::IdentitySuspended);
    let [record] = &setting.records_of("SuspendAgent")[..] else { panic!("not recorded once") };
    assert_eq!(record["requestParameters"]["reason"], "stale_certificate");
    let shown_by = json!({ "sourceIPAddress": "127.0.0.1", "generation": 1 });
    assert_eq!(record["requestParameters"]["links"][0], shown_by);
}
