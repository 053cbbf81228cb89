//! Why a device of a rollout is stuck: a word of a closed list, and a sentence.

use martlet_registry::rollout::{DeviceReason, DeviceState, PauseReason, RolloutState};
use martlet_registry::{CommandState, Rollout, RolloutDevice, Status};

use crate::rfc3339;
use crate::wall_clock::unsigned;

/// Time after which a report of a device is noted at the latest, milliseconds.
const NOTED_MS: u64 = 5_000;

/// Facts about a device of a rollout.
pub(super) struct Facts<'a> {
    pub(super) rollout: &'a Rollout,
    pub(super) device: &'a RolloutDevice,
    /// Whether its client is connected, and since when it is or is not; none: nothing is known.
    pub(super) connected: Option<(bool, u64)>,
    /// The topic of its command.
    pub(super) topic: &'a str,
}

/// Why a device is stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CauseKind {
    /// The rollout has not been started.
    NotStarted,
    /// An earlier wave has not ended.
    WaveWaits,
    /// The rollout is paused.
    RolloutPaused,
    /// The rollout has ended before its wave began.
    RolloutEnded,
    /// The device is offered the firmware next.
    NextTurn,
    /// The device is not connected.
    NotConnected,
    /// The device has never been connected, as far as is known.
    NeverConnected,
    /// The device is connected, and is not subscribed to the topic of its command.
    NotSubscribed,
    /// The device was sent the command's message, and has not acknowledged it.
    MessageNotAcknowledged,
    /// The device is subscribed with QoS 0, so that it is not known whether it has the command.
    SubscribedWithQos0,
    /// The device has the command and has not answered.
    NoAnswer,
    /// The device has begun and not reported that it is done.
    NotDone,
    /// The device reports nearly the version of the rollout as its own.
    VersionDiffers,
    /// The device has sent nothing for the time of the gate.
    Silent,
    /// The device has answered that it failed, or refused the message.
    DeviceFailed,
    /// The device has too many commands that have not ended.
    TooManyCommands,
    /// The time of the rollout was over.
    TimedOut,
    /// The device has the version already.
    HasVersion,
    /// The device is of another type than the firmware.
    WrongType,
    /// The device is disabled.
    Disabled,
    /// The device was deleted.
    Deleted,
    /// The rollout was aborted, or the command was cancelled.
    Cancelled,
}

impl CauseKind {
    /// Word of the cause, as the API has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::WaveWaits => "wave_waits",
            Self::RolloutPaused => "rollout_paused",
            Self::RolloutEnded => "rollout_ended",
            Self::NextTurn => "next_turn",
            Self::NotConnected => "not_connected",
            Self::NeverConnected => "never_connected",
            Self::NotSubscribed => "not_subscribed",
            Self::MessageNotAcknowledged => "message_not_acknowledged",
            Self::SubscribedWithQos0 => "subscribed_with_qos_0",
            Self::NoAnswer => "no_answer",
            Self::NotDone => "not_done",
            Self::VersionDiffers => "version_differs",
            Self::Silent => "silent",
            Self::DeviceFailed => "device_failed",
            Self::TooManyCommands => "too_many_commands",
            Self::TimedOut => "timed_out",
            Self::HasVersion => "has_version",
            Self::WrongType => "wrong_type",
            Self::Disabled => "disabled",
            Self::Deleted => "deleted",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why a device is stuck, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Which cause.
    pub kind: CauseKind,
    /// A sentence, with what to do where that is not plain.
    pub text: String,
}

fn cause(kind: CauseKind, text: impl Into<String>) -> Option<Cause> {
    let text = text.into();
    Some(Cause { kind, text })
}

fn time(ms: i64) -> String {
    rfc3339::text(unsigned(ms))
}

/// Why a device is stuck; none: it has the firmware.
pub(super) fn cause_of(facts: &Facts<'_>) -> Option<Cause> {
    let of = &facts.device.device;
    match of.state {
        DeviceState::Succeeded => None,
        DeviceState::Waiting => waiting(facts),
        DeviceState::Failed => failed(facts),
        DeviceState::Skipped => skipped(facts),
        DeviceState::Silent => {
            if let Some(found) = version_differs(facts) {
                return Some(found);
            }
            let (at, way) = (time(of.heard_ms), on_its_way(facts));
            let why = way.map(|way| format!(" {}", way.text)).unwrap_or_default();
            let text = format!("Nothing has been heard from the device since {at}.{why}");
            cause(CauseKind::Silent, text)
        }
        DeviceState::Offered
        | DeviceState::Delivered
        | DeviceState::Downloading
        | DeviceState::Installing => on_its_way(facts),
    }
}

/// Why a paused rollout is paused, in words.
pub(super) fn pause_in_words(reason: PauseReason) -> &'static str {
    match reason {
        PauseReason::GateFailures => "too many devices of the wave have failed",
        PauseReason::GateSilence => "too many devices of the wave are silent",
        PauseReason::ByHand => "an operator paused it",
    }
}

fn waiting(facts: &Facts<'_>) -> Option<Cause> {
    let (rollout, wave) = (facts.rollout, facts.device.wave);
    let machine = &rollout.machine;
    match machine.state {
        RolloutState::Planned => {
            let text = "The rollout has not been started: resume it.";
            cause(CauseKind::NotStarted, text)
        }
        RolloutState::Paused(reason) => {
            let why = pause_in_words(reason);
            let text = format!("The rollout is paused: {why}.");
            cause(CauseKind::RolloutPaused, text)
        }
        RolloutState::Succeeded | RolloutState::Failed | RolloutState::Aborted => {
            let text = "The rollout has ended before the device was offered the firmware.";
            cause(CauseKind::RolloutEnded, text)
        }
        RolloutState::Running if wave > machine.wave => {
            let open = |(state, count): (&DeviceState, &u64)| {
                let is_open = state.is_open() || *state == DeviceState::Waiting;
                is_open.then_some(*count)
            };
            let counts = rollout.counts.iter().take(machine.wave + 1);
            let open: u64 = counts.flatten().filter_map(open).sum();
            let (own, current) = (wave + 1, machine.wave + 1);
            let text = match open {
                0 => format!(
                    "Wave {own} waits for the gate of wave {current}, which lasts {} s at least.",
                    rollout.plan.gate.min_wait_ms / 1000
                ),
                1 => format!(
                    "Wave {own} waits for the gate of wave {current}, of which 1 device has not \
                     ended."
                ),
                open => format!(
                    "Wave {own} waits for the gate of wave {current}, of which {open} devices have \
                     not ended."
                ),
            };
            cause(CauseKind::WaveWaits, text)
        }
        RolloutState::Running => {
            let text = "The device is offered the firmware next.";
            cause(CauseKind::NextTurn, text)
        }
    }
}

/// Why a device that was offered the firmware has not installed it.
fn on_its_way(facts: &Facts<'_>) -> Option<Cause> {
    let (device, topic) = (facts.device, facts.topic);
    let is_active = device.status == Some(Status::Active);
    if !is_active {
        return deleted_device(facts);
    }
    let begun: Option<fn(&Facts<'_>) -> Option<Cause>> = match device.device.state {
        DeviceState::Downloading | DeviceState::Installing => Some(not_done),
        DeviceState::Delivered => Some(no_answer),
        _ => match device.command_state {
            Some(CommandState::Acknowledged) => Some(not_done),
            Some(CommandState::Delivered) => Some(no_answer),
            _ => None,
        },
    };
    if let Some(begun) = begun {
        return version_differs(facts).or_else(|| begun(facts));
    }
    match facts.connected {
        None => {
            let text = format!(
                "No client with the Client Identifier {:?} has been connected, as far as is known.",
                device.id
            );
            return cause(CauseKind::NeverConnected, text);
        }
        Some((false, since_ms)) => {
            let since = rfc3339::text(since_ms);
            let text = format!("The device has not been connected since {since}.");
            return cause(CauseKind::NotConnected, text);
        }
        Some((true, _)) => {}
    }
    if device.command_state == Some(CommandState::Sent) {
        let sent = time(device.command_sent_ms);
        if device.is_reached_at_qos0 {
            let text = format!(
                "The device is subscribed to {topic} with QoS 0, so that it is not known whether it \
                 has the command of {sent}: subscribe with QoS 1."
            );
            return cause(CauseKind::SubscribedWithQos0, text);
        }
        let text =
            format!("The command was sent at {sent}, and the device has not acknowledged it.");
        return cause(CauseKind::MessageNotAcknowledged, text);
    }
    if device.is_command_due {
        let text = "The command is being published.";
        return cause(CauseKind::NextTurn, text);
    }
    let text = format!("The device is connected and is not subscribed to {topic}.");
    cause(CauseKind::NotSubscribed, text)
}

fn no_answer(facts: &Facts<'_>) -> Option<Cause> {
    let at = time(facts.device.device.heard_ms);
    if let Some(since) = away_since(facts) {
        let text = format!(
            "The device has not been connected since {since}; it received the command at {at}."
        );
        return cause(CauseKind::NotConnected, text);
    }
    let text = format!("The device received the command at {at} but has not answered.");
    cause(CauseKind::NoAnswer, text)
}

/// Since when the device is not connected, if it has reported nothing since.
fn away_since(facts: &Facts<'_>) -> Option<String> {
    let (is_connected, since_ms) = facts.connected?;
    // A device that reports by HTTP is not connected.
    let is_away = !is_connected && unsigned(facts.device.device.heard_ms) <= since_ms + NOTED_MS;
    is_away.then(|| rfc3339::text(since_ms))
}

/// The device reports nearly the version of the rollout: it may have installed it.
fn version_differs(facts: &Facts<'_>) -> Option<Cause> {
    let (has, Rollout { name, version, .. }) = (&facts.device.has_version, facts.rollout);
    if has == version || bare_version(has, name) != bare_version(version, name) {
        return None;
    }
    let text =
        format!("The device reports firmware_version {has}, and the rollout waits for {version}.");
    cause(CauseKind::VersionDiffers, text)
}

/// A version without the name of the firmware, `v`, what follows `+` and zeros at its end.
fn bare_version(version: &str, name: &str) -> String {
    let version = version.trim().to_lowercase();
    let whole = version.split('+').next().unwrap_or_default();
    let mut bare = whole;
    for prefix in [&*name.to_lowercase(), "version", "ver", "v"] {
        if let Some(rest) = bare.strip_prefix(prefix) {
            bare = rest.trim_start_matches(['-', '_', ' ', '.', '/', ':']);
        }
    }
    // It was another word.
    if !bare.starts_with(|letter: char| letter.is_ascii_digit()) {
        bare = whole;
    }
    while let Some(rest) = bare.strip_suffix(".0") {
        bare = rest;
    }
    bare.to_owned()
}

fn not_done(facts: &Facts<'_>) -> Option<Cause> {
    let of = &facts.device.device;
    let what = match of.state {
        DeviceState::Installing => "installs the firmware",
        _ => "loads the file",
    };
    let progress = of.progress.map(|percent| format!(" ({percent} %)"));
    let progress = progress.unwrap_or_default();
    let at = time(of.heard_ms);
    match away_since(facts) {
        Some(since) => {
            let text = format!(
                "The device has not been connected since {since}; it {what}{progress}, by its last \
                 report at {at}."
            );
            cause(CauseKind::NotConnected, text)
        }
        None => {
            let text = format!("The device {what}{progress}, by its last report at {at}.");
            cause(CauseKind::NotDone, text)
        }
    }
}

fn failed(facts: &Facts<'_>) -> Option<Cause> {
    let of = &facts.device.device;
    match of.reason {
        DeviceReason::TooManyCommands => cause(
            CauseKind::TooManyCommands,
            "The device has too many commands that have not ended: cancel some, then retry.",
        ),
        DeviceReason::TimedOut => cause(
            CauseKind::TimedOut,
            "The time of the rollout was over before the device had begun.",
        ),
        DeviceReason::None
        | DeviceReason::DeviceSaid
        | DeviceReason::NoAnswer
        | DeviceReason::HasVersion
        | DeviceReason::WrongType
        | DeviceReason::Disabled
        | DeviceReason::Deleted
        | DeviceReason::Cancelled => {
            let said = match of.detail.as_str() {
                "" => "without saying why".to_owned(),
                detail => format!("with the message: {detail}"),
            };
            cause(
                CauseKind::DeviceFailed,
                format!("The device has failed {said}"),
            )
        }
    }
}

fn skipped(facts: &Facts<'_>) -> Option<Cause> {
    let version = &facts.rollout.version;
    match facts.device.device.reason {
        DeviceReason::HasVersion => {
            let text = format!("The device reported the version {version} before.");
            cause(CauseKind::HasVersion, text)
        }
        DeviceReason::WrongType => {
            let text = format!(
                "The device is of the type {:?}, and the firmware is for another one.",
                facts.device.device_type
            );
            cause(CauseKind::WrongType, text)
        }
        DeviceReason::Disabled | DeviceReason::Deleted => deleted_device(facts),
        DeviceReason::Cancelled => cause(
            CauseKind::Cancelled,
            match facts.rollout.machine.state {
                RolloutState::Aborted => "The rollout was aborted.",
                _ => "The command of the device was cancelled.",
            },
        ),
        // No device is skipped for these.
        DeviceReason::None
        | DeviceReason::DeviceSaid
        | DeviceReason::TooManyCommands
        | DeviceReason::TimedOut
        | DeviceReason::NoAnswer => None,
    }
}

fn deleted_device(facts: &Facts<'_>) -> Option<Cause> {
    match facts.device.status {
        None => cause(CauseKind::Deleted, "The device was deleted."),
        Some(_) => cause(
            CauseKind::Disabled,
            "The device was disabled: activate it and begin another rollout.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use martlet_registry::rollout::{Device, Plan, Rollout as Machine, WaveGate};

    use super::*;

    fn rollout() -> Rollout {
        Rollout {
            number: 1,
            id: "r".to_owned(),
            team: String::new(),
            firmware: 1,
            name: "pump".to_owned(),
            version: "2".to_owned(),
            target: "{}".to_owned(),
            plan: Plan {
                waves: Vec::new(),
                gate: WaveGate::default(),
                timeout_ms: 1_000,
            },
            waves: 2,
            devices: 2,
            machine: Machine {
                state: RolloutState::Running,
                ..Machine::new(0)
            },
            asked_by: String::new(),
            created_ms: 0,
            started_ms: 0,
            finished_ms: 0,
            counts: vec![
                BTreeMap::from([(DeviceState::Offered, 3)]),
                BTreeMap::from([(DeviceState::Waiting, 1)]),
            ],
        }
    }

    fn device(state: DeviceState, command: Option<CommandState>) -> RolloutDevice {
        RolloutDevice {
            number: 1,
            id: "pump-1".to_owned(),
            tenant: 0,
            device_type: "device".to_owned(),
            wave: 0,
            device: Device {
                state,
                ..Device::new(0)
            },
            attempts: 1,
            command_state: command,
            command_id: "r".to_owned(),
            is_command_due: false,
            is_reached_at_qos0: false,
            command_sent_ms: 1_000,
            status: Some(Status::Active),
            has_version: String::new(),
        }
    }

    fn found(device: &RolloutDevice, connected: Option<bool>) -> Option<Cause> {
        cause_of(&Facts {
            rollout: &rollout(),
            device,
            connected: connected.map(|online| (online, 0)),
            topic: "d/pump-1/commands/firmware",
        })
    }

    #[test]
    fn each_way_to_be_stuck_has_its_own_cause() {
        use CommandState::{Acknowledged, Delivered, Pending, Sent};
        let offered = |command| device(DeviceState::Offered, Some(command));
        let mut qos0 = offered(Sent);
        qos0.is_reached_at_qos0 = true;
        let mut disabled = offered(Pending);
        disabled.status = Some(Status::Inactive);
        let mut later = device(DeviceState::Waiting, None);
        later.wave = 1;
        for (device, connected, kind) in [
            (offered(Pending), None, CauseKind::NeverConnected),
            (offered(Pending), Some(false), CauseKind::NotConnected),
            (offered(Pending), Some(true), CauseKind::NotSubscribed),
            (offered(Sent), Some(true), CauseKind::MessageNotAcknowledged),
            (qos0, Some(true), CauseKind::SubscribedWithQos0),
            (offered(Delivered), Some(true), CauseKind::NoAnswer),
            (offered(Acknowledged), Some(true), CauseKind::NotDone),
            (disabled, Some(true), CauseKind::Disabled),
            (later, Some(true), CauseKind::WaveWaits),
            (
                device(DeviceState::Waiting, None),
                None,
                CauseKind::NextTurn,
            ),
            (
                device(DeviceState::Silent, Some(Pending)),
                None,
                CauseKind::Silent,
            ),
        ] {
            let cause = found(&device, connected).unwrap();
            assert_eq!(cause.kind, kind, "{}", cause.text);
        }
        assert_eq!(found(&device(DeviceState::Succeeded, None), None), None);
    }

    #[test]
    fn nearly_the_version_of_the_rollout_is_not_that_version() {
        let reports = |version: &str, has: &str| {
            let mut rollout = rollout();
            rollout.version = version.to_owned();
            let mut device = device(DeviceState::Downloading, None);
            device.has_version = has.to_owned();
            let facts = Facts {
                rollout: &rollout,
                device: &device,
                connected: Some((true, 0)),
                topic: "d/pump-1/commands/firmware",
            };
            cause_of(&facts).unwrap().kind == CauseKind::VersionDiffers
        };
        for has in [
            "v2.0",
            "V 2.0",
            "2",
            "2.0.0",
            "pump-2.0",
            "pump_v2.0",
            "2.0+b7",
        ] {
            assert!(reports("2.0", has), "{has}");
        }
        for has in ["", "1.0", "2.0.1", "20", "v", "2.0-rc1", "valve-2.0"] {
            assert!(!reports("2.0", has), "{has}");
        }
        assert!(reports("v2.0", "2.0"));
        assert!(!reports("release", "pump"));
    }

    #[test]
    fn a_device_that_is_away_since_its_last_report_says_so() {
        let mut device = device(DeviceState::Downloading, None);
        device.device.heard_ms = 1_000;
        let cause = found(&device, Some(false)).unwrap();
        assert_eq!(cause.kind, CauseKind::NotConnected);
        assert!(
            cause
                .text
                .contains("; it loads the file, by its last report"),
            "{}",
            cause.text
        );
        // It reports by HTTP.
        device.device.heard_ms = 60_000;
        assert_eq!(
            found(&device, Some(false)).unwrap().kind,
            CauseKind::NotDone
        );
    }

    #[test]
    fn a_silent_device_says_where_it_was_lost() {
        let silent = device(DeviceState::Silent, Some(CommandState::Pending));
        let text = found(&silent, Some(true)).unwrap().text;
        assert!(
            text.contains("not subscribed to d/pump-1/commands/firmware"),
            "{text}"
        );
    }
}
