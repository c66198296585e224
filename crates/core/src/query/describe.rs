//! What is described: which of an account's instances, instance types and tags are meant.

use super::filter::{Field, Filters};
use super::page::{Page, Steps};
use super::{Parameters, Xml, refused};
use crate::api::{ApiError, QueryErrorCode as Code};
use crate::ids::{AccountId, InstanceId, InstanceType, Region};
use crate::inventory::{Instance, InstanceDetails, InstanceState, Inventory};
use crate::limits;
use crate::sigv4::sha256_hex;
use instance_connect_document::UnixSeconds;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// `DescribeInstances`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeInstances {
    /// Those with these ids; all where there are none.
    pub(super) instances: Vec<InstanceId>,
    pub(super) filters: Filters<InstanceField>,
    page: Page,
}

/// `DescribeInstanceTypes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeInstanceTypes {
    /// These; all that the account's instances have where there are none.
    pub(super) types: Vec<InstanceType>,
    pub(super) filters: Filters<TypeField>,
    page: Page,
}

/// `DescribeTags`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeTags {
    pub(super) filters: Filters<TagField>,
    page: Page,
}

/// `DescribeRegions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeRegions {
    /// Those with these names; all where there are none.
    pub(super) names: Vec<String>,
    pub(super) filters: Filters<RegionField>,
}

/// A region and where it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescribedRegion<'r> {
    /// The region.
    pub region: &'r Region,
    /// Host and port, [`limits::HOST`] characters at most.
    pub endpoint: &'r str,
}

/// A tag and what has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaggedResource<'i> {
    /// The instance.
    pub instance: &'i InstanceId,
    /// The tag's key.
    pub key: &'i str,
    /// Its value.
    pub value: &'i str,
}

impl DescribeInstances {
    pub(super) fn read(parameters: &mut Parameters) -> Result<Self, ApiError> {
        let instances = instance_ids(parameters.list("InstanceId"))?;
        if !instances.is_empty() {
            Page::refuse_with(parameters, "instancesSet")?;
        }
        let filters = Filters::read(parameters)?;
        let named: Vec<&str> = instances.iter().map(InstanceId::as_str).collect();
        let asked = format!("DescribeInstances {named:?} {}", filters.recorded());
        let page = Page::read(parameters, limits::DESCRIBED, &asked)?;
        Ok(Self { instances, filters, page })
    }

    /// The instances that are meant, in the order of their ids, and the token of the next part.
    ///
    /// # Errors
    /// [`Code::InvalidInstanceIdNotFound`] for ids that the account does not have.
    pub fn find<'i>(
        &self,
        inventory: &'i Inventory,
        account: &AccountId,
        region: &Region,
    ) -> Result<(Vec<&'i Arc<Instance>>, Option<String>), ApiError> {
        let named: BTreeSet<&InstanceId> = self.instances.iter().collect();
        find(inventory, account, region, &self.instances)?;
        let named = named.into_iter().filter_map(|id| inventory.instances.get(id));
        let own = self.instances.is_empty().then(|| own(inventory, account, region, &self.page));
        let things = named.chain(own.into_iter().flatten());
        let fits = |instance: &Arc<Instance>, steps: &mut Steps| {
            let described = Described::of(inventory, instance);
            self.filters.fit(steps, |field| field.values(&described))
        };
        Ok(self.page.take(things, fits, |instance| instance.id.as_str().to_owned(), |it| length(it)))
    }
}

impl DescribeInstanceTypes {
    pub(super) fn read(parameters: &mut Parameters) -> Result<Self, ApiError> {
        let named = parameters.list("InstanceType");
        if !named.is_empty() {
            Page::refuse_with(parameters, "instanceTypeSet")?;
        }
        if named.len() > *limits::DESCRIBED_TYPES.end() {
            let message =
                format!("There may be {} instance types in a request.", limits::DESCRIBED_TYPES.end());
            return Err(refused(Code::InvalidParameterValue, message));
        }
        let parse = |text: &String| {
            text.parse().map_err(|_| {
                let text: String = text.chars().take(limits::QUERY_NAME).collect();
                let message = format!("The following supplied instance types do not exist: [{text}]");
                refused(Code::InvalidInstanceType, message)
            })
        };
        let types = named.iter().map(parse).collect::<Result<_, _>>()?;
        let filters = Filters::read(parameters)?;
        let asked = format!("DescribeInstanceTypes {types:?} {}", filters.recorded());
        let page = Page::read(parameters, limits::DESCRIBED_TYPES, &asked)?;
        Ok(Self { types, filters, page })
    }

    /// The types that are meant, in order, and the token of the next part. Any name of the form of a type is one: which
    /// there are is up to those who name their machines. Where none are named, they are those of the account's first 62,500
    /// instances: types have an order of their own, so each part of the list has to look at all instances.
    pub fn find(
        &self,
        inventory: &Inventory,
        account: &AccountId,
        region: &Region,
    ) -> (Vec<InstanceType>, Option<String>) {
        let types: BTreeSet<&InstanceType> = if self.types.is_empty() {
            let own = inventory.instances_from(account, "").take(LOOKED_AT).filter(|it| it.region == *region);
            own.filter_map(|it| it.details.instance_type.as_ref()).collect()
        } else {
            self.types.iter().collect()
        };
        let fits = |of: &InstanceType, steps: &mut Steps| self.filters.fit(steps, |field| field.values(of));
        let types = types.into_iter();
        let (types, next) = self.page.take(types, fits, |of| of.as_str().to_owned(), |of| of.as_str().len());
        (types.into_iter().cloned().collect(), next)
    }
}

impl DescribeTags {
    pub(super) fn read(parameters: &mut Parameters) -> Result<Self, ApiError> {
        let filters = Filters::read(parameters)?;
        let asked = format!("DescribeTags {}", filters.recorded());
        let page = Page::read(parameters, limits::DESCRIBED, &asked)?;
        Ok(Self { filters, page })
    }

    /// The tags that are meant, in the order of their instances' ids and their keys, and the token of the next part.
    pub fn find<'i>(
        &self,
        inventory: &'i Inventory,
        account: &AccountId,
        region: &Region,
    ) -> (Vec<TaggedResource<'i>>, Option<String>) {
        let tags = own(inventory, account, region, &self.page).flat_map(|instance| {
            let of_it = instance.tags.iter();
            of_it.map(|(key, value)| TaggedResource { instance: &instance.id, key, value })
        });
        let fits =
            |tag: TaggedResource<'_>, steps: &mut Steps| self.filters.fit(steps, |field| field.values(&tag));
        let position = |tag: TaggedResource<'_>| format!("{}/{}", tag.instance, tag.key);
        self.page.take(tags, fits, position, |tag| TAG_BYTES + Xml::length(tag.key) + Xml::length(tag.value))
    }
}

impl DescribeRegions {
    pub(super) fn read(parameters: &mut Parameters) -> Result<Self, ApiError> {
        let names = parameters.list("RegionName");
        let filters = Filters::read(parameters)?;
        // There is none but this one, so there are none that are not opted into.
        parameters.flag("AllRegions")?;
        Ok(Self { names, filters })
    }

    /// The one region, if it is meant. A control plane is reached by whatever names its operator has given it, and does
    /// not know them: `endpoint` is the `Host` that the caller has signed, which has just led here.
    ///
    /// # Errors
    /// [`Code::InvalidParameterValue`] for the name of another region.
    pub fn find<'r>(
        &self,
        region: &'r Region,
        endpoint: &'r str,
    ) -> Result<Option<DescribedRegion<'r>>, ApiError> {
        if let Some(other) = self.names.iter().find(|name| *name != region.as_str()) {
            let other: String = other.chars().take(limits::QUERY_NAME).collect();
            return Err(refused(Code::InvalidParameterValue, format!("Invalid region: [{other}]")));
        }
        let described = DescribedRegion { region, endpoint };
        let fits = self.filters.fit(&mut Steps::default(), |field| field.values(described));
        Ok(fits.then_some(described))
    }
}

/// The account's instances in this region, from the one on that the page before ended with.
fn own<'i, 'a>(
    inventory: &'i Inventory,
    account: &'a AccountId,
    region: &'a Region,
    page: &'a Page,
) -> impl Iterator<Item = &'i Arc<Instance>> + use<'i, 'a> {
    // Where the part is one of tags, a key stands behind the id.
    let first = page.start().split('/').next().unwrap_or_default();
    inventory.instances_from(account, first).filter(move |it| it.region == *region)
}

/// Instances that one answer looks at: as many as its steps allow.
const LOOKED_AT: usize = limits::DESCRIBED_STEPS / limits::DESCRIBED_THING;

/// About how long an instance without tags is in an answer, and a tag without its texts, in bytes.
const INSTANCE_BYTES: usize = 2048;
const TAG_BYTES: usize = 128;

/// About how long an instance is in an answer, in bytes.
fn length(instance: &Instance) -> usize {
    let tags = instance.tags.iter();
    let tags = tags.map(|(key, value)| TAG_BYTES + Xml::length(key) + Xml::length(value));
    INSTANCE_BYTES + tags.sum::<usize>()
}

/// The instances with these ids, if the account has them all.
///
/// # Errors
/// [`Code::InvalidInstanceIdNotFound`], which is the same for those that are another account's and those that are nobody's.
pub(crate) fn find<'i>(
    inventory: &'i Inventory,
    account: &AccountId,
    region: &Region,
    ids: &[InstanceId],
) -> Result<Vec<&'i Arc<Instance>>, ApiError> {
    let is_own = |it: &&Arc<Instance>| it.account == *account && it.region == *region;
    let find = |id| inventory.instances.get(id).filter(is_own);
    let missing: Vec<&str> = ids.iter().filter(|id| find(id).is_none()).map(InstanceId::as_str).collect();
    match missing.as_slice() {
        [] => Ok(ids.iter().filter_map(find).collect()),
        [id] => {
            Err(refused(Code::InvalidInstanceIdNotFound, format!("The instance ID '{id}' does not exist")))
        }
        ids => Err(refused(
            Code::InvalidInstanceIdNotFound,
            format!("The instance IDs '{}' do not exist", ids.join(", ")),
        )),
    }
}

/// Reads the ids of instances.
pub(super) fn instance_ids(texts: Vec<String>) -> Result<Vec<InstanceId>, ApiError> {
    if texts.len() > *limits::DESCRIBED.end() {
        let message = format!("There may be {} ids in a request.", limits::DESCRIBED.end());
        return Err(refused(Code::InvalidParameterValue, message));
    }
    let parse = |text: String| {
        text.parse().map_err(|_| {
            let text: String = text.chars().take(limits::QUERY_NAME).collect();
            refused(Code::InvalidInstanceIdMalformed, format!("Invalid id: \"{text}\""))
        })
    };
    texts.into_iter().map(parse).collect()
}

/// Makes an enum of the fields that filters look at by their names alone, and of tags, which they name.
macro_rules! fields {
    ($(#[$doc:meta])* $type:ident { $($($name:literal)|+ => $field:ident,)* } $($tag:ident)?) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(super) enum $type {
            $($field,)*
            $(
                /// The tag with this key.
                $tag(String),
            )?
        }

        impl Field for $type {
            fn parse(name: &str) -> Option<Self> {
                match name {
                    $($($name)|+ => Some(Self::$field),)*
                    _ => {
                        $(if let Some(key) = name.strip_prefix("tag:").filter(|key| !key.is_empty()) {
                            return Some(Self::$tag(key.to_owned()));
                        })?
                        None
                    }
                }
            }
        }
    };
}

fields! {
    /// What of an instance a filter looks at. An instance has one network interface, and what is said of that is said of it.
    InstanceField {
        "architecture" => Architecture,
        "availability-zone" | "network-interface.availability-zone" => AvailabilityZone,
        "hypervisor" => Hypervisor,
        "image-id" => ImageId,
        "instance-id" | "network-interface.attachment.instance-id" => InstanceId,
        "instance-state-code" => StateCode,
        "instance-state-name" => StateName,
        "instance-type" => InstanceType,
        "ip-address"
            | "network-interface.addresses.association.public-ip"
            | "network-interface.association.public-ip" => PublicIp,
        "ipv6-address" | "network-interface.ipv6-address" | "network-interface.ipv6-addresses.ipv6-address" => Ipv6,
        "launch-time" => LaunchTime,
        "monitoring-state" => MonitoringState,
        "network-interface.network-interface-id" => NetworkInterfaceId,
        "owner-id" | "network-interface.owner-id" => OwnerId,
        "platform-details" => PlatformDetails,
        "private-dns-name"
            | "network-interface.addresses.private-dns-name"
            | "network-interface.private-dns-name" => PrivateDnsName,
        "private-ip-address"
            | "network-interface.addresses.private-ip-address"
            | "network-interface.private-ip-address" => PrivateIp,
        "reservation-id" => ReservationId,
        "subnet-id" | "network-interface.subnet-id" => SubnetId,
        "tag-key" => TagKey,
        "tenancy" => Tenancy,
        "vpc-id" | "network-interface.vpc-id" => VpcId,
        // What EC2 says of its instances, and nobody of these. `platform` is said there of Windows alone.
        "block-device-mapping.volume-id"
            | "client-token"
            | "dns-name"
            | "host-id"
            | "iam-instance-profile.arn"
            | "iam-instance-profile.id"
            | "instance-lifecycle"
            | "instance.group-id"
            | "instance.group-name"
            | "kernel-id"
            | "key-name"
            | "network-interface.group-id"
            | "network-interface.group-name"
            | "network-interface.mac-address"
            | "placement-group-name"
            | "platform"
            | "product-code"
            | "ramdisk-id"
            | "requester-id"
            | "root-device-name"
            | "root-device-type"
            | "spot-instance-request-id"
            | "virtualization-type" => Unsaid,
    } Tag
}

fields! {
    /// What of an instance type a filter looks at.
    TypeField {
        "bare-metal" => BareMetal,
        "hypervisor" => Hypervisor,
        "instance-type" => InstanceType,
    }
}

fields! {
    /// What of a region a filter looks at.
    RegionField {
        "endpoint" => Endpoint,
        "opt-in-status" => OptInStatus,
        "region-name" => RegionName,
    }
}

fields! {
    /// What of a tag a filter looks at.
    TagField {
        "key" => Key,
        "resource-id" => ResourceId,
        "resource-type" => ResourceType,
        "value" => Value,
    } Tag
}

/// An instance with what is derived of it: made once, when a filter asks for it.
struct Described<'i> {
    instance: &'i Instance,
    inventory: &'i Inventory,
    launch_time: OnceCell<String>,
    network_interface: OnceCell<String>,
    reservation: OnceCell<String>,
    subnet: OnceCell<String>,
    vpc: OnceCell<String>,
}

impl<'i> Described<'i> {
    const fn of(inventory: &'i Inventory, instance: &'i Instance) -> Self {
        Self {
            instance,
            inventory,
            launch_time: OnceCell::new(),
            network_interface: OnceCell::new(),
            reservation: OnceCell::new(),
            subnet: OnceCell::new(),
            vpc: OnceCell::new(),
        }
    }
}

impl InstanceField {
    fn values<'d>(&self, described: &'d Described<'_>) -> Vec<Cow<'d, str>> {
        let Described { instance, inventory, launch_time: time, network_interface, reservation, subnet, vpc } =
            described;
        let Instance { id, account, availability_zone, state, tags, details, launched_at, .. } = instance;
        let InstanceDetails { instance_type, image_id, .. } = details;
        let addresses = || inventory.addresses(instance);
        fn shown<'d>(value: Option<impl ToString>) -> Option<Cow<'d, str>> {
            value.map(|value| Cow::Owned(value.to_string()))
        }
        let value: Option<Cow<'d, str>> = match self {
            Self::Architecture => inventory.architecture(instance).map(|it| it.as_str().into()),
            Self::AvailabilityZone => Some(availability_zone.as_str().into()),
            Self::Hypervisor => Some(HYPERVISOR.into()),
            Self::ImageId => shown(image_id.as_ref()),
            Self::InstanceId => Some(id.as_str().into()),
            Self::StateCode => shown(Some(state.code())),
            Self::StateName => Some(state.as_str().into()),
            Self::InstanceType => shown(instance_type.as_ref()),
            Self::PublicIp => shown(addresses().public_ip),
            Self::Ipv6 => shown(addresses().ipv6),
            Self::LaunchTime => Some(time.get_or_init(|| launch_time(*launched_at)).into()),
            Self::MonitoringState => Some(MONITORING.into()),
            Self::NetworkInterfaceId | Self::SubnetId | Self::VpcId if !has_network(instance) => None,
            Self::NetworkInterfaceId => {
                Some(network_interface.get_or_init(|| network_interface_id(instance)).into())
            }
            Self::OwnerId => Some(account.as_str().into()),
            Self::PlatformDetails => Some(PLATFORM_DETAILS.into()),
            Self::PrivateDnsName => shown(addresses().private_ip.map(|ip| private_dns_name(instance, ip))),
            Self::PrivateIp => shown(addresses().private_ip),
            Self::ReservationId => Some(reservation.get_or_init(|| reservation_id(instance)).into()),
            Self::Tenancy => Some(TENANCY.into()),
            Self::Unsaid => None,
            Self::SubnetId => Some(subnet.get_or_init(|| subnet_id(instance)).into()),
            Self::VpcId => Some(vpc.get_or_init(|| vpc_id(instance)).into()),
            Self::TagKey => return tags.keys().map(|key| key.as_str().into()).collect(),
            Self::Tag(key) => tags.get(key).map(|value| value.as_str().into()),
        };
        value.into_iter().collect()
    }
}

impl TypeField {
    fn values<'t>(&self, of: &'t InstanceType) -> Vec<Cow<'t, str>> {
        let value = match self {
            Self::BareMetal => if is_bare_metal(of) { "true" } else { "false" }.into(),
            Self::Hypervisor => match hypervisor(of) {
                Some(hypervisor) => hypervisor.into(),
                None => return Vec::new(),
            },
            Self::InstanceType => of.as_str().into(),
        };
        vec![value]
    }
}

impl RegionField {
    fn values<'r>(&self, described: DescribedRegion<'r>) -> Vec<Cow<'r, str>> {
        let value = match self {
            Self::Endpoint => described.endpoint,
            Self::OptInStatus => OPT_IN_STATUS,
            Self::RegionName => described.region.as_str(),
        };
        vec![value.into()]
    }
}

impl TagField {
    fn values<'t>(&self, tag: &TaggedResource<'t>) -> Vec<Cow<'t, str>> {
        let value = match self {
            Self::Key => tag.key,
            Self::ResourceId => tag.instance.as_str(),
            Self::ResourceType => RESOURCE_TYPE,
            Self::Value => tag.value,
            Self::Tag(key) if tag.key == key => tag.value,
            Self::Tag(_) => return Vec::new(),
        };
        vec![value.into()]
    }
}

/// What EC2 says of every instance, those of Nitro types included (wire.md 9.4).
pub(super) const HYPERVISOR: &str = "xen";

/// No instance is watched at EC2's additional charge.
pub(super) const MONITORING: &str = "disabled";

/// None is on hardware that EC2 would keep for its owner.
pub(super) const TENANCY: &str = "default";

/// What EC2 says of every system but Windows and those that are paid for (wire.md 9.4).
pub(super) const PLATFORM_DETAILS: &str = "Linux/UNIX";

/// What EC2 says of a region that is there for everybody.
pub(super) const OPT_IN_STATUS: &str = "opt-in-not-required";

/// The one type of resources that have tags here.
pub(super) const RESOURCE_TYPE: &str = "instance";

/// What EC2 says of a type; bare metal has none.
pub(super) fn hypervisor(of: &InstanceType) -> Option<&'static str> {
    (!is_bare_metal(of)).then_some("nitro")
}

/// By EC2's names: `m7i.metal-24xl`.
pub(super) fn is_bare_metal(of: &InstanceType) -> bool {
    of.as_str().split_once('.').is_some_and(|(_, size)| size == "metal" || size.starts_with("metal-"))
}

/// With milliseconds, as EC2 writes it.
pub(super) fn launch_time(time: UnixSeconds) -> String {
    let time = jiff::Timestamp::from_second(time.0).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

/// Each instance has a reservation of its own.
pub(super) fn reservation_id(instance: &Instance) -> String {
    derived("r", &["reservation", instance.id.as_str()])
}

/// Whether an instance is in its network: one that is gone for good has left it (wire.md 9.4).
pub(super) fn has_network(instance: &Instance) -> bool {
    instance.state != InstanceState::Terminated
}

/// One network for each account and region: clients want to be told of one (wire.md 9.4).
pub(super) fn vpc_id(instance: &Instance) -> String {
    derived("vpc", &["vpc", instance.account.as_str(), instance.region.as_str()])
}

/// One subnet of it for each zone.
pub(super) fn subnet_id(instance: &Instance) -> String {
    derived("subnet", &["subnet", instance.account.as_str(), instance.availability_zone.as_str()])
}

/// One interface for each instance.
pub(super) fn network_interface_id(instance: &Instance) -> String {
    derived("eni", &["network-interface", instance.id.as_str()])
}

/// The attachment of that interface to its instance.
pub(super) fn attachment_id(instance: &Instance) -> String {
    derived("eni-attach", &["attachment", instance.id.as_str()])
}

/// The name that EC2 gives to whatever has a private IPv4 address, from that (wire.md 9.4). Here nothing answers to it.
pub(super) fn private_dns_name(instance: &Instance, private_ip: Ipv4Addr) -> String {
    let address = private_ip.to_string().replace('.', "-");
    match instance.region.as_str() {
        "us-east-1" => format!("ip-{address}.ec2.internal"),
        region => format!("ip-{address}.{region}.compute.internal"),
    }
}

/// An id of EC2's form that is always the same for the same thing. None of the parts has a blank in it.
fn derived(prefix: &str, parts: &[&str]) -> String {
    let digits: String = sha256_hex(parts.join(" ").as_bytes()).chars().take(17).collect();
    format!("{prefix}-{digits}")
}
