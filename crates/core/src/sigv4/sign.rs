//! Signing a request, as a client does it.

use super::canonical::{
    ALGORITHM, CanonicalRequest, TERMINATOR, canonical_uri, credential_scope, push_hex, sha256,
};
use super::date::AmzDate;
use super::query::Query;
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
/// `None` when the query is not one, the session token is not text, or the time is out of range.
pub fn sign_headers(
    method: &str,
    path_and_query: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    credentials: &Credentials,
    scope: SigningScope<'_>,
    now: UnixSeconds,
) -> Option<SignedHeaders> {
    let date = AmzDate::of(now)?;
    let token = credentials.session_token.as_ref().map(|token| std::str::from_utf8(token.expose()));
    let token = token.transpose().ok()?;
    let mut headers = headers.to_vec();
    headers.push(("x-amz-date", date.as_str()));
    headers.extend(token.map(|token| ("x-amz-security-token", token)));
    headers.sort_unstable();
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let request = CanonicalRequest {
        method,
        uri: &canonical_uri(path),
        query: &Query::read(query).ok()?.canonical(None),
        headers: &headers,
        payload_hash: sha256(body),
    };
    let SigningScope { region, service } = scope;
    let credential_scope = credential_scope(date.day(), region, service);
    let key = signing_key(&credentials.secret_access_key, date.day(), region, service);
    let string_to_sign = request.string_to_sign(date.as_str(), &credential_scope);
    let signature = hmac::sign(&key, string_to_sign.as_bytes());
    let mut authorization = format!(
        "{ALGORITHM} Credential={}/{credential_scope}, SignedHeaders={}, Signature=",
        credentials.access_key_id,
        request.signed_headers(),
    );
    push_hex(&mut authorization, signature.as_ref());
    let (amz_date, security_token) = (date.as_str().to_owned(), credentials.session_token.clone());
    Some(SignedHeaders { amz_date, security_token, authorization })
}

/// The key of one day, region and service: four HMACs from the secret access key.
pub(crate) fn signing_key(secret: &Secret, date: &str, region: &str, service: &str) -> hmac::Key {
    let mut start = b"AWS4".to_vec();
    start.extend_from_slice(secret.expose());
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, &start);
    zeroize::Zeroize::zeroize(&mut start);
    for part in [date, region, service, TERMINATOR] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    key
}
