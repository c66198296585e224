//! IAM policies: parsed strictly, evaluated with deny as the default.
//!
//! A policy that cannot be evaluated fully is refused when it is parsed, never skipped when it is evaluated: what this
//! version does not know (an operator, an element, a condition key, a policy variable) does not load.

mod evaluate;
mod policy;
mod wildcard;

pub use evaluate::{AccessRequest, Decision, StatementRef, evaluate};
pub use policy::{Policy, PolicyError};
