//! Condition operators: their names, and what may stand before and behind them.

use super::key::ValueType;
use super::pattern::TextTest;
use std::cmp::Ordering;
use std::fmt;

/// A condition operator, such as `ForAllValues:StringNotEqualsIfExists`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operator {
    base: &'static Base,
    set: Option<SetOperator>,
    if_exists: bool,
}

/// How the request's values are taken together. Here a key has one value or none, so it says what none means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SetOperator {
    ForAllValues,
    ForAnyValue,
}

#[derive(Debug)]
struct Base {
    name: &'static str,
    test: TestKind,
    /// Whether it holds where the test does not: for the one value of the request, and each of the policy.
    negated: bool,
}

/// What an operator compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TestKind {
    Text(TextTest),
    Numeric(Comparison),
    Date(Comparison),
    Bool,
    Binary,
    IpAddress,
    Null,
}

/// How the request's value compares with the policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

const fn positive(name: &'static str, test: TestKind) -> Base {
    Base { name, test, negated: false }
}

const fn negated(name: &'static str, test: TestKind) -> Base {
    Base { name, test, negated: true }
}

static BASES: [Base; 27] = {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
    use TestKind::{Binary, Bool, Date, IpAddress, Null, Numeric, Text};
    use TextTest::{Arn, Equals, EqualsIgnoreCase, Like};
    [
        positive("StringEquals", Text(Equals)),
        negated("StringNotEquals", Text(Equals)),
        positive("StringEqualsIgnoreCase", Text(EqualsIgnoreCase)),
        negated("StringNotEqualsIgnoreCase", Text(EqualsIgnoreCase)),
        positive("StringLike", Text(Like)),
        negated("StringNotLike", Text(Like)),
        positive("NumericEquals", Numeric(Equal)),
        negated("NumericNotEquals", Numeric(Equal)),
        positive("NumericLessThan", Numeric(Less)),
        positive("NumericLessThanEquals", Numeric(LessOrEqual)),
        positive("NumericGreaterThan", Numeric(Greater)),
        positive("NumericGreaterThanEquals", Numeric(GreaterOrEqual)),
        positive("DateEquals", Date(Equal)),
        negated("DateNotEquals", Date(Equal)),
        positive("DateLessThan", Date(Less)),
        positive("DateLessThanEquals", Date(LessOrEqual)),
        positive("DateGreaterThan", Date(Greater)),
        positive("DateGreaterThanEquals", Date(GreaterOrEqual)),
        positive("Bool", Bool),
        positive("BinaryEquals", Binary),
        positive("IpAddress", IpAddress),
        negated("NotIpAddress", IpAddress),
        // The two ARN operators are one at AWS.
        positive("ArnEquals", Text(Arn)),
        positive("ArnLike", Text(Arn)),
        negated("ArnNotEquals", Text(Arn)),
        negated("ArnNotLike", Text(Arn)),
        positive("Null", Null),
    ]
};

impl Operator {
    /// Reads an operator's name, without regard to case.
    ///
    /// # Errors
    /// What is no operator, in words for the author.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let unknown = || format!("{text:?} is no condition operator");
        let (set, rest) = match text.split_once(':') {
            None => (None, text),
            Some((set, rest)) => {
                let all = [SetOperator::ForAllValues, SetOperator::ForAnyValue];
                let set = all.into_iter().find(|known| set.eq_ignore_ascii_case(known.name()));
                (Some(set.ok_or_else(unknown)?), rest)
            }
        };
        let suffix = rest.len().checked_sub(IF_EXISTS.len()).and_then(|start| rest.split_at_checked(start));
        let (name, if_exists) = match suffix {
            Some((name, suffix)) if suffix.eq_ignore_ascii_case(IF_EXISTS) => (name, true),
            _ => (rest, false),
        };
        let base = BASES.iter().find(|base| name.eq_ignore_ascii_case(base.name)).ok_or_else(unknown)?;
        if base.test == TestKind::Null && (if_exists || set.is_some()) {
            return Err(format!(
                "{text:?} is no condition operator: Null already asks whether the key exists"
            ));
        }
        if if_exists && set == Some(SetOperator::ForAnyValue) {
            return Err(format!(
                "{text:?} says two things of a request without the key: write ForAnyValue:{name} if the condition \
                 shall not hold there, {name}{IF_EXISTS} if it shall",
                name = base.name
            ));
        }
        Ok(Self { base, set, if_exists })
    }

    /// What it compares.
    pub(super) const fn test(&self) -> TestKind {
        self.base.test
    }

    /// Whether it holds where the comparison does not.
    pub(super) const fn is_negated(&self) -> bool {
        self.base.negated
    }

    /// How several values of the request are taken together: whether it has to hold of each, or of one. `None` where it
    /// does not say.
    pub(super) fn holds_of_each(&self) -> Option<bool> {
        self.set.map(|set| set == SetOperator::ForAllValues)
    }

    /// Whether an empty value is none to it. That is so where AWS speaks of a null dataset.
    pub(super) fn takes_empty_as_absent(&self) -> bool {
        self.set.is_some() || self.base.test == TestKind::Null
    }

    /// What it makes of a request that does not have the key.
    pub(super) fn holds_without_key(&self) -> bool {
        match (self.if_exists, self.set) {
            (true, _) | (false, Some(SetOperator::ForAllValues)) => true,
            (false, Some(SetOperator::ForAnyValue)) => false,
            (false, None) => self.base.negated,
        }
    }

    /// Whether a key that requests never have makes its condition false: then it only narrows an Allow.
    pub(super) fn narrows_without_key(&self) -> bool {
        self.base.test != TestKind::Null && !self.base.negated && !self.holds_without_key()
    }

    /// Whether it can read values of this type. What it cannot read it could not compare, and the condition would be
    /// the same for every request.
    pub(super) fn reads(&self, value_type: ValueType) -> bool {
        match self.base.test {
            TestKind::Text(
                TextTest::Equals | TextTest::EqualsIgnoreCase | TextTest::Like | TextTest::LikeIgnoreCase,
            )
            | TestKind::Null => true,
            TestKind::Text(TextTest::Arn) => matches!(value_type, ValueType::Text | ValueType::Arn),
            TestKind::Numeric(_) => {
                matches!(value_type, ValueType::Text | ValueType::Number | ValueType::EpochTime)
            }
            TestKind::Date(_) => {
                matches!(value_type, ValueType::Text | ValueType::Date | ValueType::EpochTime)
            }
            TestKind::Bool => matches!(value_type, ValueType::Text | ValueType::Boolean),
            TestKind::Binary => matches!(value_type, ValueType::Text),
            TestKind::IpAddress => matches!(value_type, ValueType::Text | ValueType::IpAddress),
        }
    }
}

const IF_EXISTS: &str = "IfExists";

impl SetOperator {
    const fn name(self) -> &'static str {
        match self {
            Self::ForAllValues => "ForAllValues",
            Self::ForAnyValue => "ForAnyValue",
        }
    }
}

impl Comparison {
    pub(super) fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// The name in AWS's spelling.
impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(set) = self.set {
            write!(f, "{}:", set.name())?;
        }
        f.write_str(self.base.name)?;
        f.write_str(if self.if_exists { IF_EXISTS } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_with_all_that_may_stand_around_it() {
        for base in &BASES {
            for set in ["", "ForAllValues:", "ForAnyValue:"] {
                for suffix in ["", "IfExists"] {
                    let name = format!("{set}{}{suffix}", base.name);
                    let expected = match (set, suffix) {
                        ("", "") => true,
                        ("ForAnyValue:", "IfExists") => false,
                        _ => base.test != TestKind::Null,
                    };
                    let spellings = [name.clone(), name.to_ascii_lowercase(), name.to_ascii_uppercase()];
                    for spelling in spellings {
                        let parsed = Operator::parse(&spelling).map(|operator| operator.to_string()).ok();
                        assert_eq!(parsed, expected.then(|| name.clone()), "{spelling}");
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_else_is_an_operator() {
        for text in [
            "",
            "IfExists",
            "StringEqual",
            "StringEquals ",
            "StringEqualsIfExistsIfExists",
            "IfExistsStringEquals",
            "BoolNotEquals",
            "BinaryNotEquals",
            "ForAllValues",
            "ForAllValues:",
            "ForSomeValues:StringEquals",
            "ForAllValues:ForAnyValue:StringEquals",
            "StringEquals:ForAllValues",
            "String€ Exists",
            "€IfExists",
        ] {
            assert!(Operator::parse(text).is_err(), "{text:?}");
        }
    }
}
