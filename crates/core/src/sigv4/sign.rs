//! Signing a request, as a client does it.

use super::canonical::{
    ALGORITHM, CanonicalRequest, TERMINATOR, canonical_query, canonical_uri, push_hex, sha256,
};
use crate::secret::Secret;
use aws_lc_rs::hmac;
use instance_connect_document::UnixSeconds;

/// What a client signs with.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The access key id.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: Secret,
    /// The token of temporary credentials.
    pub session_token: Option<Secret>,
}

/// Region and service of a signature.
#[derive(Clone, Copy, Debug)]
pub struct SigningScope<'a> {
    /// The region, such as `us-east-1`.
    pub region: &'a str,
    /// The signing name of the service, such as `ec2-instance-connect`.
    pub service: &'a str,
}

/// The headers that signing adds to a request.
#[derive(Clone, Debug)]
pub struct SignedHeaders {
    /// `X-Amz-Date`.
    pub amz_date: String,
    /// `X-Amz-Security-Token`, for temporary credentials.
    pub security_token: Option<Secret>,
    /// `Authorization`.
    pub authorization: String,
}

/// Signs a request by header. `path_and_query` is the request target; `headers` are those to sign, with lower-case
/// names, `host` among them and without those that signing adds.
///
/// # Errors
/// `None` when the query holds a malformed percent escape, the session token is not text, or the time is out of range.
pub fn sign_headers(
    method: &str,
    path_and_query: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    credentials: &Credentials,
    scope: SigningScope<'_>,
    now: UnixSeconds,
) -> Option<SignedHeaders> {
    let amz_date = amz_date(now)?;
    let date = amz_date.get(..8)?;
    let token = credentials.session_token.as_ref().map(|token| std::str::from_utf8(token.expose()));
    let token = token.transpose().ok()?;
    let mut headers = headers.to_vec();
    headers.push(("x-amz-date", &amz_date));
    headers.extend(token.map(|token| ("x-amz-security-token", token)));
    headers.sort_unstable();
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let request = CanonicalRequest {
        method,
        uri: &canonical_uri(path),
        query: &canonical_query(query)?,
        headers: &headers,
        payload_hash: sha256(body),
    };
    let SigningScope { region, service } = scope;
    let credential_scope = format!("{date}/{region}/{service}/{TERMINATOR}");
    let key = signing_key(&credentials.secret_access_key, date, region, service);
    let signature = hmac::sign(&key, request.string_to_sign(&amz_date, &credential_scope).as_bytes());
    let mut authorization = format!(
        "{ALGORITHM} Credential={}/{credential_scope}, SignedHeaders={}, Signature=",
        credentials.access_key_id,
        request.signed_headers(),
    );
    push_hex(&mut authorization, signature.as_ref());
    Some(SignedHeaders { authorization, security_token: credentials.session_token.clone(), amz_date })
}

/// The key of one day, region and service: four HMACs from the secret access key.
pub fn signing_key(secret: &Secret, date: &str, region: &str, service: &str) -> hmac::Key {
    let mut start = b"AWS4".to_vec();
    start.extend_from_slice(secret.expose());
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, &start);
    zeroize::Zeroize::zeroize(&mut start);
    for part in [date, region, service, TERMINATOR] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    key
}

/// `YYYYMMDDTHHMMSSZ`; `None` past the year 9999.
pub(crate) fn amz_date(time: UnixSeconds) -> Option<String> {
    let timestamp = jiff::Timestamp::from_second(time.0).ok()?;
    Some(timestamp.strftime("%Y%m%dT%H%M%SZ").to_string())
}
