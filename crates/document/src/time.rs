//! Instants of three clocks that must never be mixed, each a type of its own. Nothing here reads a clock.

use std::time::Duration;

/// An instant of one machine's boot clock (`CLOCK_BOOTTIME`, suspended time included), in nanoseconds since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootInstant(pub u64);

/// An instant of one control-plane process's monotonic clock, in nanoseconds since an epoch of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerInstant(pub u64);

/// A wall-clock instant in whole seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(pub i64);

/// A day (UTC), counted from 1 January 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixDay(pub u32);

impl UnixSeconds {
    /// The day this instant is in. Before 1970 it is the first day, past the last one that fits the last.
    pub fn day(self) -> UnixDay {
        UnixDay(self.0.div_euclid(24 * 60 * 60).max(0).try_into().unwrap_or(u32::MAX))
    }
}

impl BootInstant {
    /// The instant `duration` later; the far future where that does not fit.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(duration)))
    }

    /// The instant `duration` earlier; the boot itself where that does not fit.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanoseconds(duration)))
    }

    /// Time from `earlier` to `self`; zero when `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl ServerInstant {
    /// The instant `duration` later; the far future where that does not fit.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(duration)))
    }

    /// The instant `duration` earlier; the epoch itself where that does not fit.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanoseconds(duration)))
    }

    /// Time from `earlier` to `self`; zero when `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl From<Duration> for BootInstant {
    /// The instant this long after boot.
    fn from(since_boot: Duration) -> Self {
        Self(nanoseconds(since_boot))
    }
}

impl From<Duration> for ServerInstant {
    /// The instant this long after the clock's epoch.
    fn from(since_epoch: Duration) -> Self {
        Self(nanoseconds(since_epoch))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}
