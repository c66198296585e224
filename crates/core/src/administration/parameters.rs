//! Which members each operation has.

use super::members::{Bounded, Members};
use super::request::{AtConsole, Change, ConsoleOperation, Page, Read, Request, Revoke};
use super::{Operation, PolicyArn, PolicyDocument, SimulatedPush};
use crate::api::{AdministrationErrorCode, ApiError};
use crate::audit::EventFilter;
use crate::ids::{GroupName, InstanceId, PolicyName, UserName};
use crate::inventory::InstanceDetails;
use crate::{limits, stream};

/// The members of each operation.
pub(super) fn read(operation: Operation, m: &mut Members) -> Result<Request, ApiError> {
    use Operation as O;
    Ok(match operation {
        O::CreateAccount => Change::CreateAccount { account: m.optional("AccountId")? }.into(),
        O::ListAccounts => Read::ListAccounts { page: page(m)? }.into(),
        O::UpdateAccount => {
            Change::UpdateAccount { account: m.required("AccountId")?, status: m.required("Status")? }.into()
        }
        O::EnableSerialConsoleAccess => Change::EnableSerialConsoleAccess.into(),
        O::DisableSerialConsoleAccess => Change::DisableSerialConsoleAccess.into(),
        O::GetSerialConsoleAccessStatus => Read::GetSerialConsoleAccessStatus.into(),
        O::GetAccountAuthorizationDetails => Read::GetAccountAuthorizationDetails { page: page(m)? }.into(),
        O::SimulatePrincipalPolicy => {
            let (user, push) = (user(m)?, SimulatedPush::read(m)?);
            let context = m.optional("ContextEntries")?.unwrap_or_default();
            Read::SimulatePrincipalPolicy { user, push, context }.into()
        }
        O::CreateUser => {
            Change::CreateUser { user: user(m)?, tags: m.optional("Tags")?.unwrap_or_default() }.into()
        }
        O::GetUser => Read::GetUser { user: user(m)? }.into(),
        O::ListUsers => Read::ListUsers { page: page(m)? }.into(),
        O::UpdateUser => Change::UpdateUser { user: user(m)?, status: m.required("Status")? }.into(),
        O::TagUser => Change::TagUser { user: user(m)?, tags: m.required("Tags")? }.into(),
        O::UntagUser => Change::UntagUser { user: user(m)?, keys: m.required("TagKeys")? }.into(),
        O::PutUserPolicy => {
            Change::PutUserPolicy { user: user(m)?, policy: policy(m)?, document: document(m)? }.into()
        }
        O::GetUserPolicy => Read::GetUserPolicy { user: user(m)?, policy: policy(m)? }.into(),
        O::DeleteUserPolicy => Change::DeleteUserPolicy { user: user(m)?, policy: policy(m)? }.into(),
        O::AttachUserPolicy => Change::AttachUserPolicy { user: user(m)?, policy: arn(m)? }.into(),
        O::DetachUserPolicy => Change::DetachUserPolicy { user: user(m)?, policy: arn(m)? }.into(),
        O::PutUserPermissionsBoundary => {
            Change::PutUserPermissionsBoundary { user: user(m)?, policy: m.required("PermissionsBoundary")? }
                .into()
        }
        O::DeleteUserPermissionsBoundary => Change::DeleteUserPermissionsBoundary { user: user(m)? }.into(),
        O::CreateAccessKey => Change::CreateAccessKey { user: m.optional("UserName")? }.into(),
        O::ListAccessKeys => Read::ListAccessKeys { user: m.optional("UserName")? }.into(),
        O::UpdateAccessKey => {
            let (user, key) = (m.optional("UserName")?, m.required("AccessKeyId")?);
            Change::UpdateAccessKey { user, key, status: m.required("Status")? }.into()
        }
        O::DeleteAccessKey => {
            Change::DeleteAccessKey { user: m.optional("UserName")?, key: m.required("AccessKeyId")? }.into()
        }
        O::CreateGroup => Change::CreateGroup { group: group(m)? }.into(),
        O::GetGroup => Read::GetGroup { group: group(m)? }.into(),
        O::ListGroups => Read::ListGroups { page: page(m)? }.into(),
        O::DeleteGroup => Change::DeleteGroup { group: group(m)? }.into(),
        O::AddUserToGroup => Change::AddUserToGroup { group: group(m)?, user: user(m)? }.into(),
        O::RemoveUserFromGroup => Change::RemoveUserFromGroup { group: group(m)?, user: user(m)? }.into(),
        O::PutGroupPolicy => {
            Change::PutGroupPolicy { group: group(m)?, policy: policy(m)?, document: document(m)? }.into()
        }
        O::GetGroupPolicy => Read::GetGroupPolicy { group: group(m)?, policy: policy(m)? }.into(),
        O::DeleteGroupPolicy => Change::DeleteGroupPolicy { group: group(m)?, policy: policy(m)? }.into(),
        O::AttachGroupPolicy => Change::AttachGroupPolicy { group: group(m)?, policy: arn(m)? }.into(),
        O::DetachGroupPolicy => Change::DetachGroupPolicy { group: group(m)?, policy: arn(m)? }.into(),
        O::CreatePolicy => Change::CreatePolicy { policy: policy(m)?, document: document(m)? }.into(),
        O::GetPolicy => Read::GetPolicy { policy: arn(m)? }.into(),
        O::ListPolicies => Read::ListPolicies { page: page(m)? }.into(),
        O::UpdatePolicy => Change::UpdatePolicy { policy: arn(m)?, document: document(m)? }.into(),
        O::DeletePolicy => Change::DeletePolicy { policy: arn(m)? }.into(),
        O::CreateInstance => {
            let (instance, zone) = (m.optional("InstanceId")?, m.required("AvailabilityZone")?);
            let tags = m.optional("Tags")?.unwrap_or_default();
            Change::CreateInstance { instance, zone, tags, details: details(m)? }.into()
        }
        O::DescribeInstances => {
            let instances = m.optional("InstanceIds")?.unwrap_or_default();
            Read::DescribeInstances { instances, page: page(m)? }.into()
        }
        O::SetInstanceState => {
            Change::SetInstanceState { instance: instance(m)?, state: m.required("State")? }.into()
        }
        O::SetInstanceHost => {
            Change::SetInstanceHost { instance: instance(m)?, host: m.optional("HostInstanceId")? }.into()
        }
        O::SetInstanceDetails => {
            Change::SetInstanceDetails { instance: instance(m)?, details: details(m)? }.into()
        }
        O::CreateTags => Change::CreateTags { instance: tagged(m)?, tags: m.required("Tags")? }.into(),
        O::DeleteTags => Change::DeleteTags { instance: tagged(m)?, keys: m.required("TagKeys")? }.into(),
        O::CreateJoinToken => Change::CreateJoinToken { instance: instance(m)? }.into(),
        O::GetHostKeys => {
            Read::GetHostKeys { instance: instance(m)?, os_user: m.optional("InstanceOSUser")? }.into()
        }
        O::AcceptHostKeys => {
            let (instance, fingerprints) = (instance(m)?, m.required("Fingerprints")?);
            Change::AcceptHostKeys { instance, fingerprints, from: m.optional("TakeFrom")? }.into()
        }
        O::RevokeInstanceKeys => {
            let (instance, fingerprint) = (instance(m)?, m.optional("Fingerprint")?);
            Revoke::Instance { instance, fingerprint, user: m.optional("UserName")? }.into()
        }
        O::RevokeUserKeys => Revoke::User { user: user(m)? }.into(),
        O::DescribeSerialConsole => Read::DescribeSerialConsole.into(),
        O::GetSerialConsoleSession => Read::GetSerialConsoleSession { instance: instance(m)? }.into(),
        O::WatchSerialConsole => {
            let (instance, Bounded(key)) =
                (instance(m)?, m.required::<Bounded<{ limits::KEY_TEXT }>>("SSHPublicKey")?);
            Request::Console(AtConsole { instance, what: ConsoleOperation::Watch { key } })
        }
        O::SendSerialBreak => {
            let (instance, milliseconds) = (instance(m)?, milliseconds(m)?);
            Request::Console(AtConsole { instance, what: ConsoleOperation::Break { milliseconds } })
        }
        O::TerminateSerialConsoleSession => {
            Request::Console(AtConsole { instance: instance(m)?, what: ConsoleOperation::Terminate })
        }
        O::GetSignerCertificate => Read::GetSignerCertificate.into(),
        O::ListAgents => Read::ListAgents { page: page(m)? }.into(),
        O::RevokeAgent => Change::RevokeAgent { instance: instance(m)? }.into(),
        O::RearmAgent => Change::RearmAgent { instance: instance(m)? }.into(),
        O::LookupEvents => {
            let attributes = m.optional("LookupAttributes")?.unwrap_or_default();
            let filter =
                EventFilter { attributes, start: m.optional("StartTime")?, end: m.optional("EndTime")? };
            let max_results = at_most(m, "MaxResults", limits::EVENTS)?;
            Read::LookupEvents { filter, max_results, from: m.optional("NextToken")? }.into()
        }
    })
}

fn user(m: &mut Members) -> Result<UserName, ApiError> {
    m.required("UserName")
}

fn group(m: &mut Members) -> Result<GroupName, ApiError> {
    m.required("GroupName")
}

fn policy(m: &mut Members) -> Result<PolicyName, ApiError> {
    m.required("PolicyName")
}

fn arn(m: &mut Members) -> Result<PolicyArn, ApiError> {
    m.required("PolicyArn")
}

fn document(m: &mut Members) -> Result<PolicyDocument, ApiError> {
    m.required("PolicyDocument")
}

fn instance(m: &mut Members) -> Result<InstanceId, ApiError> {
    m.required("InstanceId")
}

/// What is said of an instance, under EC2's names of it. What is not given is not said.
fn details(m: &mut Members) -> Result<Box<InstanceDetails>, ApiError> {
    Ok(Box::new(InstanceDetails {
        instance_type: m.optional("InstanceType")?,
        image_id: m.optional("ImageId")?,
        private_ip: m.optional("PrivateIpAddress")?,
        public_ip: m.optional("PublicIpAddress")?,
        ipv6: m.optional("Ipv6Address")?,
    }))
}

/// `Resources` as EC2 has it, though one at a time: a request is judged for one resource.
fn tagged(m: &mut Members) -> Result<InstanceId, ApiError> {
    let resources: Vec<InstanceId> = m.required("Resources")?;
    match <[InstanceId; 1]>::try_from(resources) {
        Ok([instance]) => Ok(instance),
        Err(_) => {
            let message = "Resources names one instance; tag several one after the other".to_owned();
            Err(ApiError::Administration { code: AdministrationErrorCode::ValidationError, message })
        }
    }
}

fn page(m: &mut Members) -> Result<Page, ApiError> {
    let marker = m.optional::<Bounded<{ limits::MARKER }>>("Marker")?.map(|Bounded(marker)| marker);
    Ok(Page { marker, max_items: at_most(m, "MaxItems", limits::PAGE)? })
}

/// How long a BREAK is asked for: as long as people mean it, unless it is said.
fn milliseconds(m: &mut Members) -> Result<u16, ApiError> {
    let most = usize::try_from(stream::LONGEST_BREAK.as_millis()).unwrap_or(usize::MAX);
    let usual = usize::try_from(stream::BREAK.as_millis()).unwrap_or(most);
    let asked = number_within(m, "DurationMilliseconds", usual, most)?;
    Ok(u16::try_from(asked).unwrap_or(u16::MAX))
}

/// How many are asked for: all there may be, unless it is said.
fn at_most(m: &mut Members, name: &str, most: usize) -> Result<usize, ApiError> {
    number_within(m, name, most, most)
}

fn number_within(m: &mut Members, name: &str, unless_said: usize, most: usize) -> Result<usize, ApiError> {
    let asked = m.optional::<u32>(name)?.map_or(unless_said, |n| n as usize);
    if (1..=most).contains(&asked) {
        return Ok(asked);
    }
    let name = super::first_lowered(name);
    let message = format!(
        "1 validation error detected: Value '{asked}' at '{name}' failed to satisfy constraint: \
         Member must have value from 1 to {most}"
    );
    Err(ApiError::Administration { code: AdministrationErrorCode::ValidationError, message })
}
