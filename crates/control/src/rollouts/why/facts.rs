//! Facts about rollouts. Times are milliseconds since the Unix epoch.

use crate::remedy::Command;
use crate::why::NotForDevice;

/// Facts about rollouts.
#[derive(Debug, Default)]
pub(crate) struct RolloutFacts {
    /// Rollouts of firmware for the device that have not ended, the latest first.
    pub(super) rollouts: Vec<DeviceRollout>,
    /// Rollouts to groups of the device that are not for it.
    pub(super) not_for_device: Vec<NotForDevice>,
    /// The rollout that was asked about.
    pub(super) named: Option<NamedRollout>,
}

/// A rollout of firmware, as far as it concerns a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceRollout {
    pub(super) id: String,
    /// Name and version of the firmware.
    pub(super) firmware: String,
    /// Version of the firmware.
    pub(super) version: String,
    /// Why the device has not installed it.
    pub(super) stuck: DeviceStuck,
    /// Reason for that, in words.
    pub(super) why: String,
    /// Since when the device is in its state.
    pub(super) since_ms: u64,
    /// When the rollout ended; 0: it has not.
    pub(super) ended_ms: u64,
    /// The command that starts or resumes the rollout, or shows its devices.
    pub(super) command: Option<Command>,
}

/// Why a device has not installed the firmware of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceStuck {
    /// The rollout has not been started.
    NotStarted,
    /// The rollout is paused.
    Paused,
    /// The turn of the device has not come, or it is at work.
    InTurn,
    /// The device is not connected.
    Absent,
    /// The device is not subscribed to the topic of its commands, or with QoS 0.
    NotSubscribed,
    /// The device has not answered.
    NoAnswer,
    /// The device reports nearly the version of the rollout as its own.
    VersionDiffers,
    /// The device has sent nothing for the time of the gate.
    Silent,
    /// The device has failed.
    Failed,
    /// The firmware is for another type of devices.
    WrongType,
    /// The device was disabled.
    Disabled,
    /// The rollout was aborted or has ended, or the device's command was cancelled.
    Cancelled,
    /// The device has the version.
    HasVersion,
}

/// A rollout that the question names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedRollout {
    pub(super) id: String,
    /// Name and version of the firmware.
    pub(super) firmware: String,
    /// How it is.
    pub(super) standing: RolloutStanding,
    /// How many of its devices are in which state, in words.
    pub(super) devices: String,
    /// Devices that failed or are silent.
    pub(super) troubled: u64,
    /// A device that was skipped though it does not have the version, and why.
    pub(super) skipped: Option<(String, String)>,
    /// A device that has begun and does not go on by itself.
    pub(super) held_up_by: Option<HeldUpBy>,
    /// The command that comes first so that it goes on.
    pub(super) go_on: Option<Command>,
    /// The command that lists its devices, and why each is stuck.
    pub(super) list: Option<Command>,
}

/// A device that has begun to install the firmware of a rollout, and does not go on by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldUpBy {
    pub(super) device: String,
    /// Why, in words.
    pub(super) why: String,
    /// The version that it should report, if it reports another one; none: it is away.
    pub(super) version: Option<String>,
}

/// How a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RolloutStanding {
    /// The rollout has not been started.
    Planned,
    /// Waves of the rollout begin as the gate permits.
    Running,
    /// The rollout is paused, for this reason.
    Paused(&'static str),
    /// The rollout has ended, with success.
    Succeeded,
    /// Somebody has aborted it.
    Aborted,
    /// The rollout has ended without success, with this state.
    Ended(&'static str),
}
