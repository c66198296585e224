//! Groups, managed policies, boundaries, tags and roots: what they give to users, and how they refuse.

use crate::engine::Engine;
use crate::fixtures::*;
use instance_connect_core::ids::UserId;
use instance_connect_core::inventory::{AccessKey, Status};
use instance_connect_store::{
    ATTACHED_POLICIES, Entity, GROUP_POLICIES, GROUPS_PER_USER, Refusal, Store, StoreError, TAG_KEY,
    TAG_VALUE, TAGS, USER_POLICIES,
};
use std::sync::Arc;

/// Accounts 1 and 2; users 1 and 2 of account 1, user 3 of account 2.
async fn three_users(store: &dyn Store) {
    for number in [1, 2] {
        store.create_account(&account(number)).await.unwrap();
    }
    for (number, account, name) in [(1, 1, "ann"), (2, 1, "bob"), (3, 2, "ann")] {
        store.create_user(&user_id(number), &account_id(account), &user_name(name)).await.unwrap();
    }
}

async fn policies_of(store: &dyn Store, user: u8) -> Vec<String> {
    view(store).await.user(user).policies.clone()
}

pub(crate) async fn groups(engine: impl Engine) {
    let store = engine.open().await;
    let (one, two, ops, upper_ops) = (account_id(1), account_id(2), group_name("ops"), group_name("OPS"));
    refuses!(store.create_group(&one, &ops), StoreError::NotFound(Entity::Account));
    three_users(&*store).await;
    changes!(store.create_group(&one, &ops));
    refuses!(store.create_group(&one, &ops), StoreError::AlreadyExists(Entity::Group));
    refuses!(store.create_group(&one, &upper_ops), StoreError::AlreadyExists(Entity::Group));
    changes!(store.create_group(&two, &upper_ops));

    changes!(store.add_user_to_group(&user_id(1), &ops));
    changes!(store.add_user_to_group(&user_id(1), &ops));
    refuses!(store.add_user_to_group(&user_id(4), &ops), StoreError::NotFound(Entity::User));
    // The group of another account, and the same in another case.
    refuses!(store.add_user_to_group(&user_id(3), &ops), StoreError::NotFound(Entity::Group));
    refuses!(store.add_user_to_group(&user_id(1), &upper_ops), StoreError::NotFound(Entity::Group));
    refuses!(store.remove_user_from_group(&user_id(2), &ops), StoreError::NotFound(Entity::Membership));
    refuses!(store.remove_user_from_group(&user_id(4), &ops), StoreError::NotFound(Entity::User));

    refuses!(store.delete_group(&one, &ops), StoreError::DeleteConflict(Entity::Group));
    changes!(store.remove_user_from_group(&user_id(1), &ops));
    refuses!(store.remove_user_from_group(&user_id(1), &ops), StoreError::NotFound(Entity::Membership));
    refuses!(store.delete_group(&one, &upper_ops), StoreError::NotFound(Entity::Group));
    changes!(store.delete_group(&one, &ops));
    refuses!(store.delete_group(&one, &ops), StoreError::NotFound(Entity::Group));
    refuses!(store.add_user_to_group(&user_id(1), &ops), StoreError::NotFound(Entity::Group));
    changes!(store.create_group(&one, &upper_ops));
}

pub(crate) async fn group_policies(engine: impl Engine) {
    let store = engine.open().await;
    let (one, ops, push) = (account_id(1), group_name("ops"), policy_name("push"));
    three_users(&*store).await;
    refuses!(store.put_group_policy(&one, &ops, &push, PUSH), StoreError::NotFound(Entity::Group));
    refuses!(store.delete_group_policy(&one, &ops, &push), StoreError::NotFound(Entity::Group));
    for account in [1, 2] {
        changes!(store.create_group(&account_id(account), &ops));
    }
    changes!(store.put_group_policy(&one, &ops, &push, PUSH));
    changes!(store.add_user_to_group(&user_id(1), &ops));
    changes!(store.add_user_to_group(&user_id(3), &ops));
    changes!(store.put_user_policy(&user_id(1), &push, NO_PUSH));
    assert_eq!(policies_of(&*store, 1).await, [parsed("push", NO_PUSH), parsed("group/ops/push", PUSH)]);
    // Who is not in the group, and who is in another account's group of that name.
    assert!(policies_of(&*store, 2).await.is_empty() && policies_of(&*store, 3).await.is_empty());

    changes!(store.put_group_policy(&one, &ops, &push, NO_PUSH));
    assert_eq!(policies_of(&*store, 1).await, [parsed("push", NO_PUSH), parsed("group/ops/push", NO_PUSH)]);
    refuses!(store.put_group_policy(&one, &ops, &push, NO_POLICY), StoreError::Refused(Refusal::Policy(_)));
    changes!(store.remove_user_from_group(&user_id(1), &ops));
    assert_eq!(policies_of(&*store, 1).await, [parsed("push", NO_PUSH)]);
    refuses!(store.delete_group(&one, &ops), StoreError::DeleteConflict(Entity::Group));
    changes!(store.delete_group_policy(&one, &ops, &push));
    refuses!(store.delete_group_policy(&one, &ops, &push), StoreError::NotFound(Entity::Policy));
    changes!(store.delete_group(&one, &ops));
}

pub(crate) async fn managed_policies(engine: impl Engine) {
    let store = engine.open().await;
    let (one, ops, logins) = (account_id(1), group_name("ops"), policy_name("logins"));
    let (upper_logins, other) = (policy_name("Logins"), policy_name("other"));
    let named = |document| parsed("arn:aws:iam::000000000001:policy/logins", document);
    refuses!(store.create_policy(&one, &logins, PUSH), StoreError::NotFound(Entity::Account));
    three_users(&*store).await;
    refuses!(store.create_policy(&one, &logins, NO_POLICY), StoreError::Refused(Refusal::Policy(_)));
    changes!(store.create_policy(&one, &logins, PUSH));
    refuses!(store.create_policy(&one, &logins, PUSH), StoreError::AlreadyExists(Entity::Policy));
    refuses!(store.create_policy(&one, &upper_logins, PUSH), StoreError::AlreadyExists(Entity::Policy));
    changes!(store.create_policy(&account_id(2), &other, PUSH));
    changes!(store.create_group(&one, &ops));

    // Attached to a user and to a group of that user, it stands there once, and is one policy for all.
    changes!(store.add_user_to_group(&user_id(1), &ops));
    changes!(store.add_user_to_group(&user_id(2), &ops));
    changes!(store.attach_user_policy(&user_id(1), &logins));
    changes!(store.attach_user_policy(&user_id(1), &logins));
    changes!(store.attach_group_policy(&one, &ops, &logins));
    changes!(store.attach_group_policy(&one, &ops, &logins));
    let users = store.inventory().await.unwrap().inventory.users;
    let (ann, bob) = (&users[&user_id(1)].policies, &users[&user_id(2)].policies);
    assert!(ann.len() == 1 && bob.len() == 1 && Arc::ptr_eq(&ann[0], &bob[0]), "{ann:?} {bob:?}");
    assert_eq!(policies_of(&*store, 1).await, [named(PUSH)]);
    changes!(store.set_policy_document(&one, &logins, NO_PUSH));
    assert_eq!(policies_of(&*store, 2).await, [named(NO_PUSH)]);
    assert!(policies_of(&*store, 3).await.is_empty());

    refuses!(store.set_policy_document(&one, &logins, NO_POLICY), StoreError::Refused(Refusal::Policy(_)));
    for policy in [&upper_logins, &other] {
        refuses!(store.set_policy_document(&one, policy, PUSH), StoreError::NotFound(Entity::Policy));
        refuses!(store.attach_user_policy(&user_id(1), policy), StoreError::NotFound(Entity::Policy));
        refuses!(store.attach_group_policy(&one, &ops, policy), StoreError::NotFound(Entity::Policy));
        refuses!(store.detach_user_policy(&user_id(1), policy), StoreError::NotFound(Entity::Attachment));
        refuses!(store.detach_group_policy(&one, &ops, policy), StoreError::NotFound(Entity::Attachment));
        refuses!(store.delete_policy(&one, policy), StoreError::NotFound(Entity::Policy));
    }
    refuses!(store.attach_user_policy(&user_id(4), &logins), StoreError::NotFound(Entity::User));
    refuses!(store.detach_user_policy(&user_id(4), &logins), StoreError::NotFound(Entity::User));
    let nobody = group_name("nobody");
    refuses!(store.attach_group_policy(&one, &nobody, &logins), StoreError::NotFound(Entity::Group));
    refuses!(store.detach_group_policy(&one, &nobody, &logins), StoreError::NotFound(Entity::Group));

    refuses!(store.delete_policy(&one, &logins), StoreError::DeleteConflict(Entity::Policy));
    changes!(store.detach_user_policy(&user_id(1), &logins));
    assert_eq!(policies_of(&*store, 1).await, [named(NO_PUSH)]);
    refuses!(store.delete_policy(&one, &logins), StoreError::DeleteConflict(Entity::Policy));
    changes!(store.remove_user_from_group(&user_id(1), &ops));
    assert!(policies_of(&*store, 1).await.is_empty());
    assert_eq!(policies_of(&*store, 2).await, [named(NO_PUSH)]);
    for user in [1, 2] {
        changes!(store.attach_user_policy(&user_id(user), &logins));
    }
    changes!(store.remove_user_from_group(&user_id(2), &ops));
    changes!(store.detach_user_policy(&user_id(1), &logins));
    assert!(policies_of(&*store, 1).await.is_empty());
    assert_eq!(policies_of(&*store, 2).await, [named(NO_PUSH)]);
    changes!(store.detach_user_policy(&user_id(2), &logins));
    refuses!(store.delete_group(&one, &ops), StoreError::DeleteConflict(Entity::Group));
    changes!(store.detach_group_policy(&one, &ops, &logins));
    changes!(store.delete_policy(&one, &logins));
    changes!(store.create_policy(&one, &upper_logins, PUSH));
}

/// They are told as long as the policy is stored, also where it bears on nobody, and change nothing else.
pub(crate) async fn policies_that_mean_less_than_they_say_are_warned_of(engine: impl Engine) {
    const LITERAL: &str = r#"{"Statement": {"Effect": "Allow", "Action": "*",
        "Resource": "arn:aws:ec2:*:*:instance/${aws:username}"}}"#;
    const TWO: &str = r#"{"Version": "2012-10-17", "Statement": [
        {"Sid": "Org", "Effect": "Allow", "Action": "ec2-instance-connect:SendSSHPublicKey", "Resource": "*",
            "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}},
        {"Effect": "Allow", "Action": "ec2-instance-connect:OpenTunnel", "Resource": "*",
            "Condition": {"StringEquals": {"ec2:osuser": "root"}}}]}"#;
    let store = engine.open().await;
    three_users(&*store).await;
    let (one, ops, name) = (account_id(1), group_name("ops"), policy_name("p"));
    store.create_group(&one, &ops).await.unwrap();
    let warnings = async || {
        let snapshot = store.inventory().await.unwrap();
        assert_eq!(snapshot.problems, []);
        snapshot.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    store.put_user_policy(&user_id(1), &name, PUSH).await.unwrap();
    assert_eq!(warnings().await, [""; 0]);
    store.put_user_policy(&user_id(1), &name, TWO).await.unwrap();
    store.put_group_policy(&one, &ops, &name, LITERAL).await.unwrap();
    store.create_policy(&one, &name, LITERAL).await.unwrap();
    let literal = "${…} is no variable but literal text; \"Version\": \"2012-10-17\" makes it one";
    let managed = format!("policy p of account 000000000001: {literal}");
    let expected = [
        "policy p of user AIDA0000000000000001: statement #1: Condition StringEquals ec2:osuser: requests for \
         ec2-instance-connect:OpenTunnel never have ec2:osuser, so nothing is allowed there",
        "policy p of user AIDA0000000000000001: statement Org: Condition StringEquals aws:PrincipalOrgID: requests for \
         ec2-instance-connect:SendSSHPublicKey never have aws:PrincipalOrgID, so nothing is allowed there",
        &format!("policy p of group ops of account 000000000001: {literal}"),
        &managed,
    ];
    assert_eq!(warnings().await, expected);
    assert_eq!(policies_of(&*store, 1).await, [parsed("p", TWO)]);
    store.put_user_policy(&user_id(1), &name, PUSH).await.unwrap();
    store.delete_group_policy(&one, &ops, &name).await.unwrap();
    assert_eq!(warnings().await, [managed]);
}

pub(crate) async fn permissions_boundaries(engine: impl Engine) {
    let store = engine.open().await;
    let (one, logins, other) = (account_id(1), policy_name("logins"), policy_name("other"));
    let named =
        |name: &str, document| Some(parsed(&format!("arn:aws:iam::000000000001:policy/{name}"), document));
    three_users(&*store).await;
    for policy in [&logins, &other] {
        refuses!(
            store.put_user_permissions_boundary(&user_id(1), policy),
            StoreError::NotFound(Entity::Policy)
        );
        changes!(store.create_policy(&one, policy, PUSH));
    }
    changes!(store.put_user_permissions_boundary(&user_id(1), &logins));
    let seen = view(&*store).await;
    assert_eq!((&seen.user(1).boundary, &seen.user(2).boundary), (&named("logins", PUSH), &None));
    // It allows nothing by itself.
    assert!(seen.user(1).policies.is_empty());
    changes!(store.set_policy_document(&one, &logins, NO_PUSH));
    assert_eq!(view(&*store).await.user(1).boundary, named("logins", NO_PUSH));
    changes!(store.put_user_permissions_boundary(&user_id(1), &other));
    changes!(store.put_user_permissions_boundary(&user_id(1), &other));
    assert_eq!(view(&*store).await.user(1).boundary, named("other", PUSH));
    changes!(store.delete_policy(&one, &logins));
    refuses!(store.delete_policy(&one, &other), StoreError::DeleteConflict(Entity::Policy));

    refuses!(store.put_user_permissions_boundary(&user_id(3), &other), StoreError::NotFound(Entity::Policy));
    refuses!(store.put_user_permissions_boundary(&user_id(4), &other), StoreError::NotFound(Entity::User));
    refuses!(store.delete_user_permissions_boundary(&user_id(4)), StoreError::NotFound(Entity::User));
    refuses!(
        store.delete_user_permissions_boundary(&user_id(2)),
        StoreError::NotFound(Entity::PermissionsBoundary)
    );
    changes!(store.put_user_permissions_boundary(&user_id(2), &other));
    changes!(store.delete_user_permissions_boundary(&user_id(1)));
    let seen = view(&*store).await;
    assert_eq!((&seen.user(1).boundary, &seen.user(2).boundary), (&None, &named("other", PUSH)));
    changes!(store.delete_user_permissions_boundary(&user_id(2)));
    changes!(store.delete_policy(&one, &other));
}

pub(crate) async fn user_tags(engine: impl Engine) {
    let store = engine.open().await;
    three_users(&*store).await;
    let some = tags(&[("Team", "ops"), ("Cost Center", ""), ("Größe", "M_.:/=+-@ 1")]);
    changes!(store.put_user_tags(&user_id(1), &some));
    let seen = view(&*store).await;
    assert_eq!((&seen.user(1).tags, &seen.user(2).tags), (&some, &tags(&[])));
    changes!(store.put_user_tags(&user_id(1), &tags(&[("team", "web")])));
    assert_eq!(view(&*store).await.user(1).tags, tags(&[("team", "web")]));
    changes!(store.put_user_tags(&user_id(1), &tags(&[])));
    assert!(view(&*store).await.user(1).tags.is_empty());
    refuses!(store.put_user_tags(&user_id(4), &some), StoreError::NotFound(Entity::User));

    let (key, value) = ("ä".repeat(TAG_KEY), "ä".repeat(TAG_VALUE));
    let many = |count| (0..count).map(|n| (format!("{n}{}", &key[..100]), value.clone())).collect();
    changes!(store.put_user_tags(&user_id(1), &many(TAGS)));
    changes!(store.put_user_tags(&user_id(1), &tags(&[(&key, &value)])));
    let too_many = many(TAGS + 1);
    refuses!(store.put_user_tags(&user_id(1), &too_many), StoreError::Refused(Refusal::TooManyTags));
    for key in ["", "a*", "${aws:username}", "a\nb", "aws:a", "AWS:a", &format!("{key}a")] {
        let bad = tags(&[(key, "")]);
        refuses!(store.put_user_tags(&user_id(1), &bad), StoreError::Refused(Refusal::UserTagKey));
    }
    for value in ["a*", "a\nb", "aws:a", &format!("{value}a")] {
        let bad = tags(&[("key", value)]);
        refuses!(store.put_user_tags(&user_id(1), &bad), StoreError::Refused(Refusal::UserTagValue));
    }
    // A condition on aws:PrincipalTag/team would mean either.
    for twice in [tags(&[("Team", "web"), ("team", "ops")]), tags(&[("Größe", "S"), ("größe", "L")])] {
        refuses!(store.put_user_tags(&user_id(1), &twice), StoreError::Refused(Refusal::UserTagKeyTwice));
    }
}

pub(crate) async fn roots(engine: impl Engine) {
    let store = engine.open().await;
    let (root, logins, ops) = (root_id(1), policy_name("logins"), group_name("ops"));
    refuses!(store.create_root(&account_id(1)), StoreError::NotFound(Entity::Account));
    three_users(&*store).await;
    changes!(store.create_root(&account_id(1)));
    refuses!(store.create_root(&account_id(1)), StoreError::AlreadyExists(Entity::User));
    changes!(store.create_root(&account_id(2)));
    // The root has no name, so a user may have that which ARNs say for it.
    changes!(store.create_user(&user_id(4), &account_id(1), &user_name("root")));
    let seen = view(&*store).await;
    assert_eq!(seen.users[&root], UserView::root(1));
    assert_eq!(*seen.user(4), UserView::new(1, &user_name("root")));
    let users = store.inventory().await.unwrap().inventory.users;
    assert_eq!(users[&root].arn(), "arn:aws:iam::000000000001:root");
    assert_eq!(users[&user_id(4)].arn(), "arn:aws:iam::000000000001:user/root");

    changes!(store.set_user_status(&root, Status::Suspended));
    assert_eq!(view(&*store).await.users[&root].status, Status::Suspended);
    let key = AccessKey { user: root.clone(), ..access_key(1, 0) };
    changes!(store.create_access_key(&key));
    assert_eq!(view(&*store).await.access_keys[&key_id(1)].1, root);

    changes!(store.create_policy(&account_id(1), &logins, PUSH));
    changes!(store.create_group(&account_id(1), &ops));
    // Whether there is such a root or not.
    for root in [&root, &root_id(9)] {
        refuse_as_root(&*store, root).await;
    }
}

/// What only IAM users have is refused for a root.
async fn refuse_as_root(store: &dyn Store, root: &UserId) {
    let (name, logins, ops) = (user_name("eve"), policy_name("logins"), group_name("ops"));
    refuses!(store.create_user(root, &account_id(1), &name), StoreError::Refused(Refusal::Root));
    refuses!(store.put_user_tags(root, &tags(&[])), StoreError::Refused(Refusal::Root));
    refuses!(store.put_user_policy(root, &logins, PUSH), StoreError::Refused(Refusal::Root));
    refuses!(store.delete_user_policy(root, &logins), StoreError::Refused(Refusal::Root));
    refuses!(store.attach_user_policy(root, &logins), StoreError::Refused(Refusal::Root));
    refuses!(store.detach_user_policy(root, &logins), StoreError::Refused(Refusal::Root));
    refuses!(store.put_user_permissions_boundary(root, &logins), StoreError::Refused(Refusal::Root));
    refuses!(store.delete_user_permissions_boundary(root), StoreError::Refused(Refusal::Root));
    refuses!(store.add_user_to_group(root, &ops), StoreError::Refused(Refusal::Root));
    refuses!(store.remove_user_from_group(root, &ops), StoreError::Refused(Refusal::Root));
}

pub(crate) async fn groups_and_attachments_are_bounded(engine: impl Engine) {
    let store = engine.open().await;
    let one = account_id(1);
    three_users(&*store).await;
    let (policy, group) = (|n| policy_name(&format!("p{n}")), |n| group_name(&format!("g{n}")));
    for n in 0..=ATTACHED_POLICIES {
        changes!(store.create_policy(&one, &policy(n), PUSH));
    }
    for n in 0..=GROUPS_PER_USER {
        changes!(store.create_group(&one, &group(n)));
    }
    for n in 0..ATTACHED_POLICIES {
        changes!(store.attach_user_policy(&user_id(1), &policy(n)));
        changes!(store.attach_group_policy(&one, &group(0), &policy(n)));
    }
    for n in 0..GROUPS_PER_USER {
        changes!(store.add_user_to_group(&user_id(1), &group(n)));
    }
    let (policy_too_many, group_too_many) = (policy(ATTACHED_POLICIES), group(GROUPS_PER_USER));
    refuses!(
        store.attach_user_policy(&user_id(1), &policy_too_many),
        StoreError::Refused(Refusal::TooManyPolicies)
    );
    refuses!(
        store.attach_group_policy(&one, &group(0), &policy_too_many),
        StoreError::Refused(Refusal::TooManyPolicies)
    );
    refuses!(
        store.add_user_to_group(&user_id(1), &group_too_many),
        StoreError::Refused(Refusal::TooManyGroups)
    );
    // What is there already is not one more, others have a count of their own, and a boundary is no attachment.
    changes!(store.attach_user_policy(&user_id(1), &policy(0)));
    changes!(store.attach_group_policy(&one, &group(0), &policy(0)));
    changes!(store.add_user_to_group(&user_id(1), &group(0)));
    changes!(store.attach_user_policy(&user_id(2), &policy_too_many));
    changes!(store.attach_group_policy(&one, &group_too_many, &policy_too_many));
    changes!(store.add_user_to_group(&user_id(2), &group_too_many));
    changes!(store.put_user_permissions_boundary(&user_id(1), &policy_too_many));

    changes!(store.detach_user_policy(&user_id(1), &policy(0)));
    changes!(store.attach_user_policy(&user_id(1), &policy_too_many));
    changes!(store.remove_user_from_group(&user_id(1), &group(1)));
    changes!(store.add_user_to_group(&user_id(1), &group_too_many));
}

pub(crate) async fn inline_policies_are_bounded_together(engine: impl Engine) {
    let store = engine.open().await;
    let (one, ops) = (account_id(1), group_name("ops"));
    three_users(&*store).await;
    changes!(store.create_group(&one, &ops));
    changes!(store.create_group(&one, &group_name("dev")));
    let (first, second) = (policy_name("first"), policy_name("second"));
    let (user_half, group_half) = (long_policy(USER_POLICIES / 2), long_policy(GROUP_POLICIES / 2));
    changes!(store.put_user_policy(&user_id(1), &first, &user_half));
    changes!(store.put_group_policy(&one, &ops, &first, &group_half));
    refuses!(
        store.put_user_policy(&user_id(1), &second, &long_policy(USER_POLICIES / 2 + 1)),
        StoreError::Refused(Refusal::InlinePoliciesTooLong)
    );
    refuses!(
        store.put_group_policy(&one, &ops, &second, &long_policy(GROUP_POLICIES / 2 + 1)),
        StoreError::Refused(Refusal::InlinePoliciesTooLong)
    );
    // White space is free, in place of another counts instead of it, and others have a sum of their own.
    changes!(store.put_user_policy(&user_id(1), &second, &format!("{user_half}{}", " ".repeat(4096))));
    changes!(store.put_group_policy(&one, &ops, &second, &format!("{group_half}\n\t\r ")));
    changes!(store.put_user_policy(&user_id(1), &first, PUSH));
    changes!(store.put_user_policy(&user_id(2), &first, &long_policy(USER_POLICIES)));
    changes!(store.put_group_policy(&one, &group_name("dev"), &first, &long_policy(GROUP_POLICIES)));
    // One alone can be too long, and a managed one be longer.
    for too_long in [long_policy(USER_POLICIES + 1), long_policy(GROUP_POLICIES + 1)] {
        refuses!(
            store.put_user_policy(&user_id(3), &first, &too_long),
            StoreError::Refused(Refusal::InlinePoliciesTooLong)
        );
    }
    changes!(store.create_policy(&one, &first, &long_policy(GROUP_POLICIES + 1)));
}

/// A policy of so many characters, without white space.
fn long_policy(characters: usize) -> String {
    let policy = |sid: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"{sid}","Effect":"Allow","Action":"ec2-instance-connect:*","Resource":"*"}}]}}"#
        )
    };
    policy(&"x".repeat(characters - policy("").len()))
}
