//! What another's signer signed verifies; with any part of it changed, it does not.

use crate::signer::{KEY_ID, REGION, SECRET, SERVICE, SIGNED_AT, escaped, presigned, signed};
use crate::{Edge, Refused, Request};
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::sigv4::{AuthenticationError, MalformedHead, Query};
use proptest::prelude::*;
use proptest::sample::Index;

fn verify(request: &Request) -> Result<(), Refused> {
    let edge = Edge { region: REGION, service: SERVICE, now: UnixSeconds(SIGNED_AT) };
    crate::verify(request, edge, Some(KEY_ID), SECRET)
}

/// Requests such as this API gets, and odder ones.
fn requests() -> impl Strategy<Value = Request> {
    let path = prop::sample::select(vec!["/", "/openTunnel", "/a%20b/c", "/%C3%BC/~x-y_z"]);
    let query = prop::collection::vec(("[a-zA-Z]{1,5}", "[ -~ü]{0,8}"), 0..4);
    let odd_values = prop::collection::vec("[!-~]{1,8}( {1,3}[!-~]{1,8}){0,3}", 0..3);
    let body = prop::collection::vec(any::<u8>(), 0..100);
    let method = prop::sample::select(vec!["POST", "GET", "DELETE"]);
    (method, path, query, odd_values, body).prop_map(|(method, path, query, odd_values, body)| {
        let pairs: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let target = if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) };
        let mut headers = vec![
            ("host".to_owned(), "127.0.0.1:8080".to_owned()),
            ("content-type".to_owned(), "application/x-amz-json-1.1".to_owned()),
            ("x-amz-target".to_owned(), "AWSEC2InstanceConnectService.SendSSHPublicKey".to_owned()),
        ];
        headers
            .extend(odd_values.into_iter().zip(0..).map(|(value, number)| (format!("odd-{number}"), value)));
        Request { method: method.to_owned(), target, headers, body }
    })
}

/// The same requests with a signature in the header, and in the query.
fn signed_requests() -> impl Strategy<Value = Request> {
    (requests(), prop::option::of(1u64..=604_800)).prop_map(|(request, expires)| match expires {
        None => signed(request),
        Some(expires) => presigned(request, expires),
    })
}

/// A byte of one part of a request. Every part is signed, or is the signature.
#[derive(Clone, Copy, Debug)]
enum Part {
    Method,
    Target,
    HeaderName(Index),
    HeaderValue(Index),
    Body,
}

fn parts() -> impl Strategy<Value = Part> {
    prop_oneof![
        Just(Part::Method),
        Just(Part::Target),
        any::<Index>().prop_map(Part::HeaderName),
        any::<Index>().prop_map(Part::HeaderValue),
        Just(Part::Body),
    ]
}

/// Changes one byte. `flip` leaves ASCII what is ASCII.
fn flipped(request: &Request, part: Part, at: Index, flip: u8) -> Request {
    let mut changed = request.clone();
    let flip_in = |text: &mut String| {
        let mut bytes = std::mem::take(text).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        *text = String::from_utf8(bytes).unwrap();
    };
    let headers = request.headers.len();
    match part {
        Part::Method => flip_in(&mut changed.method),
        Part::Target => flip_in(&mut changed.target),
        Part::HeaderName(which) => flip_in(&mut changed.headers[which.index(headers)].0),
        Part::HeaderValue(which) => flip_in(&mut changed.headers[which.index(headers)].1),
        Part::Body if request.body.is_empty() => changed.body.push(flip),
        Part::Body => {
            let at = at.index(request.body.len());
            changed.body[at] ^= flip;
        }
    }
    changed
}

/// A request without the freedoms that its form has by AWS's rules: runs of blanks in a header's value count as one, a
/// query may be escaped in more than one way, and between the parameters of the authorization may be more commas.
fn meaning(request: &Request) -> impl PartialEq + use<> {
    let words = |value: &str, separators: &[char]| -> Vec<String> {
        value.split(separators).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let headers: Vec<(String, Vec<String>)> = request
        .headers
        .iter()
        .map(|(name, value)| match name.as_str() {
            "authorization" => (name.clone(), words(value, &[' ', ',', '\t', '\n', '\r', '\u{b}', '\u{c}'])),
            _ => (name.clone(), words(value, &[' ', '\t'])),
        })
        .collect();
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    (request.method.clone(), path.to_owned(), Query::read(query).ok(), headers, request.body.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_another_signer_signed_verifies(request in signed_requests()) {
        prop_assert_eq!(verify(&request), Ok(()));
    }

    #[test]
    fn any_changed_byte_is_refused(
        request in signed_requests(), part in parts(), at: Index, flip in 1u8..128,
    ) {
        let changed = flipped(&request, part, at, flip);
        prop_assert!(meaning(&changed) == meaning(&request) || verify(&changed).is_err(), "{:?}", changed);
    }
}

fn good() -> Request {
    Request {
        method: "POST".into(),
        target: "/?a=b".into(),
        headers: vec![
            ("host".into(), "localhost".into()),
            ("x-amz-target".into(), "AWSEC2InstanceConnectService.SendSSHPublicKey".into()),
        ],
        body: b"{}".to_vec(),
    }
}

type Change = fn(&mut Request);

/// What adds to a request or takes from it.
#[test]
fn whatever_is_added_or_left_out_is_refused() {
    let mismatch = Refused::Signature(AuthenticationError::Mismatch);
    let cases: [(&str, Change, Refused); 8] = [
        ("body cut", |request| request.body.truncate(1), mismatch.clone()),
        ("body longer", |request| request.body.push(b' '), mismatch.clone()),
        ("a parameter more", |request| request.target.push_str("&a=b"), mismatch.clone()),
        ("a path", |request| request.target = request.target.replace("/?", "/b?"), mismatch.clone()),
        (
            "no target header",
            |request| request.headers.retain(|(name, _)| name != "x-amz-target"),
            mismatch.clone(),
        ),
        ("a header more", |request| request.headers.push(("x-amz-a".into(), "b".into())), mismatch),
        (
            "a header twice",
            |request| request.headers.push(request.headers[1].clone()),
            Refused::Head(MalformedHead::RepeatedHeader("x-amz-target".into())),
        ),
        (
            "a token of no key",
            |request| request.headers.push(("x-amz-security-token".into(), "a".into())),
            Refused::Signature(AuthenticationError::UnknownKey),
        ),
    ];
    for right in [signed(good()), presigned(good(), 60)] {
        assert_eq!(verify(&right), Ok(()));
        for (name, change, error) in &cases {
            let mut changed = right.clone();
            change(&mut changed);
            assert_eq!(verify(&changed), Err(error.clone()), "{name}");
        }
    }
}

/// A signature is good in the one place that it was made for.
#[test]
fn a_signature_does_not_work_in_the_other_place() {
    let in_query = presigned(good(), 60);
    let parameter = |name: &str| {
        let value = in_query.target.split(&format!("{name}=")).nth(1).unwrap().split('&').next().unwrap();
        value.replace("%2F", "/").replace("%3B", ";").replace("%2D", "-")
    };
    let [date, names, signature] = ["X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature"].map(parameter);
    let day = &date[..8];
    let mut moved = good();
    moved.headers.push((
        "authorization".into(),
        format!(
            "AWS4-HMAC-SHA256 Credential={KEY_ID}/{day}/{REGION}/{SERVICE}/aws4_request, SignedHeaders={names}, \
             Signature={signature}"
        ),
    ));
    moved.headers.push(("date".into(), date));
    assert_eq!(verify(&moved), Err(Refused::Signature(AuthenticationError::Mismatch)));
}
