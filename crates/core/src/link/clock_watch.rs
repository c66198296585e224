//! Noticing that a machine lost time: a virtual machine that was paused, or restored from a snapshot, goes on with the
//! boot clock it had, while its keys should have ended.

use super::limits;
use instance_connect_document::{BootId, BootInstant, ClockSample};
use std::time::Duration;

/// Follows the machine's clock against the server's, over all links to the same server clock.
#[derive(Debug, Default)]
pub struct ClockWatch(Option<Known>);

/// How slowly clocks may drift apart: 1 in 1,000 is twice what the kernel lets NTP slew.
const DRIFT: u64 = 1000;

#[derive(Debug)]
struct Known {
    server_clock: BootId,
    /// The largest known lower bound of how far the machine's clock is ahead of the server's, in nanoseconds: each
    /// sample gives one, less than the truth by at most its round trip.
    ahead: i128,
    /// The server's time at the newest sample.
    at: u64,
}

impl ClockWatch {
    /// Takes a clock sample, read at `now`. Gives the time that the machine has lost since earlier samples: what its
    /// live keys must be shortened by. Never more than it has lost: round trips count as nothing, nor does a clock that
    /// runs slower than the server's by up to a thousandth.
    pub fn lost(&mut self, server_clock: &BootId, sample: ClockSample, now: BootInstant) -> Duration {
        let ahead = i128::from(sample.sent.0) - i128::from(sample.server.0);
        let round_trip = i128::from(now.0.saturating_sub(sample.sent.0));
        let at = sample.server.0;
        let known = self.0.get_or_insert_with(|| Known { server_clock: server_clock.clone(), ahead, at });
        if known.server_clock != *server_clock {
            // Another clock has another epoch; nothing can be compared.
            *known = Known { server_clock: server_clock.clone(), ahead, at };
        }
        known.ahead -= i128::from(at.saturating_sub(known.at) / DRIFT);
        known.at = at;
        let lost =
            u64::try_from(known.ahead - ahead - round_trip).map(Duration::from_nanos).unwrap_or_default();
        if lost < limits::LOST_TIME {
            known.ahead = known.ahead.max(ahead);
            return Duration::ZERO;
        }
        known.ahead = ahead;
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use instance_connect_document::ServerInstant;

    const SECOND: u64 = 1_000_000_000;

    fn lost(watch: &mut ClockWatch, clock: u8, sent: u64, server: u64, now: u64) -> Duration {
        let clock = format!("{clock:08x}-6a0e-4c11-9d0b-1c5a6f0e9a11").parse().unwrap();
        let sample = ClockSample { sent: BootInstant(sent), server: ServerInstant(server) };
        watch.lost(&clock, sample, BootInstant(now))
    }

    #[test]
    fn a_pause_is_seen_at_the_next_answer_and_once() {
        let mut watch = ClockWatch::default();
        assert_eq!(lost(&mut watch, 1, 100 * SECOND, 5 * SECOND, 100 * SECOND), Duration::ZERO);
        assert_eq!(lost(&mut watch, 1, 107 * SECOND, 12 * SECOND, 107 * SECOND), Duration::ZERO);
        // Seven seconds on the machine, an hour on the server; a thousandth of that is put down to the clocks.
        let hour = 3600 * SECOND;
        assert_eq!(
            lost(&mut watch, 1, 114 * SECOND, 19 * SECOND + hour, 114 * SECOND),
            Duration::from_millis(3_600_000 - 3_607)
        );
        assert_eq!(lost(&mut watch, 1, 121 * SECOND, 26 * SECOND + hour, 121 * SECOND), Duration::ZERO);
    }

    #[test]
    fn a_slow_answer_is_not_a_pause() {
        let mut watch = ClockWatch::default();
        lost(&mut watch, 1, 100 * SECOND, 0, 100 * SECOND);
        // Nine seconds on the way there, or back.
        assert_eq!(lost(&mut watch, 1, 107 * SECOND, 16 * SECOND, 116 * SECOND), Duration::ZERO);
        assert_eq!(lost(&mut watch, 1, 114 * SECOND, 14 * SECOND, 123 * SECOND), Duration::ZERO);
        // What a slow sample cannot show, the next one does.
        assert_eq!(
            lost(&mut watch, 1, 130 * SECOND, 35 * SECOND, 130 * SECOND),
            Duration::from_millis(5_000 - 21)
        );
    }

    #[test]
    fn a_clock_that_runs_slow_is_not_a_pause() {
        let mut watch = ClockWatch::default();
        for ping in 0..20_000 {
            // 500 ppm slow, for over a day.
            let (machine, server) = (ping * 7 * (SECOND - SECOND / 2000), ping * 7 * SECOND);
            assert_eq!(lost(&mut watch, 1, machine, server, machine), Duration::ZERO, "{ping}");
        }
    }

    #[test]
    fn suspended_time_counts_on_the_boot_clock_and_is_not_lost() {
        let mut watch = ClockWatch::default();
        lost(&mut watch, 1, 100 * SECOND, 0, 100 * SECOND);
        assert_eq!(lost(&mut watch, 1, 4000 * SECOND, 3900 * SECOND, 4000 * SECOND), Duration::ZERO);
    }

    #[test]
    fn another_server_clock_cannot_be_compared() {
        let mut watch = ClockWatch::default();
        lost(&mut watch, 1, 100 * SECOND, 0, 100 * SECOND);
        assert_eq!(lost(&mut watch, 2, 107 * SECOND, 900 * SECOND, 107 * SECOND), Duration::ZERO);
        assert_eq!(
            lost(&mut watch, 2, 114 * SECOND, 910 * SECOND, 114 * SECOND),
            Duration::from_millis(3_000 - 10)
        );
    }
}
