//! The PUBLISH packets of the load generator, and the order of topics.
//!
//! Responsible for composing a packet from pre-encoded parts, with number and time at the beginning
//! of its payload, and for the order in which a publisher uses its topics. When packets are sent is
//! decided elsewhere. MQTT 5.0 §3.3.

use martlet_codec::{OutgoingPublish, PacketId, ProtocolVersion, QoS};

use super::options::STAMP_BYTES;

/// Packets for all topics. They differ only before the Packet Identifier.
pub(super) struct Packets {
    /// The bytes before the Packet Identifier, for all topics one after the other.
    heads: Vec<u8>,
    /// End of each topic's head.
    ends: Vec<u32>,
    /// The rest of every packet.
    tail: Vec<u8>,
    has_packet_id: bool,
    /// Offset of the payload in the tail; `None` if it is empty.
    payload_offset: Option<usize>,
}

/// Properties that all packets share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) version: ProtocolVersion,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// 0, or at least `STAMP_BYTES`.
    pub(super) payload_bytes: usize,
}

/// Information about a message in its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Number of the topic in the plan.
    pub(super) topic: u32,
    /// Number of earlier messages to that topic.
    pub(super) number: u64,
    /// When it was sent or due, in nanoseconds since the beginning.
    pub(super) at: u64,
}

impl Packets {
    /// Creates the packets for these topics.
    pub(super) fn new(topics: &[String], form: Form) -> Self {
        let payload = vec![0; form.payload_bytes];
        let (mut heads, mut ends, mut packet) = (Vec::new(), Vec::new(), Vec::new());
        let mut head_len = 0;
        for topic in topics {
            packet.clear();
            let outgoing = OutgoingPublish {
                dup: false,
                qos: form.qos,
                retain: form.retain,
                topic: topic.as_bytes(),
                packet_id: None,
                topic_alias: None,
                message_expiry_secs: None,
                subscription_ids: &[],
                forwarded: &[],
                payload: &payload,
            };
            let packet_id_offset = outgoing.encode(form.version, &mut packet);
            head_len = packet_id_offset.unwrap_or(packet.len() - payload.len());
            heads.extend_from_slice(&packet[..head_len]);
            ends.push(heads.len() as u32);
        }
        let tail = packet.split_off(head_len);
        Self {
            heads,
            ends,
            payload_offset: (!payload.is_empty()).then(|| tail.len() - payload.len()),
            tail,
            has_packet_id: form.qos != QoS::AtMostOnce,
        }
    }

    /// Appends a packet.
    #[inline]
    pub(super) fn encode(&self, packet_id: PacketId, stamp: Stamp, output: &mut Vec<u8>) {
        let topic = stamp.topic as usize;
        let begin = topic.checked_sub(1).map_or(0, |before| self.ends[before]);
        output.extend_from_slice(&self.heads[begin as usize..self.ends[topic] as usize]);
        let start = output.len();
        output.extend_from_slice(&self.tail);
        let tail = &mut output[start..];
        if self.has_packet_id {
            tail[..2].copy_from_slice(&packet_id.get().to_be_bytes());
        }
        if let Some(offset) = self.payload_offset {
            tail[offset..offset + STAMP_BYTES].copy_from_slice(&stamp.to_bytes());
        }
    }
}

impl Stamp {
    /// Reads the stamp at the beginning of a payload, if there is one.
    #[inline]
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let (topic, rest) = payload.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        Some(Self {
            topic: u32::from_le_bytes(*topic),
            number: u64::from_le_bytes(*number),
            at: u64::from_le_bytes(*rest.first_chunk()?),
        })
    }

    fn to_bytes(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..4].copy_from_slice(&self.topic.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.number.to_le_bytes());
        bytes[12..].copy_from_slice(&self.at.to_le_bytes());
        bytes
    }
}

/// The sequence of one publisher's topics.
#[derive(Debug)]
pub(super) struct TopicTurns {
    first: u64,
    stride: u64,
    count: u64,
    turn: u64,
    shuffled: bool,
}

impl TopicTurns {
    /// Topics `first`, `first + stride` and so on below `end`; there is at least one.
    pub(super) fn new(first: usize, stride: usize, end: usize, shuffled: bool) -> Self {
        Self {
            first: first as u64,
            stride: stride as u64,
            count: (end - first).div_ceil(stride) as u64,
            // Publishers begin at different points of the same sequence.
            turn: if shuffled { first as u64 } else { 0 },
            shuffled,
        }
    }

    /// Number of topics.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The next topic: in turn, or in a fixed pseudo-random order.
    #[inline]
    pub(super) fn next(&mut self) -> u32 {
        let place = match (self.count, self.shuffled) {
            (1, _) => 0,
            (count, false) => {
                let place = self.turn;
                self.turn = if place + 1 == count { 0 } else { place + 1 };
                place
            }
            (count, true) => {
                // A linear congruential generator with Knuth's multiplier, of which the upper half
                // is used.
                let random = self.turn.wrapping_mul(6_364_136_223_846_793_005);
                self.turn = random.wrapping_add(1_442_695_040_888_963_407);
                ((self.turn >> 32) * count) >> 32
            }
        };
        (self.first + place * self.stride) as u32
    }
}

#[cfg(test)]
mod tests {
    use martlet_codec::{Packet, decode_fixed_header};

    use super::*;

    #[test]
    fn a_packet_put_together_from_parts_is_the_one_asked_for() {
        let topics = ["a/long/topic".to_owned(), "b".to_owned(), "x".repeat(200)];
        for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let form = Form {
                    version,
                    qos,
                    retain: true,
                    payload_bytes: 64,
                };
                let packets = Packets::new(&topics, form);
                for topic in 0..3 {
                    let (number, at) = (7, u64::from(topic));
                    let stamp = Stamp { topic, number, at };
                    let mut bytes = Vec::new();
                    packets.encode(PacketId::MIN, stamp, &mut bytes);
                    let header = decode_fixed_header(&bytes).unwrap().unwrap();
                    assert_eq!(header.packet_len(), bytes.len());
                    let body = &bytes[usize::from(header.header_len)..];
                    let Ok(Packet::Publish(publish)) = Packet::decode(header, body, version) else {
                        panic!("no PUBLISH");
                    };
                    assert_eq!(publish.qos, qos);
                    assert!(publish.retain);
                    assert_eq!(Stamp::read(publish.payload), Some(stamp));
                    assert_eq!(publish.payload.len(), 64);
                }
            }
        }
    }

    #[test]
    fn topics_come_in_turn_or_shuffled_and_all_of_them() {
        let mut turns = TopicTurns::new(1, 3, 10, false);
        let topics: Vec<_> = (0..4).map(|_| turns.next()).collect();
        assert_eq!(topics, [1, 4, 7, 1]);
        let mut turns = TopicTurns::new(2, 4, 1000, true);
        let topics: std::collections::BTreeSet<_> = (0..10_000).map(|_| turns.next()).collect();
        assert_eq!(topics.len() as u64, turns.count());
        assert!(topics.iter().all(|topic| topic % 4 == 2 && *topic < 1000));
    }
}
