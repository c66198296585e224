//! The inventory as the service has it.

use super::document::laid_out;
use super::file::{Documents, Group, Instance, Inventory, Settings, User};
use crate::administration::whole;
use crate::failure::{Exit, Failure};
use instance_connect_client::{Administer, AdministrativeOperation as O, Client};
use instance_connect_core::ids::UserName;
use instance_connect_core::inventory::{InstanceDetails, InstanceState, Status};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// Reads all of it, terminated instances too. These are several answers, so that what is changed meanwhile may be in one and not in another.
pub(super) async fn read(client: &Client) -> Result<Inventory, Failure> {
    let iam: Iam = answer(client, O::GetAccountAuthorizationDetails).await?;
    let instances: Instances = answer(client, O::DescribeInstances).await?;
    let settings: SerialConsole = answer(client, O::GetSerialConsoleAccessStatus).await?;
    let policies = iam.policies.into_iter().map(|policy| policy.named());
    let groups = iam.groups.into_iter().map(|group| {
        Ok((
            parse(&group.name)?,
            Group { attached: policy_names(&group.attached)?, inline: documents(&group.inline)? },
        ))
    });
    let users = iam.users.into_iter().map(|user| Ok((parse(&user.name)?, user.read()?)));
    let instances =
        instances.instances.into_iter().map(|instance| Ok((parse(&instance.id)?, instance.read()?)));
    Ok(Inventory {
        account: Some(parse(&iam.account)?),
        region: Some(parse(client.settings().region())?),
        settings: Settings { serial_console_access: Some(settings.enabled) },
        policies: policies.collect::<Result<_, Failure>>()?,
        groups: groups.collect::<Result<_, Failure>>()?,
        users: users.collect::<Result<_, Failure>>()?,
        instances: instances.collect::<Result<_, Failure>>()?,
    })
}

/// The name of the user who calls; `None` where that is not told.
pub(super) async fn caller(client: &Client) -> Option<UserName> {
    let own: AccessKeys = answer(client, O::ListAccessKeys).await.ok()?;
    own.keys.into_iter().next()?.user.parse().ok()
}

async fn answer<T: DeserializeOwned>(client: &Client, operation: O) -> Result<T, Failure> {
    let answer: Map<String, Value> = whole(client, Administer::new(operation)).await?;
    serde_json::from_value(Value::Object(answer))
        .map_err(|error| unreadable(&format!("{} answered: {error}", operation.name())))
}

fn parse<T: FromStr>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| {
        unreadable(&format!("the service has {text:?}, which is no name that this program knows"))
    })
}

fn unreadable(message: &str) -> Failure {
    Failure::new(Exit::General, message).hint("is the service a newer version than this program?")
}

fn documents(policies: &[Document]) -> Result<Documents, Failure> {
    policies.iter().map(Document::named).collect()
}

fn policy_names<T: FromStr + Ord>(policies: &[Attached]) -> Result<BTreeSet<T>, Failure> {
    policies.iter().map(|policy| parse(&policy.name)).collect()
}

fn tags(tags: Vec<Tag>) -> BTreeMap<String, String> {
    tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
}

#[derive(Deserialize)]
struct Iam {
    #[serde(rename = "AccountId")]
    account: String,
    #[serde(rename = "UserDetailList")]
    users: Vec<UserDetail>,
    #[serde(rename = "GroupDetailList")]
    groups: Vec<GroupDetail>,
    #[serde(rename = "Policies")]
    policies: Vec<Document>,
}

#[derive(Deserialize)]
struct UserDetail {
    #[serde(rename = "UserName")]
    name: String,
    #[serde(rename = "Status")]
    status: String,
    #[serde(rename = "Tags")]
    tags: Vec<Tag>,
    #[serde(rename = "GroupList")]
    groups: Vec<String>,
    #[serde(rename = "UserPolicyList")]
    inline: Vec<Document>,
    #[serde(rename = "AttachedManagedPolicies")]
    attached: Vec<Attached>,
    #[serde(rename = "PermissionsBoundary")]
    boundary: Option<String>,
}

impl UserDetail {
    fn read(self) -> Result<User, Failure> {
        let boundary = self.boundary.as_deref().and_then(|arn| arn.rsplit('/').next());
        Ok(User {
            status: if self.status == "Active" { Status::Active } else { Status::Suspended },
            tags: tags(self.tags),
            groups: self.groups.iter().map(|name| parse(name)).collect::<Result<_, _>>()?,
            attached: policy_names(&self.attached)?,
            boundary: boundary.map(parse).transpose()?,
            inline: documents(&self.inline)?,
        })
    }
}

#[derive(Deserialize)]
struct GroupDetail {
    #[serde(rename = "GroupName")]
    name: String,
    #[serde(rename = "GroupPolicyList")]
    inline: Vec<Document>,
    #[serde(rename = "AttachedManagedPolicies")]
    attached: Vec<Attached>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "PolicyName")]
    name: String,
    #[serde(rename = "PolicyDocument")]
    document: String,
}

impl Document {
    fn named<T: FromStr>(&self) -> Result<(T, String), Failure> {
        Ok((parse(&self.name)?, laid_out(&self.document)))
    }
}

#[derive(Deserialize)]
struct Attached {
    #[serde(rename = "PolicyName")]
    name: String,
}

#[derive(Deserialize)]
struct Tag {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "Value")]
    value: String,
}

#[derive(Deserialize)]
struct Instances {
    #[serde(rename = "Instances")]
    instances: Vec<InstanceDetail>,
}

#[derive(Deserialize)]
struct InstanceDetail {
    #[serde(rename = "InstanceId")]
    id: String,
    #[serde(rename = "AvailabilityZone")]
    availability_zone: String,
    #[serde(rename = "State")]
    state: String,
    #[serde(rename = "Tags")]
    tags: Vec<Tag>,
    #[serde(rename = "HostInstanceId")]
    host: Option<String>,
    #[serde(rename = "InstanceType")]
    instance_type: Option<String>,
    #[serde(rename = "ImageId")]
    image_id: Option<String>,
    #[serde(rename = "PrivateIpAddress")]
    private_ip: Option<String>,
    #[serde(rename = "PublicIpAddress")]
    public_ip: Option<String>,
    #[serde(rename = "Ipv6Address")]
    ipv6: Option<String>,
}

impl InstanceDetail {
    fn read(self) -> Result<Instance, Failure> {
        let state = InstanceState::ALL.into_iter().find(|state| state.as_str() == self.state);
        Ok(Instance {
            availability_zone: parse(&self.availability_zone)?,
            state: state.ok_or_else(|| unreadable("the service has an instance in an unknown state"))?,
            tags: tags(self.tags),
            host: self.host.as_deref().map(parse).transpose()?,
            details: InstanceDetails {
                instance_type: self.instance_type.as_deref().map(parse).transpose()?,
                image_id: self.image_id.as_deref().map(parse).transpose()?,
                private_ip: self.private_ip.as_deref().map(parse).transpose()?,
                public_ip: self.public_ip.as_deref().map(parse).transpose()?,
                ipv6: self.ipv6.as_deref().map(parse).transpose()?,
            },
        })
    }
}

#[derive(Deserialize)]
struct SerialConsole {
    #[serde(rename = "SerialConsoleAccessEnabled")]
    enabled: bool,
}

#[derive(Deserialize)]
struct AccessKeys {
    #[serde(rename = "AccessKeyMetadata")]
    keys: Vec<AccessKey>,
}

#[derive(Deserialize)]
struct AccessKey {
    #[serde(rename = "UserName")]
    user: String,
}
