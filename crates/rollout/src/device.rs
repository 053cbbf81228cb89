//! A device in a rollout: its states, and what leads from one to the next.
//!
//! ```text
//! waiting ──► offered ──► delivered ──► downloading ──► installing ──► succeeded | failed
//!    │           └────────────┴─────────────┴───────────────┴──► silent
//!    └──► skipped
//! ```
//!
//! A device may skip states, and never goes back. A silent device that reports something continues.
//! Only a retry makes a failed or silent device wait again.

/// The state of a device in a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceState {
    /// The device's wave has not begun, or it is to be offered the firmware next.
    Waiting,
    /// The command was added: it is on its way to the device.
    Offered,
    /// The device has acknowledged the command's message.
    Delivered,
    /// The device loads the file.
    Downloading,
    /// The device installs the firmware.
    Installing,
    /// The device has the firmware.
    Succeeded,
    /// The device has not installed the firmware.
    Failed,
    /// The device has sent nothing for too long.
    Silent,
    /// The device is left out.
    Skipped,
}

/// Why a device is in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceReason {
    /// Nothing needs a reason.
    None,
    /// The device has answered that it failed, or has refused the message.
    DeviceSaid,
    /// The device has too many commands that have not ended.
    TooManyCommands,
    /// The time of the rollout was over.
    TimedOut,
    /// The device has sent nothing for the time of the gate.
    NoAnswer,
    /// The device has reported this version before.
    HasVersion,
    /// The device is of another type than the firmware.
    WrongType,
    /// The device was disabled.
    Disabled,
    /// The device was deleted.
    Deleted,
    /// The rollout was aborted, or the command was cancelled.
    Cancelled,
}

/// Event of a device in a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// The device's command was added.
    Offered,
    /// The device has acknowledged the command's message, or reported that it accepts the command.
    Delivered,
    /// The device downloads the file: percent, if reported.
    Downloading(Option<u8>),
    /// The device installs the firmware: percent, if reported.
    Installing(Option<u8>),
    /// The device has answered that it is done.
    Succeeded,
    /// The device will not have the firmware, for this reason.
    Failed(DeviceReason, String),
    /// The device reports that it runs the version.
    Reported,
    /// The device has sent nothing for too long.
    Silence,
    /// The device is left out.
    Skipped(DeviceReason),
    /// The device is to be offered the firmware again.
    Retried,
}

/// A device in a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// State of the device.
    pub state: DeviceState,
    /// Why.
    pub reason: DeviceReason,
    /// The text that the device reported.
    pub detail: String,
    /// Percent, as last reported by the device.
    pub progress: Option<u8>,
    /// When its state changed last.
    pub since_ms: i64,
    /// When it last reported something, or was offered the firmware.
    pub heard_ms: i64,
}

impl DeviceState {
    /// All of them, in the order in which a device passes them.
    pub const ALL: [Self; 9] = [
        Self::Waiting,
        Self::Offered,
        Self::Delivered,
        Self::Downloading,
        Self::Installing,
        Self::Succeeded,
        Self::Failed,
        Self::Silent,
        Self::Skipped,
    ];

    /// Returns the state's word, as the API and the tables have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Offered => "offered",
            Self::Delivered => "delivered",
            Self::Downloading => "downloading",
            Self::Installing => "installing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Silent => "silent",
            Self::Skipped => "skipped",
        }
    }

    /// The state of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }

    /// The device has been offered the firmware, and has not ended.
    pub fn is_open(self) -> bool {
        matches!(
            self,
            Self::Offered | Self::Delivered | Self::Downloading | Self::Installing
        )
    }
}

impl DeviceReason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::None,
        Self::DeviceSaid,
        Self::TooManyCommands,
        Self::TimedOut,
        Self::NoAnswer,
        Self::HasVersion,
        Self::WrongType,
        Self::Disabled,
        Self::Deleted,
        Self::Cancelled,
    ];

    /// Returns the reason's word, as the API and the tables have it; empty for none.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "",
            Self::DeviceSaid => "device_said",
            Self::TooManyCommands => "too_many_commands",
            Self::TimedOut => "timed_out",
            Self::NoAnswer => "no_answer",
            Self::HasVersion => "has_version",
            Self::WrongType => "wrong_type",
            Self::Disabled => "disabled",
            Self::Deleted => "deleted",
            Self::Cancelled => "cancelled",
        }
    }

    /// The reason of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.word() == word)
    }
}

impl Device {
    /// A device whose wave has not begun.
    pub fn new(now_ms: i64) -> Self {
        Self {
            state: DeviceState::Waiting,
            reason: DeviceReason::None,
            detail: String::new(),
            progress: None,
            since_ms: now_ms,
            heard_ms: 0,
        }
    }

    /// Applies an event. Returns whether that changed anything: what comes too late does not.
    pub fn apply(&mut self, event: &DeviceEvent, now_ms: i64) -> bool {
        use DeviceState::{
            Delivered, Downloading, Failed, Installing, Offered, Silent, Skipped, Succeeded,
            Waiting,
        };
        match event {
            DeviceEvent::Offered => {
                if self.state != Waiting {
                    return false;
                }
                self.heard_ms = now_ms;
                self.enter(Offered, DeviceReason::None, now_ms);
            }
            DeviceEvent::Delivered => return self.hear(Delivered, None, now_ms),
            DeviceEvent::Downloading(percent) => return self.hear(Downloading, *percent, now_ms),
            DeviceEvent::Installing(percent) => return self.hear(Installing, *percent, now_ms),
            DeviceEvent::Succeeded => {
                if !self.state.is_open() && self.state != Silent {
                    return false;
                }
                self.heard_ms = now_ms;
                self.progress = Some(100);
                self.detail.clear();
                self.enter(Succeeded, DeviceReason::None, now_ms);
            }
            // It runs the version, whatever it reported before.
            DeviceEvent::Reported => {
                if !self.state.is_open() && !matches!(self.state, Silent | Failed) {
                    return false;
                }
                self.heard_ms = now_ms;
                self.detail.clear();
                self.enter(Succeeded, DeviceReason::None, now_ms);
            }
            DeviceEvent::Failed(reason, detail) => {
                if !self.state.is_open() && !matches!(self.state, Silent | Waiting) {
                    return false;
                }
                if *reason == DeviceReason::DeviceSaid {
                    self.heard_ms = now_ms;
                }
                self.detail.clone_from(detail);
                self.enter(Failed, *reason, now_ms);
            }
            DeviceEvent::Silence => {
                if !self.state.is_open() {
                    return false;
                }
                self.enter(Silent, DeviceReason::NoAnswer, now_ms);
            }
            DeviceEvent::Skipped(reason) => {
                if !self.state.is_open() && !matches!(self.state, Waiting | Silent) {
                    return false;
                }
                self.enter(Skipped, *reason, now_ms);
            }
            DeviceEvent::Retried => {
                if !matches!(self.state, Failed | Silent) {
                    return false;
                }
                self.progress = None;
                self.detail.clear();
                self.heard_ms = 0;
                self.enter(Waiting, DeviceReason::None, now_ms);
            }
        }
        true
    }

    /// The device has reported its progress.
    fn hear(&mut self, next: DeviceState, percent: Option<u8>, now_ms: i64) -> bool {
        let is_forward = self.state.is_open() && next >= self.state;
        if !is_forward && self.state != DeviceState::Silent {
            return false;
        }
        self.heard_ms = now_ms;
        if percent.is_some() {
            self.progress = percent;
        }
        if self.state != next {
            self.enter(next, DeviceReason::None, now_ms);
        }
        true
    }

    fn enter(&mut self, state: DeviceState, reason: DeviceReason, now_ms: i64) {
        self.state = state;
        self.reason = reason;
        self.since_ms = now_ms;
    }
}
