//! Why an expression has no value for a message.

use std::fmt;

/// Why an expression has no value for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A member or variable is missing: the rule does not apply to the message.
    Missing(String),
    /// An error of the rule.
    Failed(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "{name} is missing"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// Why an expression is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExpressionError(pub String);
