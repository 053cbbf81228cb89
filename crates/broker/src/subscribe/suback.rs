//! A SUBACK that waits for share groups.

use martlet_codec::{PacketId, ReasonCode};

use crate::id::{ConnectionId, RecordNumber};

/// An answer to SUBSCRIBE that waits for share groups.
#[derive(Debug)]
pub(crate) struct PendingSubAck {
    pub(crate) asked: SubscribeOrigin,
    pub(crate) record: RecordNumber,
    pub(crate) missing: u32,
}

/// The origin of a request for subscriptions, and its results.
#[derive(Debug)]
pub(crate) enum SubscribeOrigin {
    /// The client.
    Client {
        connection: ConnectionId,
        packet_id: PacketId,
        codes: Vec<u8>,
        /// Why the first refused filter was refused.
        why: Option<&'static str>,
    },
    /// A client whose packet is half done; none if its connection has ended.
    Unfinished,
    /// An operator.
    Operator {
        request: u64,
        codes: Vec<ReasonCode>,
    },
}

impl SubscribeOrigin {
    /// Bytes of memory that it takes, without its place in the table.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Client { codes, .. } => codes.capacity(),
            Self::Unfinished => 0,
            Self::Operator { codes, .. } => codes.capacity() * size_of::<ReasonCode>(),
        }
    }
}
