//! Lines of the file, and what they are converted to.

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

/// Result of converting a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The line has the same meaning here.
    Mapped,
    /// The line has another meaning; the note describes it.
    Changed,
    /// The line equals the default.
    Default,
    /// The line is not needed here; the note has the reason.
    NotNeeded,
    /// The line is not supported; the note has an alternative.
    Unsupported,
    /// The line prevents the use of the file; the note has the reason.
    Refused,
    /// All lines are valid, but no node can start with them; the note has the reason.
    DoesNotStart,
}

impl Outcome {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::Changed => "changed",
            Self::Default => "default",
            Self::NotNeeded => "not needed",
            Self::Unsupported => "unsupported",
            Self::Refused => "refused",
            Self::DoesNotStart => "does not start",
        }
    }
}

/// A line of the file, and its result.
#[derive(Clone, Debug)]
pub(crate) struct ReportLine {
    /// `mosquitto.conf line 3`.
    pub(crate) place: String,
    /// Keyword and value; secrets are masked.
    pub(crate) text: String,
    pub(crate) outcome: Outcome,
    /// The result of the conversion, or the reason of the failure.
    pub(crate) note: String,
}
