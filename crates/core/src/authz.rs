//! Authorization: from a verified caller and an operation to the proof that this caller may do this to that instance, or
//! in its account.

use crate::administration::{self, About, Read, Resource, Tags};
use crate::api::{
    AccessDenied, AdministrationErrorCode, ApiError, SendSerialConsoleSshPublicKey, SendSshPublicKey,
};
use crate::iam::{self, AccessRequest, Decision, Denial, Explanation, RequestedAction, StatementRef};
use crate::ids::{AccessKeyId, InstanceId, Region};
use crate::inventory::{Instance, Inventory, Status, User, instance_arn};
use crate::origin::Origin;
use crate::query;
use crate::secret::Secret;
use crate::sigv4::Verified;
use instance_connect_planted::planted;
use std::sync::Arc;

/// Who calls, and with which key.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user.
    pub user: Arc<User>,
    /// The access key the request is signed with.
    pub access_key: AccessKeyId,
}

/// What a claimed access key id stands for: the secret to verify with, and whom that proves. `None` for a key that is
/// unknown or inactive; to the outside these are the same.
pub fn claimed_caller<'a>(inventory: &'a Inventory, claimed: &AccessKeyId) -> Option<(&'a Secret, Caller)> {
    let key = inventory.access_keys.get(claimed).filter(|key| key.status == Status::Active)?;
    let user = inventory.users.get(&key.user)?;
    Some((&key.secret, Caller { user: Arc::clone(user), access_key: key.id.clone() }))
}

/// An operation on one instance.
pub trait InstanceOperation {
    /// The instance asked for.
    fn instance(&self) -> &InstanceId;

    /// What policies are asked about.
    fn requested_action(&self) -> RequestedAction<'_>;
}

impl InstanceOperation for SendSshPublicKey {
    fn instance(&self) -> &InstanceId {
        &self.instance
    }

    fn requested_action(&self) -> RequestedAction<'_> {
        RequestedAction::SendSshPublicKey { os_user: &self.os_user }
    }
}

impl InstanceOperation for SendSerialConsoleSshPublicKey {
    fn instance(&self) -> &InstanceId {
        &self.instance
    }

    fn requested_action(&self) -> RequestedAction<'_> {
        RequestedAction::SendSerialConsoleSshPublicKey
    }
}

/// Proof that the caller may do the operation to its target, which it carries so that no other can be resolved: an
/// instance, or for what is administered nothing more than the operation itself says.
/// Only [`authorize`], [`authorize_administration`] and [`authorize_query`] make one.
#[derive(Debug)]
pub struct Authorized<Op, Target = Arc<Instance>> {
    operation: Op,
    caller: Caller,
    target: Target,
    decided_by: Option<StatementRef>,
}

impl<Op, Target> Authorized<Op, Target> {
    /// The operation with its parameters.
    pub fn operation(&self) -> &Op {
        &self.operation
    }

    /// Who may do it.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The statement that allowed it; `None` for the account's root, which needs none, and where several instances were
    /// allowed by more than one.
    pub fn decided_by(&self) -> Option<&StatementRef> {
        self.decided_by.as_ref()
    }
}

impl<Op> Authorized<Op> {
    /// The instance it may be done to.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.target
    }
}

/// Proof that the caller may administer its account in this way.
pub type AuthorizedAdministration = Authorized<administration::Request, ()>;

/// Judges an operation by the caller's policies.
///
/// An instance that is unknown, or another account's, is judged as if it were the caller's own, and that it does not
/// exist is said only after an Allow: what the answer tells, the caller's policies already do.
///
/// # Errors
/// [`ApiError::Suspended`], [`ApiError::AccessDenied`] or [`ApiError::InstanceNotFound`].
pub fn authorize<Op: InstanceOperation>(
    caller: Verified<Caller>,
    operation: Op,
    inventory: &Inventory,
    region: &Region,
    origin: &Origin,
) -> Result<Authorized<Op>, ApiError> {
    let caller = in_use(caller.into_inner(), inventory)?;
    let target = Target::of(&caller.user, operation.instance(), inventory, region);
    let decided_by = allowed(&target.request(&caller.user, operation.requested_action(), region, origin))?;
    let Some(instance) = target.instance.map(Arc::clone) else {
        return Err(ApiError::InstanceNotFound { instance: operation.instance().to_string() });
    };
    Ok(Authorized { operation, caller, target: instance, decided_by })
}

/// Judges an administrative operation by the caller's policies. What it is about need not exist, and is the caller's own
/// account's unless the operation names another's: whoever carries it out looks for it there and nowhere else.
///
/// # Errors
/// [`ApiError::Suspended`], [`ApiError::AccessDenied`], or [`AdministrationErrorCode::AccessDenied`] for what only the
/// management account may do.
pub fn authorize_administration(
    caller: Verified<Caller>,
    operation: administration::Operation,
    request: administration::Request,
    inventory: &Inventory,
    region: &Region,
    origin: &Origin,
) -> Result<AuthorizedAdministration, ApiError> {
    judge_administration(caller.into_inner(), operation, request, inventory, region, origin)
}

/// Judges it once more on a newer inventory: between the first time and its turn to be carried out, somebody may have
/// taken the right to it away.
///
/// # Errors
/// As [`authorize_administration`], and [`ApiError::Suspended`] for an access key that is no longer good.
pub fn authorize_administration_again(
    authorized: AuthorizedAdministration,
    operation: administration::Operation,
    inventory: &Inventory,
    region: &Region,
    origin: &Origin,
) -> Result<AuthorizedAdministration, ApiError> {
    let Authorized { operation: request, caller, .. } = authorized;
    let (_, caller) = claimed_caller(inventory, &caller.access_key).ok_or(ApiError::Suspended)?;
    judge_administration(caller, operation, request, inventory, region, origin)
}

fn judge_administration(
    caller: Caller,
    operation: administration::Operation,
    request: administration::Request,
    inventory: &Inventory,
    region: &Region,
    origin: &Origin,
) -> Result<AuthorizedAdministration, ApiError> {
    let caller = in_use(caller, inventory)?;
    let About { resource, policy } = request.about();
    let judged = |resource: Resource<'_>| {
        allowed(&AccessRequest {
            caller: &caller.user,
            action: RequestedAction::Administer { operation, policy },
            resource: &resource.arn(&caller.user, region),
            resource_tags: resource_tags(resource, &caller.user, inventory, region),
            region,
            origin,
        })
    };
    let decided_by = match judged(resource) {
        Err(ApiError::AccessDenied(denied)) if matches!(denied.denial, Denial::Implicit(_)) => {
            may_push(&request, &caller.user, inventory, region, origin)
                .ok_or(ApiError::AccessDenied(denied))?
        }
        judged => judged?,
    };
    if let Some(other) = request.also_about()
        && !planted("other-instance-unasked")
    {
        judged(other)?;
    }
    if operation.is_for_the_management_account()
        && inventory.management_account.as_ref() != Some(&caller.user.account)
    {
        return Err(ApiError::Administration {
            code: AdministrationErrorCode::AccessDenied,
            message: format!("{} is for principals of the management account.", operation.name()),
        });
    }
    Ok(Authorized { operation: request, caller, target: (), decided_by })
}

/// Whoever may push to an instance may know whom that reaches: its host keys need no permission of their own, as long as
/// nothing denies it. Gives the statement that allows the push.
fn may_push(
    request: &administration::Request,
    caller: &User,
    inventory: &Inventory,
    region: &Region,
    origin: &Origin,
) -> Option<Option<StatementRef>> {
    let administration::Request::Read(Read::GetHostKeys { instance, os_user: Some(os_user) }) = request
    else {
        return None;
    };
    let target = Target::of(caller, instance, inventory, region);
    let action = RequestedAction::SendSshPublicKey { os_user };
    allowed(&target.request(caller, action, region, origin)).ok()
}

/// Proof that the caller may do an operation of the query protocol to each of these instances, which are all that it names.
pub type AuthorizedQuery = Authorized<query::Request, Vec<Arc<Instance>>>;

impl AuthorizedQuery {
    /// The instances that it may be done to: those that it changes. For what it reads there are none.
    pub fn instances(&self) -> &[Arc<Instance>] {
        &self.target
    }
}

/// Judges an operation of the query protocol by the caller's policies: for each instance that it changes by itself, and only
/// if it may be done to all of them, it may be done. Whether they exist is said as [`authorize`] says it.
///
/// # Errors
/// [`ApiError::Suspended`], [`ApiError::AccessDenied`], or that the account has no such instance.
pub fn authorize_query(
    caller: Verified<Caller>,
    operation: query::Operation,
    request: query::Request,
    inventory: &Inventory,
    region: &Region,
    origin: &Origin,
) -> Result<AuthorizedQuery, ApiError> {
    judge_query(caller.into_inner(), operation, request, inventory, region, origin)
}

/// Judges it once more on a newer inventory, as [`authorize_administration_again`] does.
///
/// # Errors
/// As [`authorize_query`], and [`ApiError::Suspended`] for an access key that is no longer good.
pub fn authorize_query_again(
    authorized: AuthorizedQuery,
    operation: query::Operation,
    inventory: &Inventory,
    region: &Region,
    origin: &Origin,
) -> Result<AuthorizedQuery, ApiError> {
    let Authorized { operation: request, caller, .. } = authorized;
    let (_, caller) = claimed_caller(inventory, &caller.access_key).ok_or(ApiError::Suspended)?;
    judge_query(caller, operation, request, inventory, region, origin)
}

fn judge_query(
    caller: Caller,
    operation: query::Operation,
    request: query::Request,
    inventory: &Inventory,
    region: &Region,
    origin: &Origin,
) -> Result<AuthorizedQuery, ApiError> {
    let caller = in_use(caller, inventory)?;
    if !operation.is_judged() {
        return Ok(Authorized { operation: request, caller, target: Vec::new(), decided_by: None });
    }
    let instances = request.instances();
    let mut decided_by = None;
    if instances.is_empty() {
        let (caller, resource) = (&caller.user, "*");
        let action = RequestedAction::Query { operation, tags: &request.tags_for(None) };
        let asked = AccessRequest { caller, action, resource, resource_tags: None, region, origin };
        decided_by = allowed(&asked)?;
    }
    let instances =
        if planted("first-instance-judged") { instances.get(..1).unwrap_or_default() } else { instances };
    for (position, id) in instances.iter().enumerate() {
        let target = Target::of(&caller.user, id, inventory, region);
        let tags = request.tags_for(target.instance.map(Arc::as_ref));
        let action = RequestedAction::Query { operation, tags: &tags };
        let allowed_by = allowed(&target.request(&caller.user, action, region, origin))?;
        // A record names one statement: none rather than one that decided a part of it.
        decided_by = allowed_by.filter(|statement| position == 0 || decided_by.as_ref() == Some(statement));
    }
    let found = query::find(inventory, &caller.user.account, region, instances)?;
    let target = found.into_iter().map(Arc::clone).collect();
    Ok(Authorized { operation: request, caller, target, decided_by })
}

/// The caller, if neither it nor its account is suspended.
fn in_use(caller: Caller, inventory: &Inventory) -> Result<Caller, ApiError> {
    let account = inventory.accounts.get(&caller.user.account);
    let is_active = account.is_some_and(|account| account.status == Status::Active);
    if is_active && caller.user.status == Status::Active { Ok(caller) } else { Err(ApiError::Suspended) }
}

/// The statement that allows a request.
fn allowed(request: &AccessRequest<'_>) -> Result<Option<StatementRef>, ApiError> {
    match iam::evaluate(request) {
        Decision::Allowed(statement) => Ok(statement),
        Decision::Denied(denial) => Err(ApiError::AccessDenied(Box::new(AccessDenied {
            caller: request.caller.arn(),
            action: request.action.action(),
            resource: request.resource.to_owned(),
            denial,
        }))),
    }
}

/// The tags of an instance or user, if the caller's account has it. Others have none.
fn resource_tags<'a>(
    resource: Resource<'_>,
    caller: &'a User,
    inventory: &'a Inventory,
    region: &Region,
) -> Option<&'a Tags> {
    match resource {
        Resource::Instance(id) => {
            Target::of(caller, id, inventory, region).instance.map(|instance| &instance.tags)
        }
        Resource::User(name) => inventory.user(&caller.account, name).map(|user| &user.tags),
        Resource::Caller => Some(&caller.tags),
        Resource::Any
        | Resource::Account(_)
        | Resource::Group(_)
        | Resource::Policy(_)
        | Resource::PolicyArn(_)
        | Resource::NewInstance => None,
    }
}

/// Explains how a user's policies judge an operation: [`iam::explain`], asked as [`authorize`] asks. It authorizes nothing.
/// Whether user or account are suspended, and whether the instance exists, is not its business. It is for operators: it
/// shows the tags that policies ask for.
pub fn explain<Op: InstanceOperation>(
    user: &User,
    operation: &Op,
    inventory: &Inventory,
    region: &Region,
    origin: &Origin,
) -> Explanation {
    let target = Target::of(user, operation.instance(), inventory, region);
    iam::explain(&target.request(user, operation.requested_action(), region, origin))
}

/// An instance as policies see it: as the caller's own, and with tags only if it is.
struct Target<'a> {
    arn: String,
    instance: Option<&'a Arc<Instance>>,
}

impl<'a> Target<'a> {
    fn of(user: &User, id: &InstanceId, inventory: &'a Inventory, region: &Region) -> Self {
        let is_own =
            |instance: &&Arc<Instance>| instance.account == user.account && instance.region == *region;
        let instance = inventory.instances.get(id).filter(is_own);
        Self { arn: instance_arn(region, &user.account, id), instance }
    }

    fn request<'r>(
        &'r self,
        caller: &'r User,
        action: RequestedAction<'r>,
        region: &'r Region,
        origin: &'r Origin,
    ) -> AccessRequest<'r> {
        AccessRequest {
            caller,
            action,
            resource: &self.arn,
            resource_tags: self.instance.map(|instance| &instance.tags),
            region,
            origin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Protocol;
    use crate::document::UnixSeconds;
    use crate::iam::Policy;
    use crate::inventory::{Account, UserKind};
    use crate::sigv4::Query;
    use administration::Operation;
    use std::collections::{BTreeMap, HashMap};

    const ONE: &str = "i-0123456789abcdef0";
    const OTHER: &str = "i-0fedcba9876543210";

    fn caller(statements: &str) -> Caller {
        let document = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
        let user = User {
            kind: UserKind::IamUser,
            id: "AIDAEXAMPLEEXAMPLE01".parse().unwrap(),
            account: "111122223333".parse().unwrap(),
            name: "alice".parse().unwrap(),
            status: Status::Active,
            tags: BTreeMap::new(),
            policies: vec![Arc::new(Policy::parse("p", &document).unwrap())],
            boundary: None,
        };
        Caller { user: Arc::new(user), access_key: "AKIAEXAMPLEEXAMPLE01".parse().unwrap() }
    }

    /// A caller with these statements, an inventory without instances, and where the caller's request is from.
    fn setting(statements: &str) -> (Caller, Inventory, Origin) {
        let caller = caller(statements);
        let id = caller.user.account.clone();
        let account = Account { id: id.clone(), status: Status::Active, serial_console_access: false };
        let inventory = Inventory { accounts: HashMap::from([(id, account)]), ..Inventory::default() };
        let origin = Origin {
            request: "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap(),
            time: UnixSeconds(1_928_462_706),
            source: "192.0.2.1".parse().unwrap(),
            user_agent: String::new(),
            tls: None,
        };
        (caller, inventory, origin)
    }

    fn is_allowed(statements: &str, operation: Operation, body: &str) -> bool {
        let (caller, inventory, origin) = setting(statements);
        let (request, _) = administration::Request::parse(operation, body.as_bytes()).unwrap();
        let region = "us-east-1".parse().unwrap();
        judge_administration(caller, operation, request, &inventory, &region, &origin).is_ok()
    }

    /// Catches the planted `first-instance-judged`.
    #[test]
    fn each_instance_of_a_request_is_asked_for() {
        let on = |effect: &str, instance: &str| {
            let resource = format!("arn:aws:ec2:*:*:instance/{instance}");
            format!(r#"{{"Effect":"{effect}","Action":"ec2:StopInstances","Resource":"{resource}"}}"#)
        };
        let both = |one: String, other: String| format!("{one},{other}");
        for (statements, expected) in [
            // Who may do it to both learns that there are none.
            (on("Allow", "*"), "InvalidInstanceID.NotFound"),
            (both(on("Allow", ONE), on("Allow", OTHER)), "InvalidInstanceID.NotFound"),
            (on("Allow", ONE), "UnauthorizedOperation"),
            (on("Allow", OTHER), "UnauthorizedOperation"),
            (both(on("Allow", "*"), on("Deny", ONE)), "UnauthorizedOperation"),
            (both(on("Allow", "*"), on("Deny", OTHER)), "UnauthorizedOperation"),
        ] {
            let form = format!("InstanceId.1={ONE}&InstanceId.2={OTHER}");
            let parameters = query::Parameters::read(&Query::default(), form.as_bytes()).unwrap();
            let operation = query::Operation::StopInstances;
            let request = query::Request::read(operation, parameters).unwrap();
            let (caller, inventory, origin) = setting(&statements);
            let region = "us-east-1".parse().unwrap();
            let judged = judge_query(caller, operation, request, &inventory, &region, &origin);
            let ec2 = Protocol::Query(query::Service::Ec2);
            assert_eq!(judged.unwrap_err().code(ec2), expected, "{statements}");
        }
    }

    /// Catches the planted `other-instance-unasked`.
    #[test]
    fn the_other_instance_is_asked_for_as_well() {
        let fingerprint = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let accept = format!(r#""InstanceId":"{ONE}","Fingerprints":["{fingerprint}"]"#);
        let host = format!(r#""InstanceId":"{ONE}""#);
        for (operation, alone, with_other) in [
            (Operation::SetInstanceHost, &host, format!(r#"{host},"HostInstanceId":"{OTHER}""#)),
            (Operation::AcceptHostKeys, &accept, format!(r#"{accept},"TakeFrom":"{OTHER}""#)),
        ] {
            let on = |effect: &str, instance: &str| {
                let (action, resource) = (operation.action(), format!("arn:aws:ec2:*:*:instance/{instance}"));
                format!(r#"{{"Effect":"{effect}","Action":"{action}","Resource":"{resource}"}}"#)
            };
            let both = |one: String, other: String| format!("{one},{other}");
            for (statements, allowed_alone, allowed_both) in [
                (on("Allow", "*"), true, true),
                (both(on("Allow", ONE), on("Allow", OTHER)), true, true),
                (on("Allow", ONE), true, false),
                (on("Allow", OTHER), false, false),
                (both(on("Allow", "*"), on("Deny", OTHER)), true, false),
                (both(on("Allow", "*"), on("Deny", ONE)), false, false),
            ] {
                let allowed = [alone, &with_other]
                    .map(|members| is_allowed(&statements, operation, &format!("{{{members}}}")));
                assert_eq!(allowed, [allowed_alone, allowed_both], "{operation:?} {statements}");
            }
        }
    }
}
