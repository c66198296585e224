//! All pages of `DescribeInstances`, one after the other.

use crate::failure::{Exit, Failure};
use instance_connect_client::{Client, DescribeInstances, Ec2Instance};

/// Pages read of which nothing is printed, for EC2 may leave many empty where a filter lets few instances through: two million
/// instances make as many.
const PAGES: usize = 4096;

/// Instances that are held at once.
const GATHERED: usize = 100_000;

/// What they take in memory at most, in bytes: as many with a few tags each take less.
const GATHERED_BYTES: usize = 256 * 1024 * 1024;

/// The pages of a question that are still to come.
pub(crate) struct Pages<'a> {
    client: &'a Client,
    /// What asks for the next one.
    next: Option<DescribeInstances>,
    left: usize,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(client: &'a Client, request: DescribeInstances) -> Self {
        Self { client, next: Some(request), left: PAGES }
    }

    /// The instances of the next page, `None` behind the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Ec2Instance>>, Failure> {
        let Some(request) = self.next.take() else { return Ok(None) };
        let Some(left) = self.left.checked_sub(1) else {
            let message = format!("the service's list of instances does not end: {PAGES} pages are read");
            return Err(Failure::new(Exit::Service, message).hint("name instances by their ids"));
        };
        self.left = left;
        let page = self.client.describe_instances(&request).await?;
        self.next = page.next_token.map(|token| request.next_token(token));
        Ok(Some(page.instances))
    }

    /// Lets as many pages follow as at first: for whoever has done with those that were read, and keeps none.
    pub(crate) fn begin_again(&mut self) {
        self.left = PAGES;
    }

    /// The instances of all pages, if they are not too many.
    pub(crate) async fn all(mut self) -> Result<Vec<Ec2Instance>, Failure> {
        let mut all = Vec::new();
        let mut bytes = 0_usize;
        while let Some(page) = self.next().await? {
            bytes = page.iter().map(size).fold(bytes, usize::saturating_add);
            all.extend(page);
            let too_much = if all.len() > GATHERED {
                format!("{GATHERED} instances")
            } else if bytes > GATHERED_BYTES {
                format!("{} MiB of instances and tags", GATHERED_BYTES / 1024 / 1024)
            } else {
                continue;
            };
            return Err(Failure::new(Exit::Parameter, format!("these are more than {too_much}"))
                .hint("ask for fewer with --filter; `instances --output text` prints any number"));
        }
        Ok(all)
    }
}

/// What an instance takes in memory, in bytes.
fn size(instance: &Ec2Instance) -> usize {
    let texts = [
        &instance.state,
        &instance.instance_type,
        &instance.image_id,
        &instance.availability_zone,
        &instance.private_ip_address,
        &instance.public_ip_address,
        &instance.ipv6_address,
        &instance.private_dns_name,
        &instance.public_dns_name,
        &instance.vpc_id,
        &instance.subnet_id,
        &instance.platform,
        &instance.launch_time,
    ];
    let texts = texts.into_iter().flatten().map(String::len);
    let tags = instance.tags.iter().map(|tag| size_of_val(tag) + tag.0.len() + tag.1.len());
    size_of_val(instance) + instance.instance_id.len() + texts.chain(tags).sum::<usize>()
}
