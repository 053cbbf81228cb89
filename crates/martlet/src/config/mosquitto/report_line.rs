//! A line of the file in the report.

use super::outcome::Outcome;

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
