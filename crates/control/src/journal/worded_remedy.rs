//! Remedy of a problem, in words.

use std::fmt;

use crate::remedy::Command;

/// Remedy in words and as a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WordedRemedy {
    /// In words.
    pub text: String,
    /// A command that does it, or that shows more.
    pub command: Option<Command>,
}

impl fmt::Display for WordedRemedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.command {
            Some(command) => write!(f, ": {command}"),
            None => Ok(()),
        }
    }
}

impl WordedRemedy {
    pub(super) fn words(text: impl Into<String>) -> Option<Self> {
        Some(Self {
            text: text.into(),
            command: None,
        })
    }

    pub(super) fn by(text: &str, command: Option<Command>) -> Option<Self> {
        Some(Self {
            text: text.to_owned(),
            command,
        })
    }
}
