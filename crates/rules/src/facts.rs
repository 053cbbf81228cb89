//! The input of a rule: a message, a value or an event.

/// Maximum bytes of a payload that rules examine.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// Kind of the input.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleInput<'a> {
    /// A message.
    Message,
    /// A value of telemetry, with its key.
    Telemetry {
        /// Key.
        key: String,
        /// The value as JSON.
        value: serde_json::Value,
    },
    /// An event, with its kind. Its payload is the event as JSON.
    Event(&'a str),
}

/// The device of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Id.
    pub id: String,
    /// Type; empty: not known.
    pub device_type: String,
    /// Tags.
    pub tags: Vec<String>,
}

/// The input of a rule.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Tenant.
    pub tenant: u32,
    /// Topic Name.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// Kind of the input.
    pub source: RuleInput<'a>,
    /// The device that published it, or whose value or event it is.
    pub device: Option<DeviceFacts>,
    /// When it was received, or the time of the value, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// Time of receipt, milliseconds since the Unix epoch. Alarms use this time: late values of a
    /// device do not describe its current state.
    pub received_ms: i64,
    /// How often rules and other parts of this node have passed it on.
    pub hops: u8,
    /// Hop count according to the message itself. Any client can write it into a message, so it
    /// only prevents rules from publishing.
    pub told_hops: u8,
    /// Name of the rule that has published it.
    pub by_rule: Option<&'a str>,
}
