//! What the row of a kept alarm says.

/// Times that the row of an entry says, milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RowContent {
    pub(super) holds_since: Option<i64>,
    pub(super) last_ms: Option<i64>,
    pub(super) seen_ms: Option<i64>,
}
