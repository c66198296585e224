//! What is done at the serial consoles of instances.

use super::answer::Answer;
use super::changes::find_instance;
use super::{Code, refused};
use crate::api::{Api, internal};
use instance_connect_core::administration::{AtConsole, ConsoleOperation, Request};
use instance_connect_core::api::ApiError;
use instance_connect_core::authz::AuthorizedAdministration;
use instance_connect_core::console::{ConsolePush, Mode};
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::inventory::Inventory;
use instance_connect_core::origin::Origin;
use instance_connect_core::ssh_key::PublicKey;
use serde_json::json;

impl Api {
    /// Lets somebody watch, sends a BREAK, or ends a session.
    pub(super) fn at_console(
        &self,
        authorized: &AuthorizedAdministration,
        inventory: &Inventory,
        signed_at: UnixSeconds,
        origin: &Origin,
    ) -> Result<Answer, ApiError> {
        let Request::Console(AtConsole { instance, what }) = authorized.operation() else {
            return Err(internal("this is about no console"));
        };
        let user = &authorized.caller().user;
        let instance = find_instance(self, inventory, &user.account, instance)?;
        let members = match what {
            ConsoleOperation::Watch { key } => {
                self.console.check(instance, inventory)?;
                let key = PublicKey::parse(key, &self.key_types);
                let key =
                    key.map_err(|error| refused(Code::InvalidInput, format!("SSHPublicKey: {error}")))?;
                let push = ConsolePush {
                    instance: instance.id.clone(),
                    account: instance.account.clone(),
                    principal: user.arn(),
                    fingerprint: key.fingerprint(),
                    request: origin.request.clone(),
                };
                self.reserve_console(&push, Mode::Watch, signed_at)?;
                json!({ "Success": true })
            }
            ConsoleOperation::Break { milliseconds } => {
                let was_sent = self.console.send_break(&instance.id, *milliseconds);
                if !was_sent {
                    let message = format!("Nobody has a session at the serial console of {}.", instance.id);
                    return Err(refused(Code::NoSuchEntity, message));
                }
                json!({})
            }
            ConsoleOperation::Terminate => {
                let ended = self.console.terminate(&instance.id);
                json!({ "Ended": ended.as_ref().map(|push| json!({
                    "PrincipalArn": push.principal,
                    "PushRequestId": push.request.as_str(),
                })) })
            }
        };
        Ok(Answer::new(members))
    }
}
