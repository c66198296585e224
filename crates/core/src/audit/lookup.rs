//! Finding events in the log: which lines are events, whose they are, and whether they are looked for. Names are those of
//! CloudTrail's `LookupEvents`.

use super::finished::FinishedFile;
use super::shape::INTENT;
use crate::ids::AccountId;
use instance_connect_document::UnixSeconds;
use instance_connect_planted::parser_entered;
use serde::Deserialize;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// What of an event is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeKey {
    /// Which access key signed.
    AccessKeyId,
    /// Its id.
    EventId,
    /// What was done.
    EventName,
    /// Where: AWS's name of the service, or ours.
    EventSource,
    /// Whether it could change anything: `true` or `false`.
    ReadOnly,
    /// The request that it belongs to. CloudTrail has no such attribute.
    RequestId,
    /// What it was done to: an instance, a user, a group, a policy.
    ResourceName,
    /// Who did it.
    Username,
}

impl AttributeKey {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::AccessKeyId,
        Self::EventId,
        Self::EventName,
        Self::EventSource,
        Self::ReadOnly,
        Self::RequestId,
        Self::ResourceName,
        Self::Username,
    ];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessKeyId => "AccessKeyId",
            Self::EventId => "EventId",
            Self::EventName => "EventName",
            Self::EventSource => "EventSource",
            Self::ReadOnly => "ReadOnly",
            Self::RequestId => "RequestId",
            Self::ResourceName => "ResourceName",
            Self::Username => "Username",
        }
    }
}

/// Which events are looked for: those that have all attributes, and whose time is in between, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// What they have.
    pub attributes: Vec<(AttributeKey, String)>,
    /// Not before this.
    pub start: Option<UnixSeconds>,
    /// Not after this.
    pub end: Option<UnixSeconds>,
}

/// An event, as far as it can be looked for.
#[derive(Debug)]
pub struct Event<'a> {
    line: &'a str,
    members: Members<'a>,
    time: UnixSeconds,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    #[serde(borrow)]
    user_identity: Identity<'a>,
    #[serde(borrow)]
    event_time: Cow<'a, str>,
    #[serde(borrow)]
    event_source: Cow<'a, str>,
    #[serde(borrow)]
    event_name: Cow<'a, str>,
    #[serde(default)]
    request_parameters: Value,
    #[serde(default)]
    additional_event_data: Value,
    #[serde(rename = "requestID", borrow)]
    request: Option<Cow<'a, str>>,
    #[serde(rename = "eventID", borrow)]
    event_id: Option<Cow<'a, str>>,
    read_only: bool,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    recipient_account_id: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    #[serde(borrow)]
    user_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    principal_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    access_key_id: Option<Cow<'a, str>>,
}

/// Members of a request's parameters that name what it is about, with what CloudTrail calls such a thing.
const RESOURCES: [(&str, &str); 6] = [
    ("instanceId", "AWS::EC2::Instance"),
    ("hostInstanceId", "AWS::EC2::Instance"),
    ("userName", "AWS::IAM::User"),
    ("groupName", "AWS::IAM::Group"),
    ("policyName", "AWS::IAM::Policy"),
    ("policyArn", "AWS::IAM::Policy"),
];

/// Lists of what a request of EC2's API is about: the set, and the member of its items that names it.
const RESOURCE_SETS: [(&str, &str); 2] = [("instancesSet", "instanceId"), ("resourcesSet", "resourceId")];

impl<'a> Event<'a> {
    /// Reads a line. `None` where it is no event: an intent, or no line of ours.
    pub fn read(line: &'a [u8]) -> Option<Self> {
        parser_entered(line);
        let line = std::str::from_utf8(line).ok()?.trim_end_matches('\n');
        let members: Members<'a> = serde_json::from_str(line).ok()?;
        if members.event_type == INTENT {
            return None;
        }
        let time = parse_time(&members.event_time)?;
        Some(Self { line, members, time })
    }

    /// Whether it is an account's. What is nobody's, such as refused requests, is no account's.
    pub fn is_of(&self, account: &AccountId) -> bool {
        self.members.recipient_account_id.as_deref() == Some(account.as_str())
    }

    /// The line, without its line feed.
    pub const fn line(&self) -> &'a str {
        self.line
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.members.event_name
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.members.event_id.as_deref().unwrap_or_default()
    }

    /// As `LookupEvents` answers it.
    pub fn answer(&self) -> Value {
        let members = &self.members;
        let resources =
            self.resources().map(|(name, kind)| json!({ "ResourceName": name, "ResourceType": kind }));
        json!({
            "EventId": members.event_id,
            "EventName": members.event_name,
            "EventSource": members.event_source,
            "EventTime": self.time.0,
            "ReadOnly": members.read_only.to_string(),
            "AccessKeyId": members.user_identity.access_key_id,
            "Username": self.username(),
            "Resources": resources.collect::<Vec<_>>(),
            "CloudTrailEvent": self.line,
        })
    }

    fn username(&self) -> Option<&str> {
        let identity = &self.members.user_identity;
        identity.user_name.as_deref().or(identity.principal_id.as_deref())
    }

    fn resources(&self) -> impl Iterator<Item = (&str, &'static str)> {
        let parameters = &self.members.request_parameters;
        let named = |(member, kind)| Some((parameters.get(member)?.as_str()?, kind));
        let listed = RESOURCE_SETS.into_iter().flat_map(|(set, member)| {
            let items = parameters.get(set).and_then(|set| set.get("items")).and_then(Value::as_array);
            items.into_iter().flatten().filter_map(move |item| item.get(member)?.as_str())
        });
        RESOURCES.into_iter().filter_map(named).chain(listed.map(|id| (id, "AWS::EC2::Instance")))
    }

    fn has(&self, key: AttributeKey, value: &str) -> bool {
        let members = &self.members;
        match key {
            AttributeKey::AccessKeyId => members.user_identity.access_key_id.as_deref() == Some(value),
            AttributeKey::EventId => members.event_id.as_deref() == Some(value),
            AttributeKey::EventName => members.event_name == value,
            AttributeKey::EventSource => members.event_source == value,
            AttributeKey::ReadOnly => members.read_only.to_string() == value,
            AttributeKey::RequestId => {
                let others = members.additional_event_data.get("requestIDs").and_then(Value::as_array);
                members.request.as_deref() == Some(value)
                    || others.is_some_and(|others| others.iter().any(|other| other == value))
            }
            AttributeKey::ResourceName => self.resources().any(|(name, _)| name == value),
            AttributeKey::Username => self.username() == Some(value),
        }
    }
}

impl EventFilter {
    /// Whether an event is looked for.
    pub fn admits(&self, event: &Event<'_>) -> bool {
        self.start.is_none_or(|start| event.time >= start)
            && self.end.is_none_or(|end| event.time <= end)
            && self.attributes.iter().all(|(key, value)| event.has(*key, value))
    }
}

/// A time such as `2031-02-11T02:05:06Z`, as records have it.
pub fn parse_time(text: &str) -> Option<UnixSeconds> {
    text.parse::<jiff::Timestamp>().ok().map(|time| UnixSeconds(time.as_second()))
}

/// A place in the log, where a look-up goes on: how far the file is still to be read that follows a finished one, or that
/// is the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// The finished file before it. A file's own name changes when it is finished.
    pub after: Option<FinishedFile>,
    /// In bytes from its beginning.
    pub offset: u64,
}

/// The text is not a place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is not one that an answer ended with")]
pub struct NotALogPosition;

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.after {
            Some(after) => write!(f, "{after}.{}", self.offset),
            None => write!(f, "-.{}", self.offset),
        }
    }
}

impl FromStr for LogPosition {
    type Err = NotALogPosition;

    /// Takes exactly what `Display` writes.
    fn from_str(text: &str) -> Result<Self, NotALogPosition> {
        let (after, offset) = text.split_once('.').ok_or(NotALogPosition)?;
        let after = match after {
            "-" => None,
            name => Some(name.parse().map_err(|_| NotALogPosition)?),
        };
        let position = Self { after, offset: offset.parse().map_err(|_| NotALogPosition)? };
        if position.to_string() == text { Ok(position) } else { Err(NotALogPosition) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &str = r#"{"eventVersion":"1.08","userIdentity":{"type":"IAMUser","principalId":"AIDA","arn":"a","accountId":"111122223333","accessKeyId":"AKIA","userName":"alice"},"eventTime":"2031-02-11T02:05:06Z","eventSource":"ec2-instance-connect.amazonaws.com","eventName":"SendSSHPublicKey","awsRegion":"xx-test-1","requestParameters":{"instanceId":"i-1","sSHPublicKey":"\"eventName\":\"Other\""},"responseElements":null,"additionalEventData":{"requestIDs":["other"]},"requestID":"request","eventID":"event","readOnly":false,"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"111122223333","eventCategory":"Management","chain":"00"}"#;

    #[test]
    fn an_event_is_found_by_what_it_has() {
        use AttributeKey as K;
        let event = Event::read(LINE.as_bytes()).unwrap();
        let rows = [
            (K::AccessKeyId, "AKIA", true),
            (K::EventId, "event", true),
            (K::EventName, "SendSSHPublicKey", true),
            (K::EventName, "Other", false),
            (K::EventSource, "ec2-instance-connect.amazonaws.com", true),
            (K::ReadOnly, "false", true),
            (K::ReadOnly, "true", false),
            (K::RequestId, "request", true),
            (K::RequestId, "other", true),
            (K::RequestId, "event", false),
            (K::ResourceName, "i-1", true),
            (K::ResourceName, "alice", false),
            (K::Username, "alice", true),
            (K::Username, "AIDA", false),
        ];
        for (key, value, expected) in rows {
            let filter = EventFilter { attributes: vec![(key, value.to_owned())], ..EventFilter::default() };
            assert_eq!(filter.admits(&event), expected, "{key:?} {value}");
            let more = EventFilter {
                attributes: vec![(key, value.to_owned()), (K::EventName, "Other".to_owned())],
                ..EventFilter::default()
            };
            assert!(!more.admits(&event), "all of them");
        }
        let time = event.time;
        for (start, end, expected) in
            [(time.0, time.0, true), (time.0 + 1, time.0 + 2, false), (time.0 - 2, time.0 - 1, false)]
        {
            let (start, end) = (Some(UnixSeconds(start)), Some(UnixSeconds(end)));
            assert_eq!(EventFilter { start, end, attributes: Vec::new() }.admits(&event), expected);
        }
        assert!(event.is_of(&"111122223333".parse().unwrap()));
        assert!(!event.is_of(&"111122223334".parse().unwrap()));
        let answer = event.answer();
        assert_eq!(answer["CloudTrailEvent"], LINE);
        assert_eq!((&answer["EventTime"], &answer["ReadOnly"]), (&1_928_541_906.into(), &"false".into()));
        assert_eq!(
            answer["Resources"],
            json!([{ "ResourceName": "i-1", "ResourceType": "AWS::EC2::Instance" }])
        );
    }

    /// Each of the instances that a request of EC2's API is about leads to it.
    #[test]
    fn an_event_of_ec2_is_found_by_its_instances() {
        for (set, member) in RESOURCE_SETS {
            let line = LINE.replace("ec2-instance-connect.", "ec2.").replace(
                r#""instanceId":"i-1""#,
                &format!(r#""{set}":{{"items":[{{"{member}":"i-1"}},{{"{member}":"i-2"}},{{}},7]}}"#),
            );
            let event = Event::read(line.as_bytes()).unwrap();
            for (id, expected) in [("i-1", true), ("i-2", true), ("i-3", false)] {
                assert_eq!(event.has(AttributeKey::ResourceName, id), expected, "{set} {id}");
            }
            let shown = |id| json!({ "ResourceName": id, "ResourceType": "AWS::EC2::Instance" });
            assert_eq!(event.answer()["Resources"], json!([shown("i-1"), shown("i-2")]));
        }
    }

    #[test]
    fn intents_pieces_and_what_is_nobodys() {
        assert!(Event::read(LINE.replace("AwsApiCall", "InstanceConnectIntent").as_bytes()).is_none());
        for cut in 0..LINE.len() {
            assert!(Event::read(LINE.get(..cut).unwrap().as_bytes()).is_none(), "{cut}");
        }
        let nobodys = LINE.replace(r#""recipientAccountId":"111122223333","#, "");
        assert!(!Event::read(nobodys.as_bytes()).unwrap().is_of(&"111122223333".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn the_event_reader_never_panics(line: Vec<u8>) {
            let _ = Event::read(&line);
        }

        #[test]
        fn a_position_is_read_exactly(text in "(-|20310211T020506Z-[0-9]{4,5}|[0-9TZ-]{0,22})\\.[+0-9]{0,21}") {
            if let Ok(position) = text.parse::<LogPosition>() {
                prop_assert_eq!(position.to_string(), text);
            }
        }
    }
}
