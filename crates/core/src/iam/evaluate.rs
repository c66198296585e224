//! The decision: one explicit Deny refuses, else one Allow permits, else the answer is no.

use super::policy::{
    ActionPattern, Condition, ConditionKey, Effect, Operator, Policy, ResourcePattern, Statement,
};
use super::wildcard;
use crate::origin::Origin;
use std::sync::Arc;

/// What is asked: may the caller do `action` to `resource`, given these condition keys?
#[derive(Clone, Copy, Debug)]
pub struct AccessRequest<'a> {
    /// The action, such as `ec2-instance-connect:SendSSHPublicKey`.
    pub action: &'a str,
    /// The ARN of the resource.
    pub resource: &'a str,
    /// `ec2:osuser`, for the one action that has it.
    pub os_user: Option<&'a str>,
    /// Where the request came from.
    pub origin: &'a Origin,
}

/// The statement that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementRef {
    /// The policy's name.
    pub policy: String,
    /// The statement's `Sid`, or its position in the policy, from 0.
    pub statement: String,
}

/// The answer to an [`AccessRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// This statement allows it and none denies it.
    Allowed(StatementRef),
    /// This statement denies it, whatever others allow.
    ExplicitlyDenied(StatementRef),
    /// No statement allows it.
    ImplicitlyDenied,
}

/// Evaluates the identity policies of one caller.
pub fn evaluate(policies: &[Arc<Policy>], request: &AccessRequest<'_>) -> Decision {
    let matching = |effect: Effect| {
        policies.iter().find_map(|policy| {
            let position = policy.statements.iter().position(|s| s.effect == effect && s.matches(request))?;
            let sid = policy.statements.get(position).and_then(|statement| statement.sid.clone());
            let statement = sid.unwrap_or_else(|| position.to_string());
            Some(StatementRef { policy: policy.name().to_owned(), statement })
        })
    };
    #[cfg(feature = "planted-allow-beats-deny")]
    if let Some(statement) = matching(Effect::Allow) {
        return Decision::Allowed(statement);
    }
    if let Some(statement) = matching(Effect::Deny) {
        return Decision::ExplicitlyDenied(statement);
    }
    match matching(Effect::Allow) {
        Some(statement) => Decision::Allowed(statement),
        None => Decision::ImplicitlyDenied,
    }
}

impl Statement {
    fn matches(&self, request: &AccessRequest<'_>) -> bool {
        self.actions.iter().any(|pattern| pattern.matches(request.action))
            && self.resources.iter().any(|pattern| pattern.matches(request.resource))
            && self.conditions.iter().all(|condition| condition.holds(request))
    }
}

impl ActionPattern {
    fn matches(&self, action: &str) -> bool {
        wildcard::matches(&self.0, &action.to_ascii_lowercase())
    }
}

impl ResourcePattern {
    fn matches(&self, arn: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Arn(patterns) => {
                let segments: Vec<&str> = arn.splitn(6, ':').collect();
                segments.len() == patterns.len()
                    && patterns
                        .iter()
                        .zip(segments)
                        .all(|(pattern, segment)| wildcard::matches(pattern, segment))
            }
        }
    }
}

impl Condition {
    fn holds(&self, request: &AccessRequest<'_>) -> bool {
        let value = match self.key {
            ConditionKey::OsUser => request.os_user,
        };
        match self.operator {
            // A key that the request does not have satisfies no positive operator.
            Operator::StringEquals => {
                value.is_some_and(|value| self.values.iter().any(|wanted| wanted == value))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn origin() -> Origin {
        Origin {
            request: "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap(),
            time: instance_connect_document::UnixSeconds(1_928_541_906),
            source: "192.0.2.1".parse().unwrap(),
            user_agent: String::new(),
            secure_transport: true,
        }
    }

    const ACTION: &str = "ec2-instance-connect:SendSSHPublicKey";
    const RESOURCE: &str = "arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0";

    fn statement(effect: &str, action: &str, resource: &str, condition: &str) -> String {
        format!(
            r#"{{"Effect":"{effect}","Action":"{action}","Resource":"{resource}","Condition":{{{condition}}}}}"#
        )
    }

    fn policy(statements: &[String]) -> Arc<Policy> {
        let parsed = Policy::parse(
            "p",
            &format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(",")),
        );
        Arc::new(parsed.unwrap())
    }

    fn decide(statements: &[String]) -> &'static str {
        let request =
            AccessRequest { action: ACTION, resource: RESOURCE, os_user: Some("deploy"), origin: &origin() };
        match evaluate(&[policy(statements)], &request) {
            Decision::Allowed(_) => "allowed",
            Decision::ExplicitlyDenied(_) => "denied",
            Decision::ImplicitlyDenied => "not allowed",
        }
    }

    #[test]
    fn one_statement() {
        let os_user = |user: &str| format!(r#""StringEquals":{{"ec2:osuser":"{user}"}}"#);
        for (action, resource, condition, expected) in [
            ("*", "*", String::new(), true),
            (ACTION, RESOURCE, String::new(), true),
            ("EC2-Instance-Connect:sendsshpublickey", "*", String::new(), true),
            ("ec2-instance-connect:*", "*", String::new(), true),
            ("ec2-instance-connect:Send???PublicKey", "*", String::new(), true),
            ("ec2-instance-connect:SendSerialConsoleSSHPublicKey", "*", String::new(), false),
            ("ec2:*", "*", String::new(), false),
            (ACTION, "arn:aws:ec2:us-east-1:111122223333:instance/*", String::new(), true),
            (ACTION, "arn:aws:ec2:*:*:instance/i-0123*", String::new(), true),
            (ACTION, "arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789ABCDEF0", String::new(), false),
            (ACTION, "arn:aws:ec2:us-east-2:111122223333:instance/*", String::new(), false),
            // A star stays in its segment: this one would otherwise swallow region and account.
            (ACTION, "arn:aws:ec2:*:instance/i-0123456789abcdef0:*", String::new(), false),
            (ACTION, "*", os_user("deploy"), true),
            (ACTION, "*", os_user("root"), false),
            (ACTION, "*", os_user("Deploy"), false),
            (ACTION, "*", r#""StringEquals":{"ec2:osuser":["root","deploy"]}"#.to_owned(), true),
            (ACTION, "*", r#""StringEquals":{"ec2:osuser":[]}"#.to_owned(), false),
        ] {
            let (yes, no) = if expected { ("allowed", "denied") } else { ("not allowed", "not allowed") };
            assert_eq!(
                decide(&[statement("Allow", action, resource, &condition)]),
                yes,
                "{action} {resource} {condition}"
            );
            assert_eq!(
                decide(&[statement("Deny", action, resource, &condition)]),
                no,
                "{action} {resource} {condition}"
            );
        }
    }

    #[test]
    fn deny_beats_allow_in_any_order() {
        let (allow, deny) = (statement("Allow", "*", "*", ""), statement("Deny", "*", RESOURCE, ""));
        assert_eq!(decide(&[allow.clone(), deny.clone()]), "denied");
        assert_eq!(decide(&[deny.clone(), allow.clone()]), "denied");
        let request = AccessRequest { action: ACTION, resource: RESOURCE, os_user: None, origin: &origin() };
        let decision = evaluate(&[policy(&[allow]), policy(&[deny])], &request);
        assert!(matches!(decision, Decision::ExplicitlyDenied(_)));
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        let request =
            AccessRequest { action: ACTION, resource: RESOURCE, os_user: Some("deploy"), origin: &origin() };
        assert_eq!(evaluate(&[], &request), Decision::ImplicitlyDenied);
    }

    #[test]
    fn a_key_the_request_lacks_satisfies_nothing() {
        let allow = policy(&[statement("Allow", "*", "*", r#""StringEquals":{"ec2:osuser":"deploy"}"#)]);
        let action = "ec2-instance-connect:SendSerialConsoleSSHPublicKey";
        let request = AccessRequest { action, resource: RESOURCE, os_user: None, origin: &origin() };
        assert_eq!(evaluate(&[allow], &request), Decision::ImplicitlyDenied);
    }

    fn any_statement() -> impl Strategy<Value = String> {
        let effect = prop_oneof![Just("Allow"), Just("Deny")];
        let action = prop_oneof![Just("*"), Just(ACTION), Just("ec2:*")];
        let resource = prop_oneof![Just("*"), Just(RESOURCE), Just("arn:aws:ec2:*:*:volume/*")];
        let condition = prop_oneof![
            Just(""),
            Just(r#""StringEquals":{"ec2:osuser":"deploy"}"#),
            Just(r#""StringEquals":{"ec2:osuser":"root"}"#)
        ];
        (effect, action, resource, condition).prop_map(|(e, a, r, c)| statement(e, a, r, c))
    }

    proptest! {
        #[test]
        fn adding_a_deny_never_widens(statements in prop::collection::vec(any_statement(), 1..6), extra in any_statement()) {
            let before = decide(&statements);
            let mut more = statements;
            more.push(extra.replace("\"Allow\"", "\"Deny\""));
            prop_assert!(before == "allowed" || decide(&more) != "allowed");
        }

        #[test]
        fn order_does_not_matter(statements in prop::collection::vec(any_statement(), 1..6)) {
            let reversed: Vec<String> = statements.iter().rev().cloned().collect();
            prop_assert_eq!(decide(&statements), decide(&reversed));
        }
    }
}
