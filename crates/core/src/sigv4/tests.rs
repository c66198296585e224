use super::canonical::CanonicalRequest;
use super::sign::signing_key;
use super::*;
use crate::limits;
use crate::secret::Secret;
use instance_connect_document::UnixSeconds;
use proptest::prelude::*;

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
        window: limits::CLOCK_WINDOW,
    }
}

/// A request signed by our signer, in the parts a test may tamper with.
#[derive(Clone, Debug)]
struct Signed {
    target: String,
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
    Signed { target: "/".into(), headers, body: BODY.to_vec() }
}

impl Signed {
    fn check_at(&self, now: i64) -> Result<(), AuthenticationError> {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let head = RequestHead::read("POST", &self.target, headers).unwrap();
        let presented = Presented::read(&head, &expected(now))?;
        let secret = secret();
        let known = presented.access_key_id().is_some_and(|id| id.as_str() == KEY_ID);
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
    both.target = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256".into();
    assert_eq!(both.check(), Err(BothHeaderAndQuery));
    // Rule 5.
    assert_eq!(good.without("authorization").check(), Err(MissingToken));
    for other in ["", "Bearer x", "Basic eDp5", "aws4-hmac-sha256 x"] {
        assert_eq!(good.with("authorization", |_| other.into()).check(), Err(MissingToken), "{other}");
    }
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
    for broken in
        ["AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256x Credential=a", "AWS4-HMAC-SHA256,Credential=a", "AWS4-"]
    {
        assert!(
            matches!(good.with("authorization", |_| broken.into()).check(), Err(Incomplete(_))),
            "{broken}"
        );
    }
    let twice = good.with("authorization", |value| format!("{value}, Signature={}", "0".repeat(64)));
    assert!(
        matches!(twice.check(), Err(Incomplete(text)) if text.starts_with("Authorization header requires 'Signature'"))
    );
    let asymmetric = good.with("authorization", |value| value.replace("HMAC-SHA256", "ECDSA-P256-SHA256"));
    let text = "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256' (only AWS4-HMAC-SHA256 for now). ";
    assert_eq!(asymmetric.check(), Err(Incomplete(text.into())));
    let text =
        "Date must be in ISO-8601 'basic format'. Got '201'. See http://en.wikipedia.org/wiki/ISO_8601";
    assert_eq!(good.with("x-amz-date", |_| "201".into()).check(), Err(Incomplete(text.into())));
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
    assert_eq!(
        scoped("20310211/us-east-1/ec2-instance-connect/aws4_request", "d/r/s/t"),
        Err(WrongScope(
            "Credential should be scoped to a valid region, not 'r'. Credential should be scoped to correct service: \
             'ec2-instance-connect'. Credential should be scoped with a valid terminator: 'aws4_request', not 't'. Date \
             in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: 'd' != '20310211', from \
             '20310211T020506Z'."
                .into()
        ))
    );
    // Rule 8h, before the key.
    let host = |value: &str| value.replace("host;", "").replace(KEY_ID, "AKIDEXAMPLEEXAMPLE02");
    assert_eq!(good.with("authorization", host).check(), Err(HostNotSigned));
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
}

#[test]
fn what_must_be_signed() {
    use AuthenticationError::Mismatch;
    let good = signed();
    assert_eq!(good.plus("x-amz-anything", "unsigned").check(), Err(Mismatch));
    assert_eq!(good.without("content-type").check(), Err(Mismatch));
    let unsigned_host = {
        let headers = [("content-type", "application/x-amz-json-1.1")];
        let added = sign_headers("POST", "/", &headers, BODY, &credentials(), SCOPE, NOW).unwrap();
        good.without("x-amz-target").with("authorization", |_| added.authorization)
    };
    assert_eq!(unsigned_host.check(), Err(AuthenticationError::HostNotSigned));
}

/// What the body is comes from the body. A header that says otherwise is one more signed header.
#[test]
fn the_hash_of_the_body_is_never_taken_from_the_request() {
    let with_claim = |claim: &'static str, body: &[u8]| {
        let headers = [("host", "127.0.0.1:8080"), ("x-amz-content-sha256", claim)];
        let added = sign_headers("POST", "/", &headers, body, &credentials(), SCOPE, NOW).unwrap();
        let mut headers: Vec<(String, String)> =
            headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        headers.push(("x-amz-date".into(), added.amz_date));
        headers.push(("authorization".into(), added.authorization));
        Signed { headers, ..signed() }.check()
    };
    let of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for (claim, body, expected) in [
        (of_nothing, BODY, Ok(())),
        (of_nothing, b"".as_slice(), Err(AuthenticationError::Mismatch)),
        ("unsigned-payload", BODY, Ok(())),
        ("UNSIGNED-PAYLOAD", BODY, Err(AuthenticationError::UnsignedPayload)),
        ("UNSIGNED-PAYLOAD", b"UNSIGNED-PAYLOAD", Err(AuthenticationError::UnsignedPayload)),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", BODY, Err(AuthenticationError::UnsignedPayload)),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", BODY, Err(AuthenticationError::UnsignedPayload)),
    ] {
        assert_eq!(with_claim(claim, body), expected, "{claim}");
    }
}

/// A signature in the query, up to rule 8: what comes then is the same code as for the header.
#[test]
fn presigned_rules_in_their_order() {
    use AuthenticationError::*;
    const SCOPE: &str = "20310211/us-east-1/ec2-instance-connect/aws4_request";
    let right = [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned()),
        ("X-Amz-Credential", format!("{KEY_ID}%2F{SCOPE}")),
        ("X-Amz-Date", "20310211T020506Z".to_owned()),
        ("X-Amz-SignedHeaders", "host".to_owned()),
        ("X-Amz-Signature", "0".repeat(64)),
    ];
    let changed = |name: &str, value: Option<&str>| -> Signed {
        let mut parameters: Vec<(&str, &str)> =
            right.iter().map(|(name, value)| (*name, value.as_str())).collect();
        parameters.retain(|(known, _)| *known != name);
        parameters.extend(value.map(|value| (name, value)));
        let pairs: Vec<String> =
            parameters.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let headers = vec![("host".into(), "127.0.0.1:8080".into())];
        Signed { target: format!("/?{}", pairs.join("&")), headers, body: BODY.to_vec() }
    };
    let incomplete = |text: &str| Err(Incomplete(text.to_owned()));
    // Nothing of it is wrong but the signature.
    assert_eq!(changed("a", Some("b")).check(), Err(Mismatch));
    // Rule 5: what counts is the algorithm. Its name may be escaped, and has one spelling.
    assert_eq!(changed("X-Amz-Algorithm", None).check(), Err(MissingToken));
    let respelt = |name: &str| {
        let good = changed("a", None);
        Signed { target: good.target.replace("X-Amz-Algorithm", name), ..good }.check()
    };
    assert_eq!(respelt("%58%2DAmz-Algorith%6d"), Err(Mismatch));
    assert_eq!(respelt("x-amz-algorithm"), Err(MissingToken));
    // Rule 6q, each part alone and all of them at once. What is empty is missing.
    for (name, _) in &right[1..] {
        let text = format!(
            "AWS query-string parameters must include '{name}'. Re-examine the query-string parameters."
        );
        assert_eq!(changed(name, None).check(), incomplete(&text));
        assert_eq!(changed(name, Some("")).check(), incomplete(&text));
    }
    let nothing = Signed { target: "/?X-Amz-Algorithm".into(), ..changed("a", None) };
    assert_eq!(
        nothing.check(),
        incomplete(
            "AWS query-string parameters must include 'X-Amz-Algorithm'. AWS query-string parameters must include \
             'X-Amz-Credential'. AWS query-string parameters must include 'X-Amz-Signature'. AWS query-string parameters \
             must include 'X-Amz-SignedHeaders'. AWS query-string parameters must include 'X-Amz-Date'. Re-examine the \
             query-string parameters."
        )
    );
    assert_eq!(
        changed("X-Amz-Algorithm", Some("AWS4-ECDSA-P256-SHA256")).check(),
        incomplete("Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256' (only AWS4-HMAC-SHA256 for now). ")
    );
    // A header's spelling of the time is none for a query.
    for date in ["201", "Tue,%2011%20Feb%202031%2002:05:06%20GMT"] {
        assert!(
            matches!(changed("X-Amz-Date", Some(date)).check(), Err(Incomplete(text)) if text.starts_with("Date must"))
        );
    }
    for expires in ["", "0", "-1", "%2B1", "1.5", "604801", "18446744073709551617", "x"] {
        assert!(
            matches!(changed("X-Amz-Expires", Some(expires)).check(), Err(Incomplete(text)) if text.starts_with("X-Amz-Expires must")),
            "{expires}"
        );
    }
    // Rule 7.
    let elsewhere = format!("{KEY_ID}/{}", SCOPE.replace("us-east-1", "us-east-2"));
    assert!(matches!(changed("X-Amz-Credential", Some(&elsewhere)).check(), Err(WrongScope(_))));
    assert!(matches!(changed("X-Amz-Credential", Some("a/b")).check(), Err(Incomplete(_))));
    // Rule 8h: a header that is named in another way is not signed.
    for names in ["x-amz-date", "Host", "hosts"] {
        assert_eq!(changed("X-Amz-SignedHeaders", Some(names)).check(), Err(HostNotSigned));
    }
    // Rule 9.
    let unknown = format!("AKIDEXAMPLEEXAMPLE02/{SCOPE}");
    assert_eq!(changed("X-Amz-Credential", Some(&unknown)).check(), Err(UnknownKey));
    // Rule 10.
    assert_eq!(changed("X-Amz-Security-Token", Some("x")).check(), Err(UnknownKey));
    // Rule 12.
    assert_eq!(changed("X-Amz-Content-Sha256", Some("UNSIGNED-PAYLOAD")).check(), Err(UnsignedPayload));
    assert_eq!(changed("a", None).plus("x-amz-target", "unsigned").check(), Err(Mismatch));
}

#[test]
fn presigned_requests_expire() {
    let presigned = |expires: &str| Signed {
        target: format!(
            "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={KEY_ID}/20310211/us-east-1/ec2-instance-connect/aws4_request\
             &X-Amz-Date=20310211T020506Z&X-Amz-SignedHeaders=host&X-Amz-Signature=0{expires}"
        ),
        headers: vec![("host".into(), "127.0.0.1:8080".into())],
        body: BODY.to_vec(),
    };
    // What is not expired is told that its signature is wrong.
    for (expires, age, fits) in [
        ("", 300, true),
        ("", 301, false),
        ("&X-Amz-Expires=60", 60, true),
        ("&X-Amz-Expires=60", 61, false),
        ("&X-Amz-Expires=1", 1, true),
        ("&X-Amz-Expires=1", 2, false),
        ("&X-Amz-Expires=604800", 604_800, true),
        ("&X-Amz-Expires=604800", 604_801, false),
        // However long it is good for, from before our clock it is not.
        ("&X-Amz-Expires=604800", -300, true),
        ("&X-Amz-Expires=604800", -301, false),
    ] {
        let result = presigned(expires).check_at(NOW.0 + age);
        assert_eq!(result == Err(AuthenticationError::Mismatch), fits, "{expires} {age}: {result:?}");
    }
    for (expires, age, text) in [
        (
            "&X-Amz-Expires=60",
            61,
            "Signature expired: 20310211T020506Z is now earlier than 20310211T020507Z (20310211T020607Z - 1 min.)",
        ),
        (
            "&X-Amz-Expires=90",
            91,
            "Signature expired: 20310211T020506Z is now earlier than 20310211T020507Z (20310211T020637Z - 90 sec.)",
        ),
        (
            "&X-Amz-Expires=60",
            -301,
            "Signature not yet current: 20310211T020506Z is still later than 20310211T020505Z (20310211T020005Z + 5 min.)",
        ),
    ] {
        assert_eq!(presigned(expires).check_at(NOW.0 + age).unwrap_err().to_string(), text);
    }
}

/// A request with these headers signed in this order, whatever the rules say.
fn signed_as_asked(headers: &[(&str, &str)]) -> Signed {
    let body_hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, BODY);
    let request = CanonicalRequest {
        method: "POST",
        uri: "/",
        query: "",
        headers,
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
    Signed { headers, ..signed() }
}

/// Refused, whatever the MAC says.
#[test]
fn unsorted_signed_headers_are_refused() {
    let host = ("host", "127.0.0.1:8080");
    let content_type = ("content-type", "application/x-amz-json-1.1");
    let date = ("x-amz-date", "20310211T020506Z");
    assert_eq!(signed_as_asked(&[content_type, host, date]).check(), Ok(()));
    assert_eq!(signed_as_asked(&[host, content_type, date]).check(), Err(AuthenticationError::Mismatch));
}

/// botocore signs `Date` alone where the caller has set it.
#[test]
fn without_x_amz_date_the_date_header_says_when() {
    let host = ("host", "127.0.0.1:8080");
    for date in ["20310211T020506Z", "Tue, 11 Feb 2031 02:05:06 -0000"] {
        let good = signed_as_asked(&[("date", date), host]);
        assert_eq!(good.check(), Ok(()), "{date}");
        assert!(matches!(good.check_at(NOW.0 + 301), Err(AuthenticationError::OutsideClockWindow(_))));
        // Where both stand, X-Amz-Date is meant.
        assert_eq!(good.plus("x-amz-date", "20310211T020506Z").check(), Err(AuthenticationError::Mismatch));
        let other = ("date", "Mon, 10 Feb 2031 02:05:06 GMT");
        assert_eq!(signed_as_asked(&[other, host, ("x-amz-date", "20310211T020506Z")]).check(), Ok(()));
    }
    let twice = signed_as_asked(&[("date", "20310211T020506Z"), host]).plus("date", "20310211T020507Z");
    assert!(matches!(twice.check(), Err(AuthenticationError::Incomplete(_))));
}

proptest! {
    #[test]
    fn arbitrary_authorization_never_panics(parts: [String; 3], date: String) {
        let [credential, names, signature] = parts;
        for value in [
            format!("AWS4-{credential}"),
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"),
            format!("AWS4-HMAC-SHA256 Credential=a/b/c/d/{credential}, SignedHeaders=host;{names}, Signature=0"),
        ] {
            let changed = signed().with("authorization", |_| value);
            let _ = changed.check();
            let _ = changed.with("x-amz-date", |_| date.clone()).check();
        }
    }

    #[test]
    fn arbitrary_query_signature_never_panics(credential: String, date: String, expires: String) {
        let escaped = |text: String| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let [credential, date, expires] = [credential, date, expires].map(escaped);
        let target = format!(
            "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={date}&X-Amz-Expires={expires}\
             &X-Amz-SignedHeaders=host&X-Amz-Signature=0"
        );
        let _ = Signed { target, ..signed().without("authorization") }.check();
    }
}
