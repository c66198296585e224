//! The control plane: listeners and the wiring of `instance-connectd`.

mod agents;
mod api;
mod audit_log;
mod control_plane;
pub mod dev;
mod http;
mod inventory;
mod links;
mod pki;
mod system;

#[cfg(all(not(debug_assertions), feature = "planted-audit-skipped"))]
compile_error!("a planted bug is for showing that a test catches it, never for a release");
