//! Administration over the control API: one request, read aloud. Requests come here once their signature has been verified.

mod answer;
mod changes;
mod consoles;
mod reads;
mod revocations;

use crate::api::{Api, Call, internal};
use crate::metrics::Limit;
use crate::traces;
use answer::Answer;
use instance_connect_core::administration::{Operation, Request};
use instance_connect_core::api::{self, AdministrationErrorCode as Code, ApiError};
use instance_connect_core::audit::{AuditedRequest, Outcome};
use instance_connect_core::authz::{
    AuthorizedAdministration, authorize_administration, authorize_administration_again,
};
use instance_connect_core::iam::PolicyError;
use instance_connect_core::inventory::Inventory;
use instance_connect_core::origin::Origin;
use instance_connect_core::sigv4::UsedSignature;
use instance_connect_planted::planted;
use instance_connect_store::{Refusal, StoreError};

impl Api {
    /// Performs an administrative operation for a verified caller, and records what came of it before anyone is told.
    pub(crate) async fn administer(
        &self,
        operation: Operation,
        call: Call,
        origin: &Origin,
    ) -> Result<String, ApiError> {
        let any_operation = api::Operation::Administer(operation);
        let mut audited = AuditedRequest::new(origin, call.caller.get(), any_operation, &self.region);
        let result = self.carry_out(operation, call, origin, &mut audited).await;
        let response_elements = result.as_ref().ok().and_then(|answer| answer.recorded(operation));
        let outcome = match &result {
            Ok(_) => Outcome::Administered { response_elements: response_elements.as_ref() },
            Err(error) => Outcome::Failure(error),
        };
        // Without its record a change that was made is not told of. Its intent is on disk, and says that it was begun.
        // A key that was taken to watch with is not good without it, either.
        self.record(&audited, outcome, origin)
            .await
            .inspect_err(|_| self.console.release(&origin.request))?;
        result.map(Answer::into_body)
    }

    /// From parameters to the answer.
    async fn carry_out(
        &self,
        operation: Operation,
        call: Call,
        origin: &Origin,
        audited: &mut AuditedRequest,
    ) -> Result<Answer, ApiError> {
        let Call { caller, body, inventory, used, .. } = call;
        self.throttled(Limit::Principal, |throttle, now| throttle.admit_caller(&caller, now))?;
        let (request, recorded) = Request::parse(operation, &body)?;
        audited.administered(&recorded);
        let authorized = traces::authorization().in_scope(|| {
            authorize_administration(caller, operation, request, &inventory, &self.region, origin)
        })?;
        audited.decided_by(authorized.decided_by());
        self.refuse_replay(&used, origin).await?;
        match authorized.operation() {
            Request::Read(read) => self.read(&authorized, read, origin).await,
            Request::Change(_) => {
                self.commit_intent(audited).await?;
                self.in_turn(async |inventory| {
                    let authorized = self.still_authorized(authorized, operation, &inventory, origin)?;
                    let Request::Change(change) = authorized.operation() else {
                        return Err(internal("a change that is none"));
                    };
                    self.change(&authorized, change, origin).await
                })
                .await
            }
            Request::Revoke(revoke) => {
                self.commit_intent(audited).await?;
                self.revoke(&authorized, revoke).await
            }
            Request::Console(_) => {
                self.commit_intent(audited).await?;
                let inventory = self.inventory.current().map_err(internal)?;
                let authorized = self.still_authorized(authorized, operation, &inventory, origin)?;
                self.at_console(&authorized, &inventory, used.signed_at, origin)
            }
        }
    }

    /// Uses the request's signature up. Whoever has seen the request can send it again, and must not have it done again.
    async fn refuse_replay(&self, used: &UsedSignature, origin: &Origin) -> Result<(), ApiError> {
        let fresh = self.inventory.store().use_signature(used, origin.time).await;
        let fresh = fresh.map_err(internal)?;
        if fresh || planted("replay-admitted") {
            return Ok(());
        }
        Err(refused(Code::RequestReplayed, "This request has been made already. Sign it again to repeat it."))
    }

    /// Judges a change once more when its turn has come: the one before it may have taken the right to it away.
    fn still_authorized(
        &self,
        authorized: AuthorizedAdministration,
        operation: Operation,
        inventory: &Inventory,
        origin: &Origin,
    ) -> Result<AuthorizedAdministration, ApiError> {
        if planted("turn-unauthorized") {
            return Ok(authorized);
        }
        authorize_administration_again(authorized, operation, inventory, &self.region, origin)
    }
}

/// A refusal in IAM's terms.
fn refused(code: Code, message: impl Into<String>) -> ApiError {
    ApiError::Administration { code, message: message.into() }
}

/// What a caller is told of a change that the store did not make.
fn store_error(error: StoreError) -> ApiError {
    let message = sentence(&error.to_string());
    match error {
        StoreError::AlreadyExists(_) => refused(Code::EntityAlreadyExists, message),
        StoreError::NotFound(_) => refused(Code::NoSuchEntity, message),
        StoreError::DeleteConflict(_) => refused(Code::DeleteConflict, message),
        StoreError::Refused(refusal) => refused(refusal_code(&refusal), sentence(&refusal.to_string())),
        StoreError::WrongMasterKey
        | StoreError::Sealed { .. }
        | StoreError::Newer { .. }
        | StoreError::Unusable { .. }
        | StoreError::Unavailable(_)
        | StoreError::Damaged(_)
        | StoreError::Internal(_) => internal(error),
    }
}

const fn refusal_code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::Policy(PolicyError { .. }) => Code::MalformedPolicyDocument,
        Refusal::TooManyGroups
        | Refusal::TooManyPolicies
        | Refusal::TooManyAccessKeys
        | Refusal::InlinePoliciesTooLong
        | Refusal::TooManyTags => Code::LimitExceeded,
        Refusal::Root
        | Refusal::OtherHostKeys
        | Refusal::HostKeyInUse(_)
        | Refusal::HostKeyNotInUse(_)
        | Refusal::AgentState
        | Refusal::AnchorChange
        | Refusal::StockChange
        | Refusal::OwnHost
        | Refusal::HostElsewhere
        | Refusal::HostTerminated
        | Refusal::HostIsGuest
        | Refusal::GuestIsHost
        | Refusal::TagKey
        | Refusal::TagValue
        | Refusal::UserTagKey
        | Refusal::UserTagKeyTwice
        | Refusal::UserTagValue => Code::InvalidInput,
    }
}

/// With a capital and a full stop, as answers have it.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    format!("{}{}.", first.map(String::from).unwrap_or_default(), characters.as_str())
}
