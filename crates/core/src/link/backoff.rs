//! How long to wait before the next attempt at a link: exponential with full jitter, so that a thousand agents that
//! lost one server do not come back in one wave.

use super::limits;
use std::time::Duration;

/// The two ends of the waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffSettings {
    /// The most the first wait can be.
    pub first: Duration,
    /// The most any wait can be.
    pub longest: Duration,
}

impl Default for BackoffSettings {
    fn default() -> Self {
        let (first, longest) = limits::RECONNECT;
        Self { first, longest }
    }
}

/// The waits of one agent.
#[derive(Clone, Debug)]
pub struct Backoff {
    settings: BackoffSettings,
    ceiling: Duration,
}

impl Backoff {
    /// No failure yet.
    pub const fn new(settings: BackoffSettings) -> Self {
        Self { settings, ceiling: settings.first }
    }

    /// The wait after a failure: anything from nothing to a ceiling that doubles each time. `random` is a uniformly
    /// random number.
    pub fn next(&mut self, random: u32) -> Duration {
        let longest = self.settings.longest;
        let ceiling = self.ceiling.min(longest);
        self.ceiling = ceiling.saturating_mul(2).min(longest);
        scaled(ceiling, random)
    }

    /// The wait when coming back soon cannot help: the upper half of the longest.
    pub fn next_longest(&mut self, random: u32) -> Duration {
        self.ceiling = self.settings.longest;
        let half = self.settings.longest / 2;
        half.saturating_add(scaled(half, random))
    }

    /// The link was a good one: starts with the short waits again.
    pub const fn reset(&mut self) {
        self.ceiling = self.settings.first;
    }
}

/// `ceiling × random / 2³²`.
fn scaled(ceiling: Duration, random: u32) -> Duration {
    let nanoseconds = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
    let scaled = (u128::from(nanoseconds) * u128::from(random)) >> u32::BITS;
    Duration::from_nanos(u64::try_from(scaled).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ceilings_double_up_to_the_longest_and_start_over() {
        let mut backoff = Backoff::new(BackoffSettings::default());
        let mut ceiling_ms = || u64::try_from(backoff.next(u32::MAX).as_millis() + 1).unwrap();
        let ceilings: Vec<u64> = (0..9).map(|_| ceiling_ms()).collect();
        assert_eq!(ceilings, [200, 400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000]);
        backoff.reset();
        assert_eq!(backoff.next(u32::MAX).as_millis() + 1, 200);
    }

    proptest! {
        #[test]
        fn waits_stay_within_their_ends(randoms: Vec<u32>) {
            let mut backoff = Backoff::new(BackoffSettings::default());
            let mut ceiling = Duration::from_millis(200);
            for random in randoms {
                prop_assert!(backoff.next(random) < ceiling);
                ceiling = (ceiling * 2).min(Duration::from_secs(15));
            }
        }

        #[test]
        fn the_longest_wait_is_long(random: u32) {
            let wait = Backoff::new(BackoffSettings::default()).next_longest(random);
            prop_assert!(wait >= Duration::from_millis(7500) && wait < Duration::from_secs(15));
        }
    }
}
