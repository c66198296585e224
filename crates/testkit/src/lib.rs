//! What tests of several crates share: clocks that stand until they are set, randomness from a seed, and a small world
//! of accounts, users and instances with signed requests into it. Never part of a release.

mod environment;
mod world;

pub use environment::{ManualClock, SeededRandom};
pub use world::{KEY_LINE, SECRET_ACCESS_KEY, World};
