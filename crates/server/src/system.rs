//! The real clock and the real randomness: the only place below `main` that asks the system for either.

use anyhow::Context as _;
use instance_connect_core::document::{BOOT_ID_FILE, BootId, ServerInstant, UnixSeconds};
use instance_connect_core::environment::{Clock, Random};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The system's clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the time that everyone is given comes from")]
    fn wall(&self) -> UnixSeconds {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixSeconds(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> ServerInstant {
        // Suspended time included: a control plane that slept must not think its keys are younger than they are.
        ServerInstant::from(Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or(Duration::MAX))
    }
}

/// The boot that [`SystemClock::monotonic`] counts from.
pub(crate) fn boot_id() -> anyhow::Result<BootId> {
    let text =
        std::fs::read_to_string(BOOT_ID_FILE).with_context(|| format!("cannot read {BOOT_ID_FILE}"))?;
    Ok(text.trim_end().parse()?)
}

/// The system's random number generator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemRandom;

impl Random for SystemRandom {
    #[expect(clippy::expect_used, reason = "without randomness there is nothing safe to go on with")]
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the system's random number generator works");
    }
}
