//! Whether a failed attempt is followed by another, and when: what the SDKs call the standard mode (wire.md 1.13). No I/O.
//!
//! A push may be sent again although it may have been carried out: the same key for the same user on the same machine is
//! then in place twice, which opens nothing more, and lives 60 seconds from the later one.

use crate::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How often a call is tried in all, unless said otherwise.
pub(crate) const MAX_ATTEMPTS: u32 = 3;

/// The longest pause before the second attempt. It doubles with each further one.
const TRANSIENT_PAUSE: Duration = Duration::from_millis(50);
/// The same when there were too many requests: such a state takes longer to go away.
const THROTTLED_PAUSE: Duration = Duration::from_secs(1);
/// What doubling ends at.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// How much longer the service can make a pause than it would have been.
const LONGEST_EXTENSION: Duration = Duration::from_secs(5);

/// Tokens of a client's retry quota, which is also what it begins with.
const QUOTA: u32 = 500;
const TRANSIENT_COST: u32 = 14;
const THROTTLED_COST: u32 = 5;
/// What a call that needed no second attempt gives.
const SUCCESS_REFUND: u32 = 1;

/// What a failure says about another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retryable {
    /// It may have been an accident.
    Transient,
    /// It came too early.
    Throttled,
}

/// `retry_mode` of the AWS files, or `AWS_RETRY_MODE`.
///
/// It is read because people share one file between programs. Whatever it says, this client does what
/// [`Standard`](Self::Standard) is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryMode {
    /// Attempts with growing pauses, within a quota.
    #[default]
    Standard,
    /// Standard, with a rate limit in front of first attempts too. This client has none: whoever pushes one key has
    /// nothing to limit.
    Adaptive,
    /// What each SDK did before there was a standard. This client is younger.
    Legacy,
}

impl RetryMode {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "standard" => Some(Self::Standard),
            "adaptive" => Some(Self::Adaptive),
            "legacy" => Some(Self::Legacy),
            _ => None,
        }
    }
}

/// What all calls of a client may spend on further attempts. When a service is down for everybody, it runs dry, and calls
/// fail at once instead of adding to the load.
#[derive(Debug)]
pub(crate) struct Quota(AtomicU32);

impl Default for Quota {
    fn default() -> Self {
        Self(AtomicU32::new(QUOTA))
    }
}

impl Quota {
    fn take(&self, cost: u32) -> bool {
        let take = |tokens: u32| tokens.checked_sub(cost);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn give(&self, refund: u32) {
        let give = |tokens: u32| Some(tokens.saturating_add(refund).min(QUOTA));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give);
    }
}

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Attempts<'a> {
    quota: &'a Quota,
    most: u32,
    /// How many have failed.
    failed: u32,
    /// What the last pause cost.
    spent: Option<u32>,
}

impl<'a> Attempts<'a> {
    /// At most `most` attempts, paid from `quota`.
    pub(crate) fn new(most: u32, quota: &'a Quota) -> Self {
        Self { quota, most, failed: 0, spent: None }
    }

    /// One failed: the pause before the next, `None` when there is no next. `random` is any number.
    pub(crate) fn pause_after(&mut self, failure: &Error, random: u32) -> Option<Duration> {
        let (first, cost) = match failure.retryable()? {
            Retryable::Transient => (TRANSIENT_PAUSE, TRANSIENT_COST),
            Retryable::Throttled => (THROTTLED_PAUSE, THROTTLED_COST),
        };
        let longest = first.saturating_mul(2_u32.saturating_pow(self.failed)).min(LONGEST_PAUSE);
        if !self.another() || !self.quota.take(cost) {
            return None;
        }
        self.spent = Some(cost);
        let pause = longest.mul_f64(f64::from(random) / f64::from(u32::MAX));
        let asked_for = failure.fault().and_then(|fault| fault.retry_after).unwrap_or_default();
        Some(asked_for.clamp(pause, pause + LONGEST_EXTENSION))
    }

    /// One failed for a reason that is gone: whether there is a next, at once and at no cost.
    pub(crate) fn again_at_once(&mut self) -> bool {
        self.another()
    }

    /// One succeeded: what the last pause cost goes back.
    pub(crate) fn succeeded(self) {
        self.quota.give(self.spent.unwrap_or(SUCCESS_REFUND));
    }

    fn another(&mut self) -> bool {
        self.failed = self.failed.saturating_add(1);
        self.failed < self.most
    }
}
