//! EC2's query API and STS's: one request, read aloud. Requests come here once their signature has been verified.

mod changes;

use crate::api::{Api, Call};
use crate::metrics::Limit;
use crate::traces;
use instance_connect_core::api::{self, ApiError, QueryErrorCode as Code};
use instance_connect_core::audit::{AuditedRequest, Outcome};
use instance_connect_core::authz::{AuthorizedQuery, authorize_query, authorize_query_again};
use instance_connect_core::ids::RequestId;
use instance_connect_core::inventory::Inventory;
use instance_connect_core::origin::Origin;
use instance_connect_core::query::{self, Operation, Read, Request, Task};
use instance_connect_core::sigv4::{AuthenticationError, UsedSignature};
use serde_json::Value;

/// What is answered, and what of it is on record: of what was only read, nothing.
struct Answer {
    body: String,
    recorded: Option<Value>,
}

impl Api {
    /// Performs an operation of the query protocol for a verified caller, and records what came of it before anyone is told.
    pub(crate) async fn query(
        &self,
        operation: Operation,
        call: Call,
        origin: &Origin,
    ) -> Result<String, ApiError> {
        let any_operation = api::Operation::Query(operation);
        let mut audited = AuditedRequest::new(origin, call.caller.get(), any_operation, &self.region);
        let result = self.look_up_or_change(operation, call, origin, &mut audited).await;
        let outcome = match &result {
            Ok(answer) => Outcome::Administered { response_elements: answer.recorded.as_ref() },
            Err(error) => Outcome::Failure(error),
        };
        // Without its record a change that was made is not told of. Its intent is on disk, and says that it was begun.
        self.record(&audited, outcome, origin).await?;
        result.map(|answer| answer.body)
    }

    /// From parameters to the answer. What changes something may come twice, since SDKs send what they heard nothing of
    /// again, byte by byte: it is done once.
    async fn look_up_or_change(
        &self,
        operation: Operation,
        call: Call,
        origin: &Origin,
        audited: &mut AuditedRequest,
    ) -> Result<Answer, ApiError> {
        let Call { caller, parameters, inventory, host, used, .. } = call;
        self.throttled(Limit::Principal, |throttle, now| throttle.admit_caller(&caller, now))?;
        let request = Request::read(operation, parameters)?;
        audited.administered(&request.recorded());
        let authorized = traces::authorization()
            .in_scope(|| authorize_query(caller, operation, request, &inventory, &self.region, origin))?;
        audited.decided_by(authorized.decided_by());
        if authorized.operation().dry_run {
            let message = "Request would have succeeded, but DryRun flag is set.".to_owned();
            return Err(ApiError::Query { code: Code::DryRunOperation, message });
        }
        match &authorized.operation().task {
            Task::Read(read) => {
                let body = self.look_up(&authorized, read, &inventory, &host, &origin.request)?;
                Ok(Answer { body, recorded: None })
            }
            Task::Change(_) => {
                self.refuse_old(&used, origin)?;
                self.commit_intent(audited).await?;
                self.in_turn(async |inventory| {
                    // The change before it may have taken the right to this one away.
                    let authorized =
                        authorize_query_again(authorized, operation, &inventory, &self.region, origin)?;
                    self.make_change(&authorized, operation, &used, origin).await
                })
                .await
            }
        }
    }

    /// Refuses a change that was signed longer ago than a signature in a header is good for, however long it was presigned
    /// for: for as long, whoever has seen it could wait for the moment.
    fn refuse_old(&self, used: &UsedSignature, origin: &Origin) -> Result<(), ApiError> {
        let window = self.clock_window.duration().as_secs();
        if origin.time.0 > used.signed_at.0.saturating_add_unsigned(window) {
            let why = "Signature expired: a change is not presigned for longer than a request is good for.";
            return Err(AuthenticationError::OutsideClockWindow(why.to_owned()).into());
        }
        Ok(())
    }

    fn look_up(
        &self,
        authorized: &AuthorizedQuery,
        read: &Read,
        inventory: &Inventory,
        host: &str,
        request: &RequestId,
    ) -> Result<String, ApiError> {
        let (user, region) = (&authorized.caller().user, &self.region);
        let account = &user.account;
        Ok(match read {
            Read::DescribeInstances(describe) => {
                let (instances, next) = describe.find(inventory, account, region)?;
                query::instances(inventory, &instances, next.as_deref(), request)
            }
            Read::DescribeInstanceTypes(describe) => {
                let (types, next) = describe.find(inventory, account, region);
                query::instance_types(&types, next.as_deref(), request)
            }
            Read::DescribeTags(describe) => {
                let (tags, next) = describe.find(inventory, account, region);
                query::tags(&tags, next.as_deref(), request)
            }
            Read::DescribeRegions(describe) => query::regions(describe.find(region, host)?, request),
            Read::GetSerialConsoleAccessStatus => {
                let is_on = inventory.accounts.get(account).is_some_and(|it| it.serial_console_access);
                query::serial_console_access(Operation::GetSerialConsoleAccessStatus, is_on, request)
            }
            Read::GetCallerIdentity => query::caller_identity(user, request),
        })
    }
}
