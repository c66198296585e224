//! IAM policies: parsed strictly, evaluated with deny as the default.

mod policy;

pub use policy::{Policy, PolicyError};
