//! Every bound of the link and of enrolment, each with its reason. `docs/link.md` quotes them.

use crate::throttle::Rate;
use std::time::Duration;

/// The lowest protocol version this code speaks.
pub const VERSION_MIN: u8 = 1;

/// The highest protocol version this code speaks.
pub const VERSION_MAX: u8 = 1;

/// Largest frame in bytes: a grant with the largest document, and room for a kind that carries a little more.
pub const FRAME: usize = 16 * 1024;

/// Largest document in a grant: the largest that its verifier takes.
pub const DOCUMENT: usize = instance_connect_document::DOCUMENT_LIMIT;

/// Longest signer statement: what a hand-over file has room for. One is about 180 bytes.
pub const STATEMENT: usize = 256;

/// Longest program version.
pub const VERSION_TEXT: usize = 64;

/// Longest certificate request in a renew: one with a P-256 key is about 350 bytes.
pub const REQUEST: usize = 2048;

/// Longest chain, and longest CA, in a renewed: two certificates each, of about 900 bytes in PEM.
pub const CERTIFICATES: usize = 6144;

/// Longest anchor set.
pub const ANCHOR_SET: usize = instance_connect_document::ANCHOR_SET_LIMIT;

/// How long the last anchor set of a roll-over waits: the keys that are on machines when it ends live a minute longer by the old
/// anchor.
pub const ANCHORS_WITHHELD: Duration = Duration::from_secs(120);

/// How soon after a machine's word on its anchors was noted its next one is; until then the last one waits.
pub const ANCHOR_REPORTS: Duration = Duration::from_secs(10);

/// How long the first of two links has to show that there is somebody at its other end.
pub const PROBE: Duration = Duration::from_secs(5);

/// Renewals of one instance are at least so far apart; a machine needs one in weeks.
pub const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);

/// When an agent whose renew was not answered asks again.
pub const RENEWAL_RETRY: Duration = Duration::from_secs(3600);

/// Longest text of a goodbye: one line of a log.
pub const GOODBYE_TEXT: usize = 200;

/// Most request ids in one report: more pushes of one key within a minute are a caller in a loop.
pub const OFFERED_REQUESTS: usize = 16;

/// Signer statements an agent keeps for one link: the current one, and those of a rotation under way.
pub const STATEMENTS_KEPT: usize = 4;

/// How often the agent pings: several times within the 30 s that a sample is good for (`document::OLDEST_SAMPLE`), so that one lost exchange refuses no grant.
pub const PING_INTERVAL: Duration = Duration::from_secs(7);

/// Pings without a pong; while that many are, no more are sent.
pub const PINGS_UNANSWERED: usize = 4;

/// A link on which no byte was heard for so long is dead.
pub const SILENCE: Duration = Duration::from_secs(30);

/// A peer that takes no bytes for so long is dead.
pub const WRITE_STALL: Duration = Duration::from_secs(10);

/// Connecting, TLS and the WebSocket upgrade, together.
pub const CONNECT: Duration = Duration::from_secs(10);

/// From the upgrade to hello (server) or welcome (agent).
pub const OPENING: Duration = Duration::from_secs(10);

/// The first and the longest wait before a reconnect. A push waits 2 s for an agent between two links.
pub const RECONNECT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// A link open for so long was a good one: the next failure starts with the short waits again.
pub const LINK_STABLE: Duration = Duration::from_secs(10);

/// Frames queued on the server for one agent: the pushes in flight, their withdrawals and pongs, several times over.
pub const SERVER_QUEUE: usize = 64;

/// Withdrawn request ids an agent remembers, so that a withdrawal may overtake its grant.
pub const WITHDRAWN_REMEMBERED: usize = 1024;

/// How long it remembers them: a grant's lifetime twice over.
pub const WITHDRAWN_MEMORY: Duration = Duration::from_secs(120);

/// Acks that wait for a user look-up at a time; each is a process.
pub const ACKS_WAITING: usize = 32;

/// How long an ack may wait for a user look-up: half of what the push waits for the ack.
pub const USER_LOOKUP: Duration = Duration::from_secs(1);

/// Reports kept while there is no link.
pub const OFFERED_QUEUE: usize = 256;

/// Reports sent in one second, and at once after a quiet time: sshd asks several times for one login, and many may log in
/// together.
pub const REPORTS_SENT_RATE: Rate = Rate::new(50, 100);

/// Keys of which an agent remembers what became of them: those that may be live (`LIVE_KEYS_PER_INSTANCE`), and as many that were.
pub const KEYS_WATCHED: usize = 2 * crate::limits::LIVE_KEYS_PER_INSTANCE;

/// Open logins with pushed keys that an agent remembers, to say when they end.
pub const LOGINS_WATCHED: usize = 1024;

/// How long after its end a key may still open a login that began before: sshd's `LoginGraceTime`, 120 s unless it is set.
pub const LOGIN_GRACE: Duration = Duration::from_secs(120);

/// Reports of one instance that are recorded in one second, so that a lying agent fills the disk at no more than 350 MB a day
/// with them; and at once, which is 100 logins at the same time. The others are counted.
pub const REPORTS_RECORDED_RATE: Rate = Rate::new(5, 500);

/// Largest body of an enrolment request or answer.
pub const ENROLL_BODY: usize = 64 * 1024;

/// SSH host keys in one report: OpenSSH has four kinds.
pub const HOST_KEYS: usize = 8;

/// Longest SSH host key line: an RSA key of 4096 bits has 724 bytes. A frame holds [`HOST_KEYS`] of them.
pub const HOST_KEY_LINE: usize = 1024;

/// How soon after a report of host keys the next one of that instance is taken; until then the last one waits. Whoever makes
/// up new ones all the time shall not fill the audit log with them.
pub const HOST_KEY_REPORTS: Duration = Duration::from_secs(10);

/// Longest fact of a host: the fields of uname have 64 bytes, and a `PRETTY_NAME` rarely more.
pub const FACT: usize = 128;

/// Addresses in one report of host facts: an agent of ours says three at most.
pub const HOST_ADDRESSES: usize = 16;

/// How soon an agent looks again whether the facts of its machine have changed.
pub const HOST_FACTS_LOOKED_AT: Duration = Duration::from_secs(60);

/// How soon after a report of host facts the next one of that instance is taken; until then the last one waits. Each that says
/// something else is a change of the inventory.
pub const HOST_FACT_REPORTS: Duration = Duration::from_secs(10);

/// Time a machine may seem to lose before its live keys are shortened by it: clocks drift, pauses are longer.
pub const LOST_TIME: Duration = Duration::from_secs(1);

/// Generations of the metadata service's signer that are in force at a time: one, and while one follows the other both.
pub const STOCK_SIGNERS: usize = 2;

/// Longest chain of such a signer: three certificates of at most 1,200 bytes in PEM.
pub const STOCK_CHAIN: usize = 4096;

/// Staples of a chain: one for each certificate but the last, and one more than there are now.
pub const STAPLES: usize = 3;

/// Longest staple: one signed by a P-256 key has about 300 bytes. A frame holds all of all signers.
pub const STAPLE: usize = 768;

/// Longest domain in the name of a signer.
pub const DOMAIN: usize = 64;

/// Tags of an instance that its metadata has: as many as EC2 allows.
pub const TAGS: usize = 50;

/// Bytes of keys and values of these tags, together: what a frame has room for.
pub const TAGS_BYTES: usize = 12 * 1024;

/// Serial lines in one report: those of a large console server. A frame holds them.
pub const LINES: usize = 512;

/// How long a ticket for a stream is good: an agent connects at once.
pub const STREAM_TICKET: Duration = Duration::from_secs(10);

/// Streams of one agent at a time, watchers included.
pub const STREAMS: usize = 256;
