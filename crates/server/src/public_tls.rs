//! TLS of the public listener: TLS 1.2 and 1.3, HTTP/1.1 only, with a certificate from files or of our own authority.
//!
//! A new certificate is taken while connections go on with the one they began with. One that cannot be used is said, and
//! the one before it is kept.

use crate::config::Transport;
use crate::pki::{Pki, SERVER_RENEWED_BEFORE};
use anyhow::{Context as _, ensure};
use arc_swap::ArcSwap;
use hyper::HeaderMap;
use hyper::header::HOST;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::environment::Clock;
use instance_connect_core::limits;
use instance_connect_core::origin::TlsDetails;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CipherSuite, ProtocolVersion, ServerConfig, ServerConnection};
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Bytes of a certificate file or a key file.
const PEM_BYTES: u64 = 256 * 1024;

/// The certificate that the public listener has now, and where the next one comes from.
#[derive(Debug)]
pub(crate) struct PublicTls {
    current: ArcSwap<Current>,
    origin: CertificateOrigin,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// When its certificate ends.
    expires: UnixSeconds,
    /// The files as they were when they were read.
    seen: Option<[Stamp; 2]>,
}

#[derive(Debug)]
enum CertificateOrigin {
    Files { certificate: PathBuf, key: PathBuf },
    Own { pki: Arc<Pki>, names: Vec<String> },
}

/// What changes of a file when it is written anew or another one is put in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    written: (i64, i64),
}

impl PublicTls {
    /// Loads the first certificate. None for plain http.
    ///
    /// # Errors
    /// A file cannot be read, is not what it should be, or does not belong to the other.
    pub(crate) fn load(
        transport: Transport,
        pki: &Arc<Pki>,
        now: UnixSeconds,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        let origin = match transport {
            Transport::Plain => return Ok(None),
            Transport::Files { certificate, key } => CertificateOrigin::Files { certificate, key },
            Transport::Own { names } => CertificateOrigin::Own { pki: Arc::clone(pki), names },
        };
        let current = origin.load(now)?;
        Ok(Some(Arc::new(Self { current: ArcSwap::from_pointee(current), origin })))
    }

    /// Takes the next certificate when there is one, until the process ends: when a file has changed, on SIGHUP, and when
    /// one of ours is near its end.
    pub(crate) async fn keep(self: Arc<Self>, clock: Arc<dyn Clock>) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let Ok(mut hangups) = signal(SignalKind::hangup()) else {
            return tracing::error!("cannot hear SIGHUP; certificates are not read again until a restart");
        };
        loop {
            let asked = tokio::select! {
                _ = looks.tick() => false,
                _ = hangups.recv() => true,
            };
            let (tls, now) = (Arc::clone(&self), clock.wall());
            // Blocks on the disk, or makes a key.
            let _ = tokio::task::spawn_blocking(move || tls.renew(asked, now)).await;
        }
    }

    /// Takes the next certificate if there is one, or if it is `asked` for.
    fn renew(&self, asked: bool, now: UnixSeconds) {
        let current = self.current.load();
        let (is_due, seen) = match &self.origin {
            CertificateOrigin::Files { certificate, key } => {
                let seen = stamps(certificate, key).ok();
                (seen != current.seen, seen)
            }
            CertificateOrigin::Own { .. } => (now.0 > current.expires.0 - SERVER_RENEWED_BEFORE, None),
        };
        if !is_due && !asked {
            return;
        }
        let next = match self.origin.load(now) {
            Ok(next) => {
                tracing::info!(expires = next.expires.0, "the public listener has another certificate");
                next
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "the new certificate cannot be used; going on with the one before it");
                // Not said again until something changes.
                Current { config: Arc::clone(&current.config), expires: current.expires, seen }
            }
        };
        self.current.store(Arc::new(next));
    }

    /// When the certificate ends that it has now.
    pub(crate) fn expires(&self) -> UnixSeconds {
        self.current.load().expires
    }

    /// Does the handshake of one connection.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, TlsSession)> {
        let config = Arc::clone(&self.current.load().config);
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let session = TlsSession::of(stream.get_ref().1);
        Ok((stream, session))
    }
}

impl CertificateOrigin {
    fn load(&self, now: UnixSeconds) -> anyhow::Result<Current> {
        let (chain, key, seen) = match self {
            Self::Files { certificate, key } => {
                // First how they are, then what is in them: whatever changes in between is seen at the next look.
                let seen = stamps(certificate, key)?;
                let (chain, key) = (read_chain(certificate)?, read_key(key)?);
                (chain, key, Some(seen))
            }
            Self::Own { pki, names } => {
                let (chain, key) = pki.server_chain(names, now)?;
                (chain, key, None)
            }
        };
        let expires = expiry(chain.first().context("there is no certificate")?)?;
        if expires.0 < now.0 {
            tracing::error!("the public listener's certificate has expired: clients will refuse it");
        }
        Ok(Current { config: Arc::new(config(chain, key)?), expires, seen })
    }
}

fn config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key);
    let mut config = config.context("the certificate and the private key do not belong together")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn stamps(certificate: &Path, key: &Path) -> anyhow::Result<[Stamp; 2]> {
    Ok([stamp(certificate)?, stamp(key)?])
}

fn stamp(path: &Path) -> anyhow::Result<Stamp> {
    let metadata = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let written = (metadata.mtime(), metadata.mtime_nsec());
    Ok(Stamp { inode: metadata.ino(), bytes: metadata.len(), written })
}

fn read_chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let (pem, _) = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.with_context(|| format!("{} is not PEM", path.display()))?;
    ensure!(!chain.is_empty(), "{} has no certificate in it", path.display());
    Ok(chain)
}

fn read_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let (pem, metadata) = read(path)?;
    let exposed = metadata.mode() & 0o007 != 0;
    ensure!(!exposed, "everybody may use the private key {}; make a new one, or chmod o= it", path.display());
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| anyhow::anyhow!("{} has no private key in it", path.display()))
}

fn read(path: &Path) -> anyhow::Result<(zeroize::Zeroizing<Vec<u8>>, Metadata)> {
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(16 * 1024));
    let read = File::open(path).and_then(|file| {
        let metadata = file.metadata()?;
        file.take(PEM_BYTES).read_to_end(&mut bytes)?;
        Ok(metadata)
    });
    let metadata = read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok((bytes, metadata))
}

fn expiry(certificate: &CertificateDer<'_>) -> anyhow::Result<UnixSeconds> {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let (_, certificate) = X509Certificate::from_der(certificate).context("the certificate is malformed")?;
    Ok(UnixSeconds(certificate.validity().not_after.timestamp()))
}

/// What was negotiated with a client.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TlsSession {
    version: &'static str,
    cipher_suite: &'static str,
}

impl TlsSession {
    /// Of a connection whose handshake is done.
    pub(crate) fn of(connection: &ServerConnection) -> Self {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(_) | None => "unknown",
        };
        // rustls has names of its own for the suites of TLS 1.3.
        let cipher_suite = match connection.negotiated_cipher_suite().map(|suite| suite.suite()) {
            Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
            Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
            Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
            Some(suite) => suite.as_str().unwrap_or("unknown"),
            None => "unknown",
        };
        Self { version, cipher_suite }
    }

    /// What is on record of it for a request with these headers.
    pub(crate) fn details(self, headers: &HeaderMap) -> TlsDetails {
        let host = headers.get(HOST).map(|host| String::from_utf8_lossy(host.as_bytes()));
        let host = host.unwrap_or_default().chars().take(limits::HOST).collect();
        TlsDetails { version: self.version, cipher_suite: self.cipher_suite, host }
    }
}

#[cfg(test)]
mod tests;
