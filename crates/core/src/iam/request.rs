//! What is asked, and the texts that condition keys stand for.

use super::action::{Action, ResourceType};
use crate::administration::{Operation, PolicyArn};
use crate::ids::{OsUser, Region};
use crate::inventory::User;
use crate::origin::Origin;
use crate::query;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Tags by key.
pub(super) type Tags = BTreeMap<String, String>;

/// What is asked: may the caller do this to the resource?
#[derive(Clone, Copy, Debug)]
pub struct AccessRequest<'a> {
    /// Who asks. Judged are this user's policies and boundary.
    pub caller: &'a User,
    /// What for.
    pub action: RequestedAction<'a>,
    /// The ARN of the resource, as one of the caller's own account; `*` where the action is about none in particular.
    pub resource: &'a str,
    /// The resource's tags; `None` for one that the caller's account does not have.
    pub resource_tags: Option<&'a BTreeMap<String, String>>,
    /// The region that was called.
    pub region: &'a Region,
    /// Where the request came from.
    pub origin: &'a Origin,
}

/// An action with the values that only it has.
#[derive(Clone, Copy, Debug)]
pub enum RequestedAction<'a> {
    /// [`Action::SendSshPublicKey`]
    SendSshPublicKey {
        /// `ec2:osuser`
        os_user: &'a OsUser,
    },
    /// [`Action::SendSerialConsoleSshPublicKey`]
    SendSerialConsoleSshPublicKey,
    /// [`Action::OpenTunnel`]
    OpenTunnel {
        /// `ec2-instance-connect:remotePort`
        remote_port: u16,
        /// `ec2-instance-connect:privateIpAddress`, where the request names one.
        private_ip_address: Option<IpAddr>,
        /// `ec2-instance-connect:maxTunnelDuration`, in seconds.
        max_tunnel_duration: u32,
    },
    /// [`Action::Administer`]
    Administer {
        /// What is asked for.
        operation: Operation,
        /// `instance-connect:PolicyARN`: the policy that is attached, detached or made a boundary.
        policy: Option<&'a PolicyArn>,
    },
    /// [`Action::Query`]
    Query {
        /// What is asked for.
        operation: query::Operation,
        /// The tags in the request, with their values where they have any: `aws:RequestTag/…` and `aws:TagKeys`.
        tags: &'a BTreeMap<String, Option<String>>,
    },
}

impl RequestedAction<'_> {
    /// Which action it is.
    pub const fn action(&self) -> Action {
        match self {
            Self::SendSshPublicKey { .. } => Action::SendSshPublicKey,
            Self::SendSerialConsoleSshPublicKey => Action::SendSerialConsoleSshPublicKey,
            Self::OpenTunnel { .. } => Action::OpenTunnel,
            Self::Administer { operation, .. } => Action::Administer(*operation),
            Self::Query { operation, .. } => Action::Query(*operation),
        }
    }
}

/// A request with the texts of its condition keys, made once for all statements.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) request: &'a AccessRequest<'a>,
    pub(super) principal_arn: String,
    pub(super) source_ip: String,
    pub(super) current_time: String,
    pub(super) epoch_time: String,
    pub(super) remote_port: Option<String>,
    pub(super) private_ip_address: Option<String>,
    pub(super) max_tunnel_duration: Option<String>,
    pub(super) policy_arn: Option<String>,
    /// The tags in the request to which it gives a value.
    pub(super) request_tags: Tags,
    /// The keys of all tags in the request.
    pub(super) tag_keys: Vec<&'a str>,
}

impl<'a> Context<'a> {
    pub(super) fn new(request: &'a AccessRequest<'a>) -> Self {
        let time = request.origin.time.0;
        let mut context = Self {
            request,
            principal_arn: request.caller.arn(),
            source_ip: request.origin.source.to_canonical().to_string(),
            current_time: jiff::Timestamp::from_second(time).unwrap_or(jiff::Timestamp::MAX).to_string(),
            epoch_time: time.to_string(),
            remote_port: None,
            private_ip_address: None,
            max_tunnel_duration: None,
            policy_arn: None,
            request_tags: Tags::new(),
            tag_keys: Vec::new(),
        };
        match request.action {
            RequestedAction::OpenTunnel { remote_port, private_ip_address, max_tunnel_duration } => {
                context.remote_port = Some(remote_port.to_string());
                context.private_ip_address =
                    private_ip_address.map(|address| address.to_canonical().to_string());
                context.max_tunnel_duration = Some(max_tunnel_duration.to_string());
            }
            RequestedAction::Administer { policy, .. } => {
                context.policy_arn = policy.map(PolicyArn::to_string);
            }
            RequestedAction::Query { tags, .. } => {
                let given = tags.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
                context.request_tags = given.collect();
                context.tag_keys = tags.keys().map(String::as_str).collect();
            }
            RequestedAction::SendSshPublicKey { .. } | RequestedAction::SendSerialConsoleSshPublicKey => {}
        }
        context
    }

    /// The tags of the resource if it is one of EC2's.
    pub(super) fn ec2_tags(&self) -> Option<&Tags> {
        match self.request.action.action().resource_type() {
            ResourceType::Instance | ResourceType::InstanceConnectEndpoint => self.request.resource_tags,
            ResourceType::User
            | ResourceType::Group
            | ResourceType::Policy
            | ResourceType::Account
            | ResourceType::Any => None,
        }
    }

    pub(super) fn os_user(&self) -> Option<&str> {
        match self.request.action {
            RequestedAction::SendSshPublicKey { os_user } => Some(os_user.as_str()),
            RequestedAction::SendSerialConsoleSshPublicKey
            | RequestedAction::OpenTunnel { .. }
            | RequestedAction::Administer { .. }
            | RequestedAction::Query { .. } => None,
        }
    }
}
