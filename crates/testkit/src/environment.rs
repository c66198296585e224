//! Time and randomness under a test's control.

use aws_lc_rs::digest::{SHA256, digest};
use instance_connect_core::document::{ServerInstant, UnixSeconds};
use instance_connect_core::environment::{Clock, Random};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Clocks that stand still until a test moves them.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicI64,
    monotonic: AtomicU64,
}

impl ManualClock {
    /// Clocks that stand at these times.
    pub const fn new(wall: UnixSeconds, monotonic: ServerInstant) -> Self {
        Self { wall: AtomicI64::new(wall.0), monotonic: AtomicU64::new(monotonic.0) }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.wall.fetch_add(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX), Ordering::SeqCst);
        self.monotonic.fetch_add(nanoseconds, Ordering::SeqCst);
    }

    /// Sets the wall clock alone, as an operator or NTP may.
    pub fn set_wall(&self, wall: UnixSeconds) {
        self.wall.store(wall.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> UnixSeconds {
        UnixSeconds(self.wall.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> ServerInstant {
        ServerInstant(self.monotonic.load(Ordering::SeqCst))
    }
}

/// Bytes that look random and are the same for the same seed.
#[derive(Debug, Default)]
pub struct SeededRandom {
    seed: u64,
    drawn: AtomicU64,
}

impl SeededRandom {
    /// Randomness from this seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed, drawn: AtomicU64::new(0) }
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let count = self.drawn.fetch_add(1, Ordering::SeqCst);
            let block = digest(&SHA256, &[self.seed.to_be_bytes(), count.to_be_bytes()].concat());
            chunk.iter_mut().zip(block.as_ref()).for_each(|(byte, random)| *byte = *random);
        }
    }
}
