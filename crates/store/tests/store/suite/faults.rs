//! What a store holds when others have been at its files, and after a restart.

use crate::engine::{Engine, master_key};
use crate::fixtures::*;
use instance_connect_core::iam::Policy;
use instance_connect_core::inventory::Status;
use instance_connect_core::secret::Secret;
use instance_connect_store::{
    MasterKey, PolicyFault, PolicyOwner, Problem, RedeemError, RedeemRefusal, SealError, StoreError,
};

pub(crate) async fn a_stored_policy_that_cannot_be_evaluated_suspends_whom_it_bears_on(engine: impl Engine) {
    let store = engine.open().await;
    populate(&*store).await;
    let (one, ops, logins) = (account_id(1), group_name("ops"), policy_name("logins"));
    // User 3 has a boundary and nothing else; a policy is nobody's.
    store.create_user(&user_id(3), &one, &user_name("eve")).await.unwrap();
    for name in ["limits", "unused"] {
        store.create_policy(&one, &policy_name(name), PUSH).await.unwrap();
    }
    store.put_user_permissions_boundary(&user_id(3), &policy_name("limits")).await.unwrap();
    let healthy = view(&*store).await;

    let managed = || PolicyOwner::Account(one.clone());
    let cases = [
        ("user_policies", "push", PolicyOwner::User(user_id(1)), &[1][..]),
        ("group_policies", "push", PolicyOwner::Group(one.clone(), ops.clone()), &[1]),
        // Attached to the group of user 1 and to user 2, and the boundary of user 2.
        ("policies", "logins", managed(), &[1, 2]),
        ("policies", "limits", managed(), &[3]),
        ("policies", "unused", managed(), &[]),
    ];
    for (table, name, owner, suspended) in cases {
        engine.tamper(&format!("UPDATE {table} SET document = '{NO_POLICY}' WHERE name = '{name}'"));
        // Also not when an administrator takes the users into use.
        for number in 1..=3 {
            changes!(store.set_user_status(&user_id(number), Status::Active));
        }
        let seen = view(&*store).await;
        for number in 1..=3 {
            let (user, before) = (seen.user(number), healthy.user(number));
            if suspended.contains(&number) {
                assert_eq!((user.status, &user.policies[..]), (Status::Suspended, &[][..]), "{table} {name}");
            } else {
                assert_eq!(user, before, "{table} {name}");
            }
        }
        assert_eq!(seen.users[&root_id(1)], healthy.users[&root_id(1)]);
        let problem = Problem::Policy {
            owner,
            policy: policy_name(name),
            fault: PolicyFault::Unevaluable(Policy::parse(name, NO_POLICY).unwrap_err()),
            suspended: suspended.iter().map(|number| user_id(*number)).collect(),
        };
        assert_eq!(seen.problems, [problem], "{table} {name}");
        engine.tamper(&format!("UPDATE {table} SET document = '{PUSH}' WHERE name = '{name}'"));
        assert_eq!(view(&*store).await.problems, [], "{table} {name}");
    }

    // Two at a time: both say so, and the service mends both.
    engine.tamper(&format!("UPDATE policies SET document = '{NO_POLICY}' WHERE name = 'logins'"));
    engine.tamper(&format!("UPDATE group_policies SET document = '{NO_POLICY}'"));
    let problems = view(&*store).await.problems;
    let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    let (one_user, two_users) = (user_id(1).to_string(), format!("{}, {}", user_id(1), user_id(2)));
    assert!(texts[0].starts_with("policy push of group ops of account 000000000001 cannot be evaluated: "));
    assert!(texts[0].ends_with(&format!("; suspended by that: {one_user}")), "{}", texts[0]);
    assert!(texts[1].starts_with("policy logins of account 000000000001 cannot be evaluated: "));
    assert!(texts[1].ends_with(&format!("; suspended by that: {two_users}")), "{}", texts[1]);
    changes!(store.set_policy_document(&one, &logins, PUSH));
    changes!(store.put_group_policy(&one, &ops, &policy_name("push"), PUSH));
    let seen = view(&*store).await;
    assert_eq!((seen.users, seen.problems), (healthy.users, Vec::new()));
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

    // Another key's secret; then one's own key made another user's, and the root's.
    for tampering in [
        set(1, &format!("sealed_secret = {}", key(2))),
        set(1, &format!("\"user\" = '{}'", user_id(2))),
        set(1, &format!("\"user\" = '{}'", root_id(1))),
    ] {
        let fresh = new_populated(&engine).await;
        fresh.tamper(&tampering);
        let seen = view(&*fresh.open().await).await;
        assert_eq!(seen.problems, [problem(1, SealError::NotThisRow)], "{tampering}");
        assert_eq!(seen.access_keys.into_keys().collect::<Vec<_>>(), [key_id(2), key_id(3)], "{tampering}");
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
