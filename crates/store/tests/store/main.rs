//! One suite for every store, and what only one of them can get wrong.

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine;
mod fixtures;
mod model;
mod sqlite;
mod suite;
