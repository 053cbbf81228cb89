//! Times in the row of a stored alarm state.

/// Times in the row of an entry, milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RowContent {
    pub(super) holds_since: Option<i64>,
    pub(super) last_ms: Option<i64>,
    pub(super) seen_ms: Option<i64>,
}
