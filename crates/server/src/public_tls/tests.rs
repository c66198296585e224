//! Real handshakes over loopback, with certificates in real files.

use super::*;
use instance_connect_store::{MasterKey, SqliteStore};
use instance_connect_testkit::{SeededRandom, World};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;
use tokio_rustls::client;

const NOW: UnixSeconds = UnixSeconds(1_900_000_000);

/// Files of a certificate that is its own authority.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn certificate(&self) -> PathBuf {
        self.directory.path().join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    /// Puts another certificate there, as certbot does: new files in the place of the old ones.
    fn put(&self) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        self.put_text(&self.certificate(), &certificate.pem());
        self.put_text(&self.key(), &key.serialize_pem());
        certificate.der().clone()
    }

    fn put_text(&self, path: &Path, text: &str) {
        let next = self.directory.path().join("next");
        fs::write(&next, text).unwrap();
        fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(next, path).unwrap();
    }

    fn transport(&self) -> Transport {
        Transport::Files { certificate: self.certificate(), key: self.key() }
    }
}

async fn some_pki() -> (Arc<Pki>, TempDir) {
    let (directory, world, random) =
        (tempfile::tempdir().unwrap(), World::new(), Arc::new(SeededRandom::new(3)));
    let key = MasterKey::from_bytes([1; 32]);
    let store = SqliteStore::open(&directory.path().join("data"), &key, random.clone()).unwrap();
    let today = crate::system::SystemClock.wall();
    let pki = Pki::load(&store, random.as_ref(), &world.region, today).await.unwrap();
    (Arc::new(pki), directory)
}

async fn load(transport: Transport) -> anyhow::Result<Arc<PublicTls>> {
    let (pki, _directory) = some_pki().await;
    Ok(PublicTls::load(transport, &pki, NOW)?.expect("TLS"))
}

fn client(
    trusted: &CertificateDer<'static>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

/// A connection to a.example, and what the server has negotiated.
async fn connect(
    tls: &Arc<PublicTls>,
    client: ClientConfig,
) -> io::Result<(client::TlsStream<TcpStream>, TlsStream<TcpStream>, TlsSession)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let stream = TcpStream::connect(listener.local_addr()?).await?;
    let (accepted, _) = listener.accept().await?;
    let connector = TlsConnector::from(Arc::new(client));
    let name = "a.example".try_into().unwrap();
    let (connected, accepted) = tokio::join!(connector.connect(name, stream), tls.accept(accepted));
    let (server, session) = accepted?;
    Ok((connected?, server, session))
}

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// Whether who trusts this certificate alone can connect.
async fn has(tls: &Arc<PublicTls>, certificate: &CertificateDer<'static>) -> bool {
    connect(tls, client(certificate, BOTH)).await.is_ok()
}

#[tokio::test]
async fn both_versions_are_spoken_and_told_apart() {
    let files = Files::new();
    let certificate = files.put();
    let tls = load(files.transport()).await.unwrap();
    for (version, said, suite) in [
        (&rustls::version::TLS13, "TLSv1.3", "TLS_AES_256_GCM_SHA384"),
        (&rustls::version::TLS12, "TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    ] {
        let (_, _, session) = connect(&tls, client(&certificate, &[version])).await.unwrap();
        assert_eq!((session.version, session.cipher_suite), (said, suite));
    }
    // A client that would not speak HTTP/1.1 is told so, before it sends anything.
    let mut http2 = client(&certificate, BOTH);
    http2.alpn_protocols = vec![b"h2".to_vec()];
    assert!(connect(&tls, http2).await.is_err());
}

#[tokio::test]
async fn a_new_certificate_is_taken_and_no_connection_is_lost() {
    let files = Files::new();
    let first = files.put();
    let tls = load(files.transport()).await.unwrap();
    let (mut before, mut server, _) = connect(&tls, client(&first, BOTH)).await.unwrap();
    tls.renew(false, NOW);
    assert!(has(&tls, &first).await, "nothing has changed");

    let second = files.put();
    tls.renew(false, NOW);
    assert!(has(&tls, &second).await && !has(&tls, &first).await);
    before.write_all(b"ping").await.unwrap();
    before.flush().await.unwrap();
    let mut bytes = [0; 4];
    server.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"ping");
}

#[tokio::test]
async fn a_bad_new_certificate_leaves_the_old_one() {
    let files = Files::new();
    let good = files.put();
    let tls = load(files.transport()).await.unwrap();
    let key = fs::read_to_string(files.key()).unwrap();
    let certificate = fs::read_to_string(files.certificate()).unwrap();
    type Spoil = fn(&Files);
    let spoils: [(&str, Spoil); 5] = [
        ("nothing in it", |files| files.put_text(&files.certificate(), "")),
        ("half of it", |files| {
            let text = fs::read_to_string(files.certificate()).unwrap();
            files.put_text(&files.certificate(), &text[..text.len() / 2]);
        }),
        ("another key", |files| files.put_text(&files.key(), &KeyPair::generate().unwrap().serialize_pem())),
        ("a key that everybody may use", |files| {
            fs::set_permissions(files.key(), fs::Permissions::from_mode(0o644)).unwrap();
            files.put_text(&files.certificate(), &fs::read_to_string(files.certificate()).unwrap());
        }),
        ("no file", |files| fs::remove_file(files.key()).unwrap()),
    ];
    for (what, spoil) in spoils {
        spoil(&files);
        for asked in [false, true] {
            tls.renew(asked, NOW);
            assert!(has(&tls, &good).await, "{what}");
        }
        assert!(load(files.transport()).await.is_err(), "{what}: nobody starts with it");
        files.put_text(&files.certificate(), &certificate);
        files.put_text(&files.key(), &key);
        tls.renew(false, NOW);
    }
    let better = files.put();
    tls.renew(false, NOW);
    assert!(has(&tls, &better).await, "and the next good one is taken");
}

#[tokio::test]
async fn our_own_authority_serves_the_names_and_renews_in_time() {
    let (pki, _directory) = some_pki().await;
    let now = crate::system::SystemClock.wall();
    let names = vec!["a.example".to_owned(), "192.0.2.1".to_owned()];
    let tls = PublicTls::load(Transport::Own { names }, &pki, now).unwrap().unwrap();
    let root = CertificateDer::from_pem_slice(pki.root_pem().as_bytes()).unwrap();
    let (stream, ..) = connect(&tls, client(&root, BOTH)).await.unwrap();
    let connection: &ClientConnection = stream.get_ref().1;
    assert_eq!(connection.peer_certificates().unwrap().len(), 2, "the intermediate comes along");

    let first = tls.expires();
    tls.renew(false, now);
    tls.renew(false, UnixSeconds(first.0 - SERVER_RENEWED_BEFORE));
    assert_eq!(tls.expires(), first);
    tls.renew(false, UnixSeconds(first.0 - SERVER_RENEWED_BEFORE + 1));
    assert!(tls.expires() > first);
}

#[tokio::test]
async fn whoever_speaks_no_tls_gets_nothing() {
    let files = Files::new();
    files.put();
    let tls = load(files.transport()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(tls.accept(accepted).await.is_err());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}
