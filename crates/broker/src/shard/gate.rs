//! The gate: packets that promise something wait until the record behind them is durable.
//!
//! Answers of one connection leave in the order in which they were asked for, so one that waits
//! for nothing still waits for those before it. While a message is on its way to the queue of a
//! part that has the messages of all shards in order, its answer and all later ones of the shard
//! wait too ([`Unqueued`](super::unqueued::Unqueued)). What leaves the gate is in `gate_open`.

use std::collections::BTreeMap;

use martlet_codec::{Ack, AckKind, PacketId};

use crate::connection::{Connection, Since};
use crate::id::{ConnectionId, RecordNumber};
use crate::node::{Cx, Node};
use crate::shard::Shard;
use crate::shard::gated::{Gated, PlainAck};
use crate::subscribe::suback::SubscribeOrigin;

impl Shard {
    /// Sends a packet once `record` is durable, never before one that was asked for earlier.
    pub(crate) fn answer<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        record: RecordNumber,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some((connection, waits_for)) = self.hold_answer(cx, index, record, false) else {
            return self.send_answer(cx, index, encode);
        };
        let mut bytes = Vec::new();
        encode(&mut bytes);
        let answer = Gated::Answer {
            connection,
            bytes,
            publish: false,
        };
        self.gate(cx, waits_for, answer);
        self.watch_stalled(cx, connection);
    }

    /// Sends an acknowledgement of success at once, unless it has to wait; false if it has to.
    #[inline]
    pub(crate) fn sends_short_ack<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        kind: AckKind,
        packet_id: PacketId,
        record: RecordNumber,
    ) -> bool {
        let connection = self.connections.at(index);
        if connection.answers_gated > 0 || !self.store.is_open(record) {
            return false;
        }
        let output = connection.output_mut(&mut self.buffers.pool);
        output.extend_from_slice(&Ack::short(kind, packet_id));
        let has_grown = connection.appended(cx, index);
        self.counters.packets_sent += 1;
        if has_grown {
            self.charge_buffers(index);
        }
        true
    }

    /// As [`Shard::answer`], for PUBACK, PUBREC, PUBREL and PUBCOMP. One that contains no more than
    /// its reason is encoded when it is sent.
    pub(crate) fn send_ack<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        ack: PlainAck,
        explained: Option<&str>,
        record: RecordNumber,
    ) {
        let publish = matches!(ack.kind, AckKind::PubAck | AckKind::PubRec);
        let version = self.connections.at(index).version;
        let encode = |out: &mut Vec<u8>| {
            let mut packet = Ack::new(ack.packet_id, ack.reason);
            packet.reason_string = explained;
            packet.encode(ack.kind, version, out);
        };
        let Some((connection, waits_for)) = self.hold_answer(cx, index, record, publish) else {
            return self.send_answer(cx, index, encode);
        };
        let gated = match explained {
            None => Gated::Ack { connection, ack },
            Some(_) => {
                let mut bytes = Vec::new();
                encode(&mut bytes);
                Gated::Answer {
                    connection,
                    bytes,
                    publish,
                }
            }
        };
        self.gate(cx, waits_for, gated);
        self.watch_stalled(cx, connection);
    }

    /// Counts an answer that has to wait. Returns its connection and record; none if it need not.
    fn hold_answer<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        index: u32,
        record: RecordNumber,
        publish: bool,
    ) -> Option<(ConnectionId, RecordNumber)> {
        let connection = self.connections.at(index);
        if connection.answers_gated == 0 {
            if self.store.is_open(record) {
                return None;
            }
            connection.gated_since = Since::at_ms(cx.now.mono_ms);
        }
        let waits_for = record.max(connection.gated_for);
        connection.gated_for = waits_for;
        connection.answers_gated += 1;
        connection.publishes_gated += u16::from(publish);
        let generation = connection.generation;
        Some((ConnectionId { index, generation }, waits_for))
    }

    fn send_answer<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        encode(
            self.connections
                .at(index)
                .output_mut(&mut self.buffers.pool),
        );
        self.output_appended(cx, index);
    }

    /// Puts something off until `record` is durable.
    pub(crate) fn gate<N: Node>(&mut self, _cx: &Cx<'_, N>, record: RecordNumber, gated: Gated) {
        if let Some((connection, bytes)) = gated.answer()
            && let Some(connection) = self.connections.get_mut(connection)
        {
            connection.add_answer_bytes(bytes);
        }
        self.store.gate.put_off(record, gated);
    }

    /// Whether the bytes of answers that are counted by connection are those of all that wait.
    pub(super) fn answers_balance(&self) -> bool {
        let gated = self.store.gate.iter().filter_map(Gated::answer);
        let pending = self.subscribing.subacks.iter();
        let pending = pending.filter_map(|pending| match &pending.origin {
            SubscribeOrigin::Client { connection, .. } => {
                Some((*connection, pending.origin.bytes()))
            }
            _ => None,
        });
        let alive = gated
            .chain(pending)
            .filter(|(connection, _)| self.connections.get(*connection).is_some());
        let mut sums: BTreeMap<u32, usize> = BTreeMap::new();
        for (connection, bytes) in alive {
            *sums.entry(connection.index).or_default() += bytes;
        }
        let counted = |(index, connection): (u32, &Connection)| {
            connection.answer_bytes() == sums.get(&index).copied().unwrap_or_default()
        };
        self.connections.entries().all(counted)
    }
}
