//! Intents without a record: pushes and changes that were under way when the program was killed.

use super::line::Line;
use super::shape::{
    AdditionalEventData, DecidedBy, Delivery, EVENT, EventType, Failure, INTENT, PUSH_EVENT_SOURCE, Rest,
    Shared, Tls,
};
use crate::limits;
use instance_connect_planted::parser_entered;
use serde::Deserialize;
use std::collections::HashMap;

/// The intents that have no record among the lines read so far.
#[derive(Debug, Default)]
pub struct OpenIntents {
    /// By request id, with the number of the line.
    lines: HashMap<String, (u64, String)>,
    read: u64,
}

/// Why intents cannot be closed. No version of this program writes such a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenIntentsError {
    /// More than a control plane can leave behind.
    #[error("there are more than {} intents without a record", limits::OPEN_INTENTS)]
    TooMany,
    /// An intent without the members that all have.
    #[error("there is an intent that is not as this program writes them")]
    Malformed,
}

/// A line as far as it matters here. What it does not have was not written by this program, or not completely.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind<'a> {
    #[serde(rename = "requestID")]
    request: &'a str,
    event_type: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intent<'a> {
    #[serde(rename = "requestID")]
    request: &'a str,
    event_source: &'a str,
    recipient_account_id: &'a str,
    #[serde(borrow, default)]
    additional_event_data: IntentData<'a>,
    #[serde(borrow)]
    tls_details: Option<Tls<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntentData<'a> {
    #[serde(borrow)]
    decided_by: Option<DecidedBy<'a>>,
}

impl OpenIntents {
    /// Reads a line, in the order in which they were written. What is no line of ours is passed over: a failure may have
    /// cut one off, and whatever it was about has not happened.
    ///
    /// # Errors
    /// [`OpenIntentsError::TooMany`].
    pub fn read(&mut self, line: &[u8]) -> Result<(), OpenIntentsError> {
        parser_entered(line);
        let Ok(line) = std::str::from_utf8(line) else { return Ok(()) };
        let Ok(Kind { request, event_type }) = serde_json::from_str(line) else { return Ok(()) };
        match event_type {
            INTENT => {}
            // What an agent claims of a request is no record of it.
            EVENT => return Ok(()),
            _ => {
                self.lines.remove(request);
                return Ok(());
            }
        }
        if self.lines.len() >= limits::OPEN_INTENTS {
            return Err(OpenIntentsError::TooMany);
        }
        self.lines.insert(request.to_owned(), (self.read, line.to_owned()));
        self.read += 1;
        Ok(())
    }

    /// The records that close the intents, oldest first, each with a fresh UUID for its `event_id`.
    ///
    /// # Errors
    /// [`OpenIntentsError::Malformed`].
    pub fn close(self, mut event_id: impl FnMut() -> String) -> Result<Vec<Line>, OpenIntentsError> {
        let mut intents: Vec<(u64, String)> = self.lines.into_values().collect();
        intents.sort_unstable();
        intents
            .iter()
            .map(|(_, intent)| interrupted(intent, &event_id()).ok_or(OpenIntentsError::Malformed))
            .collect()
    }
}

/// The record in the place of the one that was not written: what the intent says, and that it was not seen to the end.
fn interrupted(intent: &str, event_id: &str) -> Option<Line> {
    let shared = Shared::read(intent)?;
    let Intent { request, event_source, recipient_account_id, additional_event_data, tls_details } =
        serde_json::from_str(intent).ok()?;
    let (delivery, error_message) = if event_source == PUSH_EVENT_SOURCE {
        (Some(Delivery::Unknown), "The service ended before it knew whether the key was delivered.")
    } else {
        (None, "The service ended before it was on record whether the change was made.")
    };
    let failure = Failure { error_code: "Interrupted", error_message: Some(error_message) };
    let rest = Rest {
        additional_event_data: AdditionalEventData {
            delivery,
            decided_by: additional_event_data.decided_by,
            ..AdditionalEventData::default()
        },
        request: Some(request),
        event_id: Some(event_id),
        recipient_account_id: Some(recipient_account_id),
        tls_details,
        ..Rest::new(EventType::Interrupted)
    };
    Some(shared.line(Some(failure), &rest))
}
