use super::*;
use crate::api::{AccessDenied, ApiError, Operation, SendSerialConsoleSshPublicKey, SendSshPublicKey};
use crate::authz::Caller;
use crate::host_facts::HostFacts;
use crate::host_key::{HostKeyReport, claimed};
use crate::iam::{Action, Denial, PolicyKind, StatementRef};
use crate::ids::Region;
use crate::inventory::{Status, User, UserKind};
use crate::limits;
use crate::link::{AgentUrn, KeyUse, Refusal, UseEvent};
use crate::origin::{Origin, TlsDetails};
use crate::ssh_key::KeyTypes;
use crate::{administration, query};
use instance_connect_document::{BootInstant, Fingerprint, RequestId, SessionId, UnixSeconds};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp";
const REQUEST: &str = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11";
const SHARES: &[Share] = &[Share::Strangers, Share::Enrolments, Share::Callers];

const EVENT: &str = "7c0c2f0e-8a51-4a0b-8c39-0f4b7f1d2e33";

fn origin() -> Origin {
    Origin {
        request: REQUEST.parse().unwrap(),
        time: UnixSeconds(1_928_541_906),
        source: "198.51.100.7".parse().unwrap(),
        user_agent: "aws-cli/2.x".to_owned(),
        tls: None,
    }
}

fn over_tls() -> Origin {
    let (version, cipher_suite, host) = ("TLSv1.3", "TLS_AES_128_GCM_SHA256", "a.example:8443".to_owned());
    Origin { tls: Some(TlsDetails { version, cipher_suite, host }), ..origin() }
}

fn region() -> Region {
    "xx-test-1".parse().unwrap()
}

fn caller(kind: UserKind) -> Caller {
    let user = User {
        kind,
        id: "AIDAEXAMPLEEXAMPLE01".parse().unwrap(),
        account: "111122223333".parse().unwrap(),
        name: "alice".parse().unwrap(),
        status: Status::Active,
        tags: BTreeMap::new(),
        policies: Vec::new(),
        boundary: None,
    };
    Caller { user: Arc::new(user), access_key: "AKIAEXAMPLEEXAMPLE01".parse().unwrap() }
}

fn statement() -> StatementRef {
    StatementRef { kind: PolicyKind::IdentityBased, policy: "ops".into(), statement: "Push".into() }
}

fn audited(origin: &Origin) -> AuditedRequest {
    AuditedRequest::new(origin, &caller(UserKind::IamUser), Operation::SendSshPublicKey, &region())
}

fn parameters(key: &str) -> SendSshPublicKey {
    let body =
        json!({ "InstanceId": "i-0123456789abcdef0", "InstanceOSUser": "ec2-user", "SSHPublicKey": key });
    SendSshPublicKey::parse(body.to_string().as_bytes(), &KeyTypes::default()).unwrap()
}

/// A push that is allowed by [`statement`].
fn push(origin: &Origin, key: &str) -> AuditedRequest {
    let mut audited = audited(origin);
    audited.parameters(&parameters(key));
    audited.decided_by(Some(&statement()));
    audited
}

fn text(line: &Line) -> &str {
    std::str::from_utf8(line.as_bytes()).unwrap()
}

fn value(line: &Line) -> Value {
    serde_json::from_slice(line.as_bytes()).unwrap()
}

/// wire.md 8.1: the members, their order and their spelling.
#[test]
fn a_push_as_cloudtrail_prints_it() {
    let audited = push(&origin(), &format!("{KEY} alice\n"));
    assert_eq!(
        text(&audited.record(Outcome::Success { os_user_exists: Some(true) }, EVENT)),
        concat!(
            r#"{"eventVersion":"1.08","userIdentity":{"type":"IAMUser","principalId":"AIDAEXAMPLEEXAMPLE01","#,
            r#""arn":"arn:aws:iam::111122223333:user/alice","accountId":"111122223333","#,
            r#""accessKeyId":"AKIAEXAMPLEEXAMPLE01","userName":"alice"},"eventTime":"2031-02-11T02:05:06Z","#,
            r#""eventSource":"ec2-instance-connect.amazonaws.com","eventName":"SendSSHPublicKey","#,
            r#""awsRegion":"xx-test-1","sourceIPAddress":"198.51.100.7","userAgent":"aws-cli/2.x","#,
            r#""requestParameters":{"instanceId":"i-0123456789abcdef0","instanceOSUser":"ec2-user","#,
            r#""sSHPublicKey":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp alice\n"},"#,
            r#""responseElements":{"requestId":"0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11","success":true},"#,
            r#""additionalEventData":{"osUserExists":true,"decidedBy":{"policy":"ops","statement":"Push"}},"#,
            r#""requestID":"0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11","eventID":"7c0c2f0e-8a51-4a0b-8c39-0f4b7f1d2e33","#,
            r#""readOnly":false,"eventType":"AwsApiCall","managementEvent":true,"#,
            r#""recipientAccountId":"111122223333","eventCategory":"Management"}"#,
            "\n"
        )
    );
}

/// wire.md 8.1: the last member.
#[test]
fn tls_is_on_record() {
    let line = push(&over_tls(), KEY).record(Outcome::Success { os_user_exists: Some(true) }, EVENT);
    let expected = concat!(
        r#""eventCategory":"Management","tlsDetails":{"tlsVersion":"TLSv1.3","#,
        r#""cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"a.example:8443"}}"#,
        "\n"
    );
    assert!(text(&line).ends_with(expected), "{}", text(&line));
}

#[test]
fn an_intent_is_the_record_without_an_outcome() {
    let audited = push(&over_tls(), KEY);
    let mut expected = value(&audited.record(Outcome::Success { os_user_exists: Some(true) }, EVENT));
    expected.as_object_mut().unwrap().remove("eventID");
    expected["additionalEventData"].as_object_mut().unwrap().remove("osUserExists");
    expected["responseElements"] = Value::Null;
    expected["eventType"] = "InstanceConnectIntent".into();
    assert_eq!(value(&audited.intent()), expected);
}

/// wire.md 8.4.
#[test]
fn errors_have_a_code_and_a_message_before_the_parameters() {
    let mut audited = audited(&origin());
    let failed = |audited: &AuditedRequest, error: ApiError| audited.record(Outcome::Failure(&error), EVENT);
    // What could not be read is null, and AWS sends no message with it.
    let line = failed(&audited, ApiError::Serialization);
    let expected = concat!(
        r#""userAgent":"aws-cli/2.x","errorCode":"SerializationException","requestParameters":null,"#,
        r#""responseElements":null,"requestID":"#
    );
    assert!(text(&line).contains(expected), "{}", text(&line));
    audited.parameters(&parameters(KEY));
    audited.decided_by(Some(&statement()));
    let line = failed(&audited, ApiError::Suspended);
    let expected = concat!(
        r#""errorCode":"AuthException","errorMessage":"The account or the user of these credentials is suspended.","#,
        r#""requestParameters":{"instanceId":"#
    );
    assert!(text(&line).contains(expected), "{}", text(&line));
    assert!(text(&line).contains(
        r#""responseElements":null,"additionalEventData":{"decidedBy":{"policy":"ops","statement":"Push"}},"requestID":"#
    ));
}

/// Whatever the caller is told: several reasons are one error on the wire, and two errors have several reasons.
#[test]
fn a_record_says_what_became_of_the_key() {
    let audited = push(&origin(), KEY);
    let recorded = |error: ApiError| {
        let mut record = value(&audited.record(Outcome::Failure(&error), EVENT));
        let mut additional = record["additionalEventData"].take();
        assert_eq!(additional.as_object_mut().unwrap().remove("decidedBy").unwrap()["policy"], "ops");
        additional
    };
    for &refusal in Refusal::ALL {
        let expected = json!({ "delivery": "refused", "reason": refusal.name() });
        assert_eq!(recorded(ApiError::Refused(refusal)), expected);
    }
    assert_eq!(recorded(ApiError::InstanceUnavailable), json!({ "delivery": "unknown" }));
    // Nothing has left for the machine.
    for error in [ApiError::Busy, ApiError::Service] {
        assert_eq!(recorded(error), json!({}));
    }
}

/// The answer of a denial names no statement; its record does.
#[test]
fn a_denial_names_its_statement() {
    let mut audited = audited(&origin());
    audited.parameters(&parameters(KEY));
    let decided_by = |denial| {
        let (caller, resource) = ("arn".into(), "arn".into());
        let denied = AccessDenied { caller, action: Action::SendSshPublicKey, resource, denial };
        let error = ApiError::AccessDenied(Box::new(denied));
        let record = value(&audited.record(Outcome::Failure(&error), EVENT));
        assert!(!record["errorMessage"].as_str().unwrap().contains("Push"));
        record["additionalEventData"]["decidedBy"].clone()
    };
    let named = json!({ "policy": "ops", "statement": "Push" });
    assert_eq!(decided_by(Denial::Explicit(statement())), named);
    assert_eq!(decided_by(Denial::Implicit(PolicyKind::IdentityBased)), Value::Null);
}

/// EC2's records say whose fault an error was; wire.md 8.4.
#[test]
fn whose_fault_an_error_was() {
    let of = |operation| {
        let operation = Operation::Query(operation);
        AuditedRequest::new(&origin(), &caller(UserKind::IamUser), operation, &region())
    };
    let (ec2, sts) = (of(query::Operation::StopInstances), of(query::Operation::GetCallerIdentity));
    for (audited, error, expected) in [
        (&ec2, ApiError::Throttling, "Client.RequestLimitExceeded"),
        (&ec2, ApiError::SignatureUsed, "Client.RequestLimitExceeded"),
        (&ec2, ApiError::Suspended, "Client.AuthFailure"),
        (&ec2, ApiError::Service, "Server.InternalError"),
        (&sts, ApiError::Throttling, "Throttling"),
        (&sts, ApiError::Service, "InternalFailure"),
    ] {
        let record = value(&audited.record(Outcome::Failure(&error), EVENT));
        assert_eq!(record["errorCode"], expected, "{error:?}");
    }
}

#[test]
fn the_root_of_an_account() {
    let (origin, operation) = (origin(), Operation::SendSshPublicKey);
    let audited = AuditedRequest::new(&origin, &caller(UserKind::Root), operation, &region());
    let expected = concat!(
        r#""userIdentity":{"type":"Root","principalId":"111122223333","arn":"arn:aws:iam::111122223333:root","#,
        r#""accountId":"111122223333","accessKeyId":"AKIAEXAMPLEEXAMPLE01"},"eventTime":"#
    );
    assert!(text(&audited.intent()).contains(expected), "{}", text(&audited.intent()));
}

#[test]
fn parameters_that_not_every_request_has() {
    let body = json!({
        "InstanceId": "i-0123456789abcdef0",
        "InstanceOSUser": "ec2-user",
        "SSHPublicKey": KEY,
        "AvailabilityZone": "xx-test-1a",
    });
    let mut audited = audited(&origin());
    audited.parameters(&SendSshPublicKey::parse(body.to_string().as_bytes(), &KeyTypes::default()).unwrap());
    assert!(
        text(&audited.intent()).contains(r#"WlQQp","availabilityZone":"xx-test-1a"},"responseElements":"#)
    );
    // wire.md 8.2.
    let serial =
        SendSerialConsoleSshPublicKey::parse(body.to_string().as_bytes(), &KeyTypes::default()).unwrap();
    audited.parameters(&serial);
    let expected = format!(
        r#""requestParameters":{{"instanceId":"i-0123456789abcdef0","monitorMode":false,"serialPort":0,"sSHPublicKey":"{KEY}"}},"#
    );
    assert!(text(&audited.intent()).contains(&expected), "{}", text(&audited.intent()));
}

/// A line that nobody reads back whole would hide what was done.
#[test]
fn parameters_that_are_too_long_are_left_out_and_the_line_says_so() {
    let mut audited = audited(&over_tls());
    let longest = usize::try_from(limits::AUDIT_LINE).unwrap();
    for (bytes, omitted) in [(longest / 2, false), (longest, true), (10 * longest, true)] {
        audited.administered(&json!({ "policyDocument": "x".repeat(bytes) }));
        for line in [
            audited.intent(),
            audited.record(Outcome::Administered { response_elements: None }, EVENT),
            audited.record(Outcome::Failure(&ApiError::Service), EVENT),
        ] {
            assert!(line.as_bytes().len() <= longest);
            let parameters = &value(&line)["requestParameters"];
            assert_eq!(*parameters == json!({ "omitted": true }), omitted);
            assert!(Event::read(line.as_bytes()).is_some() || line == audited.intent());
        }
    }
}

#[test]
fn our_own_events() {
    let identity = AgentUrn {
        region: region(),
        account: "111122223333".parse().unwrap(),
        instance: "i-0123456789abcdef0".parse().unwrap(),
        generation: 2,
    };
    assert_eq!(
        text(&enrolment(&origin(), &identity, EVENT)),
        concat!(
            r#"{"eventVersion":"1.08","userIdentity":{"type":"InstanceConnectAgent","#,
            r#""principalId":"urn:instance-connect:xx-test-1:111122223333:agent:i-0123456789abcdef0:2","#,
            r#""accountId":"111122223333"},"eventTime":"2031-02-11T02:05:06Z","eventSource":"instance-connect","#,
            r#""eventName":"EnrollAgent","awsRegion":"xx-test-1","sourceIPAddress":"198.51.100.7","#,
            r#""userAgent":"aws-cli/2.x","requestParameters":{"instanceId":"i-0123456789abcdef0"},"#,
            r#""responseElements":{"generation":2},"requestID":"0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11","#,
            r#""eventID":"7c0c2f0e-8a51-4a0b-8c39-0f4b7f1d2e33","readOnly":false,"#,
            r#""eventType":"InstanceConnectEvent","managementEvent":true,"recipientAccountId":"111122223333","#,
            r#""eventCategory":"Management"}"#,
            "\n"
        )
    );
    let facts = HostFacts {
        hostname: "web-1".parse().unwrap(),
        architecture: "aarch64".parse().unwrap(),
        addresses: vec!["10.0.1.9".parse().unwrap(), "2001:db8::9".parse().unwrap()],
        ..HostFacts::default()
    };
    assert_eq!(
        text(&host_facts_report(&identity, &facts, origin().time, EVENT)),
        concat!(
            r#"{"eventVersion":"1.08","userIdentity":{"type":"InstanceConnectAgent","#,
            r#""principalId":"urn:instance-connect:xx-test-1:111122223333:agent:i-0123456789abcdef0:2","#,
            r#""accountId":"111122223333"},"eventTime":"2031-02-11T02:05:06Z","eventSource":"instance-connect","#,
            r#""eventName":"ReportHostFacts","awsRegion":"xx-test-1","requestParameters":{"#,
            r#""instanceId":"i-0123456789abcdef0","hostname":"web-1","architecture":"aarch64","addresses":["10.0.1.9","2001:db8::9"]},"#,
            r#""responseElements":null,"eventID":"7c0c2f0e-8a51-4a0b-8c39-0f4b7f1d2e33","#,
            r#""readOnly":false,"eventType":"InstanceConnectEvent","managementEvent":true,"#,
            r#""recipientAccountId":"111122223333","eventCategory":"Management"}"#,
            "\n"
        )
    );
    let report =
        |report| text(&host_key_report(&identity, &claimed([KEY]), &report, origin().time, EVENT)).to_owned();
    let pending = report(HostKeyReport::Pending);
    assert_eq!(
        pending,
        concat!(
            r#"{"eventVersion":"1.08","userIdentity":{"type":"InstanceConnectAgent","#,
            r#""principalId":"urn:instance-connect:xx-test-1:111122223333:agent:i-0123456789abcdef0:2","#,
            r#""accountId":"111122223333"},"eventTime":"2031-02-11T02:05:06Z","eventSource":"instance-connect","#,
            r#""eventName":"ReportHostKeys","awsRegion":"xx-test-1","requestParameters":{"#,
            r#""instanceId":"i-0123456789abcdef0","#,
            r#""fingerprints":["SHA256:1R1Viorm1ChvoCn5avvFgttkvawG5ZRe2NizKjkQAGI"]},"#,
            r#""responseElements":{"pinned":false},"eventID":"7c0c2f0e-8a51-4a0b-8c39-0f4b7f1d2e33","#,
            r#""readOnly":false,"eventType":"InstanceConnectEvent","managementEvent":true,"#,
            r#""recipientAccountId":"111122223333","eventCategory":"Management"}"#,
            "\n"
        )
    );
    assert_eq!(report(HostKeyReport::Pinned), pending.replace("false},\"eventID", "true},\"eventID"));
    let in_use = report(HostKeyReport::InUse("i-0fedcba9876543210".parse().unwrap()));
    assert!(
        in_use.contains(r#""errorCode":"HostKeyInUse","errorMessage":"a host key of i-0fedcba9876543210","#)
    );
    assert!(in_use.contains(r#""responseElements":null,"#));
    assert_eq!(
        text(&renewal(&identity, 1, origin().source, origin().time, EVENT)),
        concat!(
            r#"{"eventVersion":"1.08","userIdentity":{"type":"InstanceConnectAgent","#,
            r#""principalId":"urn:instance-connect:xx-test-1:111122223333:agent:i-0123456789abcdef0:1","#,
            r#""accountId":"111122223333"},"eventTime":"2031-02-11T02:05:06Z","eventSource":"instance-connect","#,
            r#""eventName":"RenewAgent","awsRegion":"xx-test-1","sourceIPAddress":"198.51.100.7","#,
            r#""requestParameters":{"instanceId":"i-0123456789abcdef0","generation":1},"#,
            r#""responseElements":{"generation":2},"eventID":"7c0c2f0e-8a51-4a0b-8c39-0f4b7f1d2e33","#,
            r#""readOnly":false,"eventType":"InstanceConnectEvent","managementEvent":true,"#,
            r#""recipientAccountId":"111122223333","eventCategory":"Management"}"#,
            "\n"
        )
    );
    let claim = |boot: char, source: &str, generation| LinkClaim {
        boot_id: format!("{boot}b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11").parse().unwrap(),
        source: source.parse().unwrap(),
        generation,
    };
    let (shown_by, open) = (claim('0', "198.51.100.7", 1), claim('1', "2001:db8::7", 2));
    let suspended = suspension(
        CloneEvidence::StaleCertificate,
        &AgentUrn { generation: shown_by.generation, ..identity.clone() },
        (ShownBy { boot_id: Some(&shown_by.boot_id), source: shown_by.source }, Some(&open)),
        origin().time,
        EVENT,
    );
    assert_eq!(
        text(&suspended),
        concat!(
            r#"{"eventVersion":"1.08","userIdentity":{"type":"InstanceConnect"},"#,
            r#""eventTime":"2031-02-11T02:05:06Z","eventSource":"instance-connect","#,
            r#""eventName":"SuspendAgent","awsRegion":"xx-test-1","sourceIPAddress":"198.51.100.7","#,
            r#""requestParameters":{"instanceId":"i-0123456789abcdef0","reason":"stale_certificate","links":["#,
            r#"{"bootId":"0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11","sourceIPAddress":"198.51.100.7","generation":1},"#,
            r#"{"bootId":"1b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11","sourceIPAddress":"2001:db8::7","generation":2}]},"#,
            r#""responseElements":null,"eventID":"7c0c2f0e-8a51-4a0b-8c39-0f4b7f1d2e33","#,
            r#""readOnly":false,"eventType":"InstanceConnectEvent","managementEvent":true,"#,
            r#""recipientAccountId":"111122223333","eventCategory":"Management"}"#,
            "\n"
        )
    );
    let request: RequestId = REQUEST.parse().unwrap();
    let key_use = KeyUse {
        event: UseEvent::Opened,
        at: BootInstant(1),
        lost: 2,
        session: SessionId { process: 4711, started: 9 },
        fingerprint: Fingerprint::from_bytes([7; 32]),
        os_user: "alice".parse().unwrap(),
        from: "192.0.2.7".parse().unwrap(),
        request_ids: vec![EVENT.parse().unwrap(), request.clone()],
    };
    assert_eq!(
        text(&proof(
            Proof::KeyUse(&key_use),
            3,
            (&identity, &identity.instance),
            origin().time,
            &region(),
            EVENT
        )),
        concat!(
            r#"{"eventVersion":"1.08","userIdentity":{"type":"InstanceConnectAgent","#,
            r#""principalId":"urn:instance-connect:xx-test-1:111122223333:agent:i-0123456789abcdef0:2","#,
            r#""accountId":"111122223333"},"eventTime":"2031-02-11T02:05:06Z","eventSource":"instance-connect","#,
            r#""eventName":"SessionOpened","awsRegion":"xx-test-1","#,
            r#""requestParameters":{"instanceId":"i-0123456789abcdef0","instanceOSUser":"alice","#,
            r#""fingerprint":"SHA256:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"},"#,
            r#""responseElements":null,"additionalEventData":{"#,
            r#""requestIDs":["7c0c2f0e-8a51-4a0b-8c39-0f4b7f1d2e33","0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11"],"#,
            r#""sessionID":"4711-9","remoteHost":"192.0.2.7","reportsLost":2,"reportsNotRecorded":3},"#,
            r#""requestID":"0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11","#,
            r#""eventID":"7c0c2f0e-8a51-4a0b-8c39-0f4b7f1d2e33","readOnly":false,"#,
            r#""eventType":"InstanceConnectEvent","managementEvent":true,"recipientAccountId":"111122223333","#,
            r#""eventCategory":"Management"}"#,
            "\n"
        )
    );
    // A claim about a push that has not been recorded yet does not stand for its record.
    let mut open = OpenIntents::default();
    open.read(push(&origin(), KEY).intent().as_bytes()).unwrap();
    let key_use = KeyUse { request_ids: vec![request], ..key_use };
    open.read(
        proof(Proof::KeyUse(&key_use), 0, (&identity, &identity.instance), origin().time, &region(), EVENT)
            .as_bytes(),
    )
    .unwrap();
    assert_eq!(open.close(|| EVENT.to_owned()).unwrap().len(), 1);
    let mut sampler = Sampler::default();
    sampler.pick(Share::Strangers, origin().source, "SerializationException");
    sampler.pick(Share::Strangers, origin().source, "InvalidSignatureException");
    sampler.lose();
    let counts = sampler.end_minute().unwrap();
    assert_eq!(
        text(&refusal_counts(&counts, origin().time, &region(), EVENT)),
        concat!(
            r#"{"eventVersion":"1.08","userIdentity":{"type":"InstanceConnect"},"eventTime":"2031-02-11T02:05:06Z","#,
            r#""eventSource":"instance-connect","eventName":"CountRefusals","awsRegion":"xx-test-1","#,
            r#""requestParameters":null,"responseElements":null,"additionalEventData":{"refusals":{"#,
            r#""byErrorCode":{"InvalidSignatureException":1,"SerializationException":1},"notRecorded":1}},"#,
            r#""eventID":"7c0c2f0e-8a51-4a0b-8c39-0f4b7f1d2e33","readOnly":false,"#,
            r#""eventType":"InstanceConnectEvent","managementEvent":true,"eventCategory":"Management"}"#,
            "\n"
        )
    );
}

#[test]
fn a_refused_request_shows_a_claimed_key_only_if_it_can_be_one() {
    let refusal = |claimed: Option<&str>| {
        let claimed = claimed.map(|text| text.parse().unwrap());
        refusal(
            Refused::ApiRequest,
            &origin(),
            &region(),
            "InvalidSignatureException",
            claimed.as_ref(),
            EVENT,
        )
    };
    assert_eq!(
        text(&refusal(Some("AKIAEXAMPLEEXAMPLE01"))),
        concat!(
            r#"{"eventVersion":"1.08","userIdentity":{"type":"Unknown","accessKeyId":"AKIAEXAMPLEEXAMPLE01"},"#,
            r#""eventTime":"2031-02-11T02:05:06Z","eventSource":"instance-connect","eventName":"RefuseRequest","#,
            r#""awsRegion":"xx-test-1","sourceIPAddress":"198.51.100.7","userAgent":"aws-cli/2.x","#,
            r#""errorCode":"InvalidSignatureException","requestParameters":null,"responseElements":null,"#,
            r#""requestID":"0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11","eventID":"7c0c2f0e-8a51-4a0b-8c39-0f4b7f1d2e33","#,
            r#""readOnly":false,"eventType":"InstanceConnectEvent","managementEvent":true,"eventCategory":"Management"}"#,
            "\n"
        )
    );
    // Somebody has configured the two the wrong way round: the secret is what the request claims as its id.
    let secret = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEYab";
    assert_eq!(value(&refusal(Some(secret)))["userIdentity"], json!({ "type": "Unknown" }));
    assert_eq!(value(&refusal(None))["userIdentity"], json!({ "type": "Unknown" }));
    let long = Origin { user_agent: "x".repeat(1024 * 1024), ..origin() };
    let line = super::refusal(Refused::Enrolment, &long, &region(), "token_unknown", None, EVENT);
    assert_eq!(value(&line)["eventName"], "EnrollAgent");
    assert_eq!(value(&line)["userAgent"], "x".repeat(limits::REFUSED_USER_AGENT));
}

/// Whatever is sent, it stays within its member of its line, and is all there, but for parameters without which a line is
/// short enough to be read back.
fn check_contained(hostile: &str) {
    let origin = Origin { user_agent: hostile.to_owned(), ..origin() };
    let mut audited = audited(&origin);
    audited.parameters(&SendSshPublicKey { key_text: hostile.to_owned(), ..parameters(KEY) });
    let (policy, statement) = (hostile.to_owned(), hostile.to_owned());
    audited.decided_by(Some(&StatementRef { kind: PolicyKind::IdentityBased, policy, statement }));
    let error = ApiError::InvalidArgs(hostile.to_owned());
    let outcomes = [Outcome::Success { os_user_exists: Some(true) }, Outcome::Failure(&error)];
    let lines = outcomes.map(|outcome| audited.record(outcome, EVENT));
    for line in lines.iter().chain([&audited.intent()]) {
        let (end, json) = line.as_bytes().split_last().unwrap();
        assert_eq!(*end, b'\n');
        assert!(json.iter().all(|byte| matches!(byte, b' '..=b'~')), "{}", text(line));
        let record = value(line);
        let parameters = &record["requestParameters"];
        let are_omitted = *parameters == json!({ "omitted": true });
        assert_eq!(are_omitted, hostile.len() > 20_000);
        let repeated: Vec<&Value> = [
            &record["userAgent"],
            &record["additionalEventData"]["decidedBy"]["policy"],
            &record["additionalEventData"]["decidedBy"]["statement"],
        ]
        .into_iter()
        .chain(record.get("errorMessage"))
        .chain((!are_omitted).then(|| &parameters["sSHPublicKey"]))
        .collect();
        assert!(repeated.iter().all(|member| **member == hostile), "{}", text(line));
        assert_eq!(record["userIdentity"]["userName"], "alice");
    }
    let mut open = OpenIntents::default();
    open.read(audited.intent().as_bytes()).unwrap();
    let [interrupted] = open.close(|| EVENT.to_owned()).unwrap().try_into().unwrap();
    let mut expected = value(&audited.intent());
    expected["eventType"] = "InstanceConnectInterrupted".into();
    expected["eventID"] = EVENT.into();
    expected["errorCode"] = "Interrupted".into();
    expected["errorMessage"] = value(&interrupted)["errorMessage"].clone();
    expected["additionalEventData"]["delivery"] = "unknown".into();
    assert_eq!(value(&interrupted), expected);
}

#[test]
fn no_text_begins_a_line_or_speaks_to_a_terminal() {
    for hostile in [
        "",
        "\n{\"eventName\":\"forged\"}\n",
        "\r\n",
        "\"}\n{\"",
        r#"\"},"requestParameters":{"x":"\u000a"#,
        r#"","requestParameters":"#,
        r#"","responseElements":null,"eventType":"AwsApiCall"#,
        "\\",
        "\u{0}nul",
        "\u{1b}[2J\u{1b}]0;title\u{7}",
        "\u{9b}2J\u{85}",
        "\u{2028}\u{2029}",
        "\u{202e}gnp.exe\u{feff}",
        "\u{7f}\u{8}\u{8}\u{8}",
        "\u{fc}\u{20ac}\u{1f600}\u{10ffff}",
        "\u{fffd}",
        &"\"\u{1b}\n".repeat(4096),
        // Too long a line.
        &"\"\u{1b}\n".repeat(30_000),
        &"\u{1f600}".repeat(4096),
    ] {
        check_contained(hostile);
    }
}

/// A private key that is sent by mistake is refused, and nothing of it gets into the record of that.
#[test]
fn no_private_key_gets_into_a_record() {
    for private in [
        format!(
            "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n",
            "secret".repeat(50)
        ),
        format!("-----BEGIN OPENSSH PRIVATE KEY----- {}", "secret".repeat(50)),
        format!("PuTTY-User-Key-File-3: ssh-rsa\nPrivate-Lines: 14\n{}", "secret".repeat(50)),
        format!("{KEY}\n-----BEGIN OPENSSH PRIVATE KEY-----\n{}", "secret".repeat(50)),
    ] {
        let members = json!({ "InstanceId": "i-0", "InstanceOSUser": "ec2-user", "SSHPublicKey": private });
        for id in ["i-0", "i-0123456789abcdef0"] {
            let mut members = members.clone();
            members["InstanceId"] = id.into();
            let error =
                SendSshPublicKey::parse(members.to_string().as_bytes(), &KeyTypes::default()).unwrap_err();
            let line = audited(&origin()).record(Outcome::Failure(&error), EVENT);
            assert_eq!(value(&line)["requestParameters"], Value::Null);
            assert!(!text(&line).contains("secret"), "{}", text(&line));
        }
    }
}

#[test]
fn an_intent_without_a_record_is_closed_as_interrupted() {
    let audited = push(&over_tls(), KEY);
    let mut open = OpenIntents::default();
    open.read(audited.intent().as_bytes()).unwrap();
    let [line] = open.close(|| EVENT.to_owned()).unwrap().try_into().unwrap();
    let expected = text(&audited.intent())
        .replace(
            r#","requestParameters""#,
            concat!(
                r#","errorCode":"Interrupted","#,
                r#""errorMessage":"The service ended before it knew whether the key was delivered.","requestParameters""#
            ),
        )
        .replace(r#""additionalEventData":{"#, r#""additionalEventData":{"delivery":"unknown","#)
        .replace(r#","readOnly""#, &format!(r#","eventID":"{EVENT}","readOnly""#))
        .replace("InstanceConnectIntent", "InstanceConnectInterrupted");
    assert_eq!(text(&line), expected);
    // It closes the intent for whoever starts next.
    let mut open = OpenIntents::default();
    open.read(audited.intent().as_bytes()).unwrap();
    open.read(line.as_bytes()).unwrap();
    assert_eq!(open.close(|| EVENT.to_owned()), Ok(Vec::new()));
}

/// Only a push leaves the question behind what became of its key.
#[test]
fn what_was_interrupted_is_told_by_where_it_belongs() {
    for (operation, source, is_push) in [
        (Operation::SendSshPublicKey, "ec2-instance-connect.amazonaws.com", true),
        (Operation::SendSerialConsoleSshPublicKey, "ec2-instance-connect.amazonaws.com", true),
        (Operation::Query(query::Operation::StopInstances), "ec2.amazonaws.com", false),
        (Operation::Query(query::Operation::GetCallerIdentity), "sts.amazonaws.com", false),
        (Operation::Administer(administration::Operation::CreateUser), "instance-connect", false),
    ] {
        let audited = AuditedRequest::new(&origin(), &caller(UserKind::IamUser), operation, &region());
        let mut open = OpenIntents::default();
        open.read(audited.intent().as_bytes()).unwrap();
        let [line] = open.close(|| EVENT.to_owned()).unwrap().try_into().unwrap();
        let record = value(&line);
        assert_eq!(record["eventSource"], source);
        let delivery = if is_push { "unknown".into() } else { Value::Null };
        assert_eq!(record["additionalEventData"]["delivery"], delivery, "{operation:?}");
        let message = record["errorMessage"].as_str().unwrap();
        assert_eq!(message.contains("the key was delivered"), is_push, "{operation:?}");
    }
}

#[test]
fn intents_that_no_version_writes_are_not_passed_over() {
    let mut open = OpenIntents::default();
    open.read(br#"{"requestID":"x","eventType":"InstanceConnectIntent"}"#).unwrap();
    assert_eq!(open.close(|| EVENT.to_owned()), Err(OpenIntentsError::Malformed));
    let mut open = OpenIntents::default();
    let intent = |n: usize| format!(r#"{{"requestID":"{n}","eventType":"InstanceConnectIntent"}}"#);
    for n in 0..limits::OPEN_INTENTS {
        open.read(intent(n).as_bytes()).unwrap();
    }
    assert_eq!(open.read(intent(limits::OPEN_INTENTS).as_bytes()), Err(OpenIntentsError::TooMany));
}

fn request_id(number: usize) -> String {
    format!("0b7f1c52-6a0e-4c11-9d0b-{number:012x}")
}

fn closed(log: &[u8]) -> BTreeSet<String> {
    let mut open = OpenIntents::default();
    log.split_inclusive(|byte| *byte == b'\n').for_each(|line| open.read(line).unwrap());
    let lines = open.close(|| EVENT.to_owned()).unwrap();
    lines.iter().map(|line| value(line)["requestID"].as_str().unwrap().to_owned()).collect()
}

proptest! {
    #[test]
    fn any_text_is_contained(hostile: String) {
        check_contained(&hostile);
    }

    #[test]
    fn audit_line_reader_never_panics(lines: Vec<Vec<u8>>) {
        let mut open = OpenIntents::default();
        for line in lines {
            let _ = open.read(&line);
        }
        let _ = open.close(String::new);
    }

    /// Pushes in any order and at once, cut off at any byte: exactly the intents without a record are closed.
    #[test]
    fn exactly_the_open_intents_are_closed(steps in prop::collection::vec(0usize..4, 1..12), cut: prop::sample::Index) {
        let (mut lines, mut begun) = (Vec::new(), [None; 4]);
        for (number, slot) in steps.into_iter().enumerate() {
            let (id, is_record) = match begun[slot].take() {
                Some(number) => (request_id(number), true),
                None => {
                    begun[slot] = Some(number);
                    (request_id(number), false)
                }
            };
            let audited = push(&Origin { request: id.parse().unwrap(), ..origin() }, KEY);
            let line = if is_record { audited.record(Outcome::Failure(&ApiError::Service), EVENT) } else { audited.intent() };
            lines.push((id, is_record, line));
        }
        let log: Vec<u8> = lines.iter().flat_map(|(_, _, line)| line.as_bytes()).copied().collect();
        let cut = cut.index(log.len() + 1);
        let (mut expected, mut end) = (BTreeSet::new(), 0);
        for (id, is_record, line) in lines {
            end += line.as_bytes().len();
            // Without its line feed alone a line is whole.
            if end <= cut + 1 {
                if is_record { expected.remove(&id); } else { expected.insert(id); }
            }
        }
        prop_assert_eq!(closed(&log[..cut]), expected);
    }

    /// Whatever is refused, and from where: the records are few, and everything is counted.
    #[test]
    fn refusals_are_counted_and_few_are_recorded(
        refusals in prop::collection::vec(
            (prop::sample::select(SHARES), any::<u8>(), prop::sample::select(vec!["a", "b", "c"])), 0..500),
    ) {
        let mut sampler = Sampler::default();
        for _minute in 0..2 {
            let (mut by_share, mut by_source, mut by_code) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            for (share, source, code) in &refusals {
                let picked = u32::from(sampler.pick(*share, IpAddr::from([192, 0, 2, *source]), code));
                *by_share.entry(share).or_insert(0) += picked;
                *by_source.entry((share, source)).or_insert(0) += picked;
                *by_code.entry(*code).or_insert(0) += 1;
            }
            prop_assert!(by_share.values().all(|picked| *picked <= limits::REFUSALS_RECORDED));
            prop_assert!(by_source.values().all(|picked| *picked <= limits::REFUSALS_RECORDED_PER_SOURCE));
            let not_recorded = refusals.len() as u64 - by_share.into_values().map(u64::from).sum::<u64>();
            let counts = (!refusals.is_empty()).then_some(RefusalCounts { by_error_code: by_code, not_recorded });
            prop_assert_eq!(sampler.end_minute(), counts);
        }
        prop_assert_eq!(sampler.end_minute(), None);
    }
}

/// Whatever the others do, and from the same addresses.
#[test]
fn nobody_hides_what_others_are_refused() {
    for quiet in SHARES {
        let mut sampler = Sampler::default();
        for loud in SHARES.iter().filter(|share| *share != quiet) {
            for source in 0..=u8::MAX {
                sampler.pick(*loud, IpAddr::from([192, 0, 2, source]), "code");
            }
        }
        assert!(sampler.pick(*quiet, IpAddr::from([192, 0, 2, 0]), "code"), "{quiet:?}");
    }
}

#[test]
fn a_source_is_an_ipv4_address_or_a_64_of_ipv6() {
    let picked = |sources: &[String]| {
        let mut sampler = Sampler::default();
        let mut pick = |source: &String| sampler.pick(Share::Strangers, source.parse().unwrap(), "code");
        sources.iter().filter(|source| pick(source)).count()
    };
    let many = |source: fn(u32) -> String| picked(&(0..100).map(source).collect::<Vec<_>>());
    assert_eq!(many(|_| "192.0.2.1".into()), 5);
    assert_eq!(many(|n| format!("2001:db8::{n:x}")), 5);
    assert_eq!(many(|n| format!("192.0.2.{n}")), 30);
    assert_eq!(many(|n| format!("2001:db8:0:{n:x}::1")), 30);
}
