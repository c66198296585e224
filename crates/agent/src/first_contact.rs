//! Whom an agent believes before it has a CA: only a server whose certificate goes back to the one that the join token
//! names by its hash.

use crate::state::crypto;
use aws_lc_rs::digest::{SHA256, digest};
use instance_connect_planted::planted;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, OtherError, PeerIncompatible, RootCertStore, SignatureScheme,
};
use std::sync::Arc;

/// TLS 1.3 without a certificate of our own, for a server of the CA with this hash.
pub(crate) fn client_config(ca_sha256: [u8; 32]) -> Result<ClientConfig, Error> {
    let verifier = PinnedCa { ca_sha256, crypto: crypto() };
    let config = ClientConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

/// The server does not show the CA that the token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server does not show the CA of this join token")]
pub(crate) struct WrongCa;

/// Whether a certificate is the one with this hash.
pub(crate) fn is_pinned(certificate: &CertificateDer<'_>, ca_sha256: &[u8; 32]) -> bool {
    digest(&SHA256, certificate).as_ref() == ca_sha256
}

#[derive(Debug)]
struct PinnedCa {
    ca_sha256: [u8; 32],
    crypto: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    /// The CA is looked for among what the server sends, then everything is as with any CA: the chain, the host name,
    /// the times, and that the leaf is for servers.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = |certificate: &&CertificateDer<'_>| {
            is_pinned(certificate, &self.ca_sha256) || planted("pin-ignored")
        };
        let wrong_ca = || Error::Other(OtherError(Arc::new(WrongCa)));
        let ca = intermediates.iter().rev().find(pinned).ok_or_else(wrong_ca)?;
        let mut anchors = RootCertStore::empty();
        anchors.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(&self.crypto))
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.crypto.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto.signature_verification_algorithms.supported_schemes()
    }
}
