//! Sessions at serial consoles.

use super::line::Line;
use super::shape::{Head, ResponseElements, Rest, Shared, UserIdentity};
use crate::console::{ConsolePush, Mode};
use crate::ids::Region;
use crate::stream::EndCode;
use instance_connect_document::UnixSeconds;
use serde::Serialize;
use std::net::IpAddr;
use std::time::Duration;

/// What has happened to a session at a serial console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleEvent {
    /// Somebody who holds the pushed key is let to the line: on disk before anything passes.
    Opened,
    /// The session has ended.
    Closed {
        /// Why.
        reason: EndCode,
        /// How long it was.
        lasted: Duration,
        /// Bytes that were typed.
        to_line: u64,
        /// Bytes of the line that were sent, replay included.
        from_line: u64,
    },
}

/// Who sits at a console, and where.
#[derive(Clone, Copy, Debug)]
pub struct ConsoleVisit<'a> {
    /// The push that opens it.
    pub push: &'a ConsolePush,
    /// What for.
    pub mode: Mode,
    /// Where the SSH connection comes from.
    pub source: IpAddr,
    /// What its client calls itself.
    pub client: &'a str,
}

/// The record of it. Who it was is known by the key alone: whoever has pushed it, or was given it by them.
pub fn console_event(
    visit: ConsoleVisit<'_>,
    event: ConsoleEvent,
    time: UnixSeconds,
    region: &Region,
    event_id: &str,
) -> Line {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Recorded<'a> {
        instance_id: &'a str,
        serial_port: u32,
        mode: &'static str,
        fingerprint: String,
    }
    let ConsoleVisit { push, mode, source, client } = visit;
    let name = match event {
        ConsoleEvent::Opened => "SerialConsoleSessionOpened",
        ConsoleEvent::Closed { .. } => "SerialConsoleSessionClosed",
    };
    let who = UserIdentity::PushedKey { arn: &push.principal, account_id: push.account.as_str() };
    let head = Head::new(name, who, time, region);
    let mut shared = Shared::new(&Head { source: Some(source), user_agent: Some(client), ..head });
    shared.set_parameters(&Recorded {
        instance_id: push.instance.as_str(),
        serial_port: 0,
        mode: mode.as_str(),
        fingerprint: push.fingerprint.to_string(),
    });
    let response_elements = match event {
        ConsoleEvent::Opened => None,
        ConsoleEvent::Closed { reason, lasted, to_line, from_line } => {
            let (reason, seconds) = (reason.name(), lasted.as_secs());
            Some(ResponseElements::ConsoleClosed {
                reason,
                seconds,
                bytes_typed: to_line,
                bytes_shown: from_line,
            })
        }
    };
    let rest = Rest {
        response_elements,
        request: Some(push.request.as_str()),
        event_id: Some(event_id),
        recipient_account_id: Some(push.account.as_str()),
        read_only: mode == Mode::Watch,
        ..Rest::new(super::shape::EventType::Event)
    };
    shared.line(None, &rest)
}
