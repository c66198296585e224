//! Filters: which of many things are meant, in EC2's words (wire.md 9.5).

use super::page::Steps;
use super::{Parameters, refused};
use crate::api::{ApiError, QueryErrorCode as Code};
use crate::iam::wildcard::{self, Token};
use crate::limits;
use serde_json::{Value, json};

/// What of a thing a filter looks at.
pub(super) trait Field: Sized {
    /// Reads the name of a filter.
    fn parse(name: &str) -> Option<Self>;
}

/// The filters of a request: a thing is meant that fits every one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filters<F> {
    filters: Vec<Filter<F>>,
}

/// One filter: a thing fits it that fits one of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Filter<F> {
    name: String,
    field: F,
    values: Vec<Wildcard>,
}

impl<F> Default for Filters<F> {
    fn default() -> Self {
        Self { filters: Vec::new() }
    }
}

impl<F: Field> Filters<F> {
    /// Reads `Filter.N.Name` and `Filter.N.Value.M`.
    pub(super) fn read(parameters: &mut Parameters) -> Result<Self, ApiError> {
        let (mut filters, mut count) = (Vec::new(), 0);
        for mut structure in parameters.structures("Filter") {
            let name = structure.required("Name")?;
            check_length(&structure, "Name", &name)?;
            let Some(field) = F::parse(&name) else {
                let name: String = name.chars().take(limits::QUERY_NAME).collect();
                return Err(refused(Code::InvalidParameterValue, format!("The filter '{name}' is invalid")));
            };
            let values = structure.list("Value");
            if values.is_empty() {
                return Err(structure.missing("Value.1"));
            }
            values.iter().try_for_each(|value| check_length(&structure, "Value", value))?;
            let values: Vec<Wildcard> = values.into_iter().map(Wildcard::new).collect();
            structure.finish()?;
            count += values.len();
            filters.push(Filter { name, field, values });
        }
        if filters.len() > limits::FILTERS || count > limits::FILTER_VALUES {
            let message = format!(
                "There may be {} filters in a request, with {} values together.",
                limits::FILTERS,
                limits::FILTER_VALUES
            );
            return Err(refused(Code::InvalidParameterValue, message));
        }
        Ok(Self { filters })
    }
}

fn check_length(filter: &Parameters, name: &str, text: &str) -> Result<(), ApiError> {
    if text.chars().count() > limits::FILTER_TEXT {
        let why = format!("It may have {} characters.", limits::FILTER_TEXT);
        return Err(filter.invalid(name, text, &why));
    }
    Ok(())
}

impl<F> Filters<F> {
    /// Whether a thing fits every filter. `values` gives what it has in a field: several values where several fit.
    pub(super) fn fit<'t>(
        &self,
        steps: &mut Steps,
        values: impl Fn(&F) -> Vec<std::borrow::Cow<'t, str>>,
    ) -> bool {
        self.filters.iter().all(|filter| {
            let values = values(&filter.field);
            filter.values.iter().any(|wanted| values.iter().any(|value| wanted.matches(value, steps)))
        })
    }

    /// As CloudTrail's records show them.
    pub(super) fn recorded(&self) -> Value {
        let items = self.filters.iter().map(|filter| {
            let values: Value = filter.values.iter().map(|value| json!({ "value": value.text })).collect();
            json!({ "name": filter.name, "valueSet": { "items": values } })
        });
        json!({ "items": items.collect::<Value>() })
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }
}

/// A value of a filter: `*` stands for any characters, `?` for one, and what stands behind a `\` for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wildcard {
    /// As it was written.
    text: String,
    /// What it means, character by character: each that is looked at is a step.
    tokens: Vec<Token<char>>,
}

impl Wildcard {
    fn new(text: String) -> Self {
        let mut rest = text.chars();
        let token = || {
            Some(match rest.next()? {
                '*' => Token::AnyRun,
                '?' => Token::AnyCharacter,
                '\\' => Token::Literal(rest.next().unwrap_or('\\')),
                literal => Token::Literal(literal),
            })
        };
        let tokens = std::iter::from_fn(token).collect();
        Self { text, tokens }
    }

    fn matches(&self, text: &str, steps: &mut Steps) -> bool {
        let token = |position: usize| {
            steps.take(1);
            self.tokens.get(position).copied()
        };
        wildcard::matches(token, |rest, literal: char| rest.strip_prefix(literal), text, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wildcards() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("web", "web", true),
            ("web", "Web", false),
            ("web-*", "web-1", true),
            ("web-*", "web-", true),
            ("web-*", "db-1", false),
            ("*-1", "web-1-1", true),
            ("*a*b", "aXbXaXb", true),
            ("*a*b", "aXbXaX", false),
            ("?eb", "web", true),
            ("?eb", "eb", false),
            ("web?", "web", false),
            ("w?b", "wüb", true),
            ("*", "", true),
            (r"a\*b", "a*b", true),
            (r"a\*b", "aXb", false),
            (r"a\?b", "aXb", false),
            (r"a\\b", r"a\b", true),
            (r"a\b", "ab", true),
            (r"a\", r"a\", true),
        ] {
            assert_eq!(
                Wildcard::new(pattern.into()).matches(text, &mut Steps::default()),
                expected,
                "{pattern:?} {text:?}"
            );
        }
    }

    proptest! {
        /// The slow way, which tries everything, says the same.
        #[test]
        fn wildcards_are_those_of_a_search_that_tries_everything(pattern in r"[ab*?\\]{0,8}", text in "[ab*]{0,8}") {
            fn slow(pattern: &[char], text: &[char]) -> bool {
                match (pattern, text) {
                    ([], _) => text.is_empty(),
                    (['*', rest @ ..], _) => (0..=text.len()).any(|n| slow(rest, &text[n..])),
                    (['?', rest @ ..], [_, text @ ..]) => slow(rest, text),
                    (['\\', literal, rest @ ..], [first, text @ ..]) => literal == first && slow(rest, text),
                    ([literal, rest @ ..], [first, text @ ..]) => *literal != '?' && literal == first && slow(rest, text),
                    (_, []) => false,
                }
            }
            let [as_chars, text_chars] = [&pattern, &text].map(|text| text.chars().collect::<Vec<char>>());
            prop_assert_eq!(Wildcard::new(pattern).matches(&text, &mut Steps::default()), slow(&as_chars, &text_chars));
        }
    }
}
