//! A policy document, parsed into a form that can be evaluated fully or refused when it is loaded.

use super::pattern::folded;
use super::statement::{ConditionText, Effect, Listed, Statement, StatementText};
use crate::limits;
use crate::printable::printable;
use instance_connect_planted::parser_entered;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IntoDeserializer as _, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

/// A named policy.
#[derive(Clone, Debug)]
pub struct Policy {
    name: String,
    statements: Vec<Statement>,
    warnings: Vec<String>,
}

/// Why a policy document is refused: in words for its author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

impl PolicyError {
    fn new(message: &str) -> Self {
        Self(printable(message))
    }
}

impl Policy {
    /// Parses a policy document (JSON).
    ///
    /// The name tells where the policy comes from. It is what decisions and explanations call it.
    ///
    /// # Errors
    /// Anything that could not be evaluated fully is refused here, never skipped later.
    pub fn parse(name: &str, document: &str) -> Result<Self, PolicyError> {
        parser_entered(document.as_bytes());
        check_size(document)?;
        let Object(text): Object<DocumentText> =
            serde_json::from_str(document).map_err(|error| PolicyError::new(&error.to_string()))?;
        let variables = match text.version.as_deref() {
            Some("2012-10-17") => true,
            Some("2008-10-17") | None => false,
            Some(other) => {
                return Err(PolicyError::new(&format!("unknown Version {other:?}; use \"2012-10-17\"")));
            }
        };
        let mut policy = Self { name: name.to_owned(), statements: Vec::new(), warnings: Vec::new() };
        let looks_variable =
            |Object(parts): &Object<StatementParts>| parts.texts().any(|text| text.contains("${"));
        if !variables && text.statement.0.iter().any(looks_variable) {
            let warning = "${…} is no variable but literal text; \"Version\": \"2012-10-17\" makes it one";
            policy.warnings.push(warning.to_owned());
        }
        for (position, Object(parts)) in text.statement.0.into_iter().enumerate() {
            policy.add(position, parts, variables)?;
        }
        if policy.statements.is_empty() {
            return Err(PolicyError::new("a policy needs a Statement"));
        }
        Ok(policy)
    }

    fn add(&mut self, position: usize, parts: StatementParts, variables: bool) -> Result<(), PolicyError> {
        // Some tools write an empty Sid for none.
        let sid = parts.sid.as_deref().filter(|sid| !sid.is_empty());
        let name = sid.map_or_else(|| format!("#{position}"), str::to_owned);
        let refused = |problem: String| PolicyError::new(&format!("statement {name}: {problem}"));
        if sid.is_some_and(|sid| !sid.bytes().all(|b| b.is_ascii_alphanumeric())) {
            return Err(refused("a Sid has letters and digits only".to_owned()));
        }
        if self.statements.iter().any(|other| other.name == name) {
            return Err(refused("another statement has this Sid".to_owned()));
        }
        let mut warnings = Vec::new();
        let statement = parts
            .into_text()
            .and_then(|text| Statement::parse(name.clone(), text, variables, &mut warnings))
            .map_err(refused)?;
        self.statements.push(statement);
        self.warnings
            .extend(warnings.into_iter().map(|warning| printable(&format!("statement {name}: {warning}"))));
        Ok(())
    }

    /// Its name, for explanations and the audit log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What in it means less than its author may think, in words for the author. None of it grants anything.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The length of a document as IAM counts it, in characters: white space is free, so that a policy which fits there
    /// fits here, however it is indented.
    pub fn counted_characters(document: &str) -> usize {
        document.chars().filter(|c| !c.is_ascii_whitespace()).count()
    }

    pub(super) fn statements(&self) -> &[Statement] {
        &self.statements
    }
}

fn check_size(document: &str) -> Result<(), PolicyError> {
    let too_long = |document| Policy::counted_characters(document) > limits::POLICY_DOCUMENT;
    if document.len() > limits::POLICY_TEXT || too_long(document) {
        return Err(PolicyError::new(&format!(
            "a policy document has at most {} characters without white space, and {} bytes with it",
            limits::POLICY_DOCUMENT,
            limits::POLICY_TEXT
        )));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DocumentText {
    version: Option<String>,
    #[serde(rename = "Id")]
    _id: Option<String>,
    statement: OneOrMany<Object<StatementParts>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct StatementParts {
    sid: Option<String>,
    effect: String,
    action: Option<OneOrMany<String>>,
    not_action: Option<OneOrMany<String>>,
    resource: Option<OneOrMany<String>>,
    not_resource: Option<OneOrMany<String>>,
    #[serde(default)]
    condition: UniqueMap<UniqueMap<OneOrMany<Scalar>>>,
}

impl StatementParts {
    /// All in which variables can stand.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let resources = [&self.resource, &self.not_resource].into_iter().flatten().flat_map(|texts| &texts.0);
        let blocks = self.condition.0.iter().flat_map(|(_, block)| &block.0);
        let values = blocks.flat_map(|(_, values)| &values.0).filter_map(|value| match value {
            Scalar::Text(text) => Some(text),
            Scalar::Bool(_) | Scalar::Number(_) => None,
        });
        resources.chain(values).map(String::as_str)
    }

    fn into_text(self) -> Result<StatementText, String> {
        let mut conditions = Vec::new();
        for (operator, keys) in self.condition.0 {
            if keys.0.is_empty() {
                return Err(format!("Condition {operator} names no condition key"));
            }
            for (key, OneOrMany(values)) in keys.0 {
                let values = values.into_iter().map(Scalar::into_text).collect();
                conditions.push(ConditionText { operator: operator.clone(), key, values });
            }
        }
        let effect = match self.effect.as_str() {
            "Allow" => Effect::Allow,
            "Deny" => Effect::Deny,
            other => return Err(format!("Effect is \"Allow\" or \"Deny\", and not {other:?}")),
        };
        Ok(StatementText {
            effect,
            actions: exactly_one("Action", self.action, self.not_action)?,
            resources: exactly_one("Resource", self.resource, self.not_resource)?,
            conditions,
        })
    }
}

fn exactly_one(
    name: &str,
    only: Option<OneOrMany<String>>,
    all_but: Option<OneOrMany<String>>,
) -> Result<Listed, String> {
    match (only, all_but) {
        (Some(OneOrMany(listed)), None) if !listed.is_empty() => Ok(Listed::Only(listed)),
        (None, Some(OneOrMany(listed))) if !listed.is_empty() => Ok(Listed::AllBut(listed)),
        (Some(_), Some(_)) => Err(format!("{name} and Not{name} stand together; keep one")),
        (None, None) => Err(format!("there is no {name}; write \"*\" for any")),
        (Some(_), None) | (None, Some(_)) => Err(format!("{name} lists nothing; write \"*\" for any")),
    }
}

/// A JSON object. What serde derives for a struct would take a list of its members too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// A value of a condition. Numbers and truth may stand without quotation marks.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string, a number, true or false")]
enum Scalar {
    Text(String),
    Bool(bool),
    Number(serde_json::Number),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Bool(value) => value.to_string(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// A value, or a list of values. An untagged enum would do, but could not say where a value is wrong.
struct OneOrMany<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Values<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list of values")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(OneOrMany(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Ok(OneOrMany(vec![T::deserialize(MapAccessDeserializer::new(map))?]))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(OneOrMany(vec![T::deserialize(value.into_deserializer())?]))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
                Ok(OneOrMany(vec![T::deserialize(value.into_deserializer())?]))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(OneOrMany(vec![T::deserialize(value.into_deserializer())?]))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
                Ok(OneOrMany(vec![T::deserialize(value.into_deserializer())?]))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
                Ok(OneOrMany(vec![T::deserialize(value.into_deserializer())?]))
            }
        }

        deserializer.deserialize_any(Values(PhantomData))
    }
}

/// A JSON object of operators or condition keys. None may stand twice, in whatever case: of two with the same spelling the
/// later would silently replace the earlier, and any two both have to hold, where their author means one or the other.
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
                let (mut entries, mut names) = (Vec::new(), BTreeSet::new());
                while let Some((name, value)) = map.next_entry::<String, V>()? {
                    if !names.insert(folded(name.chars()).collect::<String>()) {
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
