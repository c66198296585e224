//! Deadlines, carried from the control plane's monotonic clock to a machine's boot clock without trusting wall clocks.
//!
//! The agent sends a ping at its boot time `a0`; the server answers with its monotonic time `s1`. The answer was
//! written after the ping was sent, so `a0` on the machine is no later than `s1` on the server, and a server deadline
//! `D` is on the machine no earlier than `a0 + (D − s1)`. Using just that instant is never late, and early by the
//! ping's way to the server, which is at most one round trip.
//!
//! Both clocks are taken to run at the same rate. A quartz that is off by 100 millionths moves a deadline by 9 ms over
//! the 90 s that a sample and a grant can last together. A virtual machine that is paused or restored, its boot clock
//! stopped meanwhile, is the one exception: it is put right by the next answer.

use crate::time::{BootInstant, ServerInstant};
use instance_connect_planted::planted;
use std::fmt;
use std::time::Duration;

/// The longest a grant can have before it (wire.md 2.2). A deadline further away is of another boot, or a lie.
pub const LONGEST_LIFETIME: Duration = Duration::from_secs(60);

/// The oldest answer of the server that a deadline is still carried over with, counted from the ping.
pub const OLDEST_SAMPLE: Duration = Duration::from_secs(30);

/// One ping and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSample {
    /// When the ping was sent, on the machine's boot clock (`a0`).
    pub sent: BootInstant,
    /// When the server wrote the answer, on its monotonic clock (`s1`).
    pub server: ServerInstant,
}

/// Why a deadline is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadlineRefusal {
    /// The server has not answered a ping on this link.
    NoSample,
    /// The last ping that was answered is more than [`OLDEST_SAMPLE`] ago.
    StaleSample,
    /// The ping was sent later than now: it is of another boot.
    FutureSample,
    /// The deadline has come.
    Passed,
    /// The deadline is further away than a grant can last.
    TooFar,
}

impl fmt::Display for DeadlineRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSample => "no clock answer from the control plane yet",
            Self::StaleSample => "the last clock answer from the control plane is more than 30 s old",
            Self::FutureSample => "the last clock answer is from another boot",
            Self::Passed => "its deadline has passed",
            Self::TooFar => "its deadline is further ahead than a key may live",
        })
    }
}

impl std::error::Error for DeadlineRefusal {}

/// Carries the server's `deadline` over to the machine's boot clock.
///
/// # Errors
/// A grant whose deadline cannot be known, has come, or is further away than [`LONGEST_LIFETIME`] is refused.
pub fn transfer(
    sample: Option<ClockSample>,
    deadline: ServerInstant,
    now: BootInstant,
) -> Result<BootInstant, DeadlineRefusal> {
    let sample = sample.ok_or(DeadlineRefusal::NoSample)?;
    if sample.sent > now {
        return Err(DeadlineRefusal::FutureSample);
    }
    if now.since(sample.sent) > OLDEST_SAMPLE {
        return Err(DeadlineRefusal::StaleSample);
    }
    let deadline = sample.sent.after(deadline.since(sample.server));
    check(deadline, now, LONGEST_LIFETIME)?;
    Ok(deadline)
}

/// Whether a grant with this deadline is live: the deadline is ahead, by no more than `longest`.
pub(crate) fn check(
    deadline: BootInstant,
    now: BootInstant,
    longest: Duration,
) -> Result<(), DeadlineRefusal> {
    if now >= deadline && !planted("deadline-ignored") {
        return Err(DeadlineRefusal::Passed);
    }
    if deadline.since(now) > longest.min(LONGEST_LIFETIME) {
        return Err(DeadlineRefusal::TooFar);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn sample(sent: u64, server: u64) -> Option<ClockSample> {
        Some(ClockSample { sent: BootInstant(sent * SECOND), server: ServerInstant(server * SECOND) })
    }

    #[test]
    fn deadlines_are_carried_over_or_refused() {
        use DeadlineRefusal::{FutureSample, NoSample, Passed, StaleSample, TooFar};
        // What happens; sample (a0, s1); the server's deadline; now; the deadline on the machine. In seconds.
        let rows = [
            ("just pushed", sample(100, 5000), 5060, 100, Ok(160)),
            ("the last answer is 30 s old", sample(100, 5000), 5090, 130, Ok(190)),
            ("the last answer is 31 s old", sample(100, 5000), 5091, 131, Err(StaleSample)),
            ("no answer yet", None, 5060, 100, Err(NoSample)),
            ("the sample is of an earlier boot", sample(9000, 5000), 5060, 100, Err(FutureSample)),
            ("the grant was held up for its whole life", sample(100, 5000), 5020, 120, Err(Passed)),
            ("held up, one second left", sample(100, 5000), 5021, 120, Ok(121)),
            ("the deadline was before the answer", sample(100, 5000), 4000, 100, Err(Passed)),
            ("the longest there is", sample(100, 5000), 5070, 110, Ok(170)),
            ("longer than there is", sample(100, 5000), 5071, 110, Err(TooFar)),
            ("another server's clock, far ahead", sample(100, 5000), 1_000_000, 110, Err(TooFar)),
            ("another server's clock, far behind", sample(100, 5000), 12, 110, Err(Passed)),
            // The boot clock counts suspended time, so a machine that slept through a grant sees it as old.
            ("suspended with the answer in hand", sample(100, 5000), 5060, 145, Err(StaleSample)),
            ("suspended with the frame in the socket", sample(140, 5080), 5060, 145, Err(Passed)),
        ];
        for (what, sample, deadline, now, expected) in rows {
            let deadline = ServerInstant(deadline * SECOND);
            let carried = transfer(sample, deadline, BootInstant(now * SECOND));
            assert_eq!(carried, expected.map(|seconds: u64| BootInstant(seconds * SECOND)), "{what}");
        }
    }

    #[test]
    fn the_ends_of_the_clocks_do_not_wrap() {
        let far = ClockSample { sent: BootInstant(u64::MAX), server: ServerInstant(0) };
        let now = BootInstant(u64::MAX);
        assert_eq!(transfer(Some(far), ServerInstant(u64::MAX), now), Err(DeadlineRefusal::Passed));
        let far = ClockSample { sent: BootInstant(0), server: ServerInstant(0) };
        let carried = transfer(Some(far), ServerInstant(u64::MAX), BootInstant(0));
        assert_eq!(carried, Err(DeadlineRefusal::TooFar));
    }

    #[test]
    fn a_paused_virtual_machine_is_put_right_by_the_next_answer() {
        // The machine was paused for 20 s, its boot clock stopped, and its last ping is from before that. A key is then
        // pushed for 30 s, at 5020 by the server.
        let (deadline, now) = (ServerInstant(5050 * SECOND), BootInstant(101 * SECOND));
        let late = transfer(sample(100, 5000), deadline, now);
        assert_eq!(late, Ok(BootInstant(150 * SECOND)), "20 s late: the stated exception");
        let right = transfer(sample(101, 5021), deadline, now);
        assert_eq!(right, Ok(BootInstant(130 * SECOND)));
        // Pushed for 60 s, it is caught at once.
        let caught = transfer(sample(100, 5000), ServerInstant(5080 * SECOND), now);
        assert_eq!(caught, Err(DeadlineRefusal::TooFar));
    }

    /// A ping in the simulation: when it is sent, and how long it and its answer take. All in real nanoseconds.
    #[derive(Clone, Copy, Debug)]
    struct Ping {
        sent: u64,
        to_server: u64,
        back: u64,
    }

    fn pings() -> impl Strategy<Value = Vec<Ping>> {
        // Most frames are quick; some are stalled for longer than a grant lives.
        let way = prop_oneof![3 => 0..SECOND / 10, 1 => 0..90 * SECOND];
        let ping = (0..300 * SECOND, way.clone(), way);
        prop::collection::vec(ping.prop_map(|(sent, to_server, back)| Ping { sent, to_server, back }), 0..12)
    }

    proptest! {
        /// Never late, and early by at most one round trip, whatever frames are stalled and wherever the two clocks
        /// began. Wall clocks do not appear because nothing reads them.
        #[test]
        fn never_late_and_early_by_at_most_one_round_trip(
            pings in pings(),
            pushed in 0..300 * SECOND,
            lifetime in 0..=60 * SECOND,
            held_up in prop_oneof![3 => 0..SECOND, 1 => 0..90 * SECOND],
            boot_began in 0..u64::MAX / 4,
            server_began in 0..u64::MAX / 4,
        ) {
            let delivered = pushed + held_up;
            let arrival = |ping: &Ping| ping.sent + ping.to_server + ping.back;
            let last = pings.iter().filter(|ping| arrival(ping) <= delivered).max_by_key(|ping| arrival(ping));
            let sample = last.map(|ping| ClockSample {
                sent: BootInstant(boot_began + ping.sent),
                server: ServerInstant(server_began + ping.sent + ping.to_server),
            });
            let ends = pushed + lifetime;
            let now = BootInstant(boot_began + delivered);
            match (transfer(sample, ServerInstant(server_began + ends), now), last) {
                (Ok(carried), Some(ping)) => {
                    let carried = carried.0 - boot_began;
                    prop_assert!(carried <= ends, "late");
                    prop_assert!(ends - carried <= ping.to_server + ping.back, "early by more than a round trip");
                    prop_assert!(delivered < carried, "dead on arrival");
                }
                (Err(DeadlineRefusal::Passed), Some(ping)) => {
                    prop_assert!(ends <= delivered + ping.to_server, "refused though it was live");
                }
                (Err(DeadlineRefusal::StaleSample), Some(ping)) => {
                    prop_assert!(delivered - ping.sent > 30 * SECOND);
                }
                (refused, ping) => {
                    prop_assert_eq!(refused, Err(DeadlineRefusal::NoSample));
                    prop_assert!(ping.is_none());
                }
            }
        }
    }
}
