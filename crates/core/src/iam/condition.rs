//! A condition: an operator, a key, and the values one of which the key's has to fit.

use super::action::ActionSet;
use super::key::{Ambiguous, ConditionKey};
use super::operator::{Comparison, Operator, TestKind};
use super::pattern::{Pattern, Syntax, TextTest, Variable};
use super::request::Context;
use super::statement::{ConditionText, Effect};
use super::value::{Decimal, Network, boolean, instant};
use super::wildcard::resource_part;
use instance_connect_document::base64_decode;
use jiff::Timestamp;
use std::fmt;
use std::net::IpAddr;

/// A condition of a statement.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    operator: Operator,
    key: ConditionKey,
    test: Test,
    /// As written.
    values: Vec<String>,
}

/// The policy's values in the form in which they are compared.
#[derive(Clone, Debug)]
enum Test {
    Text(TextTest, Vec<Pattern>),
    Numeric(Comparison, Vec<Decimal>),
    Date(Comparison, Vec<Timestamp>),
    Bool(Vec<bool>),
    Binary(Vec<Vec<u8>>),
    IpAddress(Vec<Network>),
    /// Whether the key has to be absent.
    Null(Vec<bool>),
}

/// Of which statement a condition is part, as far as it matters to what may stand in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    pub(super) effect: Effect,
    /// Those of our actions that the statement is about.
    pub(super) actions: ActionSet,
    /// Whether `${…}` is a variable.
    pub(super) variables: bool,
}

impl Condition {
    /// Reads a condition, and adds to the warnings what makes it narrower than its author may think.
    ///
    /// # Errors
    /// What could not be evaluated fully, in words for the author.
    pub(super) fn parse(
        text: ConditionText,
        scope: Scope,
        warnings: &mut Vec<String>,
    ) -> Result<Self, String> {
        let ConditionText { operator, key, values } = text;
        let place = format!("Condition {operator} {key}");
        let (condition, warning) =
            Self::checked(&operator, &key, values, scope).map_err(|problem| format!("{place}: {problem}"))?;
        warnings.extend(warning.map(|warning| format!("{place}: {warning}")));
        Ok(condition)
    }

    fn checked(
        operator: &str,
        key: &str,
        values: Vec<String>,
        scope: Scope,
    ) -> Result<(Self, Option<String>), String> {
        let (operator, key) = (Operator::parse(operator)?, ConditionKey::parse(key)?);
        let mut warning = check_key(&key, operator, scope)?;
        if values.is_empty() {
            return Err("a condition needs a value to compare with".to_owned());
        }
        let test = Test::parse(operator.test(), &values, scope)?.of(&key);
        if let Test::Text(_, patterns) = &test {
            warning = warning.or(scope.check_variables(patterns)?);
        }
        Ok((Self { operator, key, test, values }, warning))
    }

    /// Whether it holds. Where that is undecided, [`Undecided::holds`] says.
    ///
    /// # Errors
    /// It does not, because of this variable if one is named.
    pub(super) fn holds(&self, effect: Effect, context: &Context<'_>) -> Result<(), Option<&Variable>> {
        match self.decide(effect, context) {
            Ok(true) => Ok(()),
            Ok(false) => Err(None),
            Err(undecided) => undecided.holds(self.operator.is_negated(), effect),
        }
    }

    fn decide<'s>(&'s self, effect: Effect, context: &Context<'_>) -> Result<bool, Undecided<'s>> {
        if self.key.has_several() {
            return self.decide_by_several(effect, context);
        }
        let is_there = |value: &&str| !(value.is_empty() && self.operator.takes_empty_as_absent());
        let value = self.key.value(context)?.filter(is_there);
        match (&self.test, value) {
            (Test::Null(absent), _) => Ok(absent.contains(&value.is_none())),
            (test, Some(value)) => Ok(test.matches(value, context)? != self.operator.is_negated()),
            (test, None) => {
                // No value is compared here, but an Allow rests on no missing variable all the same.
                if effect == Effect::Allow {
                    test.check_variables(context)?;
                }
                Ok(self.operator.holds_without_key())
            }
        }
    }

    /// The same for a key of which the request has any number of values.
    fn decide_by_several<'s>(&'s self, effect: Effect, context: &Context<'_>) -> Result<bool, Undecided<'s>> {
        let mut values = self.key.values(context).filter(|value| !value.is_empty()).peekable();
        let is_absent = values.peek().is_none();
        if let Test::Null(absent) = &self.test {
            return Ok(absent.contains(&is_absent));
        }
        if is_absent {
            if effect == Effect::Allow {
                self.test.check_variables(context)?;
            }
            return Ok(self.operator.holds_without_key());
        }
        // One value that it does not hold of decides for all, one that it holds of for any; the last one decides the rest.
        let of_each = self.operator.holds_of_each().unwrap_or(true);
        let mut undecided = Ok(of_each);
        for value in values {
            match self.test.matches(value, context) {
                Ok(matches) if (matches != self.operator.is_negated()) != of_each => return Ok(!of_each),
                Ok(_) => {}
                Err(reason) => undecided = Err(reason),
            }
        }
        undecided
    }

    /// What the request has for its key: nothing, one value, or those of tags that differ in case only.
    pub(super) fn seen<'c>(&'c self, context: &'c Context<'_>) -> impl Iterator<Item = &'c str> {
        self.key.values(context)
    }
}

/// Why nobody can say whether something matches.
#[derive(Clone, Copy, Debug)]
pub(super) enum Undecided<'p> {
    /// This variable of the policy stands for nothing. Nothing equals or resembles a value with it.
    Missing(&'p Variable),
    /// The request's value cannot be read as what it is compared with, or tags that differ in case only have several.
    Unclear,
}

impl<'p> Undecided<'p> {
    /// Whether what is undecided holds, or does not because of the variable that is named.
    ///
    /// An Allow never holds. A Deny does, as at AWS, where it is negated and a variable is missing: leaving a tag out
    /// gives nobody more than setting it. It also does where the request is unclear: writing a tag oddly gives nobody
    /// more than writing it well.
    pub(super) fn holds(self, negated: bool, effect: Effect) -> Result<(), Option<&'p Variable>> {
        match (self, effect) {
            (Self::Unclear, Effect::Deny) => Ok(()),
            (Self::Unclear, Effect::Allow) => Err(None),
            (Self::Missing(_), Effect::Deny) if negated => Ok(()),
            (Self::Missing(variable), _) => Err(Some(variable)),
        }
    }
}

impl From<Ambiguous> for Undecided<'_> {
    fn from(Ambiguous: Ambiguous) -> Self {
        Self::Unclear
    }
}

/// Refuses a key that requests for some action of the statement never have, wherever that does more than to narrow an
/// Allow. Where it only narrows, it says so.
fn check_key(key: &ConditionKey, operator: Operator, scope: Scope) -> Result<Option<String>, String> {
    if let Some(value_type) = key.value_type()
        && !operator.reads(value_type)
    {
        return Err(format!("{operator} cannot read {key}, which is {value_type}"));
    }
    if key.has_several() && operator.holds_of_each().is_none() && operator.test() != TestKind::Null {
        return Err(format!(
            "a request may have several values of {key}; write ForAllValues:{operator} or ForAnyValue:{operator}"
        ));
    }
    let Some(missing) = scope.lacking(key) else { return Ok(None) };
    if scope.effect == Effect::Allow && operator.narrows_without_key() {
        return Ok(Some(format!("{missing}, so nothing is allowed there")));
    }
    Err(format!("{missing}; name in Action only what has it, or leave the condition out"))
}

impl Scope {
    /// Refuses a variable in a Deny that requests for some action never have: it would deny less than it says. In an
    /// Allow it only narrows, and the first is told.
    pub(super) fn check_variables<'p>(
        self,
        patterns: impl IntoIterator<Item = &'p Pattern>,
    ) -> Result<Option<String>, String> {
        let lacking = |key: &ConditionKey| Some(format!("${{{key}}}: {}", self.lacking(key)?));
        let Some(missing) = patterns.into_iter().flat_map(Pattern::keys).find_map(lacking) else {
            return Ok(None);
        };
        match self.effect {
            Effect::Allow => Ok(Some(format!("{missing}, so nothing is allowed there"))),
            Effect::Deny => Err(format!("{missing}; name in Action only what has it")),
        }
    }

    fn lacking(self, key: &ConditionKey) -> Option<String> {
        let lacking = self.actions.without(key.actions());
        (!lacking.is_empty()).then(|| format!("requests for {} never have {key}", lacking.names()))
    }
}

impl Test {
    fn parse(kind: TestKind, values: &[String], scope: Scope) -> Result<Self, String> {
        if !matches!(kind, TestKind::Text(_))
            && scope.variables
            && let Some(value) = values.iter().find(|value| value.contains("${"))
        {
            return Err(format!("{value:?}: only String and Arn operators take policy variables"));
        }
        Ok(match kind {
            TestKind::Text(test) => {
                let wildcards = matches!(test, TextTest::Like | TextTest::Arn);
                let syntax = Syntax { wildcards, variables: scope.variables };
                if test == TextTest::Arn {
                    values.iter().try_for_each(|value| check_arn(value, scope.variables))?;
                }
                Self::Text(test, values.iter().map(|v| Pattern::parse(v, syntax)).collect::<Result<_, _>>()?)
            }
            TestKind::Numeric(comparison) => {
                Self::Numeric(comparison, read(values, "a number, such as 22 or 0.5", Decimal::parse)?)
            }
            TestKind::Date(comparison) => {
                let form =
                    "a date, such as 2031-02-10T04:05:06Z, 2031-02-10, or 1928448000 in seconds since 1970";
                Self::Date(comparison, read(values, form, instant)?)
            }
            TestKind::Bool => Self::Bool(read(values, "true or false", boolean)?),
            TestKind::Binary => Self::Binary(read(values, "base64", base64_decode)?),
            TestKind::IpAddress => {
                Self::IpAddress(read(values, "an address or network, such as 192.0.2.0/24", Network::parse)?)
            }
            TestKind::Null => Self::Null(read(values, "true or false", boolean)?),
        })
    }

    /// Compares the keys of tags as the keys of conditions name them, without regard to case: whoever may not set a tag may
    /// not set it in other letters, which other conditions take for the same.
    fn of(self, key: &ConditionKey) -> Self {
        match self {
            Self::Text(test, patterns) if key.has_several() => Self::Text(test.of_names(), patterns),
            other => other,
        }
    }

    /// Whether the request's value fits one of the policy's.
    fn matches<'p>(&'p self, value: &str, context: &Context<'_>) -> Result<bool, Undecided<'p>> {
        fn any<'p, T, V: Copy>(
            wanted: &[T],
            value: Option<V>,
            fits: impl Fn(&T, V) -> bool,
        ) -> Result<bool, Undecided<'p>> {
            let value = value.ok_or(Undecided::Unclear)?;
            Ok(wanted.iter().any(|wanted| fits(wanted, value)))
        }
        match self {
            Self::Text(TextTest::Arn, _) if resource_part(value).is_none() => Err(Undecided::Unclear),
            Self::Text(test, patterns) => any_matches(patterns, *test, value, context),
            Self::Numeric(comparison, wanted) => {
                any(wanted, Decimal::parse(value), |wanted, value| comparison.holds(value.cmp(wanted)))
            }
            Self::Date(comparison, wanted) => {
                any(wanted, instant(value), |wanted, value| comparison.holds(value.cmp(wanted)))
            }
            Self::Bool(wanted) => any(wanted, boolean(value), |wanted, value| *wanted == value),
            Self::Binary(wanted) => Ok(wanted.iter().any(|wanted| wanted.as_slice() == value.as_bytes())),
            Self::IpAddress(wanted) => {
                any(wanted, value.parse().ok(), |network, address: IpAddr| network.contains(address))
            }
            // Answered by whether there is a value.
            Self::Null(_) => Ok(false),
        }
    }

    /// Whether each variable in the policy's values stands for something.
    fn check_variables<'p>(&'p self, context: &Context<'_>) -> Result<(), Undecided<'p>> {
        match self {
            Self::Text(_, patterns) => {
                patterns.iter().try_for_each(|pattern| pattern.check_variables(context))
            }
            _ => Ok(()),
        }
    }
}

/// Whether the text matches one of the patterns.
///
/// # Errors
/// It matches none, and of one of them nobody can say.
pub(super) fn any_matches<'p>(
    patterns: impl IntoIterator<Item = &'p Pattern>,
    test: TextTest,
    text: &str,
    context: &Context<'_>,
) -> Result<bool, Undecided<'p>> {
    let mut result = Ok(false);
    for pattern in patterns {
        match (pattern.matches(test, text, context), result) {
            (Ok(true), _) => return Ok(true),
            // The strongest reason for a Deny to hold.
            (Ok(false), _) | (_, Err(Undecided::Unclear)) => {}
            (Err(undecided), _) => result = Err(undecided),
        }
    }
    result
}

fn read<T>(values: &[String], form: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    values.iter().map(|value| parse(value).ok_or_else(|| format!("{value:?} is not {form}"))).collect()
}

/// Refuses what can match no ARN. Variables may bring any number of parts.
fn check_arn(value: &str, variables: bool) -> Result<(), String> {
    if value.split(':').count() >= 6 || (variables && value.contains("${")) {
        return Ok(());
    }
    Err(format!("{value:?} is not an ARN of six parts; write arn:*:*:*:*:* for any"))
}

/// The operator, the key and the values, as written.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.operator, self.key, self.values)
    }
}
