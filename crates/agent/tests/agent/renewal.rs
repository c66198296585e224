//! The next certificate: when it is asked for, and what becomes of it.

use crate::control_plane::{ControlPlane, LONG_DUE, REGION, ServerLink, Validity};
use crate::machine::{Machine, Push, mode};
use instance_connect_agent::update_anchors;
use instance_connect_core::document::{AnchorSet, Anchors, SigningKey};
use instance_connect_core::link::{
    AckOutcome, AgentFrame, Capabilities, GoodbyeCode, HeldAnchors, Renew, Renewed, ServerFrame, Signer,
};
use rcgen::{CertificateSigningRequestParams, KeyPair};
use std::fs;
use std::path::PathBuf;

fn identity(machine: &Machine) -> PathBuf {
    machine.directories.state.join("identity.pem")
}

fn read(machine: &Machine) -> String {
    fs::read_to_string(identity(machine)).unwrap()
}

/// The request that comes next, pings aside.
async fn request(link: &mut ServerLink) -> Renew {
    loop {
        match link.receive().await {
            AgentFrame::Renew(renew) => return renew,
            AgentFrame::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn answer(control_plane: &ControlPlane, renew: &Renew, generation: u64, validity: Validity) -> Renewed {
    let csr = CertificateSigningRequestParams::from_pem(renew.request.as_str()).unwrap();
    let chain = control_plane.authority.agent_chain_of(&csr.public_key, generation, validity);
    Renewed { chain: chain.parse().unwrap(), server_ca: control_plane.authority.server_ca().parse().unwrap() }
}

#[tokio::test]
async fn the_next_link_is_opened_with_the_next_certificate_and_no_delivery_is_lost() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    let before = read(&machine);
    let mut link = control_plane.accept(&*machine.clock).await;
    link.send(ServerFrame::Renew).await;
    let renew = request(&mut link).await;
    let renewed = answer(&control_plane, &renew, 2, Validity::default());
    // A grant whose user has to be looked up is acknowledged before the link is closed for the next one.
    let push = Push { user: "nobody-yet", ..Push::default() };
    let id = link.send_grant(&machine.sign(&push), machine.clock.in_a_minute()).await;
    link.send(ServerFrame::Renewed(renewed.clone())).await;
    let AgentFrame::Ack(ack) = link.receive().await else { panic!("no ack") };
    assert_eq!((ack.id, matches!(ack.outcome, AckOutcome::Installed { .. })), (id, true));
    assert_eq!(link.goodbye().await.code, GoodbyeCode::ShuttingDown);

    let mut link = control_plane.accept(&*machine.clock).await;
    let after = read(&machine);
    assert!(after.ends_with(renewed.chain.as_str()) && after != before, "{after}");
    assert_eq!(mode(&identity(&machine)), 0o600);
    let key = |pem: &str| KeyPair::from_pem(pem).unwrap().serialize_der();
    assert_ne!(key(&after), key(&before), "a new key each time");
    assert_eq!(control_plane.generations(), [1, 2]);
    let push = Push { request: 1, ..Push::default() };
    let installed = AckOutcome::Installed { os_user_exists: true };
    assert_eq!(link.grant(&machine.sign(&push), machine.clock.in_a_minute()).await, installed);
}

#[tokio::test]
async fn it_asks_in_time_and_only_whom_it_can() {
    let mut control_plane = ControlPlane::start().await;
    let mut machine = Machine::new(&control_plane);
    let key = KeyPair::generate().unwrap();
    let chain = control_plane.authority.agent_chain_of(&key, 1, LONG_DUE);
    fs::write(identity(&machine), key.serialize_pem() + &chain).unwrap();
    machine.start_agent();
    // A server that does not know how is not asked: the frame would cost the link.
    let mut link = control_plane.accept_raw().await;
    link.welcome_with(Capabilities::NONE, &*machine.clock).await;
    machine.clock.advance(std::time::Duration::from_secs(8));
    assert!(matches!(link.receive().await, AgentFrame::Ping(_)));
    drop(link);
    let mut link = control_plane.accept_raw().await;
    link.welcome(&*machine.clock).await;
    request(&mut link).await;
}

/// Whatever comes, there is an identity that can be used: nothing is written that could not.
#[tokio::test]
async fn an_answer_that_cannot_be_used_changes_nothing() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    let before = read(&machine);
    let mut link = control_plane.accept(&*machine.clock).await;
    for wrong in 0..5 {
        link.send(ServerFrame::Renew).await;
        let renew = request(&mut link).await;
        let good = answer(&control_plane, &renew, 2, Validity::default());
        let server_ca = good.server_ca.clone();
        let renewed = match wrong {
            0 => answer(&control_plane, &renew, 1, Validity::default()),
            1 => answer(&control_plane, &renew, 2, Validity(1_000_000_000, 1_796_000_000)),
            2 => {
                let of_another = control_plane.authority.agent_chain(&KeyPair::generate().unwrap());
                Renewed { chain: of_another.parse().unwrap(), server_ca }
            }
            3 => Renewed { chain: "none".parse().unwrap(), server_ca },
            _ => Renewed { server_ca: "none".parse().unwrap(), ..good },
        };
        link.send(ServerFrame::Renewed(renewed)).await;
        // It goes on as it was.
        let push = Push { request: wrong, ..Push::default() };
        let installed = AckOutcome::Installed { os_user_exists: true };
        assert_eq!(link.grant(&machine.sign(&push), machine.clock.in_a_minute()).await, installed);
        assert_eq!(read(&machine), before, "{wrong}");
    }
    assert_eq!(control_plane.generations(), [1]);
}

/// The agent was killed while it wrote its next identity: what it had not finished is not looked at.
#[tokio::test]
async fn what_a_crash_leaves_behind_is_the_old_pair_or_the_new_one() {
    let mut control_plane = ControlPlane::start().await;
    let mut machine = Machine::new(&control_plane);
    let key = KeyPair::generate().unwrap();
    let next = key.serialize_pem() + &control_plane.authority.agent_chain_of(&key, 2, Validity::default());
    let unfinished = machine.directories.state.join(".new");
    for length in [0, next.len() / 2, next.len()] {
        fs::write(&unfinished, &next[..length]).unwrap();
        machine.start_agent();
        control_plane.accept(&*machine.clock).await;
        machine.kill_agent().await;
    }
    fs::rename(&unfinished, identity(&machine)).unwrap();
    machine.start_agent();
    control_plane.accept(&*machine.clock).await;
    assert_eq!(control_plane.generations(), [1, 1, 1, 2]);
}

#[tokio::test]
async fn an_anchor_set_is_kept_for_root_and_told_of_once_it_is_trusted() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    let mut link = control_plane.accept_raw().await;
    link.welcome(&*machine.clock).await;
    let authority = &control_plane.authority;
    let held = |file: &str| AgentFrame::Anchors(HeldAnchors::of(&Anchors::parse(file).unwrap()));
    assert_eq!(link.receive_any().await, held(&authority.anchors()), "its anchors are no set");
    let next = SigningKey::from_seed(&[5; 32]).unwrap();
    let region = REGION.parse().unwrap();
    let set = |by: &SigningKey, number| {
        AnchorSet::issue(by, number, &region, &[authority.anchor.verifying_key(), next.verifying_key()])
    };
    let (forged, good) = (set(&next, 9), set(&authority.anchor, 2));
    for text in [&forged, &good] {
        link.send(ServerFrame::Anchors(text.parse().unwrap())).await;
    }
    let push = Push::default();
    let statement = authority.statement(&*machine.clock).to_string().parse().unwrap();
    link.send(ServerFrame::Signer(Signer { statement })).await;
    let installed = AckOutcome::Installed { os_user_exists: true };
    assert_eq!(link.grant(&machine.sign(&push), machine.clock.in_a_minute()).await, installed);
    let anchors = machine.directories.etc.join("anchors");
    assert_eq!(fs::read_to_string(machine.directories.state.join("anchors.next")).unwrap(), good);
    assert_eq!(
        fs::read_to_string(&anchors).unwrap(),
        authority.anchors(),
        "the agent does not write root's file"
    );

    assert_eq!(update_anchors(&machine.directories).unwrap(), 2);
    assert_eq!(fs::read_to_string(&anchors).unwrap(), good);
    assert_eq!(link.receive_any().await, held(&good));
    let push = Push { request: 1, ..push };
    assert_eq!(link.grant(&machine.sign(&push), machine.clock.in_a_minute()).await, installed);
}
