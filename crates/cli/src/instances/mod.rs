//! `instances`: the instances that one may see, as EC2's `DescribeInstances` describes them; and `ansible-inventory`, the same for Ansible.

mod ansible;
pub(crate) mod arguments;
mod pages;

pub(crate) use ansible::run as ansible_inventory;
pub(crate) use pages::Pages;

use crate::administration::show::{aligned, json};
use crate::arguments::{ListFormat, ServiceOptions};
use crate::failure::Failure;
use crate::{output, progress, service};
use arguments::InstancesOptions;
use instance_connect_client::Ec2Instance;
use instance_connect_core::printable::printable;
use serde_json::{Map, Value, json};

/// What a column is called, and what is in it.
type Column = (&'static str, fn(&Ec2Instance) -> Option<&str>);

/// What is waited for while pages are read: said once for all of them, not for each.
const LIST: &str = "the list of instances";

/// Scripts count them: new ones come behind.
const COLUMNS: [Column; 8] = [
    ("INSTANCE", |instance| Some(&instance.instance_id)),
    ("NAME", |instance| instance.tag("Name")),
    ("STATE", |instance| instance.state.as_deref()),
    ("ZONE", |instance| instance.availability_zone.as_deref()),
    ("TYPE", |instance| instance.instance_type.as_deref()),
    ("PRIVATE IP", |instance| instance.private_ip_address.as_deref()),
    ("PUBLIC IP", |instance| instance.public_ip_address.as_deref()),
    ("IPV6", |instance| instance.ipv6_address.as_deref()),
];

pub(crate) async fn run(service: &ServiceOptions, options: &InstancesOptions) -> Result<u8, Failure> {
    let request = options.request()?;
    let client = service::client(service, service::ready_file(service)?.as_mut())?;
    progress::step(LIST, print(Pages::new(&client, request), options.output)).await
}

async fn print(mut pages: Pages<'_>, format: ListFormat) -> Result<u8, Failure> {
    match format {
        // A page at a time: there may be a million.
        ListFormat::Text => {
            while let Some(page) = pages.next().await? {
                for instance in &page {
                    if !output::part(&cells(instance).join("\t"))? {
                        return Ok(0);
                    }
                }
                if !page.is_empty() {
                    pages.begin_again();
                }
            }
        }
        ListFormat::Table => {
            let header = COLUMNS.map(|(name, _)| name.to_owned()).to_vec();
            let instances = pages.all().await?;
            let lines: Vec<_> = std::iter::once(header).chain(instances.iter().map(cells)).collect();
            output::result(&aligned(&lines))?;
        }
        ListFormat::Json => {
            let instances: Vec<_> = pages.all().await?.iter().map(members).collect();
            output::result(&json(&json!({ "Instances": instances }))?)?;
        }
    }
    Ok(0)
}

fn cells(instance: &Ec2Instance) -> Vec<String> {
    let cell =
        |text: Option<&str>| text.filter(|text| !text.is_empty()).map_or_else(|| "-".to_owned(), printable);
    COLUMNS.iter().map(|(_, of)| cell(of(instance))).collect()
}

/// What is known of an instance, under EC2's names for it but for its tags.
fn known(instance: &Ec2Instance) -> Map<String, Value> {
    let member = |name: &str, value: &Option<String>| Some((name.to_owned(), value.clone()?.into()));
    let nested = |name: &str, inner: &str, value: &Option<String>| {
        Some((name.to_owned(), json!({ inner: value.as_ref()? })))
    };
    let members = [
        Some(("InstanceId".to_owned(), instance.instance_id.clone().into())),
        nested("State", "Name", &instance.state),
        member("InstanceType", &instance.instance_type),
        member("ImageId", &instance.image_id),
        nested("Placement", "AvailabilityZone", &instance.availability_zone),
        member("PrivateIpAddress", &instance.private_ip_address),
        member("PublicIpAddress", &instance.public_ip_address),
        member("Ipv6Address", &instance.ipv6_address),
        member("PrivateDnsName", &instance.private_dns_name),
        member("PublicDnsName", &instance.public_dns_name),
        member("VpcId", &instance.vpc_id),
        member("SubnetId", &instance.subnet_id),
        member("Platform", &instance.platform),
        member("LaunchTime", &instance.launch_time),
    ];
    members.into_iter().flatten().collect()
}

/// An instance as the AWS CLI prints it.
fn members(instance: &Ec2Instance) -> Map<String, Value> {
    let mut members = known(instance);
    let tags = instance.tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value }));
    members.insert("Tags".to_owned(), tags.collect());
    members
}
