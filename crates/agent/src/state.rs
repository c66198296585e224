//! The agent's identity on disk: `STATE/{link.json,identity.pem,server-ca.pem}`. It is read anew for every link, so
//! that enrolling again needs no restart.

use crate::files::{self, SMALL_FILE};
use crate::server_url::ServerUrl;
use rcgen::KeyPair;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Where to connect, and as whom.
pub(crate) const LINK: &str = "link.json";

/// The private key, the agent's certificate and its intermediate: one file, so that they are replaced together.
pub(crate) const IDENTITY: &str = "identity.pem";

/// Whom the agent trusts to vouch for servers.
pub(crate) const SERVER_CA: &str = "server-ca.pem";

/// Why the agent cannot say who it is.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is no identity.
    #[error("this machine is not enrolled: {} is missing; run instance-connect-agent enroll as root", .0.display())]
    NotEnrolled(PathBuf),
    /// There is one that cannot be used.
    #[error("{}: {reason}; if it cannot be put right, run instance-connect-agent enroll --replace as root", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a link needs.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) server: ServerUrl,
    pub(crate) tls: Arc<ClientConfig>,
}

/// `link.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LinkFile {
    pub(crate) schema: u32,
    pub(crate) server: String,
    pub(crate) instance_id: String,
    pub(crate) region: String,
    pub(crate) account_id: String,
}

impl State {
    pub(crate) fn load(directory: &Path) -> Result<Self, StateError> {
        let unusable =
            |file: &str, reason: String| StateError::Unusable { path: directory.join(file), reason };
        let link = read_link(directory)?;
        let server =
            link.server.parse().map_err(|error: crate::ServerUrlError| unusable(LINK, error.to_string()))?;
        let identity = Zeroizing::new(read(directory, IDENTITY)?);
        let tls = client_config(&identity, &read(directory, SERVER_CA)?)
            .map_err(|error| unusable(error.file, error.reason))?;
        Ok(Self { server, tls: Arc::new(tls) })
    }
}

/// What stands in [`IDENTITY`].
pub(crate) fn identity_pem(key: &KeyPair, chain: &str) -> Zeroizing<String> {
    let key = Zeroizing::new(key.serialize_pem());
    let mut pem = Zeroizing::new(String::with_capacity(key.len() + chain.len()));
    pem.push_str(&key);
    pem.push_str(chain);
    pem
}

/// Reads `link.json`.
pub(crate) fn read_link(directory: &Path) -> Result<LinkFile, StateError> {
    let link = serde_json::from_slice::<LinkFile>(&read(directory, LINK)?).map_err(|error| error.to_string());
    let link = link.and_then(|link| match link.schema {
        1 => Ok(link),
        other => Err(format!("schema {other} is not known to this version")),
    });
    link.map_err(|reason| StateError::Unusable { path: directory.join(LINK), reason })
}

fn read(directory: &Path, file: &str) -> Result<Vec<u8>, StateError> {
    let path = directory.join(file);
    match files::read(&path, SMALL_FILE) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(StateError::NotEnrolled(path)),
        Err(error) => Err(StateError::Unusable { path, reason: error.to_string() }),
    }
}

/// Which part of an identity cannot be used.
#[derive(Debug)]
pub(crate) struct IdentityError {
    pub(crate) file: &'static str,
    pub(crate) reason: String,
}

/// TLS 1.3 with the agent's certificate, trusting what may vouch for servers and nothing else.
pub(crate) fn client_config(
    identity_pem: &[u8],
    server_ca_pem: &[u8],
) -> Result<ClientConfig, IdentityError> {
    let error = |file, reason: String| IdentityError { file, reason };
    let chain = certificates(identity_pem).map_err(|reason| error(IDENTITY, reason))?;
    // The reason is left out: it could say something about the key.
    let key = PrivateKeyDer::from_pem_slice(identity_pem)
        .map_err(|_| error(IDENTITY, "there is no private key in it".into()))?;
    let anchors = server_anchors(server_ca_pem).map_err(|reason| error(SERVER_CA, reason))?;
    let mut config = ClientConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&TLS13])
        .map_err(|reason| error(SERVER_CA, reason.to_string()))?
        .with_root_certificates(anchors)
        .with_client_auth_cert(chain, key)
        .map_err(|reason| error(IDENTITY, reason.to_string()))?;
    // One long connection: nothing to resume, and nothing of it may be replayed.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The one cryptography of this program, given to rustls explicitly so that a second one in the build changes nothing.
pub(crate) fn crypto() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// All certificates of a PEM text, at least one.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if certificates.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(certificates) }
}

/// The intermediates, so that no other intermediate of the same root can vouch for a server; the root only where there
/// is nothing else (`docs/link.md` 8.3).
fn server_anchors(pem: &[u8]) -> Result<RootCertStore, String> {
    let certificates = certificates(pem)?;
    let mut intermediates = Vec::new();
    for certificate in &certificates {
        let (_, parsed) =
            x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
        if parsed.subject().as_raw() != parsed.issuer().as_raw() {
            intermediates.push(certificate.clone());
        }
    }
    let trusted = if intermediates.is_empty() { certificates } else { intermediates };
    let mut anchors = RootCertStore::empty();
    for certificate in trusted {
        anchors.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(anchors)
}
