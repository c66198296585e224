//! The certificate authority of the links, and the keys that sign documents (one root, an intermediate for
//! each kind of identity, anchors that are bare Ed25519 keys).

mod anchors;

use crate::inventory::LiveInventory;
use anchors::AnchorKeys;
use anyhow::{Context as _, anyhow, bail, ensure};
use arc_swap::ArcSwap;
use instance_connect_core::document::{EncodeError, SignerStatement, SigningKey, UnixDay, UnixSeconds};
use instance_connect_core::environment::Random;
use instance_connect_core::grant::Grant;
use instance_connect_core::ids::{BootId, Region};
use instance_connect_core::link::{AgentUrn, HeldAnchors};
use instance_connect_core::secret::Secret;
use instance_connect_store::{Authority, AuthorityName, Store};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
    PublicKey, SanType,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

/// Certificates begin a day before they are made: a machine whose clock is behind must be able to connect.
const BACKDATED: Duration = Duration::DAY;

const CA_LIFETIME: Duration = Duration::days(10 * 365);
/// How long the certificates of servers last.
pub(crate) const SERVER_LIFETIME: Duration = Duration::days(365);
/// How long before its end a server's certificate is made anew, in seconds. Whoever connects trusts the authority, not the certificate.
pub(crate) const SERVER_RENEWED_BEFORE: i64 = 30 * 24 * 60 * 60;

/// How soon anchors are looked at again where the store has failed.
const FOLLOW_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// The authorities of one control plane.
#[derive(Debug)]
pub(crate) struct Pki {
    root: CertificateDer<'static>,
    agents: Intermediate,
    nodes: Intermediate,
    anchors: ArcSwap<AnchorKeys>,
    region: Region,
}

/// Which statement for a signer it is: there is one for each day and anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StatementOf {
    day: UnixDay,
    anchor: u32,
}

/// The public key of an agent, proved by the signature of its certificate request.
pub(crate) struct AgentKey(PublicKey);

impl AgentKey {
    /// Reads a PEM certificate request; its subject and extensions count for nothing.
    ///
    /// # Errors
    /// When it is malformed, badly signed, or of a key type other than P-256 and Ed25519.
    pub(crate) fn from_request(csr: &str) -> anyhow::Result<Self> {
        let request = CertificateSigningRequestParams::from_pem(csr);
        let key = request.context("the certificate request is malformed or badly signed")?.public_key;
        let accepted = [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519].contains(&key.algorithm());
        ensure!(accepted, "the certificate request has another key than P-256 or Ed25519");
        Ok(Self(key))
    }
}

struct Intermediate {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Intermediate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Intermediate")
    }
}

impl Pki {
    /// Loads the authorities from the store, and makes those that are not there yet.
    pub(crate) async fn load(
        store: &dyn Store,
        random: &dyn Random,
        region: &Region,
        now: UnixSeconds,
    ) -> anyhow::Result<Self> {
        let root = match store.authority(&name("root")?).await? {
            Some(root) => root,
            None => put(store, "root", self_signed_root(now)?).await?,
        };
        let root_issuer = issuer(&root)?;
        let agents = Intermediate::load(store, "agents", &root_issuer, now).await?;
        let nodes = Intermediate::load(store, "nodes", &root_issuer, now).await?;
        let anchors = ArcSwap::from_pointee(AnchorKeys::load(store, random, region).await?);
        let root = CertificateDer::from(root.public);
        Ok(Self { root, agents, nodes, anchors, region: region.clone() })
    }

    /// Signs a document with the key that does so now. Links are sent the statement for that key before what it has signed.
    ///
    /// # Errors
    /// The grant cannot be written as a document.
    pub(crate) fn sign(&self, grant: &Grant, boot: &BootId) -> Result<String, EncodeError> {
        grant.document(boot, self.anchors.load().signer())
    }

    /// The statement for the key that signs documents now, if it is another than the one that was `sent`.
    pub(crate) fn statement_after(
        &self,
        sent: Option<StatementOf>,
        now: UnixSeconds,
    ) -> Option<(StatementOf, SignerStatement)> {
        let anchors = self.anchors.load();
        let of = StatementOf { day: now.day(), anchor: anchors.rotation.current };
        (sent != Some(of)).then(|| (of, anchors.signer_statement(now)))
    }

    /// The number of the current anchor set.
    pub(crate) fn newest_anchor_set(&self) -> u32 {
        self.anchors.load().rotation.set()
    }

    /// The current anchor set: the anchors file of a machine that is enrolled now.
    pub(crate) fn anchors(&self) -> String {
        self.anchors.load().set.clone()
    }

    /// The anchor set for a machine that trusts `held`, if there is a later one that it may have now.
    pub(crate) fn anchors_after(&self, held: u32, now: UnixSeconds) -> Option<(u32, String)> {
        let anchors = self.anchors.load();
        let (number, set) = anchors.to_send(now).filter(|(number, _)| *number > held)?;
        Some((number, set.to_owned()))
    }

    /// Which anchor set a machine with these anchors trusts; `None` where they are none that was issued here.
    pub(crate) fn trusted_by(&self, held: HeldAnchors) -> Option<u32> {
        self.anchors.load().trusted_by(held)
    }

    /// Follows roll-overs until the process ends.
    pub(crate) async fn follow(&self, inventory: &LiveInventory, random: &dyn Random) {
        let mut changes = inventory.changes();
        // What has changed before somebody listened.
        changes.mark_changed();
        while changes.changed().await.is_ok() {
            while let Err(error) = self.follow_once(inventory.store(), random).await {
                tracing::error!(error = format!("{error:#}"), "cannot follow the anchors; trying again");
                tokio::time::sleep(FOLLOW_AGAIN).await;
            }
        }
    }

    pub(crate) async fn follow_once(&self, store: &dyn Store, random: &dyn Random) -> anyhow::Result<()> {
        if store.anchor_rotation().await? != self.anchors.load().rotation {
            let anchors = AnchorKeys::load(store, random, &self.region).await?;
            tracing::warn!(rotation = ?anchors.rotation, "the anchors roll over");
            self.anchors.store(Arc::new(anchors));
        }
        Ok(())
    }

    /// SHA-256 of the root certificate: what a join token carries.
    pub(crate) fn root_sha256(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.root).as_ref());
        hash
    }

    /// What an agent trusts for its link: the nodes intermediate, and the root for people to compare.
    pub(crate) fn server_ca(&self) -> String {
        pem(&self.nodes.certificate) + &pem(&self.root)
    }

    /// A certificate for an agent's key, with its identity and nothing else of what was asked for.
    pub(crate) fn agent_chain(
        &self,
        key: &AgentKey,
        urn: &AgentUrn,
        now: UnixSeconds,
        lifetime: std::time::Duration,
    ) -> anyhow::Result<String> {
        let (purpose, lifetime) = (ExtendedKeyUsagePurpose::ClientAuth, lifetime.try_into()?);
        let mut params = leaf_params("Instance Connect agent", purpose, lifetime, now)?;
        params.subject_alt_names = vec![SanType::URI(urn.to_string().try_into()?)];
        let certificate = params.signed_by(&key.0, &self.agents.issuer)?;
        Ok(pem(certificate.der()) + &pem(&self.agents.certificate))
    }

    /// TLS for the agents listener: a fresh server certificate for these names, clients known by the agents
    /// intermediate alone, TLS 1.3, no resumption.
    pub(crate) fn agents_tls(
        &self,
        names: &[String],
        now: UnixSeconds,
    ) -> anyhow::Result<rustls::ServerConfig> {
        let (mut chain, key) = self.server_chain(names, now)?;
        // The root goes along for first contact, where the agent knows nothing but its hash.
        chain.push(self.root.clone());
        let mut clients = RootCertStore::empty();
        clients.add(self.agents.certificate.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(config)
    }
}

impl Pki {
    /// A fresh certificate of ours for a server with these names, with its intermediate behind it, and its key.
    pub(crate) fn server_chain(
        &self,
        names: &[String],
        now: UnixSeconds,
    ) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let purpose = ExtendedKeyUsagePurpose::ServerAuth;
        let mut params = leaf_params("Instance Connect control plane", purpose, SERVER_LIFETIME, now)?;
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.nodes.issuer)?;
        let chain = vec![certificate.der().clone(), self.nodes.certificate.clone()];
        Ok((chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))))
    }

    /// The root certificate as a PEM file: what clients trust where the public listener has a certificate of ours.
    pub(crate) fn root_pem(&self) -> String {
        pem(&self.root)
    }
}

impl Intermediate {
    async fn load(
        store: &dyn Store,
        purpose: &str,
        root: &Issuer<'static, KeyPair>,
        now: UnixSeconds,
    ) -> anyhow::Result<Self> {
        let authority = match store.authority(&name(purpose)?).await? {
            Some(authority) => authority,
            None => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
                let certificate =
                    ca_params(&format!("Instance Connect {purpose}"), 0, now)?.signed_by(&key, root)?;
                put(store, purpose, (certificate.der().to_vec(), Secret::new(key.serialize_der()))).await?
            }
        };
        Ok(Self { issuer: issuer(&authority)?, certificate: CertificateDer::from(authority.public) })
    }
}

fn self_signed_root(now: UnixSeconds) -> anyhow::Result<(Vec<u8>, Secret)> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = ca_params("Instance Connect root", 1, now)?.self_signed(&key)?;
    Ok((certificate.der().to_vec(), Secret::new(key.serialize_der())))
}

async fn ed25519(store: &dyn Store, purpose: &str, random: &dyn Random) -> anyhow::Result<SigningKey> {
    let authority = match store.authority(&name(purpose)?).await? {
        Some(authority) => authority,
        None => {
            let mut seed = zeroize::Zeroizing::new([0; 32]);
            random.fill(seed.as_mut_slice());
            let public = SigningKey::from_seed(&seed)?.verifying_key();
            put(store, purpose, (public.as_bytes().to_vec(), Secret::new(seed.to_vec()))).await?
        }
    };
    let seed: &[u8; 32] =
        authority.secret.expose().try_into().with_context(|| format!("the {purpose} key is damaged"))?;
    Ok(SigningKey::from_seed(seed)?)
}

/// Of several that start at once all go on with the pair that was put first.
async fn put(
    store: &dyn Store,
    purpose: &str,
    (public, secret): (Vec<u8>, Secret),
) -> anyhow::Result<Authority> {
    Ok(store.put_authority(&name(purpose)?, &public, &secret).await?)
}

pub(crate) fn name(purpose: &str) -> anyhow::Result<AuthorityName> {
    Ok(purpose.parse()?)
}

pub(crate) fn issuer(authority: &Authority) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::try_from(authority.secret.expose()).map_err(|_| anyhow!("a CA key is damaged"))?;
    Issuer::from_ca_cert_der(&CertificateDer::from(authority.public.as_slice()), key)
        .context("a CA certificate is damaged")
}

pub(crate) fn ca_params(
    common_name: &str,
    intermediates_below: u8,
    now: UnixSeconds,
) -> anyhow::Result<CertificateParams> {
    let mut params = params(common_name, CA_LIFETIME, now)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(intermediates_below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Strict verifiers, Python's since 3.13 for one, demand it of every certificate that another one has signed.
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn leaf_params(
    common_name: &str,
    purpose: ExtendedKeyUsagePurpose,
    lifetime: Duration,
    now: UnixSeconds,
) -> anyhow::Result<CertificateParams> {
    let mut params = params(common_name, lifetime, now)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

pub(crate) fn params(
    common_name: &str,
    lifetime: Duration,
    now: UnixSeconds,
) -> anyhow::Result<CertificateParams> {
    let now = OffsetDateTime::from_unix_timestamp(now.0)?;
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common_name);
    params.distinguished_name = subject;
    (params.not_before, params.not_after) = (now - BACKDATED, now + lifetime);
    Ok(params)
}

/// What an agent's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentCertificate {
    pub(crate) identity: AgentUrn,
    /// The last second in which it is good.
    pub(crate) not_after: UnixSeconds,
}

/// Reads an agent's certificate: exactly one URI names it, and nothing else.
///
/// # Errors
/// When the certificate holds anything else. Its chain has been verified before.
pub(crate) fn agent_certificate(certificate: &CertificateDer<'_>) -> anyhow::Result<AgentCertificate> {
    use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
    let (_, certificate) = X509Certificate::from_der(certificate).context("the certificate is malformed")?;
    let names = certificate.subject_alternative_name()?.context("the certificate names nobody")?;
    let [GeneralName::URI(urn)] = names.value.general_names.as_slice() else {
        bail!("the certificate does not name exactly one agent");
    };
    let identity = urn.parse().map_err(|_| anyhow!("the certificate does not name an agent"))?;
    Ok(AgentCertificate { identity, not_after: UnixSeconds(certificate.validity().not_after.timestamp()) })
}

pub(crate) fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = instance_connect_core::document::base64_encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}
