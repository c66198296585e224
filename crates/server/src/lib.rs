//! The control plane: listeners and the wiring of `instance-connectd`.

mod admin;
mod administration;
mod agents;
mod agents_tls;
mod api;
mod audit_log;
pub mod config;
mod connections;
pub mod control_plane;
mod descriptors;
pub mod dev;
mod drain;
mod faults;
mod http;
pub mod init;
mod inventory;
mod links;
mod log;
mod master_key;
mod metrics;
mod new_file;
mod new_ids;
mod operator_events;
mod os_accounts;
mod pki;
mod proxies;
mod public_tls;
mod query;
pub mod rotate_anchor;
pub mod rotate_master_key;
pub mod rotate_stock_signer;
mod sockets;
mod stock;
mod stop;
mod system;
mod traces;

#[cfg(all(
    not(debug_assertions),
    any(
        feature = "planted-anchors-believed",
        feature = "planted-any-socket-used",
        feature = "planted-audit-skipped",
        feature = "planted-change-replayed",
        feature = "planted-clones-unnoticed",
        feature = "planted-doubtful-connection-kept",
        feature = "planted-enrolments-unthrottled",
        feature = "planted-events-of-others",
        feature = "planted-faults-in-service",
        feature = "planted-guests-of-others",
        feature = "planted-interrupted-skipped",
        feature = "planted-late-hellos-believed",
        feature = "planted-replay-admitted",
        feature = "planted-revoked-signer-signs",
        feature = "planted-signer-kept",
        feature = "planted-signer-root-unconstrained",
        feature = "planted-slow-heads-allowed",
        feature = "planted-turn-unauthorized"
    )
))]
compile_error!("a planted bug is for showing that a test catches it, never for a release");
