//! Host keys: pinned, pending, accepted.

use crate::engine::Engine;
use crate::fixtures::*;
use instance_connect_core::host_key::{HostKeyReport, HostKeys, KnownHostKeys, claimed};
use instance_connect_core::ids::Fingerprint;
use instance_connect_core::inventory::InstanceState;
use instance_connect_store::{Entity, Refusal, Store, StoreError};
use std::collections::BTreeSet;

const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp";
const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBcbDBcIVf5lZW8kHRq1oJ3mVjLIyUdBK5yyrn4hPA5y";

fn keys(lines: &[&str]) -> HostKeys {
    claimed(lines.iter().copied())
}

fn fingerprints(lines: &[&str]) -> BTreeSet<Fingerprint> {
    keys(lines).iter().map(|key| *key.fingerprint()).collect()
}

/// A report by the first agent of an instance, after it has been judged. The sequence stays as it is.
async fn report(store: &dyn Store, instance: u8, lines: &[&str]) -> HostKeyReport {
    let (instance, keys, before) = (instance_id(instance), keys(lines), view(store).await);
    let judged = store.judge_host_keys(&instance, 1, &keys).await.unwrap();
    let reported = store.report_host_keys(&instance, 1, &keys).await.unwrap();
    assert_eq!(judged, reported);
    assert_eq!(view(store).await, before);
    reported
}

async fn known(store: &dyn Store, instance: u8) -> KnownHostKeys {
    store
        .host_keys(&[instance_id(instance)])
        .await
        .unwrap()
        .remove(&instance_id(instance))
        .unwrap_or_default()
}

/// Instances 1 and 2 of account 1, and 3 of account 2, each enrolled.
async fn enrolled(store: &dyn Store) {
    populate(store).await;
    store.redeem_join_token(&[2; 32], &instance_id(2), NOW, false).await.unwrap();
    store.create_account(&account(2)).await.unwrap();
    store.create_instance(&instance(3, 2)).await.unwrap();
    store.create_join_token(&token(3, 3), NOW).await.unwrap();
    store.redeem_join_token(&[3; 32], &instance_id(3), NOW, false).await.unwrap();
}

pub(crate) async fn the_first_host_keys_are_pinned_and_others_wait(engine: impl Engine) {
    let store = engine.open().await;
    enrolled(&*store).await;
    assert_eq!(known(&*store, 1).await, KnownHostKeys::default());
    assert_eq!(report(&*store, 1, &[]).await, HostKeyReport::Known);
    assert_eq!(report(&*store, 1, &[A]).await, HostKeyReport::Pinned);
    assert_eq!(report(&*store, 1, &[A]).await, HostKeyReport::Known);
    assert_eq!(report(&*store, 1, &[B]).await, HostKeyReport::Pending);
    assert_eq!(report(&*store, 1, &[B]).await, HostKeyReport::Known);
    // Whoever starts again knows both.
    let store = engine.open().await;
    assert_eq!(known(&*store, 1).await, KnownHostKeys { pinned: keys(&[A]), pending: keys(&[B]) });
    assert_eq!(report(&*store, 1, &[A]).await, HostKeyReport::Pinned);
    assert_eq!(known(&*store, 1).await, KnownHostKeys { pinned: keys(&[A]), pending: HostKeys::new() });
    assert!(store.host_keys(&[instance_id(2), instance_id(9)]).await.unwrap().is_empty());
}

pub(crate) async fn another_instances_host_key_is_never_pinned(engine: impl Engine) {
    let store = engine.open().await;
    enrolled(&*store).await;
    report(&*store, 1, &[A]).await;
    assert_eq!(report(&*store, 2, &[A, B]).await, HostKeyReport::InUse(instance_id(1)));
    assert_eq!(report(&*store, 2, &[A, B]).await, HostKeyReport::Known);
    assert_eq!(known(&*store, 2).await, KnownHostKeys { pinned: HostKeys::new(), pending: keys(&[A, B]) });
    let accepted = store.accept_host_keys(&instance_id(2), &fingerprints(&[A, B]), None).await.unwrap_err();
    assert!(matches!(accepted, StoreError::Refused(Refusal::HostKeyInUse(other)) if other == instance_id(1)));
    // One that is only claimed is nobody's, and another account learns nothing.
    assert_eq!(report(&*store, 1, &[B]).await, HostKeyReport::Pending);
    assert_eq!(report(&*store, 3, &[A]).await, HostKeyReport::Pinned);
    // Nor does a machine that is gone stand in the way.
    store.set_instance_state(&instance_id(1), InstanceState::Terminated, NOW).await.unwrap();
    store.accept_host_keys(&instance_id(2), &fingerprints(&[A, B]), None).await.unwrap();
    assert_eq!(known(&*store, 2).await.pinned, keys(&[A, B]));
}

/// An agent has claimed a key before the machine that has it came.
pub(crate) async fn a_claimed_host_key_is_taken_from_the_instance_that_is_named(engine: impl Engine) {
    let store = engine.open().await;
    enrolled(&*store).await;
    report(&*store, 1, &[A, B]).await;
    assert_eq!(report(&*store, 2, &[A]).await, HostKeyReport::InUse(instance_id(1)));
    let accept = async |take_from: Option<u8>| {
        let take_from = take_from.map(instance_id);
        store.accept_host_keys(&instance_id(2), &fingerprints(&[A]), take_from.as_ref()).await
    };
    // Not in silence, and not from one that does not have it: another account's has it, and stays known by it.
    assert_eq!(report(&*store, 3, &[A]).await, HostKeyReport::Pinned);
    let refused = accept(None).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(Refusal::HostKeyInUse(other)) if other == instance_id(1)));
    for not_it in [2, 3, 9] {
        let refused = accept(Some(not_it)).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Refused(Refusal::HostKeyNotInUse(other)) if other == instance_id(not_it))
        );
    }
    assert_eq!(known(&*store, 1).await.pinned, keys(&[A, B]), "a refused call changes nothing");

    assert_eq!(accept(Some(1)).await.unwrap(), keys(&[A]));
    assert_eq!(known(&*store, 2).await, KnownHostKeys { pinned: keys(&[A]), pending: HostKeys::new() });
    assert_eq!(known(&*store, 1).await, KnownHostKeys { pinned: keys(&[B]), pending: HostKeys::new() });
    assert_eq!(known(&*store, 3).await.pinned, keys(&[A]));
    // From now on it is the other one that is not believed.
    assert_eq!(report(&*store, 1, &[A, B]).await, HostKeyReport::InUse(instance_id(2)));
}

/// An agent that has lied is not believed the next time because what it had claimed was taken from it.
pub(crate) async fn whom_a_host_key_was_taken_from_has_no_second_first_report(engine: impl Engine) {
    let store = engine.open().await;
    enrolled(&*store).await;
    let take = async |line: &str| {
        let liar = instance_id(1);
        store.accept_host_keys(&instance_id(2), &fingerprints(&[line]), Some(&liar)).await.unwrap();
    };
    let waiting = |lines| KnownHostKeys { pinned: HostKeys::new(), pending: keys(lines) };
    report(&*store, 1, &[A]).await;
    report(&*store, 2, &[A]).await;
    take(A).await;
    assert_eq!(known(&*store, 1).await, waiting(&[A]));
    assert_eq!(report(&*store, 1, &[A]).await, HostKeyReport::Known);
    let accepted = store.accept_host_keys(&instance_id(1), &fingerprints(&[A]), None).await.unwrap_err();
    assert!(matches!(accepted, StoreError::Refused(Refusal::HostKeyInUse(other)) if other == instance_id(2)));
    assert_eq!(report(&*store, 1, &[B]).await, HostKeyReport::Pending);
    assert_eq!(known(&*store, 1).await, waiting(&[B]));
    // Until an administrator has looked. What it has claimed last stays what is to be accepted.
    store.accept_host_keys(&instance_id(1), &fingerprints(&[B]), None).await.unwrap();
    report(&*store, 1, &[A, B]).await;
    report(&*store, 2, &[B]).await;
    take(B).await;
    assert_eq!(known(&*store, 1).await, waiting(&[A, B]));
}

pub(crate) async fn host_keys_are_accepted_as_they_were_shown(engine: impl Engine) {
    let store = engine.open().await;
    enrolled(&*store).await;
    report(&*store, 1, &[A]).await;
    let nothing = store.accept_host_keys(&instance_id(1), &BTreeSet::new(), None).await.unwrap_err();
    assert!(matches!(nothing, StoreError::Refused(Refusal::OtherHostKeys)));
    report(&*store, 1, &[B]).await;
    for shown in [&[A][..], &[A, B], &[]] {
        let refused = store.accept_host_keys(&instance_id(1), &fingerprints(shown), None).await.unwrap_err();
        assert!(matches!(refused, StoreError::Refused(Refusal::OtherHostKeys)), "{shown:?}");
        assert_eq!(known(&*store, 1).await, KnownHostKeys { pinned: keys(&[A]), pending: keys(&[B]) });
    }
    store.accept_host_keys(&instance_id(1), &fingerprints(&[B]), None).await.unwrap();
    assert_eq!(known(&*store, 1).await, KnownHostKeys { pinned: keys(&[B]), pending: HostKeys::new() });
    let missing = store.accept_host_keys(&instance_id(9), &fingerprints(&[B]), None).await.unwrap_err();
    assert!(matches!(missing, StoreError::NotFound(Entity::Instance)));
}

pub(crate) async fn what_a_revoked_identity_reports_does_not_count(engine: impl Engine) {
    let store = engine.open().await;
    enrolled(&*store).await;
    store.create_join_token(&token(4, 1), NOW).await.unwrap();
    assert_eq!(store.redeem_join_token(&[4; 32], &instance_id(1), NOW, true).await.unwrap().used, 2);
    for generation in [0, 1] {
        let late = store.report_host_keys(&instance_id(1), generation, &keys(&[A])).await.unwrap_err();
        assert!(matches!(late, StoreError::NotFound(Entity::Agent)), "{late:?}");
    }
    assert_eq!(known(&*store, 1).await, KnownHostKeys::default());
}
