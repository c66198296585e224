//! A request head, read as the listener reads it: canonical forms, the signature it presents, and the trace it is a part of.
#![no_main]

use http::Uri;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::limits;
use instance_connect_core::secret::Secret;
use instance_connect_core::sigv4::{
    AuthenticationError, Credentials, Expected, Presented, Query, RequestHead, SigningScope, sign_headers,
};
use instance_connect_core::trace_context::TraceContext;
use libfuzzer_sys::fuzz_target;

const NOW: UnixSeconds = UnixSeconds(1_928_541_906);
const EXPECTED: Expected<'_> = Expected {
    region: "us-east-1",
    service: "ec2-instance-connect",
    now: NOW,
    window: limits::CLOCK_WINDOW,
};

fuzz_target!(|bytes: &[u8]| {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let (Ok(httparse::Status::Complete(_)), Some(method), Some(target)) =
        (request.parse(bytes), request.method, request.path)
    else {
        return;
    };
    for header in request.headers.iter() {
        a_trace_is_the_one_that_was_named(header.value);
    }
    let Ok(uri) = target.parse::<Uri>() else { return };
    let names: Vec<String> = request.headers.iter().map(|header| header.name.to_ascii_lowercase()).collect();
    let headers = names.iter().zip(request.headers.iter()).map(|(name, header)| (name.as_str(), header.value));
    let target = uri.to_string();
    let Ok(head) = RequestHead::read(method, &target, headers) else { return };
    the_canonical_query_is_its_own(&head);
    nothing_holds_under_another_secret(&head, bytes.len());
    what_is_signed_holds_and_nothing_else(&head, &target);
});

fn a_trace_is_the_one_that_was_named(value: &[u8]) {
    let says = |text: String| value.windows(text.len()).any(|part| part == text.as_bytes());
    if let Some(TraceContext { trace_id, span_id, .. }) = TraceContext::from_traceparent(value) {
        assert!(value.len() == 55 && says(format!("00-{trace_id:032x}-{span_id:016x}-")));
    }
    if let Some(TraceContext { trace_id, span_id, .. }) = TraceContext::from_amzn_trace_id(value) {
        let (seconds, random) = (trace_id >> 96, trace_id & (u128::MAX >> 32));
        assert!(says(format!("Root=1-{seconds:08x}-{random:024x}")) && says(format!("Parent={span_id:016x}")));
    }
}

fn the_canonical_query_is_its_own(head: &RequestHead<'_>) {
    let canonical = head.query().canonical(None);
    assert!(canonical.bytes().all(|b| b.is_ascii_graphic()), "{canonical}");
    assert_eq!(Query::read(&canonical).unwrap().canonical(None), canonical);
}

fn nothing_holds_under_another_secret(head: &RequestHead<'_>, length: usize) {
    let secret = Secret::new(b"a secret that no input was signed with".to_vec());
    match Presented::read(head, &EXPECTED) {
        Ok(presented) => {
            let unknown = presented.verify(b"", None::<(&Secret, ())>).map(drop);
            assert_eq!(unknown, Err(AuthenticationError::UnknownKey));
            assert!(presented.verify(b"", Some((&secret, ()))).is_err());
        }
        // What it says of the request is not longer than the request.
        Err(error) => assert!(error.to_string().len() <= length + 1024),
    }
}

/// Signs the head as a client does, with whatever other headers it has once.
fn what_is_signed_holds_and_nothing_else(head: &RequestHead<'_>, target: &str) {
    let is_ours = |name: &str| {
        name == "host" || name == "date" || name == "authorization" || name.starts_with("x-amz-")
    };
    if head.query().canonical(None).contains("X-Amz-") {
        return;
    }
    let others = head.headers().iter().filter(|(name, _)| !is_ours(name) && head.header(name).is_some());
    let mut headers: Vec<(&str, &str)> = others.copied().chain([("host", "localhost")]).collect();
    let credentials = Credentials {
        access_key_id: "AKIAEXAMPLEEXAMPLE01".to_owned(),
        secret_access_key: Secret::new(b"secret".to_vec()),
        session_token: None,
    };
    let scope = SigningScope { region: EXPECTED.region, service: EXPECTED.service };
    let Some(signed) = sign_headers(head.method(), target, &headers, b"body", &credentials, scope, NOW) else {
        return;
    };
    headers.extend([("x-amz-date", signed.amz_date.as_str()), ("authorization", signed.authorization.as_str())]);
    let verified = |method: &str, body: &[u8]| {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        let head = RequestHead::read(method, target, headers).unwrap();
        let presented = Presented::read(&head, &EXPECTED).unwrap();
        presented.verify(body, Some((&credentials.secret_access_key, ()))).is_ok()
    };
    assert!(verified(head.method(), b"body"));
    assert!(!verified(head.method(), b"bodY"));
    assert!(!verified(&format!("{}S", head.method()), b"body"));
}
