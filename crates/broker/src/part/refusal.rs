//! Why a part refuses a message. What the target said in words is the part's affair, such as in a
//! dead letter; here it is one of a few reasons, which costs nothing and can be counted.

use martlet_codec::ReasonCode;

/// Why a part refuses a message for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartRefusal {
    /// The target rejects the message.
    Rejected,
    /// The part fails at this message each time.
    Failed,
}

impl PartRefusal {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Rejected, Self::Failed];

    /// The reason code of a receipt, as if a client had answered with it.
    pub fn code(self) -> ReasonCode {
        match self {
            Self::Rejected => ReasonCode::ImplementationSpecificError,
            Self::Failed => ReasonCode::UnspecifiedError,
        }
    }

    /// The reason of a part that this code stands for.
    pub fn of(code: ReasonCode) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }

    /// In words, as a sentence without a full stop.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Rejected => "the target of the integration rejected the message",
            Self::Failed => "the integration failed at the message each time",
        }
    }
}
