//! What there is to read (wire.md 3.1). A directory lists what can be read below it, and one without anything is not there.

use super::View;
use crate::link::{InstanceFacts, StapleName};
use crate::stock::Signer;
use instance_connect_document::{BootInstant, Offer, base64_encode};

/// The metadata of one instance, for a reader of one generation.
pub(super) struct Tree<'a> {
    pub(super) view: &'a View<'a>,
    /// Whose chain and documents are shown.
    pub(super) signer: Option<&'a Signer>,
    pub(super) now: BootInstant,
}

/// A value or a listing.
pub(super) struct Found {
    pub(super) body: String,
    pub(super) offers: Vec<Offer>,
}

impl Tree<'_> {
    pub(super) fn find(&self, path: &[&str]) -> Option<Found> {
        match path {
            [] => self.directory(path, &["latest"]),
            ["latest"] => self.directory(path, &["dynamic", "meta-data"]),
            ["latest", "dynamic"] => self.directory(path, &["instance-identity/"]),
            ["latest", "dynamic", "instance-identity"] => self.directory(path, &["document"]),
            ["latest", "dynamic", "instance-identity", "document"] => self.identity_document(),
            ["latest", "meta-data", below @ ..] => self.meta_data(path, below),
            _ => None,
        }
    }

    fn meta_data(&self, path: &[&str], below: &[&str]) -> Option<Found> {
        const HERE: [&str; 7] = [
            "instance-id",
            "local-hostname",
            "local-ipv4",
            "managed-ssh-keys/",
            "placement/",
            "services/",
            "tags/",
        ];
        match below {
            [] => self.directory(path, &HERE),
            ["instance-id"] => value(self.view.instance),
            ["local-hostname"] => value(self.view.hostname?),
            ["local-ipv4"] => value(&self.view.local_ipv4?),
            ["managed-ssh-keys", below @ ..] => self.managed_ssh_keys(path, below),
            ["placement"] => self.directory(path, &["availability-zone", "region"]),
            ["placement", "availability-zone"] => value(&self.facts()?.availability_zone),
            ["placement", "region"] => value(&self.facts()?.region),
            ["services"] => self.directory(path, &["domain", "partition"]),
            ["services", "domain"] => value(&self.facts()?.domain),
            ["services", "partition"] => value(partition(self.facts()?.region.as_str())),
            ["tags"] => self.directory(path, &["instance/"]),
            ["tags", "instance"] => lines(self.tags()?.tags.keys()),
            ["tags", "instance", key] => value(self.tags()?.tags.get(*key)?),
            _ => None,
        }
    }

    fn managed_ssh_keys(&self, path: &[&str], below: &[&str]) -> Option<Found> {
        let Signer { announced, .. } = self.signer?;
        let stock = self.view.stock;
        match below {
            [] => self.directory(path, &["active-keys/", "signer-cert", "signer-ocsp/"]),
            ["active-keys"] => lines(stock.users(announced.generation, self.now)),
            ["active-keys", user] => {
                let keys = stock.document(&user.parse().ok()?, announced.generation, self.now)?;
                Some(Found { body: keys.text, offers: keys.offers })
            }
            ["signer-cert"] => value(announced.chain.as_str().trim_end()),
            ["signer-ocsp"] => lines(announced.staples.iter().map(|staple| staple.name)),
            ["signer-ocsp", name] => {
                let is_named = |staple_name: StapleName| staple_name.to_string() == *name;
                let staple = announced.staples.iter().find(|staple| is_named(staple.name))?;
                value(&base64_encode(staple.response.as_bytes()))
            }
            _ => None,
        }
    }

    /// The lay-out is EC2's (wire.md 3.1). No value can hold what JSON would have to escape.
    fn identity_document(&self) -> Option<Found> {
        let InstanceFacts { instance, account, region, availability_zone, .. } = self.facts()?;
        let private_ip = self.view.local_ipv4.map_or_else(|| "null".to_owned(), |ip| format!("\"{ip}\""));
        value(&format!(
            "{{\n  \"accountId\" : \"{account}\",\n  \"architecture\" : null,\n  \
             \"availabilityZone\" : \"{availability_zone}\",\n  \"billingProducts\" : null,\n  \
             \"devpayProductCodes\" : null,\n  \"marketplaceProductCodes\" : null,\n  \"imageId\" : null,\n  \
             \"instanceId\" : \"{instance}\",\n  \"instanceType\" : null,\n  \"kernelId\" : null,\n  \
             \"pendingTime\" : null,\n  \"privateIp\" : {private_ip},\n  \"ramdiskId\" : null,\n  \
             \"region\" : \"{region}\",\n  \"version\" : \"2017-09-30\"\n}}"
        ))
    }

    fn facts(&self) -> Option<&InstanceFacts> {
        self.view.facts.filter(|facts| facts.instance == *self.view.instance)
    }

    fn tags(&self) -> Option<&InstanceFacts> {
        self.facts().filter(|_| self.view.shows_tags)
    }

    /// Those of `names` that are there.
    fn directory(&self, path: &[&str], names: &[&str]) -> Option<Found> {
        let is_there = |name: &&&str| self.find(&[path, &[name.trim_end_matches('/')]].concat()).is_some();
        lines(names.iter().filter(is_there))
    }
}

fn value(text: &(impl ToString + ?Sized)) -> Option<Found> {
    Some(Found { body: text.to_string(), offers: Vec::new() })
}

fn lines<T: ToString>(names: impl IntoIterator<Item = T>) -> Option<Found> {
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    (!names.is_empty()).then(|| Found { body: names.join("\n"), offers: Vec::new() })
}

/// The partition that a region's name begins with; all that are not named so are in `aws`.
fn partition(region: &str) -> &'static str {
    const PARTITIONS: [(&str, &str); 7] = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("us-iso-", "aws-iso"),
        ("us-isob-", "aws-iso-b"),
        ("eu-isoe-", "aws-iso-e"),
        ("us-isof-", "aws-iso-f"),
        ("eusc-", "aws-eusc"),
    ];
    let named = PARTITIONS.iter().find(|(prefix, _)| region.starts_with(prefix));
    named.map_or("aws", |(_, partition)| partition)
}
