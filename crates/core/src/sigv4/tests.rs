use super::*;
use crate::secret::Secret;
use instance_connect_document::UnixSeconds;
use proptest::prelude::*;
use std::time::Duration;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const KEY_ID: &str = "AKIDEXAMPLEEXAMPLE01";
const NOW: UnixSeconds = UnixSeconds(1_928_541_906);
const SCOPE: SigningScope<'static> = SigningScope { region: "us-east-1", service: "ec2-instance-connect" };
const BODY: &[u8] = br#"{"InstanceId": "i-0123456789abcdef0"}"#;

fn secret() -> Secret {
    Secret::new(SECRET.into())
}

fn credentials() -> Credentials {
    Credentials { access_key_id: KEY_ID.into(), secret_access_key: secret(), session_token: None }
}

fn expected(now: i64) -> Expected<'static> {
    Expected {
        region: SCOPE.region,
        service: SCOPE.service,
        now: UnixSeconds(now),
        window: Duration::from_secs(300),
    }
}

/// A request signed by our signer, in the parts a test may tamper with.
#[derive(Clone, Debug)]
struct Signed {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn signed() -> Signed {
    let headers = [
        ("content-type", "application/x-amz-json-1.1"),
        ("host", "127.0.0.1:8080"),
        ("x-amz-target", "AWSEC2InstanceConnectService.SendSSHPublicKey"),
    ];
    let added = sign_headers("POST", "/", &headers, BODY, &credentials(), SCOPE, NOW).unwrap();
    let mut headers: Vec<(String, String)> =
        headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    headers.push(("x-amz-date".into(), added.amz_date));
    headers.push(("authorization".into(), added.authorization));
    Signed { method: "POST".into(), path: "/".into(), query: String::new(), headers, body: BODY.to_vec() }
}

impl Signed {
    fn check_at(&self, now: i64) -> Result<(), AuthenticationError> {
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let head =
            RequestHead { method: &self.method, path: &self.path, query: &self.query, headers: &headers };
        let presented = Presented::read(head, &expected(now))?;
        let secret = secret();
        let known = presented.access_key_id().as_str() == KEY_ID;
        presented.verify(&self.body, known.then_some((&secret, ()))).map(|_| ())
    }

    fn check(&self) -> Result<(), AuthenticationError> {
        self.check_at(NOW.0)
    }

    fn with(&self, name: &str, change: impl FnOnce(&str) -> String) -> Self {
        let mut changed = self.clone();
        let header = changed.headers.iter_mut().find(|(known, _)| known == name).unwrap();
        header.1 = change(&header.1);
        changed
    }

    fn without(&self, name: &str) -> Self {
        let mut changed = self.clone();
        changed.headers.retain(|(known, _)| known != name);
        changed
    }

    fn plus(&self, name: &str, value: &str) -> Self {
        let mut changed = self.clone();
        changed.headers.push((name.into(), value.into()));
        changed
    }
}

#[test]
fn a_good_signature_verifies() {
    assert_eq!(signed().check(), Ok(()));
    // The header parameters may stand in any order, with or without blanks behind the commas.
    let reordered = signed().with("authorization", |value| {
        let parameters = value.strip_prefix("AWS4-HMAC-SHA256 ").unwrap();
        let mut parameters: Vec<&str> = parameters.split(", ").collect();
        parameters.reverse();
        format!("AWS4-HMAC-SHA256 {}", parameters.join(","))
    });
    assert_eq!(reordered.check(), Ok(()));
    // A header that is neither signed nor has to be changes nothing.
    assert_eq!(signed().plus("user-agent", "anything").check(), Ok(()));
}

#[test]
fn aws_published_example() {
    // The example of AWS's general reference for signature version 4 (GET iam ListUsers, 20150830T123600Z).
    let headers =
        [("content-type", "application/x-www-form-urlencoded; charset=utf-8"), ("host", "iam.amazonaws.com")];
    let credentials = Credentials {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: Secret::new(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec()),
        session_token: None,
    };
    let scope = SigningScope { region: "us-east-1", service: "iam" };
    let target = "/?Action=ListUsers&Version=2010-05-08";
    let time = UnixSeconds(1_440_938_160);
    let signed = sign_headers("GET", target, &headers, b"", &credentials, scope, time).unwrap();
    assert_eq!(
        signed.authorization,
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date, \
         Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    );
}

#[test]
fn rules_in_their_order() {
    use AuthenticationError::*;
    let good = signed();
    // Rule 4, before anything is read.
    let mut both = good.clone();
    both.query = "X-Amz-Algorithm=AWS4-HMAC-SHA256".into();
    assert_eq!(both.check(), Err(BothHeaderAndQuery));
    // Rule 5.
    assert_eq!(good.without("authorization").check(), Err(MissingToken));
    assert_eq!(good.plus("authorization", "AWS4-HMAC-SHA256 x").check(), Err(MissingToken));
    // Rule 6.
    let nothing = good.without("x-amz-date").with("authorization", |_| "AWS4-HMAC-SHA256 a=b".into());
    assert_eq!(
        nothing.check(),
        Err(Incomplete(
            "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. \
             Authorization header requires 'SignedHeaders' parameter. Authorization header requires existence of either \
             a 'X-Amz-Date' or a 'Date' header. Authorization=AWS4-HMAC-SHA256 a=b"
                .into()
        ))
    );
    for broken in ["Bearer x", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256x Credential=a", ""] {
        assert!(
            matches!(good.with("authorization", |_| broken.into()).check(), Err(Incomplete(_))),
            "{broken}"
        );
    }
    let twice = good.with("authorization", |value| format!("{value}, Signature={}", "0".repeat(64)));
    assert!(
        matches!(twice.check(), Err(Incomplete(text)) if text.starts_with("Authorization header requires 'Signature'"))
    );
    // Rule 7.
    let scoped = |from: &str, to: &str| good.with("authorization", |value| value.replace(from, to)).check();
    assert!(
        matches!(scoped("/aws4_request", ""), Err(Incomplete(text)) if text.starts_with("Credential must have exactly 5"))
    );
    assert!(
        matches!(scoped("us-east-1", "us-east-2"), Err(WrongScope(text)) if text.contains("valid region, not 'us-east-2'"))
    );
    assert!(
        matches!(scoped("/ec2-instance-connect/", "/ec2/"), Err(WrongScope(text)) if text.contains("correct service"))
    );
    assert!(
        matches!(scoped("aws4_request", "aws3_request"), Err(WrongScope(text)) if text.contains("terminator"))
    );
    assert!(
        matches!(scoped("/20310211/", "/20310210/"), Err(WrongScope(text)) if text.starts_with("Date in Credential scope"))
    );
    // Rule 9.
    assert_eq!(scoped(KEY_ID, "AKIDEXAMPLEEXAMPLE02"), Err(UnknownKey));
    assert_eq!(scoped(KEY_ID, "short"), Err(UnknownKey));
    // Before rule 12, also where the signature cannot be one.
    let malformed =
        |value: &str| value.replace("Signature=", "Signature=x").replace(KEY_ID, "AKIDEXAMPLEEXAMPLE02");
    assert_eq!(good.with("authorization", malformed).check(), Err(UnknownKey));
    assert_eq!(scoped("Signature=", "Signature=x"), Err(Mismatch));
    // Rule 10: nobody but temporary credentials has a token.
    assert_eq!(good.plus("x-amz-security-token", "x").check(), Err(UnknownKey));
}

#[test]
fn the_clock_window() {
    let good = signed();
    for (offset, fits) in [(0, true), (300, true), (-300, true), (301, false), (-301, false)] {
        assert_eq!(good.check_at(NOW.0 + offset).is_ok(), fits, "{offset}");
    }
    assert_eq!(
        good.check_at(NOW.0 + 301).unwrap_err().to_string(),
        "Signature expired: 20310211T020506Z is now earlier than 20310211T020507Z (20310211T021007Z - 5 min.)"
    );
    assert_eq!(
        good.check_at(NOW.0 - 301).unwrap_err().to_string(),
        "Signature not yet current: 20310211T020506Z is still later than 20310211T020505Z (20310211T020005Z + 5 min.)"
    );
    for date in
        ["20310211T020506", "20311311T020506Z", "2031-02-11T02:05Z", "20310211T020506+", "０2310211T0205Z"]
    {
        assert!(good.with("x-amz-date", |_| date.into()).check().is_err(), "{date}");
    }
}

#[test]
fn what_must_be_signed() {
    use AuthenticationError::Mismatch;
    let good = signed();
    assert_eq!(good.plus("x-amz-anything", "unsigned").check(), Err(Mismatch));
    assert_eq!(good.plus("host", "127.0.0.1:8080").check(), Err(Mismatch));
    assert_eq!(
        good.plus("x-amz-target", "AWSEC2InstanceConnectService.SendSSHPublicKey").check(),
        Err(Mismatch)
    );
    assert_eq!(good.without("content-type").check(), Err(Mismatch));
    let unsigned_host = {
        let headers = [("content-type", "application/x-amz-json-1.1")];
        let added = sign_headers("POST", "/", &headers, BODY, &credentials(), SCOPE, NOW).unwrap();
        good.without("x-amz-target").with("authorization", |_| added.authorization)
    };
    assert_eq!(unsigned_host.check(), Err(Mismatch));
}

/// Signed as asked, but with the signed headers in another order than the sorted one: refused, whatever the MAC says.
#[test]
fn unsorted_signed_headers_are_refused() {
    let headers = [
        ("host", "127.0.0.1:8080"),
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-date", "20310211T020506Z"),
    ];
    let body_hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, BODY);
    let request = CanonicalRequest {
        method: "POST",
        uri: "/",
        query: "",
        headers: &headers,
        payload_hash: body_hash.as_ref().try_into().unwrap(),
    };
    let scope = "20310211/us-east-1/ec2-instance-connect/aws4_request";
    let key = signing_key(&secret(), "20310211", SCOPE.region, SCOPE.service);
    let signature = aws_lc_rs::hmac::sign(&key, request.string_to_sign("20310211T020506Z", scope).as_bytes());
    let signature: String = signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope}, SignedHeaders={}, Signature={signature}",
        request.signed_headers()
    );
    let mut headers: Vec<(String, String)> =
        headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    headers.push(("authorization".into(), authorization));
    let unsorted = Signed { headers, ..signed() };
    assert_eq!(unsorted.check(), Err(AuthenticationError::Mismatch));
}

proptest! {
    #[test]
    fn any_changed_byte_is_refused(part in 0usize..8, position: prop::sample::Index, flip in 1u8..128) {
        let good = signed();
        let mut changed = good.clone();
        let flip_text = |text: &mut String| {
            let mut bytes = text.clone().into_bytes();
            if bytes.is_empty() {
                bytes.push(b'?');
            }
            let at = position.index(bytes.len());
            bytes[at] ^= flip;
            *text = String::from_utf8_lossy(&bytes).into_owned();
        };
        match part {
            0 => flip_text(&mut changed.method),
            1 => changed.path.push(char::from(b'a' + flip % 26)),
            2 => flip_text(&mut changed.query),
            3..=6 => flip_text(&mut changed.headers[part - 3].1),
            _ => {
                let at = position.index(changed.body.len());
                changed.body[at] ^= flip;
            }
        }
        // Blanks that fold away are the same request by the rules of the canonical form.
        let folded = |signed: &Signed| -> Vec<String> {
            signed.headers.iter().map(|(_, v)| v.split([' ', '\t']).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")).collect()
        };
        let same = folded(&changed) == folded(&good)
            && (&changed.method, &changed.path, &changed.query, &changed.body)
                == (&good.method, &good.path, &good.query, &good.body);
        // A bare separator in the query carries no parameter.
        let empty_query = changed.query.chars().all(|c| c == '&') && part == 2;
        prop_assert!(same || empty_query || changed.check().is_err());
    }

    #[test]
    fn any_changed_byte_of_the_authorization_is_refused(position: prop::sample::Index, flip in 1u8..128) {
        let changed = signed().with("authorization", |value| {
            let mut bytes = value.as_bytes().to_vec();
            let at = position.index(bytes.len());
            bytes[at] ^= flip;
            String::from_utf8_lossy(&bytes).into_owned()
        });
        // A blank for another blank or a comma between algorithm and parameters is the same header.
        let parameters = |signed: &Signed| -> Vec<String> {
            let value = &signed.headers.iter().find(|(name, _)| name == "authorization").unwrap().1;
            value.split([' ', ',', '\t', '\n', '\r', '\u{b}', '\u{c}']).filter(|part| !part.is_empty()).map(Into::into).collect()
        };
        prop_assert!(parameters(&changed) == parameters(&signed()) || changed.check().is_err());
    }

    #[test]
    fn arbitrary_authorization_never_panics(value: String, date: String) {
        let _ = signed().with("authorization", |_| value).with("x-amz-date", |_| date).check();
    }
}
