//! The one table of condition keys: name, type, the actions that have it, and how a request gives it a value.

use super::action::{Action, ActionSet};
use super::pattern::folded;
use super::request::{Context, Tags};
use crate::administration::Operation;
use crate::inventory::UserKind;
use crate::query::Operation as Query;
use std::fmt;

/// What the text that a key stands for can be read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    /// Any text, such as a tag's value: every operator may read it.
    Text,
    /// An ARN.
    Arn,
    /// A number.
    Number,
    /// A date and time.
    Date,
    /// Seconds since 1970: a number, and a date.
    EpochTime,
    /// `true` or `false`.
    Boolean,
    /// An IP address.
    IpAddress,
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Arn => "an ARN",
            Self::Number => "a number",
            Self::Date => "a date",
            Self::EpochTime => "a number of seconds",
            Self::Boolean => "true or false",
            Self::IpAddress => "an IP address",
        })
    }
}

struct KeyRow {
    /// The name; for a key that names a tag, what stands before the tag's key.
    name: &'static str,
    value_type: ValueType,
    /// The actions that have it. Which of their requests do is up to the value.
    actions: ActionSet,
    value: Source,
}

type Value = for<'c> fn(&'c Context<'_>) -> Option<&'c str>;
type ValuesOf = for<'c> fn(&'c Context<'_>) -> &'c [&'c str];
type TagsOf = for<'c> fn(&'c Context<'_>) -> Option<&'c Tags>;

enum Source {
    Value(Value),
    /// The value of a tag, whose key is the rest of the condition key.
    Tag(TagsOf),
    /// Several values: operators say with `ForAllValues:` or `ForAnyValue:` how they are taken together.
    Several(ValuesOf),
}

const fn row(name: &'static str, value_type: ValueType, actions: ActionSet, value: Value) -> KeyRow {
    KeyRow { name, value_type, actions, value: Source::Value(value) }
}

const fn tag_row(name: &'static str, actions: ActionSet, tags: TagsOf) -> KeyRow {
    KeyRow { name, value_type: ValueType::Text, actions, value: Source::Tag(tags) }
}

/// Every key (wire.md 7.1, 7.4).
static KEYS: [KeyRow; 28] = {
    use ValueType::{Arn, Boolean, Date, EpochTime, IpAddress, Number, Text};
    const ALL: ActionSet = ActionSet::ALL;
    const PUSH: ActionSet = ActionSet::only(Action::SendSshPublicKey);
    const TUNNEL: ActionSet = ActionSet::only(Action::OpenTunnel);
    const ATTACHING: ActionSet = ActionSet::of(&[
        Operation::AttachUserPolicy,
        Operation::DetachUserPolicy,
        Operation::AttachGroupPolicy,
        Operation::DetachGroupPolicy,
        Operation::PutUserPermissionsBoundary,
    ]);
    const TAGGING: ActionSet = ActionSet::of_query(&[Query::CreateTags, Query::DeleteTags]);
    const EC2: ActionSet = ActionSet::of_query(Query::ALL);
    [
        row("ec2:osuser", Text, PUSH, |c| c.os_user()),
        row("ec2-instance-connect:remotePort", Number, TUNNEL, |c| c.remote_port.as_deref()),
        row("ec2-instance-connect:privateIpAddress", IpAddress, TUNNEL, |c| c.private_ip_address.as_deref()),
        row("ec2-instance-connect:maxTunnelDuration", Number, TUNNEL, |c| c.max_tunnel_duration.as_deref()),
        row("instance-connect:PolicyARN", Arn, ATTACHING, |c| c.policy_arn.as_deref()),
        row("ec2:Region", Text, EC2, |c| Some(c.request.region.as_str())),
        tag_row("aws:RequestTag/", TAGGING, |c| Some(&c.request_tags)),
        KeyRow {
            name: "aws:TagKeys",
            value_type: Text,
            actions: TAGGING,
            value: Source::Several(|c| &c.tag_keys),
        },
        tag_row("aws:ResourceTag/", ALL, |c| c.request.resource_tags),
        tag_row("ec2:ResourceTag/", ALL, |c| c.ec2_tags()),
        row("aws:ResourceAccount", Text, ALL, |c| Some(c.request.caller.account.as_str())),
        row("aws:RequestedRegion", Text, ALL, |c| Some(c.request.region.as_str())),
        row("aws:CurrentTime", Date, ALL, |c| Some(&c.current_time)),
        row("aws:EpochTime", EpochTime, ALL, |c| Some(&c.epoch_time)),
        row("aws:SourceIp", IpAddress, ALL, |c| Some(&c.source_ip)),
        row("aws:SecureTransport", Boolean, ALL, |c| Some(boolean(c.request.origin.tls.is_some()))),
        row("aws:UserAgent", Text, ALL, |c| Some(&c.request.origin.user_agent)),
        row("aws:PrincipalArn", Arn, ALL, |c| Some(&c.principal_arn)),
        row("aws:PrincipalAccount", Text, ALL, |c| Some(c.request.caller.account.as_str())),
        row("aws:PrincipalType", Text, ALL, |c| Some(by_kind(c, "Account", "User"))),
        tag_row("aws:PrincipalTag/", ALL, |c| Some(&c.request.caller.tags)),
        row("aws:userid", Text, ALL, |c| {
            Some(by_kind(c, c.request.caller.account.as_str(), c.request.caller.id.as_str()))
        }),
        row("aws:username", Text, ALL, |c| {
            let caller = c.request.caller;
            (caller.kind == UserKind::IamUser).then_some(caller.name.as_str())
        }),
        row("aws:ViaAWSService", Boolean, ALL, |_| Some(boolean(false))),
        row("aws:PrincipalIsAWSService", Boolean, ALL, |_| Some(boolean(false))),
        // Only temporary credentials have these, and there are none. AWS leaves them out for access keys as well.
        row("aws:MultiFactorAuthPresent", Boolean, ALL, |_| None),
        row("aws:MultiFactorAuthAge", Number, ALL, |_| None),
        row("aws:TokenIssueTime", Date, ALL, |_| None),
    ]
};

const fn boolean(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn by_kind<'c>(context: &Context<'_>, root: &'c str, user: &'c str) -> &'c str {
    match context.request.caller.kind {
        UserKind::Root => root,
        UserKind::IamUser => user,
    }
}

/// A condition key as a policy names it.
#[derive(Clone)]
pub(super) struct ConditionKey {
    name: String,
    /// `None` for a key of another service, or one that no request has here.
    row: Option<&'static KeyRow>,
}

impl ConditionKey {
    /// Reads a key. Names compare without regard to case, those of tags included.
    ///
    /// # Errors
    /// What no service could have as a key, in words for the author.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let row = KEYS.iter().find(|row| row.is_named(name));
        if let Some(KeyRow { value: Source::Tag(_), .. }) = row
            && !name.split_once('/').is_some_and(|(_, tag)| !tag.is_empty() && is_tag_text(tag))
        {
            return Err(format!("{name:?} names no tag; write its key behind the slash, without wildcards"));
        }
        let (service, rest) = name.split_once(':').unwrap_or_default();
        if service.is_empty() || rest.is_empty() {
            return Err(format!("{name:?} is no condition key; write service:Name such as aws:SourceIp"));
        }
        Ok(Self { name: name.to_owned(), row })
    }

    /// Whether this service gives it a value, for any action.
    pub(super) const fn is_known(&self) -> bool {
        self.row.is_some()
    }

    /// Whether a request may have several values of it.
    pub(super) const fn has_several(&self) -> bool {
        matches!(self.row, Some(KeyRow { value: Source::Several(_), .. }))
    }

    /// The actions whose requests can have it.
    pub(super) fn actions(&self) -> ActionSet {
        self.row.map_or(ActionSet::NONE, |row| row.actions)
    }

    /// What its value can be read as; `None` where it is not known.
    pub(super) fn value_type(&self) -> Option<ValueType> {
        self.row.map(|row| row.value_type)
    }

    /// What it stands for in this request; `None` where the request does not have it.
    ///
    /// # Errors
    /// Nobody can say which of several values.
    pub(super) fn value<'c>(&self, context: &'c Context<'_>) -> Result<Option<&'c str>, Ambiguous> {
        let mut values = self.values(context);
        let first = values.next();
        if values.all(|other| Some(other) == first) { Ok(first) } else { Err(Ambiguous) }
    }

    /// Every value that it may stand for.
    pub(super) fn values<'c>(&self, context: &'c Context<'_>) -> impl Iterator<Item = &'c str> {
        let (value, tags, several): (_, _, &[&str]) = match self.row.map(|row| &row.value) {
            Some(Source::Value(value)) => (value(context), None, &[]),
            Some(Source::Tag(tags)) => (None, tags(context), &[]),
            Some(Source::Several(values)) => (None, None, values(context)),
            None => (None, None, &[]),
        };
        let key = self.name.split_once('/').map_or("", |(_, key)| key);
        let tags = tags.into_iter().flat_map(move |tags| tagged(tags, key));
        value.into_iter().chain(tags).chain(several.iter().copied())
    }
}

/// Tags whose keys differ in case only have different values. At AWS the one or the other would count, and nobody says
/// which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ambiguous;

impl KeyRow {
    fn is_named(&self, name: &str) -> bool {
        match self.value {
            Source::Value(_) | Source::Several(_) => name.eq_ignore_ascii_case(self.name),
            Source::Tag(_) => name
                .split_at_checked(self.name.len())
                .is_some_and(|(start, _)| start.eq_ignore_ascii_case(self.name)),
        }
    }
}

/// The values of the tags with this key, in any case.
fn tagged<'t>(tags: &'t Tags, key: &str) -> impl Iterator<Item = &'t str> {
    let same = |name: &str| folded(name.chars()).eq(folded(key.chars()));
    tags.iter().filter(move |(name, _)| same(name)).map(|(_, value)| value.as_str())
}

/// Whether a text has only characters that tags have at AWS: `[\p{L}\p{Z}\p{N}_.:/=+\-@]*`. Among the others are those of
/// wildcards and variables, which would read as if they worked in the key of a condition.
pub fn is_tag_text(text: &str) -> bool {
    let is_separator = |c: char| c.is_whitespace() && !c.is_control();
    text.chars().all(|c| c.is_alphanumeric() || is_separator(c) || "_.:/=+-@".contains(c))
}

impl fmt::Display for ConditionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name.escape_debug())
    }
}

impl fmt::Debug for ConditionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.name, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_one_row() {
        for (position, row) in KEYS.iter().enumerate() {
            assert_eq!(
                KEYS.iter().position(|other| other.is_named(row.name)),
                Some(position),
                "{}",
                row.name
            );
        }
    }

    #[test]
    fn names() {
        for (name, known) in [
            ("ec2:osuser", true),
            ("EC2:OSUser", true),
            ("AWS:sourceip", true),
            ("aws:resourcetag/Cost Center", true),
            ("aws:PrincipalTag/Cost\u{a0}Center", true),
            ("aws:PrincipalTag/a/b", true),
            ("ec2:Region", true),
            ("aws:TagKeys", true),
            ("aws:RequestTag/Team", true),
            ("ec2:Vpc", false),
            ("s3:prefix", false),
        ] {
            assert_eq!(ConditionKey::parse(name).unwrap().is_known(), known, "{name}");
        }
        for name in [
            "",
            "osuser",
            ":",
            "ec2:",
            ":osuser",
            "aws:ResourceTag/",
            "aws:ResourceTag/t*",
            "aws:PrincipalTag/${x}",
        ] {
            assert!(ConditionKey::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn tags_that_differ_in_case() {
        let tags = [
            ("TEAM", "1"),
            ("team", "2"),
            ("Équipe", "3"),
            ("ΟΔΟΣ", "4"),
            ("\u{212a}ey", "5"),
            ("\u{130}d", "6"),
            ("Straße", "7"),
        ];
        let tags = Tags::from(tags.map(|(k, v)| (k.into(), v.into())));
        for (key, values) in [
            ("TEAM", &["1", "2"][..]),
            ("Team", &["1", "2"]),
            ("te", &[]),
            ("éQUIPE", &["3"]),
            ("equipe", &[]),
            ("οδοσ", &["4"]),
            ("οδος", &[]),
            ("KEY", &["5"]),
            ("id", &[]),
            ("Stra\u{1e9e}e", &["7"]),
            ("STRASSE", &[]),
        ] {
            assert_eq!(tagged(&tags, key).collect::<Vec<_>>(), values, "{key}");
        }
    }
}
