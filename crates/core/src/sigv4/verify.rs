//! Verifying a signed request. The rules are numbered as in wire.md 1.10 and checked in that order, because the order
//! decides which error a client sees.

use super::canonical::{CanonicalRequest, TERMINATOR, canonical_uri, credential_scope, sha256};
use super::date::AmzDate;
use super::head::RequestHead;
use super::parts::Parts;
use super::sign::signing_key;
use super::window::ClockWindow;
use crate::ids::AccessKeyId;
use crate::secret::Secret;
use aws_lc_rs::hmac;
use instance_connect_document::UnixSeconds;
use instance_connect_planted::planted;
use std::time::Duration;

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
    pub window: ClockWindow,
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
    /// Rules 6 and 6q: the parts that are missing, or the one that is none.
    #[error("{0}")]
    Incomplete(String),
    /// Rule 7: the credential scope is not this edge's.
    #[error("{0}")]
    WrongScope(String),
    /// Rule 8: too old or from the future.
    #[error("{0}")]
    OutsideClockWindow(String),
    /// Rule 8h.
    #[error("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")]
    HostNotSigned,
    /// Rules 9 and 10: unknown or inactive key, or a token that does not belong to it.
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    /// Rule 12: the request says that its body is not signed, or in chunks.
    #[error(
        "The payload of a request to this service must be signed: 'x-amz-content-sha256' can be neither 'UNSIGNED-PAYLOAD' nor 'STREAMING-...'."
    )]
    UnsignedPayload,
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

/// A signature as presented, in the header or in the query: well-formed, for this edge and of this time, and not yet
/// believed.
#[derive(Debug)]
pub struct Presented<'a> {
    head: &'a RequestHead<'a>,
    parts: Parts<'a>,
    /// `None` where it is none; that is for rule 9 to say.
    access_key_id: Option<AccessKeyId>,
    region: &'a str,
    service: &'a str,
    window: ClockWindow,
}

/// What tells a signed request from every other, for whoever performs each only once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedSignature {
    /// The signature.
    pub signature: [u8; 32],
    /// The time it says it was made at.
    pub signed_at: UnixSeconds,
    /// From when on it is refused by its date alone.
    pub expires_at: UnixSeconds,
}

impl<'a> Presented<'a> {
    /// Reads the signature of a request: rules 4 to 8.
    ///
    /// # Errors
    /// The first rule that the request breaks.
    pub fn read(head: &'a RequestHead<'a>, expected: &Expected<'a>) -> Result<Self, AuthenticationError> {
        use AuthenticationError as E;
        let parts = match (head.header("authorization"), head.query().get("X-Amz-Algorithm")) {
            // Rule 4: header and query at once.
            (Some(_), Some(_)) => return Err(E::BothHeaderAndQuery),
            // Rule 5: nothing at all. Another scheme, such as `Bearer`, is nothing.
            (None, None) => return Err(E::MissingToken),
            (Some(other), None) if !other.starts_with("AWS4-") => return Err(E::MissingToken),
            // Rule 6: the parts of the header.
            (Some(authorization), None) => Parts::of_header(head, authorization)?,
            // Rule 6q: the parts of the query.
            (None, Some(_)) => Parts::of_query(head.query())?,
        };
        // Rule 7: the credential scope, against this edge.
        let access_key_id = read_credential(parts.credential, &parts.date, expected)?;
        // Rule 8: the clock.
        check_clock(&parts, expected)?;
        // Rule 8h: the header without which a signature would be good for any edge.
        if !parts.signed_headers.contains(&"host") {
            return Err(E::HostNotSigned);
        }
        let access_key_id = access_key_id.parse().ok();
        let Expected { region, service, window, .. } = *expected;
        Ok(Self { head, parts, access_key_id, region, service, window })
    }

    /// The access key the signature claims; `None` where what it claims is no key's id.
    pub fn access_key_id(&self) -> Option<&AccessKeyId> {
        self.access_key_id.as_ref()
    }

    /// The signature itself; `None` where it is none. What was changed on the way that nobody has signed changes nothing
    /// of it.
    pub fn used(&self) -> Option<UsedSignature> {
        let lifetime = self.parts.expires.unwrap_or_else(|| self.window.duration()).as_secs();
        let expires_at = self.parts.date.time().0.saturating_add_unsigned(lifetime).saturating_add(1);
        Some(UsedSignature {
            signature: read_signature(self.parts.signature)?,
            signed_at: self.parts.date.time(),
            expires_at: UnixSeconds(expires_at),
        })
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
        use AuthenticationError as E;
        // Rule 9: the key.
        let (secret, caller) = key.ok_or(E::UnknownKey)?;
        // Rules 10 and 11: a session token. Long-term keys have none, and there are no other keys yet.
        let query = self.head.query();
        if self.head.has("x-amz-security-token") || query.get("X-Amz-Security-Token").is_some() {
            return Err(E::UnknownKey);
        }
        // Rule 12: what is signed, and the signature. The body's hash is ours: `x-amz-content-sha256` is one more signed
        // header and is not believed, but what it asks for may be impossible.
        let claims = [self.head.header("x-amz-content-sha256"), query.get("X-Amz-Content-Sha256")];
        let unsigned = |claim: &str| claim.starts_with("UNSIGNED-") || claim.starts_with("STREAMING-");
        if claims.into_iter().flatten().any(unsigned) {
            return Err(E::UnsignedPayload);
        }
        let request = CanonicalRequest {
            method: self.head.method(),
            uri: &canonical_uri(self.head.path()),
            query: &query.canonical(self.parts.not_in_query),
            headers: &self.headers_to_sign().ok_or(E::Mismatch)?,
            payload_hash: sha256(body),
        };
        let (date, day) = (self.parts.date.as_str(), self.parts.date.day());
        let scope = credential_scope(day, self.region, self.service);
        let key = signing_key(secret, day, self.region, self.service);
        let signature = read_signature(self.parts.signature).ok_or(E::Mismatch)?;
        // Compares in constant time.
        let string_to_sign = request.string_to_sign(date, &scope);
        hmac::verify(&key, string_to_sign.as_bytes(), &signature).map_err(|_| E::Mismatch)?;
        Ok(Verified(caller))
    }

    /// The signed headers with their values: sorted names, each present exactly once, every `x-amz-*` header of the
    /// request among them. `None` where one of these does not hold: a header that matters and is not signed, or stands
    /// twice, could be another's.
    fn headers_to_sign(&self) -> Option<Vec<(&'a str, &'a str)>> {
        let signed = &self.parts.signed_headers;
        if !signed.is_sorted_by(|a, b| a < b) && !planted("unsorted-signed-headers") {
            return None;
        }
        // The list may be as long as a head; of what it names, no more is there than a head has headers.
        let headers: Vec<_> =
            signed.iter().map(|name| Some((*name, self.head.header(name)?))).collect::<Option<_>>()?;
        let mut of_amz = self.head.headers().iter().filter(|(name, _)| name.starts_with("x-amz-"));
        of_amz.all(|(name, _)| headers.iter().any(|(signed, _)| signed == name)).then_some(headers)
    }
}

/// Compares `keyid/date/region/service/aws4_request` with this edge, every element, and gives the key id.
fn read_credential<'a>(
    credential: &'a str,
    signed_at: &AmzDate,
    expected: &Expected<'_>,
) -> Result<&'a str, AuthenticationError> {
    let elements: Vec<&str> = credential.split('/').collect();
    let [key_id, date, region, service, terminator] = elements.as_slice() else {
        return Err(AuthenticationError::Incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{credential}'"
        )));
    };
    let mut text = String::new();
    if *region != expected.region {
        text.push_str(&format!("Credential should be scoped to a valid region, not '{region}'. "));
    }
    if *service != expected.service {
        text.push_str(&format!("Credential should be scoped to correct service: '{}'. ", expected.service));
    }
    if *terminator != TERMINATOR {
        text.push_str(&format!(
            "Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{terminator}'. "
        ));
    }
    if *date != signed_at.day() {
        let (day, time) = (signed_at.day(), signed_at.as_str());
        text.push_str(&format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{date}' != '{day}', from '{time}'."
        ));
    }
    if text.is_empty() { Ok(key_id) } else { Err(AuthenticationError::WrongScope(text)) }
}

/// A request is good from one window before its date to one window behind it, or to where it says that it expires.
fn check_clock(parts: &Parts<'_>, expected: &Expected<'_>) -> Result<(), AuthenticationError> {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let show =
        |time: i64| AmzDate::of(UnixSeconds(time)).map(|date| date.as_str().to_owned()).unwrap_or_default();
    let (signed_at, now) = (&parts.date, expected.now.0);
    let window = expected.window.duration();
    let lifetime = parts.expires.unwrap_or(window);
    let earliest = now.saturating_sub(seconds(lifetime));
    let earliest = if parts.expires.is_some() && planted("presigned-never-expires") { 0 } else { earliest };
    let latest = now.saturating_add(seconds(window));
    let text = if signed_at.time().0 < earliest {
        format!(
            "Signature expired: {} is now earlier than {} ({} - {}.)",
            signed_at.as_str(),
            show(earliest),
            show(now),
            in_words(lifetime)
        )
    } else if signed_at.time().0 > latest {
        format!(
            "Signature not yet current: {} is still later than {} ({} + {}.)",
            signed_at.as_str(),
            show(latest),
            show(now),
            in_words(window)
        )
    } else {
        return Ok(());
    };
    Err(AuthenticationError::OutsideClockWindow(text))
}

/// Minutes where they are whole, as AWS says it.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds.is_multiple_of(60) { format!("{} min", seconds / 60) } else { format!("{seconds} sec") }
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
