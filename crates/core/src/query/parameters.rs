//! The parameters of a request of the query protocol: read one by one, and none left over.

use super::{Operation, Service, refused};
use crate::api::{ApiError, QueryErrorCode as Code};
use crate::ids::InstanceId;
use crate::sigv4::Query;
use crate::{limits, percent};
use instance_connect_planted::parser_entered;
use std::collections::BTreeMap;

/// The parameters that have not been read yet, by name. Of a structure in a list, those behind its number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// What stands before the names, for messages: `Filter.1.`.
    place: String,
    values: BTreeMap<String, String>,
}

impl Parameters {
    /// Reads the parameters of a request: those of its target's query and those of its form. Of the first, the parts of a
    /// signature are left out.
    ///
    /// # Errors
    /// [`Code::MalformedQueryString`] for a form that is none, more parameters or text than any operation takes, control
    /// characters, which no parameter has and each of which takes six bytes on record, or a name that stands twice: somebody
    /// may go by the first one, and somebody else by the last.
    pub fn read(query: &Query, form: &[u8]) -> Result<Self, ApiError> {
        parser_entered(form);
        let malformed = |why: &str| refused(Code::MalformedQueryString, why);
        let form = std::str::from_utf8(form).map_err(|_| malformed("The form is not text."))?;
        let (mut values, mut bytes) = (BTreeMap::new(), 0);
        let mut add = |name: String, value: String| {
            if name.chars().chain(value.chars()).any(char::is_control) {
                return Err(malformed("The request has control characters in a parameter."));
            }
            bytes += name.len() + value.len();
            if values.len() >= limits::QUERY_PARAMETERS || bytes > limits::QUERY_TEXT {
                return Err(malformed("The request has more parameters than any operation takes."));
            }
            match values.insert(name, value) {
                None => Ok(()),
                Some(_) => Err(malformed("The request has more than one parameter of the same name.")),
            }
        };
        let is_of_signature =
            |name: &str| name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("X-Amz-"));
        for (name, value) in query.pairs().filter(|(name, _)| !is_of_signature(name)) {
            add(name.to_owned(), value.to_owned())?;
        }
        for piece in form.split('&').filter(|piece| !piece.is_empty()) {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            // In a form, other than in a target, a plus is a blank.
            let decode = |text: &str| {
                percent::decode(&text.replace('+', " "))
                    .ok_or_else(|| malformed("The form is not well-formed."))
            };
            add(decode(name)?, decode(value)?)?;
        }
        Ok(Self { place: String::new(), values })
    }

    /// Finds the operation that is asked for.
    ///
    /// # Errors
    /// [`Code::MissingAction`], [`Code::InvalidAction`], [`Code::NoSuchVersion`].
    pub fn operation(&mut self, service: Service) -> Result<Operation, ApiError> {
        let name = self.optional("Action");
        let name = name.ok_or_else(|| refused(Code::MissingAction, "The request names no Action."))?;
        let found = Operation::ALL.iter().find(|known| known.service() == service && known.name() == name);
        let operation = *found.ok_or_else(|| {
            let name: String = name.chars().take(limits::QUERY_NAME).collect();
            refused(Code::InvalidAction, format!("The action {name} is not valid for this web service."))
        })?;
        let version = self.required("Version")?;
        if version != service.version() {
            let version: String = version.chars().take(limits::QUERY_NAME).collect();
            let message = format!(
                "The version {version} of this service does not exist; it speaks {}.",
                service.version()
            );
            return Err(refused(Code::NoSuchVersion, message));
        }
        Ok(operation)
    }

    /// A parameter that may be missing.
    pub(super) fn optional(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// Whether a parameter is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// A parameter that must be there.
    pub(super) fn required(&mut self, name: &str) -> Result<String, ApiError> {
        self.optional(name).ok_or_else(|| self.missing(name))
    }

    pub(super) fn missing(&self, name: &str) -> ApiError {
        let message = format!("The request must contain the parameter {}{name}", self.place);
        refused(Code::MissingParameter, message)
    }

    /// `true` or `false`; `false` where it is missing.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.optional(name).as_deref() {
            None => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(text) => Err(self.invalid(name, text, "It must be true or false.")),
        }
    }

    /// EC2's sentence for a value that cannot be.
    pub(super) fn invalid(&self, name: &str, value: &str, why: &str) -> ApiError {
        let value: String = value.chars().take(limits::QUERY_NAME).collect();
        let message = format!("Value ( {value} ) for parameter {}{name} is invalid. {why}", self.place);
        refused(Code::InvalidParameterValue, message)
    }

    /// The instances that are named, as far as they are some: without judging the request.
    pub fn instances(&mut self) -> Vec<InstanceId> {
        let named = ["InstanceId", "ResourceId"].map(|name| self.list(name));
        named.iter().flatten().filter_map(|id| id.parse().ok()).collect()
    }

    /// The values `Name.1`, `Name.2` and so on, in the order of their numbers. Numbers may be left out.
    pub(super) fn list(&mut self, name: &str) -> Vec<String> {
        let place = format!("{name}.");
        let number = |key: &str| key.strip_prefix(place.as_str()).and_then(position);
        let mut numbered: Vec<(u32, String)> = Vec::new();
        self.values.retain(|key, value| match number(key) {
            Some(number) => {
                numbered.push((number, std::mem::take(value)));
                false
            }
            None => true,
        });
        numbered.sort_by_key(|(number, _)| *number);
        numbered.into_iter().map(|(_, value)| value).collect()
    }

    /// The structures `Name.1.…`, `Name.2.…` and so on, in the order of their numbers.
    pub(super) fn structures(&mut self, name: &str) -> Vec<Self> {
        let place = format!("{name}.");
        let mut numbered: BTreeMap<u32, BTreeMap<String, String>> = BTreeMap::new();
        self.values.retain(|key, value| {
            let found = key.strip_prefix(place.as_str()).and_then(|rest| rest.split_once('.'));
            let Some((number, member)) = found.and_then(|(number, rest)| Some((position(number)?, rest)))
            else {
                return true;
            };
            numbered.entry(number).or_default().insert(member.to_owned(), std::mem::take(value));
            false
        });
        let placed = |(number, values)| Self { place: format!("{}{name}.{number}.", self.place), values };
        numbered.into_iter().map(placed).collect()
    }

    /// Refuses what has not been read.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.values.keys().next() {
            None => Ok(()),
            Some(name) => {
                let name: String = name.chars().take(limits::QUERY_NAME).collect();
                let message = format!("The parameter {}{name} is not recognized", self.place);
                Err(refused(Code::UnknownParameter, message))
            }
        }
    }
}

/// A number as SDKs write it: from 1, without a sign or a leading zero, so that each is written in one way.
fn position(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_plain)
}
