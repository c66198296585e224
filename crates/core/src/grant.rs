//! A grant: a pushed key with its terms, from issue to the signed document.

use crate::api::{ApiError, SendSshPublicKey};
use crate::authz::Authorized;
use crate::ids::{BootId, Fingerprint, InstanceId, OsUser, RequestId};
use crate::inventory::InstanceState;
use crate::limits;
use instance_connect_document::{DocumentTerms, EncodeError, ServerInstant, SigningKey, UnixSeconds};
use std::time::Duration;

/// A pushed key with its terms.
#[derive(Clone, Debug)]
pub struct Grant {
    request: RequestId,
    instance: InstanceId,
    machine: InstanceId,
    os_user: OsUser,
    fingerprint: Fingerprint,
    key_line: String,
    caller: String,
    expires_at: UnixSeconds,
    deadline: ServerInstant,
}

impl Grant {
    /// Issues a grant for [`limits::GRANT_LIFETIME`] from now. It takes the authorization, and there is no other way.
    ///
    /// # Errors
    /// [`ApiError::InstanceStateInvalid`] where the instance is not running, [`ApiError::InstanceNotFound`] where it
    /// is in another zone than the one asked for.
    pub fn issue(
        authorized: &Authorized<SendSshPublicKey>,
        request: RequestId,
        wall: UnixSeconds,
        monotonic: ServerInstant,
    ) -> Result<Self, ApiError> {
        let (operation, instance) = (authorized.operation(), authorized.instance());
        // What AWS answers to a wrong zone is not documented; that the instance is not there is the usual reading.
        if operation.availability_zone.as_ref().is_some_and(|zone| *zone != instance.availability_zone) {
            return Err(ApiError::InstanceNotFound { instance: instance.id.to_string() });
        }
        if instance.state != InstanceState::Running {
            return Err(ApiError::InstanceStateInvalid { state: instance.state.as_str() });
        }
        let lifetime = limits::GRANT_LIFETIME;
        Ok(Self {
            request,
            instance: instance.id.clone(),
            machine: instance.machine().clone(),
            os_user: operation.os_user.clone(),
            fingerprint: operation.key.fingerprint(),
            key_line: operation.key.line(),
            caller: authorized.caller().user.arn(),
            expires_at: UnixSeconds(wall.0.saturating_add(lifetime.as_secs().try_into().unwrap_or(0))),
            deadline: monotonic.after(lifetime),
        })
    }

    /// The same grant, ending at most this long after its issue.
    #[must_use]
    pub fn ending_after(mut self, lifetime: Duration) -> Self {
        let sooner = limits::GRANT_LIFETIME.saturating_sub(lifetime);
        self.deadline = self.deadline.before(sooner);
        self.expires_at.0 = self.expires_at.0.saturating_sub(sooner.as_secs().try_into().unwrap_or(0));
        self
    }

    /// The request that pushed it.
    pub fn request(&self) -> &RequestId {
        &self.request
    }

    /// The instance it is for.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// The instance whose agent gets it: that one, or its host.
    pub fn machine(&self) -> &InstanceId {
        &self.machine
    }

    /// The OS user it opens.
    pub fn os_user(&self) -> &OsUser {
        &self.os_user
    }

    /// The key's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The ARN of who pushed it.
    pub fn caller(&self) -> &str {
        &self.caller
    }

    /// When it ends, on this process's monotonic clock.
    pub fn deadline(&self) -> ServerInstant {
        self.deadline
    }

    /// The document for one boot of the machine, signed.
    ///
    /// # Errors
    /// When a term cannot stand in a document; what was parsed into types always can.
    pub fn document(&self, boot: &BootId, signer: &SigningKey) -> Result<String, EncodeError> {
        let terms = DocumentTerms {
            expires_at: self.expires_at,
            instance: &self.instance,
            caller: &self.caller,
            request: &self.request,
            user: &self.os_user,
            boot,
            key_line: &self.key_line,
        };
        terms.sign(signer)
    }
}
