//! A rule as it is written, in JSON or in the configuration file.

use serde::{Deserialize, Serialize};

/// Why a definition is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct DefinitionError {
    /// The key that is at fault, such as `actions[0].publish.topic`.
    pub key: String,
    /// What is wrong and what was expected.
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

/// A rule, as it is written. What is left out has its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Definition {
    /// What it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// It acts. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Topic Filters of the messages that it looks at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    /// Key of the telemetry that it looks at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<String>,
    /// Kinds of events that it looks at, such as `connected`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// Type of the devices that it looks at. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_type: Option<String>,
    /// Tag of the devices that it looks at. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_tag: Option<String>,
    /// Id of the device that a message is about, a template. Default: the device that publishes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Condition in CEL. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// It looks at messages that it has published itself, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
    /// User or device by whose rules it publishes. Default: no rules limit it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish_as: Option<String>,
    /// What it does, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<ActionDefinition>,
    /// The alarm that it keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm: Option<AlarmDefinition>,
}

impl Definition {
    /// Whether it acts.
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }
}

/// Something that a rule does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ActionDefinition {
    /// Publishes a message.
    Publish(PublishAction),
    /// Has a webhook send a request.
    Webhook(WebhookAction),
    /// Sends a command to a device.
    Command(CommandAction),
    /// Writes a value of a device.
    Telemetry(TelemetryAction),
    /// Raises or clears an alarm.
    Alarm(AlarmAction),
    /// Ends: no later rule looks at the message.
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
    /// It is retained.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retain: bool,
}

/// A request that a webhook sends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookAction {
    /// Name of a webhook that is there. Not with `url`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Address that the request goes to. The rule has a webhook of its own for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Form of the body, as webhooks have it; with `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Payload of the message that it gets, a template. Default: that of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

/// A command that a rule sends. Texts are templates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommandAction {
    /// Id of the device. Default: the device that the message is about.
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

/// A value that a rule writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryAction {
    /// Id of the device, a template. Default: the device that the message is about.
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
    /// Severity of one that is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// What it says, a template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How bad an alarm is. Ordered: the worst is last.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is wrong.
    Info,
    /// Something may go wrong.
    #[default]
    Warning,
    /// Something small is wrong.
    Minor,
    /// Something does not work.
    Major,
    /// Somebody has to act at once.
    Critical,
}

impl Severity {
    /// All there are, the worst last.
    pub const ALL: [Self; 5] = [
        Self::Info,
        Self::Warning,
        Self::Minor,
        Self::Major,
        Self::Critical,
    ];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Minor => "minor",
            Self::Major => "major",
            Self::Critical => "critical",
        }
    }

    /// Severity of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.word() == word)
    }
}

/// The alarm that a rule keeps, with one state for each device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmDefinition {
    /// How bad it is.
    pub severity: Severity,
    /// What it says, a template. Default: made of the rule's name and the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Time for which its condition holds before it is raised, seconds. Default: 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub for_secs: u32,
    /// Names of rules whose active alarm on the same device silences this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inhibited_by: Vec<String>,
    /// It is raised when a value is beyond a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<AlarmKind>,
    /// It is raised when a value changes faster than a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<AlarmKind>,
    /// It is raised when no message has come for a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_data: Option<AlarmKind>,
    /// It is raised when an expression is true, such as that a device has left an area.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<AlarmKind>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// When an alarm is raised and cleared. Which keys it has depends on the kind.
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
    /// threshold, rate: cleared when the value has come back to this. Default: the limit itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear: Option<f64>,
    /// rate: the time that the limit is for, seconds. Default: 60.
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
