//! TLS towards the service: which authorities are trusted.

use crate::error::Error;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// A connector that trusts the authorities in `ca_bundle`, else those of the system.
pub(crate) fn connector(ca_bundle: Option<&Path>) -> Result<TlsConnector, Error> {
    let roots = match ca_bundle {
        Some(path) => bundle(path)?,
        None => system(),
    };
    if roots.is_empty() {
        return Err(Error::Configuration(
            "no certificate authorities are installed on this system; name a file of them (AWS_CA_BUNDLE)"
                .to_owned(),
        ));
    }
    // Named rather than taken from the process: a program with two providers has no default one.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Configuration(format!("TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn bundle(path: &Path) -> Result<RootCertStore, Error> {
    let refuse = |why: String| Error::Configuration(format!("CA bundle {}: {why}", path.display()));
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| refuse(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    if roots.is_empty() { Err(refuse("it holds no certificate".to_owned())) } else { Ok(roots) }
}

/// The system's authorities. Some systems ship one that cannot be read; the others are used all the same.
fn system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
