//! The gate: what waits for a record to be durable.

use std::collections::VecDeque;

use martlet_codec::{AckKind, PacketId, ReasonCode};

use crate::id::{ConnectionId, RecordNumber, SessionId};
use crate::part::interface::{PartEvent, PartId};
use crate::record::RecordCount;

/// Queue of what waits for records to be durable, in order.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    waiting: VecDeque<(RecordNumber, Gated)>,
    /// Memory of what is in it.
    bytes: usize,
    /// Ends of sessions that may not be durable yet, oldest first, with a hash of whose they were.
    ends: VecDeque<(RecordNumber, u64)>,
}

/// Entries for which the gate keeps its memory while it is empty.
const KEPT_ENTRIES: usize = 16 * 1024;

impl Gate {
    /// Puts something off until `record` is durable. Records are numbered in order, so the gate is
    /// sorted except for what waits for an earlier one; that waits a little longer.
    pub(super) fn put_off(&mut self, record: RecordNumber, gated: Gated) {
        let last = self.waiting.back();
        let last = last.map_or(RecordNumber(0), |(number, _)| *number);
        self.bytes += gated.bytes();
        self.waiting.push_back((record.max(last), gated));
    }

    /// Takes the first, if it waits for no record behind `last`.
    pub(super) fn take_open(&mut self, last: RecordNumber) -> Option<Gated> {
        let is_open = |(number, _): &mut (RecordNumber, Gated)| *number <= last;
        let (_, gated) = self.waiting.pop_front_if(is_open)?;
        self.bytes -= gated.bytes();
        Some(gated)
    }

    /// Whether the first waits for no record behind `last`.
    pub(super) fn is_open(&self, last: RecordNumber) -> bool {
        let first = self.waiting.front();
        first.is_some_and(|(record, _)| *record <= last)
    }

    /// Whether something waits for a record behind number `before`.
    pub(super) fn awaits_beyond(&self, before: RecordNumber) -> bool {
        let last = self.waiting.back();
        last.is_some_and(|(record, _)| *record > before)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Gated> {
        self.waiting.iter().map(|(_, gated)| gated)
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the places of this number of answers.
    pub(crate) fn bytes_of(answers: u32) -> usize {
        answers as usize * PLACE_BYTES
    }

    /// Gives its memory back if much waited and nothing waits now.
    pub(super) fn shrink(&mut self) {
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT_ENTRIES {
            self.waiting = VecDeque::new();
        }
    }

    /// The session of a client, by its hash, ends with this record.
    pub(super) fn session_ends(&mut self, record: RecordNumber, client: u64) {
        self.ends.push_back((record, client));
    }

    /// The record that must be durable before a client, by its hash, whose session has ended begins
    /// another: 0 if none is under way.
    pub(super) fn end_of(&mut self, records: &RecordCount, client: u64) -> RecordNumber {
        let is_durable = |(number, _): &mut (RecordNumber, u64)| records.is_durable(*number);
        while self.ends.pop_front_if(is_durable).is_some() {}
        let mut of_client = self.ends.iter().rev();
        let last = of_client.find(|(_, other)| *other == client);
        last.map_or(RecordNumber(0), |(number, _)| *number)
    }
}

/// Bytes of a place in the gate.
const PLACE_BYTES: usize = size_of::<(RecordNumber, Gated)>();

/// Something that waits for a record.
#[derive(Debug)]
pub(crate) enum Gated {
    /// An encoded packet for a connection.
    Answer {
        connection: ConnectionId,
        bytes: Vec<u8>,
        /// Whether it acknowledges a PUBLISH.
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
    /// An event for a part.
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
