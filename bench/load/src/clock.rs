//! The clocks of this program.

use instance_connect_core::document::{BootInstant, UnixSeconds};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// What durations are measured by.
#[expect(clippy::disallowed_methods, reason = "measuring time is what this program is for")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// `CLOCK_BOOTTIME`, which the link speaks of.
pub(crate) fn boot() -> BootInstant {
    BootInstant(u64::try_from(of(ClockId::Boottime).as_nanos()).unwrap_or(u64::MAX))
}

/// The wall clock, which signatures name.
pub(crate) fn wall() -> UnixSeconds {
    UnixSeconds(clock_gettime(ClockId::Realtime).tv_sec)
}

/// Processor time of this process so far.
pub(crate) fn processor() -> Duration {
    of(ClockId::ProcessCPUTime)
}

fn of(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
}
