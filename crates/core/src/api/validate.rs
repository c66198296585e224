//! Constraints of the service's model, with the sentences its framework uses for them (wire.md 1.7).

use super::error::ApiError;
use crate::ssh_key::{KeyError, PublicKey, begins_public_key, looks_like_a_path, may_hold_secret};
use instance_connect_planted::planted;
use std::borrow::Cow;

/// A constraint on a member that is text. Lengths count characters (Unicode scalar values), as the model's own language
/// defines them.
pub(crate) enum Constraint {
    AtLeast(usize),
    AtMost(usize),
    Pattern(&'static str, fn(&str) -> bool),
}

/// What stands for a value that is not repeated.
const HIDDEN: &str = "***";

/// Collects the violations of one request, in the order of the model's members.
#[derive(Default)]
pub(crate) struct Violations {
    broken: Vec<String>,
    /// A sentence of ours behind the framework's.
    hint: Option<String>,
}

impl Violations {
    /// Checks a member that must be there.
    pub(crate) fn required<'a>(
        &mut self,
        member: &str,
        value: Option<&'a str>,
        rules: &[Constraint],
    ) -> &'a str {
        if value.is_none() {
            self.add(None, member, "not be null");
        }
        self.optional(member, value, rules).unwrap_or_default()
    }

    /// Checks a member that may be missing.
    pub(crate) fn optional<'a>(
        &mut self,
        member: &str,
        value: Option<&'a str>,
        rules: &[Constraint],
    ) -> Option<&'a str> {
        let text = value?;
        self.check(member, text, &shown(text), rules);
        value
    }

    /// Checks the text of a key, which must be there.
    pub(crate) fn key(
        &mut self,
        member: &str,
        text: Option<&str>,
        key: &Result<PublicKey, KeyError>,
        rules: &[Constraint],
    ) {
        match text {
            Some(text) => self.check(member, text, &shown_key(text, key), rules),
            None => self.add(None, member, "not be null"),
        }
    }

    fn check(&mut self, member: &str, text: &str, shown: &str, rules: &[Constraint]) {
        let length = text.chars().count();
        for rule in rules {
            let must = match rule {
                Constraint::AtLeast(minimum) if length < *minimum => {
                    format!("have length greater than or equal to {minimum}")
                }
                Constraint::AtMost(maximum) if length > *maximum => {
                    format!("have length less than or equal to {maximum}")
                }
                Constraint::Pattern(pattern, matches) if !matches(text) => {
                    format!("satisfy regular expression pattern: {pattern}")
                }
                Constraint::AtLeast(_) | Constraint::AtMost(_) | Constraint::Pattern(..) => continue,
            };
            self.add(Some(shown), member, &must);
        }
    }

    /// Checks a member that is a whole number.
    pub(crate) fn number(&mut self, member: &str, value: i32, least: i32, most: i32) {
        if value < least {
            self.add(
                Some(&value.to_string()),
                member,
                &format!("have value greater than or equal to {least}"),
            );
        }
        if value > most {
            self.add(Some(&value.to_string()), member, &format!("have value less than or equal to {most}"));
        }
    }

    /// How many there are so far.
    pub(crate) fn count(&self) -> usize {
        self.broken.len()
    }

    /// Says something behind the framework's sentences, which stay as they are.
    pub(crate) fn hint(&mut self, sentence: String) {
        self.hint = Some(sentence);
    }

    /// Checks that a text is one of several words.
    pub(crate) fn one_of(&mut self, member: &str, text: &str, words: &[&str]) {
        if !words.contains(&text) {
            let must = format!("satisfy enum value set: [{}]", words.join(", "));
            self.add(Some(&shown(text)), member, &must);
        }
    }

    /// The error that names all violations, if there are any.
    pub(crate) fn into_result(self) -> Result<(), ApiError> {
        self.message().map_or(Ok(()), |message| Err(ApiError::InvalidArgs(message)))
    }

    /// What says all violations, if there are any.
    pub(crate) fn message(self) -> Option<String> {
        let errors = match self.count() {
            0 => return None,
            1 => "error",
            _ => "errors",
        };
        let mut text = format!("{} validation {errors} detected: {}", self.count(), self.broken.join("; "));
        if let Some(hint) = self.hint {
            text.push_str(". ");
            text.push_str(&hint);
        }
        Some(text)
    }

    fn add(&mut self, value: Option<&str>, member: &str, must: &str) {
        let value = value.map_or_else(|| "null".to_owned(), |value| format!("'{value}'"));
        self.broken
            .push(format!("Value {value} at '{member}' failed to satisfy constraint: Member must {must}"));
    }
}

/// Longest part of a value that a message repeats, in characters.
const LONGEST: usize = 256;

/// A value as a message repeats it: not the whole of a long one, and nothing that may be a secret, which must neither
/// travel back nor get into anybody's log.
fn shown(text: &str) -> Cow<'_, str> {
    if may_hold_secret(text) && !planted("private-key-echoed") {
        return HIDDEN.into();
    }
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()).into(),
        None => text.into(),
    }
}

/// A key's text as a message repeats it. This is where people put secrets by mistake, so it must also look like something
/// that is none: the beginning of a public key, or a path.
fn shown_key<'a>(text: &'a str, key: &Result<PublicKey, KeyError>) -> Cow<'a, str> {
    let is_path = matches!(key, Err(KeyError::FileName)) && text.len() <= LONGEST && looks_like_a_path(text);
    if is_path || begins_public_key(text) { shown(text) } else { HIDDEN.into() }
}
