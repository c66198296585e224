//! The real clocks: the only place that asks the system for the time.

use instance_connect_core::document::{BootInstant, MachineTime, UnixSeconds};
use rustix::time::{ClockId, clock_gettime};
use std::fmt::Debug;
use std::time::Duration;

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
        // A boot clock that cannot be read is past every deadline.
        BootInstant::from(Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or(Duration::MAX))
    }

    fn wall(&self) -> UnixSeconds {
        UnixSeconds(clock_gettime(ClockId::Realtime).tv_sec)
    }
}
