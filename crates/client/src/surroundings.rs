//! What a client takes from the world beside its network: the time, chance, and waiting.

use instance_connect_core::document::UnixSeconds;
use std::fmt::Debug;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::time::Duration;

/// The time, chance and waiting. Programs have no need of it; a test that brings its own waits for nothing.
pub trait Surroundings: Debug + Send + Sync {
    /// The time by this machine's clock.
    fn now(&self) -> UnixSeconds;

    /// Any number. It decides where between nothing and its longest the pause before another attempt is, so that many
    /// clients who failed together do not come back together; guessing it gains nothing.
    fn random(&self) -> u32;

    /// Waits for so long.
    fn pause(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The real ones.
#[derive(Debug)]
pub struct System;

impl Surroundings for System {
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge where a client takes the real time, unless it is given another"
    )]
    fn now(&self) -> UnixSeconds {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seconds = since_epoch.map_or(0, |duration| duration.as_secs());
        UnixSeconds(seconds.try_into().unwrap_or(i64::MAX))
    }

    /// From the randomness with which the standard library seeds its hash maps.
    fn random(&self) -> u32 {
        let [a, b, c, d, ..] = RandomState::new().hash_one(()).to_ne_bytes();
        u32::from_ne_bytes([a, b, c, d])
    }

    fn pause(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}
