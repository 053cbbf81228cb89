//! The definition of a rule, in JSON or in the configuration file.

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

/// Why a definition is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct DefinitionError {
    /// The key with the error, such as `actions[0].publish.topic`.
    pub key: String,
    /// The error, and the expected value.
    pub why: String,
}

impl DefinitionError {
    pub(crate) fn new(key: impl Into<String>, why: impl ToString) -> Self {
        Self {
            key: key.into(),
            why: why.to_string(),
        }
    }
}

/// Definition of a rule. Missing keys have defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Definition {
    /// Purpose of the rule.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether it is enabled. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Topic Filters of the messages that it examines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    /// Key of the telemetry that it examines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<String>,
    /// Kinds of events that it examines, such as `connected`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// Type of the devices that it examines. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_type: Option<String>,
    /// Tag of the devices that it examines. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_tag: Option<String>,
    /// Template for the id of the message's device. Default: the device that publishes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Condition in CEL. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Whether it also examines messages that it has published itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
    /// User or device whose rules apply to its messages. Default: no rules apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish_as: Option<String>,
    /// Actions, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<ActionDefinition>,
    /// Alarm of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm: Option<AlarmDefinition>,
}

impl Definition {
    /// Names of the keys.
    pub fn keys() -> &'static [&'static str] {
        let Err(FieldNames(names)) = Self::deserialize(FieldReader) else {
            return &[];
        };
        names
    }

    /// Whether it is enabled.
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }
}

/// A reader that finds nothing but the names of the fields of a struct.
struct FieldReader;

/// Names of the fields of a struct, as the end of reading it.
#[derive(Debug, thiserror::Error)]
#[error("{0:?}")]
struct FieldNames(&'static [&'static str]);

impl serde::de::Error for FieldNames {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for FieldReader {
    type Error = FieldNames;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, FieldNames> {
        Err(FieldNames(fields))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, FieldNames> {
        Err(FieldNames(&[]))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// An action of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ActionDefinition {
    /// Publishes a message.
    Publish(PublishAction),
    /// Sends a request through a webhook.
    Webhook(WebhookAction),
    /// Sends a command to a device.
    Command(CommandAction),
    /// Stores a value of a device.
    Telemetry(TelemetryAction),
    /// Raises or clears an alarm.
    Alarm(AlarmAction),
    /// Stops: no later rule examines the message.
    Stop,
}

/// A message that a rule publishes. Texts are templates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublishAction {
    /// Topic Name.
    pub topic: String,
    /// Payload. Default: that of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// QoS. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<u8>,
    /// RETAIN.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retain: bool,
}

/// A request that a webhook sends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookAction {
    /// Name of an existing webhook. Not with `url`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// URL of the request. The rule then has its own webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Format of the body, as for webhooks; only with `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Template for the payload of the webhook's message. Default: that of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

/// A command that a rule sends. Texts are templates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommandAction {
    /// Id of the device. Default: the message's device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The last level of its topic. Default: `control`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name of the command.
    pub command: String,
    /// JSON. Default: `{}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<String>,
    /// Time that the device has to acknowledge it, seconds. Default: 3600.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_secs: Option<u32>,
}

/// A value that a rule stores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryAction {
    /// Template for the id of the device. Default: the message's device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Key.
    pub key: String,
    /// The value: an expression.
    pub value: String,
}

/// An alarm that a rule raises or clears.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmAction {
    /// Name of the alarm to raise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raise: Option<String>,
    /// Name of the alarm to clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear: Option<String>,
    /// Severity of the raised alarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Template for its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Severity of an alarm. Ordered: the most severe is last.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Information: nothing is wrong.
    Info,
    /// A possible problem.
    #[default]
    Warning,
    /// A small problem.
    Minor,
    /// A failure.
    Major,
    /// Requires immediate action.
    Critical,
}

impl Severity {
    /// All severities, the most severe last.
    pub const ALL: [Self; 5] = [
        Self::Info,
        Self::Warning,
        Self::Minor,
        Self::Major,
        Self::Critical,
    ];

    /// Returns the severity's name in texts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Minor => "minor",
            Self::Major => "major",
            Self::Critical => "critical",
        }
    }

    /// The severity with this name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.word() == word)
    }
}

/// The alarm of a rule, with one state per device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmDefinition {
    /// Severity of the alarm.
    pub severity: Severity,
    /// Template for its text. Default: built from the rule's name and the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Required duration of its condition before it is raised, seconds. Default: 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub for_secs: u32,
    /// Names of rules whose active alarm on the same device inhibits this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inhibited_by: Vec<String>,
    /// Keys of an alarm that is raised when a value is beyond a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<AlarmKind>,
    /// Keys of an alarm that is raised when a value changes faster than a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<AlarmKind>,
    /// Keys of an alarm that is raised when no message arrives for a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_data: Option<AlarmKind>,
    /// Keys of an alarm that is raised when an expression is true, for example when a device has
    /// left an area.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<AlarmKind>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// When an alarm is raised and cleared. The available keys depend on the kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmKind {
    /// threshold, rate: the value, an expression. Default: `value` for telemetry, else `payload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// threshold, rate: raised above this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// threshold, rate: raised below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// threshold, rate: cleared when the value returns to this. Default: the limit itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear: Option<f64>,
    /// rate: the time to which the limit applies, seconds. Default: 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_secs: Option<u32>,
    /// no_data: time without a message, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_secs: Option<u32>,
    /// condition: raised when this expression is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raise_when: Option<String>,
    /// condition: cleared when this expression is true. Default: when `raise_when` is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear_when: Option<String>,
}
