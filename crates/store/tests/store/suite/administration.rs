//! What only administration asks a store for.

use crate::engine::Engine;
use crate::fixtures::*;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::inventory::{AccessKey, Status};
use instance_connect_core::sigv4::UsedSignature;
use instance_connect_store::{Entity, StoreError};
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
    let signature = |byte, expires: UnixSeconds| UsedSignature { signature: [byte; 32], expires_at: expires };
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
