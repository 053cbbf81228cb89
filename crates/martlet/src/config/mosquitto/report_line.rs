//! A line of the file in the report.

use super::outcome::Outcome;

/// A line of the file, and what becomes of it.
#[derive(Clone, Debug)]
pub(crate) struct ReportLine {
    /// `mosquitto.conf line 3`.
    pub(crate) place: String,
    /// Keyword and value; secrets masked.
    pub(crate) text: String,
    pub(crate) outcome: Outcome,
    /// What it becomes, or why it does not.
    pub(crate) note: String,
}
