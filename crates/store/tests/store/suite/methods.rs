//! Each method: what it does, and how it refuses.

use crate::engine::Engine;
use crate::fixtures::*;
use instance_connect_core::audit::OperatorAction;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::ids::InstanceId;
use instance_connect_core::inventory::{
    AgentChange, AgentIdentity, AgentState, AnchorChange, AnchorRotation, Instance, InstanceDetails,
    InstanceState, Inventory, JoinToken, Status, StockChange, StockRotation,
};
use instance_connect_core::secret::Secret;
use instance_connect_store::{
    Entity, InstanceChange, RedeemError, RedeemRefusal, Refusal, StoreError, TAG_KEY, TAG_VALUE, TAGS,
};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) async fn accounts(engine: impl Engine) {
    let store = engine.open().await;
    assert_eq!(view(&*store).await, View::default());
    changes!(store.create_account(&account(1)));
    changes!(store.create_account(&account(2)));
    refuses!(store.create_account(&account(1)), StoreError::AlreadyExists(Entity::Account));

    changes!(store.set_account_status(&account_id(1), Status::Suspended));
    changes!(store.set_serial_console_access(&account_id(2), true));
    let seen = view(&*store).await.accounts;
    assert_eq!(seen[&account_id(1)].status, Status::Suspended);
    assert!(seen[&account_id(2)].serial_console_access);
    changes!(store.set_account_status(&account_id(1), Status::Active));
    changes!(store.set_serial_console_access(&account_id(2), false));
    let seen: Vec<_> = view(&*store).await.accounts.into_values().collect();
    assert_eq!(seen, [account(1), account(2)]);

    refuses!(store.set_account_status(&account_id(3), Status::Active), StoreError::NotFound(Entity::Account));
    refuses!(store.set_serial_console_access(&account_id(3), true), StoreError::NotFound(Entity::Account));
}

pub(crate) async fn users(engine: impl Engine) {
    let store = engine.open().await;
    let (ann, upper_ann) = (user_name("ann"), user_name("ANN"));
    refuses!(store.create_user(&user_id(1), &account_id(1), &ann), StoreError::NotFound(Entity::Account));
    changes!(store.create_account(&account(1)));
    changes!(store.create_account(&account(2)));
    changes!(store.create_user(&user_id(1), &account_id(1), &ann));
    refuses!(
        store.create_user(&user_id(1), &account_id(1), &user_name("bob")),
        StoreError::AlreadyExists(Entity::User)
    );
    refuses!(
        store.create_user(&user_id(2), &account_id(1), &upper_ann),
        StoreError::AlreadyExists(Entity::UserName)
    );
    changes!(store.create_user(&user_id(2), &account_id(2), &upper_ann));

    changes!(store.set_user_status(&user_id(1), Status::Suspended));
    let seen = view(&*store).await;
    let expected = |account, name, status| UserView { status, ..UserView::new(account, name) };
    assert_eq!(*seen.user(1), expected(1, &ann, Status::Suspended));
    assert_eq!(*seen.user(2), expected(2, &upper_ann, Status::Active));
    changes!(store.set_user_status(&user_id(1), Status::Active));
    assert_eq!(*view(&*store).await.user(1), expected(1, &ann, Status::Active));
    refuses!(store.set_user_status(&user_id(3), Status::Active), StoreError::NotFound(Entity::User));
}

pub(crate) async fn user_policies(engine: impl Engine) {
    let store = engine.open().await;
    let (push, zzz) = ("push".parse().unwrap(), "zzz".parse().unwrap());
    refuses!(store.put_user_policy(&user_id(1), &push, PUSH), StoreError::NotFound(Entity::User));
    changes!(store.create_account(&account(1)));
    changes!(store.create_user(&user_id(1), &account_id(1), &user_name("ann")));
    changes!(store.create_user(&user_id(2), &account_id(1), &user_name("bob")));

    changes!(store.put_user_policy(&user_id(1), &zzz, PUSH));
    changes!(store.put_user_policy(&user_id(1), &push, PUSH));
    assert_eq!(view(&*store).await.user(1).policies, [parsed("push", PUSH), parsed("zzz", PUSH)]);
    assert!(view(&*store).await.user(2).policies.is_empty());
    changes!(store.put_user_policy(&user_id(1), &push, NO_PUSH));
    assert_eq!(view(&*store).await.user(1).policies, [parsed("push", NO_PUSH), parsed("zzz", PUSH)]);
    for document in [NO_POLICY, "", "{", "null"] {
        refuses!(
            store.put_user_policy(&user_id(1), &push, document),
            StoreError::Refused(Refusal::Policy(_))
        );
    }

    changes!(store.delete_user_policy(&user_id(1), &push));
    assert_eq!(view(&*store).await.user(1).policies, [parsed("zzz", PUSH)]);
    refuses!(store.delete_user_policy(&user_id(1), &push), StoreError::NotFound(Entity::Policy));
    refuses!(store.delete_user_policy(&user_id(2), &zzz), StoreError::NotFound(Entity::Policy));
    refuses!(store.delete_user_policy(&user_id(3), &push), StoreError::NotFound(Entity::User));
}

pub(crate) async fn access_keys(engine: impl Engine) {
    let store = engine.open().await;
    refuses!(store.create_access_key(&access_key(1, 1)), StoreError::NotFound(Entity::User));
    changes!(store.create_account(&account(1)));
    changes!(store.create_user(&user_id(1), &account_id(1), &user_name("ann")));
    changes!(store.create_user(&user_id(2), &account_id(1), &user_name("bob")));
    changes!(store.create_access_key(&access_key(1, 1)));
    changes!(store.create_access_key(&access_key(2, 1)));
    let too_many = StoreError::Refused(Refusal::TooManyAccessKeys);
    assert_eq!(
        store.create_access_key(&access_key(3, 1)).await.unwrap_err().to_string(),
        too_many.to_string()
    );
    refuses!(store.create_access_key(&access_key(1, 2)), StoreError::AlreadyExists(Entity::AccessKey));

    changes!(store.set_access_key_status(&key_id(2), Status::Suspended));
    let expected = |number, status| (key_id(number), (secret_of(number), user_id(1), status));
    let seen: Vec<_> = view(&*store).await.access_keys.into_iter().collect();
    assert_eq!(seen, [expected(1, Status::Active), expected(2, Status::Suspended)]);
    changes!(store.set_access_key_status(&key_id(2), Status::Active));
    assert_eq!(view(&*store).await.access_keys[&key_id(2)].2, Status::Active);

    changes!(store.delete_access_key(&key_id(1)));
    assert!(!view(&*store).await.access_keys.contains_key(&key_id(1)));
    refuses!(store.delete_access_key(&key_id(1)), StoreError::NotFound(Entity::AccessKey));
    refuses!(
        store.set_access_key_status(&key_id(1), Status::Active),
        StoreError::NotFound(Entity::AccessKey)
    );
}

pub(crate) async fn instances(engine: impl Engine) {
    let store = engine.open().await;
    refuses!(store.create_instance(&instance(1, 1)), StoreError::NotFound(Entity::Account));
    changes!(store.create_account(&account(1)));
    changes!(store.create_instance(&instance(1, 1)));
    changes!(store.create_instance(&instance(2, 1)));
    refuses!(store.create_instance(&instance(1, 1)), StoreError::AlreadyExists(Entity::Instance));

    for state in InstanceState::ALL {
        changes!(store.set_instance_state(&instance_id(1), state, NOW));
        assert_eq!(view(&*store).await.instances[&instance_id(1)].state, state);
    }
    let launched = async || view(&*store).await.instances[&instance_id(1)].launched_at;
    for (state, at, expected) in [
        (InstanceState::Running, 1, 1),
        (InstanceState::Running, 2, 1),
        (InstanceState::Stopped, 3, 1),
        (InstanceState::Running, 4, 4),
    ] {
        changes!(store.set_instance_state(&instance_id(1), state, later(at)));
        assert_eq!(launched().await, later(expected), "{state:?} {at}");
    }
    changes!(store.put_instance_details(&instance_id(1), &details()));
    assert_eq!(view(&*store).await.instances[&instance_id(1)].details, details());
    changes!(store.put_instance_details(&instance_id(1), &InstanceDetails::default()));
    assert_eq!(view(&*store).await.instances[&instance_id(1)].details, InstanceDetails::default());
    let detailed = Instance { details: details(), ..instance(4, 1) };
    changes!(store.create_instance(&detailed));
    assert_eq!(view(&*store).await.instances[&instance_id(4)], detailed);
    refuses!(store.put_instance_details(&instance_id(3), &details()), StoreError::NotFound(Entity::Instance));
    let new_tags = tags(&[("Name", "db"), ("Ümlaut ключ", ""), ("name", "'; DROP TABLE instances; --")]);
    changes!(store.put_instance_tags(&instance_id(1), &new_tags));
    let seen = view(&*store).await.instances;
    assert_eq!(seen[&instance_id(1)].tags, new_tags);
    assert_eq!(seen[&instance_id(2)], instance(2, 1));
    changes!(store.put_instance_tags(&instance_id(1), &tags(&[])));
    assert!(view(&*store).await.instances[&instance_id(1)].tags.is_empty());

    refuses!(
        store.set_instance_state(&instance_id(3), InstanceState::Running, NOW),
        StoreError::NotFound(Entity::Instance)
    );
    refuses!(store.put_instance_tags(&instance_id(3), &tags(&[])), StoreError::NotFound(Entity::Instance));
}

/// Which of the instances an inventory has from the one it was loaded since, and has not read again.
fn kept(known: &Inventory, since: &Inventory) -> Vec<InstanceId> {
    let is_kept =
        |it: &&Arc<Instance>| known.instances.get(&it.id).is_some_and(|known| Arc::ptr_eq(known, it));
    let kept: BTreeSet<_> = since.instances.values().filter(is_kept).map(|it| it.id.clone()).collect();
    kept.into_iter().collect()
}

pub(crate) async fn only_the_instances_that_have_changed_are_read_again(engine: impl Engine) {
    let store = engine.open().await;
    populate(&*store).await;
    for number in 3..=5 {
        store.create_instance(&instance(number, 1)).await.unwrap();
    }
    let known = Arc::new(store.inventory().await.unwrap().inventory);
    let since = async |known: &Arc<Inventory>| {
        let since = store.inventory_since(Arc::clone(known)).await.unwrap();
        assert_eq!(view_of(since.clone()), view(&*store).await);
        since.inventory
    };
    let [one, two, three, four, five] = [1, 2, 3, 4, 5].map(instance_id);
    assert_eq!(kept(&known, &since(&known).await), [&one, &two, &three, &four, &five].map(Clone::clone));
    // What its agent says leaves the sequence as it is, and is told with the next change.
    store.change_agent(&one, AgentChange::TrustAnchors { set: 3 }).await.unwrap();
    assert_eq!(since(&known).await.agents[&one].anchor_set, 3);
    store.set_account_status(&account_id(1), Status::Suspended).await.unwrap();
    let suspended = Arc::new(since(&known).await);
    assert_eq!(kept(&known, &suspended), [&two, &three, &four, &five].map(Clone::clone));
    store.put_instance_tags(&three, &tags(&[])).await.unwrap();
    store.set_instance_host(&two, None).await.unwrap();
    assert_eq!(kept(&suspended, &since(&suspended).await), [&one, &four, &five].map(Clone::clone));
    assert_eq!(kept(&known, &since(&known).await), [four, five]);
}

pub(crate) async fn whoever_knows_another_history_reads_all_again(engine: impl Engine) {
    let store = engine.open().await;
    populate(&*store).await;
    let known = store.inventory().await.unwrap().inventory;
    for (sequence, change_id) in [
        // What was never there: a step of another store, one of which nobody has heard, and none at all.
        (known.sequence, [7; 16]),
        (known.sequence + 1, known.change_id),
        (u64::MAX, known.change_id),
        (0, [0; 16]),
    ] {
        let instances = [Instance { state: InstanceState::Stopped, ..instance(9, 1) }];
        let instances = instances.into_iter().map(Arc::new).collect();
        let other = Inventory { sequence, change_id, instances, ..known.clone() };
        let read = store.inventory_since(Arc::new(other)).await.unwrap();
        assert_eq!(view_of(read), view(&*store).await, "{sequence} {change_id:?}");
    }
}

pub(crate) async fn several_instances_are_changed_all_or_none(engine: impl Engine) {
    let store = engine.open().await;
    changes!(store.create_account(&account(1)));
    for number in [1, 2, 3] {
        changes!(store.create_instance(&instance(number, 1)));
    }
    let tagged = |key: &str| InstanceChange::Tags(tags(&[(key, "")]));
    let stopped = InstanceChange::State(InstanceState::Stopped);
    let [one, two, unknown] = [1, 2, 9].map(instance_id);
    let both = [(one.clone(), tagged("a")), (two.clone(), stopped.clone())].into();
    changes!(store.change_instances(&both, NOW));
    let seen = view(&*store).await.instances;
    assert_eq!((&seen[&one].tags, seen[&one].state), (&tags(&[("a", "")]), InstanceState::Running));
    assert_eq!((&seen[&two].tags, seen[&two].state), (&instance(2, 1).tags, InstanceState::Stopped));
    let with_unknown = [(one.clone(), stopped), (unknown, tagged("b"))].into();
    refuses!(store.change_instances(&with_unknown, NOW), StoreError::NotFound(Entity::Instance));
    let with_bad = [(one, tagged("b")), (two, tagged(""))].into();
    refuses!(store.change_instances(&with_bad, NOW), StoreError::Refused(Refusal::TagKey));
    assert_eq!(view(&*store).await.instances, seen);
}

pub(crate) async fn hosts(engine: impl Engine) {
    let store = engine.open().await;
    changes!(store.create_account(&account(1)));
    changes!(store.create_account(&account(2)));
    let elsewhere = Instance { region: "eu-west-1".parse().unwrap(), ..instance(5, 1) };
    for made in [instance(1, 1), instance(2, 1), instance(3, 1), instance(4, 2), elsewhere] {
        changes!(store.create_instance(&made));
    }
    let [one, two, three, four, five, unknown] = [1, 2, 3, 4, 5, 9].map(instance_id);
    let host_of = async |id| view(&*store).await.instances[id].host.clone();
    assert_eq!(host_of(&two).await, None);

    changes!(store.set_instance_host(&two, Some(&one)));
    changes!(store.set_instance_host(&two, Some(&one)));
    assert_eq!((host_of(&one).await, host_of(&two).await), (None, Some(one.clone())));
    changes!(store.set_instance_host(&two, Some(&three)));
    assert_eq!(host_of(&two).await, Some(three.clone()));

    refuses!(store.set_instance_host(&unknown, Some(&one)), StoreError::NotFound(Entity::Instance));
    refuses!(store.set_instance_host(&unknown, None), StoreError::NotFound(Entity::Instance));
    refuses!(store.set_instance_host(&one, Some(&unknown)), StoreError::NotFound(Entity::Instance));
    refuses!(store.set_instance_host(&one, Some(&one)), StoreError::Refused(Refusal::OwnHost));
    refuses!(store.set_instance_host(&one, Some(&four)), StoreError::Refused(Refusal::HostElsewhere));
    refuses!(store.set_instance_host(&four, Some(&one)), StoreError::Refused(Refusal::HostElsewhere));
    refuses!(store.set_instance_host(&one, Some(&five)), StoreError::Refused(Refusal::HostElsewhere));
    refuses!(store.set_instance_host(&one, Some(&two)), StoreError::Refused(Refusal::HostIsGuest));
    refuses!(store.set_instance_host(&three, Some(&one)), StoreError::Refused(Refusal::GuestIsHost));

    // Whatever becomes of a host, its guests stay that, until somebody says otherwise.
    changes!(store.set_instance_state(&three, InstanceState::Terminated, NOW));
    assert_eq!(host_of(&two).await, Some(three.clone()));
    refuses!(store.set_instance_host(&one, Some(&three)), StoreError::Refused(Refusal::HostTerminated));
    changes!(store.set_instance_host(&two, None));
    changes!(store.set_instance_host(&two, None));
    assert_eq!(host_of(&two).await, None);
    changes!(store.set_instance_host(&one, Some(&two)));

    // An instance that is made as a guest is under the same rules.
    let guest = |host: &InstanceId| Instance { host: Some(host.clone()), ..instance(6, 1) };
    refuses!(store.create_instance(&guest(&one)), StoreError::Refused(Refusal::HostIsGuest));
    refuses!(store.create_instance(&guest(&instance_id(6))), StoreError::Refused(Refusal::OwnHost));
    changes!(store.create_instance(&guest(&two)));
    assert_eq!(host_of(&instance_id(6)).await, Some(two));
}

pub(crate) async fn tags_are_bounded(engine: impl Engine) {
    let store = engine.open().await;
    changes!(store.create_account(&account(1)));
    let (key, value) = ("ä".repeat(TAG_KEY), "ä".repeat(TAG_VALUE));
    let many = |count| (0..count).map(|n| (format!("{n}{}", &key[..100]), value.clone())).collect();
    let full = Instance { tags: many(TAGS), ..instance(1, 1) };
    changes!(store.create_instance(&full));
    changes!(store.put_instance_tags(&instance_id(1), &tags(&[(&key, &value)])));
    assert_eq!(view(&*store).await.instances[&instance_id(1)].tags, tags(&[(&key, &value)]));

    let too_many = many(TAGS + 1);
    refuses!(store.put_instance_tags(&instance_id(1), &too_many), StoreError::Refused(Refusal::TooManyTags));
    for key in ["", "a\0b", "a\nb", &format!("{key}a")] {
        let bad = Instance { tags: tags(&[(key, "")]), ..instance(2, 1) };
        refuses!(store.create_instance(&bad), StoreError::Refused(Refusal::TagKey));
        refuses!(store.put_instance_tags(&instance_id(1), &bad.tags), StoreError::Refused(Refusal::TagKey));
    }
    for value in ["a\0b", "a\nb", &format!("{value}a")] {
        let bad = tags(&[("key", value)]);
        refuses!(store.put_instance_tags(&instance_id(1), &bad), StoreError::Refused(Refusal::TagValue));
    }
}

pub(crate) async fn join_tokens(engine: impl Engine) {
    let store = engine.open().await;
    refuses!(store.create_join_token(&token(1, 1), NOW), StoreError::NotFound(Entity::Instance));
    changes!(store.create_account(&account(1)));
    changes!(store.create_instance(&instance(1, 1)));
    changes!(store.create_join_token(&token(1, 1), NOW));
    changes!(store.create_join_token(&token(2, 1), NOW));
    refuses!(store.create_join_token(&token(1, 1), NOW), StoreError::AlreadyExists(Entity::JoinToken));

    let identity = |generation, enrolled_at| AgentIdentity {
        instance: instance_id(1),
        enrolled: generation,
        used: generation,
        newest: generation,
        enrolled_at,
        state: AgentState::Active,
        anchor_set: 0,
    };
    let first = changes!(store.redeem_join_token(&[1; 32], &instance_id(1), later(1), false));
    assert_eq!(first, identity(1, later(1)));
    assert_eq!(view(&*store).await.agents[&instance_id(1)], first);

    // A refused redemption leaves the token usable; its last second counts.
    use RedeemRefusal::{AlreadyEnrolled, AlreadyUsed};
    refuses!(
        store.redeem_join_token(&[2; 32], &instance_id(1), later(2), false),
        RedeemError::Refused(AlreadyEnrolled)
    );
    let second = changes!(store.redeem_join_token(&[2; 32], &instance_id(1), later(899), true));
    assert_eq!(second, identity(2, later(899)));
    assert_eq!(view(&*store).await.agents[&instance_id(1)], second);
    for number in [1, 2] {
        refuses!(
            store.redeem_join_token(&[number; 32], &instance_id(1), later(3), true),
            RedeemError::Refused(AlreadyUsed)
        );
    }
}

pub(crate) async fn agents(engine: impl Engine) {
    let store = engine.open().await;
    let revoke = AgentChange::Revoke;
    refuses!(store.change_agent(&instance_id(1), revoke), StoreError::NotFound(Entity::Agent));
    changes!(store.create_account(&account(1)));
    changes!(store.create_instance(&instance(1, 1)));
    refuses!(store.change_agent(&instance_id(1), revoke), StoreError::NotFound(Entity::Agent));
    for number in [1, 2, 3] {
        changes!(store.create_join_token(&token(number, 1), NOW));
    }
    changes!(store.redeem_join_token(&[1; 32], &instance_id(1), NOW, false));

    use AgentChange::{Rearm, Renew, Suspend, Use};
    let refused = |change| (change, false);
    for (change, is_made) in [
        (Renew { presented: 1 }, true),
        (Use { generation: 2 }, true),
        refused(Renew { presented: 1 }),
        refused(Rearm),
        (Suspend { presented: 1 }, true),
        refused(Suspend { presented: 1 }),
        refused(Renew { presented: 2 }),
        refused(Use { generation: 2 }),
        (Rearm, true),
        // Issued after the backup that this store was restored from.
        (Use { generation: 9 }, true),
    ] {
        let before = view(&*store).await.agents[&instance_id(1)].clone();
        if is_made {
            let after = changes!(store.change_agent(&instance_id(1), change));
            assert_eq!(Some(&after), before.changed(change).as_ref(), "{change:?}");
            assert_eq!(view(&*store).await.agents[&instance_id(1)], after);
        } else {
            refuses!(store.change_agent(&instance_id(1), change), StoreError::Refused(Refusal::AgentState));
        }
    }

    // Enrolling again ends a suspension, but has to be asked for; a revoked identity is nobody's.
    changes!(store.change_agent(&instance_id(1), Suspend { presented: 9 }));
    refuses!(
        store.redeem_join_token(&[2; 32], &instance_id(1), NOW, false),
        RedeemError::Refused(RedeemRefusal::AlreadyEnrolled)
    );
    let again = changes!(store.redeem_join_token(&[2; 32], &instance_id(1), NOW, true));
    assert_eq!((again.enrolled, again.newest, again.state), (10, 10, AgentState::Active));
    changes!(store.change_agent(&instance_id(1), revoke));
    refuses!(store.change_agent(&instance_id(1), Rearm), StoreError::Refused(Refusal::AgentState));
    let after = changes!(store.redeem_join_token(&[3; 32], &instance_id(1), NOW, false));
    assert_eq!((after.enrolled, after.state), (11, AgentState::Active));
}

pub(crate) async fn anchors_roll_over(engine: impl Engine) {
    let store = engine.open().await;
    let mut rotation = AnchorRotation::FIRST;
    assert_eq!(store.anchor_rotation().await.unwrap(), rotation);
    use AnchorChange::{Begin, Finish};
    for (seconds, change) in [(1, Begin), (2, Finish), (122, Begin)] {
        let wrong = if change == Begin { Finish } else { Begin };
        refuses!(store.change_anchors(wrong, NOW), StoreError::Refused(Refusal::AnchorChange));
        assert_eq!(store.anchor_rotation().await.unwrap(), rotation);
        rotation = rotation.changed(change, later(seconds)).unwrap();
        assert_eq!(changes!(store.change_anchors(change, later(seconds))), rotation);
    }
    drop(store);
    assert_eq!(engine.open().await.anchor_rotation().await.unwrap(), rotation);
}

pub(crate) async fn stock_signers_rotate(engine: impl Engine) {
    let store = engine.open().await;
    let mut rotation = StockRotation::NONE;
    assert_eq!(store.stock_rotation().await.unwrap(), rotation);
    let (due, revoking) = (StockChange::Due, StockChange::Ordered { revokes: true });
    for (seconds, change) in [(1, due), (2, due), (3, revoking), (4, StockChange::Ordered { revokes: false })]
    {
        let from = rotation.current;
        refuses!(store.change_stock_signer(from + 1, change, NOW), StoreError::Refused(Refusal::StockChange));
        assert_eq!(store.stock_rotation().await.unwrap(), rotation);
        rotation = rotation.changed(from, change, later(seconds)).unwrap();
        assert_eq!(changes!(store.change_stock_signer(from, change, later(seconds))), rotation);
        refuses!(store.change_stock_signer(from, change, NOW), StoreError::Refused(Refusal::StockChange));
    }
    drop(store);
    let store = engine.open().await;
    assert_eq!(store.stock_rotation().await.unwrap(), rotation);
    // What is due every month is no operator's doing.
    let left = store.operator_events().await.unwrap().into_iter().map(|event| (event.time, event.action));
    let rotated = |seconds, generation, revoked| {
        (later(seconds), OperatorAction::RotateStockSigner { generation, revoked })
    };
    assert_eq!(left.collect::<Vec<_>>(), [rotated(3, 3, true), rotated(4, 4, false)]);
}

pub(crate) async fn what_commands_do_is_left_until_it_is_forgotten(engine: impl Engine) {
    let store = engine.open().await;
    store.create_account(&account(1)).await.unwrap();
    store.create_user(&user_id(1), &account_id(1), &user_name("ann")).await.unwrap();
    assert_eq!(store.operator_events().await.unwrap(), []);
    let key = access_key(1, 1);
    changes!(store.create_first_access_key(&key, NOW));
    // What was refused has not been done.
    refuses!(store.create_first_access_key(&key, NOW), StoreError::AlreadyExists(_));
    refuses!(store.change_anchors(AnchorChange::Finish, NOW), StoreError::Refused(Refusal::AnchorChange));
    changes!(store.change_anchors(AnchorChange::Begin, later(1)));
    drop(store);
    let store = engine.open().await;
    let left = store.operator_events().await.unwrap();
    let [initialized, begun] = &left[..] else { panic!("{left:?}") };
    let action = OperatorAction::InitializeControlPlane {
        account_id: account_id(1).to_string(),
        user_name: "ann".to_owned(),
        access_key_id: key.id.to_string(),
    };
    assert_eq!((&initialized.action, initialized.time), (&action, NOW));
    let action = OperatorAction::BeginAnchorRotation { anchor: 1, anchor_set: 2 };
    assert_eq!((&begun.action, begun.time), (&action, later(1)));
    assert_ne!(initialized.id, begun.id);
    let sequence = store.sequence().await.unwrap();
    store.forget_operator_events(std::slice::from_ref(initialized)).await.unwrap();
    assert_eq!(store.operator_events().await.unwrap(), std::slice::from_ref(begun));
    store.forget_operator_events(&left).await.unwrap();
    assert_eq!(store.operator_events().await.unwrap(), []);
    assert_eq!(store.sequence().await.unwrap(), sequence);
}

pub(crate) async fn refusals_are_checked_in_order(engine: impl Engine) {
    let store = engine.open().await;
    store.create_account(&account(1)).await.unwrap();
    for number in [1, 2] {
        store.create_instance(&instance(number, 1)).await.unwrap();
        store.create_join_token(&token(number, number), NOW).await.unwrap();
    }
    store.create_join_token(&token(3, 1), NOW).await.unwrap();
    store.redeem_join_token(&[1; 32], &instance_id(1), NOW, false).await.unwrap();

    use RedeemRefusal::{AlreadyEnrolled, AlreadyUsed, Expired, InstanceUnknown, OtherInstance, Unknown};
    let cases: [(u8, u8, UnixSeconds, RedeemRefusal); 9] = [
        // Without a token nothing is said about instances.
        (9, 9, later(900), Unknown),
        (9, 1, NOW, Unknown),
        (1, 1, NOW, AlreadyUsed),
        (1, 2, later(900), AlreadyUsed),
        (2, 2, later(900), Expired),
        (2, 9, later(901), Expired),
        (2, 9, later(899), InstanceUnknown),
        (2, 1, NOW, OtherInstance),
        (3, 1, NOW, AlreadyEnrolled),
    ];
    for (token, instance, now, expected) in cases {
        let before = view(&*store).await;
        let answer = store.redeem_join_token(&[token; 32], &instance_id(instance), now, false).await;
        assert!(
            matches!(answer, Err(RedeemError::Refused(refusal)) if refusal == expected),
            "token {token} for instance {instance}: {answer:?} instead of {expected:?}"
        );
        assert_eq!(view(&*store).await, before);
    }
    changes!(store.redeem_join_token(&[2; 32], &instance_id(2), NOW, false));
}

pub(crate) async fn lapsed_tokens_are_dropped_a_day_later(engine: impl Engine) {
    const DAY: i64 = 24 * 60 * 60;
    let store = engine.open().await;
    store.create_account(&account(1)).await.unwrap();
    store.create_instance(&instance(1, 1)).await.unwrap();
    store.create_join_token(&token(1, 1), NOW).await.unwrap();
    for (number, created, refusal) in
        [(2, later(900 + DAY), RedeemRefusal::Expired), (3, later(901 + DAY), RedeemRefusal::Unknown)]
    {
        let fresh = JoinToken { expires_at: later(2 * DAY), ..token(number, 1) };
        changes!(store.create_join_token(&fresh, created));
        let answer = store.redeem_join_token(&[1; 32], &instance_id(1), created, false).await;
        assert!(matches!(answer, Err(RedeemError::Refused(said)) if said == refusal), "{answer:?}");
    }
    changes!(store.redeem_join_token(&[2; 32], &instance_id(1), later(DAY), false));
}

pub(crate) async fn authorities(engine: impl Engine) {
    let store = engine.open().await;
    let (agents, nodes) = ("agents-ca".parse().unwrap(), "nodes-ca".parse().unwrap());
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    assert!(store.authority(&agents).await.unwrap().is_none());
    let stored = changes!(store.put_authority(&agents, b"certificate", &secret("key")));
    assert_eq!((stored.public.as_slice(), stored.secret.expose()), (&b"certificate"[..], &b"key"[..]));

    // What is there stays, and is what a second starter gets.
    let before = store.sequence().await.unwrap();
    let stored = store.put_authority(&agents, b"other certificate", &secret("other key")).await.unwrap();
    assert_eq!((stored.public.as_slice(), stored.secret.expose()), (&b"certificate"[..], &b"key"[..]));
    assert_eq!(store.sequence().await.unwrap(), before);

    changes!(store.put_authority(&nodes, b"", &secret("")));
    let stored = store.authority(&nodes).await.unwrap().unwrap();
    assert!(stored.public.is_empty() && stored.secret.expose().is_empty());
    let stored = store.authority(&agents).await.unwrap().unwrap();
    assert_eq!((stored.public.as_slice(), stored.secret.expose()), (&b"certificate"[..], &b"key"[..]));
}
