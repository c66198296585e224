//! Authorization: from a verified caller and an operation to the proof that this caller may do this to that instance.

use crate::api::{ApiError, Operation, SendSerialConsoleSshPublicKey, SendSshPublicKey};
use crate::iam::{AccessRequest, Decision, StatementRef, evaluate};
use crate::ids::{AccessKeyId, InstanceId, OsUser, Region};
use crate::inventory::{Instance, Inventory, Status, User, instance_arn};
use crate::origin::Origin;
use crate::secret::Secret;
use crate::sigv4::Verified;
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
    /// Which operation it is.
    const OPERATION: Operation;

    /// The instance asked for.
    fn instance(&self) -> &InstanceId;

    /// The value of `ec2:osuser`, for the operation that has it.
    fn os_user(&self) -> Option<&OsUser>;
}

impl InstanceOperation for SendSshPublicKey {
    const OPERATION: Operation = Operation::SendSshPublicKey;

    fn instance(&self) -> &InstanceId {
        &self.instance
    }

    fn os_user(&self) -> Option<&OsUser> {
        Some(&self.os_user)
    }
}

impl InstanceOperation for SendSerialConsoleSshPublicKey {
    const OPERATION: Operation = Operation::SendSerialConsoleSshPublicKey;

    fn instance(&self) -> &InstanceId {
        &self.instance
    }

    fn os_user(&self) -> Option<&OsUser> {
        None
    }
}

/// Proof that the caller may do the operation to the instance, which it carries so that no other can be resolved.
/// Only [`authorize`] makes one.
#[derive(Debug)]
pub struct Authorized<Op> {
    operation: Op,
    caller: Caller,
    instance: Arc<Instance>,
    decided_by: StatementRef,
}

impl<Op> Authorized<Op> {
    /// The operation with its parameters.
    pub fn operation(&self) -> &Op {
        &self.operation
    }

    /// Who may do it.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The instance it may be done to.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// The statement that allowed it.
    pub fn decided_by(&self) -> &StatementRef {
        &self.decided_by
    }
}

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
    let caller = caller.into_inner();
    let account =
        inventory.accounts.get(&caller.user.account).filter(|account| account.status == Status::Active);
    let (Some(account), Status::Active) = (account, caller.user.status) else {
        return Err(ApiError::Suspended);
    };
    let instance = operation.instance();
    let resource = instance_arn(region, &account.id, instance);
    let request = AccessRequest {
        action: Op::OPERATION.action(),
        resource: &resource,
        os_user: operation.os_user().map(OsUser::as_str),
        origin,
    };
    let denied = |explicit| ApiError::AccessDenied {
        caller: caller.user.arn(),
        action: Op::OPERATION.action(),
        resource: resource.clone(),
        explicit,
    };
    let decided_by = match evaluate(&caller.user.policies, &request) {
        Decision::Allowed(statement) => statement,
        Decision::ExplicitlyDenied(_) => return Err(denied(true)),
        Decision::ImplicitlyDenied => return Err(denied(false)),
    };
    let not_found = || ApiError::InstanceNotFound { instance: instance.to_string() };
    let known = inventory.instances.get(instance);
    let own =
        known.filter(|known| known.account == account.id && known.region == *region).ok_or_else(not_found)?;
    let instance = Arc::clone(own);
    Ok(Authorized { operation, caller, instance, decided_by })
}
