//! `audit query` and `audit tail`: events of the service's log, or of files.

use super::arguments::{Filter, QueryOptions, TailOptions};
use super::files;
use crate::administration::show;
use crate::arguments::{OutputFormat, ServiceOptions};
use crate::failure::{Exit, Failure};
use crate::{output, progress, service};
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
    if !options.follow {
        return Ok(0);
    }
    let mut behind = (wanted, last);
    let ask = async || news(&source, &mut behind.0, &mut behind.1).await;
    let failure = follow(ask, |said| match said {
        Said::Events(events) => show_all(events, format),
        Said::Interrupted(reason) => {
            output::warning(&format!("{reason}; asking again"));
            Ok(())
        }
    });
    Err(failure.await)
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

/// What whoever follows the log is told.
#[derive(Debug)]
enum Said<'a> {
    Events(&'a [Value]),
    /// There is no answer for the moment.
    Interrupted(&'a str),
}

/// Tells what comes, until this program is stopped, or a failure comes that will not pass. One that may is told once, and what came
/// meanwhile is told when it has passed.
async fn follow(
    mut news: impl AsyncFnMut() -> Result<Vec<Value>, Failure>,
    mut tell: impl FnMut(Said<'_>) -> Result<(), Failure>,
) -> Failure {
    let mut is_interrupted = false;
    loop {
        tokio::time::sleep(POLL).await;
        let answer = news().await;
        let was_interrupted = std::mem::replace(&mut is_interrupted, answer.is_err());
        let told = match answer {
            Ok(events) if events.is_empty() => Ok(()),
            Ok(events) => tell(Said::Events(&events)),
            Err(failure) if !failure.may_pass => return failure,
            Err(_) if was_interrupted => Ok(()),
            Err(failure) => tell(Said::Interrupted(&failure.message)),
        };
        if let Err(failure) = told {
            return failure;
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
        let request = request.clone().with("MaxResults", page).with("NextToken", token);
        let mut answer = progress::step(progress::ANSWER, client.administer(&request)).await?;
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
    })
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

    /// The service is away for a while, as when its program is replaced, and then refuses.
    #[tokio::test(start_paused = true)]
    async fn a_failure_that_may_pass_is_told_once_and_does_not_end_the_tail() {
        let away = || Failure { may_pass: true, ..Failure::new(Exit::General, "away") };
        let event = |id: &str| Ok(vec![json!({ "EventId": id })]);
        let mut answers = VecDeque::from([
            event("0"),
            Err(away()),
            Err(away()),
            Err(away()),
            event("1"),
            Ok(vec![]),
            Err(away()),
            event("2"),
            Err(Failure::new(Exit::Service, "not allowed any more")),
            event("3"),
        ]);
        let mut said = Vec::new();
        let began = tokio::time::Instant::now();
        let failure = follow(
            async || answers.pop_front().unwrap(),
            |what| {
                match what {
                    Said::Events(events) => said.extend(ids(events).into_iter().map(str::to_owned)),
                    Said::Interrupted(reason) => said.push(reason.to_owned()),
                }
                Ok(())
            },
        )
        .await;
        assert_eq!(failure.message, "not allowed any more");
        assert_eq!(said, ["0", "away", "1", "away", "2"]);
        assert_eq!(began.elapsed(), POLL * 9, "it asks again as often as ever");
        assert_eq!(answers.len(), 1);
    }

    /// Whoever cannot be told any more has ended it.
    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_shown_ends_the_tail() {
        let event = async || Ok(vec![json!({ "EventId": "0" })]);
        let failure = follow(event, |_| Err(Failure::new(Exit::General, "an event that is none"))).await;
        assert_eq!(failure.message, "an event that is none");
    }
}
