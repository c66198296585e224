//! Keys that are withdrawn from the machines before their minute is over.

use super::answer::Answer;
use super::changes::{find_instance, find_user};
use crate::api::{Api, internal};
use crate::links::{Revoked, Selection};
use instance_connect_core::administration::Revoke;
use instance_connect_core::api::ApiError;
use instance_connect_core::authz::AuthorizedAdministration;
use instance_connect_core::limits;
use serde_json::{Value, json};

impl Api {
    /// Withdraws the keys that are meant, and says which are gone and which could not be reached.
    pub(super) async fn revoke(
        &self,
        authorized: &AuthorizedAdministration,
        revoke: &Revoke,
    ) -> Result<Answer, ApiError> {
        let inventory = self.inventory.current().map_err(internal)?;
        let account = &authorized.caller().user.account;
        let revoked = match revoke {
            Revoke::Instance { instance, fingerprint, user } => {
                let instance = find_instance(self, &inventory, account, instance)?;
                let user = user.as_ref().map(|user| find_user(&inventory, account, user)).transpose()?;
                let principal = user.map(|user| user.arn());
                let selection = Selection {
                    instance: Some(&instance.id),
                    fingerprint: *fingerprint,
                    principal: principal.as_deref(),
                };
                self.links.revoke(selection).await
            }
            Revoke::User { user } => {
                let principal = find_user(&inventory, account, user)?.arn();
                let selection = Selection { principal: Some(&principal), ..Selection::default() };
                self.links.revoke(selection).await
            }
        };
        let (withdrawn, unreached): (Vec<Revoked>, Vec<Revoked>) =
            revoked.into_iter().partition(|revoked| revoked.confirmed);
        let members = json!({ "Withdrawn": shown(&withdrawn), "Unreached": shown(&unreached) });
        let summary = json!({ "Withdrawn": summary(&withdrawn), "Unreached": summary(&unreached) });
        Ok(Answer::new(members).with_summary(summary))
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
