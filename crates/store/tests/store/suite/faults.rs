//! What a store holds when others have been at its files, and after a restart.

use crate::engine::{Engine, master_key};
use crate::fixtures::*;
use instance_connect_core::iam::Policy;
use instance_connect_core::inventory::Status;
use instance_connect_core::secret::Secret;
use instance_connect_store::{MasterKey, Problem, RedeemError, RedeemRefusal, SealError, StoreError};

pub(crate) async fn a_stored_policy_that_no_longer_parses_suspends_its_user(engine: impl Engine) {
    let store = engine.open().await;
    populate(&*store).await;
    let (push, deny) = ("push".parse().unwrap(), "deny".parse().unwrap());
    store.put_user_policy(&user_id(1), &deny, NO_PUSH).await.unwrap();
    store.put_user_policy(&user_id(2), &push, PUSH).await.unwrap();
    let healthy = view(&*store).await;

    engine.tamper(&format!(
        "UPDATE user_policies SET document = '{NO_POLICY}' WHERE \"user\" = '{}' AND name = 'deny'",
        user_id(1)
    ));
    // Also not when an administrator takes the user into use.
    changes!(store.set_user_status(&user_id(1), Status::Active));
    let seen = view(&*store).await;
    assert_eq!((seen.user(1).status, seen.user(1).policies.len()), (Status::Suspended, 0));
    assert_eq!(seen.user(2), healthy.user(2));
    let error = Policy::parse("deny", NO_POLICY).unwrap_err();
    let problem = Problem::Policy { user: user_id(1), policy: Clone::clone(&deny), error };
    assert_eq!(seen.problems, [problem]);

    changes!(store.put_user_policy(&user_id(1), &deny, NO_PUSH));
    let seen = view(&*store).await;
    assert_eq!((seen.user(1), &seen.problems[..]), (healthy.user(1), &[][..]));
}

pub(crate) async fn secrets_are_nowhere_in_clear(engine: impl Engine) {
    let store = engine.open().await;
    populate(&*store).await;
    store.delete_access_key(&key_id(2)).await.unwrap();
    let when_open = engine.raw();
    drop(store);
    for (raw, when) in [(when_open, "open"), (engine.raw(), "closed")] {
        let kept = |text: &[u8]| raw.windows(text.len()).any(|window| window == text);
        // That this looks in the right place: what is public is found there.
        assert!(kept(key_id(1).as_str().as_bytes()) && kept(b"certificate"), "{when}");
        for secret in
            [secret_of(1).as_bytes(), secret_of(2).as_bytes(), b"the private key of agents-ca", &[7; 32]]
        {
            // A part of it is too much as well.
            assert!(!secret.chunks_exact(12).any(kept), "{when}");
        }
    }
}

pub(crate) async fn moved_secrets_do_not_open(engine: impl Engine) {
    let store = engine.open().await;
    populate(&*store).await;
    let key = |number| format!("(SELECT sealed_secret FROM access_keys WHERE id = '{}')", key_id(number));
    let set = |number, what: &str| format!("UPDATE access_keys SET {what} WHERE id = '{}'", key_id(number));
    let problem = |number, error| Problem::AccessKey { key: key_id(number), error };

    // Another key's secret; then one's own key made another user's.
    for tampering in
        [set(1, &format!("sealed_secret = {}", key(2))), set(1, &format!("\"user\" = '{}'", user_id(2)))]
    {
        let fresh = new_populated(&engine).await;
        fresh.tamper(&tampering);
        let seen = view(&*fresh.open().await).await;
        assert_eq!(seen.problems, [problem(1, SealError::NotThisRow)], "{tampering}");
        assert_eq!(seen.access_keys.into_keys().collect::<Vec<_>>(), [key_id(2)], "{tampering}");
    }

    engine.tamper(&set(1, "sealed_secret = (SELECT public FROM authorities)"));
    assert_eq!(view(&*store).await.problems, [problem(1, SealError::Form)]);

    let agents = "agents-ca".parse().unwrap();
    let nodes = "nodes-ca".parse().unwrap();
    store.put_authority(&nodes, b"nodes certificate", &Secret::new(b"nodes key".to_vec())).await.unwrap();
    engine.tamper(
        "UPDATE authorities SET public = (SELECT public FROM authorities WHERE name = 'agents-ca')
         WHERE name = 'nodes-ca'",
    );
    let moved = |answer| matches!(answer, Err(StoreError::Sealed { error: SealError::NotThisRow, .. }));
    assert!(moved(store.authority(&nodes).await));
    assert!(moved(store.put_authority(&nodes, b"", &Secret::new(Vec::new())).await.map(Some)));
    assert!(store.authority(&agents).await.unwrap().is_some());
}

/// One more database of the same kind, with everything in it.
async fn new_populated<E: Engine>(_: &E) -> E {
    let engine = E::new().await;
    populate(&*engine.open().await).await;
    engine
}

pub(crate) async fn another_master_key_is_refused(engine: impl Engine) {
    let before = {
        let store = engine.open().await;
        populate(&*store).await;
        view(&*store).await
    };
    for wrong in [MasterKey::from_bytes([8; 32]), MasterKey::from_bytes([0; 32])] {
        let error = engine.open_with(&wrong).await.unwrap_err();
        assert!(matches!(error, StoreError::WrongMasterKey), "{error:?}");
        assert!(error.to_string().contains("not the master key"), "{error}");
    }
    let store = engine.open_with(&master_key()).await.unwrap();
    assert_eq!(view(&*store).await, before);
}

pub(crate) async fn everything_survives_a_restart(engine: impl Engine) {
    let before = {
        let store = engine.open().await;
        populate(&*store).await;
        store.set_user_status(&user_id(2), Status::Suspended).await.unwrap();
        store.set_access_key_status(&key_id(2), Status::Suspended).await.unwrap();
        view(&*store).await
    };
    assert!(before.sequence > 0);
    let store = engine.open().await;
    assert_eq!(view(&*store).await, before);
    let stored = store.authority(&"agents-ca".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(stored.secret.expose(), b"the private key of agents-ca");
    refuses!(
        store.redeem_join_token(&[1; 32], &instance_id(1), NOW, true),
        RedeemError::Refused(RedeemRefusal::AlreadyUsed)
    );
    changes!(store.redeem_join_token(&[2; 32], &instance_id(2), NOW, false));
}
