//! Connections: kept, broken, slow, too talkative, encrypted.

use crate::server::{Reply, Server, client_of, raw};
use instance_connect_client::{Config, Error, SendSshPublicKey};
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

fn http(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{head}\r\n{body}", body.len()).into_bytes()
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
    for head in ["", "Connection: close\r\n"] {
        let (address, connections) = raw(Some(http(head, r#"{"Success":true}"#))).await;
        let client = client_of(&format!("http://{address}"), Config::new());
        for _ in 0..20 {
            assert!(client.send_ssh_public_key(&push()).await.unwrap().success, "{head:?}");
        }
        assert_eq!(connections.load(Ordering::SeqCst), 20, "{head:?}");
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
    let client = client_of(&format!("http://{address}"), Config::new());
    let error = client.send_ssh_public_key(&push()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot connect to {address}"));
    assert!(error.source().unwrap().to_string().contains("refused"), "{error:?}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn no_answer_in_time() {
    let (address, _) = raw(None).await;
    let limit = Duration::from_millis(50);
    let client = client_of(&format!("http://{address}"), Config::new().call_timeout(limit));
    let error = client.send_ssh_public_key(&push()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("a call of {address} took longer than 0.05 s"));
    assert!(matches!(error, Error::Timeout { .. }));
}

/// The time to connect includes TLS: here the server never says hello.
#[tokio::test]
async fn no_connection_in_time() {
    let (address, _) = raw(None).await;
    let authority = Authority::new();
    let config = Config::new().connect_timeout(Duration::from_millis(50)).ca_bundle(authority.file.path());
    let client = client_of(&format!("https://{address}"), config);
    let error = client.send_ssh_public_key(&push()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("connecting to {address} took longer than 0.05 s"));
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
    let (address, _) = raw(Some(http(&long_head, "{}"))).await;
    let error = client_of(&format!("http://{address}"), Config::new()).send_ssh_public_key(&push()).await;
    assert!(matches!(error, Err(Error::Transport { .. })), "{error:?}");
}

#[tokio::test]
async fn answers_that_are_not_http_or_not_whole() {
    for bytes in ["", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"] {
        let (address, connections) = raw(Some(bytes.as_bytes().to_vec())).await;
        let client = client_of(&format!("http://{address}"), Config::new());
        let error = client.send_ssh_public_key(&push()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the connection to {address} broke off"), "{bytes:?}");
        // The request was sent, so it is not sent again.
        assert_eq!(connections.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn tls_with_an_authority_of_ones_own() {
    let authority = Authority::new();
    let server = Server::start_with(Reply::success(), Some(authority.acceptor("127.0.0.1"))).await;
    let client = server.client_with(Config::new().ca_bundle(authority.file.path()));
    for _ in 0..2 {
        assert!(client.send_ssh_public_key(&push()).await.unwrap().success);
    }
    assert_eq!(server.connections(), 1);

    let somebody_else = Authority::named("two");
    let client = server.client_with(Config::new().ca_bundle(somebody_else.file.path()));
    let error = client.send_ssh_public_key(&push()).await.unwrap_err();
    assert!(error.source().unwrap().to_string().contains("UnknownIssuer"), "{error:?}");

    let other_name = Server::start_with(Reply::success(), Some(authority.acceptor("127.0.0.2"))).await;
    let client = other_name.client_with(Config::new().ca_bundle(authority.file.path()));
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
        let config = Config::new().ca_bundle(file.path()).region("us-east-1");
        let config = config.credentials(crate::server::credentials());
        let settings = config.resolve(&instance_connect_client::Environment::default()).unwrap();
        let error = instance_connect_client::Client::new(settings).unwrap_err().to_string();
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
