//! The answers, as EC2 and STS write them (wire.md 9.4). Elements stand in the order of EC2's own.

use super::describe::{
    DescribedRegion, HYPERVISOR, MONITORING, OPT_IN_STATUS, PLATFORM_DETAILS, RESOURCE_TYPE, TENANCY,
    TaggedResource, attachment_id, has_network, hypervisor, is_bare_metal, launch_time, network_interface_id,
    private_dns_name, reservation_id, subnet_id, vpc_id,
};
use super::{Operation, Service, Xml};
use crate::host_facts::{Addresses, Architecture};
use crate::ids::{ImageId, InstanceId, InstanceType, RequestId};
use crate::inventory::{Instance, InstanceDetails, InstanceState, Inventory, User, UserKind};
use std::sync::Arc;

/// An answer of EC2: the operation's name with `Response` behind it, and the request's id before all else.
fn ec2(operation: Operation, request: &RequestId, inside: impl FnOnce(&mut Xml)) -> String {
    let root = format!("{}Response", operation.name());
    Xml::document(&root, Some(Service::Ec2.namespace()), |xml| {
        xml.text("requestId", request.as_str());
        inside(xml);
    })
}

/// Who calls.
pub fn caller_identity(user: &User, request: &RequestId) -> String {
    Xml::document("GetCallerIdentityResponse", Some(Service::Sts.namespace()), |xml| {
        xml.element("GetCallerIdentityResult", |xml| {
            let id = match user.kind {
                UserKind::Root => user.account.as_str(),
                UserKind::IamUser => user.id.as_str(),
            };
            xml.text("Arn", &user.arn());
            xml.text("UserId", id);
            xml.text("Account", user.account.as_str());
        });
        xml.element("ResponseMetadata", |xml| xml.text("RequestId", request.as_str()));
    })
}

/// That it was done, and no more.
pub fn done(operation: Operation, request: &RequestId) -> String {
    ec2(operation, request, |xml| xml.text("return", "true"))
}

/// Whether the serial console is switched on.
pub fn serial_console_access(operation: Operation, enabled: bool, request: &RequestId) -> String {
    ec2(operation, request, |xml| {
        xml.text("serialConsoleAccessEnabled", boolean(enabled));
        if operation == Operation::GetSerialConsoleAccessStatus {
            xml.text("managedBy", "account");
        }
    })
}

/// The states that instances were in, and are in now.
pub fn state_changes(
    operation: Operation,
    changes: &[(InstanceId, InstanceState, InstanceState)],
    request: &RequestId,
) -> String {
    ec2(operation, request, |xml| {
        xml.element("instancesSet", |xml| {
            for (id, before, now) in changes {
                xml.element("item", |xml| {
                    xml.text("instanceId", id.as_str());
                    state(xml, "currentState", *now);
                    state(xml, "previousState", *before);
                });
            }
        });
    })
}

/// Tags, and what has them.
pub fn tags(tags: &[TaggedResource<'_>], next: Option<&str>, request: &RequestId) -> String {
    ec2(Operation::DescribeTags, request, |xml| {
        xml.element("tagSet", |xml| {
            for TaggedResource { instance, key, value } in tags {
                xml.element("item", |xml| {
                    xml.text("resourceId", instance.as_str());
                    xml.text("resourceType", RESOURCE_TYPE);
                    xml.text("key", key);
                    xml.text("value", value);
                });
            }
        });
        xml.optional("nextToken", next);
    })
}

/// Instance types.
pub fn instance_types(types: &[InstanceType], next: Option<&str>, request: &RequestId) -> String {
    ec2(Operation::DescribeInstanceTypes, request, |xml| {
        xml.element("instanceTypeSet", |xml| {
            for of in types {
                xml.element("item", |xml| {
                    xml.text("instanceType", of.as_str());
                    xml.text("bareMetal", boolean(is_bare_metal(of)));
                    xml.optional("hypervisor", hypervisor(of));
                });
            }
        });
        xml.optional("nextToken", next);
    })
}

/// Regions: the one there is, or none.
pub fn regions(region: Option<DescribedRegion<'_>>, request: &RequestId) -> String {
    ec2(Operation::DescribeRegions, request, |xml| {
        xml.element("regionInfo", |xml| {
            if let Some(DescribedRegion { region, endpoint }) = region {
                xml.element("item", |xml| {
                    xml.text("regionName", region.as_str());
                    xml.text("regionEndpoint", endpoint);
                    xml.text("optInStatus", OPT_IN_STATUS);
                });
            }
        });
    })
}

/// Instances, each in a reservation of its own.
pub fn instances(
    inventory: &Inventory,
    instances: &[&Arc<Instance>],
    next: Option<&str>,
    request: &RequestId,
) -> String {
    ec2(Operation::DescribeInstances, request, |xml| {
        xml.element("reservationSet", |xml| {
            for instance in instances {
                xml.element("item", |xml| {
                    xml.text("reservationId", &reservation_id(instance));
                    xml.text("ownerId", instance.account.as_str());
                    xml.empty("groupSet");
                    xml.element("instancesSet", |xml| {
                        xml.element("item", |xml| self::instance(xml, inventory, instance));
                    });
                });
            }
        });
        xml.optional("nextToken", next);
    })
}

fn instance(xml: &mut Xml, inventory: &Inventory, instance: &Instance) {
    let InstanceDetails { instance_type, image_id, .. } = &instance.details;
    let network = Network::of(inventory, instance);
    xml.text("instanceId", instance.id.as_str());
    xml.optional("imageId", image_id.as_ref().map(ImageId::as_str));
    state(xml, "instanceState", instance.state);
    let private_dns_name = network.as_ref().and_then(|network| network.private_dns_name.as_deref());
    xml.text("privateDnsName", private_dns_name.unwrap_or_default());
    // No name in the DNS leads to it, so none is said: EC2 leaves it empty, too.
    xml.empty("dnsName");
    xml.empty("reason");
    xml.text("amiLaunchIndex", "0");
    xml.empty("productCodes");
    xml.optional("instanceType", instance_type.as_ref().map(InstanceType::as_str));
    xml.text("launchTime", &launch_time(instance.launched_at));
    xml.element("placement", |xml| {
        xml.text("availabilityZone", instance.availability_zone.as_str());
        xml.empty("groupName");
        xml.text("tenancy", TENANCY);
    });
    xml.element("monitoring", |xml| xml.text("state", MONITORING));
    if let Some(Network { subnet, vpc, private_ip, public_ip, ipv6, .. }) = &network {
        xml.text("subnetId", subnet);
        xml.text("vpcId", vpc);
        xml.optional("privateIpAddress", private_ip.as_deref());
        xml.optional("ipAddress", public_ip.as_deref());
        xml.optional("ipv6Address", ipv6.as_deref());
    }
    xml.empty("groupSet");
    xml.optional("architecture", inventory.architecture(instance).map(Architecture::as_str));
    xml.empty("blockDeviceMapping");
    xml.text("hypervisor", HYPERVISOR);
    match &network {
        Some(network) => xml.element("networkInterfaceSet", |xml| {
            xml.element("item", |xml| network_interface(xml, instance, network));
        }),
        None => xml.empty("networkInterfaceSet"),
    }
    xml.element("tagSet", |xml| {
        for (key, value) in &instance.tags {
            xml.element("item", |xml| {
                xml.text("key", key);
                xml.text("value", value);
            });
        }
    });
    xml.text("platformDetails", PLATFORM_DETAILS);
}

/// Where an instance is in its network, as texts: it says so itself, and so does its interface.
struct Network {
    subnet: String,
    vpc: String,
    private_ip: Option<String>,
    private_dns_name: Option<String>,
    public_ip: Option<String>,
    ipv6: Option<String>,
}

impl Network {
    /// `None` for one that is gone for good.
    fn of(inventory: &Inventory, instance: &Instance) -> Option<Self> {
        let Addresses { private_ip, public_ip, ipv6 } = inventory.addresses(instance);
        has_network(instance).then(|| Self {
            subnet: subnet_id(instance),
            vpc: vpc_id(instance),
            private_ip: private_ip.map(|ip| ip.to_string()),
            private_dns_name: private_ip.map(|ip| private_dns_name(instance, ip)),
            public_ip: public_ip.map(|ip| ip.to_string()),
            ipv6: ipv6.map(|ip| ip.to_string()),
        })
    }
}

/// The one interface of an instance. Clients take for granted that it has an attachment, and look for the first of its
/// addresses.
fn network_interface(xml: &mut Xml, instance: &Instance, network: &Network) {
    let Network { subnet, vpc, private_ip, private_dns_name, public_ip, ipv6 } = network;
    let association = |xml: &mut Xml| {
        if let Some(public_ip) = public_ip {
            xml.element("association", |xml| {
                xml.text("publicIp", public_ip);
                xml.empty("publicDnsName");
            });
        }
    };
    xml.text("networkInterfaceId", &network_interface_id(instance));
    xml.text("subnetId", subnet);
    xml.text("vpcId", vpc);
    xml.empty("description");
    xml.text("ownerId", instance.account.as_str());
    xml.text("status", "in-use");
    xml.optional("privateIpAddress", private_ip.as_deref());
    xml.optional("privateDnsName", private_dns_name.as_deref());
    xml.empty("groupSet");
    xml.element("attachment", |xml| {
        xml.text("attachmentId", &attachment_id(instance));
        xml.text("deviceIndex", "0");
        xml.text("status", "attached");
        xml.text("attachTime", &launch_time(instance.launched_at));
    });
    association(xml);
    xml.element("privateIpAddressesSet", |xml| {
        if let Some(private_ip) = private_ip {
            xml.element("item", |xml| {
                xml.text("privateIpAddress", private_ip);
                xml.optional("privateDnsName", private_dns_name.as_deref());
                xml.text("primary", "true");
                association(xml);
            });
        }
    });
    xml.element("ipv6AddressesSet", |xml| {
        if let Some(ipv6) = ipv6 {
            xml.element("item", |xml| xml.text("ipv6Address", ipv6));
        }
    });
    xml.text("interfaceType", "interface");
}

fn state(xml: &mut Xml, name: &str, state: InstanceState) {
    xml.element(name, |xml| {
        xml.text("code", &state.code().to_string());
        xml.text("name", state.as_str());
    });
}

const fn boolean(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}
