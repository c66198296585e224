//! ARNs of managed policies.

use crate::ids::{AccountId, PolicyName};
use crate::inventory::policy_arn;
use std::fmt;
use std::str::FromStr;

/// The ARN of a managed policy: `arn:aws:iam::<account>:policy/<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyArn {
    /// The account that it belongs to.
    pub account: AccountId,
    /// Its name there.
    pub name: PolicyName,
}

/// Not the ARN of a managed policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ARN of a managed policy is arn:aws:iam::<account>:policy/<name>")]
pub struct PolicyArnError;

impl FromStr for PolicyArn {
    type Err = PolicyArnError;

    fn from_str(text: &str) -> Result<Self, PolicyArnError> {
        let rest = text.strip_prefix("arn:aws:iam::").ok_or(PolicyArnError)?;
        let (account, name) = rest.split_once(":policy/").ok_or(PolicyArnError)?;
        let account = account.parse().map_err(|_| PolicyArnError)?;
        Ok(Self { account, name: name.parse().map_err(|_| PolicyArnError)? })
    }
}

impl fmt::Display for PolicyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&policy_arn(&self.account, &self.name))
    }
}
