//! Telemetry: `[telemetry]`, `[[telemetry.rules]]` and `[[telemetry.retention]]`.

use martlet_control::telemetry::{MissingTime, Skew, TimeUnit};
use martlet_settings::{SecretValue, section, table};

use super::words::{Here, PayloadFormat};

/// Seconds in a hundred years: more than any clock is wrong.
const SECS_MAX: u64 = 3_155_760_000;

section! {
    /// Storage of what devices measure.
    Telemetry {
        /// Store the values that devices publish, or send over HTTP; see telemetry.md. Without
        /// [[telemetry.rules]] values are stored from the topics of systems 3 and 5:
        /// IOTFLOW_BASE/devices/{device}/telemetry/# and device/data/{device}.
        enabled: bool = false;
        /// Where the values are stored: postgres://USER:PASSWORD@HOST/DATABASE, or the path of an
        /// SQLite file. Default: telemetry.db in the data directory.
        url: SecretValue = "";
        /// Handling of values whose payload has no time. received: they get the time of receipt.
        /// reject: the payload is not stored.
        missing_time: MissingTime = MissingTime::Received;
        /// Handling of values whose time is farther from the time of receipt than
        /// telemetry.skew_ahead_secs or telemetry.skew_behind_secs. received: they get the time of
        /// receipt. reject: the payload is not stored. keep: they keep their time.
        skew: Skew = Skew::Received;
        /// Seconds that the time of a payload may be after the time of receipt; 0: no limit.
        skew_ahead_secs: u64 = 86_400, in 0..=SECS_MAX;
        /// Seconds that the time of a payload may be before the time of receipt; 0: no limit, so
        /// that devices may send old values later.
        skew_behind_secs: u64 = 0, in 0..=SECS_MAX;
        /// Maximum number of keys of one device. Values of further keys are not stored.
        keys_per_device: usize = 1_000, in 1..=1_000_000;
        /// Maximum number of keys of all devices together. Values of further keys are not stored.
        series: u64 = 10_000_000, in 1..=1_000_000_000;
        /// Maximum number of values in one message or HTTP request. A message with more is not
        /// stored.
        message_values: usize = 10_000, in 1..=1_000_000;
        /// Maximum length of a key, bytes. A payload with a longer key is not stored.
        key_bytes: usize = 128, in 1..=256;
        /// Maximum length of a text or JSON value, bytes. A payload with a longer value is not
        /// stored.
        text_bytes: usize = 16_384, in 1..=1_048_576;
        /// Measure the age of values when subscribers receive them: the stage delivered of the
        /// metric martlet_telemetry_latency_seconds. It costs as much as one stream of the events
        /// published and delivered.
        subscriber_latency: bool = false;
        /// Days after which values are deleted, a whole day (UTC) at a time, unless
        /// [[telemetry.retention]] has another value for the type of the device; 0: never.
        keep_days: u64 = 0, in 0..=36_500;
        /// Maximum size of the SQLite file, bytes. Above it nothing is stored, messages wait in the
        /// queue of the integration telemetry/main, and health reports it, as when the disk is
        /// full. 0: no limit.
        file_bytes: u64 = 0, zero or from 1_048_576;
        /// Maximum number of bytes of the values of all devices whose type has no
        /// [[telemetry.retention]]; above it the team with most loses its oldest days. 0: no limit.
        keep_bytes: u64 = 0, zero or from 1_048_576;
    }
}

table! {
    /// A table `[[telemetry.rules]]`.
    TelemetryRuleKeys {
        /// Topics whose messages are stored: a Topic Filter with names for levels, such as
        /// plant/{line}/{device}/#. {device} is the id of the device. Without it, the values belong
        /// to the device that publishes them. The first rule that matches a topic applies.
        topic: String;
        /// Keys of the values. {key} is the key in the payload, {rest} the levels that # matches,
        /// with dots between them, and other names are those in topic. Default: {key}.
        key: String;
        /// json (default): an object of values, {"data": {}, "metadata": {}, "timestamp": …},
        /// {"ts": …, "values": {}}, or an array of these. line: InfluxDB line protocol. value: one
        /// number, true, false or text, with the key value.
        format: PayloadFormat;
        /// Member that has the time of an object, instead of timestamp and ts, such as Time. Its
        /// value is ISO 8601 or a number.
        time_member: String;
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
        /// Maximum number of bytes of all their values; above it the team with most loses its
        /// oldest days. Default: 0, no limit.
        keep_bytes: u64, zero or from 1_048_576;
    }
}
