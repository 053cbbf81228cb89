//! What waits for a record to be durable.

use martlet_codec::{AckKind, PacketId, ReasonCode};

use crate::id::{ConnectionId, RecordNumber, SessionId};
use crate::part::interface::{PartEvent, PartId};

/// Bytes of a place in the gate.
pub(super) const PLACE_BYTES: usize = size_of::<(RecordNumber, Gated)>();

/// Something that waits for a record.
#[derive(Debug)]
pub(crate) enum Gated {
    /// An encoded packet for a connection.
    Answer {
        connection: ConnectionId,
        bytes: Vec<u8>,
        /// It acknowledges a PUBLISH.
        publish: bool,
    },
    /// An acknowledgement for a connection.
    Ack {
        connection: ConnectionId,
        ack: PlainAck,
    },
    /// The CONNACK that lets a client in.
    Admit {
        connection: ConnectionId,
        connack: Vec<u8>,
    },
    /// A session may have something to send.
    Pump(SessionId),
    /// The answer to an operator, by the number of the operation.
    Report(u32),
    /// What a part is told.
    PartEvent(PartId, Box<PartEvent>),
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainAck {
    pub(crate) kind: AckKind,
    pub(crate) packet_id: PacketId,
    pub(crate) reason: ReasonCode,
}

impl Gated {
    /// The connection of an encoded answer, and the bytes of that.
    pub(super) fn answer(&self) -> Option<(ConnectionId, usize)> {
        match self {
            Self::Answer {
                connection, bytes, ..
            } => Some((*connection, bytes.capacity())),
            _ => None,
        }
    }

    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let packet = match self {
            Self::Answer { bytes, .. } => bytes.capacity(),
            Self::Admit { connack, .. } => connack.capacity(),
            Self::Ack { .. } | Self::Pump(_) | Self::Report(_) => 0,
            Self::PartEvent(..) => size_of::<PartEvent>(),
        };
        packet + PLACE_BYTES
    }
}
