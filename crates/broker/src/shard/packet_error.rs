//! Why a packet ends its connection: the rule that it breaks, or the limit that it exceeds.

use martlet_codec::{DecodeError, ReasonCode};

use crate::decision::{Decided, Limit};

/// Why a packet ends its connection. One word long: what is returned for every packet is nearly
/// always that nothing is wrong.
#[derive(Clone, Debug)]
pub(crate) struct PacketError(Box<BrokenRule>);

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BrokenRule {
    pub(crate) reason: ReasonCode,
    pub(crate) why: Decided,
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
    fn new(reason: ReasonCode, why: Decided, statement: &'static str) -> Self {
        Self(Box::new(BrokenRule {
            reason,
            why,
            statement,
        }))
    }

    pub(crate) fn of(reason: ReasonCode, why: impl Into<Decided>) -> Self {
        Self::new(reason, why.into(), "")
    }

    /// The limit that it exceeds, if it is that.
    pub(crate) fn limit(&self) -> Option<Limit> {
        match self.why {
            Decided::Limit(limit) => Some(limit),
            Decided::Words(_) => None,
        }
    }

    /// A Malformed Packet; the statement is the specification's.
    pub(crate) fn malformed(why: &'static str, statement: &'static str) -> Self {
        Self::new(ReasonCode::MalformedPacket, why.into(), statement)
    }

    /// A Protocol Error; the statement is the specification's.
    pub(crate) fn protocol(why: &'static str, statement: &'static str) -> Self {
        Self::new(ReasonCode::ProtocolError, why.into(), statement)
    }
}

impl From<DecodeError> for PacketError {
    fn from(error: DecodeError) -> Self {
        Self::new(error.reason, error.what.into(), error.statement)
    }
}
