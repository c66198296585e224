//! Administration of a self-hosted service: one signed call for all of its operations. AWS has no such thing.

use crate::api::{Operation, Service};
use instance_connect_core::administration::{self, SERVICE, TARGET};
use serde_json::{Map, Value};
use std::fmt;

/// An administrative operation with its parameters, as the service's own documentation has them.
#[derive(Clone, PartialEq, Eq)]
pub struct Administer {
    operation: administration::Operation,
    parameters: Map<String, Value>,
}

/// Largest answer: a hundred policies, each as long as a request can make it.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

impl Administer {
    /// The operation, without parameters.
    pub fn new(operation: administration::Operation) -> Self {
        Self { operation, parameters: Map::new() }
    }

    /// With a parameter; a `null` is left out.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        if !value.is_null() {
            self.parameters.insert(name.to_owned(), value);
        }
        self
    }

    /// The operation.
    pub fn operation(&self) -> administration::Operation {
        self.operation
    }
}

impl Operation for Administer {
    /// The members of the answer.
    type Output = Map<String, Value>;

    const SERVICE: Service =
        Service { name: SERVICE, target: TARGET, largest_answer: LARGEST_ANSWER, is_for_once: true };

    fn name(&self) -> &'static str {
        self.operation.name()
    }

    fn body(&self) -> String {
        Value::Object(self.parameters.clone()).to_string()
    }

    fn is_repeatable(&self) -> bool {
        self.operation.is_read_only()
    }

    fn tells_a_secret(&self) -> bool {
        self.operation.tells_a_secret()
    }

    fn output(
        members: Map<String, Value>,
        _request_id: Option<String>,
    ) -> Result<Map<String, Value>, &'static str> {
        Ok(members)
    }
}

impl fmt::Debug for Administer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.operation.name(), self.parameters)
    }
}
