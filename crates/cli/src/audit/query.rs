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
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// How long `tail --follow` waits before it asks again.
const POLL: Duration = Duration::from_secs(2);

/// Events shown at once; of more than come between two requests, the newest.
const AT_ONCE: usize = 1000;

/// How much earlier than the newest event `tail --follow` looks again, in seconds: a push is on record with the time of its
/// request, which may be a little before what was shown already.
const OVERLAP: i64 = 60;

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
        match self {
            Self::Service(client) => look_up(client, wanted, most).await,
            Self::Files(filter) => read(filter, wanted, most),
        }
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
    let mut events = source.newest(&wanted, options.lines.max(1) as usize).await?;
    events.truncate(options.lines as usize);
    events.reverse();
    show_all(&events, format)?;
    if options.follow { follow(&source, wanted, events, format).await } else { Ok(0) }
}

/// Shows what comes behind the events that were shown, until this program is stopped.
async fn follow(
    source: &Source<'_>,
    mut wanted: EventFilter,
    events: Vec<Value>,
    format: OutputFormat,
) -> Result<u8, Failure> {
    let mut newest = events.iter().filter_map(time).max();
    let mut shown: BTreeSet<String> = ids(&events).collect();
    loop {
        tokio::time::sleep(POLL).await;
        wanted.start = newest.map(|newest| UnixSeconds(newest.0 - OVERLAP));
        let mut events = source.newest(&wanted, AT_ONCE).await?;
        newest = newest.max(events.iter().filter_map(time).max());
        let seen: BTreeSet<String> = ids(&events).collect();
        events.retain(|event| {
            // That this asks is no news to whoever asks.
            let is_own = text(event, "EventName") == Some(Operation::LookupEvents.name());
            !is_own && text(event, "EventId").is_some_and(|id| !shown.contains(id))
        });
        // What is not looked at again need not be remembered.
        shown = seen;
        events.reverse();
        if !events.is_empty() {
            show_all(&events, format)?;
        }
    }
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

async fn look_up(client: &Client, wanted: &EventFilter, most: usize) -> Result<Vec<Value>, Failure> {
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
        if token.is_null() {
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

fn time(event: &Value) -> Option<UnixSeconds> {
    event.get("EventTime").and_then(Value::as_i64).map(UnixSeconds)
}

fn ids(events: &[Value]) -> impl Iterator<Item = String> {
    events.iter().filter_map(|event| text(event, "EventId").map(str::to_owned))
}
