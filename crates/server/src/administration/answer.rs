//! What administration answers, and what of it is on record.

use instance_connect_core::administration::{Operation, recorded};
use instance_connect_core::ids::{AccountId, PolicyName};
use instance_connect_core::inventory::{Status, policy_arn};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// An answer: its members, and apart from them the one secret that it may hold.
pub(super) struct Answer {
    members: Value,
    secret: Option<Secret>,
    /// What is on record in the place of the members.
    summary: Option<Value>,
}

/// A secret that is told once: in which object of the answer, under which name.
struct Secret {
    object: &'static str,
    name: &'static str,
    text: Zeroizing<String>,
}

impl Answer {
    /// An answer that anybody may know who may ask.
    pub(super) const fn new(members: Value) -> Self {
        Self { members, secret: None, summary: None }
    }

    /// That it was done, and no more.
    pub(super) fn done() -> Self {
        Self::new(json!({}))
    }

    /// With a secret in one of its objects.
    pub(super) fn with_secret(
        mut self,
        object: &'static str,
        name: &'static str,
        text: Zeroizing<String>,
    ) -> Self {
        self.secret = Some(Secret { object, name, text });
        self
    }

    /// With something shorter on record.
    pub(super) fn with_summary(mut self, summary: Value) -> Self {
        self.summary = Some(summary);
        self
    }

    /// What a record shows: as CloudTrail does, nothing of what was only read, and never a secret.
    pub(super) fn recorded(&self, operation: Operation) -> Option<Value> {
        let is_empty = self.members.as_object().is_none_or(Map::is_empty);
        let shown = self.summary.as_ref().unwrap_or(&self.members);
        (!operation.is_read_only() && !is_empty).then(|| recorded(shown))
    }

    /// The body of the answer.
    pub(super) fn into_body(mut self) -> String {
        if let Some(Secret { object, name, text }) = self.secret
            && let Some(Value::Object(object)) = self.members.get_mut(object)
        {
            object.insert(name.to_owned(), Value::String(text.as_str().to_owned()));
        }
        self.members.to_string()
    }
}

/// Tags as AWS writes them.
pub(super) fn tags(tags: &BTreeMap<String, String>) -> Value {
    tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

/// A managed policy that is attached, or a boundary.
pub(super) fn attached(account: &AccountId, name: &PolicyName) -> Value {
    json!({ "PolicyName": name.as_str(), "PolicyArn": policy_arn(account, name) })
}

/// Whether an account or user is in use.
pub(super) const fn status(status: Status) -> &'static str {
    match status {
        Status::Active => "Active",
        Status::Suspended => "Suspended",
    }
}

/// Whether an access key is in use, in IAM's word.
pub(super) const fn key_status(status: Status) -> &'static str {
    match status {
        Status::Active => "Active",
        Status::Suspended => "Inactive",
    }
}
