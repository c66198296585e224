//! What policies would say of a push, without one.

use super::members::{Bounded, Member, Members, invalid, list};
use crate::api::ApiError;
use crate::authz::InstanceOperation;
use crate::iam::RequestedAction;
use crate::ids::{InstanceId, OsUser};
use crate::limits;
use crate::origin::{Origin, TlsDetails};
use serde_json::Value;
use std::net::IpAddr;

/// A push that policies are asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SimulatedPush {
    /// `SendSSHPublicKey`
    SendSshPublicKey {
        /// To this instance.
        instance: InstanceId,
        /// For this OS user.
        os_user: OsUser,
    },
    /// `SendSerialConsoleSSHPublicKey`
    SendSerialConsoleSshPublicKey {
        /// For the serial console of this instance.
        instance: InstanceId,
    },
}

impl SimulatedPush {
    /// Reads it from `ActionName`, with or without the service in front, `InstanceId` and `InstanceOSUser`.
    pub(super) fn read(m: &mut Members) -> Result<Self, ApiError> {
        let Bounded(action) = m.required::<Bounded<{ limits::MARKER }>>("ActionName")?;
        let instance = m.required("InstanceId")?;
        Self::of_action(&action, instance, || m.required("InstanceOSUser"))
    }

    /// The push of this action, with or without the service in front of its name.
    ///
    /// # Errors
    /// Another action, or what `os_user` fails with where the action needs one.
    pub fn of_action(
        action: &str,
        instance: InstanceId,
        os_user: impl FnOnce() -> Result<OsUser, ApiError>,
    ) -> Result<Self, ApiError> {
        match action.strip_prefix("ec2-instance-connect:").unwrap_or(action) {
            "SendSSHPublicKey" => Ok(Self::SendSshPublicKey { instance, os_user: os_user()? }),
            "SendSerialConsoleSSHPublicKey" => Ok(Self::SendSerialConsoleSshPublicKey { instance }),
            _ => Err(invalid("ActionName is SendSSHPublicKey or SendSerialConsoleSSHPublicKey".to_owned())),
        }
    }
}

impl InstanceOperation for SimulatedPush {
    fn instance(&self) -> &InstanceId {
        match self {
            Self::SendSshPublicKey { instance, .. } | Self::SendSerialConsoleSshPublicKey { instance } => {
                instance
            }
        }
    }

    fn requested_action(&self) -> RequestedAction<'_> {
        match self {
            Self::SendSshPublicKey { os_user, .. } => RequestedAction::SendSshPublicKey { os_user },
            Self::SendSerialConsoleSshPublicKey { .. } => RequestedAction::SendSerialConsoleSshPublicKey,
        }
    }
}

/// Policies ask only whether there is any.
const SOME_TLS: TlsDetails =
    TlsDetails { version: "TLSv1.3", cipher_suite: "TLS_AES_128_GCM_SHA256", host: String::new() };

/// What of the request's surroundings is to be as if. The rest is as in the request that asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimulatedContext {
    /// `aws:SourceIp`
    pub source: Option<IpAddr>,
    /// `aws:SecureTransport`
    pub secure_transport: Option<bool>,
    /// `aws:UserAgent`
    pub user_agent: Option<String>,
}

impl SimulatedContext {
    /// Where the simulated request comes from.
    pub fn origin(&self, asked_from: &Origin) -> Origin {
        let user_agent = self.user_agent.clone().unwrap_or_else(|| asked_from.user_agent.clone());
        let tls = match self.secure_transport {
            Some(false) => None,
            Some(true) => Some(asked_from.tls.clone().unwrap_or(SOME_TLS)),
            None => asked_from.tls.clone(),
        };
        Origin {
            source: self.source.map_or(asked_from.source, |source| source.to_canonical()),
            tls,
            user_agent,
            ..asked_from.clone()
        }
    }

    /// Sets what one condition key stands for.
    ///
    /// # Errors
    /// `ValidationError` for another key, or a value that it cannot have.
    pub fn set(&mut self, key: &str, value: String) -> Result<(), ApiError> {
        let refuse = || invalid(format!("ContextEntries: {key} cannot have this value"));
        match key.to_ascii_lowercase().as_str() {
            "aws:sourceip" => self.source = Some(value.parse().map_err(|_| refuse())?),
            "aws:securetransport" => self.secure_transport = Some(value.parse().map_err(|_| refuse())?),
            "aws:useragent" => self.user_agent = Some(value),
            _ => {
                return Err(invalid(
                    "ContextEntries takes aws:SourceIp, aws:SecureTransport and aws:UserAgent; tags and names are \
                     those of the user and the instance"
                        .to_owned(),
                ));
            }
        }
        Ok(())
    }
}

impl Member for SimulatedContext {
    /// `[{"ContextKeyName": …, "ContextKeyValue": …}]`
    fn read(name: &str, value: &Value) -> Result<Self, ApiError> {
        let mut context = Self::default();
        for entry in list(name, value, limits::TAGS)? {
            let Value::Object(entry) = entry else { return Err(ApiError::Serialization) };
            let mut entry = Members::with(entry.clone());
            let Bounded(key) = entry.required::<Bounded<{ limits::TAG_KEY }>>("ContextKeyName")?;
            let Bounded(value) = entry.required::<Bounded<{ limits::USER_AGENT }>>("ContextKeyValue")?;
            entry.finish()?;
            context.set(&key, value)?;
        }
        Ok(context)
    }
}
