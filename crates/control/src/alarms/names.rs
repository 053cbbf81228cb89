//! Names of the alarms that the node raises itself.

use martlet_rules::Severity;

pub(super) const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Name of the alarm about a device that is silent for longer than its type permits.
pub(crate) const DEVICE_INACTIVE: &str = "device_inactive";
/// Name of the alarm about an integration that does not deliver.
pub(super) const INTEGRATION: &str = "integration";
/// Name of the alarm about an integration for which messages wait for long, although it delivers.
pub(super) const INTEGRATION_LAG: &str = "integration_lag";
/// Name of the alarm about telemetry that cannot be stored.
pub(super) const TELEMETRY: &str = "telemetry_storage";
/// Name of the alarm about a rollout that its gate has paused.
pub(super) const ROLLOUT: &str = "rollout_paused";

/// Alarms about certificates: name, days that are left, severity.
pub(super) const CERTIFICATES: [(&str, i64, Severity); 3] = [
    ("certificate_30_days", 30, Severity::Warning),
    ("certificate_7_days", 7, Severity::Major),
    ("certificate_1_day", 1, Severity::Critical),
];

/// Names of all alarms about the node itself. Rules may have the same; theirs are apart by what
/// they are about.
pub(super) const NAMES: [&str; 8] = [
    DEVICE_INACTIVE,
    INTEGRATION,
    INTEGRATION_LAG,
    TELEMETRY,
    ROLLOUT,
    CERTIFICATES[0].0,
    CERTIFICATES[1].0,
    CERTIFICATES[2].0,
];
