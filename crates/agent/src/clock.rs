//! The real clocks: the only place that asks the system for the time.

use instance_connect_core::document::{BootInstant, MachineTime, UnixSeconds};
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::fmt::Debug;

/// The clocks of this machine.
pub trait MachineClock: Debug + Send + Sync {
    /// `CLOCK_BOOTTIME`: decides when keys end.
    fn boot(&self) -> BootInstant;

    /// The wall clock: only keeps documents of long ago away.
    fn wall(&self) -> UnixSeconds;

    /// Both.
    fn now(&self) -> MachineTime {
        MachineTime { boot: self.boot(), wall: self.wall() }
    }
}

/// The system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl MachineClock for SystemClock {
    fn boot(&self) -> BootInstant {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
        let (seconds, nanoseconds) = (u64::try_from(tv_sec), u64::try_from(tv_nsec));
        BootInstant(
            seconds.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nanoseconds.unwrap_or(0)),
        )
    }

    fn wall(&self) -> UnixSeconds {
        UnixSeconds(clock_gettime(ClockId::Realtime).tv_sec)
    }
}
