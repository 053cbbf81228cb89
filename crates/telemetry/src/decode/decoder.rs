//! Settings for decoding payloads.

use super::limits::Limits;
use super::time::TimeUnit;

/// A member that is never stored: old firmware sends its secret in it.
pub const SECRET_MEMBER: &str = "api_key";

/// Format of a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// JSON: an object of values, `{"data": {}, "metadata": {}, "timestamp": …}`,
    /// `{"ts": …, "values": {}}`, or an array of these.
    #[default]
    Json,
    /// Lines of such JSON, each independent.
    JsonLines,
    /// InfluxDB line protocol.
    Line,
    /// One value: a number, `true`, `false` or text, with the key `value`.
    Value,
}

/// Handling of payloads without a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingTime {
    /// Use the time of receipt.
    #[default]
    Received,
    /// Reject the payload.
    Reject,
}

/// Handling of times that are too far from the time of receipt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Skew {
    /// Use the time of receipt.
    #[default]
    Received,
    /// Reject the payload.
    Reject,
    /// Keep the time.
    Keep,
}

/// A member of a payload that is an object and only a container. Objects in it are containers too:
/// their names become part of the keys, separated by `_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Name of the member.
    pub name: &'static str,
    /// Prefix of the keys of its members.
    pub prefix: &'static str,
}

/// Members with the time of an object; the first existing one is used.
pub(super) const TIMES: [&str; 2] = ["timestamp", "ts"];

/// Settings for decoding payloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoder {
    /// Format of the payloads.
    pub format: Format,
    /// Member with the time of an object; `None`: `timestamp` or `ts`.
    pub time_member: Option<String>,
    /// Unit of numeric times.
    pub time_unit: TimeUnit,
    /// Handling of a missing time.
    pub missing_time: MissingTime,
    /// Whether the values are historical: each must have a time.
    pub is_of_past: bool,
    /// Handling of a time that is too far off.
    pub skew: Skew,
    /// Maximum time after the time of receipt, µs; `None`: no limit.
    pub ahead_max: Option<i64>,
    /// Maximum time before the time of receipt, µs; `None`: no limit.
    pub behind_max: Option<i64>,
    /// Whether members of nested objects become separate values, with a dot between the names.
    pub flatten: bool,
    /// Container members: each member of such an object is a separate value.
    pub holders: &'static [Holder],
    /// Members and tags that are not stored.
    pub ignore: Vec<String>,
    /// Limits of a payload.
    pub limits: Limits,
}

impl Decoder {
    /// Returns the same settings for historical values: they keep their times, and each must have
    /// one.
    pub fn of_past(&self) -> Self {
        Self {
            missing_time: MissingTime::Reject,
            is_of_past: true,
            skew: Skew::Keep,
            ..self.clone()
        }
    }

    /// Whether a member or tag is not stored.
    pub(super) fn ignores(&self, member: &str) -> bool {
        member == SECRET_MEMBER || self.ignore.iter().any(|name| name == member)
    }
}
