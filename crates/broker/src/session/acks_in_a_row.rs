//! Acknowledgements that come in a row, of messages that are kept nowhere.
//!
//! At QoS 2 three of four packets are acknowledgements, and a read brings many of them. Those of a
//! session that ends with its connection take a line or two each, so what they have in common is
//! looked up once for all. What needs a record, a share group, an event or an error is left to
//! `acknowledge.rs` and `inbound.rs`, which define what each packet means.

use martlet_codec::{Ack, AckKind, PacketId, QoS};

use crate::connection::Since;
use crate::fault::{self, Fault};
use crate::id::RecordNumber;
use crate::node::{Cx, Node};
use crate::notify::observers::NOTIFY_ACKS;
use crate::session::in_flight::{InFlightState, Released};
use crate::session::outbound::Outbound;
use crate::shard::Shard;
use crate::work::PACKET;

/// Bytes of an acknowledgement that holds nothing but its Packet Identifier.
pub(crate) const SHORT_ACK_LEN: usize = 4;

impl Shard {
    /// Works off the acknowledgements at the front of `bytes`, up to the first that is not one of
    /// these or that is not of the share of this connection; answers how many bytes they have.
    pub(crate) fn receive_acks_in_a_row<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        bytes: &[u8],
    ) -> usize {
        if self.observers.wants.any(NOTIFY_ACKS) || fault::is(Fault::PacketIdFreedEarly) {
            return 0;
        }
        let connection = self.connections.at(index);
        let Some(id) = connection.owner() else {
            return 0;
        };
        let session = self.sessions.at(id.index);
        if session.durable {
            return 0;
        }
        // An answer does not overtake those that wait for the store.
        let answers_at_once = connection.answers_gated == 0;
        let (mut consumed, mut delivered, mut answers) = (0, 0, 0);
        let mut frees = false;
        for packet in bytes.chunks_exact(SHORT_ACK_LEN) {
            let Some((kind, packet_id)) = Ack::peek_short(packet) else {
                break;
            };
            if self.work.is_share_over() {
                break;
            }
            let answer = match kind {
                AckKind::PubAck if session.outbound.acknowledged_unkept(packet_id) => {
                    delivered += 1;
                    frees = true;
                    None
                }
                AckKind::PubRec
                    if answers_at_once && session.outbound.received_unkept(packet_id) =>
                {
                    delivered += 1;
                    Some(AckKind::PubRel)
                }
                AckKind::PubRel
                    if answers_at_once && session.receipts.release_unrecorded(packet_id) =>
                {
                    Some(AckKind::PubComp)
                }
                AckKind::PubComp if session.outbound.completed_unrecorded(packet_id) => {
                    frees = true;
                    None
                }
                _ => break,
            };
            consumed += SHORT_ACK_LEN;
            self.work.add(PACKET);
            if let Some(kind) = answer {
                let output = connection.output_mut(&mut self.buffers.pool);
                output.extend_from_slice(&Ack::short(kind, packet_id));
                answers += 1;
            }
        }
        if consumed == 0 {
            return 0;
        }
        connection.received(cx.now.mono_ms);
        connection.held_for_store_since = Since::NONE;
        session.receipts.rest();
        session.accounting.delivered += delivered;
        self.counters.delivered += delivered;
        self.counters.packets_received += (consumed / SHORT_ACK_LEN) as u64;
        self.counters.packets_sent += answers;
        if frees {
            self.waiting.answered = Some(id);
        }
        if answers > 0 && connection.appended(cx, index) {
            self.charge_buffers(index);
        }
        consumed
    }
}

impl Outbound {
    /// PUBACK has come for a message that is kept nowhere and is [plain](Unkept::is_plain): its
    /// identifier is free again [MQTT-4.3.2-5]. False if it is another one, which stays.
    #[inline]
    fn acknowledged_unkept(&mut self, packet_id: PacketId) -> bool {
        self.free_if(packet_id, |state| {
            matches!(state, InFlightState::Unkept(sent)
                if sent.qos == QoS::AtLeastOnce && sent.is_plain())
        })
    }

    /// PUBREC has come for such a message: PUBREL is owed from now on [MQTT-4.3.3-4]. False if it
    /// is another one, which stays as it is.
    #[inline]
    fn received_unkept(&mut self, packet_id: PacketId) -> bool {
        let Some(message) = self.in_flight.get_mut(packet_id) else {
            return false;
        };
        let InFlightState::Unkept(sent) = &message.state else {
            return false;
        };
        if sent.qos != QoS::ExactlyOnce || !sent.is_plain() {
            return false;
        }
        message.state = InFlightState::Released(Released {
            message: sent.id,
            why: sent.why,
            recorded: false,
        });
        message.record = RecordNumber(0);
        true
    }

    /// PUBCOMP has come for a message without a record: its identifier is free again. False if it
    /// is another one, which stays.
    #[inline]
    fn completed_unrecorded(&mut self, packet_id: PacketId) -> bool {
        self.free_if(
            packet_id,
            |state| matches!(state, InFlightState::Released(released) if !released.recorded),
        )
    }

    /// Frees an identifier if it stands for what is meant.
    #[inline(always)]
    fn free_if(
        &mut self,
        packet_id: PacketId,
        is_meant: impl FnOnce(&InFlightState) -> bool,
    ) -> bool {
        let freed = self.in_flight.drop_if(packet_id, |message| {
            is_meant(&message.state).then_some(message.on_wire)
        });
        self.on_wire -= u16::from(freed == Some(true));
        freed.is_some()
    }
}
