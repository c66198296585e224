//! A policy document, parsed into a form that can be evaluated fully or refused when it is loaded.

use crate::{limits, planted};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// A named policy.
#[derive(Clone, Debug)]
pub struct Policy {
    name: String,
    pub(super) statements: Vec<Statement>,
}

/// Why a policy document is refused: in words for its author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

/// One statement: when all of its parts match a request, its effect holds.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) sid: Option<String>,
    pub(super) effect: Effect,
    pub(super) actions: Vec<ActionPattern>,
    pub(super) resources: Vec<ResourcePattern>,
    pub(super) conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Effect {
    Allow,
    Deny,
}

/// A lower-case action pattern: actions compare without regard to case.
#[derive(Clone, Debug)]
pub(super) struct ActionPattern(pub(super) String);

/// A resource pattern. Wildcards stay within the colon-separated segment they stand in.
#[derive(Clone, Debug)]
pub(super) enum ResourcePattern {
    Any,
    Arn([String; 6]),
}

/// One condition: the request's value for the key must satisfy the operator for one of the values.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) operator: Operator,
    pub(super) key: ConditionKey,
    pub(super) values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    StringEquals,
}

/// A condition key this service gives a value to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConditionKey {
    /// `ec2:osuser`: the requested `InstanceOSUser`; absent for other actions (wire.md 7.1).
    OsUser,
}

impl Policy {
    /// Parses a policy document (JSON).
    ///
    /// # Errors
    /// Anything that could not be evaluated fully is refused here, never skipped later.
    pub fn parse(name: &str, document: &str) -> Result<Self, PolicyError> {
        planted::parser_entered(document.as_bytes());
        if document.len() > limits::POLICY_DOCUMENT {
            return Err(PolicyError(format!(
                "a policy document has at most {} characters",
                limits::POLICY_DOCUMENT
            )));
        }
        let text: DocumentText =
            serde_json::from_str(document).map_err(|error| PolicyError(error.to_string()))?;
        let variables = match text.version.as_deref() {
            Some("2012-10-17") => true,
            Some("2008-10-17") | None => false,
            Some(other) => return Err(PolicyError(format!("unknown Version {other:?}; use \"2012-10-17\""))),
        };
        let statements = text.statement.into_vec();
        if statements.is_empty() {
            return Err(PolicyError("a policy needs a Statement".to_owned()));
        }
        let statements =
            statements.into_iter().map(|text| Statement::parse(text, variables)).collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), statements })
    }

    /// Its name, for explanations and the audit log.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Statement {
    fn parse(text: StatementText, variables: bool) -> Result<Self, PolicyError> {
        let actions = text.action.into_vec();
        let resources = text.resource.into_vec();
        if actions.is_empty() || resources.is_empty() {
            return Err(PolicyError("a statement needs at least one Action and one Resource".to_owned()));
        }
        let mut conditions = Vec::new();
        for (operator, keys) in text.condition.0 {
            let operator = Operator::parse(&operator)?;
            for (key, values) in keys.0 {
                let (key, values) = (ConditionKey::parse(&key)?, values.into_vec());
                for value in &values {
                    refuse_variables(value, variables)?;
                }
                conditions.push(Condition { operator, key, values });
            }
        }
        Ok(Self {
            sid: text.sid,
            effect: text.effect,
            actions: actions.iter().map(|text| ActionPattern::parse(text)).collect::<Result<_, _>>()?,
            resources: resources
                .iter()
                .map(|r| ResourcePattern::parse(r, variables))
                .collect::<Result<_, _>>()?,
            conditions,
        })
    }
}

impl ActionPattern {
    fn parse(text: &str) -> Result<Self, PolicyError> {
        let valid = text == "*"
            || text.split_once(':').is_some_and(|(service, name)| !service.is_empty() && !name.is_empty());
        if !valid || !text.is_ascii() {
            return Err(PolicyError(format!("Action {text:?} is not of the form service:Name")));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl ResourcePattern {
    fn parse(text: &str, variables: bool) -> Result<Self, PolicyError> {
        refuse_variables(text, variables)?;
        if text == "*" {
            return Ok(Self::Any);
        }
        let segments: Vec<String> = text.splitn(6, ':').map(str::to_owned).collect();
        match <[String; 6]>::try_from(segments) {
            Ok(segments) if segments.first().is_some_and(|first| first == "arn") => Ok(Self::Arn(segments)),
            _ => Err(PolicyError(format!("Resource {text:?} is neither \"*\" nor an ARN of six parts"))),
        }
    }
}

impl Operator {
    fn parse(text: &str) -> Result<Self, PolicyError> {
        match text {
            "StringEquals" => Ok(Self::StringEquals),
            _ => Err(PolicyError(format!("condition operator {text:?} is not supported"))),
        }
    }
}

impl ConditionKey {
    fn parse(text: &str) -> Result<Self, PolicyError> {
        // Key names compare without regard to case (wire.md 7.1).
        if text.eq_ignore_ascii_case("ec2:osuser") {
            return Ok(Self::OsUser);
        }
        Err(PolicyError(format!("condition key {text:?} is not supported")))
    }
}

/// Policy variables are not evaluated yet, and taking `${…}` literally would change what a policy means.
fn refuse_variables(text: &str, variables: bool) -> Result<(), PolicyError> {
    if variables && text.contains("${") {
        return Err(PolicyError(format!("policy variables are not supported: {text:?}")));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DocumentText {
    version: Option<String>,
    #[serde(rename = "Id")]
    _id: Option<String>,
    statement: OneOrMany<StatementText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct StatementText {
    sid: Option<String>,
    effect: Effect,
    action: OneOrMany<String>,
    resource: OneOrMany<String>,
    #[serde(default)]
    condition: UniqueMap<UniqueMap<OneOrMany<String>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::Many(values) => values,
            Self::One(value) => vec![value],
        }
    }
}

/// A JSON object in which no name may stand twice: the later of two conditions would silently replace the earlier.
struct UniqueMap<V>(Vec<(String, V)>);

impl<V> Default for UniqueMap<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = UniqueMap<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries: Vec<(String, V)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, V>()? {
                    if entries.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(format!("{name:?} stands twice")));
                    }
                    entries.push((name, value));
                }
                Ok(UniqueMap(entries))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::Policy;
    use proptest::prelude::*;

    fn statement(body: &str) -> String {
        format!(r#"{{"Version":"2012-10-17","Statement":[{{{body}}}]}}"#)
    }

    #[test]
    fn accepted() {
        for body in [
            r#""Effect":"Allow","Action":"*","Resource":"*""#,
            r#""Sid":"a","Effect":"Deny","Action":["ec2-instance-connect:Send*"],"Resource":["arn:aws:ec2:*:*:instance/*"]"#,
            r#""Effect":"Allow","Action":"a:B","Resource":"*","Condition":{"StringEquals":{"EC2:OSUser":["a","b"]}}"#,
        ] {
            let policy = Policy::parse("p", &statement(body));
            assert!(policy.is_ok(), "{body}: {policy:?}");
        }
        assert!(
            Policy::parse("p", r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#).is_ok()
        );
    }

    #[test]
    fn what_cannot_be_evaluated_does_not_load() {
        let allow = r#""Effect":"Allow","Action":"*","Resource":"*""#;
        for body in [
            "",
            r#""Effect":"allow","Action":"*","Resource":"*""#,
            r#""Effect":"Allow","Resource":"*""#,
            r#""Effect":"Allow","Action":"*""#,
            r#""Effect":"Allow","Action":[],"Resource":"*""#,
            r#""Effect":"Allow","NotAction":"a:b","Resource":"*""#,
            r#""Effect":"Allow","Action":"*","NotResource":"*""#,
            r#""Effect":"Allow","Action":"nocolon","Resource":"*""#,
            r#""Effect":"Allow","Action":"*","Resource":"i-1""#,
            r#""Effect":"Allow","Action":"*","Resource":"arn:aws:ec2:*:instance/*""#,
            r#""Effect":"Allow","Action":"*","Resource":"arn:aws:ec2:*:*:instance/${aws:username}""#,
            &format!(r#"{allow},"Condtion":{{}}"#),
            &format!(r#"{allow},"Principal":"*""#),
            &format!(r#"{allow},"Effect":"Deny""#),
            &format!(r#"{allow},"Condition":{{"StringLike":{{"ec2:osuser":"a"}}}}"#),
            &format!(r#"{allow},"Condition":{{"StringEquals":{{"aws:nothing":"a"}}}}"#),
            &format!(r#"{allow},"Condition":{{"StringEquals":{{"ec2:osuser":"${{aws:username}}"}}}}"#),
            &format!(
                r#"{allow},"Condition":{{"StringEquals":{{"ec2:osuser":"a"}},"StringEquals":{{"ec2:osuser":"b"}}}}"#
            ),
            &format!(r#"{allow},"Condition":{{"StringEquals":{{"ec2:osuser":"a","ec2:osuser":"b"}}}}"#),
        ] {
            assert!(Policy::parse("p", &statement(body)).is_err(), "{body}");
        }
        for document in ["", "{}", "[]", r#"{"Statement":[]}"#, r#"{"Version":"2020-01-01","Statement":[]}"#]
        {
            assert!(Policy::parse("p", document).is_err(), "{document}");
        }
        let long = statement(&format!(r#"{allow},"Sid":"{}""#, "s".repeat(7000)));
        assert!(Policy::parse("p", &long).is_err());
    }

    proptest! {
        #[test]
        fn policy_never_panics(document: String, body in "(\"(Effect|Action|Resource|Condition|Sid)\":(\"[a-z:*]{0,9}\"|\\{\\}|\\[\\]),?){0,5}") {
            let _ = Policy::parse("p", &document);
            let _ = Policy::parse("p", &statement(&body));
        }
    }
}
