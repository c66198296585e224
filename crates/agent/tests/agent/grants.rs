//! Grants and withdrawals: what is on the machine when the answer comes.

use crate::control_plane::{ControlPlane, ServerLink};
use crate::machine::{Machine, OTHER_BOOT, Push, mode};
use instance_connect_agent::MachineClock as _;
use instance_connect_core::document::{Handover, SigningKey};
use instance_connect_core::link::{
    AckOutcome, AgentFrame, Refusal, ServerFrame, Signer, Withdraw, WithdrawId, Withdrawn,
};
use std::fs;
use std::time::Duration;

const INSTALLED: AckOutcome = AckOutcome::Installed { os_user_exists: true };

async fn open() -> (ControlPlane, Machine, ServerLink) {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    let link = control_plane.accept(&*machine.clock).await;
    (control_plane, machine, link)
}

async fn push(machine: &Machine, link: &mut ServerLink, push: &Push) -> AckOutcome {
    link.grant(&machine.sign(push), machine.clock.in_a_minute()).await
}

async fn withdraw(link: &mut ServerLink, push: &Push) -> bool {
    let withdraw = Withdraw {
        id: WithdrawId(7),
        request_id: push.request_id().parse().unwrap(),
        fingerprint: push.fingerprint(),
        os_user: push.user(),
    };
    link.send(ServerFrame::Withdraw(withdraw)).await;
    match link.receive().await {
        AgentFrame::Withdrawn(Withdrawn { id: WithdrawId(7), removed }) => removed,
        other => panic!("{other:?}"),
    }
}

/// Catches the planted `ack-before-rename`.
#[tokio::test]
async fn the_key_is_on_the_machine_before_the_ack() {
    let (_control_plane, machine, mut link) = open().await;
    for key in 0..20 {
        let granted = Push { key, request: key, ..Push::default() };
        assert_eq!(push(&machine, &mut link, &granted).await, INSTALLED);
        // The agent runs in this very thread: nothing of it has gone on since the ack came.
        assert_eq!(machine.login(&granted), [Ok(granted.request_id())]);
        let file = machine.live_file(&granted);
        assert_eq!(mode(&file), 0o640);
        assert_eq!(mode(file.parent().unwrap()), 0o750);
    }
    assert_eq!(mode(&machine.directories.run.join("live")), 0o750);
}

#[tokio::test]
async fn a_key_ends_at_its_deadline_whatever_the_agent_does() {
    let (_control_plane, machine, mut link) = open().await;
    let granted = Push::default();
    push(&machine, &mut link, &granted).await;
    machine.clock.advance(Duration::from_nanos(59_999_999_999));
    assert_eq!(machine.login(&granted).len(), 1);
    assert!(machine.login(&granted)[0].is_ok());
    machine.clock.advance(Duration::from_nanos(1));
    assert!(machine.login(&granted).iter().all(Result::is_err));
}

#[tokio::test]
async fn grants_that_are_not_good_are_refused_and_leave_nothing() {
    let (_control_plane, machine, mut link) = open().await;
    let deadline = machine.clock.in_a_minute();
    let signed = |push: Push| machine.sign(&push);
    let good = signed(Push::default());
    let rows = [
        (signed(Push { instance: "i-0123456789abcdef1", ..Push::default() }), Refusal::WrongInstance),
        (signed(Push { boot: OTHER_BOOT, ..Push::default() }), Refusal::WrongBoot),
        (signed(Push { user: "root", ..Push::default() }), Refusal::Vetoed),
        (good.replacen("#User=alice", "#User=bob", 1), Refusal::BadSignature),
        (good.replacen("jane", "janf", 1), Refusal::BadSignature),
        (good.trim_end().to_owned(), Refusal::Malformed),
        (format!("{good}{good}"), Refusal::Malformed),
        (String::new(), Refusal::Malformed),
    ];
    for (document, refusal) in rows {
        assert_eq!(link.grant(&document, deadline).await, AckOutcome::Refused(refusal), "{document}");
    }
    let past = machine.clock.boot();
    assert_eq!(link.grant(&good, past).await, AckOutcome::Refused(Refusal::Expired));
    let too_late = deadline.after(Duration::from_nanos(1));
    assert_eq!(link.grant(&good, too_late).await, AckOutcome::Refused(Refusal::TooLong));
    assert_eq!(fs::read_dir(machine.directories.run.join("live")).unwrap().count(), 0);
    assert_eq!(link.grant(&good, deadline).await, INSTALLED, "the link is as good as before");
}

/// Catches the planted `agent-veto-ignored`.
#[tokio::test]
async fn the_hosts_own_veto_counts_and_changes_at_once() {
    let (_control_plane, machine, mut link) = open().await;
    let mallory = Push { user: "mallory", ..Push::default() };
    assert_eq!(push(&machine, &mut link, &mallory).await, AckOutcome::Refused(Refusal::Vetoed));
    fs::write(machine.path("etc/host.toml"), "allow_users = [\"mallory\"]\nmax_lifetime_seconds = 5\n")
        .unwrap();
    assert!(matches!(push(&machine, &mut link, &mallory).await, AckOutcome::Installed { .. }));
    assert_eq!(push(&machine, &mut link, &Push::default()).await, AckOutcome::Refused(Refusal::Vetoed));
    machine.clock.advance(Duration::from_secs(5));
    assert!(machine.login(&mallory).iter().all(Result::is_err), "five seconds are over");
    fs::write(machine.path("etc/host.toml"), "allow_user = [\"mallory\"]\n").unwrap();
    let refused = AckOutcome::Refused(Refusal::Vetoed);
    assert_eq!(push(&machine, &mut link, &mallory).await, refused, "a host.toml that is not understood");
}

#[tokio::test]
async fn a_signer_that_no_anchor_vouches_for_is_refused_until_one_does() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    let mut link = control_plane.accept_raw().await;
    link.welcome(&*machine.clock).await;
    let refused = AckOutcome::Refused(Refusal::SignerUntrusted);
    assert_eq!(push(&machine, &mut link, &Push::default()).await, refused, "no statement yet");
    let authority = &control_plane.authority;
    let statement = authority.statement(&*machine.clock).to_string();
    let forged = statement.replacen("us-east-1", "us-east-2", 1);
    link.send(ServerFrame::Signer(Signer { statement: forged.parse().unwrap() })).await;
    assert_eq!(push(&machine, &mut link, &Push::default()).await, refused);
    link.send(ServerFrame::Signer(Signer { statement: statement.parse().unwrap() })).await;
    assert_eq!(push(&machine, &mut link, &Push::default()).await, INSTALLED);
    let stranger = SigningKey::from_seed(&[9; 32]).unwrap().verifying_key();
    fs::write(machine.path("etc/anchors"), format!("us-east-1 ed25519 {stranger}\n")).unwrap();
    assert_eq!(push(&machine, &mut link, &Push::default()).await, refused, "the anchors have changed");
}

#[tokio::test]
async fn without_a_young_clock_sample_nothing_is_installed() {
    let (_control_plane, machine, mut link) = open().await;
    for _ in 0..3 {
        // Something is heard, so the link is alive; but the pings find no answer.
        machine.clock.advance(Duration::from_secs(10));
        assert!(matches!(link.receive().await, AgentFrame::Ping(_)));
        link.send_bytes(vec![0x7f]).await;
    }
    let granted = Push::default();
    assert_eq!(push(&machine, &mut link, &granted).await, INSTALLED, "30 s is just young enough");
    machine.clock.advance(Duration::from_nanos(1));
    assert_eq!(push(&machine, &mut link, &granted).await, AckOutcome::Refused(Refusal::NoClock));
    machine.clock.advance(Duration::from_secs(7));
    link.answer_ping(&*machine.clock).await;
    assert_eq!(push(&machine, &mut link, &granted).await, INSTALLED);
}

/// A virtual machine that was paused, or restored from a snapshot, goes on with the boot clock it had.
#[tokio::test]
async fn a_machine_that_was_paused_ends_its_keys_that_much_earlier() {
    let (_control_plane, machine, mut link) = open().await;
    let (long, short) = (Push::default(), Push { key: 1, request: 1, ..Push::default() });
    let pushed_at = machine.clock.boot();
    assert_eq!(push(&machine, &mut link, &long).await, INSTALLED);
    let in_half_a_minute = pushed_at.after(Duration::from_secs(30));
    assert_eq!(link.grant(&machine.sign(&short), in_half_a_minute).await, INSTALLED);
    machine.clock.advance(Duration::from_secs(7));
    // 25 s have passed here that the machine did not see.
    link.answer_ping_at(machine.clock.boot().after(Duration::from_secs(25))).await;
    // Whatever comes behind the answer finds it acted on.
    assert!(!withdraw(&mut link, &Push { request: 9, ..Push::default() }).await);
    assert!(!machine.live_file(&short).exists());
    let file = fs::read(machine.live_file(&long)).unwrap();
    let deadline = Handover::parse(&file).unwrap().deadline();
    // A thousandth of the 32 s since the last answer is put down to the clocks.
    assert_eq!(deadline, pushed_at.after(Duration::from_millis(35_032)));
}

#[tokio::test]
async fn the_same_key_again_is_one_file_with_a_section_for_each_request() {
    let (_control_plane, machine, mut link) = open().await;
    let (first, second) = (Push::default(), Push { request: 1, ..Push::default() });
    push(&machine, &mut link, &first).await;
    machine.clock.advance(Duration::from_secs(5));
    push(&machine, &mut link, &second).await;
    assert_eq!(machine.login(&first), [Ok(first.request_id()), Ok(second.request_id())]);
    assert_eq!(fs::read_dir(machine.live_file(&first).parent().unwrap()).unwrap().count(), 1);
    machine.clock.advance(Duration::from_secs(58));
    assert_eq!(machine.login(&first).last(), Some(&Ok(second.request_id())), "live until the later deadline");
}

#[tokio::test]
async fn the_same_grant_again_is_acknowledged_again() {
    let (mut control_plane, machine, mut link) = open().await;
    let (granted, deadline) = (Push::default(), machine.clock.in_a_minute());
    let document = machine.sign(&granted);
    assert_eq!(link.grant(&document, deadline).await, INSTALLED);
    assert_eq!(link.grant(&document, deadline).await, INSTALLED);
    drop(link);
    let mut link = control_plane.accept(&*machine.clock).await;
    assert_eq!(link.grant(&document, deadline).await, INSTALLED);
    assert_eq!(machine.login(&granted), [Ok(granted.request_id())]);
}

#[tokio::test]
async fn a_withdrawal_takes_one_requests_section() {
    let (_control_plane, machine, mut link) = open().await;
    let (first, second) = (Push::default(), Push { request: 1, ..Push::default() });
    push(&machine, &mut link, &first).await;
    push(&machine, &mut link, &second).await;
    assert!(!withdraw(&mut link, &Push { request: 2, ..Push::default() }).await);
    assert!(withdraw(&mut link, &first).await);
    assert_eq!(machine.login(&first), [Ok(second.request_id())]);
    assert!(withdraw(&mut link, &second).await);
    assert!(!machine.live_file(&second).exists());
    assert!(!withdraw(&mut link, &second).await, "withdrawn twice");
    assert_eq!(push(&machine, &mut link, &second).await, AckOutcome::Refused(Refusal::Withdrawn));
}

#[tokio::test]
async fn a_withdrawal_may_overtake_its_grant() {
    let (mut control_plane, machine, mut link) = open().await;
    let granted = Push::default();
    assert!(!withdraw(&mut link, &granted).await);
    drop(link);
    let mut link = control_plane.accept(&*machine.clock).await;
    assert_eq!(push(&machine, &mut link, &granted).await, AckOutcome::Refused(Refusal::Withdrawn));
    assert_eq!(machine.sections(&granted), 0);
}

#[tokio::test]
async fn a_user_has_room_for_64_keys() {
    let (_control_plane, machine, mut link) = open().await;
    let numbered = |key: u8| Push { key, request: key, ..Push::default() };
    for key in 0..64 {
        assert_eq!(push(&machine, &mut link, &numbered(key)).await, INSTALLED);
    }
    assert_eq!(push(&machine, &mut link, &numbered(64)).await, AckOutcome::Refused(Refusal::UserFull));
    let of_another_user = Push { user: "bob", ..numbered(64) };
    assert!(matches!(push(&machine, &mut link, &of_another_user).await, AckOutcome::Installed { .. }));
    let known_key = Push { request: 65, ..numbered(0) };
    assert_eq!(push(&machine, &mut link, &known_key).await, INSTALLED);
    assert!(withdraw(&mut link, &numbered(1)).await);
    assert_eq!(push(&machine, &mut link, &numbered(64)).await, INSTALLED);
}

/// Where the file system says no.
#[tokio::test]
async fn a_file_that_cannot_be_put_in_place_is_not_acknowledged() {
    let (_control_plane, machine, mut link) = open().await;
    let granted = Push::default();
    // Nothing can be renamed over a directory, not even by root.
    fs::create_dir_all(machine.live_file(&granted)).unwrap();
    assert_eq!(push(&machine, &mut link, &granted).await, AckOutcome::Refused(Refusal::Storage));
    fs::remove_dir(machine.live_file(&granted)).unwrap();
    assert_eq!(push(&machine, &mut link, &granted).await, INSTALLED);
}

#[tokio::test]
async fn the_ack_says_when_the_os_user_does_not_exist() {
    let (_control_plane, machine, mut link) = open().await;
    let missing = AckOutcome::Installed { os_user_exists: false };
    let bob = Push { user: "bob", ..Push::default() };
    assert_eq!(push(&machine, &mut link, &Push::default()).await, INSTALLED);
    assert_eq!(push(&machine, &mut link, &bob).await, missing);
    assert_eq!(machine.login(&bob).len(), 1, "it is installed all the same");
    machine.write_id_command("exit 0");
    assert_eq!(push(&machine, &mut link, &bob).await, missing, "still remembered");
    machine.clock.advance(Duration::from_secs(5));
    assert_eq!(push(&machine, &mut link, &bob).await, INSTALLED);
}

#[tokio::test]
async fn what_cannot_be_found_out_about_a_user_counts_as_existing() {
    let (_control_plane, machine, mut link) = open().await;
    for (user, script) in [("carol", "exit 127"), ("dave", "kill -9 $$"), ("erin", "exec sleep 600")] {
        machine.write_id_command(script);
        assert_eq!(push(&machine, &mut link, &Push { user, ..Push::default() }).await, INSTALLED, "{script}");
    }
    fs::remove_file(machine.path("id")).unwrap();
    assert_eq!(push(&machine, &mut link, &Push { user: "frank", ..Push::default() }).await, INSTALLED);
}

#[tokio::test]
async fn a_slow_look_up_holds_up_nobody_else() {
    let (_control_plane, machine, mut link) = open().await;
    machine.write_id_command("exec sleep 600");
    let (slow, quick) = (Push { user: "erin", ..Push::default() }, Push { key: 1, ..Push::default() });
    let deadline = machine.clock.in_a_minute();
    let slow_id = link.send_grant(&machine.sign(&slow), deadline).await;
    let quick_id = link.send_grant(&machine.sign(&quick), deadline).await;
    for expected in [quick_id, slow_id] {
        let AgentFrame::Ack(ack) = link.receive().await else { panic!("no ack") };
        assert_eq!((ack.id, ack.outcome), (expected, INSTALLED));
        assert_eq!(machine.sections(&slow), 1, "the file does not wait for the look-up");
    }
}
