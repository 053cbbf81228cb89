//! The gate: packets that promise something wait until the record behind them is durable.
//!
//! Answers of one connection leave in the order in which they were asked for, so one that waits
//! for nothing still waits for those before it.

use martlet_codec::ReasonCode;
use smallvec::SmallVec;

use crate::connection::Phase;
use crate::id::{ConnectionId, RecordNumber, SessionId};
use crate::node::{Cx, Node};
use crate::shard::{Ending, Shard};

/// Something that waits for a record.
#[derive(Debug)]
pub(crate) enum Gated {
    /// An encoded packet for a connection.
    Answer {
        connection: ConnectionId,
        bytes: SmallVec<[u8; 16]>,
        /// It acknowledges a PUBLISH.
        publish: bool,
    },
    /// The CONNACK that lets a client in.
    Admit {
        connection: ConnectionId,
        connack: Vec<u8>,
    },
    /// A session may have something to send.
    Pump(SessionId),
}

impl Shard {
    pub(crate) fn gated_count(&self) -> usize {
        self.gate.len()
    }

    /// Sends a packet once `record` is durable, never before one that was asked for earlier.
    pub(crate) fn answer<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        record: RecordNumber,
        publish: bool,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let connection = self.connections.at(index);
        if connection.answers_gated == 0 && self.records.is_durable(record) {
            encode(connection.output_mut(&mut self.pool));
            self.output_appended(cx, index);
            return;
        }
        let waits_for = record.max(connection.gated_for);
        connection.gated_for = waits_for;
        if connection.answers_gated == 0 {
            connection.gated_since_ms = cx.now.mono_ms;
        }
        connection.answers_gated += 1;
        connection.publishes_gated += u16::from(publish);
        let id = ConnectionId {
            index,
            generation: connection.generation,
        };
        self.scratch.clear();
        encode(&mut self.scratch);
        let bytes = SmallVec::from_slice(&self.scratch);
        self.gate(
            cx,
            waits_for,
            Gated::Answer {
                connection: id,
                bytes,
                publish,
            },
        );
        self.watch_stalled(cx, id);
    }

    /// Puts something off until `record` is durable. Records are numbered in order, so the gate is
    /// sorted except for what waits for an earlier one; that waits a little longer.
    pub(crate) fn gate<N: Node>(&mut self, _cx: &Cx<'_, N>, record: RecordNumber, gated: Gated) {
        let last = self
            .gate
            .back()
            .map_or(RecordNumber(0), |(number, _)| *number);
        self.gate.push_back((record.max(last), gated));
    }

    pub(crate) fn gate_or_run<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        record: RecordNumber,
        gated: Gated,
    ) {
        if self.records.is_durable(record) {
            self.run_gated(cx, gated);
        } else {
            self.gate(cx, record, gated);
        }
    }

    pub(super) fn run_gated<N: Node>(&mut self, cx: &mut Cx<'_, N>, gated: Gated) {
        match gated {
            Gated::Answer {
                connection: id,
                bytes,
                publish,
            } => {
                let Some(connection) = self.connections.get_mut(id) else {
                    return;
                };
                if connection.phase == Phase::Closing {
                    return;
                }
                connection.answers_gated -= 1;
                connection.publishes_gated -= u16::from(publish);
                connection.gated_since_ms = cx.now.mono_ms;
                connection
                    .output_mut(&mut self.pool)
                    .extend_from_slice(&bytes);
                let drained = connection.answers_gated == 0;
                let held = connection.flags.publishes_held;
                let session = connection.session();
                self.output_appended(cx, id.index);
                if held {
                    self.queue_input(id.index);
                }
                if let Some(session) = session.filter(|_| drained) {
                    self.queue_retained(session);
                }
            }
            Gated::Admit {
                connection: id,
                connack,
            } => {
                if self
                    .connections
                    .get(id)
                    .is_none_or(|found| found.session().is_none())
                {
                    return;
                }
                if connack.len() > self.connections.at(id.index).packet_bytes_max as usize {
                    // Not even CONNACK fits [MQTT-3.1.2-24].
                    let why = "CONNACK exceeds the client's Maximum Packet Size";
                    let ending = Ending::told(ReasonCode::PacketTooLarge, why);
                    return self.end_connection(cx, id.index, ending);
                }
                self.admit(cx, id.index, &connack);
            }
            Gated::Pump(id) => {
                if let Some(session) = self.live_session(id) {
                    self.pump(cx, session);
                }
            }
        }
    }
}
