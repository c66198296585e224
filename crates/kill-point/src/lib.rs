//! Named points at which a program kills itself as `kill -9` would, so that `e2e/crash` sees what a crash there leaves
//! behind. Without the feature `enabled` they are nothing.

#[cfg(all(not(debug_assertions), feature = "enabled"))]
compile_error!("a program that kills itself is for tests, never for a release");

/// Passes a point.
#[cfg(not(feature = "enabled"))]
#[inline(always)]
pub const fn kill_point(_name: &str) {}

/// Passes a point. `INSTANCE_CONNECT_KILL_AT=NAME:N` kills the process when it passes the point of that name for the
/// N-th time.
#[cfg(feature = "enabled")]
pub fn kill_point(name: &str) {
    use rustix::process::{Signal, getpid, kill_process};
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static CHOSEN: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let chosen = std::env::var("INSTANCE_CONNECT_KILL_AT").ok()?;
        let (name, nth) = chosen.split_once(':')?;
        Some((name.to_owned(), nth.parse().ok()?))
    });
    static PASSED: AtomicU64 = AtomicU64::new(0);

    if let Some((chosen, nth)) = CHOSEN.as_ref()
        && chosen == name
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *nth
    {
        let _ = kill_process(getpid(), Signal::KILL);
    }
}
