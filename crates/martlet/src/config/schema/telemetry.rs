//! Telemetry: `[telemetry]`, `[[telemetry.rules]]` and `[[telemetry.retention]]`.

use martlet_control::telemetry::{MissingTime, Skew, TimeUnit};

use super::section::{section, table};
use super::value::Secret;
use super::words::PayloadFormat;

/// Seconds in a hundred years: more than any clock is wrong.
const SECS_MAX: u64 = 3_155_760_000;

section! {
    /// Storage of what devices measure.
    Telemetry {
        /// Store the values that devices publish, or send over HTTP; see telemetry.md. Without
        /// [[telemetry.rules]] the topics of systems 3 and 5 are taken:
        /// IOTFLOW_BASE/devices/{device}/telemetry/# and device/data/{device}.
        enabled: bool = false;
        /// Where the values are stored: postgres://USER:PASSWORD@HOST/DATABASE, or the path of a
        /// file of SQLite. Default: telemetry.db in the data directory.
        url: Secret = "";
        /// What happens to values whose payload has no time. received: they get the time of
        /// receipt. reject: the payload is not stored.
        missing_time: MissingTime = MissingTime::Received;
        /// What happens to values whose time is farther from the time of receipt than
        /// telemetry.skew_ahead_secs or telemetry.skew_behind_secs. received: they get the time of
        /// receipt. reject: the payload is not stored. keep: they keep their time.
        skew: Skew = Skew::Received;
        /// Seconds that the time of a payload may be after the time of receipt; 0: no limit.
        skew_ahead_secs: u64 = 86_400, in 0..=SECS_MAX;
        /// Seconds that the time of a payload may be before the time of receipt; 0: no limit, so
        /// that devices may send what they have kept.
        skew_behind_secs: u64 = 0, in 0..=SECS_MAX;
        /// Keys of one device, at most. Values of further keys are not stored.
        keys_per_device: usize = 1_000, in 1..=1_000_000;
        /// Keys of all devices together, at most. Values of further keys are not stored.
        series: u64 = 10_000_000, in 1..=1_000_000_000;
        /// Values of one message or HTTP request, at most. One with more is not stored.
        message_values: usize = 10_000, in 1..=1_000_000;
        /// Longest key, bytes. A payload with a longer one is not stored.
        key_bytes: usize = 128, in 1..=256;
        /// Longest text or JSON value, bytes. A payload with a longer one is not stored.
        text_bytes: usize = 16_384, in 1..=1_048_576;
        /// Measure how old values are when subscribers have them: the stage delivered of the metric
        /// martlet_telemetry_latency_seconds. It costs what a reader of the events published and
        /// delivered costs.
        subscriber_latency: bool = false;
        /// Days after which values are deleted, a whole day (UTC) at a time, unless
        /// [[telemetry.retention]] says otherwise for the type of its device; 0: never.
        keep_days: u64 = 0, in 0..=36_500;
        /// Bytes that the file of SQLite may have, at most. Beyond that nothing is stored, messages
        /// wait in the queue of the integration telemetry/main, and health says so, as when the
        /// disk is full. 0: no limit.
        file_bytes: u64 = 0, zero or from 1_048_576;
        /// Bytes that values take, at most, of devices of all types that have no
        /// [[telemetry.retention]]: beyond that the oldest days are deleted. 0: no limit.
        keep_bytes: u64 = 0, zero or from 1_048_576;
    }
}

table! {
    /// A table `[[telemetry.rules]]`.
    TelemetryRuleKeys {
        /// Topics whose messages are taken: a Topic Filter with names for levels, such as
        /// plant/{line}/{device}/#. {device} is the id of the device. Without it the values are
        /// those of the device that publishes them. The first rule that a topic matches applies.
        topic: String;
        /// Keys of the values. {key} is the key in the payload, {rest} what # stands for, with dots
        /// between its levels, and other names are those of topic. Default: {key}.
        key: String;
        /// json (default): an object of values, {"data": {}, "metadata": {}, "timestamp": …},
        /// {"ts": …, "values": {}}, or an array of these. line: InfluxDB line protocol. value: one
        /// number, true, false or text, with the key value.
        format: PayloadFormat;
        /// Unit of times that are numbers. auto (default): by the number of digits; ns for line
        /// protocol.
        time_unit: TimeUnit;
        /// Each member of a nested object is a value, with a dot in its key: gps.lat. Default:
        /// false, the object is one value of JSON.
        flatten: bool;
        /// Members, or tags of line protocol, that are not stored. api_key is never stored.
        ignore: Vec<String>;
        /// As telemetry.missing_time, for this rule.
        missing_time: MissingTime;
        /// As telemetry.skew, for this rule.
        skew: Skew;
        /// As telemetry.skew_ahead_secs, for this rule.
        skew_ahead_secs: u64, in 0..=SECS_MAX;
        /// As telemetry.skew_behind_secs, for this rule.
        skew_behind_secs: u64, in 0..=SECS_MAX;
    }
}

table! {
    /// A table `[[telemetry.retention]]`.
    RetentionKeys {
        /// Type of devices.
        device_type as "type": String;
        /// Days after which their values are deleted; 0: never. Default: telemetry.keep_days.
        keep_days: u64, in 0..=36_500;
        /// Bytes that their values take together, at most: beyond that the oldest days are deleted.
        /// Default: 0, no limit.
        keep_bytes: u64, zero or from 1_048_576;
    }
}
