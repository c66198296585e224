//! Every bound on input, queues and state, each with its reason. Those of links are in [`crate::link::limits`], those of
//! stored things in the store; what a format itself prescribes stands where it is read.

use crate::places::ConnectionLimits;
use crate::sigv4::ClockWindow;
use crate::throttle::Rate;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Largest request body of the control API, in bytes. A push is under 5 KiB; AWS JSON services refuse far less than 64 KiB.
pub const API_BODY: usize = 64 * 1024;

/// Deepest nesting of a JSON request body. The deepest modelled request has one level; unknown members may nest some more.
pub const JSON_DEPTH: usize = 16;

/// Longest user agent in a record, in characters; CloudTrail cuts it there too.
pub const USER_AGENT: usize = 1024;

/// Longest header of the PROXY protocol, in bytes: addresses take 52 at most, and what load balancers say beside them
/// some hundred.
pub const PROXY_HEADER: usize = 2048;

/// Longest `Host` in a record or an answer, in characters: the longest name of DNS, and a port.
pub const HOST: usize = 260;

/// Longest user agent in the record of a refused request, in characters: SDKs need less, and whoever fills it on purpose
/// shall not fill the disk.
pub const REFUSED_USER_AGENT: usize = 256;

/// Refused requests recorded in a minute, of each [`Share`](crate::audit::Share): enough to see who asks for what, and
/// less than 200 MB a day of the longest records that strangers can cause. The others are counted.
pub const REFUSALS_RECORDED: u32 = 30;

/// Refused requests of one source recorded in a minute, so that one that is loud does not hide the others.
pub const REFUSALS_RECORDED_PER_SOURCE: u32 = 5;

/// Longest line of the audit log that is written or read back, in bytes: a key of 4096 characters, a user agent and an error message
/// of which each character is an escape.
pub const AUDIT_LINE: u64 = 256 * 1024;

/// Pushes under way at once that a control plane can leave behind when it is killed: more than it has connections, of
/// which each has one request under way, also when its client has gone.
pub const OPEN_INTENTS: usize = 16 * 1024;

const _: () = assert!(API_CONNECTIONS.in_all < OPEN_INTENTS);

/// How long a file of the audit log grows, in bytes, unless its settings say otherwise: about 42,000 pushes.
pub const AUDIT_FILE: u64 = 100 * 1024 * 1024;

/// The least that may be set for it, in bytes: an intent and its record, so that files do not outnumber pushes.
pub const SMALLEST_AUDIT_FILE: u64 = 4 * 1024;

/// The most that may be set for it, in bytes: each start reads two files, also of this length in less than a minute.
pub const LARGEST_AUDIT_FILE: u64 = 1024 * 1024 * 1024;

/// How long ago a change was signed at most, in whole seconds, that is taken for another one of the same second: it is made and
/// arrives meanwhile.
pub const SIGNED_JUST_NOW: Duration = Duration::from_secs(2);

/// How far apart an intent and its record may be written: a push lasts [`DELIVERY_WAIT`] and two commits.
pub const AUDIT_INTENT_AGE: Duration = Duration::from_secs(60);

/// Proofs that a stock signer is not revoked begin so many seconds before they are made: a machine whose clock is behind by
/// no more than that takes them.
pub const STAPLES_BACKDATED: i64 = 60 * 60;

/// Guests for which one agent answers: more machines than run on one hypervisor.
pub const GUESTS_PER_HOST: usize = 1024;

/// How long a pushed key is offered, from the push (wire.md 2.2).
pub const GRANT_LIFETIME: Duration = Duration::from_secs(60);

/// How long a push waits for the machine's acknowledgement, an agent between two links included, in all.
pub const DELIVERY_WAIT: Duration = Duration::from_secs(2);

/// Live keys per OS user of one instance: sshd asks for each key it is offered, and a scan stays short.
pub const LIVE_KEYS_PER_USER: usize = 64;

/// Live keys per instance, over all its OS users.
pub const LIVE_KEYS_PER_INSTANCE: usize = 1024;

/// Pushes of one instance's last minute that can be revoked one by one: more than a machine takes keys, since one key may be
/// pushed several times. Where there are more, the next push waits for its turn as for any busy instance.
pub const REVOCABLE_PER_INSTANCE: usize = 4 * LIVE_KEYS_PER_INSTANCE;

/// Revoked keys that the record of a revocation names; of more it has the number. Its line must be read back whole.
pub const REVOKED_RECORDED: usize = 1000;

/// Pushes under way to one instance at a time; more than that is a caller in a loop.
pub const PUSHES_IN_FLIGHT_PER_INSTANCE: usize = 8;

/// How far a signed request's time may be from ours, unless set otherwise (wire.md 1.10).
pub const CLOCK_WINDOW: ClockWindow = ClockWindow::new(5 * 60);

/// The most that may be set for it: what the most lenient of AWS's services allow. A captured request can be replayed
/// for as long.
pub const LONGEST_CLOCK_WINDOW: Duration = Duration::from_secs(15 * 60);

/// How far the wall clock may fall behind the highest time it has shown before signed requests are refused: more than
/// an NTP correction, far less than the window in which a captured request could be replayed.
pub const CLOCK_STEP_BACK: Duration = Duration::from_secs(30);

/// Lifetime of a one-time join token.
pub const JOIN_TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Largest policy document, in characters without white space: that of an AWS managed policy, counted as IAM counts. It
/// bounds the statements of a policy to about 130 and the values in it to about 2,000.
pub const POLICY_DOCUMENT: usize = 6144;

/// Largest policy document with its white space, in bytes: the most that IAM's API takes.
pub const POLICY_TEXT: usize = 128 * 1024;

/// Longest text of a pushed key, in characters (wire.md 1.2).
pub const KEY_TEXT: usize = 4096;

/// Tags on one instance or user: EC2's own bound, and IAM's.
pub const TAGS: usize = 50;

/// Longest tag key, in characters: EC2's own bound, and IAM's.
pub const TAG_KEY: usize = 128;

/// Longest tag value, in characters: EC2's own bound, and IAM's.
pub const TAG_VALUE: usize = 256;

/// Longest instance type, image id or address in a request, in characters: IPv6 takes 45.
pub const INSTANCE_DETAIL: usize = 64;

/// Parameters of a request of the query protocol: a thousand ids, and as much again.
pub const QUERY_PARAMETERS: usize = 2048;

/// Names and values of all of them, decoded, in bytes. What is on record of them takes three times as much at most, and fits
/// into [`AUDIT_LINE`] with all else.
pub const QUERY_TEXT: usize = 64 * 1024;

/// Longest part of a parameter that a message repeats, in characters.
pub const QUERY_NAME: usize = 128;

/// Filters in one request: EC2's own bound.
pub const FILTERS: usize = 50;

/// Values of all filters in one request: EC2's own bound.
pub const FILTER_VALUES: usize = 200;

/// Longest name or value of a filter, in characters: EC2's own bound.
pub const FILTER_TEXT: usize = 255;

/// Instances, or tags, in one answer of the query protocol: EC2's own bounds, the higher one also where none is asked for, so
/// that nobody gets a million at once.
pub const DESCRIBED: RangeInclusive<usize> = 5..=1000;

/// An answer that lists has no more once it is about so long, in bytes: what is left has a part of its own.
pub const DESCRIBED_BYTES: usize = 1024 * 1024;

/// Steps in which an answer that lists is found, some tens of milliseconds: what is not looked at by then has a part of its
/// own. A step is a character that a filter compares.
pub const DESCRIBED_STEPS: usize = 4_000_000;

/// What it takes to look at one thing at all, in these steps: of a million each is somewhere else in memory.
pub const DESCRIBED_THING: usize = 64;

/// Instance types in one answer: EC2's own bounds.
pub const DESCRIBED_TYPES: RangeInclusive<usize> = 5..=100;

/// Instances that one request of the query protocol changes, in one transaction of the store, while others wait.
pub const INSTANCES_CHANGED: usize = 100;

/// What an answer of an administrative operation lists at most: IAM's own default.
pub const PAGE: usize = 100;

/// Events that one look-up answers at most: CloudTrail's own limit.
pub const EVENTS: usize = 50;

/// Longest value that events are looked up by, in characters: CloudTrail's own limit.
pub const ATTRIBUTE: usize = 2000;

/// Bytes of the audit log that one look-up reads at most; what it has not come to, the next one does.
pub const LOOKUP_READ: u64 = 8 * 1024 * 1024;

/// Look-ups of events by one account: CloudTrail's own rate, and a few pages at once.
pub const LOOKUP_RATE: Rate = Rate::new(2, 10);

/// Look-ups that read the audit log at a time, so that they leave a core to those who push. Others are throttled: a queue of
/// them would be as long as there are connections.
pub const LOOKUPS: usize = 1;

/// Longest marker of a list, in characters: a name of IAM, with what kind of thing it names.
pub const MARKER: usize = 256;

/// Policy variables in one value of a policy; two or three are usual. What they stand for is found once, without
/// allocating.
pub const POLICY_VARIABLES: usize = 8;

/// Requests of one principal. AWS publishes no figure (wire.md 1.14). A script that logs in to a fleet, machine after
/// machine, stays below it; a loop that has run away does not.
pub const PRINCIPAL_RATE: Rate = Rate::new(20, 100);

/// What one principal does to one instance. Tools that open several sessions to one machine push once for each, so ten
/// come through at once.
pub const INSTANCE_RATE: Rate = Rate::new(5, 10);

/// Requests of one source that end before anybody is authenticated, and for themselves its enrolments without a good join
/// token. Generous: many people, or a site of machines, may be behind one address, and one broken script among them must not
/// shut all of them out. Still far fewer than would keep a processor busy.
pub const UNAUTHENTICATED_RATE: Rate = Rate::new(50, 500);

/// Requests that go on in the trace that their caller names. Whoever sends one can choose its trace, and so whether it is kept; of
/// the others the service chooses.
pub const TRACE_CONTEXT_RATE: Rate = Rate::new(50, 100);

/// Connections open at the API at a time; each costs a descriptor and up to about 100 KiB, its head and body. One source, which may be an
/// office behind one address, has a twentieth of them, so that it takes many to fill all places.
pub const API_CONNECTIONS: ConnectionLimits = ConnectionLimits { in_all: 10_000, per_source: 512 };

/// Connections at the agents listener that are no links yet. A whole site of machines may be behind one address, and
/// after a restart of the control plane they all come at once.
pub const AGENT_CONNECTIONS: ConnectionLimits = ConnectionLimits { in_all: 10_000, per_source: 4096 };

/// Links open at a time, each some tens of KiB.
pub const LINKS: usize = 20_000;
