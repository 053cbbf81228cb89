//! What becomes of a line of Mosquitto's file.

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It means the same here.
    Mapped,
    /// It means something else; the note says what.
    Changed,
    /// It says what is the default without it.
    Default,
    /// It is not needed here; the note says why.
    NotNeeded,
    /// It is not followed; the note says what to do instead.
    Unsupported,
    /// It keeps the file from being used; the note says why.
    Refused,
    /// All lines are understood, and no node starts with them; the note says why.
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
