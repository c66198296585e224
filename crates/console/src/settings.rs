//! What can be set.

use instance_connect_core::console::limits;
use instance_connect_core::places::ConnectionLimits;
use std::time::Duration;

/// The bounds of a gateway. The defaults are AWS's where AWS says one (wire.md 6.3).
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Time from the connection of a client to the end of its authentication, key exchange included.
    pub authentication: Duration,
    /// Connections that have not authenticated.
    pub unauthenticated: ConnectionLimits,
    /// Sessions in all.
    pub sessions: usize,
    /// How long a session lasts at most.
    pub longest_session: Duration,
    /// After how long without a key typed a session ends; never, if none.
    pub idle: Option<Duration>,
    /// How often a client is asked whether it is there.
    pub keep_alive: Duration,
    /// So many of these unanswered in a row end the session.
    pub keep_alives_unanswered: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            authentication: limits::AUTHENTICATION,
            unauthenticated: ConnectionLimits {
                in_all: limits::UNAUTHENTICATED,
                per_source: limits::UNAUTHENTICATED_PER_SOURCE,
            },
            sessions: limits::SESSIONS,
            longest_session: limits::SESSION,
            idle: None,
            keep_alive: limits::KEEP_ALIVE,
            keep_alives_unanswered: limits::KEEP_ALIVES_UNANSWERED,
        }
    }
}

impl Settings {
    /// After how long without a byte of a client it is gone. The SSH library counts unanswered keep-alives too, but not while it waits
    /// for a client to take bytes.
    pub(crate) fn longest_silence(&self) -> Duration {
        self.keep_alive.saturating_mul(self.keep_alives_unanswered.saturating_add(1))
    }
}
