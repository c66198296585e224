//! IAM policies: parsed strictly, evaluated as AWS does, with deny as the default.
//!
//! A policy that cannot be evaluated fully is refused when it is parsed, never skipped when it is evaluated. From there
//! on everything is decided by one path: a [`Policy`]'s statements judge an [`AccessRequest`], [`evaluate`] makes the
//! [`Decision`] of it, and [`explain`] tells what each statement said. `docs/policies.md` is the same for operators.
//!
//! | file | what is in it |
//! |---|---|
//! | `policy` | the document, from JSON to statements, and what is refused |
//! | `statement` | one statement: does it match, and if not, which part of it |
//! | `action`, `key` | the two tables: our actions, and the condition keys with their types and values |
//! | `condition`, `operator`, `value` | conditions: operators, and the values they compare |
//! | `pattern`, `wildcard` | texts with wildcards and policy variables |
//! | `request` | what is asked, and the texts that condition keys stand for |

mod action;
mod condition;
mod evaluate;
mod explain;
mod key;
mod operator;
mod pattern;
mod policy;
mod request;
mod statement;
#[cfg(test)]
mod tests;
mod value;
pub(crate) mod wildcard;

pub use action::{Action, ResourceType};
pub use evaluate::{Decision, Denial, PolicyKind, StatementRef, evaluate};
pub use explain::{Explanation, Outcome, StatementExplanation, explain};
pub use key::is_tag_text;
pub use pattern::folded;
pub use policy::{Policy, PolicyError};
pub use request::{AccessRequest, RequestedAction};
pub use statement::Effect;
pub(crate) use value::Network;
