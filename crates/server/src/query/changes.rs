//! The operations that change what the inventory says of instances, and the switch of the serial console.

use super::Answer;
use crate::api::{Api, internal};
use instance_connect_core::api::{ApiError, QueryErrorCode as Code};
use instance_connect_core::authz::AuthorizedQuery;
use instance_connect_core::ids::InstanceId;
use instance_connect_core::inventory::Instance;
use instance_connect_core::limits;
use instance_connect_core::origin::Origin;
use instance_connect_core::query::{self, Change, Operation, StateChange, Task};
use instance_connect_core::sigv4::{AuthenticationError, UsedSignature};
use instance_connect_planted::planted;
use instance_connect_store::InstanceChange;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Api {
    /// Makes the change that is authorised. What it is about is looked at before anything is changed: all or nothing.
    pub(super) async fn make_change(
        &self,
        authorized: &AuthorizedQuery,
        operation: Operation,
        used: &UsedSignature,
        origin: &Origin,
    ) -> Result<Answer, ApiError> {
        let (store, request) = (self.inventory.store(), &origin.request);
        let Task::Change(change) = &authorized.operation().task else {
            return Err(internal("a change that is none"));
        };
        match change {
            Change::SetSerialConsoleAccess { enabled } => {
                let account = &authorized.caller().user.account;
                let inventory = self.inventory.current().map_err(internal)?;
                let is_on = inventory.accounts.get(account).is_some_and(|it| it.serial_console_access);
                self.use_up(used, is_on != *enabled, origin).await?;
                store.set_serial_console_access(account, *enabled).await.map_err(internal)?;
                let body = query::serial_console_access(operation, *enabled, request);
                Ok(recorded(body, origin, json!({ "serialConsoleAccessEnabled": enabled })))
            }
            Change::CreateTags { tags, .. } => {
                let with = |instance: &Instance| {
                    let mut all = instance.tags.clone();
                    all.extend(tags.clone());
                    all
                };
                self.put_tags(authorized, used, origin, with).await?;
                Ok(recorded(query::done(operation, request), origin, json!({ "_return": true })))
            }
            Change::DeleteTags { tags, .. } => {
                let without = |instance: &Instance| {
                    let kept = instance.tags.iter().filter(|(key, value)| !tags.covers(key, value));
                    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
                };
                self.put_tags(authorized, used, origin, without).await?;
                Ok(recorded(query::done(operation, request), origin, json!({ "_return": true })))
            }
            Change::SetState { change, .. } => {
                self.set_states(authorized, *change, operation, used, origin).await
            }
        }
    }

    async fn put_tags(
        &self,
        authorized: &AuthorizedQuery,
        used: &UsedSignature,
        origin: &Origin,
        changed: impl Fn(&Instance) -> BTreeMap<String, String>,
    ) -> Result<(), ApiError> {
        let all: Vec<(&Arc<Instance>, BTreeMap<String, String>)> =
            authorized.instances().iter().map(|instance| (instance, changed(instance))).collect();
        if all.iter().any(|(_, tags)| tags.len() > limits::TAGS) {
            let message = format!("More than {} tags specified", limits::TAGS);
            return Err(ApiError::Query { code: Code::TagLimitExceeded, message });
        }
        let differing = all.into_iter().filter(|(instance, tags)| instance.tags != *tags);
        let changes = differing.map(|(instance, tags)| (instance.id.clone(), InstanceChange::Tags(tags)));
        self.store_changes(changes.collect(), used, origin).await
    }

    /// In one transaction: whatever fails, no instance is changed without the others.
    async fn store_changes(
        &self,
        changes: BTreeMap<InstanceId, InstanceChange>,
        used: &UsedSignature,
        origin: &Origin,
    ) -> Result<(), ApiError> {
        self.use_up(used, !changes.is_empty(), origin).await?;
        if changes.is_empty() {
            return Ok(());
        }
        self.inventory.store().change_instances(&changes, origin.time).await.map_err(internal)
    }

    /// Uses the request's signature up. A request that comes again is answered where what it asks for is so already; what
    /// was changed since stays as it is. Two requests that are made in the same second have one signature as well, such as
    /// those that switch something on, off and on again: clients try that once more, in the next second. One that comes
    /// later than that is no such request, and must not be done again by a client that heard nothing of the first time: it
    /// has expired, at which none signs anew.
    async fn use_up(
        &self,
        used: &UsedSignature,
        changes_something: bool,
        origin: &Origin,
    ) -> Result<(), ApiError> {
        let fresh = self.inventory.store().use_signature(used, origin.time).await.map_err(internal)?;
        let is_refused = changes_something && !fresh && !planted("change-replayed");
        match is_refused {
            false => Ok(()),
            true if used.signed_at.0.abs_diff(origin.time.0) <= limits::SIGNED_JUST_NOW.as_secs() => {
                Err(ApiError::SignatureUsed)
            }
            true => {
                let why = "Signature expired: this request was made already. Sign it again to repeat it.";
                Err(AuthenticationError::OutsideClockWindow(why.to_owned()).into())
            }
        }
    }

    async fn set_states(
        &self,
        authorized: &AuthorizedQuery,
        change: StateChange,
        operation: Operation,
        used: &UsedSignature,
        origin: &Origin,
    ) -> Result<Answer, ApiError> {
        let (instances, now) = (authorized.instances(), change.state());
        instances.iter().try_for_each(|instance| change.check(instance))?;
        let differing = instances.iter().filter(|instance| instance.state != now);
        let stored = differing.map(|instance| (instance.id.clone(), InstanceChange::State(now)));
        self.store_changes(stored.collect(), used, origin).await?;
        let changes: Vec<_> =
            instances.iter().map(|instance| (instance.id.clone(), instance.state, now)).collect();
        let items = changes.iter().map(|(id, before, now)| {
            let [before, now] =
                [before, now].map(|state| json!({ "code": state.code(), "name": state.as_str() }));
            json!({ "instanceId": id.as_str(), "currentState": now, "previousState": before })
        });
        let set = json!({ "instancesSet": { "items": items.collect::<Value>() } });
        Ok(recorded(query::state_changes(operation, &changes, &origin.request), origin, set))
    }
}

/// An answer whose record shows this, with the request's id as EC2's records have it.
fn recorded(body: String, origin: &Origin, mut elements: Value) -> Answer {
    if let Value::Object(elements) = &mut elements {
        elements.insert("requestId".to_owned(), origin.request.as_str().into());
    }
    Answer { body, recorded: Some(elements) }
}
