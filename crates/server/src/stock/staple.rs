//! Staples: OCSP responses (RFC 6960), as the stock host scripts take them (wire.md 3.7). The issuer itself signs; certificates
//! are named by SHA-1; there is no nonce, and no certificate inside.

use super::authority::Ca;
use anyhow::Context as _;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::link::{Staple, StapleBytes, StapleName};
use rcgen::SigningKey as _;
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use yasna::models::{GeneralizedTime, ObjectIdentifier};
use yasna::{DERWriter, Tag, construct_der};

const SHA1: &[u64] = &[1, 3, 14, 3, 2, 26];
const ECDSA_WITH_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
const BASIC_OCSP_RESPONSE: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 48, 1, 1];

/// What a staple says of its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Good,
    /// Revoked, since then.
    Revoked(UnixSeconds),
}

/// Of which time it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) made_at: UnixSeconds,
    pub(super) from: UnixSeconds,
    pub(super) until: UnixSeconds,
}

/// The staple of a certificate, by its issuer.
pub(super) fn issue(
    certificate: &CertificateDer<'_>,
    issuer: &Ca,
    status: Status,
    validity: Validity,
) -> anyhow::Result<Staple> {
    let (_, parsed) = X509Certificate::from_der(certificate)?;
    let (_, parsed_issuer) = X509Certificate::from_der(&issuer.certificate)?;
    let issuer_name = sha1(parsed.issuer().as_raw());
    let issuer_key = sha1(&parsed_issuer.public_key().subject_public_key.data);
    let [made_at, from, until] = [validity.made_at, validity.from, validity.until].map(generalized_time);
    let (made_at, from, until) = (made_at?, from?, until?);
    let revoked_at = match status {
        Status::Good => None,
        Status::Revoked(at) => Some(generalized_time(at)?),
    };
    let said = construct_der(|writer| {
        writer.write_sequence(|writer| {
            // responderID, byKey
            writer.next().write_tagged(Tag::context(2), |writer| writer.write_bytes(&issuer_key));
            writer.next().write_generalized_time(&made_at);
            writer.next().write_sequence(|writer| {
                writer.next().write_sequence(|writer| {
                    writer.next().write_sequence(|writer| {
                        writer.next().write_sequence(|writer| {
                            write_oid(writer.next(), SHA1);
                            writer.next().write_null();
                        });
                        writer.next().write_bytes(&issuer_name);
                        writer.next().write_bytes(&issuer_key);
                        writer.next().write_bigint_bytes(parsed.raw_serial(), true);
                    });
                    match &revoked_at {
                        None => {
                            writer.next().write_tagged_implicit(Tag::context(0), |writer| writer.write_null())
                        }
                        Some(at) => writer.next().write_tagged_implicit(Tag::context(1), |writer| {
                            writer.write_sequence(|writer| writer.next().write_generalized_time(at));
                        }),
                    }
                    writer.next().write_generalized_time(&from);
                    writer
                        .next()
                        .write_tagged(Tag::context(0), |writer| writer.write_generalized_time(&until));
                });
            });
        });
    });
    let signature = issuer.issuer.key().sign(&said)?;
    let basic = construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&said);
            writer.next().write_sequence(|writer| write_oid(writer.next(), ECDSA_WITH_SHA256));
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    });
    let response = construct_der(|writer| {
        writer.write_sequence(|writer| {
            // successful
            writer.next().write_enum(0);
            writer.next().write_tagged(Tag::context(0), |writer| {
                writer.write_sequence(|writer| {
                    write_oid(writer.next(), BASIC_OCSP_RESPONSE);
                    writer.next().write_bytes(&basic);
                });
            });
        });
    });
    let response = StapleBytes::new(&response).context("a staple is too long for a frame")?;
    Ok(Staple { name: StapleName(sha1(certificate)), response })
}

fn write_oid(writer: DERWriter<'_>, oid: &[u64]) {
    writer.write_oid(&ObjectIdentifier::from_slice(oid));
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut hash = [0; 20];
    hash.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref());
    hash
}

fn generalized_time(time: UnixSeconds) -> anyhow::Result<GeneralizedTime> {
    let time = OffsetDateTime::from_unix_timestamp(time.0)?;
    GeneralizedTime::from_datetime_opt(time).context("a time that no certificate can have")
}
