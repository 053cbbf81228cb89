//! Keys of alarms: `[alarms]`. Rules, `[[rules]]`, have what a rule of the API has; see rules.md.

use super::general::Default;
use super::{Kind, SWITCH};

pub(super) const ALARMS: &[(&str, Kind, Default, &str)] = &[
    (
        "alarms.watch_node",
        SWITCH,
        Default::Boolean(true),
        "Raise alarms about inactive devices, certificates that expire within 30, 7 and 1 days, integrations that do not deliver or fall behind, and telemetry that cannot be stored; see alarms.md.",
    ),
    (
        "alarms.integration_after_secs",
        Kind::Integer {
            min: 1,
            max: 86_400,
        },
        Default::Integer(60),
        "Seconds for which an integration does not deliver before that is an alarm.",
    ),
    (
        "alarms.integration_lag_secs",
        Kind::Integer {
            min: 1,
            max: 2_592_000,
        },
        Default::Integer(300),
        "Age in seconds of a message that waits for an integration, from which on that is an alarm, although the integration delivers or is paused.",
    ),
    (
        "alarms.kept_days",
        Kind::Integer {
            min: 1,
            max: 36_500,
        },
        Default::Integer(90),
        "Days for which alarms are kept once they are cleared.",
    ),
    (
        "alarms.kept",
        Kind::Integer {
            min: 1,
            max: 100_000_000,
        },
        Default::Integer(100_000),
        "Cleared alarms that are kept, at most: the oldest ones are forgotten.",
    ),
];
