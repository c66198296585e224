//! The service's clock, when this machine's is wrong: learnt from the `Date` of an answer that refused a signature, and
//! kept (wire.md 1.13). No I/O.

use crate::error::Error;
use instance_connect_core::document::UnixSeconds;
use instance_connect_planted::planted;
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
        if forgeable && !planted("any-date-believed") {
            return None;
        }
        self.0.store(skew, Ordering::Relaxed);
        Some(skew)
    }
}

/// The time of a header `Date`.
pub(crate) fn in_header(date: &str) -> Option<UnixSeconds> {
    let timestamp = rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    Some(UnixSeconds(timestamp.as_second()))
}

/// The service's time in the words by which it refuses a signature's: `… (20260301T124556Z - 5 min.)` (wire.md 1.10, row 8). Not
/// every proxy leaves it its `Date`.
pub(crate) fn in_words(message: &str) -> Option<UnixSeconds> {
    let (_, time) = message.rsplit_once('(')?;
    let timestamp: jiff::Timestamp = time.split(' ').next()?.parse().ok()?;
    Some(UnixSeconds(timestamp.as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// date -d '2026-11-22T18:24:56Z' +%s
    const NOW: UnixSeconds = UnixSeconds(1_795_371_896);

    #[test]
    fn dates() {
        for (date, time) in [
            ("Sun, 22 Nov 2026 18:24:56 GMT", Some(NOW)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(UnixSeconds(0))),
            ("Sun, 22 Nov 2026 18:24:56", None),
            ("2026-11-22T18:24:56Z", None),
            ("", None),
        ] {
            assert_eq!(in_header(date), time, "{date}");
        }
    }

    #[test]
    fn words() {
        for (message, time) in [
            (
                "Signature expired: 20261122T180000Z is now earlier than 20261122T181956Z (20261122T182456Z - 5 min.)",
                Some(NOW),
            ),
            (
                "Signature not yet current: 20261122T190000Z is still later than 20261122T182956Z (20261122T182456Z + 5 min.)",
                Some(NOW),
            ),
            ("Signature expired: 20310211T020506Z is not later than 20310211T020510Z", None),
            ("Signature expired: (", None),
            ("", None),
        ] {
            assert_eq!(in_words(message), time, "{message}");
        }
    }
}
