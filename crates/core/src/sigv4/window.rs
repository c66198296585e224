//! The window in which a request's time has to be.

use crate::limits;
use std::fmt;
use std::time::Duration;

/// How far a request's time may be from the time here, before and behind it: whole seconds, from 1 to
/// [`limits::LONGEST_CLOCK_WINDOW`]. Written as their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockWindow(Duration);

/// No request would be good, or one that was captured for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a clock window has 1 to {} seconds", limits::LONGEST_CLOCK_WINDOW.as_secs())]
pub struct ClockWindowError;

impl ClockWindow {
    /// For constants, where one out of range does not build; numbers are parsed.
    pub(crate) const fn new(seconds: u64) -> Self {
        assert!(Self::fits(seconds), "a clock window is within its bounds");
        Self(Duration::from_secs(seconds))
    }

    const fn fits(seconds: u64) -> bool {
        seconds >= 1 && seconds <= limits::LONGEST_CLOCK_WINDOW.as_secs()
    }

    /// As a time.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<u64> for ClockWindow {
    type Error = ClockWindowError;

    fn try_from(seconds: u64) -> Result<Self, ClockWindowError> {
        if Self::fits(seconds) { Ok(Self(Duration::from_secs(seconds))) } else { Err(ClockWindowError) }
    }
}

impl fmt::Display for ClockWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        for (seconds, fits) in [(1, true), (900, true), (0, false), (901, false), (u64::MAX, false)] {
            match ClockWindow::try_from(seconds) {
                Ok(window) => assert!(fits && window.duration().as_secs() == seconds, "{seconds}"),
                Err(error) => {
                    assert!(!fits, "{seconds}");
                    assert_eq!(error.to_string(), "a clock window has 1 to 900 seconds");
                }
            }
        }
        assert_eq!(limits::CLOCK_WINDOW.to_string(), "300");
    }
}
