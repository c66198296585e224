//! AWS's signer for Rust, which shares no line with ours.

use crate::Request;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use std::time::{Duration, UNIX_EPOCH};

pub(crate) const KEY_ID: &str = "AKIDEXAMPLEEXAMPLE01";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub(crate) const REGION: &str = "us-east-1";
pub(crate) const SERVICE: &str = "ec2-instance-connect";

/// 2031-02-11T02:05:06Z.
pub(crate) const SIGNED_AT: i64 = 1_928_541_906;

/// Adds the headers of a signature to a request.
pub(crate) fn signed(mut request: Request) -> Request {
    let (headers, _) = instructions(&request, SigningSettings::default());
    request.headers.extend(headers);
    request
}

/// Adds the query parameters of a signature to a request, good for so many seconds.
pub(crate) fn presigned(mut request: Request, expires: u64) -> Request {
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(expires));
    let (_, parameters) = instructions(&request, settings);
    for (name, value) in parameters {
        let separator = if request.target.contains('?') { '&' } else { '?' };
        request.target.push_str(&format!("{separator}{name}={}", escaped(&value)));
    }
    request
}

type Pairs = Vec<(String, String)>;

fn instructions(request: &Request, settings: SigningSettings) -> (Pairs, Pairs) {
    let identity = Credentials::new(KEY_ID, SECRET, None, None, "test").into();
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name(SERVICE)
        .time(UNIX_EPOCH + Duration::from_secs(SIGNED_AT.unsigned_abs()))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let headers = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let url = format!("https://in-the-host-header{}", request.target);
    let body = SignableBody::Bytes(&request.body);
    let signable = SignableRequest::new(&request.method, url, headers, body).unwrap();
    let (instructions, _) = sign(signable, &parameters).unwrap().into_parts();
    let (headers, parameters) = instructions.into_parts();
    (
        headers.iter().map(|header| (header.name().to_owned(), header.value().to_owned())).collect(),
        parameters.into_iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect(),
    )
}

/// Every byte but letters and digits as `%XX`.
pub(crate) fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
