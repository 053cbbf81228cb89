//! States of commands, and what leads from one to the next.
//!
//! ```text
//! pending ──► sent ──► delivered ──► acknowledged ──► succeeded | failed
//!    ▲          │           │
//!    └──────────┘           └──► expired        each of the first four ──► failed | cancelled
//! ```
//!
//! A step may skip states: a device that answers at once has the command, whether or not its
//! acknowledgement of the message was noticed.

/// The state of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommandState {
    /// No message of it is on its way to the device.
    Pending,
    /// The command was published, and has a receiver.
    Sent,
    /// The device has acknowledged the message: PUBACK, or PUBREC at QoS 2.
    Delivered,
    /// The device has answered that it carries the command out.
    Acknowledged,
    /// The device has answered that it is done.
    Succeeded,
    /// The device has refused it, or has answered that it cannot be done.
    Failed,
    /// The command's time was over before the device acknowledged it.
    Expired,
    /// The command was cancelled, or its device was deleted or disabled.
    Cancelled,
}

impl CommandState {
    /// All of them, in the order in which a command passes them.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Sent,
        Self::Delivered,
        Self::Acknowledged,
        Self::Succeeded,
        Self::Failed,
        Self::Expired,
        Self::Cancelled,
    ];

    /// Returns the state's word, as the API and the tables have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Acknowledged => "acknowledged",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }

    /// Nothing but a retry changes it any more.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Expired | Self::Cancelled
        )
    }

    /// Whether a command in this state may get into the other one by itself, by an answer of its
    /// device, or by cancelling it.
    pub fn may_become(self, next: Self) -> bool {
        match (self, next) {
            // A message was dropped before the device had it.
            (Self::Sent, Self::Pending) => true,
            (Self::Acknowledged, Self::Expired) => false,
            _ => !self.is_final() && next > self,
        }
    }

    /// Whether it may be published once more: not if it is done or given up.
    pub fn may_be_retried(self) -> bool {
        !matches!(self, Self::Pending | Self::Succeeded | Self::Cancelled)
    }
}

/// Which commands of a device are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandFilter {
    /// In this state.
    pub state: Option<CommandState>,
    /// Whether only commands that have not ended are listed.
    pub is_open: bool,
}

#[cfg(test)]
mod tests {
    use super::CommandState::{
        Acknowledged, Cancelled, Delivered, Expired, Failed, Pending, Sent, Succeeded,
    };
    use super::*;

    #[test]
    fn states_follow_each_other_in_order() {
        let permitted: &[(CommandState, &[CommandState])] = &[
            (
                Pending,
                &[
                    Sent,
                    Delivered,
                    Acknowledged,
                    Succeeded,
                    Failed,
                    Expired,
                    Cancelled,
                ],
            ),
            (
                Sent,
                &[
                    Pending,
                    Delivered,
                    Acknowledged,
                    Succeeded,
                    Failed,
                    Expired,
                    Cancelled,
                ],
            ),
            (
                Delivered,
                &[Acknowledged, Succeeded, Failed, Expired, Cancelled],
            ),
            (Acknowledged, &[Succeeded, Failed, Cancelled]),
            (Succeeded, &[]),
            (Failed, &[]),
            (Expired, &[]),
            (Cancelled, &[]),
        ];
        for (from, to) in permitted {
            for next in CommandState::ALL {
                let expected = to.contains(&next);
                assert_eq!(from.may_become(next), expected, "{from:?} to {next:?}");
            }
        }
    }

    #[test]
    fn what_is_done_or_given_up_is_not_retried() {
        let retried = CommandState::ALL.into_iter();
        let retried: Vec<_> = retried.filter(|state| state.may_be_retried()).collect();
        assert_eq!(retried, [Sent, Delivered, Acknowledged, Failed, Expired]);
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for state in CommandState::ALL {
            assert_eq!(CommandState::from_word(state.word()), Some(state));
        }
        assert_eq!(CommandState::from_word("done"), None);
    }
}
