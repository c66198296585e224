//! What only administration asks a store for.

use crate::engine::Engine;
use crate::fixtures::*;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::ids::Fingerprint;
use instance_connect_core::inventory::{AccessKey, Status};
use instance_connect_core::revocation::{Revocation, SignedPush};
use instance_connect_core::sigv4::UsedSignature;
use instance_connect_store::{Entity, REVOCATIONS, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) async fn the_first_account_is_the_management_account(engine: impl Engine) {
    let store = engine.open().await;
    assert_eq!(view(&*store).await.management_account, None);
    changes!(store.create_account(&account(2)));
    changes!(store.create_account(&account(1)));
    assert_eq!(view(&*engine.open().await).await.management_account, Some(account_id(2)));
}

pub(crate) async fn an_account_comes_with_its_root_and_a_key(engine: impl Engine) {
    let store = engine.open().await;
    let key = AccessKey { user: root_id(1), ..access_key(1, 0) };
    changes!(store.create_account_with_root(&account(1), &key));
    let seen = view(&*store).await;
    assert_eq!(seen.users[&root_id(1)], UserView::root(1));
    assert_eq!(seen.access_keys[&key_id(1)], (secret_of(1), root_id(1), Status::Active));
    let other = AccessKey { user: root_id(2), ..access_key(1, 0) };
    // The key's id is taken: then there is no account either.
    refuses!(
        store.create_account_with_root(&account(2), &other),
        StoreError::AlreadyExists(Entity::AccessKey)
    );
    refuses!(store.create_account_with_root(&account(1), &key), StoreError::AlreadyExists(Entity::Account));
}

pub(crate) async fn account_details_are_what_was_stored(engine: impl Engine) {
    let store = engine.open().await;
    populate(&*store).await;
    changes!(store.create_account(&account(2)));
    changes!(store.create_user(&user_id(3), &account_id(2), &user_name("ann")));
    changes!(store.put_user_policy(&user_id(3), &policy_name("other"), NO_PUSH));

    let details = store.account_details(&account_id(1)).await.unwrap();
    let (logins, push) = (policy_name("logins"), policy_name("push"));
    assert_eq!(details.policies, BTreeMap::from([(logins.clone(), PUSH.to_owned())]));
    assert_eq!(details.users.keys().cloned().collect::<Vec<_>>(), [user_name("ann"), user_name("bob")]);
    let (ann, bob) = (&details.users[&user_name("ann")], &details.users[&user_name("bob")]);
    assert_eq!((&ann.id, ann.status, &ann.boundary), (&user_id(1), Status::Active, &None));
    assert_eq!(ann.inline, BTreeMap::from([(push.clone(), PUSH.to_owned())]));
    assert_eq!(ann.groups, BTreeSet::from([group_name("ops")]));
    assert_eq!((&bob.boundary, &bob.attached), (&Some(logins.clone()), &BTreeSet::from([logins.clone()])));
    assert_eq!(bob.tags, tags(&[("Team", "ops")]));
    let ops = &details.groups[&group_name("ops")];
    assert_eq!(ops.inline, BTreeMap::from([(push, PUSH.to_owned())]));
    assert_eq!(ops.attached, BTreeSet::from([logins]));

    let other = store.account_details(&account_id(2)).await.unwrap();
    assert_eq!(other.users.len(), 1);
    assert!(other.groups.is_empty() && other.policies.is_empty());
}

pub(crate) async fn signatures_are_used_once(engine: impl Engine) {
    let store = engine.open().await;
    let signature = |byte, expires: UnixSeconds| UsedSignature {
        signature: [byte; 32],
        signed_at: NOW,
        expires_at: expires,
    };
    let before = store.sequence().await.unwrap();
    let first = signature(1, later(300));
    assert!(store.use_signature(&first, NOW).await.unwrap());
    assert!(!store.use_signature(&first, NOW).await.unwrap());
    assert!(store.use_signature(&signature(2, later(300)), NOW).await.unwrap());
    // Whoever starts again remembers it.
    let store = engine.open().await;
    assert!(!store.use_signature(&first, later(300)).await.unwrap());
    assert_eq!(store.sequence().await.unwrap(), before);
    // Once it is forgotten, its date is enough, also when the clock has gone back to when it was good.
    assert!(store.use_signature(&signature(3, later(1000)), later(400)).await.unwrap());
    assert!(!store.use_signature(&first, NOW).await.unwrap());
    assert!(!store.use_signature(&signature(4, later(300)), NOW).await.unwrap());
    assert!(!store.use_signature(&signature(3, later(1000)), NOW).await.unwrap());
}

fn revocation(instance: Option<u8>, principal: Option<&str>, at: UnixSeconds) -> Revocation {
    let (instance, principal) = (instance.map(instance_id), principal.map(str::to_owned));
    Revocation { instance, fingerprint: Some(Fingerprint::from_bytes([7; 32])), principal, at }
}

/// What is kept for an account, latest first.
async fn revoked(store: &dyn Store, account: u8) -> Vec<Revocation> {
    let snapshot = store.inventory().await.unwrap().inventory;
    let mut kept = snapshot.revocations.0.get(&account_id(account)).cloned().unwrap_or_default();
    kept.sort_by_key(|revocation| std::cmp::Reverse(revocation.at));
    kept
}

pub(crate) async fn revocations_are_kept_while_a_signature_can_be_good(engine: impl Engine) {
    const DAY: i64 = 24 * 60 * 60;
    let store = engine.open().await;
    store.create_account(&account(1)).await.unwrap();
    store.create_account(&account(2)).await.unwrap();
    let of_bob = revocation(None, Some("arn:aws:iam::000000000001:user/bob"), NOW);
    changes!(store.put_revocation(&account_id(1), &of_bob));
    let later_one = revocation(Some(1), None, later(60));
    changes!(store.put_revocation(&account_id(1), &later_one));
    drop(store);
    let store = engine.open().await;
    assert_eq!(revoked(&*store, 1).await, [later_one.clone(), of_bob.clone()]);
    assert_eq!(revoked(&*store, 2).await, []);
    // The same once more: the later time counts, also where the clock has gone back.
    let again = Revocation { at: later(90), ..of_bob.clone() };
    store.put_revocation(&account_id(1), &again).await.unwrap();
    store.put_revocation(&account_id(1), &of_bob).await.unwrap();
    assert_eq!(revoked(&*store, 1).await, [again.clone(), later_one]);
    // A presigned request is good for a week.
    let next = revocation(Some(2), None, later(7 * DAY + 90));
    store.put_revocation(&account_id(2), &next).await.unwrap();
    assert_eq!(revoked(&*store, 1).await.len(), 2);
    let next = revocation(Some(2), None, later(8 * DAY + 70));
    store.put_revocation(&account_id(2), &next).await.unwrap();
    assert_eq!(revoked(&*store, 1).await, [again]);
}

/// One account can neither fill the store nor bring back what it has revoked, and takes nothing from others.
pub(crate) async fn revocations_are_bounded(engine: impl Engine) {
    let store = engine.open().await;
    store.create_account(&account(1)).await.unwrap();
    store.create_account(&account(2)).await.unwrap();
    let of_another = revocation(Some(1), None, NOW);
    store.put_revocation(&account_id(2), &of_another).await.unwrap();
    let count = i64::from(REVOCATIONS) + 3;
    for number in 1..=count {
        let each = revocation(None, Some(&format!("arn:{number}")), later(number));
        store.put_revocation(&account_id(1), &each).await.unwrap();
    }
    let kept = revoked(&*store, 1).await;
    assert_eq!(kept.len(), usize::try_from(REVOCATIONS).unwrap());
    // The four oldest are one that stands for everything.
    let everything = Revocation { instance: None, fingerprint: None, principal: None, at: later(4) };
    assert_eq!((kept.last(), kept[0].at), (Some(&everything), later(count)));
    assert_eq!(revoked(&*store, 2).await, [of_another]);
}

/// Whoever may revoke on one instance, and makes up fingerprints, keeps nobody from another one, and brings nothing back.
pub(crate) async fn many_revocations_on_one_instance_keep_nobody_from_another(engine: impl Engine) {
    const ALICE: &str = "arn:aws:iam::000000000001:user/alice";
    let [key, lost_key] = [1, 2].map(|byte| Fingerprint::from_bytes([byte; 32]));
    let made_up = |number: i64| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Fingerprint::from_bytes(bytes)
    };
    let store = engine.open().await;
    store.create_account(&account(1)).await.unwrap();
    let put = async |revocation: Revocation| {
        store.put_revocation(&account_id(1), &revocation).await.unwrap();
    };
    let of_bob = Revocation { fingerprint: None, ..revocation(None, Some("arn:bob"), NOW) };
    put(of_bob).await;
    let elsewhere = Revocation { fingerprint: Some(lost_key), ..revocation(Some(2), None, NOW) };
    put(elsewhere).await;
    let count = i64::from(REVOCATIONS) + 3;
    for number in 1..=count {
        let principal = (number % 2 == 0).then_some("arn:carol");
        let fingerprint = Some(made_up(number));
        put(Revocation { fingerprint, ..revocation(Some(1), principal, later(number)) }).await;
    }

    let kept = store.inventory().await.unwrap().inventory.revocations;
    assert_eq!(kept.0[&account_id(1)].len(), usize::try_from(REVOCATIONS).unwrap());
    let is_refused = |instance, fingerprint, principal, signed_at| {
        let (account, instance) = (account_id(1), instance_id(instance));
        let push = SignedPush { account: &account, instance: &instance, fingerprint, principal, signed_at };
        kept.admit(&push).is_err()
    };
    // What was pushed to another instance before all that is as good as before, and what was revoked there stays so.
    assert!(!is_refused(2, key, ALICE, NOW));
    assert!(is_refused(2, lost_key, ALICE, NOW));
    assert!(is_refused(2, key, "arn:bob", NOW));
    // The six oldest of the attacked instance stand for all its keys, and each of the attacker's for itself.
    assert!(is_refused(1, key, ALICE, later(6)) && !is_refused(1, key, ALICE, later(7)));
    for number in 1..=count {
        assert!(is_refused(1, made_up(number), "arn:carol", later(number)), "{number}");
    }
}
