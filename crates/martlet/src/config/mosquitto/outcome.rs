//! Result of converting a line of Mosquitto's file.

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
