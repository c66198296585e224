//! What the world gives a decision: the time and randomness. Real sources live in the programs' `main`; tests bring
//! their own.

use instance_connect_document::{ServerInstant, UnixSeconds};
use std::fmt::Debug;

/// The clocks of one process.
pub trait Clock: Debug + Send + Sync {
    /// Wall-clock time: for signatures, certificates and records, never for a key's deadline.
    fn wall(&self) -> UnixSeconds;

    /// This process's monotonic clock: for deadlines.
    fn monotonic(&self) -> ServerInstant;
}

/// A cryptographically strong source of randomness.
pub trait Random: Debug + Send + Sync {
    /// Fills `bytes` with random bytes.
    fn fill(&self, bytes: &mut [u8]);
}
