//! What a rule is told of a message, a value or an event.

/// Bytes of a payload that rules look into, at most.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// Where it comes from.
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

/// A device that a message is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Id.
    pub id: String,
    /// Type; empty: not known.
    pub device_type: String,
    /// Tags.
    pub tags: Vec<String>,
}

/// What a rule is told.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Tenant.
    pub tenant: u32,
    /// Topic Name.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// Where it comes from.
    pub source: RuleInput<'a>,
    /// The device that has published it, or whose value or event it is.
    pub device: Option<DeviceFacts>,
    /// When it was received, or the time of the value, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// When it was received, milliseconds since the Unix epoch. Alarms go by this one: values that
    /// a device sends late say nothing about now.
    pub received_ms: i64,
    /// How often rules and other parts of this node have passed it on.
    pub hops: u8,
    /// How often it was passed on by what the message itself tells. Everybody may write that into
    /// a message: it keeps rules from publishing, and from nothing else.
    pub told_hops: u8,
    /// Name of the rule that has published it.
    pub by_rule: Option<&'a str>,
}
