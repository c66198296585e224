//! When an agent asks for its next certificate.

use instance_connect_document::UnixSeconds;

/// When to renew a certificate that is good from `not_before` to `not_after`: two thirds into that time, and up to a
/// twelfth of it later, as `jitter` says, so that machines enrolled together do not come together.
pub fn renewal_due(not_before: UnixSeconds, not_after: UnixSeconds, jitter: u32) -> UnixSeconds {
    let life = i128::from(not_after.0.saturating_sub(not_before.0).max(0));
    let late = life * i128::from(jitter) / (12 * i128::from(u32::MAX));
    let due = i128::from(not_before.0) + life * 2 / 3 + late;
    UnixSeconds(i64::try_from(due).unwrap_or(not_after.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_thirds_into_its_life_and_a_little_later() {
        let due = |jitter| renewal_due(UnixSeconds(1000), UnixSeconds(1120), jitter).0;
        assert_eq!((due(0), due(u32::MAX / 2), due(u32::MAX)), (1080, 1084, 1090));
        assert_eq!(renewal_due(UnixSeconds(5), UnixSeconds(4), 7).0, 5, "one that is never good");
    }

    proptest! {
        #[test]
        fn there_is_always_time_left(not_before in 0..i64::MAX / 2, life in 12..i64::MAX / 2, jitter: u32) {
            let due = renewal_due(UnixSeconds(not_before), UnixSeconds(not_before + life), jitter).0;
            prop_assert!(not_before < due && due < not_before + life);
        }
    }
}
