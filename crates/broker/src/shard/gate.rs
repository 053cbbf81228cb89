//! The gate: packets that promise something wait until the record behind them is durable.
//!
//! Answers of one connection leave in the order in which they were asked for, so one that waits
//! for nothing still waits for those before it. While a message is on its way to the queue of a
//! part that has the messages of all shards in order, its answer and all later ones of the shard
//! wait too ([`Unqueued`](super::unqueued::Unqueued)).

use std::collections::BTreeMap;

use martlet_codec::{Ack, AckKind, PacketId, ProtocolVersion, ReasonCode};
use martlet_permission::RefusalCause;

use crate::connection::{Connection, Phase, Since};
use crate::id::{ConnectionId, RecordNumber};
use crate::node::{Cx, Node};
use crate::shard::Shard;
use crate::shard::end::Ending;
use crate::shard::gated::{Gated, PlainAck};
use crate::subscribe::suback::SubscribeOrigin;
use crate::work::{GATED, WRITE};

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
        (kind, packet_id): (AckKind, PacketId),
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

    /// Lets out what waits for records that are durable now, up to this number of units of work.
    /// The rest has its turn later.
    pub(super) fn work_off_gate<N: Node>(&mut self, cx: &mut Cx<'_, N>, units: u64) {
        let until = self.work.done + units;
        while let Some(gated) = self.next_from_gate() {
            let effects = cx.effects.connections.len();
            self.run_gated(cx, gated);
            // Answers for one connection are one write, and the write is most of the work.
            let writes = cx.effects.connections.len().saturating_sub(effects) as u64;
            self.work.add(GATED + WRITE * writes);
            if self.work.done >= until {
                return;
            }
        }
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

    /// Takes the first that waits for a record, if it may leave now.
    fn next_from_gate(&mut self) -> Option<Gated> {
        let gated = self.store.take_open()?;
        if let Some((connection, bytes)) = gated.answer()
            && let Some(connection) = self.connections.get_mut(connection)
        {
            connection.remove_answer_bytes(bytes);
        }
        Some(gated)
    }

    pub(crate) fn gate_or_run<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        record: RecordNumber,
        gated: Gated,
    ) {
        if self.store.is_open(record) {
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
                self.let_out(cx, id, publish, |_, out| out.extend_from_slice(&bytes));
            }
            Gated::Ack {
                connection: id,
                ack,
            } => {
                let publish = matches!(ack.kind, AckKind::PubAck | AckKind::PubRec);
                self.let_out(cx, id, publish, |version, out| {
                    Ack::new(ack.packet_id, ack.reason).encode(ack.kind, version, out);
                });
            }
            Gated::Admit {
                connection: id,
                connack,
            } => {
                let found = self.connections.get(id);
                let Some(session) = found.and_then(|found| found.session()) else {
                    return;
                };
                if self.permits.reviews.is_under_way() && self.review(session) {
                    return;
                }
                if connack.len() > self.connections.at(id.index).packet_bytes_max as usize {
                    // Not even CONNACK fits [MQTT-3.1.2-24].
                    let rule = "CONNACK exceeds the client's Maximum Packet Size";
                    let cause = RefusalCause::Packet(rule);
                    let ending = Ending::with_disconnect(ReasonCode::PacketTooLarge, cause);
                    return self.end_connection(cx, id.index, ending);
                }
                self.admit(cx, id.index, &connack);
            }
            Gated::Pump(id) => {
                if let Some(session) = self.sessions.live(id) {
                    self.pump(cx, session);
                }
            }
            Gated::Report(number) => self.operation_is_durable(cx, number),
            Gated::PartEvent(id, event) => self.parts.notify(cx, id, *event),
        }
    }

    /// Lets an answer out: what it waited for has come.
    fn let_out<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        publish: bool,
        encode: impl FnOnce(ProtocolVersion, &mut Vec<u8>),
    ) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.phase == Phase::Closing {
            return;
        }
        connection.answers_gated -= 1;
        connection.publishes_gated -= u16::from(publish);
        connection.gated_since = Since::at_ms(cx.now.mono_ms);
        encode(
            connection.version,
            connection.output_mut(&mut self.buffers.pool),
        );
        let drained = connection.answers_gated == 0;
        let held = connection.flags.input_held();
        let session = connection.session();
        self.output_appended(cx, id.index);
        if held {
            self.queue_input(id.index);
        }
        if let Some(session) = session.filter(|_| drained) {
            self.queue_retained(session);
        }
    }
}
