//! Verifying a request signed by header. The rules are numbered as in wire.md 1.10 and checked in that order, because
//! the order decides which error a client sees.

use super::canonical::{ALGORITHM, CanonicalRequest, TERMINATOR, canonical_query, canonical_uri, sha256};
use super::sign::{amz_date, signing_key};
use crate::ids::AccessKeyId;
use crate::planted;
use crate::secret::Secret;
use aws_lc_rs::hmac;
use instance_connect_document::UnixSeconds;
use std::time::Duration;

/// The parts of a request that are signed, as received.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a str,
    /// The path of the request target.
    pub path: &'a str,
    /// The query of the request target, without the question mark; empty where there is none.
    pub query: &'a str,
    /// Headers with lower-case names, in the order of arrival.
    pub headers: &'a [(&'a str, &'a str)],
}

impl<'a> RequestHead<'a> {
    /// The value of a header that stands exactly once.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut values = self.headers.iter().filter(|(known, _)| *known == name).map(|(_, value)| *value);
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| *known == name)
    }
}

/// What a verifier expects of a signature.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The region this edge serves.
    pub region: &'a str,
    /// The signing name of this edge.
    pub service: &'a str,
    /// The time now.
    pub now: UnixSeconds,
    /// How far the request's time may be from `now`.
    pub window: Duration,
}

/// Why a request is not authenticated. The texts are AWS's (wire.md 1.10).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// Rule 4.
    #[error("Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.")]
    BothHeaderAndQuery,
    /// Rule 5.
    #[error("Request is missing Authentication Token")]
    MissingToken,
    /// Rule 6: the parts that are missing, concatenated.
    #[error("{0}")]
    Incomplete(String),
    /// Rule 7: the credential scope is not this edge's.
    #[error("{0}")]
    WrongScope(String),
    /// Rule 8: too old or from the future.
    #[error("{0}")]
    OutsideClockWindow(String),
    /// Rules 9 and 10: unknown or inactive key, or a token that does not belong to it.
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    /// Rule 12. The signature that would have been right is never said, here or in any log.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
    )]
    Mismatch,
}

/// Proof that a value was authenticated. Only [`Presented::verify`] makes one.
#[derive(Clone, Debug)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// The authenticated value.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// The authenticated value, without its proof.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// A signature as presented: well-formed, for this edge and of this time, and not yet believed.
#[derive(Debug)]
pub struct Presented<'a> {
    head: RequestHead<'a>,
    access_key_id: AccessKeyId,
    amz_date: &'a str,
    credential_scope: &'a str,
    signed_headers: Vec<&'a str>,
    /// `None` where it is not one; that is for rule 12 to say.
    signature: Option<[u8; 32]>,
    region: &'a str,
    service: &'a str,
}

impl<'a> Presented<'a> {
    /// Reads the signature of a request: rules 4 to 8.
    ///
    /// # Errors
    /// The first rule that the request breaks.
    pub fn read(head: RequestHead<'a>, expected: &Expected<'a>) -> Result<Self, AuthenticationError> {
        use AuthenticationError as E;
        let query_auth = head.query.split('&').any(|pair| pair.starts_with("X-Amz-Algorithm="));
        let has_header = head.has("authorization");
        // Rule 4: header and query at once.
        if query_auth && has_header {
            return Err(E::BothHeaderAndQuery);
        }
        // Rule 5: nothing at all. Presigned requests are not served here yet and count as nothing.
        if !has_header {
            return Err(E::MissingToken);
        }
        // Two Authorization headers are as good as none: which one would be meant?
        let authorization = head.header("authorization").ok_or(E::MissingToken)?;
        // Rule 6: the parts of the header.
        let parts = AuthorizationParts::read(authorization, head.header("x-amz-date"))?;
        // Rule 7: the credential scope, against this edge.
        let (access_key_id, credential_scope, date) = read_credential(parts.credential, expected)?;
        let time = read_amz_date(parts.amz_date).ok_or_else(|| E::Incomplete(DATE_FORMAT.to_owned()))?;
        if parts.amz_date.get(..8) != Some(date) {
            return Err(E::WrongScope(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{date}' != '{}', from '{}'.",
                parts.amz_date.get(..8).unwrap_or_default(),
                parts.amz_date
            )));
        }
        // Rule 8: the clock.
        check_window(parts.amz_date, time, expected)?;
        let access_key_id = access_key_id.parse().map_err(|_| E::UnknownKey)?;
        Ok(Self {
            head,
            access_key_id,
            amz_date: parts.amz_date,
            credential_scope,
            signed_headers: parts.signed_headers.split(';').collect(),
            signature: read_signature(parts.signature),
            region: expected.region,
            service: expected.service,
        })
    }

    /// The access key the signature claims.
    pub fn access_key_id(&self) -> &AccessKeyId {
        &self.access_key_id
    }

    /// Verifies the signature over head and body with the claimed key's secret: rules 9 to 12. `key` is `None` where
    /// the claimed key is unknown or may not be used; with it comes whom it proves.
    ///
    /// # Errors
    /// The first rule that the request breaks.
    pub fn verify<T>(
        &self,
        body: &[u8],
        key: Option<(&Secret, T)>,
    ) -> Result<Verified<T>, AuthenticationError> {
        // Rule 9: the key.
        let (secret, caller) = key.ok_or(AuthenticationError::UnknownKey)?;
        // Rule 10: a session token. Long-term keys have none, and there are no other keys yet.
        if self.head.has("x-amz-security-token") {
            return Err(AuthenticationError::UnknownKey);
        }
        // Rule 12: what is signed, and the signature.
        let mismatch = AuthenticationError::Mismatch;
        let headers = self.headers_to_sign().ok_or_else(|| mismatch.clone())?;
        let query = canonical_query(self.head.query).ok_or_else(|| mismatch.clone())?;
        let request = CanonicalRequest {
            method: self.head.method,
            uri: &canonical_uri(self.head.path),
            query: &query,
            headers: &headers,
            payload_hash: sha256(body),
        };
        let string_to_sign = request.string_to_sign(self.amz_date, self.credential_scope);
        let date = self.amz_date.get(..8).unwrap_or_default();
        let key = signing_key(secret, date, self.region, self.service);
        // Compares in constant time.
        let signature = self.signature.ok_or_else(|| mismatch.clone())?;
        hmac::verify(&key, string_to_sign.as_bytes(), &signature).map_err(|_| mismatch)?;
        Ok(Verified(caller))
    }

    /// The signed headers with their values: sorted names, each present exactly once, `host` and every `x-amz-*`
    /// header of the request among them. `None` where one of these does not hold: a header that matters and is not
    /// signed, or stands twice, could be another's.
    fn headers_to_sign(&self) -> Option<Vec<(&'a str, &'a str)>> {
        #[cfg(not(feature = "planted-unsorted-signed-headers"))]
        if !self.signed_headers.is_sorted_by(|a, b| a < b) {
            return None;
        }
        let must_be_signed = |name: &str| name == "host" || name.starts_with("x-amz-");
        let all_signed = self
            .head
            .headers
            .iter()
            .filter(|(name, _)| must_be_signed(name))
            .all(|(name, _)| self.signed_headers.contains(name));
        if !all_signed || !self.signed_headers.contains(&"host") {
            return None;
        }
        self.signed_headers.iter().map(|name| Some((*name, self.head.header(name)?))).collect()
    }
}

const DATE_FORMAT: &str =
    "Date must be in ISO-8601 'basic format', such as 20300102T030405Z, in the 'X-Amz-Date' header.";

struct AuthorizationParts<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
    amz_date: &'a str,
}

impl<'a> AuthorizationParts<'a> {
    fn read(authorization: &'a str, amz_date: Option<&'a str>) -> Result<Self, AuthenticationError> {
        planted::parser_entered(authorization.as_bytes());
        let parameters = authorization.strip_prefix(ALGORITHM).filter(|rest| rest.starts_with([' ', ',']));
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for parameter in parameters.unwrap_or_default().split(',') {
            let Some((name, value)) = parameter.trim().split_once('=') else { continue };
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => continue,
            };
            // A parameter that stands twice is as good as missing: which one would be meant?
            *slot = if slot.is_none() { Some(value) } else { Some("") };
        }
        let [credential, signed_headers, signature] = [credential, signed_headers, signature]
            .map(|value| value.filter(|value: &&str| !value.is_empty()));
        if let (Some(credential), Some(signed_headers), Some(signature), Some(amz_date)) =
            (credential, signed_headers, signature, amz_date)
        {
            return Ok(Self { credential, signed_headers, signature, amz_date });
        }
        let mut text = String::new();
        for (missing, what) in [
            (credential.is_none(), "'Credential' parameter"),
            (signature.is_none(), "'Signature' parameter"),
            (signed_headers.is_none(), "'SignedHeaders' parameter"),
            (amz_date.is_none(), "existence of either a 'X-Amz-Date' or a 'Date' header"),
        ] {
            if missing {
                text.push_str(&format!("Authorization header requires {what}. "));
            }
        }
        text.push_str(&format!("Authorization={authorization}"));
        Err(AuthenticationError::Incomplete(text))
    }
}

/// Splits `keyid/date/region/service/aws4_request` and compares it with this edge. Gives key id, scope and date.
fn read_credential<'a>(
    credential: &'a str,
    expected: &Expected<'_>,
) -> Result<(&'a str, &'a str, &'a str), AuthenticationError> {
    use AuthenticationError::{Incomplete, WrongScope};
    let elements: Vec<&str> = credential.split('/').collect();
    let [key_id, date, region, service, terminator] = elements.as_slice() else {
        return Err(Incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{credential}'"
        )));
    };
    if *region != expected.region {
        return Err(WrongScope(format!("Credential should be scoped to a valid region, not '{region}'. ")));
    }
    if *service != expected.service {
        return Err(WrongScope(format!(
            "Credential should be scoped to correct service: '{}'. ",
            expected.service
        )));
    }
    if *terminator != TERMINATOR {
        return Err(WrongScope(format!(
            "Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{terminator}'. "
        )));
    }
    let scope = credential.get(key_id.len() + 1..).unwrap_or_default();
    Ok((key_id, scope, date))
}

/// `YYYYMMDDTHHMMSSZ` to seconds; `None` for anything else.
fn read_amz_date(text: &str) -> Option<UnixSeconds> {
    let shape_fits = text.len() == 16
        && text.bytes().enumerate().all(|(position, byte)| match position {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    if !shape_fits {
        return None;
    }
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    let timestamp = jiff::tz::Offset::UTC.to_timestamp(time).ok()?;
    Some(UnixSeconds(timestamp.as_second()))
}

fn check_window(
    amz_date_text: &str,
    time: UnixSeconds,
    expected: &Expected<'_>,
) -> Result<(), AuthenticationError> {
    let window = i64::try_from(expected.window.as_secs()).unwrap_or(i64::MAX);
    let minutes = window / 60;
    let show = |seconds: i64| amz_date(UnixSeconds(seconds)).unwrap_or_default();
    let now = expected.now.0;
    let (earliest, latest) = (now.saturating_sub(window), now.saturating_add(window));
    let text = if time.0 < earliest {
        format!(
            "Signature expired: {amz_date_text} is now earlier than {} ({} - {minutes} min.)",
            show(earliest),
            show(now)
        )
    } else if time.0 > latest {
        format!(
            "Signature not yet current: {amz_date_text} is still later than {} ({} + {minutes} min.)",
            show(latest),
            show(now)
        )
    } else {
        return Ok(());
    };
    Err(AuthenticationError::OutsideClockWindow(text))
}

/// 64 lower-case hex digits.
fn read_signature(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes?.try_into().ok() } else { None }
}
