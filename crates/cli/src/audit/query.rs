//! `audit query` and `audit tail`: events of the service's log, or of files.

use super::arguments::{Filter, QueryOptions, TailOptions};
use super::files;
use crate::administration::show;
use crate::arguments::{OutputFormat, ServiceOptions};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::service;
use instance_connect_client::{Administer, AdministrativeOperation as Operation, Client};
use instance_connect_core::audit::{AttributeKey, Event, EventFilter};
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::limits;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::time::Duration;

/// How long `tail --follow` waits before it asks again.
const POLL: Duration = Duration::from_secs(2);

/// Events shown at once; of more than come between two requests, the newest.
const AT_ONCE: usize = 1000;

/// How much earlier than the newest event `tail --follow` looks again, in seconds: a push is on record with the time of its
/// request, which may be a little before what was shown already.
const OVERLAP: i64 = limits::AUDIT_INTENT_AGE.as_secs().cast_signed();

const COLUMNS: &[(&str, &str)] = &[
    ("TIME", "eventTime"),
    ("EVENT", "eventName"),
    ("WHO", "Username"),
    ("RESOURCE", "Resource"),
    ("OS USER", "requestParameters.instanceOSUser"),
    ("FROM", "From"),
    ("RESULT", "Result"),
    ("REQUEST", "requestID"),
];

/// Where events come from.
enum Source<'a> {
    Service(Client),
    Files(&'a Filter),
}

impl<'a> Source<'a> {
    fn of(service: &ServiceOptions, filter: &'a Filter) -> Result<Self, Failure> {
        if filter.files.is_empty() {
            service::administration(service).map(Self::Service)
        } else {
            Ok(Self::Files(filter))
        }
    }

    /// The newest events that are meant, at most so many, newest first, as `LookupEvents` answers them.
    async fn newest(&self, wanted: &EventFilter, most: usize) -> Result<Vec<Value>, Failure> {
        self.behind(None, wanted, most).await
    }

    /// The same, but only those that stand behind the last one that is known.
    async fn behind(
        &self,
        last: Option<&Last>,
        wanted: &EventFilter,
        most: usize,
    ) -> Result<Vec<Value>, Failure> {
        let is_known = |event: &Value| last.is_some_and(|last| text(event, "EventId") == Some(&last.id));
        let mut events = match self {
            Self::Service(client) => look_up(client, wanted, most, is_known).await?,
            Self::Files(filter) => read(filter, wanted, most)?,
        };
        if let Some(known) = events.iter().position(is_known) {
            events.truncate(known);
        }
        Ok(events)
    }
}

pub(super) async fn run(
    service: &ServiceOptions,
    options: &QueryOptions,
    format: OutputFormat,
) -> Result<u8, Failure> {
    let source = Source::of(service, &options.filter)?;
    let wanted = EventFilter {
        attributes: attributes(&options.filter),
        start: options.start_time,
        end: options.end_time,
    };
    let events = source.newest(&wanted, options.max_items as usize).await?;
    show_all(&events, format)?;
    Ok(0)
}

pub(super) async fn tail(
    service: &ServiceOptions,
    options: &TailOptions,
    format: OutputFormat,
) -> Result<u8, Failure> {
    let source = Source::of(service, &options.filter)?;
    let wanted = EventFilter { attributes: attributes(&options.filter), ..EventFilter::default() };
    // One at least: what is new comes behind it.
    let mut events = source.newest(&wanted, options.lines.max(1) as usize).await?;
    let last = events.first().and_then(Last::of);
    events.truncate(options.lines as usize);
    events.reverse();
    show_all(&events, format)?;
    if options.follow { follow(&source, wanted, last, format).await } else { Ok(0) }
}

/// The event that was the last of the log when it was looked at.
struct Last {
    id: String,
    time: UnixSeconds,
}

impl Last {
    fn of(event: &Value) -> Option<Self> {
        let time = event.get("EventTime").and_then(Value::as_i64).map(UnixSeconds)?;
        Some(Self { id: text(event, "EventId")?.to_owned(), time })
    }
}

/// Shows what comes behind the last event, until this program is stopped. A failure that may pass is told once, and what
/// came meanwhile is shown when it has passed.
async fn follow(
    source: &Source<'_>,
    mut wanted: EventFilter,
    mut last: Option<Last>,
    format: OutputFormat,
) -> Result<u8, Failure> {
    let mut is_interrupted = false;
    loop {
        tokio::time::sleep(POLL).await;
        match news(source, &mut wanted, &mut last).await {
            Ok(events) => {
                is_interrupted = false;
                if !events.is_empty() {
                    show_all(&events, format)?;
                }
            }
            Err(failure) if failure.may_pass => {
                if !is_interrupted {
                    output::warning(&format!("{}; asking again", failure.message));
                }
                is_interrupted = true;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// What has come behind the last event, oldest first.
async fn news(
    source: &Source<'_>,
    wanted: &mut EventFilter,
    last: &mut Option<Last>,
) -> Result<Vec<Value>, Failure> {
    wanted.start = last.as_ref().map(|last| UnixSeconds(last.time.0 - OVERLAP));
    let mut events = source.behind(last.as_ref(), wanted, AT_ONCE).await?;
    if let Some(newest) = events.first().and_then(Last::of) {
        *last = Some(newest);
    }
    // That this asks is no news to whoever asks.
    events.retain(|event| text(event, "EventName") != Some(Operation::LookupEvents.name()));
    events.reverse();
    Ok(events)
}

fn attributes(filter: &Filter) -> Vec<(AttributeKey, String)> {
    let given = [
        (AttributeKey::EventName, &filter.event_name),
        (AttributeKey::Username, &filter.username),
        (AttributeKey::AccessKeyId, &filter.access_key_id),
        (AttributeKey::ResourceName, &filter.resource_name),
        (AttributeKey::RequestId, &filter.request_id),
        (AttributeKey::EventId, &filter.event_id),
    ];
    given.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect()
}

/// Asks page by page, as far as an event that is known.
async fn look_up(
    client: &Client,
    wanted: &EventFilter,
    most: usize,
    is_known: impl Fn(&Value) -> bool,
) -> Result<Vec<Value>, Failure> {
    let attributes = wanted.attributes.iter();
    let attributes: Vec<Value> = attributes
        .map(|(key, value)| json!({ "AttributeKey": key.as_str(), "AttributeValue": value }))
        .collect();
    let request = Administer::new(Operation::LookupEvents)
        .with("LookupAttributes", if attributes.is_empty() { Value::Null } else { attributes.into() })
        .with("StartTime", wanted.start.map(|time| time.0))
        .with("EndTime", wanted.end.map(|time| time.0));
    let (mut events, mut token) = (Vec::new(), Value::Null);
    while events.len() < most {
        let page = limits::EVENTS.min(most - events.len());
        let mut answer =
            client.administer(&request.clone().with("MaxResults", page).with("NextToken", token)).await?;
        if let Some(Value::Array(more)) = answer.remove("Events") {
            events.extend(more);
        }
        token = answer.remove("NextToken").unwrap_or_default();
        if token.is_null() || events.iter().any(&is_known) {
            break;
        }
    }
    Ok(events)
}

/// The last that are meant in files, which are read from their beginning.
fn read(filter: &Filter, wanted: &EventFilter, most: usize) -> Result<Vec<Value>, Failure> {
    let (mut newest, mut line) = (VecDeque::new(), Vec::new());
    for mut file in files::open(&filter.files)? {
        while file.read_line(&mut line)? {
            let Some(event) = Event::read(&line).filter(|event| wanted.admits(event)) else { continue };
            if newest.len() == most {
                newest.pop_front();
            }
            newest.push_back(event.answer());
        }
    }
    Ok(newest.into_iter().rev().collect())
}

fn show_all(events: &[Value], format: OutputFormat) -> Result<(), Failure> {
    output::result(&match format {
        OutputFormat::Json => show::json(&json!({ "Events": events }))?,
        OutputFormat::Text => {
            let rows = events.iter().map(row).collect::<Result<Vec<_>, _>>()?;
            show::table(COLUMNS, &rows)
        }
    });
    Ok(())
}

/// The record itself, with what of it is in different places.
fn row(event: &Value) -> Result<Value, Failure> {
    let record = text(event, "CloudTrailEvent").unwrap_or_default();
    let mut row: Map<String, Value> = serde_json::from_str(record).map_err(|error| {
        Failure::new(Exit::General, format!("the service sent an event that is none: {error}"))
    })?;
    let remote_host = row.get("additionalEventData").and_then(|data| data.get("remoteHost"));
    let from = remote_host.or_else(|| row.get("sourceIPAddress")).cloned();
    let result = row.get("errorCode").cloned().unwrap_or_else(|| "ok".into());
    let resource = event.pointer("/Resources/0/ResourceName").cloned();
    row.insert("From".to_owned(), from.unwrap_or_default());
    row.insert("Result".to_owned(), result);
    row.insert("Resource".to_owned(), resource.unwrap_or_default());
    row.insert("Username".to_owned(), event.get("Username").cloned().unwrap_or_default());
    Ok(Value::Object(row))
}

fn text<'a>(event: &'a Value, member: &str) -> Option<&'a str> {
    event.get(member).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;
    use std::fs;
    use std::path::Path;

    /// Lines of a log: each event's second and name. Its id is its number.
    fn write(file: &Path, events: &[(u32, &str)]) {
        let mut text = String::new();
        for (id, (second, name)) in events.iter().enumerate() {
            let event = json!({
                "userIdentity": {}, "eventTime": format!("2031-02-11T02:05:{second:02}Z"), "eventSource": "s",
                "eventName": name, "eventID": id.to_string(), "readOnly": true, "eventType": "AwsApiCall",
            });
            writeln!(text, "{event}").unwrap();
        }
        fs::write(file, text).unwrap();
    }

    fn ids(events: &[Value]) -> Vec<&str> {
        events.iter().filter_map(|event| text(event, "EventId")).collect()
    }

    /// By their place in the log and not by their time: a push is on record with the time of its request.
    #[tokio::test]
    async fn news_is_what_comes_behind_the_last_event() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.log");
        let filter = Filter {
            event_name: None,
            username: None,
            access_key_id: None,
            resource_name: None,
            request_id: None,
            event_id: None,
            files: vec![file.clone()],
        };
        let (source, mut wanted) = (Source::Files(&filter), EventFilter::default());
        let log = [
            (1, "Old"),
            (2, "Old"),
            (9, "Old"),
            (8, "New"),
            (9, "LookupEvents"),
            (9, "New"),
            (9, "LookupEvents"),
        ];
        let mut last = None;
        write(&file, &[]);
        assert!(news(&source, &mut wanted, &mut last).await.unwrap().is_empty());
        write(&file, &log[..2]);
        assert_eq!(ids(&news(&source, &mut wanted, &mut last).await.unwrap()), ["0", "1"]);
        // As `tail -n 1` knows it: what is before the last event has not been shown, and is old all the same.
        write(&file, &log[..3]);
        last = source.newest(&wanted, 1).await.unwrap().first().and_then(Last::of);
        for (lines, shown) in [(3, vec![]), (4, vec!["3"]), (5, vec![]), (7, vec!["5"]), (7, vec![])] {
            write(&file, &log[..lines]);
            assert_eq!(ids(&news(&source, &mut wanted, &mut last).await.unwrap()), shown, "{lines}");
        }
        assert!(last.is_some_and(|last| last.id == "6"));
    }
}
