//! Instances as EC2 describes them.

use super::xml::Element;

/// A page of instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InstancesPage {
    /// The instances, those of all reservations in one list.
    pub instances: Vec<Ec2Instance>,
    /// What asks for the page that follows, if one does.
    pub next_token: Option<String>,
    /// The service's id of the request.
    pub request_id: Option<String>,
}

/// An instance as EC2 describes it. What EC2 does not say is `None`; values are as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ec2Instance {
    /// Such as `i-0123456789abcdef0`.
    pub instance_id: String,
    /// `pending`, `running`, `shutting-down`, `terminated`, `stopping` or `stopped`.
    pub state: Option<String>,
    /// Such as `t3.micro`.
    pub instance_type: Option<String>,
    /// Such as `ami-0123456789abcdef0`.
    pub image_id: Option<String>,
    /// Such as `us-east-1a`.
    pub availability_zone: Option<String>,
    /// The private IPv4 address.
    pub private_ip_address: Option<String>,
    /// The public IPv4 address.
    pub public_ip_address: Option<String>,
    /// The IPv6 address.
    pub ipv6_address: Option<String>,
    /// The private host name.
    pub private_dns_name: Option<String>,
    /// The public host name.
    pub public_dns_name: Option<String>,
    /// The network it is in.
    pub vpc_id: Option<String>,
    /// The subnet it is in.
    pub subnet_id: Option<String>,
    /// `windows`, or nothing.
    pub platform: Option<String>,
    /// When it was last started, such as `2026-03-01T12:34:56.000Z`.
    pub launch_time: Option<String>,
    /// Its tags, keys with values, in the order in which they came.
    pub tags: Vec<(String, String)>,
}

impl Ec2Instance {
    /// The value of a tag.
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

impl InstancesPage {
    pub(super) fn read(root: Element<'_>, request_id: Option<String>) -> Result<Self, String> {
        let reservations = root.list("reservationSet");
        let instances = reservations.flat_map(|reservation| reservation.list("instancesSet"));
        Ok(Self {
            instances: instances.map(Ec2Instance::read).collect::<Result<_, _>>()?,
            next_token: root.text("nextToken"),
            request_id: root.text("requestId").or(request_id),
        })
    }
}

impl Ec2Instance {
    fn read(item: Element<'_>) -> Result<Self, String> {
        let tag = |tag: Element<'_>| Some((tag.text("key")?, tag.text("value").unwrap_or_default()));
        Ok(Self {
            instance_id: item.text("instanceId").ok_or("an instance has no id")?,
            state: item.child("instanceState").and_then(|state| state.text("name")),
            instance_type: item.text("instanceType"),
            image_id: item.text("imageId"),
            availability_zone: item.child("placement").and_then(|place| place.text("availabilityZone")),
            private_ip_address: item.text("privateIpAddress"),
            public_ip_address: item.text("ipAddress"),
            ipv6_address: item.text("ipv6Address"),
            private_dns_name: item.text("privateDnsName"),
            public_dns_name: item.text("dnsName"),
            vpc_id: item.text("vpcId"),
            subnet_id: item.text("subnetId"),
            platform: item.text("platform"),
            launch_time: item.text("launchTime"),
            tags: item.list("tagSet").filter_map(tag).collect(),
        })
    }
}
