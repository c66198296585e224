//! The control plane: listeners and the wiring of `instance-connectd`.

mod agents;
mod api;
mod audit_log;
mod connections;
pub mod control_plane;
mod descriptors;
pub mod dev;
mod http;
mod inventory;
mod links;
mod pki;
mod system;

/// Writes the log to standard error: warnings and errors, or what `RUST_LOG` asks for.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A log that cannot be written is no reason to stop: telling of it on the same standard error would panic.
    log.log_internal_errors(false).init();
}

#[cfg(all(
    not(debug_assertions),
    any(
        feature = "planted-audit-skipped",
        feature = "planted-doubtful-connection-kept",
        feature = "planted-enrolments-unthrottled",
        feature = "planted-interrupted-skipped",
        feature = "planted-slow-heads-allowed"
    )
))]
compile_error!("a planted bug is for showing that a test catches it, never for a release");
