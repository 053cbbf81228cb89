//! Remedy of a problem, in words.

use std::fmt;

use super::texts::Text;
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
    /// These words, with the command for them, if there is one.
    pub(crate) fn new(text: impl Into<String>, command: Option<Command>) -> Self {
        let text = text.into();
        Self { text, command }
    }

    /// These words.
    pub(super) fn words(text: impl Into<String>) -> Self {
        Self::new(text, None)
    }
}

impl Text {
    /// The remedy without its command; none: nothing is known to help.
    pub(super) fn worded(self) -> Option<WordedRemedy> {
        (!self.words.is_empty()).then(|| WordedRemedy::words(self.words))
    }
}
