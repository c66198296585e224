//! The control API on the wire: AWS JSON 1.1 (wire.md 1), and beside it the query protocol of [`crate::query`].
//! Operations, their parameters, and the one error table.

mod error;
mod json;
mod operation;
mod protocol;
mod validate;

pub use error::{
    AccessDenied, AdministrationErrorCode, ApiError, QueryErrorCode, SerialConsoleError, WireError,
};
pub use json::well_formed;
pub(crate) use operation::is_zone_name;
pub use operation::{
    CONTENT_TYPE, Operation, SendSerialConsoleSshPublicKey, SendSshPublicKey, route, speaks_json,
    success_body,
};
pub use protocol::Protocol;
pub(crate) use validate::{Constraint, Violations};
