//! How payloads are decoded.

use super::limits::Limits;
use super::time::TimeUnit;

/// The member that no form stores: old firmware sends its secret in it.
pub const SECRET_MEMBER: &str = "api_key";

/// How a payload is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// JSON: an object of values, `{"data": {}, "metadata": {}, "timestamp": …}`,
    /// `{"ts": …, "values": {}}`, or an array of these.
    #[default]
    Json,
    /// Lines of such JSON, each by itself.
    JsonLines,
    /// InfluxDB line protocol.
    Line,
    /// One value: a number, `true`, `false` or text, with the key `value`.
    Value,
}

/// What happens to values whose payload has no time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingTime {
    /// They get the time of receipt.
    #[default]
    Received,
    /// The payload is rejected.
    Reject,
}

/// What happens to values whose time is too far from the time of receipt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Skew {
    /// They get the time of receipt.
    #[default]
    Received,
    /// The payload is rejected.
    Reject,
    /// They keep their time.
    Keep,
}

/// A member of a payload that is an object and only holds others. Objects in it are no values
/// either: their names stand in the keys, with `_` between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub name: &'static str,
    /// What the keys of its members begin with.
    pub prefix: &'static str,
}

/// How payloads are decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoder {
    /// How they are written.
    pub format: Format,
    /// Unit of times that are numbers.
    pub time_unit: TimeUnit,
    /// What happens without a time.
    pub missing_time: MissingTime,
    /// What happens to a time that is too far off.
    pub skew: Skew,
    /// How far a time may be after the time of receipt, µs; none is no limit.
    pub ahead_max: Option<i64>,
    /// How far a time may be before the time of receipt, µs; none is no limit.
    pub behind_max: Option<i64>,
    /// Members of nested objects become values of their own, with a dot between the names.
    pub flatten: bool,
    /// Members that only hold others: each member of such an object is a value of its own.
    pub holders: &'static [Holder],
    /// Members and tags that are not stored.
    pub ignore: Vec<String>,
    /// Bounds of a payload.
    pub limits: Limits,
}

impl Decoder {
    /// The same for values of the past: they keep their times, and each must have one.
    pub fn of_past(&self) -> Self {
        Self {
            missing_time: MissingTime::Reject,
            skew: Skew::Keep,
            ..self.clone()
        }
    }

    /// Whether a member or tag is not stored.
    pub(super) fn ignores(&self, member: &str) -> bool {
        member == SECRET_MEMBER || self.ignore.iter().any(|name| name == member)
    }
}
