//! A line of the file.

use crate::config::error::ConfigError;

/// A line that is neither empty nor a comment.
pub(super) struct ConfigLine {
    pub(super) place: String,
    pub(super) keyword: String,
    pub(super) value: String,
}

impl ConfigLine {
    /// The error for this line.
    pub(super) fn error(&self, why: &str) -> ConfigError {
        let Self { place, keyword, .. } = self;
        ConfigError::Unusable(format!("{place}: {keyword}: {why}"))
    }
}
