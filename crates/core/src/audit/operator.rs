//! What is done on the control plane's machine, with the daemon's own commands.
//!
//! A command may run beside the service, which holds the log. It leaves what it has done in the store, in the transaction in
//! which it does it, and the service puts that on record.

use super::line::{Line, json};
use super::shape::{EventType, Head, ResponseElements, Rest, Shared, UserIdentity};
use crate::ids::Region;
use instance_connect_document::UnixSeconds;
use serde::{Deserialize, Serialize};

/// Something that a command has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorEvent {
    /// Random bytes that tell it from all others: of them comes its `eventID`, so that it is known where it is recorded twice.
    pub id: [u8; 16],
    /// When it was done.
    pub time: UnixSeconds,
    /// The OS user who ran the command, by number.
    pub uid: u32,
    /// What was done.
    pub action: OperatorAction,
}

/// What commands do. As JSON it is also what the store keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", content = "result", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum OperatorAction {
    /// `init`: there is an administrator.
    InitializeControlPlane {
        /// The management account.
        account_id: String,
        /// The administrator.
        user_name: String,
        /// Its access key.
        access_key_id: String,
    },
    /// `rotate-anchor begin`.
    BeginAnchorRotation {
        /// The number of the anchor that vouches for signers.
        anchor: u32,
        /// The number of the set that machines are told.
        anchor_set: u32,
    },
    /// `rotate-anchor finish`.
    FinishAnchorRotation {
        /// The number of the anchor that vouches for signers.
        anchor: u32,
        /// The number of the set that machines are told.
        anchor_set: u32,
    },
    /// `rotate-master-key`.
    RotateMasterKey,
    /// `rotate-stock-signer`.
    RotateStockSigner {
        /// The number of the generation that signs from then on.
        generation: u32,
        /// Whether the one before is revoked.
        revoked: bool,
    },
}

impl OperatorAction {
    /// As the store keeps it.
    pub fn to_json(&self) -> String {
        String::from_utf8(json(self)).unwrap_or_default()
    }

    /// What the store has kept.
    ///
    /// # Errors
    /// It is nothing that a command does.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    const fn event_name(&self) -> &'static str {
        match self {
            Self::InitializeControlPlane { .. } => "InitializeControlPlane",
            Self::BeginAnchorRotation { .. } => "BeginAnchorRotation",
            Self::FinishAnchorRotation { .. } => "FinishAnchorRotation",
            Self::RotateMasterKey => "RotateMasterKey",
            Self::RotateStockSigner { .. } => "RotateStockSigner",
        }
    }
}

impl OperatorEvent {
    /// The line of it. `event_id` is the UUID of its id.
    pub fn line(&self, region: &Region, event_id: &str) -> Line {
        let uid = self.uid.to_string();
        let operator = UserIdentity::Operator { principal_id: &uid };
        let shared = Shared::new(&Head::new(self.action.event_name(), operator, self.time, region));
        let action = serde_json::to_value(&self.action).unwrap_or_default();
        let rest = Rest {
            response_elements: action.get("result").map(ResponseElements::Administered),
            event_id: Some(event_id),
            ..Rest::new(EventType::Event)
        };
        shared.line(None, &rest)
    }
}
