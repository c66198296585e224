//! Parts of long lists. A token says where the next part begins, and of which list; the service keeps nothing.

use super::{Parameters, refused};
use crate::api::{ApiError, QueryErrorCode as Code};
use crate::limits;
use crate::sigv4::{push_hex, sha256_hex};
use std::ops::RangeInclusive;

/// Which part of a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where the part before ended; the list begins behind it.
    after: Option<String>,
    /// How many there may be in the answer.
    max_results: usize,
    /// What tells this list from others, which a token has to be of.
    list: String,
}

/// How many characters of a token tell which list it is of.
const LIST: usize = 32;

/// Longest position in a list, in bytes: an instance's id and a tag's key.
const POSITION: usize = 1024;

impl Page {
    /// Reads `MaxResults` and `NextToken`. `asked` is what the list is of: all that decides which things are in it.
    pub(super) fn read(
        parameters: &mut Parameters,
        allowed: RangeInclusive<usize>,
        asked: &str,
    ) -> Result<Self, ApiError> {
        let list: String = sha256_hex(asked.as_bytes()).chars().take(LIST).collect();
        let max_results = match parameters.optional("MaxResults") {
            None => *allowed.end(),
            Some(text) => match text.parse() {
                Ok(number) if allowed.contains(&number) => number,
                Ok(_) | Err(_) => {
                    let why = format!("Expecting a value from {} to {}.", allowed.start(), allowed.end());
                    return Err(parameters.invalid("MaxResults", &text, &why));
                }
            },
        };
        let position = |token: &str| {
            let hex = token.strip_prefix(list.as_str()).filter(|hex| !hex.is_empty())?;
            from_hex(hex).filter(|position| position.len() <= POSITION)
        };
        let after = match parameters.optional("NextToken") {
            None => None,
            Some(token) => Some(position(&token).ok_or_else(|| {
                parameters.invalid("NextToken", &token, "It is of no list, or of another one.")
            })?),
        };
        Ok(Self { after, max_results, list })
    }

    /// Refuses a page of what is named one by one, as EC2 does.
    pub(super) fn refuse_with(parameters: &Parameters, set: &str) -> Result<(), ApiError> {
        if parameters.has("MaxResults") {
            let message = format!("The parameter {set} cannot be used with the parameter maxResults");
            return Err(refused(Code::InvalidParameterCombination, message));
        }
        Ok(())
    }

    /// Where the list begins, in the order of positions; the part before may end with what is there.
    pub(super) fn start(&self) -> &str {
        self.after.as_deref().unwrap_or_default()
    }

    /// Those things of a list in order, from [`Self::start`] or before, that fit, and the token of the next part if there
    /// may be one. It ends where it has as many as are asked for, or is about as long as an answer may be, and where
    /// finding it took too many steps: then it may have few, or none.
    pub(super) fn take<T: Copy>(
        &self,
        things: impl Iterator<Item = T>,
        fits: impl Fn(T, &mut Steps) -> bool,
        position: impl Fn(T) -> String,
        bytes: impl Fn(T) -> usize,
    ) -> (Vec<T>, Option<String>) {
        let (mut page, mut length, mut steps, mut last) = (Vec::new(), 0, Steps::default(), None);
        let is_behind = |thing: &T| self.after.as_ref().is_none_or(|after| position(*thing) > *after);
        for thing in things.filter(is_behind) {
            let is_full = page.len() == self.max_results || length >= limits::DESCRIBED_BYTES;
            let fits_in = steps.are_left() && fits(thing, &mut steps);
            if let Some(last) = last
                && (!steps.are_left() || (fits_in && is_full))
            {
                return (page, Some(format!("{}{}", self.list, to_hex(&position(last)))));
            }
            if fits_in {
                length += bytes(thing);
                page.push(thing);
            }
            steps.take(limits::DESCRIBED_THING);
            last = Some(thing);
        }
        (page, None)
    }
}

/// How much was done to find what fits, in characters that were compared.
#[derive(Debug, Default)]
pub(super) struct Steps(usize);

impl Steps {
    pub(super) const fn take(&mut self, steps: usize) {
        self.0 = self.0.saturating_add(steps);
    }

    const fn are_left(&self) -> bool {
        self.0 < limits::DESCRIBED_STEPS
    }
}

fn to_hex(text: &str) -> String {
    let mut hex = String::with_capacity(2 * text.len());
    push_hex(&mut hex, text.as_bytes());
    hex
}

/// Exactly what [`to_hex`] writes.
fn from_hex(hex: &str) -> Option<String> {
    let digit = |symbol: u8| match symbol {
        b'0'..=b'9' => Some(symbol - b'0'),
        b'a'..=b'f' => Some(symbol - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    String::from_utf8(bytes.filter(|_| rest.is_empty())?).ok()
}
