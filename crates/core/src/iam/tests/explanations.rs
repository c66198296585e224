//! Explanations as operators read them.

use super::{Asked, policy};
use crate::iam::{Outcome, PolicyKind, StatementRef, explain};

fn explained(asked: &Asked) -> String {
    explain(&asked.request()).to_string()
}

#[test]
fn one_line_for_each_statement() {
    let mut asked = Asked { os_user: "root".parse().unwrap(), ..Asked::default() };
    asked.caller.policies = vec![
        policy(
            "group/ops/push",
            r#"{"Sid":"Deploy","Effect":"Allow","Action":"ec2-instance-connect:SendSSHPublicKey","Resource":"*",
                "Condition":{"StringEquals":{"ec2:osuser":["deploy","web"]}}},
               {"Effect":"Allow","Action":"ec2-instance-connect:OpenTunnel","Resource":"*"},
               {"Effect":"Allow","Action":"*","Resource":"arn:aws:ec2:*:*:volume/*"},
               {"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"aws:ResourceTag/team":"b*"}}},
               {"Effect":"Allow","Action":"*","Resource":"*"}"#,
        ),
        policy(
            "tags",
            r#"{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringLike":{"aws:username":"${aws:PrincipalTag/team}*"}}},
               {"Effect":"Deny","Action":"*","Resource":"arn:aws:ec2:*:*:instance/${aws:PrincipalTag/team}"}"#,
        ),
    ];
    asked.caller.boundary = Some(policy(
        "arn:aws:iam::111122223333:policy/Limit",
        r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#,
    ));
    let instance = "arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0";
    assert_eq!(
        explained(&asked),
        format!(
            r#"Denied: no permissions boundary allows it.
arn:aws:iam::111122223333:user/alice asks for ec2-instance-connect:SendSSHPublicKey on {instance}.
- identity-based policy "group/ops/push", statement Deploy (Allow): does not match, StringEquals ec2:osuser ["deploy", "web"] does not hold: the request has "root"
- identity-based policy "group/ops/push", statement #1 (Allow): is not about the action
- identity-based policy "group/ops/push", statement #2 (Allow): is not about the resource
- identity-based policy "group/ops/push", statement #3 (Allow): does not match, StringLike aws:ResourceTag/team ["b*"] does not hold: the request has no such key
- identity-based policy "group/ops/push", statement #4 (Allow): matches
- identity-based policy "tags", statement #0 (Deny): does not match, StringLike aws:username ["${{aws:PrincipalTag/team}}*"] does not hold: the request has "alice"; ${{aws:PrincipalTag/team}} stands for nothing
- identity-based policy "tags", statement #1 (Deny): is not about the resource; ${{aws:PrincipalTag/team}} stands for nothing
- permissions boundary "arn:aws:iam::111122223333:policy/Limit", statement #0 (Allow): is not about the action
Warning: identity-based policy "tags", statement #0 cannot deny this, because a policy variable stands for nothing.
Warning: identity-based policy "tags", statement #1 cannot deny this, because a policy variable stands for nothing.
"#
        )
    );
}

#[test]
fn the_decision_in_words() {
    let anything = r#"{"Sid":"All","Effect":"Allow","Action":"*","Resource":"*"}"#;
    let mut asked = Asked::default();
    assert!(explained(&asked).starts_with("Denied: no identity-based policy allows it.\n"));
    asked.caller.kind = crate::inventory::UserKind::Root;
    assert!(explained(&asked).starts_with("Allowed: the root may do what no statement denies.\n"));
    asked = Asked::default();
    asked.caller.policies = vec![policy("p", anything)];
    assert!(explained(&asked).starts_with("Allowed by identity-based policy \"p\", statement All.\n"));
    asked.caller.boundary = Some(policy("b", &anything.replace("Allow", "Deny")));
    assert!(explained(&asked).starts_with("Denied by permissions boundary \"b\", statement All.\n"));
}

/// A caller writes the user agent, and an operator reads the explanation on a terminal.
#[test]
fn texts_of_the_request_are_escaped() {
    let mut asked = Asked::default();
    asked.origin.user_agent = "x\"\n- forged \u{1b}[31m".to_owned();
    asked.caller.policies = vec![policy(
        "p",
        r#"{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"aws:UserAgent":"aws\n*"}}}"#,
    )];
    let text = explained(&asked);
    assert!(
        text.contains(
            r#"StringLike aws:UserAgent ["aws\n*"] does not hold: the request has "x\"\n- forged \u{1b}[31m""#
        ),
        "{text}"
    );
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn a_variable_is_to_blame_only_where_it_decides() {
    let mut asked = Asked::default();
    let blamed = |asked: &Asked| explain(&asked.request()).unresolved_denies().count();
    let deny = |condition: &str| {
        let all = r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#;
        let statement =
            format!(r#"{{"Effect":"Deny","Action":"*","Resource":"*","Condition":{{{condition}}}}}"#);
        vec![policy("p", &format!("{all},{statement}"))]
    };
    let none = "${aws:PrincipalTag/none}";
    for (condition, expected) in [
        (format!(r#""StringEquals":{{"aws:username":"{none}"}}"#), 1),
        (format!(r#""StringEquals":{{"aws:username":["bob","{none}"]}}"#), 1),
        (format!(r#""StringEquals":{{"aws:username":["alice","{none}"]}}"#), 0),
        (format!(r#""StringNotEquals":{{"aws:username":"{none}"}}"#), 0),
        (format!(r#""StringNotEquals":{{"aws:username":["alice","{none}"]}}"#), 0),
        (r#""StringEquals":{"aws:username":"${aws:PrincipalTag/none, 'bob'}"}"#.to_owned(), 0),
        (format!(r#""StringEquals":{{"aws:PrincipalTag/none":"{none}"}}"#), 0),
    ] {
        asked.caller.policies = deny(&condition);
        assert_eq!(blamed(&asked), expected, "{condition}");
    }
    asked.caller.policies = deny(r#""StringEquals":{"aws:username":"bob"}"#);
    let explanation = explain(&asked.request());
    let expected = Outcome::ConditionFails {
        condition: r#"StringEquals aws:username ["bob"]"#.to_owned(),
        seen: vec!["alice".to_owned()],
        unresolved: None,
    };
    assert_eq!(explanation.statements[1].outcome, expected);
}

/// Statement by statement too, behind those of the identity policies.
#[test]
fn a_boundary_is_explained_as_the_policies_are() {
    let none = "${aws:PrincipalTag/none}";
    let statements = format!(
        r#"{{"Effect":"Allow","Action":"*","Resource":"*"}},
           {{"Effect":"Allow","Action":"*","Resource":"*","Condition":{{"StringEquals":{{"aws:username":"bob"}}}}}},
           {{"Effect":"Deny","Action":"*","Resource":"*","Condition":{{"StringEquals":{{"aws:username":"{none}"}}}}}}"#
    );
    let mut asked = Asked::default();
    asked.caller.policies = vec![policy("p", &statements)];
    asked.caller.boundary = Some(policy("b", &statements));
    let explanation = explain(&asked.request());
    let [identity, boundary] = explanation.statements.as_chunks::<3>().0 else { panic!("{explanation}") };
    for (identity, boundary) in identity.iter().zip(boundary) {
        assert_eq!((identity.effect, &identity.outcome), (boundary.effect, &boundary.outcome));
        let of_boundary = (PolicyKind::PermissionsBoundary, "b", &identity.statement.statement);
        let StatementRef { kind, policy, statement } = &boundary.statement;
        assert_eq!((*kind, policy.as_str(), statement), of_boundary);
    }
    assert_eq!(boundary[0].outcome, Outcome::Matches);
    let blamed: Vec<_> = explanation.unresolved_denies().map(|deny| deny.statement.policy.as_str()).collect();
    assert_eq!(blamed, ["p", "b"]);
}

#[test]
fn tags_that_differ_in_case_only_are_both_told() {
    let tags = [("Env", "prod"), ("env", "dev")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let mut asked = Asked { tags: Some(tags.into()), ..Asked::default() };
    asked.caller.policies = vec![policy(
        "p",
        r#"{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/env":"dev"}}}"#,
    )];
    let told = r#"the request has ["prod", "dev"] in tags that differ in case only"#;
    assert!(explained(&asked).contains(told), "{}", explained(&asked));
}
