//! What is done about a serial line without being at it: one call, and its answer shown.

use super::arguments::Act;
use super::gateway;
use crate::administration::show::{cell, json};
use crate::arguments::OutputFormat;
use crate::failure::Failure;
use crate::{output, progress};
use instance_connect_client::{Administer, AdministrativeOperation as O, Client, Error};
use instance_connect_core::host_key::HostKey;
use instance_connect_core::ids::InstanceId;
use instance_connect_core::printable::printable;
use serde_json::{Map, Value};

/// A call about a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Break { milliseconds: Option<u16> },
    Terminate,
    Who,
}

impl Call {
    /// The one that the options are for; without any, somebody attaches.
    pub(super) fn of(act: &Act) -> Option<Self> {
        let Act { send_break, break_milliseconds, terminate, who } = act;
        match (send_break, terminate, who) {
            (true, _, _) => Some(Self::Break { milliseconds: *break_milliseconds }),
            (_, true, _) => Some(Self::Terminate),
            (_, _, true) => Some(Self::Who),
            _ => None,
        }
    }

    pub(super) async fn make(
        self,
        instance: &InstanceId,
        client: &Client,
        format: OutputFormat,
    ) -> Result<u8, Failure> {
        let request = self.request(instance);
        let answer = progress::step(progress::ANSWER, client.administer(&request)).await;
        let answer = answer.map_err(|error| nobody_there(error, instance))?;
        output::result(&match format {
            OutputFormat::Json => json(&answer)?,
            OutputFormat::Text => self.text(instance, &answer),
        })?;
        Ok(0)
    }

    fn request(self, instance: &InstanceId) -> Administer {
        let call = |operation| Administer::new(operation).with("InstanceId", instance.as_str());
        match self {
            Self::Break { milliseconds } => {
                call(O::SendSerialBreak).with("DurationMilliseconds", milliseconds)
            }
            Self::Terminate => call(O::TerminateSerialConsoleSession),
            Self::Who => call(O::GetSerialConsoleSession),
        }
    }

    fn text(self, instance: &InstanceId, answer: &Map<String, Value>) -> String {
        match self {
            Self::Break { .. } => format!("a BREAK is sent to the serial line of {instance}"),
            Self::Terminate => match answer.get("Ended") {
                None | Some(Value::Null) => format!("nobody had the serial line of {instance}"),
                Some(_) => {
                    let (who, push) =
                        (cell(answer, "Ended.PrincipalArn"), cell(answer, "Ended.PushRequestId"));
                    format!("{who} has lost the serial line of {instance} (request id of the push {push})")
                }
            },
            Self::Who => who(answer),
        }
    }
}

fn who(answer: &Map<String, Value>) -> String {
    let part = |name: &str, path: &str| format!("{name}: {}", cell(answer, path));
    let mut lines = vec![part("Instance", "InstanceId"), part("Writer", "Session.PrincipalArn")];
    if answer.get("Session").is_some_and(Value::is_object) {
        lines.push(part("State", "Session.State"));
        lines.push(part("Since", "Session.Since"));
        lines.push(part("Request id of the push", "Session.PushRequestId"));
    }
    let watchers = answer.get("Watchers").and_then(Value::as_array).into_iter().flatten();
    let arns = watchers.filter_map(|watcher| watcher.get("PrincipalArn")?.as_str());
    let arns = arns.map(printable).collect::<Vec<_>>();
    lines.push(format!("Watchers: {}", if arns.is_empty() { "-".to_owned() } else { arns.join(", ") }));
    lines.join("\n")
}

/// A BREAK needs somebody at the line, who is answerable for what it does.
fn nobody_there(error: Error, instance: &InstanceId) -> Failure {
    let is_free =
        error.fault().is_some_and(|fault| fault.code == "NoSuchEntity" && fault.message.contains("session"));
    let failure = Failure::from(error);
    if !is_free {
        return failure;
    }
    failure.hint(format!(
        "attach first, by `instance-connect console {instance}`; there Ctrl-] b sends one, too"
    ))
}

/// Shows by which host keys the gateways prove themselves.
pub(super) async fn fingerprint(client: &Client, format: OutputFormat) -> Result<u8, Failure> {
    let (gateways, answer) = gateway::told(client).await?;
    if format == OutputFormat::Json {
        output::result(&json(&answer)?)?;
        return Ok(0);
    }
    if gateways.is_empty() {
        return Err(gateway::none());
    }
    let lines = gateways.iter().flat_map(|gateway| {
        let address = gateway.address.to_string();
        gateway.host_keys.iter().map(move |key| line(key, &address))
    });
    output::result(&lines.collect::<Vec<_>>().join("\n"))?;
    Ok(0)
}

fn line(key: &HostKey, address: &str) -> String {
    format!("{} {} {address}", key.fingerprint(), key.key_type())
}
