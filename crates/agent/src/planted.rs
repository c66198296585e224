//! Bugs planted on purpose, each behind a cargo feature of its own, to show that a test catches it.

#[cfg(all(
    not(debug_assertions),
    any(
        feature = "planted-ack-before-rename",
        feature = "planted-pin-ignored",
        feature = "planted-veto-ignored",
    )
))]
compile_error!("a planted bug must never reach a release build");
