//! Several callers at one moment.

use crate::engine::Engine;
use crate::fixtures::*;
use instance_connect_core::inventory::StockChange;
use instance_connect_core::secret::Secret;
use instance_connect_store::{RedeemError, RedeemRefusal, Refusal, Store, StoreError};
use std::sync::Arc;
use tokio::sync::Barrier;

/// Starts the same call on all `stores` at one moment and returns what each said.
async fn race<T: Send + 'static, F: Future<Output = T> + Send>(
    stores: Vec<Arc<dyn Store>>,
    call: impl Fn(Arc<dyn Store>, u8) -> F + Clone + Send + Sync + 'static,
) -> Vec<T> {
    let start = Arc::new(Barrier::new(stores.len()));
    let racers: Vec<_> = stores
        .into_iter()
        .zip(0..)
        .map(|(store, number)| {
            let (start, call) = (Arc::clone(&start), call.clone());
            tokio::spawn(async move {
                start.wait().await;
                call(store, number).await
            })
        })
        .collect();
    let mut answers = Vec::new();
    for racer in racers {
        answers.push(racer.await.unwrap());
    }
    answers
}

/// Eight callers over four connections: as processes race, and as callers of one process do.
async fn racers(engine: &impl Engine) -> Vec<Arc<dyn Store>> {
    let mut stores = Vec::new();
    for _ in 0..4 {
        let store = engine.open().await;
        stores.extend([Arc::clone(&store), store]);
    }
    stores
}

pub(crate) async fn of_many_that_rotate_one_does(engine: impl Engine) {
    let store = engine.open().await;
    let racers = racers(&engine).await;
    for from in 0..8 {
        let answers = race(racers.clone(), move |store, _| async move {
            store.change_stock_signer(from, StockChange::Due, NOW).await
        })
        .await;
        let late = |answer: &_| matches!(answer, Err(StoreError::Refused(Refusal::StockChange)));
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| late(*answer)).count(), answers.len() - 1, "{answers:?}");
        assert_eq!(store.stock_rotation().await.unwrap().current, from + 1);
    }
}

pub(crate) async fn a_token_is_redeemed_once_however_many_try(engine: impl Engine) {
    let store = engine.open().await;
    store.create_account(&account(1)).await.unwrap();
    store.create_instance(&instance(1, 1)).await.unwrap();
    let racers = racers(&engine).await;
    for round in 1..=8 {
        store.create_join_token(&token(round, 1), NOW).await.unwrap();
        let before = store.sequence().await.unwrap();
        let answers = race(racers.clone(), move |store, _| async move {
            store.redeem_join_token(&[round; 32], &instance_id(1), NOW, true).await
        })
        .await;
        let used = |answer: &_| matches!(answer, Err(RedeemError::Refused(RedeemRefusal::AlreadyUsed)));
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| used(*answer)).count(), answers.len() - 1, "{answers:?}");
        assert_eq!(store.sequence().await.unwrap(), before + 1);
        assert_eq!(view(&*store).await.agents[&instance_id(1)].newest, u64::from(round));
    }
}

pub(crate) async fn one_enrolment_wins_without_replace(engine: impl Engine) {
    let store = engine.open().await;
    store.create_account(&account(1)).await.unwrap();
    store.create_instance(&instance(1, 1)).await.unwrap();
    let racers = racers(&engine).await;
    for number in 0..8 {
        store.create_join_token(&token(number, 1), NOW).await.unwrap();
    }
    let answers = race(racers, |store, number| async move {
        store.redeem_join_token(&[number; 32], &instance_id(1), NOW, false).await
    })
    .await;
    let enrolled = |answer: &_| matches!(answer, Err(RedeemError::Refused(RedeemRefusal::AlreadyEnrolled)));
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| enrolled(*answer)).count(), answers.len() - 1, "{answers:?}");
    assert_eq!(view(&*store).await.agents[&instance_id(1)].newest, 1);
}

pub(crate) async fn nobody_is_host_and_guest_however_many_try(engine: impl Engine) {
    let store = engine.open().await;
    store.create_account(&account(1)).await.unwrap();
    for number in 0..4 {
        store.create_instance(&instance(number, 1)).await.unwrap();
    }
    let racers = racers(&engine).await;
    for _ in 0..8 {
        // In a ring, so that each is asked to be a guest by one and a host by another.
        let answers = race(racers.clone(), |store, number| async move {
            let [guest, host] = [number % 4, (number + 1) % 4].map(instance_id);
            store.set_instance_host(&guest, Some(&host)).await
        })
        .await;
        let refused = |answer: &_| {
            matches!(answer, Err(StoreError::Refused(Refusal::HostIsGuest | Refusal::GuestIsHost)))
        };
        assert!(answers.iter().all(|answer| answer.is_ok() || refused(answer)), "{answers:?}");
        assert!(answers.iter().any(Result::is_ok) && answers.iter().any(refused), "{answers:?}");
        let seen = view(&*store).await.instances;
        let hosts = seen.values().filter_map(|instance| instance.host.as_ref());
        assert!(hosts.clone().count() > 0 && hosts.clone().all(|host| seen[host].host.is_none()), "{seen:?}");
        for number in 0..4 {
            store.set_instance_host(&instance_id(number), None).await.unwrap();
        }
    }
}

pub(crate) async fn starters_agree_on_an_authority(engine: impl Engine) {
    let stores = racers(&engine).await;
    let answers = race(stores, |store, number| async move {
        let secret = Secret::new(vec![number; 32]);
        let stored = store.put_authority(&"root".parse().unwrap(), &[number; 4], &secret).await.unwrap();
        (stored.public, stored.secret.expose().to_vec())
    })
    .await;
    let (public, secret) = answers[0].clone();
    assert_eq!(public[0], secret[0]);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(engine.open().await.sequence().await.unwrap(), 1);
}

pub(crate) async fn limits_hold_however_many_attach(engine: impl Engine) {
    let store = engine.open().await;
    store.create_account(&account(1)).await.unwrap();
    store.create_user(&user_id(1), &account_id(1), &user_name("ann")).await.unwrap();
    let name = |number| policy_name(&format!("p{number}"));
    for number in 0..14 {
        store.create_policy(&account_id(1), &name(number), PUSH).await.unwrap();
    }
    for number in 8..14 {
        store.attach_user_policy(&user_id(1), &name(number)).await.unwrap();
    }
    let answers = race(racers(&engine).await, move |store, number| async move {
        store.attach_user_policy(&user_id(1), &name(number)).await
    })
    .await;
    let refused = |answer: &_| matches!(answer, Err(StoreError::Refused(Refusal::TooManyPolicies)));
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 4, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| refused(*answer)).count(), 4, "{answers:?}");
    assert_eq!(view(&*store).await.user(1).policies.len(), 10);
}

pub(crate) async fn a_policy_is_attached_or_deleted_never_both(engine: impl Engine) {
    let store = engine.open().await;
    let (one, logins) = (account_id(1), policy_name("logins"));
    store.create_account(&account(1)).await.unwrap();
    for number in 0..8 {
        store.create_user(&user_id(number), &one, &user_name(&format!("user{number}"))).await.unwrap();
    }
    let racers = racers(&engine).await;
    for _ in 0..8 {
        store.create_policy(&one, &logins, PUSH).await.unwrap();
        let answers = race(racers.clone(), |store, number| async move {
            let logins = policy_name("logins");
            match number % 4 {
                0 => store.attach_user_policy(&user_id(number), &logins).await,
                1 => store.put_user_permissions_boundary(&user_id(number), &logins).await,
                _ => store.delete_policy(&account_id(1), &logins).await,
            }
        })
        .await;
        let (uses, deletions): (Vec<_>, Vec<_>) =
            answers.iter().zip(0..).partition(|(_, number)| number % 4 < 2);
        let deleted = deletions.iter().filter(|(answer, _)| answer.is_ok()).count();
        let used = uses.iter().filter(|(answer, _)| answer.is_ok()).count();
        assert!((deleted, used) == (1, 0) || (deleted, used) == (0, uses.len()), "{answers:?}");
        let seen = view(&*store).await;
        assert!(seen.problems.is_empty(), "{:?}", seen.problems);
        for number in (0..8).filter(|_| deleted == 0) {
            match number % 4 {
                0 => store.detach_user_policy(&user_id(number), &logins).await.unwrap(),
                1 => store.delete_user_permissions_boundary(&user_id(number)).await.unwrap(),
                _ => {}
            }
        }
        if deleted == 0 {
            store.delete_policy(&one, &logins).await.unwrap();
        }
    }
}

pub(crate) async fn a_snapshot_is_of_one_moment(engine: impl Engine) {
    let (writer, reader) = (engine.open().await, engine.open().await);
    writer.create_account(&account(1)).await.unwrap();
    writer.create_instance(&instance(1, 1)).await.unwrap();
    let first = writer.sequence().await.unwrap();
    // Each change replaces every tag; which tags belong to a moment follows from its sequence.
    let tags_at = move |sequence: u64| {
        let (count, value) = if (sequence - first).is_multiple_of(2) { (30, "even") } else { (40, "odd") };
        (0..count).map(|n| (format!("{value} {n}"), sequence.to_string())).collect()
    };
    writer.put_instance_tags(&instance_id(1), &tags_at(first + 1)).await.unwrap();
    let writing = tokio::spawn(async move {
        for sequence in first + 2..=first + 60 {
            writer.put_instance_tags(&instance_id(1), &tags_at(sequence)).await.unwrap();
        }
    });
    let mut written = false;
    while !written {
        written = writing.is_finished();
        let seen = view(&*reader).await;
        assert_eq!(seen.instances[&instance_id(1)].tags, tags_at(seen.sequence), "at {}", seen.sequence);
    }
    writing.await.unwrap();
    assert_eq!(view(&*reader).await.sequence, first + 60);
}
