//! One request and its answer as HTTP: what is signed, and what the answer means. No I/O.

use crate::api::Operation;
use crate::config::Settings;
use crate::error::{Error, from_answer};
use crate::observe::Event;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::sigv4::{Credentials, SigningScope, sign_headers};

/// What SDKs tell one call from another by.
const INVOCATION_ID: &str = "amz-sdk-invocation-id";

const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const X_AMZ_TARGET: HeaderName = HeaderName::from_static("x-amz-target");

/// An answer as it came, its body complete.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A header's value as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The service's id of the request.
    pub(crate) fn request_id(&self) -> Option<&str> {
        self.header("x-amzn-requestid")
    }
}

/// Builds the request for `operation`, signed at `now`. The headers signed are those botocore signs.
pub(crate) fn signed_request<O: Operation>(
    operation: &O,
    settings: &Settings,
    credentials: &Credentials,
    now: UnixSeconds,
) -> Result<Request<Full<Bytes>>, Error> {
    let body = operation.body();
    let endpoint = settings.endpoint(O::SERVICE.endpoint)?;
    let content_type = O::SERVICE.protocol.content_type();
    let target = O::SERVICE.protocol.target(operation.name());
    let invocation_id = O::SERVICE.is_for_once.then(|| invocation_id(settings));
    let mut to_sign = vec![("content-type", content_type), ("host", &endpoint.authority)];
    to_sign.extend(target.as_deref().map(|target| ("x-amz-target", target)));
    to_sign.extend(invocation_id.as_deref().map(|id| (INVOCATION_ID, id)));
    let scope = SigningScope { region: &settings.region, service: O::SERVICE.name };
    let signed = sign_headers("POST", &endpoint.path, &to_sign, body.as_bytes(), credentials, scope, now);
    let Some(signed) = signed else {
        return Err(Error::Credentials("a request cannot be signed with these credentials now".to_owned()));
    };
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(HOST, plain_value(&endpoint.authority)?);
    headers.insert(USER_AGENT, plain_value(&settings.user_agent)?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(target) = &target {
        headers.insert(X_AMZ_TARGET, plain_value(target)?);
    }
    headers.insert(X_AMZ_DATE, plain_value(&signed.amz_date)?);
    if let Some(id) = &invocation_id {
        headers.insert(HeaderName::from_static(INVOCATION_ID), plain_value(id)?);
    }
    if let Some(token) = &signed.security_token {
        headers.insert(X_AMZ_SECURITY_TOKEN, secret_value(token.expose(), "session token")?);
    }
    headers.insert(AUTHORIZATION, secret_value(signed.authorization.as_bytes(), "access key id")?);
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = endpoint.path.parse().map_err(|_| not_a_header("the endpoint's path"))?;
    *request.headers_mut() = headers;
    if let Some(observer) = &settings.observer {
        let headers = shown_headers(request.headers());
        observer.0(&Event::Sending { url: &endpoint.url(), headers, body: &operation.body() });
    }
    Ok(request)
}

/// Reads an answer that came at `now` by this machine's clock: a success, or the error it stands for.
pub(crate) fn read_answer<O: Operation>(
    answer: &Answer,
    operation: &O,
    settings: &Settings,
    now: UnixSeconds,
) -> Result<O::Output, Error> {
    if let Some(observer) = &settings.observer {
        let hidden = answer.status.is_success() && operation.tells_a_secret();
        let body = if hidden { "(hidden)".into() } else { String::from_utf8_lossy(&answer.body) };
        let body = &body;
        let status = answer.status.as_u16();
        observer.0(&Event::Answered { status, request_id: answer.request_id(), body });
    }
    if !answer.status.is_success() {
        return Err(from_answer(answer, now));
    }
    let request_id = answer.request_id().map(str::to_owned);
    O::output(&answer.body, request_id.clone()).map_err(|reason| Error::InvalidAnswer { reason, request_id })
}

/// An id that no other attempt has. Nobody gains by guessing it.
fn invocation_id(settings: &Settings) -> String {
    let words: [u32; 4] = std::array::from_fn(|_| settings.surroundings.random());
    words.map(|word| format!("{word:08x}")).concat()
}

fn plain_value(text: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(text).map_err(|_| not_a_header(&format!("{text:?}")))
}

/// A value that HTTP libraries neither print nor index.
fn secret_value(bytes: &[u8], what: &str) -> Result<HeaderValue, Error> {
    let refuse = |_| Error::Credentials(format!("the {what} holds characters that no header can carry"));
    let mut value = HeaderValue::from_bytes(bytes).map_err(refuse)?;
    value.set_sensitive(true);
    Ok(value)
}

fn not_a_header(what: &str) -> Error {
    Error::Configuration(format!("{what} holds characters that no request can carry"))
}

/// The headers for an observer.
fn shown_headers(headers: &HeaderMap) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), shown(value))).collect()
}

fn shown(value: &HeaderValue) -> &str {
    if value.is_sensitive() { "(hidden)" } else { value.to_str().unwrap_or("(not text)") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, Environment, Pushed, Secret, SendSerialConsoleSshPublicKey, SendSshPublicKey};
    use serde_json::Value;

    #[test]
    fn signed_as_botocore_signs() {
        let fixture: Value = serde_json::from_str(include_str!("../tests/botocore_fixture.json")).unwrap();
        let now = fixture["now"].as_i64().unwrap();
        let secret = |value: &Value| Secret::new(value.as_str().unwrap().as_bytes().to_vec());
        let cases = fixture["requests"].as_array().unwrap();
        assert!(cases.len() >= 18);
        for case in cases {
            let credentials = Credentials {
                access_key_id: fixture["access_key_id"].as_str().unwrap().to_owned(),
                secret_access_key: secret(&fixture["secret_access_key"]),
                session_token: case.get("session_token").map(secret),
            };
            let region = case["region"].as_str().unwrap_or("us-east-1");
            let builder = Client::builder().region(region).credentials(credentials.clone());
            let builder = match case["endpoint_url"].as_str() {
                Some(url) => builder.endpoint_url(url),
                None => builder,
            };
            let settings = builder.resolve(&Environment::default()).unwrap();
            assert_same(request_of(case, &settings, &credentials, UnixSeconds(now)), case);
        }
    }

    fn request_of(
        case: &Value,
        settings: &Settings,
        credentials: &Credentials,
        now: UnixSeconds,
    ) -> Request<Full<Bytes>> {
        let parameters = &case["parameters"];
        let text = |name: &str| parameters[name].as_str().unwrap().to_owned();
        if case["operation"] == "SendSSHPublicKey" {
            let mut push =
                SendSshPublicKey::new(text("InstanceId"), text("InstanceOSUser"), text("SSHPublicKey"));
            push.availability_zone = parameters["AvailabilityZone"].as_str().map(str::to_owned);
            signed_request(&push, settings, credentials, now).unwrap()
        } else {
            let mut push = SendSerialConsoleSshPublicKey::new(text("InstanceId"), text("SSHPublicKey"));
            push.serial_port = parameters["SerialPort"].as_u64().map(|port| u32::try_from(port).unwrap());
            signed_request(&push, settings, credentials, now).unwrap()
        }
    }

    fn assert_same(request: Request<Full<Bytes>>, case: &Value) {
        let name = case["name"].as_str().unwrap();
        let (head, body) = request.into_parts();
        assert_eq!(case["method"], head.method.as_str(), "{name}");
        assert_eq!(case["target"], head.uri.to_string(), "{name}");
        for (header, value) in case["headers"].as_object().unwrap() {
            assert_eq!(*value, head.headers[header].to_str().unwrap(), "{name}: {header}");
        }
        // Ours has one header more, which nobody signs.
        assert_eq!(head.headers.len(), case["headers"].as_object().unwrap().len() + 1, "{name}");
        let body = body.into_inner();
        assert_eq!(case["body"].as_str().map(str::as_bytes), body.as_deref(), "{name}");
    }

    fn read(
        status: u16,
        headers: &[(&'static str, &'static str)],
        body: &'static str,
    ) -> Result<Pushed, Error> {
        let environment = Environment::new(
            [("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")],
            None,
        );
        let settings = Client::builder().resolve(&environment).unwrap();
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answer { status, headers: headers.collect(), body: Bytes::from_static(body.as_bytes()) };
        let push = SendSshPublicKey::new("i", "u", "k");
        read_answer(&answer, &push, &settings, UnixSeconds(0))
    }

    #[test]
    fn successes() {
        let id = [("x-amzn-requestid", "from header")];
        for (body, request_id, success) in [
            (r#"{"RequestId":"from body","Success":true}"#, Some("from body"), true),
            (r#"{"RequestId":"from body","Success":false,"New":[1]}"#, Some("from body"), false),
            (r#"{"Success":true}"#, Some("from header"), true),
            (r#"{"RequestId":null,"Success":null}"#, Some("from header"), false),
            ("{}", Some("from header"), false),
        ] {
            let expected = Pushed { request_id: request_id.map(str::to_owned), success };
            assert_eq!(read(200, &id, body).unwrap(), expected, "{body}");
        }
        assert_eq!(read(200, &[], r#"{"Success":true}"#).unwrap().request_id, None);
    }

    #[test]
    fn answers_that_cannot_be_read() {
        for body in
            ["", "true", "[]", r#"["id",true]"#, r#"{"Success":"true"}"#, r#"{"Success":1}"#, "{", "<html>"]
        {
            let error = read(200, &[("x-amzn-requestid", "id")], body).unwrap_err();
            assert!(matches!(error, Error::InvalidAnswer { .. }), "{body}: {error:?}");
            assert_eq!(error.request_id(), Some("id"));
        }
        // A redirect is not followed: the signature is for this host.
        let error = read(307, &[], r#"{"RequestId":"x","Success":true}"#).unwrap_err();
        assert_eq!(error.fault().unwrap().code, "307");
    }
}
