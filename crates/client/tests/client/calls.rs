//! What is sent, and what answers become.

use crate::server::{Reply, Server, client_of, credentials};
use instance_connect_client::{
    Client, Environment, Error, Event, SendSerialConsoleSshPublicKey, SendSshPublicKey, blocking,
};
use std::sync::{Arc, Mutex};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

fn push() -> SendSshPublicKey {
    SendSshPublicKey::new("i-0123456789abcdef0", "ec2-user", KEY)
}

#[tokio::test]
async fn a_push_as_it_goes_over_the_wire() {
    let server = Server::start(Reply::success()).await;
    let client = server.client_with(Client::builder().application("test/1"));
    let answer = client.send_ssh_public_key(&push().availability_zone("us-east-1a")).await.unwrap();
    assert_eq!((answer.request_id.as_deref(), answer.success), (Some("id-1"), true));

    let received = server.received.lock().unwrap();
    let [request] = received.as_slice() else { panic!("{received:?}") };
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/"));
    assert_eq!(
        request.body,
        format!(
            r#"{{"InstanceId": "i-0123456789abcdef0", "InstanceOSUser": "ec2-user", "SSHPublicKey": "{KEY}", "AvailabilityZone": "us-east-1a"}}"#
        )
    );
    let header = |name: &str| request.headers[name].to_str().unwrap();
    assert_eq!(header("host"), server.url.trim_start_matches("http://"));
    assert_eq!(header("content-type"), "application/x-amz-json-1.1");
    assert_eq!(header("content-length"), request.body.len().to_string());
    assert_eq!(header("x-amz-target"), "AWSEC2InstanceConnectService.SendSSHPublicKey");
    assert_eq!(header("x-amz-date"), "20260301T123456Z");
    assert_eq!(header("x-amz-security-token"), "TOKEN-EXAMPLE");
    assert_eq!(header("user-agent"), concat!("test/1 instance-connect-client/", env!("CARGO_PKG_VERSION")));
    let signed = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260301/us-east-1/ec2-instance-connect/aws4_request, \
                  SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature=";
    assert!(header("authorization").starts_with(signed), "{}", header("authorization"));
    assert_eq!(request.headers.len(), 8);
}

#[tokio::test]
async fn a_serial_console_push() {
    let server = Server::start(Reply::success()).await;
    let parameters = SendSerialConsoleSshPublicKey::new("i-0123456789abcdef0", KEY).serial_port(0);
    let answer = server.client().send_serial_console_ssh_public_key(&parameters).await.unwrap();
    assert!(answer.success);
    let received = server.received.lock().unwrap();
    let target = received[0].headers["x-amz-target"].to_str().unwrap();
    assert_eq!(target, "AWSEC2InstanceConnectService.SendSerialConsoleSSHPublicKey");
    let body =
        format!(r#"{{"InstanceId": "i-0123456789abcdef0", "SerialPort": 0, "SSHPublicKey": "{KEY}"}}"#);
    assert_eq!(received[0].body, body);
}

/// Every error of wire.md 1.6 and the authentication errors of 1.10, with whether another attempt may help.
#[tokio::test]
async fn every_error_has_its_variant() {
    type IsVariant = fn(&Error) -> bool;
    macro_rules! variant {
        ($name:ident) => {
            |error| matches!(error, Error::$name(_))
        };
    }
    let table: &[(&str, u16, bool, IsVariant)] = &[
        ("AuthException", 400, false, variant!(Auth)),
        ("EC2InstanceNotFoundException", 400, false, variant!(Ec2InstanceNotFound)),
        ("EC2InstanceStateInvalidException", 400, false, variant!(Ec2InstanceStateInvalid)),
        ("EC2InstanceTypeInvalidException", 400, false, variant!(Ec2InstanceTypeInvalid)),
        ("EC2InstanceUnavailableException", 400, false, variant!(Ec2InstanceUnavailable)),
        ("InvalidArgsException", 400, false, variant!(InvalidArgs)),
        ("SerialConsoleAccessDisabledException", 400, false, variant!(SerialConsoleAccessDisabled)),
        (
            "SerialConsoleSessionLimitExceededException",
            400,
            false,
            variant!(SerialConsoleSessionLimitExceeded),
        ),
        ("SerialConsoleSessionUnavailableException", 500, true, variant!(SerialConsoleSessionUnavailable)),
        ("SerialConsoleSessionUnsupportedException", 400, false, variant!(SerialConsoleSessionUnsupported)),
        ("ServiceException", 500, true, variant!(ServiceFailure)),
        ("ThrottlingException", 400, true, variant!(Throttling)),
        ("AccessDeniedException", 400, false, variant!(AccessDenied)),
        ("AccessDenied", 403, false, variant!(AccessDenied)),
        ("UnrecognizedClientException", 400, false, variant!(UnrecognizedClient)),
        ("InvalidClientTokenId", 403, false, variant!(UnrecognizedClient)),
        ("ExpiredTokenException", 400, false, variant!(ExpiredToken)),
        ("InvalidSignatureException", 400, false, variant!(InvalidSignature)),
        ("SignatureDoesNotMatch", 403, false, variant!(InvalidSignature)),
        ("MissingAuthenticationTokenException", 403, false, variant!(InvalidSignature)),
        ("IncompleteSignatureException", 400, false, variant!(InvalidSignature)),
        ("RequestTimeTooSkewed", 403, false, variant!(ClockSkew)),
        ("RequestExpired", 400, false, variant!(ClockSkew)),
        ("UnknownOperationException", 400, false, variant!(UnknownOperation)),
        ("SlowDown", 503, true, variant!(Throttling)),
        ("SomethingNewException", 400, false, variant!(Service)),
        ("InternalFailure", 500, true, variant!(Service)),
    ];
    for (code, status, retryable, is_variant) in table {
        let body = format!(r#"{{"__type":"{code}","Message":"what happened"}}"#);
        let server = Server::start(Reply::json(*status, &body)).await;
        let client = server.client_with(Client::builder().max_attempts(1));
        let error = client.send_ssh_public_key(&push()).await.unwrap_err();
        assert!(is_variant(&error), "{code}: {error:?}");
        let fault = error.fault().unwrap();
        assert_eq!(
            (fault.code.as_str(), fault.message.as_str(), fault.status),
            (*code, "what happened", *status)
        );
        assert_eq!(error.request_id(), Some("id-1"));
        assert_eq!(error.to_string(), format!("{code}: what happened"));
        assert_eq!(error.is_retryable(), *retryable, "{code}");
    }
}

#[tokio::test]
async fn the_code_may_stand_in_a_header() {
    let mut reply = Reply::json(400, r#"{"message":"no"}"#);
    reply.headers.push(("X-Amzn-ErrorType", "com.amazon.coral.service#AccessDeniedException:http://x/"));
    let server = Server::start(reply).await;
    let error = server.client().send_ssh_public_key(&push()).await.unwrap_err();
    assert!(matches!(&error, Error::AccessDenied(fault) if fault.message == "no"), "{error:?}");
}

#[tokio::test]
async fn an_observer_sees_the_call_and_no_secret() {
    let server = Server::start(Reply::success()).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let config =
        Client::builder().observer(move |event: &Event<'_>| log.lock().unwrap().push(format!("{event:?}")));
    let client = server.client_with(config);
    client.send_ssh_public_key(&push()).await.unwrap();
    let seen = seen.lock().unwrap();
    let [sending, connected, answered] = seen.as_slice() else { panic!("{seen:?}") };
    assert!(sending.contains(KEY) && sending.contains(r#"("authorization", "(hidden)")"#), "{sending}");
    assert!(connected.starts_with("Connected { peer: 127.0.0.1:"), "{connected}");
    assert!(answered.starts_with("Answered { status: 200, request_id: Some(\"id-1\")"), "{answered}");
    let everything = format!("{seen:?} {client:?}");
    for secret in ["Signature=", "TOKEN-EXAMPLE", "wJalr"] {
        assert!(!everything.contains(secret), "{everything}");
    }
}

#[test]
fn blocking_calls() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(Server::start(Reply::success()));
    let config = Client::builder().region("us-east-1").endpoint_url(&server.url).credentials(credentials());
    let client = blocking::Client::new(config.resolve(&Environment::default()).unwrap()).unwrap();
    for _ in 0..3 {
        assert!(client.send_ssh_public_key(&push()).unwrap().success);
    }
    let serial = SendSerialConsoleSshPublicKey::new("i-0123456789abcdef0", KEY);
    assert!(client.send_serial_console_ssh_public_key(&serial).unwrap().success);
    assert_eq!(server.connections(), 1);

    let _inside = runtime.enter();
    let error = client.send_ssh_public_key(&push()).unwrap_err();
    assert!(matches!(error, Error::Configuration(_)), "{error:?}");
}

#[tokio::test]
async fn values_no_header_can_carry() {
    let mut credentials = credentials();
    credentials.access_key_id = "AKID\nX-Injected: yes".to_owned();
    let config =
        Client::builder().region("us-east-1").endpoint_url("http://127.0.0.1:9").credentials(credentials);
    let client = Client::new(config.resolve(&Environment::default()).unwrap()).unwrap();
    let error = client.send_ssh_public_key(&push()).await.unwrap_err();
    assert!(matches!(error, Error::Credentials(_)), "{error:?}");

    let client = client_of("http://127.0.0.1:9", Client::builder().application("a\r\nb"));
    let error = client.send_ssh_public_key(&push()).await.unwrap_err();
    assert!(matches!(error, Error::Configuration(_)), "{error:?}");
}

/// EC2's API at the endpoint of the pushes: the connection is the same, the signatures are each for their own service.
#[cfg(feature = "ec2")]
#[tokio::test]
async fn services_with_one_endpoint_share_its_connections() {
    let page = "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>";
    let server = Server::deciding(|request| match request.headers.get("x-amz-target") {
        Some(_) => Reply::success(),
        None => Reply { status: 200, headers: Vec::new(), body: page.to_owned() },
    })
    .await;
    let client = server.client();
    let nothing =
        client.describe_instances(&instance_connect_client::DescribeInstances::new()).await.unwrap();
    assert!(nothing.instances.is_empty());
    client.send_ssh_public_key(&push()).await.unwrap();
    assert_eq!(server.connections(), 1);
    let received = server.received.lock().unwrap();
    let scopes = received.iter().map(|request| request.headers["authorization"].to_str().unwrap());
    let services: Vec<&str> = scopes.map(|scope| scope.split('/').nth(3).unwrap()).collect();
    assert_eq!(services, ["ec2", "ec2-instance-connect"]);
}
