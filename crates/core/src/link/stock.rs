//! What frames carry for the metadata service: who signs its documents, their signatures, and what it says of an instance
//! (docs/link.md 7.3).

use super::codec::{FrameError, Reader, Writer};
use super::limits;
use super::text::{Line, Lines};
use crate::ids::{AccountId, AvailabilityZone};
use instance_connect_document::{InstanceId, Region};
use std::collections::BTreeMap;
use std::fmt;

/// A chain of the metadata service's `signer-cert`, in PEM: the leaf first, the root last.
pub type StockChain = Lines<{ limits::STOCK_CHAIN }>;

/// The domain of `services/domain`.
pub type Domain = Line<{ limits::DOMAIN }>;

/// Who may sign the documents of the metadata service now: one, and while one follows the other both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StockSigners {
    /// In ascending order of their generations. Only the first [`limits::STOCK_SIGNERS`] are sent.
    pub each: Vec<StockSigner>,
}

/// One generation of the key that signs the documents of the metadata service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockSigner {
    /// Which one, counted from 1.
    pub generation: u32,
    /// Whether its staples say that it was revoked.
    pub is_revoked: bool,
    /// Its certificate and those that vouch for it.
    pub chain: StockChain,
    /// One for each certificate but the last. Only the first [`limits::STAPLES`] are sent.
    pub staples: Vec<Staple>,
}

/// What the issuer of a certificate says of its revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staple {
    /// For which certificate.
    pub name: StapleName,
    /// An OCSP response in DER.
    pub response: StapleBytes,
}

/// SHA-1 of a certificate's DER. It is printed as the stock host scripts look for it: 40 hexadecimal digits in upper case
/// (wire.md 3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StapleName(pub [u8; 20]);

impl fmt::Display for StapleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

/// At most [`limits::STAPLE`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StapleBytes(Box<[u8]>);

impl StapleBytes {
    /// These bytes; `None` where they are too many for a frame.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= limits::STAPLE).then(|| Self(bytes.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The signature of one generation over a grant's document for the metadata service
/// ([`instance_connect_document::stock_text`]): RSASSA-PSS with SHA-256 and a salt of 32 bytes, of an RSA-2048 key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    /// Whose.
    pub generation: u32,
    /// It.
    pub signature: Box<TwinSignature>,
}

/// The bytes of a signature by an RSA-2048 key.
pub type TwinSignature = [u8; 256];

/// What the metadata service says of an instance, as far as the control plane knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceFacts {
    /// Which instance: the agent's own, or one for which it answers.
    pub instance: InstanceId,
    /// Whose it is.
    pub account: AccountId,
    /// Where it is.
    pub region: Region,
    /// Where in it.
    pub availability_zone: AvailabilityZone,
    /// The domain in the signers' names.
    pub domain: Domain,
    /// Its tags, as many as fit ([`InstanceFacts::fitting_tags`]).
    pub tags: BTreeMap<String, String>,
}

impl InstanceFacts {
    /// Of an instance's tags those that can be asked for by their path, the first as far as a frame holds them. EC2 lets
    /// only such tags into the metadata that have letters, digits and any of `+ - = . , _ : @` in their keys, and are not
    /// `.`, `..` or `_index`.
    pub fn fitting_tags(tags: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut room = limits::TAGS_BYTES;
        let legal = tags.iter().filter(|(key, _)| is_tag_path(key));
        let fitting = legal.take(limits::TAGS).take_while(|(key, value)| {
            let size = key.len() + value.len();
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        });
        fitting.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

fn is_tag_path(key: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"+-=.,_:@".contains(&b);
    (1..=128).contains(&key.len()) && key.bytes().all(legal) && ![".", "..", "_index"].contains(&key)
}

impl StockSigners {
    pub(super) fn encode(&self, kind: u8) -> Vec<u8> {
        let each = self.each.iter().take(limits::STOCK_SIGNERS);
        let writer = Writer::new(kind).count(each.len());
        each.fold(writer, |writer, signer| signer.encode(writer)).finish()
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        let count = body.count(limits::STOCK_SIGNERS, "signer count")?;
        let each: Vec<StockSigner> =
            (0..count).map(|_| StockSigner::decode(body)).collect::<Result<_, _>>()?;
        let ascending = each.is_sorted_by(|before, after| before.generation < after.generation);
        if ascending { Ok(Self { each }) } else { Err(FrameError::Malformed("order of signers")) }
    }
}

impl StockSigner {
    fn encode(&self, writer: Writer) -> Writer {
        let staples = self.staples.iter().take(limits::STAPLES);
        let writer = writer
            .u32(self.generation)
            .u8(self.is_revoked.into())
            .text16(self.chain.as_str())
            .count(staples.len());
        staples
            .fold(writer, |writer, staple| writer.array(&staple.name.0).bytes16(staple.response.as_bytes()))
    }

    fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        let generation = body.u32()?;
        let is_revoked = match body.u8()? {
            0 => false,
            1 => true,
            _ => return Err(FrameError::Malformed("revocation")),
        };
        let chain = body.text16("signer chain")?;
        let count = body.count(limits::STAPLES, "staple count")?;
        let staple = |_| {
            let name = StapleName(body.array()?);
            let response = StapleBytes::new(body.bytes16()?).ok_or(FrameError::Malformed("staple"))?;
            Ok(Staple { name, response })
        };
        Ok(Self { generation, is_revoked, chain, staples: (0..count).map(staple).collect::<Result<_, _>>()? })
    }
}

impl Twin {
    pub(super) fn encode_all(twins: &[Self], writer: Writer) -> Writer {
        let twins = twins.iter().take(limits::STOCK_SIGNERS);
        let writer = writer.count(twins.len());
        twins.fold(writer, |writer, twin| writer.u32(twin.generation).array(&twin.signature))
    }

    pub(super) fn decode_all(body: &mut Reader<'_>) -> Result<Vec<Self>, FrameError> {
        let count = body.count(limits::STOCK_SIGNERS, "signature count")?;
        let twin = |_| Ok(Self { generation: body.u32()?, signature: Box::new(body.array()?) });
        (0..count).map(twin).collect()
    }
}

impl InstanceFacts {
    pub(super) fn encode(&self, kind: u8) -> Vec<u8> {
        let tags = Self::fitting_tags(&self.tags);
        let writer = Writer::new(kind)
            .text8(self.instance.as_str())
            .text8(self.account.as_str())
            .text8(self.region.as_str())
            .text8(self.availability_zone.as_str())
            .text8(self.domain.as_str())
            .count(tags.len());
        tags.iter().fold(writer, |writer, (key, value)| writer.text8(key).text16(value)).finish()
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        let mut facts = Self {
            instance: body.text8("instance id")?,
            account: body.text8("account id")?,
            region: body.text8("region")?,
            availability_zone: body.text8("availability zone")?,
            domain: body.text8("domain")?,
            tags: BTreeMap::new(),
        };
        let count = body.count(limits::TAGS, "tag count")?;
        for _ in 0..count {
            let (key, value) = (body.text8::<String>("tag key")?, body.text16("tag value")?);
            if facts.tags.last_key_value().is_some_and(|(before, _)| *before >= key) {
                return Err(FrameError::Malformed("order of tags"));
            }
            facts.tags.insert(key, value);
        }
        let fit = Self::fitting_tags(&facts.tags).len() == count;
        if fit { Ok(facts) } else { Err(FrameError::Malformed("tags")) }
    }
}
