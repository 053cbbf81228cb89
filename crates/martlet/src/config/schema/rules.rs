//! Alarms: `[alarms]`. Rules, `[[rules]]`, have the keys of rules in the API; see rules.md.

use super::section::section;

section! {
    /// Alarms.
    Alarms {
        /// Raise alarms about inactive devices, certificates that expire within 30, 7 and 1 days,
        /// integrations that do not deliver or fall behind, and telemetry that cannot be stored;
        /// see alarms.md.
        watch_node: bool = true;
        /// Seconds for which an integration does not deliver before that is an alarm.
        integration_after_secs: u32 = 60, in 1..=86_400;
        /// Age in seconds of a message that waits for an integration, from which on that is an
        /// alarm, although the integration delivers or is paused.
        integration_lag_secs: u64 = 300, in 1..=2_592_000;
        /// Days for which alarms are kept once they are cleared.
        kept_days: u32 = 90, in 1..=36_500;
        /// Cleared alarms that are kept, at most: the oldest ones are forgotten.
        kept: u32 = 100_000, in 1..=100_000_000;
    }
}
