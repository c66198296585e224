//! Durations, summed up.

use serde_json::{Value, json};
use std::time::Duration;

/// Median and the like, in microseconds. Nothing is left out.
pub(crate) fn summary(mut durations: Vec<Duration>) -> Value {
    durations.sort_unstable();
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a position in a list that fits into memory"
        )]
        let position = ((durations.len().saturating_sub(1)) as f64 * share).round() as usize;
        durations.get(position).map(|duration| duration.as_secs_f64() * 1e6)
    };
    json!({
        "count": durations.len(),
        "min_us": at(0.0),
        "p50_us": at(0.5),
        "p90_us": at(0.9),
        "p99_us": at(0.99),
        "max_us": at(1.0),
    })
}
