//! Every bound of the serial console, each with its reason. `docs/limits.md` quotes them.

use std::time::Duration;

/// How long a pushed key opens a console, and holds its place (wire.md 6.1).
pub const RESERVATION: Duration = Duration::from_secs(60);

/// How long after a session the next one may be reserved, unless set otherwise: AWS says about 30 s (wire.md 6.3).
pub const TEARDOWN_DELAY: Duration = Duration::from_secs(30);

/// The most that may be set for it: who is locked out of a machine has no other way in.
pub const LONGEST_TEARDOWN_DELAY: Duration = Duration::from_secs(600);

/// How long a session lasts at most, unless set otherwise: AWS says about an hour (wire.md 6.3).
pub const SESSION: Duration = Duration::from_secs(3600);

/// The most that may be set for it: a week, so that a forgotten session does not hold a line for good.
pub const LONGEST_SESSION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Reservations of one principal for one instance that end unused within [`UNUSED_WINDOW`]; another one waits. They keep
/// everybody else out of the line, so whoever only pushes and never comes is stopped.
pub const UNUSED_RESERVATIONS: usize = 3;

/// For how long an unused reservation counts.
pub const UNUSED_WINDOW: Duration = Duration::from_secs(600);

/// Unused reservations of one instance that are remembered. A principal has three of them, and at a minute each no more than
/// ten principals come to any in ten minutes; more come only of reservations that were withdrawn in between.
pub const UNUSED_REMEMBERED: usize = 64;

/// Sessions and watchers in all: each is a connection of the gateway, one of an agent, and their buffers.
pub const SESSIONS: usize = 1024;

/// Watchers of one line, those whose key still waits included: each is sent all of the line's output.
pub const WATCHERS: usize = 16;

/// Lines of which something is remembered at a time, some 500 bytes each: more than are reserved in a minute. What is
/// remembered of unused reservations alone goes first.
pub const LINES: usize = 64 * 1024;

/// Time from the connection of a client to the gateway to the end of its authentication. The key is looked up in a moment, and
/// nobody is asked for a password.
pub const AUTHENTICATION: Duration = Duration::from_secs(10);

/// Connections of one source at the gateway that have not authenticated: one is a person, four are a person in a hurry.
pub const UNAUTHENTICATED_PER_SOURCE: usize = 4;

/// The same of all sources: each costs the gateway a key exchange.
pub const UNAUTHENTICATED: usize = 64;

/// Keys that a connection may offer: ssh offers those of its agent one after the other, and OpenSSH takes six tries.
pub const OFFERED_KEYS: usize = 8;

/// How often a client is asked whether it is still there, unless set otherwise: before NAT forgets the connection.
pub const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// So many of these unanswered in a row end the session, so that a person whose connection broke can come again after two
/// minutes at the latest.
pub const KEEP_ALIVES_UNANSWERED: u32 = 3;

/// Past output that is kept of a line, in bytes, unless set otherwise: a boot with all its messages is some 100 KiB.
pub const HISTORY: usize = 1024 * 1024;

/// Longest inside of a control sequence that a filter lets pass, in bytes: two colours of three numbers each, with attributes,
/// take 40.
pub const FILTERED_SEQUENCE: usize = 64;

/// Longest string of a terminal (a title, a picture) that a filter leaves out whole, in characters. One that has no end, such as
/// noise on the line begins, shall not hide all that follows.
pub const FILTERED_STRING: usize = 4096;

/// Longest recording of a session, in bytes: what a line of 115,200 bits a second says in an hour, with each byte an escape of
/// six. A machine that floods its line shall not fill the disk.
pub const RECORDING: usize = 256 * 1024 * 1024;

/// Longest subnegotiation of telnet, in bytes: those of RFC 2217 have a few, and the other side's name some tens.
pub const TELNET_SUBNEGOTIATION: usize = 1024;

/// Negotiations that one telnet connection answers. There are some ten options that anybody asks for, each once.
pub const TELNET_ANSWERS: u32 = 256;

/// The least and the most that may be set for [`HISTORY`]: a screen, and a boot with all its messages several times over.
pub const HISTORY_BOUNDS: (usize, usize) = (4 * 1024, 16 * 1024 * 1024);

/// Bytes that a person has typed and a line has not taken yet: a long paste waits with the person.
pub const TYPED: usize = 64 * 1024;
