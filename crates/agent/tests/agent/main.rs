//! The agent against a control plane's end of the link: real TLS, real files, a clock that only moves when told to.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test whose world cannot be set up fails there"
)]

mod control_plane;
mod enrolment;
mod grants;
mod lines;
mod links;
mod machine;
mod metadata;
mod program;
mod renewal;
mod stream_end;
mod streams;
