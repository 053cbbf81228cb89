//! Facts about commands. Times are milliseconds since the Unix epoch.

use martlet_registry::CommandState;

use crate::misread::Misread;
use crate::remedy::Command as CommandLine;
use crate::why::NotForDevice;

/// Facts about commands.
#[derive(Debug, Default)]
pub(crate) struct CommandFacts {
    /// Commands to the device that have not ended, or have ended recently, the latest first.
    pub(super) commands: Vec<DeviceCommand>,
    /// Commands to groups of the device that are not for it.
    pub(super) not_for_device: Vec<NotForDevice>,
    /// The command that was asked about.
    pub(super) named: Option<NamedCommand>,
}

/// A command to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceCommand {
    pub(super) id: String,
    /// Name of what is to be done.
    pub(super) name: String,
    pub(super) device: String,
    /// How far it has come.
    pub(super) state: CommandState,
    /// Last answer of the device, or why the command ended.
    pub(super) result: String,
    /// Percent, as the device last answered.
    pub(super) progress: Option<u8>,
    /// Whether it is the command of a rollout, which is reported itself.
    pub(super) is_of_rollout: bool,
    /// The topic that it is published to.
    pub(super) topic: String,
    /// The topic on which the device answers.
    pub(super) answers: String,
    /// When it was added.
    pub(super) created_ms: u64,
    /// Until when the device must have acknowledged it.
    pub(super) expires_ms: u64,
    /// When it was last published with a receiver; 0: never.
    pub(super) sent_ms: u64,
    /// When the device acknowledged the message; 0: never.
    pub(super) delivered_ms: u64,
    /// When the device first answered; 0: never.
    pub(super) acknowledged_ms: u64,
    /// When it ended; 0: it has not.
    pub(super) finished_ms: u64,
    /// The last answer of the device that is for none of its commands.
    pub(super) misread: Option<Misread>,
    /// Whether its message reaches the device.
    pub(super) reach: Reach,
    /// The command line that publishes it again.
    pub(super) retry: Option<CommandLine>,
    /// The command line that cancels it.
    pub(super) cancel: Option<CommandLine>,
    pub(super) show: Option<CommandLine>,
    /// The command line that shows why its device does not connect.
    pub(super) why: Option<CommandLine>,
}

/// Whether messages reach a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// A client with its id as the Client Identifier is connected.
    pub(super) is_connected: bool,
    /// Since when none is, as far as known.
    pub(super) gone_ms: Option<u64>,
    /// Topic Filters of its session, with the QoS that was granted.
    pub(super) subscriptions: Vec<(String, u8)>,
}

/// A command that the question names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamedCommand {
    /// Command that was sent to one device.
    One(Box<DeviceCommand>),
    /// Command that was sent to several devices.
    Many {
        id: String,
        /// Name of what is to be done.
        name: String,
        /// How many devices are in which state.
        states: Vec<(CommandState, u64)>,
        /// The command line that lists the devices.
        show: Option<CommandLine>,
    },
}
