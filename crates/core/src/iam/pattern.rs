//! Texts of a policy with wildcards and policy variables, and how they compare with texts of a request.

use super::condition::Undecided;
use super::key::ConditionKey;
use super::request::Context;
use super::wildcard::{self, Token, exactly, in_any_case};
use crate::limits;
use instance_connect_planted::planted;

/// What in a text is more than itself. Where it is not, it is literal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Syntax {
    /// `*` and `?`
    pub(super) wildcards: bool,
    /// `${…}`: in policies of version 2012-10-17 only.
    pub(super) variables: bool,
}

/// How a pattern compares with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextTest {
    /// Letter by letter.
    Equals,
    /// Letter by letter, without regard to case.
    EqualsIgnoreCase,
    /// With wildcards.
    Like,
    /// With wildcards, without regard to case.
    LikeIgnoreCase,
    /// With wildcards, each in its part of an ARN.
    Arn,
}

/// A text with wildcards and variables.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
    /// At most [`limits::POLICY_VARIABLES`].
    variables: Vec<Variable>,
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(String),
    AnyRun,
    AnyCharacter,
    /// What the variable at this position stands for, taken literally.
    Variable(usize),
}

/// `${key}` or `${key, 'default'}`
#[derive(Clone, Debug)]
pub(super) struct Variable {
    key: ConditionKey,
    default: Option<String>,
}

impl TextTest {
    /// The same without regard to case: for values that are names.
    pub(super) const fn of_names(self) -> Self {
        match self {
            Self::Equals | Self::EqualsIgnoreCase => Self::EqualsIgnoreCase,
            Self::Like | Self::LikeIgnoreCase => Self::LikeIgnoreCase,
            Self::Arn => Self::Arn,
        }
    }
}

impl Pattern {
    /// Reads a text.
    ///
    /// # Errors
    /// A variable that is not known or not well-formed, in words for the author.
    pub(super) fn parse(text: &str, syntax: Syntax) -> Result<Self, String> {
        let mut pattern = Self { pieces: Vec::new(), variables: Vec::new() };
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if syntax.variables
                && let Some(inner) = rest.strip_prefix("${")
            {
                rest = pattern.take_variable(inner)?;
                continue;
            }
            match c {
                '*' if syntax.wildcards => pattern.pieces.push(Piece::AnyRun),
                '?' if syntax.wildcards => pattern.pieces.push(Piece::AnyCharacter),
                literal => pattern.push_literal(literal),
            }
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
        Ok(pattern)
    }

    /// Takes the variable that begins behind `${`, and returns what follows it.
    fn take_variable<'t>(&mut self, inner: &'t str) -> Result<&'t str, String> {
        // `${*}`, `${?}` and `${$}` stand for the characters themselves.
        for special in ['*', '?', '$'] {
            if let Some(rest) = inner.strip_prefix(special).and_then(|rest| rest.strip_prefix('}')) {
                self.push_literal(special);
                return Ok(rest);
            }
        }
        let (variable, rest) = Variable::parse(inner)?;
        if self.variables.len() == limits::POLICY_VARIABLES {
            return Err(format!("one value has at most {} policy variables", limits::POLICY_VARIABLES));
        }
        self.pieces.push(Piece::Variable(self.variables.len()));
        self.variables.push(variable);
        Ok(rest)
    }

    fn push_literal(&mut self, c: char) {
        if let Some(Piece::Literal(text)) = self.pieces.last_mut() {
            text.push(c);
        } else {
            self.pieces.push(Piece::Literal(c.to_string()));
        }
    }

    /// The keys of its variables.
    pub(super) fn keys(&self) -> impl Iterator<Item = &ConditionKey> {
        self.variables.iter().map(|variable| &variable.key)
    }

    /// Whether the text matches.
    ///
    /// # Errors
    /// A variable stands for nothing in this request, or for several things. Then nothing can be said of the pattern.
    pub(super) fn matches<'p>(
        &'p self,
        test: TextTest,
        text: &str,
        context: &Context<'_>,
    ) -> Result<bool, Undecided<'p>> {
        let mut values = [""; limits::POLICY_VARIABLES];
        for (value, variable) in values.iter_mut().zip(&self.variables) {
            *value = variable.value(context)?;
        }
        Ok(self.matches_with(test, text, &values))
    }

    /// Whether each variable stands for something.
    ///
    /// # Errors
    /// The first that does not.
    pub(super) fn check_variables<'p>(&'p self, context: &Context<'_>) -> Result<(), Undecided<'p>> {
        self.variables.iter().try_for_each(|variable| variable.value(context).map(|_| ()))
    }

    /// Whether the text matches a pattern without variables.
    pub(super) fn matches_text(&self, text: &str) -> bool {
        self.matches_with(TextTest::Like, text, &[])
    }

    fn matches_with(&self, test: TextTest, text: &str, values: &[&str]) -> bool {
        let token = |piece| match piece {
            &Piece::Variable(position) => Token::Literal(values.get(position).copied().unwrap_or_default()),
            Piece::Literal(text) => Token::Literal(text.as_str()),
            Piece::AnyRun => Token::AnyRun,
            Piece::AnyCharacter => Token::AnyCharacter,
        };
        let token_at = |position: usize| self.pieces.get(position).map(token);
        match test {
            TextTest::Equals | TextTest::Like => wildcard::matches(token_at, exactly, text, 0),
            TextTest::LikeIgnoreCase => wildcard::matches(token_at, in_any_case, text, 0),
            TextTest::Arn => wildcard::resource_part(text)
                .is_some_and(|start| wildcard::matches(token_at, exactly, text, start)),
            TextTest::EqualsIgnoreCase => {
                let literal = |piece| match token(piece) {
                    Token::Literal(text) => text,
                    // Parsed without wildcards.
                    Token::AnyRun => "*",
                    Token::AnyCharacter => "?",
                };
                folded(self.pieces.iter().map(literal).flat_map(str::chars)).eq(folded(text.chars()))
            }
        }
    }
}

/// A text without regard to case, letter by letter: values that compare so, and the keys of tags. The letters around one do
/// not matter, as they would to `str::to_lowercase`, whose sigma has another form at the end of a word.
pub fn folded(text: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    text.flat_map(char::to_lowercase)
}

impl Variable {
    /// Reads a variable behind its `${`, and returns what follows its brace.
    fn parse(inner: &str) -> Result<(Self, &str), String> {
        let end =
            inner.find([',', '}']).ok_or("a policy variable that begins with ${ has no closing brace")?;
        let (name, rest) = inner.split_at(end);
        let key = ConditionKey::parse(name).ok().filter(ConditionKey::is_known).ok_or_else(|| {
            format!("${{{name}}} is no policy variable; only the condition keys of this service are")
        })?;
        if key.has_several() {
            return Err(format!(
                "${{{name}}} is no policy variable: a request may have several values of it"
            ));
        }
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((Self { key, default: None }, rest));
        }
        let (default, rest) = rest
            .strip_prefix(',')
            .and_then(|rest| rest.trim_start_matches(' ').strip_prefix('\'')?.split_once("'}"))
            .filter(|(default, _)| !default.contains('\''))
            .ok_or_else(|| format!("the default of ${{{name}}} is written ${{{name}, 'default'}}"))?;
        Ok((Self { key, default: Some(default.to_owned()) }, rest))
    }

    /// What it stands for in this request.
    fn value<'p: 'v, 'v>(&'p self, context: &'v Context<'_>) -> Result<&'v str, Undecided<'p>> {
        let value = self.key.value(context)?.or(self.default.as_deref());
        let value = if planted("missing-variable-empty") { value.or(Some("")) } else { value };
        value.ok_or(Undecided::Missing(self))
    }

    /// Its key, for messages.
    pub(super) const fn key(&self) -> &ConditionKey {
        &self.key
    }
}
