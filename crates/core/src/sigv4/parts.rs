//! The parts of a signature, the same whether they stand in the `Authorization` header or in the query.

use super::canonical::ALGORITHM;
use super::date::AmzDate;
use super::head::RequestHead;
use super::query::Query;
use super::verify::AuthenticationError;
use instance_connect_planted::parser_entered;
use std::time::Duration;

/// What a signature in the header must have, in the order in which AWS misses it.
const IN_HEADER: [&str; 3] = ["Credential", "Signature", "SignedHeaders"];

/// What a signature in the query must have, in the order in which AWS misses it.
const IN_QUERY: [&str; 5] =
    ["X-Amz-Algorithm", "X-Amz-Credential", SIGNATURE_IN_QUERY, "X-Amz-SignedHeaders", "X-Amz-Date"];

/// The one parameter of a query that its signature cannot cover.
pub(crate) const SIGNATURE_IN_QUERY: &str = "X-Amz-Signature";

/// The longest that a presigned request may be valid for: a week.
const LONGEST_EXPIRES: Duration = Duration::from_secs(604_800);

/// The parts, none of them empty, and not yet compared with anything.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    /// `keyid/date/region/service/aws4_request`, if it is right.
    pub(crate) credential: &'a str,
    /// The names of the signed headers, as they stand.
    pub(crate) signed_headers: Vec<&'a str>,
    /// Lower-case hex, if it is right.
    pub(crate) signature: &'a str,
    /// When the request was signed.
    pub(crate) date: AmzDate,
    /// For how long it is valid from then; `None` leaves that to the verifier. Only a presigned request can say.
    pub(crate) expires: Option<Duration>,
    /// The parameter that is not in the canonical query.
    pub(crate) not_in_query: Option<&'static str>,
}

impl<'a> Parts<'a> {
    /// Rule 6: the parts of the header. Time is `X-Amz-Date`, or `Date` where there is no `X-Amz-Date`.
    pub(crate) fn of_header(
        head: &RequestHead<'a>,
        authorization: &'a str,
    ) -> Result<Self, AuthenticationError> {
        parser_entered(authorization.as_bytes());
        let (algorithm, parameters) = authorization.split_once(' ').unwrap_or((authorization, ""));
        let (date, read_date): (_, fn(&str) -> _) = match head.header("x-amz-date") {
            Some(date) => (Some(date), AmzDate::read),
            None => (head.header("date"), AmzDate::read_header),
        };
        let values = IN_HEADER.map(|name| parameter(parameters, name));
        let ([Some(credential), Some(signature), Some(signed_headers)], Some(date)) = (values, date) else {
            let mut text = for_each_missing(IN_HEADER, values, |name| {
                format!("Authorization header requires '{name}' parameter. ")
            });
            if date.is_none() {
                text.push_str(
                    "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ",
                );
            }
            return Err(AuthenticationError::Incomplete(format!("{text}Authorization={authorization}")));
        };
        let date = read_date(date).ok_or_else(|| not_a_date(date))?;
        supported(algorithm)?;
        Ok(Self {
            credential,
            signed_headers: signed_headers.split(';').collect(),
            signature,
            date,
            expires: None,
            not_in_query: None,
        })
    }

    /// Rule 6q: the parts of the query.
    pub(crate) fn of_query(query: &'a Query) -> Result<Self, AuthenticationError> {
        let values = IN_QUERY.map(|name| query.get(name).filter(|value| !value.is_empty()));
        let [Some(algorithm), Some(credential), Some(signature), Some(signed_headers), Some(date)] = values
        else {
            let text = for_each_missing(IN_QUERY, values, |name| {
                format!("AWS query-string parameters must include '{name}'. ")
            });
            return Err(AuthenticationError::Incomplete(format!(
                "{text}Re-examine the query-string parameters."
            )));
        };
        let date = AmzDate::read(date).ok_or_else(|| not_a_date(date))?;
        supported(algorithm)?;
        Ok(Self {
            credential,
            signed_headers: signed_headers.split(';').collect(),
            signature,
            date,
            expires: query.get("X-Amz-Expires").map(read_expires).transpose()?,
            not_in_query: Some(SIGNATURE_IN_QUERY),
        })
    }
}

/// The service that a request's signature says it is for, before anything of it is compared; `None` where it says none.
pub fn claimed_service<'a>(head: &'a RequestHead<'_>) -> Option<&'a str> {
    let in_header = || {
        let (_, parameters) = head.header("authorization")?.split_once(' ')?;
        parameter(parameters, "Credential")
    };
    let credential = head.query().get("X-Amz-Credential").or_else(in_header)?;
    credential.split('/').nth(3)
}

fn for_each_missing<const N: usize>(
    names: [&str; N],
    values: [Option<&str>; N],
    sentence: impl Fn(&str) -> String,
) -> String {
    names
        .into_iter()
        .zip(values)
        .filter(|(_, value)| value.is_none())
        .map(|(name, _)| sentence(name))
        .collect()
}

/// A parameter of the header. One that stands twice is as good as missing: which one would be meant?
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    let pairs = parameters.split(',').filter_map(|parameter| parameter.trim().split_once('='));
    let mut values = pairs.filter(|(known, _)| *known == name).map(|(_, value)| value);
    let value = values.next().filter(|value| !value.is_empty())?;
    values.next().is_none().then_some(value)
}

/// SigV4A (`AWS4-ECDSA-P256-SHA256`) and chunked signatures have algorithms of their own, and are refused here.
fn supported(algorithm: &str) -> Result<(), AuthenticationError> {
    if algorithm == ALGORITHM {
        return Ok(());
    }
    let text = format!("Unsupported AWS 'algorithm': '{algorithm}' (only {ALGORITHM} for now). ");
    Err(AuthenticationError::Incomplete(text))
}

fn not_a_date(text: &str) -> AuthenticationError {
    AuthenticationError::Incomplete(format!(
        "Date must be in ISO-8601 'basic format'. Got '{text}'. See http://en.wikipedia.org/wiki/ISO_8601"
    ))
}

fn read_expires(text: &str) -> Result<Duration, AuthenticationError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let seconds = text.parse().ok().filter(|_| digits).map(Duration::from_secs);
    seconds.filter(|time| (Duration::from_secs(1)..=LONGEST_EXPIRES).contains(time)).ok_or_else(|| {
        let longest = LONGEST_EXPIRES.as_secs();
        let text = format!("X-Amz-Expires must be a number of seconds from 1 to {longest}. Got '{text}'.");
        AuthenticationError::Incomplete(text)
    })
}
