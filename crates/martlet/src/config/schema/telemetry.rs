//! Keys of telemetry: `[telemetry]`, `[[telemetry.rules]]` and `[[telemetry.retention]]`.

use super::general::Default;
use super::{Kind, SWITCH};

const MISSING_TIME: &[&str] = &["received", "reject"];
const SKEW: &[&str] = &["received", "reject", "keep"];
const FORMATS: &[&str] = &["json", "line", "value"];
const TIME_UNITS: &[&str] = &["auto", "s", "ms", "us", "ns"];

/// Seconds of a hundred years: farther off than any clock.
const SECS_MAX: u64 = 3_155_760_000;

pub(super) const TELEMETRY: &[(&str, Kind, Default, &str)] = &[
    (
        "telemetry.enabled",
        SWITCH,
        Default::Boolean(false),
        "Store the values that devices publish, or send by HTTP; see telemetry.md. Without [[telemetry.rules]] the topics of systems 3 and 5 are taken: IOTFLOW_BASE/devices/{device}/telemetry/# and device/data/{device}.",
    ),
    (
        "telemetry.url",
        Kind::Secret,
        Default::NoSecret,
        "Where the values are stored: postgres://USER:PASSWORD@HOST/DATABASE, or the path of a file of SQLite. Default: telemetry.db in the data directory.",
    ),
    (
        "telemetry.missing_time",
        Kind::Word(MISSING_TIME),
        Default::Text("received"),
        "What happens to values whose payload has no time. received: they get the time of receipt. reject: the payload is not stored.",
    ),
    (
        "telemetry.skew",
        Kind::Word(SKEW),
        Default::Text("received"),
        "What happens to values whose time is farther from the time of receipt than telemetry.skew_ahead_secs or telemetry.skew_behind_secs. received: they get the time of receipt. reject: the payload is not stored. keep: they keep their time.",
    ),
    (
        "telemetry.skew_ahead_secs",
        Kind::Integer {
            min: 0,
            max: SECS_MAX,
        },
        Default::Integer(86_400),
        "Seconds that the time of a payload may be after the time of receipt; 0: no limit.",
    ),
    (
        "telemetry.skew_behind_secs",
        Kind::Integer {
            min: 0,
            max: SECS_MAX,
        },
        Default::Integer(0),
        "Seconds that the time of a payload may be before the time of receipt; 0: no limit, so that devices may send what they have kept.",
    ),
    (
        "telemetry.keys_per_device",
        Kind::Integer {
            min: 1,
            max: 1_000_000,
        },
        Default::Integer(1_000),
        "Keys of one device, at most. Values of further keys are not stored.",
    ),
    (
        "telemetry.series",
        Kind::Integer {
            min: 1,
            max: 1_000_000_000,
        },
        Default::Integer(10_000_000),
        "Keys of all devices together, at most. Values of further keys are not stored.",
    ),
    (
        "telemetry.message_values",
        Kind::Integer {
            min: 1,
            max: 1_000_000,
        },
        Default::Integer(10_000),
        "Values of one message or HTTP request, at most. One with more is not stored.",
    ),
    (
        "telemetry.key_bytes",
        Kind::Integer { min: 1, max: 256 },
        Default::Integer(128),
        "Longest key, bytes. A payload with a longer one is not stored.",
    ),
    (
        "telemetry.text_bytes",
        Kind::Integer {
            min: 1,
            max: 1_048_576,
        },
        Default::Integer(16_384),
        "Longest text or JSON value, bytes. A payload with a longer one is not stored.",
    ),
    (
        "telemetry.subscriber_latency",
        SWITCH,
        Default::Boolean(false),
        "Measure how old values are when subscribers have them: the stage delivered of the metric martlet_telemetry_latency_seconds. It costs what a reader of the events published and delivered costs.",
    ),
    (
        "telemetry.keep_days",
        Kind::Integer {
            min: 0,
            max: 36_500,
        },
        Default::Integer(0),
        "Days after which values are deleted, a whole day (UTC) at a time, unless [[telemetry.retention]] says otherwise for the type of its device; 0: never.",
    ),
    (
        "telemetry.file_bytes",
        Kind::NoneOrAtLeast { min: 1_048_576 },
        Default::Integer(0),
        "Bytes that the file of SQLite may have, at most. Beyond that nothing is stored, messages wait in the queue of the integration telemetry/main, and health says so, as when the disk is full. 0: no limit.",
    ),
    (
        "telemetry.keep_bytes",
        Kind::NoneOrAtLeast { min: 1_048_576 },
        Default::Integer(0),
        "Bytes that values take, at most, of devices of all types that have no [[telemetry.retention]]: beyond that the oldest days are deleted. 0: no limit.",
    ),
];

/// Keys of one `[[telemetry.rules]]` table, with what they mean.
pub(crate) const TELEMETRY_RULE_KEYS: &[(&str, Kind, &str)] = &[
    (
        "topic",
        Kind::Text,
        "Topics whose messages are taken: a Topic Filter with names for levels, such as plant/{line}/{device}/#. {device} is the id of the device. Without it the values are those of the device that publishes them. The first rule that a topic matches applies.",
    ),
    (
        "key",
        Kind::Text,
        "Keys of the values. {key} is the key in the payload, {rest} what # stands for, with dots between its levels, and other names are those of topic. Default: {key}.",
    ),
    (
        "format",
        Kind::Word(FORMATS),
        "json (default): an object of values, {\"data\": {}, \"metadata\": {}, \"timestamp\": …}, {\"ts\": …, \"values\": {}}, or an array of these. line: InfluxDB line protocol. value: one number, true, false or text, with the key value.",
    ),
    (
        "time_unit",
        Kind::Word(TIME_UNITS),
        "Unit of times that are numbers. auto (default): by the number of digits; ns for line protocol.",
    ),
    (
        "flatten",
        SWITCH,
        "Each member of a nested object is a value, with a dot in its key: gps.lat. Default: false, the object is one value of JSON.",
    ),
    (
        "ignore",
        Kind::Texts,
        "Members, or tags of line protocol, that are not stored. api_key is never stored.",
    ),
    (
        "missing_time",
        Kind::Word(MISSING_TIME),
        "As telemetry.missing_time, for this rule.",
    ),
    (
        "skew",
        Kind::Word(SKEW),
        "As telemetry.skew, for this rule.",
    ),
    (
        "skew_ahead_secs",
        Kind::Integer {
            min: 0,
            max: SECS_MAX,
        },
        "As telemetry.skew_ahead_secs, for this rule.",
    ),
    (
        "skew_behind_secs",
        Kind::Integer {
            min: 0,
            max: SECS_MAX,
        },
        "As telemetry.skew_behind_secs, for this rule.",
    ),
];

/// Keys of one `[[telemetry.retention]]` table, with what they mean.
pub(crate) const TELEMETRY_RETENTION_KEYS: &[(&str, Kind, &str)] = &[
    ("type", Kind::Text, "Type of devices."),
    (
        "keep_days",
        Kind::Integer {
            min: 0,
            max: 36_500,
        },
        "Days after which their values are deleted; 0: never. Default: telemetry.keep_days.",
    ),
    (
        "keep_bytes",
        Kind::NoneOrAtLeast { min: 1_048_576 },
        "Bytes that their values take together, at most: beyond that the oldest days are deleted. Default: 0, no limit.",
    ),
];
