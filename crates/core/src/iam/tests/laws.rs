//! What holds for every policy and every request.

use super::{Asked, Decision, Denial, Kind, Policy, PolicyKind, evaluate, policy, written};
use crate::iam::{Effect, Outcome, StatementExplanation, explain};
use crate::inventory::UserKind;
use instance_connect_document::UnixSeconds;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use std::collections::BTreeMap;
use std::sync::Arc;

const PUSH: &str = "ec2-instance-connect:SendSSHPublicKey";
const ANYTHING: &str = r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#;

/// What may stand before and behind an operator.
const AROUND: [(&str, &str); 5] =
    [("", ""), ("", "IfExists"), ("ForAllValues:", ""), ("ForAllValues:", "IfExists"), ("ForAnyValue:", "")];

/// A list of one to three of these, as JSON.
fn some_of(texts: &'static [&'static str]) -> impl Strategy<Value = String> {
    subsequence(texts, 1..=3.min(texts.len())).prop_map(|texts| serde_json::to_string(&texts).unwrap())
}

/// An operator, a key and values that go together.
fn condition() -> impl Strategy<Value = String> {
    let of = |operators: &'static [&'static str], keys: &'static [&'static str], values| {
        (select(&AROUND[..]), select(operators), select(keys), some_of(values)).prop_map(
            |((set, suffix), operator, key, values)| {
                format!(r#""{set}{operator}{suffix}":{{"{key}":{values}}}"#)
            },
        )
    };
    const VALUES: &[&str] = &[
        "deploy",
        "root",
        "blue",
        "red",
        "b*",
        "*",
        "?lue",
        "${aws:username}",
        "${aws:PrincipalTag/team}",
        "${aws:PrincipalTag/team, 'red'}",
        "x${aws:PrincipalTag/none}",
        "${*}",
        "${?}lue",
        "",
    ];
    prop_oneof![
        6 => of(
            &["StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike", "StringNotLike"],
            &["ec2:osuser", "aws:ResourceTag/team", "ec2:ResourceTag/TEAM", "aws:PrincipalTag/team", "aws:username"],
            VALUES,
        ),
        1 => of(
            &["NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericGreaterThanEquals"],
            &["aws:PrincipalTag/level", "aws:EpochTime"],
            &["1", "2.5", "-7", "1928462706"],
        ),
        1 => of(
            &["DateEquals", "DateNotEquals", "DateLessThanEquals", "DateGreaterThan"],
            &["aws:CurrentTime", "aws:EpochTime", "aws:TokenIssueTime"],
            &["2031", "2031-02-10T04:05:06Z", "0"],
        ),
        1 => of(&["Bool"], &["aws:SecureTransport", "aws:MultiFactorAuthPresent"], &["true", "false"]),
        1 => of(&["IpAddress", "NotIpAddress"], &["aws:SourceIp"], &["192.0.2.0/24", "::/0", "198.51.100.7"]),
        1 => of(
            &["ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"],
            &["aws:PrincipalArn", "aws:ResourceTag/owner"],
            &["arn:aws:iam::*:user/*", "arn:aws:iam::111122223333:root", "arn:*:*:*:*:user/${aws:PrincipalTag/team}"],
        ),
        1 => (select(&["aws:ResourceTag/team", "aws:username"][..]), any::<bool>())
            .prop_map(|(key, absent)| format!(r#""Null":{{"{key}":{absent}}}"#)),
    ]
}

fn any_statement() -> impl Strategy<Value = String> {
    let action = some_of(&[
        "*",
        PUSH,
        "ec2-instance-connect:*",
        "ec2-instance-connect:SendSerialConsoleSSHPublicKey",
        "s3:*",
        "*:Send*",
    ]);
    let resource = some_of(&[
        "*",
        "arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0",
        "arn:aws:ec2:*:*:instance/*",
        "arn:aws:ec2:us-east-2:*:*",
        "arn:aws:ec2:*:*:instance/${aws:PrincipalTag/team}",
        "arn:aws:s3:::*",
    ]);
    let names = (
        select(&["Action", "Action", "NotAction"][..]),
        select(&["Resource", "Resource", "NotResource"][..]),
    );
    let effect = select(&["Allow", "Allow", "Deny"][..]);
    let conditions = vec(condition(), 0..=2);
    (effect, names, action, resource, conditions)
        .prop_map(|(effect, (actions, resources), action, resource, conditions)| {
            let conditions = conditions.join(",");
            format!(
                r#"{{"Effect":"{effect}","{actions}":{action},"{resources}":{resource},"Condition":{{{conditions}}}}}"#
            )
        })
        // Some combinations are refused, such as a Deny by ec2:osuser that covers the serial console.
        .prop_filter("loads", |statement| Policy::parse("p", &document(statement)).is_ok())
}

fn document(statement: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":{statement}}}"#)
}

fn tags() -> impl Strategy<Value = BTreeMap<String, String>> {
    let team = option::of(select(&["blue", "red", "*", "", "i-0123456789abcdef0"][..]));
    let level = option::of(select(&["1", "2.50", "many"][..]));
    let other_team = option::weighted(0.2, Just("red"));
    (team, level, other_team).prop_map(|(team, level, other_team)| {
        let given = [("team", team), ("level", level), ("Team", other_team)];
        given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect()
    })
}

fn any_request() -> impl Strategy<Value = Asked> {
    let kinds =
        (select(&[Kind::Push, Kind::Push, Kind::Serial, Kind::Tunnel][..]), prop::bool::weighted(0.1));
    let os_user = select(&["deploy", "root", "alice", "blue"][..]);
    let origin = (
        select(&["192.0.2.1", "198.51.100.7", "2001:db8::1"][..]),
        select(&[0, 1_924_991_999, 1_928_462_706][..]),
        any::<bool>(),
    );
    (kinds, os_user, tags(), option::weighted(0.8, tags()), origin).prop_map(
        |((action, root), os_user, principal_tags, tags, (source, time, tls))| {
            let mut asked = Asked { action, os_user: os_user.parse().unwrap(), tags, ..Asked::default() };
            asked.caller.kind = if root { UserKind::Root } else { UserKind::IamUser };
            asked.caller.tags = principal_tags;
            asked.origin.source = source.parse().unwrap();
            asked.origin.time = UnixSeconds(time);
            asked.origin.tls = tls.then(super::tls);
            asked
        },
    )
}

fn some_statements() -> impl Strategy<Value = Vec<String>> {
    vec(any_statement(), 0..6)
}

/// A request of a caller with a policy for each group of statements, and perhaps a boundary.
fn judged() -> impl Strategy<Value = Asked> {
    (any_request(), vec(some_statements(), 0..3), option::of(some_statements())).prop_map(
        |(mut asked, groups, boundary)| {
            let named = |(n, statements): (usize, Vec<String>)| parsed(&format!("p{n}"), &statements);
            asked.caller.policies = groups.into_iter().enumerate().filter_map(named).collect();
            asked.caller.boundary = boundary.and_then(|statements| parsed("boundary", &statements));
            asked
        },
    )
}

fn parsed(name: &str, statements: &[String]) -> Option<Arc<Policy>> {
    (!statements.is_empty()).then(|| policy(name, &statements.join(",")))
}

fn decision(asked: &Asked) -> Decision {
    evaluate(&asked.request())
}

fn is_allowed(asked: &Asked) -> bool {
    matches!(decision(asked), Decision::Allowed(_))
}

/// A decision but for which of several statements made it.
fn outline(decision: &Decision) -> String {
    match decision {
        Decision::Allowed(by) => format!("allowed {}", by.is_some()),
        Decision::Denied(Denial::Explicit(by)) => format!("denied by an {}", by.kind),
        Decision::Denied(Denial::Implicit(kind)) => format!("no {kind} allows it"),
    }
}

/// The operators that compare texts, with their negations.
const TEXT_OPERATORS: [(&str, &str); 4] = [
    ("StringEquals", "StringNotEquals"),
    ("StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase"),
    ("StringLike", "StringNotLike"),
    ("ArnLike", "ArnNotEquals"),
];

#[test]
fn deny_beats_allow_in_any_order() {
    let (allow, deny) = (ANYTHING.to_owned(), ANYTHING.replace("Allow", "Deny"));
    let asked = Asked::default();
    assert_eq!(written(&asked.decide(&[allow.clone(), deny.clone()])), "denied by p #1");
    assert_eq!(written(&asked.decide(&[deny, allow])), "denied by p #0");
}

#[test]
fn a_boundary_narrows() {
    let mut asked = Asked::default();
    asked.caller.policies = vec![policy("p", ANYTHING)];
    asked.caller.boundary = Some(policy("boundary", r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#));
    assert_eq!(written(&decision(&asked)), "outside the boundary");
}

proptest! {
    #[test]
    fn adding_a_deny_never_widens(asked in judged(), statement in any_statement(), first: bool) {
        let denies = policy("denies", ANYTHING.replace("Allow", "Deny").as_str());
        let statement = statement.replace(r#""Effect":"Allow""#, r#""Effect":"Deny""#);
        let added = Policy::parse("added", &document(&statement)).map_or(denies, Arc::new);
        let mut more = asked.clone();
        more.caller.policies.insert(if first { 0 } else { more.caller.policies.len() }, added);
        prop_assert!(is_allowed(&asked) || !is_allowed(&more));
    }

    #[test]
    fn removing_an_allow_never_widens(asked in judged(), statement in any_statement(), first: bool) {
        let allow = statement.replace(r#""Effect":"Deny""#, r#""Effect":"Allow""#);
        let mut before = asked.clone();
        before.caller.policies.insert(if first { 0 } else { asked.caller.policies.len() }, policy("removed", &allow));
        prop_assert!(is_allowed(&before) || !is_allowed(&asked));
    }

    #[test]
    fn a_statement_of_another_service_changes_nothing(
        asked in judged(),
        effect in select(&["Allow", "Deny"][..]),
        action in select(&["s3:*", "ec2:Run*", "sts:GetCallerIdentity"][..]),
        condition in prop_oneof![condition(), Just(r#""StringNotEquals":{"s3:prefix":"x"}"#.to_owned())],
        first: bool,
    ) {
        let statement =
            format!(r#"{{"Effect":"{effect}","Action":"{action}","Resource":"*","Condition":{{{condition}}}}}"#);
        let mut more = asked.clone();
        let position = if first { 0 } else { more.caller.policies.len() };
        more.caller.policies.insert(position, policy("other", &statement));
        prop_assert_eq!(decision(&asked), decision(&more));
    }

    #[test]
    fn order_does_not_matter(
        mut asked in any_request(),
        statements in vec(any_statement(), 1..6).prop_shuffle(),
        boundary in vec(any_statement(), 1..4),
        split: Index,
    ) {
        let split = split.index(statements.len());
        let set = |asked: &mut Asked, groups: [&[String]; 2], boundary: &[String]| {
            asked.caller.policies = groups.into_iter().filter_map(|group| parsed("p", group)).collect();
            asked.caller.boundary = parsed("boundary", boundary);
        };
        set(&mut asked, [&statements, &[]], &boundary);
        let expected = outline(&decision(&asked));
        let reversed: Vec<String> = statements.iter().rev().cloned().collect();
        let (one, two) = reversed.split_at(split);
        let boundary: Vec<String> = boundary.into_iter().rev().collect();
        set(&mut asked, [one, two], &boundary);
        prop_assert_eq!(outline(&decision(&asked)), expected.clone());
        set(&mut asked, [two, one], &boundary);
        prop_assert_eq!(outline(&decision(&asked)), expected);
    }

    #[test]
    fn a_boundary_never_widens(asked in judged()) {
        let mut without = asked.clone();
        without.caller.boundary = None;
        prop_assert!(is_allowed(&without) || !is_allowed(&asked));
    }

    #[test]
    fn a_users_identity_policies_or_boundary_alone_allow_nothing(mut asked in judged(), statements in some_statements()) {
        asked.caller.kind = UserKind::IamUser;
        asked.caller.policies.clear();
        asked.caller.boundary = parsed("boundary", &statements);
        prop_assert!(!is_allowed(&asked));
    }

    /// What explanations say of the statements leads to the decision, and to no other.
    #[test]
    fn an_explanation_agrees_with_the_decision(asked in judged()) {
        let explained = explain(&asked.request());
        prop_assert_eq!(&explained.decision, &decision(&asked));
        let first = |kind, effect| {
            let matching = |s: &&StatementExplanation| {
                s.statement.kind == kind && s.effect == effect && s.outcome == Outcome::Matches
            };
            explained.statements.iter().find(matching).map(|s| s.statement.clone())
        };
        let (identity, boundary) = (PolicyKind::IdentityBased, PolicyKind::PermissionsBoundary);
        let deny = first(identity, Effect::Deny).or_else(|| first(boundary, Effect::Deny));
        let allow = first(identity, Effect::Allow);
        let within = asked.caller.boundary.is_none() || first(boundary, Effect::Allow).is_some();
        let expected = match (deny, asked.caller.kind, allow, within) {
            (Some(by), ..) => Decision::Denied(Denial::Explicit(by)),
            (None, UserKind::Root, ..) => Decision::Allowed(None),
            (None, UserKind::IamUser, None, _) => Decision::Denied(Denial::Implicit(identity)),
            (None, UserKind::IamUser, Some(_), false) => Decision::Denied(Denial::Implicit(boundary)),
            (None, UserKind::IamUser, Some(by), true) => Decision::Allowed(Some(by)),
        };
        prop_assert_eq!(explained.decision, expected);
        let listed = asked.caller.policies.iter().chain(&asked.caller.boundary);
        prop_assert_eq!(explained.statements.len(), listed.map(|policy| policy.statements().len()).sum::<usize>());
    }

    /// A value in which a variable stands for nothing equals and resembles nothing. Where that is negated, a Deny holds
    /// and an Allow does not. Without the key to compare with, no Allow holds either.
    #[test]
    fn a_missing_variable_never_matches(
        before in "[a-z*?]{0,3}",
        after in "[a-z*?]{0,3}",
        (positive, negated) in select(&TEXT_OPERATORS[..]),
        (prefix, suffix) in select(&AROUND[..]),
        seen in "[a-z]{0,3}",
    ) {
        let unresolved = format!("{before}${{aws:PrincipalTag/none}}{after}");
        let mut asked = Asked::default();
        asked.caller.tags.insert("v".into(), format!("arn:aws:iam::1:{seen}"));
        let condition = |operator: &str| {
            let operator = format!("{prefix}{operator}{suffix}");
            let value = format!("arn:aws:iam::*:{unresolved}");
            format!(r#""Resource":"*","Condition":{{"{operator}":{{"aws:PrincipalTag/v":"{value}"}}}}"#)
        };
        let resource = |element: &str| format!(r#""{element}":"arn:aws:ec2:*:*:{unresolved}""#);
        let statement = |effect: &str, rest: &str| format!(r#"{{"Effect":"{effect}","Action":"*",{rest}}}"#);
        for (rest, is_negated) in [
            (condition(positive), false),
            (condition(negated), true),
            (resource("Resource"), false),
            (resource("NotResource"), true),
        ] {
            let without_key = Asked::default();
            prop_assert!(!asked.allows(&[statement("Allow", &rest)]), "{}", rest);
            prop_assert!(!without_key.allows(&[statement("Allow", &rest)]), "{} without the key", rest);
            prop_assert_eq!(!asked.allows(&[ANYTHING.to_owned(), statement("Deny", &rest)]), is_negated, "{}", rest);
        }
    }

    /// Whatever a tag holds, what is substituted stands for itself alone.
    #[test]
    fn substituted_text_is_literal(
        substituted in "[ab*?:${}]{0,6}",
        seen in "[ab*?:${}]{0,6}",
        same: bool,
        operator in select(&["StringEquals", "StringLike"][..]),
    ) {
        let seen = if same { substituted.clone() } else { seen };
        let mut asked = Asked::default();
        asked.caller.tags = [("seen", &seen), ("by", &substituted)].map(|(k, v)| (k.to_owned(), v.clone())).into();
        let condition = format!(r#""{operator}":{{"aws:PrincipalTag/seen":"${{aws:PrincipalTag/by}}"}}"#);
        let statement = format!(r#"{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{{{condition}}}}}"#);
        prop_assert_eq!(asked.allows(&[statement]), seen == substituted);

        asked.resource = format!("arn:aws:ec2:us-east-1:111122223333:instance/{seen}");
        let resource = "arn:aws:ec2:*:*:instance/${aws:PrincipalTag/by}";
        let statement = format!(r#"{{"Effect":"Allow","Action":"*","Resource":"{resource}"}}"#);
        prop_assert_eq!(asked.allows(&[statement]), seen == substituted);

        asked.caller.tags.insert("seen".into(), format!("arn:aws:s3:::{seen}"));
        let condition = r#""ArnLike":{"aws:PrincipalTag/seen":"arn:aws:s3:*::${aws:PrincipalTag/by}"}"#;
        let statement = format!(r#"{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{{{condition}}}}}"#);
        prop_assert_eq!(asked.allows(&[statement]), seen == substituted);
    }

    /// With a value that is there and not empty, and no variable missing, a negated operator holds just where the other does not, and
    /// `IfExists` and set operators change nothing.
    #[test]
    fn with_the_key_there_an_operator_and_its_negation_are_opposites(
        (positive, negated) in select(&TEXT_OPERATORS[..3]),
        values in vec("[ab*?]{0,3}|\\$\\{aws:username\\}|\\$\\{[*]\\}", 1..4),
        seen in "[ab*]{1,3}|alice",
        (prefix, suffix) in select(&AROUND[..]),
    ) {
        let mut asked = Asked::default();
        asked.caller.tags.insert("v".into(), seen);
        let values = serde_json::to_string(&values).unwrap();
        let holds = |operator: String| {
            let condition = format!(r#""Condition":{{"{operator}":{{"aws:PrincipalTag/v":{values}}}}}"#);
            asked.allows(&[format!(r#"{{"Effect":"Allow","Action":"*","Resource":"*",{condition}}}"#)])
        };
        prop_assert_ne!(holds(positive.to_owned()), holds(negated.to_owned()));
        prop_assert_eq!(holds(positive.to_owned()), holds(format!("{prefix}{positive}{suffix}")));
        prop_assert_eq!(holds(negated.to_owned()), holds(format!("{prefix}{negated}{suffix}")));
    }
}
