//! Facts about rules and alarms. Times are milliseconds since the Unix epoch.

use martlet_rules::WaitingAlarm;

use crate::remedy::Command;
use crate::rules::{LastOnTopic, MissingMember};
use crate::why::Finding;

/// Facts about rules and alarms.
#[derive(Debug, Default)]
pub(crate) struct RuleFacts {
    /// Alarms about the device that are not cleared.
    pub(super) alarms: Vec<RuleAlarm>,
    /// The rule that was asked about.
    pub(super) named: Option<NamedRule>,
    /// Rules whose names are nearly that in the question.
    pub(super) near: Vec<String>,
}

/// An alarm that a rule raises.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RuleAlarm {
    pub(super) name: String,
    /// Subject of the alarm.
    pub(super) subject: String,
    /// Text of the alarm.
    pub(super) message: String,
    /// When it was raised.
    pub(super) raised_ms: u64,
    /// Until when it is shelved; none: it is not.
    pub(super) shelved_until_ms: Option<u64>,
    /// The user that shelved or acknowledged it; empty: none.
    pub(super) by: String,
    /// When it is cleared by itself, in words; none: only an action of a rule clears it.
    pub(super) clears_when: Option<String>,
    /// Why its last value keeps it active, in words; none: it does not, or is not known.
    pub(super) kept_by: Option<String>,
    /// The command that ends the silence of one that is shelved, or clears it.
    pub(super) command: Option<Command>,
}

/// An alarm that would be raised, and that another one silences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InhibitedRuleAlarm {
    /// Subject of the alarm.
    pub(super) subject: String,
    /// Since when its condition is true.
    pub(super) since_ms: u64,
    /// Name of the alarm that silences it.
    pub(super) by: String,
    /// Since when that one is active.
    pub(super) by_since_ms: u64,
    /// The command that clears that one.
    pub(super) command: Option<Command>,
}

/// A rule about messages that was asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NamedRule {
    pub(super) name: String,
    /// Topic Filters of the rule; none: it looks at telemetry or events.
    pub(super) topics: Vec<String>,
    /// The key of the values of telemetry that it looks at; none: it looks at none.
    pub(super) key: Option<String>,
    /// Keys of values that came in messages of its tenant, at which no rule looks.
    pub(super) other_keys: Vec<String>,
    /// Whether it is switched on.
    pub(super) is_on: bool,
    /// The node evaluates it.
    pub(super) is_in_force: bool,
    /// The configuration has it, else the tables.
    pub(super) is_configured: bool,
    /// Messages that it has looked at since the start.
    pub(super) messages: u64,
    /// Messages for which its condition was true.
    pub(super) matched: u64,
    /// Messages in which a member is missing that its condition needs.
    pub(super) missing: u64,
    /// Messages of another device than it looks at.
    pub(super) other_device: u64,
    /// Messages that an earlier rule has stopped, which it has not looked at.
    pub(super) stopped: u64,
    /// The rule that has stopped the last of these.
    pub(super) stopped_by: Option<String>,
    /// The devices whose messages it looks at, in words; none: all of them.
    pub(super) devices: Option<String>,
    /// How often it has failed.
    pub(super) errors: u64,
    /// The last error.
    pub(super) last_error: Option<String>,
    /// When that was.
    pub(super) last_error_ms: Option<u64>,
    /// The topic of the message that it is of, unless it is of an action.
    pub(super) failed_topic: Option<String>,
    /// A later message of that topic did not fail.
    pub(super) is_over: bool,
    /// The member that was missing last.
    pub(super) missing_member: Option<MissingMember>,
    /// The kind of the action that it is of; none: of the condition or a template.
    pub(super) failed_action: Option<&'static str>,
    /// Findings about the webhooks that it acts on, those of its own and others.
    pub(super) webhooks: Vec<Finding>,
    /// Findings about integrations that take what it publishes, or the alarms that it raises.
    pub(super) takers: Vec<Finding>,
    /// Alarms that it has raised and that are not cleared.
    pub(super) alarms: Vec<RuleAlarm>,
    /// Alarm of the rule itself, if another one silences it.
    pub(super) inhibited: Option<InhibitedRuleAlarm>,
    /// Alarm of the rule itself, if its condition was not true for long enough.
    pub(super) waiting: Option<WaitingAlarm>,
    /// When and why the last change of its alarm could not be published, milliseconds since the
    /// Unix epoch.
    pub(super) unpublished: Option<(u64, String)>,
    /// Condition of the rule; none: it has none.
    pub(super) condition: Option<String>,
    /// Whether it keeps an alarm.
    pub(super) keeps_alarm: bool,
    /// Outcome of the rule for the last message on the topic that was asked about.
    pub(super) on_topic: Option<LastOnTopic>,
    /// Why the integration that hands messages to it does not; none: it does.
    pub(super) queue: Option<Finding>,
    /// The command that switches it on.
    pub(super) switch_on: Option<Command>,
    pub(super) show: Option<Command>,
}
