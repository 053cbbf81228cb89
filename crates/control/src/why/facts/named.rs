//! Rollouts, rules about messages and firmware.

use martlet_rules::WaitingAlarm;

use super::Integration;
use crate::rules::{LastOnTopic, MissingMember};

/// An integration that was asked about by kind and name, and that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntegrationMissing {
    /// Kind and name of those that the caller sees, those with a similar name first.
    pub there: Vec<String>,
    /// How many of these have a similar name.
    pub near: usize,
    /// The node was started with a configuration file.
    pub has_configuration: bool,
    /// The command that lists those that there are.
    pub list: String,
}

/// A rollout of firmware, as far as it concerns a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRollout {
    /// Its id.
    pub id: String,
    /// Name and version of the firmware.
    pub firmware: String,
    /// Its version.
    pub version: String,
    /// Why the device has not installed it.
    pub stuck: DeviceStuck,
    /// The same in words.
    pub why: String,
    /// Since when the device is in its state, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// When the rollout ended, likewise; 0: it has not.
    pub ended_ms: u64,
    /// The command that starts or resumes the rollout, or shows its devices.
    pub command: String,
}

/// Why a device has not installed the firmware of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceStuck {
    /// The rollout has not been started.
    NotStarted,
    /// The rollout is paused.
    Paused,
    /// Its turn has not come, or it is at work.
    InTurn,
    /// It is not connected.
    Absent,
    /// It is not subscribed to the topic of its commands, or with QoS 0.
    NotSubscribed,
    /// It has not answered.
    NoAnswer,
    /// It reports nearly the version of the rollout as its own.
    VersionDiffers,
    /// It has sent nothing for the time of the gate.
    Silent,
    /// It has failed.
    Failed,
    /// The firmware is for another type of devices.
    WrongType,
    /// It was disabled.
    Disabled,
    /// The rollout was aborted or has ended, or the device's command was cancelled.
    Cancelled,
    /// It has the version.
    HasVersion,
}

/// A rollout that the question names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRollout {
    /// Its id.
    pub id: String,
    /// Name and version of the firmware.
    pub firmware: String,
    /// How it is.
    pub standing: RolloutStanding,
    /// How many of its devices are in which state, in words.
    pub devices: String,
    /// Devices that failed or are silent.
    pub troubled: u64,
    /// A device that was skipped though it does not have the version, and why.
    pub skipped: Option<(String, String)>,
    /// A device that has begun and does not go on by itself.
    pub held_up_by: Option<HeldUpBy>,
    /// The command that comes first so that it goes on.
    pub go_on: String,
    /// The command that lists its devices, and why each is stuck.
    pub list: String,
}

/// A device that has begun to install the firmware of a rollout, and does not go on by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldUpBy {
    /// Its id.
    pub device: String,
    /// Why, in words.
    pub why: String,
    /// The version that it should report, if it reports another one; none: it is away.
    pub version: Option<String>,
}

/// How a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutStanding {
    /// It has not been started.
    Planned,
    /// Its waves begin as the gate permits.
    Running,
    /// It is paused, for this reason.
    Paused(&'static str),
    /// It has ended, with success.
    Succeeded,
    /// Somebody has aborted it.
    Aborted,
    /// It has ended without success, with this state.
    Ended(&'static str),
}

/// Firmware that a device requested and did not get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedFirmware {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The type of devices that it is for; none: there is no such firmware, or the caller does not
    /// see it.
    pub of_type: Option<String>,
    /// The command that gives the device that type, or lists the firmware that there is.
    pub command: String,
}

/// An alarm that a rule raises.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleAlarm {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub subject: String,
    /// Its text.
    pub message: String,
    /// When it was raised, milliseconds since the Unix epoch.
    pub raised_ms: u64,
    /// Until when it is shelved, likewise; none: it is not.
    pub shelved_until_ms: Option<u64>,
    /// The user that shelved or acknowledged it; empty: none.
    pub by: String,
    /// When it is cleared by itself, in words; none: only an action of a rule clears it.
    pub clears_when: Option<String>,
    /// Why its last value keeps it active, in words; none: it does not, or is not known.
    pub kept_by: Option<String>,
    /// The command that ends the silence of one that is shelved, or clears it.
    pub command: String,
}

/// An alarm that would be raised, and that another one silences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InhibitedRuleAlarm {
    /// What it is about.
    pub subject: String,
    /// Since when its condition is true, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Name of the alarm that silences it.
    pub by: String,
    /// Since when that one is active, likewise.
    pub by_since_ms: u64,
    /// The command that clears that one.
    pub command: String,
}

/// A rule about messages that was asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedRule {
    /// Its name.
    pub name: String,
    /// Its Topic Filters; none: it looks at telemetry or events.
    pub topics: Vec<String>,
    /// The key of the values of telemetry that it looks at; none: it looks at none.
    pub key: Option<String>,
    /// Keys of values that came in messages of its tenant, at which no rule looks.
    pub other_keys: Vec<String>,
    /// It is switched on.
    pub is_on: bool,
    /// The node evaluates it.
    pub is_in_force: bool,
    /// The configuration has it, else the tables.
    pub is_configured: bool,
    /// Messages that it has looked at since the start.
    pub messages: u64,
    /// Those for which its condition was true.
    pub matched: u64,
    /// Those in which a member is missing that its condition needs.
    pub missing: u64,
    /// Those of another device than it looks at.
    pub other_device: u64,
    /// Messages that an earlier rule has stopped, which it has not looked at.
    pub stopped: u64,
    /// The rule that has stopped the last of these.
    pub stopped_by: Option<String>,
    /// The devices whose messages it looks at, in words; none: all of them.
    pub devices: Option<String>,
    /// How often it has failed.
    pub errors: u64,
    /// The last error.
    pub last_error: Option<String>,
    /// When that was, milliseconds since the Unix epoch.
    pub last_error_ms: Option<u64>,
    /// The topic of the message that it is of, unless it is of an action.
    pub failed_topic: Option<String>,
    /// A later message of that topic did not fail.
    pub is_over: bool,
    /// The member that was missing last.
    pub missing_member: Option<MissingMember>,
    /// The kind of the action that it is of; none: of the condition or a template.
    pub failed_action: Option<&'static str>,
    /// The webhooks that it acts on, those of its own and others.
    pub webhooks: Vec<Integration>,
    /// Integrations that take what it publishes, or the alarms that it raises.
    pub takers: Vec<Integration>,
    /// Alarms that it has raised and that are not cleared.
    pub alarms: Vec<RuleAlarm>,
    /// Its own alarm, if another one silences it.
    pub inhibited: Option<InhibitedRuleAlarm>,
    /// Its own alarm, if its condition was not true for long enough.
    pub waiting: Option<WaitingAlarm>,
    /// When and why the last change of its alarm could not be published, milliseconds since the
    /// Unix epoch.
    pub unpublished: Option<(u64, String)>,
    /// Its condition; none: it has none.
    pub condition: Option<String>,
    /// It keeps an alarm.
    pub keeps_alarm: bool,
    /// What it has made of the last message on the topic that was asked about.
    pub on_topic: Option<LastOnTopic>,
    /// The integration that hands messages to it; none: it does not run.
    pub queue: Option<Integration>,
    /// The command that switches it on.
    pub switch_on: String,
    /// The command that shows it.
    pub show: String,
}
