//! Keys that are withdrawn from the machines before their minute is over.

use super::answer::Answer;
use super::changes::{find_instance, find_user};
use crate::api::{Api, internal};
use crate::links::{Revoked, Selection};
use instance_connect_core::administration::Revoke;
use instance_connect_core::api::ApiError;
use instance_connect_core::authz::AuthorizedAdministration;
use instance_connect_core::console;
use instance_connect_core::ids::AccountId;
use instance_connect_core::limits;
use instance_connect_core::revocation::Revocation;
use serde_json::{Value, json};
use std::time::Duration;

/// Times of signatures are whole seconds.
const SECOND: Duration = Duration::from_secs(1);

impl Api {
    /// Lets nobody push the keys that are meant with what was signed until now, withdraws them, and says which are gone and
    /// which could not be reached.
    pub(super) async fn revoke(
        &self,
        authorized: &AuthorizedAdministration,
        revoke: &Revoke,
    ) -> Result<Answer, ApiError> {
        let inventory = self.inventory.current().map_err(internal)?;
        let account = &authorized.caller().user.account;
        let (instance, fingerprint, user) = match revoke {
            Revoke::Instance { instance, fingerprint, user } => {
                (Some(find_instance(self, &inventory, account, instance)?), *fingerprint, user.as_ref())
            }
            Revoke::User { user } => (None, None, Some(user)),
        };
        let user = user.map(|user| find_user(&inventory, account, user)).transpose()?;
        let revocation = Revocation {
            instance: instance.map(|instance| instance.id.clone()),
            fingerprint,
            principal: user.map(|user| user.arn()),
            at: self.clock.wall(),
        };
        // First no push from before is good any more, and then what such pushes have left is withdrawn: whatever is on its
        // way meanwhile meets with one of the two. Where that cannot be kept, the keys go all the same.
        let kept = self.keep(account, &revocation).await;
        let selection = Selection {
            instance: revocation.instance.as_ref(),
            fingerprint,
            principal: revocation.principal.as_deref(),
        };
        self.console.revoke(console::Selection {
            account,
            instance: revocation.instance.as_ref(),
            principal: revocation.principal.as_deref(),
            fingerprint,
        });
        // Whoever pushes after the answer signs in another second than this one.
        let (revoked, ()) = tokio::join!(self.links.revoke(selection), tokio::time::sleep(SECOND));
        kept?;
        let (withdrawn, unreached): (Vec<Revoked>, Vec<Revoked>) =
            revoked.into_iter().partition(|revoked| revoked.confirmed);
        let members = json!({ "Withdrawn": shown(&withdrawn), "Unreached": shown(&unreached) });
        let summary = json!({ "Withdrawn": summary(&withdrawn), "Unreached": summary(&unreached) });
        Ok(Answer::new(members).with_summary(summary))
    }

    /// Keeps a revocation, so that it is decided by from here on and after a restart.
    async fn keep(&self, account: &AccountId, revocation: &Revocation) -> Result<(), ApiError> {
        self.inventory.store().put_revocation(account, revocation).await.map_err(internal)?;
        self.inventory.refresh().await.map_err(|error| internal(format!("{error:#}")))
    }
}

fn shown(revoked: &[Revoked]) -> Value {
    let keys = revoked.iter().map(|Revoked { key, .. }| {
        json!({
            "InstanceId": key.instance.as_str(),
            "InstanceOSUser": key.os_user.as_str(),
            "Fingerprint": key.fingerprint.to_string(),
            "PrincipalArn": key.principal,
            "PushRequestId": key.request.as_str(),
        })
    });
    keys.collect()
}

/// How many, and by which requests they were pushed.
fn summary(revoked: &[Revoked]) -> Value {
    let requests = revoked.iter().take(limits::REVOKED_RECORDED).map(|revoked| revoked.key.request.as_str());
    json!({ "Count": revoked.len(), "PushRequestIds": requests.collect::<Vec<_>>() })
}
