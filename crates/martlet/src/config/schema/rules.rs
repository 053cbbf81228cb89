//! Alarms: `[alarms]`. Rules, `[[rules]]`, have the keys of rules in the API; see rules.md.

use super::section::section;

section! {
    /// Alarms.
    Alarms {
        /// Raise alarms about inactive devices, certificates that expire within 30, 7 and 1 days,
        /// integrations that do not deliver or fall behind, and telemetry that cannot be stored;
        /// see alarms.md.
        watch_node: bool = true;
        /// Seconds without delivery after which an alarm is raised about an integration.
        integration_after_secs: u32 = 60, in 1..=86_400;
        /// Age in seconds of the oldest message in the queue of an integration at which an alarm is
        /// raised, even if the integration delivers or is paused.
        integration_lag_secs: u64 = 300, in 1..=2_592_000;
        /// Days for which cleared alarms are kept.
        kept_days: u32 = 90, in 1..=36_500;
        /// Maximum number of cleared alarms that are kept; above it the oldest ones are deleted.
        kept: u32 = 100_000, in 1..=100_000_000;
    }
}
