//! Constraints of the service's model, with the sentences its framework uses for them (wire.md 1.7).

use super::error::ApiError;
use std::borrow::Cow;

/// A constraint on a member that is text.
pub(super) enum Constraint {
    AtLeast(usize),
    AtMost(usize),
    Pattern(&'static str, fn(&str) -> bool),
}

/// Collects the violations of one request, in the order of the model's members.
#[derive(Default)]
pub(super) struct Violations(Vec<String>);

impl Violations {
    /// Checks a member that must be there.
    pub(super) fn required<'a>(
        &mut self,
        member: &str,
        value: Option<&'a str>,
        rules: &[Constraint],
    ) -> &'a str {
        if value.is_none() {
            self.0.push(format!(
                "Value null at '{member}' failed to satisfy constraint: Member must not be null"
            ));
        }
        self.optional(member, value, rules).unwrap_or_default()
    }

    /// Checks a member that may be missing.
    pub(super) fn optional<'a>(
        &mut self,
        member: &str,
        value: Option<&'a str>,
        rules: &[Constraint],
    ) -> Option<&'a str> {
        let text = value?;
        let length = text.chars().count();
        let shown = shown(text);
        for rule in rules {
            let broken = match rule {
                Constraint::AtLeast(minimum) if length < *minimum => {
                    format!("Member must have length greater than or equal to {minimum}")
                }
                Constraint::AtMost(maximum) if length > *maximum => {
                    format!("Member must have length less than or equal to {maximum}")
                }
                Constraint::Pattern(pattern, matches) if !matches(text) => {
                    format!("Member must satisfy regular expression pattern: {pattern}")
                }
                Constraint::AtLeast(_) | Constraint::AtMost(_) | Constraint::Pattern(..) => continue,
            };
            self.0.push(format!("Value '{shown}' at '{member}' failed to satisfy constraint: {broken}"));
        }
        value
    }

    /// Adds a violation of a constraint on a number.
    pub(super) fn number(&mut self, member: &str, value: i64, least: i64, most: i64) {
        let broken = if value < least {
            format!("Member must have value greater than or equal to {least}")
        } else if value > most {
            format!("Member must have value less than or equal to {most}")
        } else {
            return;
        };
        self.0.push(format!("Value '{value}' at '{member}' failed to satisfy constraint: {broken}"));
    }

    /// The error that names all violations, if there are any.
    pub(super) fn into_result(self) -> Result<(), ApiError> {
        let count = self.0.len();
        let errors = if count == 1 { "error" } else { "errors" };
        match count {
            0 => Ok(()),
            _ => Err(ApiError::InvalidArgs(format!(
                "{count} validation {errors} detected: {}",
                self.0.join("; ")
            ))),
        }
    }
}

/// A value as a message repeats it: not the whole of a long one, and nothing of a private key (PEM, OpenSSH or PuTTY) sent
/// by mistake, which must neither travel back nor get into anybody's log.
fn shown(text: &str) -> Cow<'_, str> {
    const LONGEST: usize = 256;
    if ["PRIVATE KEY", "Private-", "PuTTY-User-Key"].iter().any(|mark| text.contains(mark)) {
        return "***".into();
    }
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()).into(),
        None => text.into(),
    }
}
