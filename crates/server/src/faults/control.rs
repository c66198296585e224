//! The control endpoint of `dev`, on its admin listener: JSON in, JSON out.
//!
//! Whoever can connect to it may use it, which is who is on this machine: there is nothing to win but a test that fails. A
//! page in somebody's browser is there too, and is kept out.

use super::{Fault, Faults, State};
use crate::http::{Body, Whole};
use crate::links::lock;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, ORIGIN};
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// What its paths begin with.
pub(crate) const PATH: &str = "/dev";

/// Bytes of a request's body: one fault, of few members.
pub(crate) const BODY: usize = 4096;

const JSON: &str = "application/json";

/// The endpoint.
#[derive(Debug)]
pub(crate) struct Control {
    faults: Faults,
    /// As which it is asked for.
    hosts: [String; 2],
}

/// Why a request is refused.
type Refused = (StatusCode, String);

impl Control {
    /// On the listener of this address.
    pub(crate) fn new(faults: Faults, address: SocketAddr) -> Self {
        Self { faults, hosts: [address.to_string(), format!("localhost:{}", address.port())] }
    }

    /// Answers a request whose path begins with [`PATH`].
    pub(crate) fn answer(&self, request: &Whole) -> Response<Body> {
        let (status, body) = self
            .admit(request)
            .and_then(|()| self.perform(request))
            .unwrap_or_else(|(status, message)| (status, json!({ "error": message })));
        let mut response = Response::new(Body::from(format!("{body}\n")));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        response
    }

    /// Refuses what a browser would send for a page of somebody else: with an `Origin`, or under a name that somebody has
    /// pointed to this address.
    fn admit(&self, request: &Whole) -> Result<(), Refused> {
        let headers = request.headers();
        if headers.contains_key(ORIGIN) {
            return Err((StatusCode::FORBIDDEN, "this is not for web pages".to_owned()));
        }
        let mut hosts = headers.get_all(HOST).iter();
        let is_ours = |host: &HeaderValue| self.hosts.iter().any(|ours| host == ours.as_str());
        if request.uri().authority().is_some() || !hosts.next().is_some_and(is_ours) || hosts.next().is_some()
        {
            return Err((StatusCode::FORBIDDEN, format!("the host must be {}", self.hosts.join(" or "))));
        }
        Ok(())
    }

    fn perform(&self, request: &Whole) -> Result<(StatusCode, Value), Refused> {
        let Some(state) = &self.faults.0 else { return Err(unknown_path()) };
        let mut state = lock(state);
        let path = request.uri().path().strip_prefix(PATH).unwrap_or_default();
        match (path, request.method()) {
            ("/faults", &Method::GET) => Ok((StatusCode::OK, json!({ "faults": state.faults }))),
            ("/faults", &Method::POST) => add(&mut state, request),
            ("/faults", &Method::DELETE) => {
                state.faults.clear();
                Ok((StatusCode::OK, json!({})))
            }
            ("/calls", &Method::GET) => {
                Ok((StatusCode::OK, json!({ "calls": state.calls, "seen": state.seen })))
            }
            ("/calls", &Method::DELETE) => {
                state.calls.clear();
                Ok((StatusCode::OK, json!({})))
            }
            ("/faults", _) => Err(not_allowed("GET, POST and DELETE")),
            ("/calls", _) => Err(not_allowed("GET and DELETE")),
            (path, method) => {
                let id = path.strip_prefix("/faults/").and_then(|id| id.parse::<u64>().ok());
                let id = id.ok_or_else(unknown_path)?;
                if method != Method::DELETE {
                    return Err(not_allowed("DELETE"));
                }
                let before = state.faults.len();
                state.faults.retain(|numbered| numbered.id != id);
                if state.faults.len() == before {
                    return Err((StatusCode::NOT_FOUND, format!("there is no fault {id}, or no more")));
                }
                Ok((StatusCode::OK, json!({})))
            }
        }
    }
}

/// Adds the fault that a request asks for.
fn add(state: &mut State, request: &Whole) -> Result<(StatusCode, Value), Refused> {
    // What a page may send without asking is no JSON.
    if request.headers().get(CONTENT_TYPE).is_none_or(|value| value != JSON) {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the content type must be {JSON}")));
    }
    let Ok(body) = request.body() else {
        return Err((StatusCode::BAD_REQUEST, format!("the body must be whole, of at most {BODY} bytes")));
    };
    let fault: Fault =
        serde_json::from_slice(body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    let added = state.add(fault).map_err(|message| (StatusCode::CONFLICT, message))?;
    Ok((StatusCode::CREATED, json!(added)))
}

fn unknown_path() -> Refused {
    let paths = ["/faults", "/faults/ID", "/calls"].map(|path| format!("{PATH}{path}"));
    (StatusCode::NOT_FOUND, paths.join(", "))
}

fn not_allowed(methods: &str) -> Refused {
    (StatusCode::METHOD_NOT_ALLOWED, format!("this takes {methods}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::BodyError;
    use http_body_util::BodyExt as _;
    use hyper::Request;
    use hyper::body::Bytes;

    struct Setting(Control);

    impl Setting {
        fn new() -> Self {
            let faults = Faults::begin_with(Vec::new()).unwrap();
            Self(Control::new(faults, "127.0.0.1:7000".parse().unwrap()))
        }

        async fn answer(&self, request: Request<Result<Bytes, BodyError>>) -> (u16, Value) {
            let answer = self.0.answer(&request);
            assert_eq!(answer.headers()[CONTENT_TYPE], JSON);
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            (status, serde_json::from_slice(&body).unwrap())
        }

        async fn ask(&self, method: Method, path: &str, body: &str) -> (u16, Value) {
            let request = Request::builder().method(method).uri(path).header(HOST, "127.0.0.1:7000");
            self.answer(request.header(CONTENT_TYPE, JSON).body(Ok(body.to_owned().into())).unwrap()).await
        }
    }

    #[tokio::test]
    async fn faults_come_and_go() {
        let setting = Setting::new();
        let throttled = json!({ "id": 1, "error": "ThrottlingException", "times": 2 });
        let late = json!({ "id": 2, "delay_ms": 5 });
        let body = r#"{"times":2,"error":"ThrottlingException"}"#;
        assert_eq!(setting.ask(Method::POST, "/dev/faults", body).await, (201, throttled.clone()));
        assert_eq!(setting.ask(Method::POST, "/dev/faults", r#"{"delay_ms":5}"#).await, (201, late.clone()));
        let listed = setting.ask(Method::GET, "/dev/faults", "").await;
        assert_eq!(listed, (200, json!({ "faults": [throttled, late] })));
        assert_eq!(setting.ask(Method::DELETE, "/dev/faults/1", "").await.0, 200);
        assert_eq!(setting.ask(Method::DELETE, "/dev/faults/1", "").await.0, 404);
        assert_eq!(setting.ask(Method::GET, "/dev/faults", "").await, (200, json!({ "faults": [late] })));
        assert_eq!(setting.ask(Method::DELETE, "/dev/faults", "").await.0, 200);
        assert_eq!(setting.ask(Method::GET, "/dev/faults", "").await, (200, json!({ "faults": [] })));
    }

    #[tokio::test]
    async fn what_it_does_not_take() {
        let setting = Setting::new();
        for (method, path, body, status, error) in [
            (Method::POST, "/dev/faults", "", 400, "EOF while parsing"),
            (Method::POST, "/dev/faults", "[]", 400, "a fault has one of error, "),
            (Method::POST, "/dev/faults", r#"{"error":"No"}"#, 400, r#"error: there is no "No". There are "#),
            (Method::POST, "/dev/faults", r#"{"delay_ms":1} x"#, 400, "trailing characters"),
            (Method::PUT, "/dev/faults", "", 405, "this takes GET, POST and DELETE"),
            (Method::POST, "/dev/calls", "", 405, "this takes GET and DELETE"),
            (Method::GET, "/dev/faults/1", "", 405, "this takes DELETE"),
            (Method::DELETE, "/dev/faults/x", "", 404, "/dev/faults, /dev/faults/ID, /dev/calls"),
            (Method::GET, "/dev", "", 404, "/dev/faults, /dev/faults/ID, /dev/calls"),
            (Method::GET, "/device/faults", "", 404, "/dev/faults, /dev/faults/ID, /dev/calls"),
        ] {
            let (found, answer) = setting.ask(method.clone(), path, body).await;
            let said = answer["error"].as_str().unwrap();
            assert!(found == status && said.starts_with(error), "{method} {path} {body}: {found} {said}");
        }
        for _ in 0..super::super::FAULTS {
            assert_eq!(setting.ask(Method::POST, "/dev/faults", r#"{"delay_ms":1}"#).await.0, 201);
        }
        assert_eq!(setting.ask(Method::POST, "/dev/faults", r#"{"delay_ms":1}"#).await.0, 409);
    }

    /// What a page of somebody else's can have a browser send to this machine.
    #[tokio::test]
    async fn browsers_are_kept_out() {
        let setting = Setting::new();
        let fault = r#"{"error":"AuthException"}"#;
        let json = ("content-type", JSON);
        let ours = ("host", "127.0.0.1:7000");
        for (uri, headers, status) in [
            ("/dev/faults", vec![ours, json], 201),
            ("/dev/faults", vec![("host", "localhost:7000"), json], 201),
            ("/dev/faults", vec![ours, json, ("origin", "http://127.0.0.1:7000")], 403),
            ("/dev/faults", vec![ours, json, ("origin", "null")], 403),
            // A name that was pointed here after its page was loaded.
            ("/dev/faults", vec![("host", "evil.example:7000"), json], 403),
            ("/dev/faults", vec![("host", "127.0.0.1"), json], 403),
            ("/dev/faults", vec![ours, ("host", "evil.example:7000"), json], 403),
            ("http://evil.example/dev/faults", vec![ours, json], 403),
            ("/dev/faults", vec![json], 403),
            // What forms send.
            ("/dev/faults", vec![ours, ("content-type", "text/plain")], 415),
            ("/dev/faults", vec![ours], 415),
        ] {
            let mut request = Request::post(uri);
            for (name, value) in &headers {
                request = request.header(*name, *value);
            }
            let (found, answer) = setting.answer(request.body(Ok(fault.into())).unwrap()).await;
            assert_eq!(found, status, "{uri} {headers:?}: {answer}");
        }
        let (_, listed) = setting.ask(Method::GET, "/dev/faults", "").await;
        assert_eq!(listed["faults"].as_array().unwrap().len(), 2);
        let long = Request::post("/dev/faults").header(HOST, "localhost:7000").header(CONTENT_TYPE, JSON);
        assert_eq!(setting.answer(long.body(Err(BodyError::TooLarge)).unwrap()).await.0, 400);
    }
}
