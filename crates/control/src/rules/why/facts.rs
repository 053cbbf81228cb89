//! Facts about rules and alarms.

use martlet_rules::WaitingAlarm;

use crate::cause::Cause;
use crate::remedy::Command;
use crate::rules::{Definition, LastOnTopic, RuleCounts};
use crate::why::Finding;

/// Facts about rules and alarms. Times are milliseconds since the Unix epoch.
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
#[derive(Clone, Debug, Default)]
pub(crate) struct NamedRule {
    pub(super) name: String,
    pub(super) definition: Definition,
    /// Counts since the start.
    pub(super) counts: RuleCounts,
    /// The node evaluates it.
    pub(super) is_in_force: bool,
    /// The configuration has it, else the tables.
    pub(super) is_configured: bool,
    /// Keys of values that came in messages of its tenant, at which no rule looks.
    pub(super) other_keys: Vec<String>,
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
    /// When and why the last change of its alarm could not be published.
    pub(super) unpublished: Option<(u64, String)>,
    /// Outcome of the rule for the last message on the topic that was asked about.
    pub(super) on_topic: Option<LastOnTopic>,
    /// Why the integration that hands messages to it does not; none: it does.
    pub(super) queue: Option<Finding>,
    /// The command that switches it on.
    pub(super) switch_on: Option<Command>,
    pub(super) show: Option<Command>,
}

/// Returns the finding that a rule does nothing for messages; the remedy is followed by the command
/// that shows the rule.
pub(super) fn unmatched(rule: &NamedRule, sentence: String, remedy: &str) -> Finding {
    let remedy = format!("{remedy}; to see the rule, run");
    Finding::advised(Cause::RuleUnmatched, sentence, &remedy, &rule.show)
}

/// The devices whose messages a rule looks at, in words; none: all of them.
pub(super) fn devices_in_words(definition: &Definition) -> Option<String> {
    match (&definition.device_type, &definition.device_tag) {
        (None, None) => None,
        (Some(device_type), None) => Some(format!("a device of type {device_type}")),
        (None, Some(tag)) => Some(format!("a device with the tag {tag}")),
        (Some(device_type), Some(tag)) => {
            Some(format!("a device of type {device_type} with the tag {tag}"))
        }
    }
}
