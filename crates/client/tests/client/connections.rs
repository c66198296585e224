//! Connections: kept, broken, slow, too talkative, encrypted.

use crate::server::{Act, Reply, Server, acting, client_of, http};
use instance_connect_client::{Client, Error, SendSshPublicKey};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::error::Error as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;

fn push() -> SendSshPublicKey {
    SendSshPublicKey::new("i-0123456789abcdef0", "ec2-user", "ssh-ed25519 AAAA")
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = Server::start(Reply::success()).await;
    let client = server.client();
    for _ in 0..5 {
        client.clone().send_ssh_public_key(&push()).await.unwrap();
    }
    assert_eq!(server.connections(), 1);
    assert_eq!(server.received.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn errors_keep_the_connection_too() {
    let server = Server::start(Reply::json(400, r#"{"__type":"InvalidArgsException"}"#)).await;
    let client = server.client();
    for _ in 0..3 {
        client.send_ssh_public_key(&push()).await.unwrap_err();
    }
    assert_eq!(server.connections(), 1);
}

/// The server closes after each answer, with and without saying so.
#[tokio::test]
async fn a_closed_connection_is_replaced() {
    let success = r#"{"Success":true}"#;
    let silently = format!("HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{success}").into_bytes();
    for act in [http(200, "", success), Act::Write(silently)] {
        let (address, connections) = acting(vec![act.clone()]).await;
        let client = client_of(&format!("http://{address}"), Client::builder());
        for _ in 0..20 {
            assert!(client.send_ssh_public_key(&push()).await.unwrap().success, "{act:?}");
        }
        assert_eq!(connections.load(Ordering::SeqCst), 20, "{act:?}");
    }
}

#[tokio::test]
async fn calls_at_once() {
    let server = Server::start(Reply::success()).await;
    let client = server.client();
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.send_ssh_public_key(&push()).await })
        })
        .collect();
    for call in calls {
        assert!(call.await.unwrap().unwrap().success);
    }
}

#[tokio::test]
async fn nobody_listens() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = client_of(&format!("http://{address}"), Client::builder());
    let error = client.send_ssh_public_key(&push()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot connect to {address}"));
    assert!(error.source().unwrap().to_string().contains("refused"), "{error:?}");
    assert!(error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn no_answer_in_time() {
    let (address, connections) = acting(vec![Act::Silence]).await;
    let client = client_of(&format!("http://{address}"), Client::builder());
    let error = client.send_ssh_public_key(&push()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("an answer of {address} took longer than 10 s"));
    assert!(matches!(error, Error::Timeout { before: None, .. }), "{error:?}");
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

/// The limit of the call ends the third attempt, and the second is not forgotten.
#[tokio::test(start_paused = true)]
async fn no_success_in_time() {
    let (address, connections) = acting(vec![Act::Silence]).await;
    let client =
        client_of(&format!("http://{address}"), Client::builder().operation_timeout(Duration::from_secs(25)));
    let error = client.send_ssh_public_key(&push()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("a call of {address} took longer than 25 s"));
    let before = error.source().unwrap().to_string();
    assert_eq!(before, format!("an answer of {address} took longer than 10 s"));
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

/// The time to connect includes TLS: here the server never says hello.
#[tokio::test(start_paused = true)]
async fn no_connection_in_time() {
    let (address, _) = acting(vec![Act::Silence]).await;
    let authority = Authority::new();
    let client = client_of(&format!("https://{address}"), Client::builder().ca_bundle(authority.file.path()));
    let error = client.send_ssh_public_key(&push()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("connecting to {address} took longer than 3.1 s"));
}

#[tokio::test]
async fn answers_are_bounded() {
    let most = 64 * 1024;
    let body = |length: usize| format!("{{\"Success\":true{}}}", " ".repeat(length - 16));
    let fits = Server::start(Reply::json(200, &body(most))).await;
    assert!(fits.client().send_ssh_public_key(&push()).await.unwrap().success);
    let over = Server::start(Reply::json(200, &body(most + 1))).await;
    let error = over.client().send_ssh_public_key(&push()).await.unwrap_err();
    assert!(error.to_string().ends_with("it is longer than 65536 bytes"), "{error}");

    let long_head = format!("X-Long: {}\r\n", "x".repeat(200_000));
    let (address, _) = acting(vec![http(200, &long_head, "{}")]).await;
    let error = client_of(&format!("http://{address}"), Client::builder()).send_ssh_public_key(&push()).await;
    assert!(matches!(error, Err(Error::Transport { .. })), "{error:?}");
}

#[tokio::test]
async fn answers_that_are_not_http_or_not_whole() {
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 35\r\n\r\n{\"RequestId\":";
    for act in [
        Act::Write(b"".to_vec()),
        Act::Write(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        Act::Write(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}".to_vec()),
        Act::Write(half.to_vec()),
        Act::Reset(half.to_vec()),
        Act::Reset(Vec::new()),
    ] {
        let (address, connections) = acting(vec![act.clone()]).await;
        let client = client_of(&format!("http://{address}"), Client::builder());
        let error = client.send_ssh_public_key(&push()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the connection to {address} broke off"), "{act:?}");
        assert_eq!(connections.load(Ordering::SeqCst), 3);

        let success = http(200, "", r#"{"Success":true}"#);
        let (address, connections) = acting(vec![act.clone(), success]).await;
        let client = client_of(&format!("http://{address}"), Client::builder());
        assert!(client.send_ssh_public_key(&push()).await.unwrap().success, "{act:?}");
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    }
}

/// A length that is too small leaves bytes behind, which must not become the answer to the next call.
#[tokio::test]
async fn an_answer_longer_than_it_says() {
    let body = r#"{"Success":true}HTTP/1.1 200 OK
Content-Length: 17

{"Success":false}"#;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{body}");
    let (address, connections) = acting(vec![Act::Write(answer.into_bytes())]).await;
    let client = client_of(&format!("http://{address}"), Client::builder());
    for _ in 0..5 {
        assert!(client.send_ssh_public_key(&push()).await.unwrap().success);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 5);
}

/// A call that nobody waits for any more takes its connection with it; the client goes on.
#[tokio::test]
async fn a_call_that_is_dropped() {
    let success = http(200, "", r#"{"Success":true}"#);
    let (address, connections) = acting(vec![Act::Silence, success]).await;
    let client = client_of(&format!("http://{address}"), Client::builder());
    let connected = async {
        while connections.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    let push = push();
    tokio::select! {
        answer = client.send_ssh_public_key(&push) => panic!("{answer:?}"),
        () = connected => {}
    }
    assert!(client.send_ssh_public_key(&push).await.unwrap().success);
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn tls_with_an_authority_of_ones_own() {
    let authority = Authority::new();
    let server = Server::start_with(Reply::success(), Some(authority.acceptor("127.0.0.1"))).await;
    let client = server.client_with(Client::builder().ca_bundle(authority.file.path()));
    for _ in 0..2 {
        assert!(client.send_ssh_public_key(&push()).await.unwrap().success);
    }
    assert_eq!(server.connections(), 1);

    let somebody_else = Authority::named("two");
    let client = server.client_with(Client::builder().ca_bundle(somebody_else.file.path()));
    let error = client.send_ssh_public_key(&push()).await.unwrap_err();
    assert!(error.source().unwrap().to_string().contains("UnknownIssuer"), "{error:?}");
    // Nothing is gained by asking again.
    assert!(matches!(error, Error::Tls { .. }) && !error.is_retryable(), "{error:?}");
    assert_eq!(server.connections(), 2);

    let other_name = Server::start_with(Reply::success(), Some(authority.acceptor("127.0.0.2"))).await;
    let client = other_name.client_with(Client::builder().ca_bundle(authority.file.path()));
    let error = client.send_ssh_public_key(&push()).await.unwrap_err();
    assert!(error.source().unwrap().to_string().contains("not valid for name"), "{error:?}");
}

#[test]
fn authorities_that_cannot_be_read() {
    let mut file = NamedTempFile::new().unwrap();
    for (content, reason) in [
        ("", "it holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "UnknownIssuer"),
    ] {
        file.write_all(content.as_bytes()).unwrap();
        let config = Client::builder().ca_bundle(file.path()).region("us-east-1");
        let config = config.credentials(crate::server::credentials());
        let settings = config.resolve(&instance_connect_client::Environment::default()).unwrap();
        let error = Client::new(settings).unwrap_err().to_string();
        assert!(error.starts_with(&format!("CA bundle {}: ", file.path().display())), "{error}");
        assert!(error.contains(reason) || content.contains("AAAA"), "{error}");
    }
}

/// A certificate authority, and the file that names it.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: NamedTempFile,
}

impl Authority {
    fn new() -> Self {
        Self::named("one")
    }

    fn named(name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(issuer.pem().as_bytes()).unwrap();
        Self { issuer, file }
    }

    /// Accepts TLS with a certificate for `name`.
    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.into()], key.into())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}
