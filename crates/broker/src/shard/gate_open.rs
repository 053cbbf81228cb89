//! Packets and events whose records are durable: they leave the gate.

use martlet_codec::{Ack, AckKind, ProtocolVersion};

use crate::connection::{Phase, Since};
use crate::id::ConnectionId;
use crate::node::{Cx, Node};
use crate::shard::Shard;
use crate::shard::gated::Gated;
use crate::work::{GATED, WRITE};

impl Shard {
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

    fn run_gated<N: Node>(&mut self, cx: &mut Cx<'_, N>, gated: Gated) {
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
            } => self.admit(cx, id, &connack),
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
