//! Why a packet ends its connection: the rule that it breaks, or the limit that it exceeds.

use martlet_codec::{DecodeError, ReasonCode};
use martlet_permission::{Limit, RefusalCause};

/// Why a packet ends its connection. One word long: what is returned for every packet is nearly
/// always that nothing is wrong.
#[derive(Clone, Debug)]
pub(crate) struct PacketError(Box<BrokenRule>);

/// Rule that a packet breaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BrokenRule {
    pub(crate) reason: ReasonCode,
    pub(crate) cause: RefusalCause,
    /// The statement of the specification that was broken; empty where there is none.
    pub(crate) statement: &'static str,
}

impl core::ops::Deref for PacketError {
    type Target = BrokenRule;

    fn deref(&self) -> &BrokenRule {
        &self.0
    }
}

impl PacketError {
    #[cold]
    fn new(reason: ReasonCode, cause: RefusalCause, statement: &'static str) -> Self {
        Self(Box::new(BrokenRule {
            reason,
            cause,
            statement,
        }))
    }

    pub(crate) fn of(reason: ReasonCode, cause: impl Into<RefusalCause>) -> Self {
        Self::new(reason, cause.into(), "")
    }

    /// A rule that has a reason code of its own.
    pub(crate) fn rule(reason: ReasonCode, rule: &'static str) -> Self {
        Self::of(reason, RefusalCause::Packet(rule))
    }

    /// The limit that it exceeds, if it is that.
    pub(crate) fn limit(&self) -> Option<Limit> {
        self.cause.limit()
    }

    /// A Malformed Packet; the statement is the specification's.
    pub(crate) fn malformed(rule: &'static str, statement: &'static str) -> Self {
        let cause = RefusalCause::Packet(rule);
        Self::new(ReasonCode::MalformedPacket, cause, statement)
    }

    /// A Topic Filter that is not valid; the statement is the specification's.
    pub(crate) fn filter(rule: &'static str, statement: &'static str) -> Self {
        let cause = RefusalCause::Packet(rule);
        Self::new(ReasonCode::TopicFilterInvalid, cause, statement)
    }

    /// A Protocol Error; the statement is the specification's.
    pub(crate) fn protocol(rule: &'static str, statement: &'static str) -> Self {
        Self::new(
            ReasonCode::ProtocolError,
            RefusalCause::Packet(rule),
            statement,
        )
    }
}

impl From<DecodeError> for PacketError {
    fn from(error: DecodeError) -> Self {
        Self::new(
            error.reason,
            RefusalCause::Packet(error.what),
            error.statement,
        )
    }
}
