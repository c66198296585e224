//! The authority of the metadata service's signers: a root of its own, an intermediate, and a leaf for each generation.
//!
//! Machines put the root among those that vouch for every server they talk to, so it must be good for nothing else:
//! a critical constraint leaves the signers' one name to it.

use super::staple::{self, Status, Validity};
use crate::pki::{ca_params, issuer, name, params, pem};
use anyhow::{Context as _, anyhow};
use aws_lc_rs::signature::RsaKeyPair;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::ids::Region;
use instance_connect_core::link::{Domain, Staple};
use instance_connect_core::secret::Secret;
use instance_connect_planted::planted;
use instance_connect_store::{Authority, Store};
use rcgen::{
    CertificateParams, CidrSubnet, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, SanType,
};
use rustls::pki_types::CertificateDer;
use std::fmt;
use time::Duration;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The root's name. The stock host scripts look for the root in a file of this name (wire.md 3.6).
pub(crate) const ROOT_NAME: &str = "Instance Connect signer root";

const INTERMEDIATE_NAME: &str = "Instance Connect signer intermediate";

/// How long a leaf lasts: much longer than it signs, so that a control plane may be down for weeks.
pub(crate) const LEAF_LIFETIME: Duration = Duration::days(90);

/// What vouches for the signers.
#[derive(Debug)]
pub(super) struct StockAuthority {
    name: SignerName,
    pub(super) root: Ca,
    pub(super) intermediate: Ca,
}

/// What every signer is called. Each name has a root of its own, which is constrained to it, and all that is below that.
#[derive(Debug)]
struct SignerName {
    full: String,
    /// What is behind the service's part of it.
    place: String,
}

/// A certificate that issues others.
pub(super) struct Ca {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

/// The certificate of one generation, with its key.
pub(super) struct Leaf {
    certificate: CertificateDer<'static>,
    key: RsaKeyPair,
    not_before: UnixSeconds,
    not_after: UnixSeconds,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ca")
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leaf")
    }
}

impl StockAuthority {
    /// Loads root and intermediate from the store, and makes what is not there yet.
    pub(super) async fn load(
        store: &dyn Store,
        region: &Region,
        domain: &Domain,
        now: UnixSeconds,
    ) -> anyhow::Result<Self> {
        let place = format!("{region}.{domain}");
        let name = SignerName { full: format!("managed-ssh-signer.{place}"), place };
        let root = load_or_make(store, "root", &name, async || {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let root = constrained(ROOT_NAME, 1, &name.full, now)?.self_signed(&key)?;
            Ok((root.der().to_vec(), key))
        });
        let root = Ca::new(root.await?)?;
        let intermediate = load_or_make(store, "issuer", &name, async || {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let params = constrained(INTERMEDIATE_NAME, 0, &name.full, now)?;
            Ok((params.signed_by(&key, &root.issuer)?.der().to_vec(), key))
        });
        let intermediate = Ca::new(intermediate.await?)?;
        Ok(Self { name, root, intermediate })
    }

    /// What its signers are called.
    pub(super) fn signer_name(&self) -> &str {
        &self.name.full
    }

    /// The root, as a PEM file.
    pub(super) fn root_pem(&self) -> String {
        pem(&self.root.certificate)
    }

    /// The leaf of a generation, from the store; made where it is not there yet.
    pub(super) async fn leaf(
        &self,
        store: &dyn Store,
        generation: u32,
        now: UnixSeconds,
    ) -> anyhow::Result<Leaf> {
        let number = generation.to_string();
        let leaf = load_or_make(store, &number, &self.name, async || {
            // It looks for two primes, which takes as long as that takes.
            let make = || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
            let key = tokio::task::spawn_blocking(make).await??;
            let certificate =
                leaf_params(&self.name.full, now)?.signed_by(&key, &self.intermediate.issuer)?;
            Ok((certificate.der().to_vec(), key))
        });
        Leaf::new(leaf.await?)
    }

    /// The chain of a leaf in PEM: the leaf first, the root last, where the scripts look for its name.
    pub(super) fn chain(&self, leaf: &Leaf) -> String {
        pem(&leaf.certificate) + &pem(&self.intermediate.certificate) + &pem(&self.root.certificate)
    }

    /// Staples for every certificate of a leaf's chain but the last. A leaf that is revoked is so since a time.
    pub(super) fn staples(
        &self,
        leaf: &Leaf,
        revoked_at: Option<UnixSeconds>,
        validity: Validity,
    ) -> anyhow::Result<Vec<Staple>> {
        let status = revoked_at.map_or(Status::Good, Status::Revoked);
        Ok(vec![
            staple::issue(&leaf.certificate, &self.intermediate, status, validity)?,
            staple::issue(&self.intermediate.certificate, &self.root, Status::Good, validity)?,
        ])
    }
}

impl Ca {
    fn new(stored: Authority) -> anyhow::Result<Self> {
        Ok(Self { issuer: issuer(&stored)?, certificate: CertificateDer::from(stored.public) })
    }
}

impl Leaf {
    fn new(stored: Authority) -> anyhow::Result<Self> {
        let key = RsaKeyPair::from_pkcs8(stored.secret.expose());
        let key = key.map_err(|_| anyhow!("the key of a stock signer is damaged"))?;
        let (_, certificate) = X509Certificate::from_der(&stored.public)
            .context("the certificate of a stock signer is damaged")?;
        let validity = certificate.validity();
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Ok(Self {
            key,
            not_before: UnixSeconds(not_before),
            not_after: UnixSeconds(not_after),
            certificate: CertificateDer::from(stored.public),
        })
    }

    /// Whether it is good from `from` to `until`.
    pub(super) const fn is_good(&self, from: UnixSeconds, until: UnixSeconds) -> bool {
        self.not_before.0 <= from.0 && until.0 <= self.not_after.0
    }

    /// When it ends.
    pub(super) const fn not_after(&self) -> UnixSeconds {
        self.not_after
    }

    /// What signs.
    pub(super) const fn key(&self) -> &RsaKeyPair {
        &self.key
    }
}

/// The pair for this. Of several that make it at once all go on with the one that was put first.
async fn load_or_make(
    store: &dyn Store,
    what: &str,
    signer: &SignerName,
    make: impl AsyncFnOnce() -> anyhow::Result<(Vec<u8>, KeyPair)>,
) -> anyhow::Result<Authority> {
    // With the longest region and domain there is room for 14 bytes before them.
    let stored_name = name(&format!("stock-{what}.{}", signer.place))?;
    if let Some(stored) = store.authority(&stored_name).await? {
        return Ok(stored);
    }
    let (certificate, key) = make().await?;
    Ok(store.put_authority(&stored_name, &certificate, &Secret::new(key.serialize_der())).await?)
}

/// A certificate authority that can vouch for a server of TLS of the name `signer_name`, and for nothing else: not for clients,
/// whose names constraints on DNS names do not reach.
fn constrained(
    common_name: &str,
    intermediates_below: u8,
    signer_name: &str,
    now: UnixSeconds,
) -> anyhow::Result<CertificateParams> {
    let mut params = ca_params(common_name, intermediates_below, now)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.name_constraints = (!planted("signer-root-unconstrained")).then(|| NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(signer_name.to_owned())],
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
            GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
        ],
    });
    Ok(params)
}

/// What the certificates are that AWS serves (wire.md 3.6).
pub(super) fn leaf_params(signer_name: &str, now: UnixSeconds) -> anyhow::Result<CertificateParams> {
    let mut params = params(signer_name, LEAF_LIFETIME, now)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = leaf_usages();
    params.subject_alt_names = vec![SanType::DnsName(signer_name.try_into()?)];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn leaf_usages() -> Vec<ExtendedKeyUsagePurpose> {
    vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
}
