//! How a message goes to its receivers: PUBLISH packets, encoded once per kind of receiver.

use core::num::NonZeroU16;

use martlet_codec::{OutgoingPublish, PacketId, ProtocolVersion, QoS};

use crate::message::{Contents, Publication};

/// How a message goes to one receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) version: ProtocolVersion,
    pub(crate) dup: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) packet_id: Option<PacketId>,
    pub(crate) topic_alias: Option<NonZeroU16>,
    /// The alias is known to the receiver: the topic itself is left out.
    pub(crate) has_topic_alias: bool,
    pub(crate) subscription_ids: &'a [u32],
    pub(crate) expiry_secs: Option<u32>,
}

/// Parts of a message that are in its packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PacketParts<'a> {
    pub(crate) topic: &'a [u8],
    pub(crate) forwarded: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl<'a> PacketParts<'a> {
    pub(crate) fn of(publication: &Publication<'a>) -> Self {
        Self {
            topic: publication.topic.as_bytes(),
            forwarded: publication.forwarded,
            payload: publication.payload,
        }
    }
}

impl<'a> From<Contents<'a>> for PacketParts<'a> {
    fn from(contents: Contents<'a>) -> Self {
        Self {
            topic: contents.topic_bytes(),
            forwarded: contents.forwarded(),
            payload: contents.payload(),
        }
    }
}

impl<'a> Outgoing<'a> {
    pub(crate) fn packet(&self, parts: PacketParts<'a>) -> OutgoingPublish<'a> {
        OutgoingPublish {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: if self.has_topic_alias {
                b""
            } else {
                parts.topic
            },
            packet_id: self.packet_id,
            topic_alias: self.topic_alias,
            message_expiry_secs: self.expiry_secs,
            subscription_ids: self.subscription_ids,
            forwarded: parts.forwarded,
            payload: parts.payload,
        }
    }

    /// All receivers of its version, QoS and RETAIN flag get the same, but for the Packet
    /// Identifier.
    pub(crate) fn is_plain(&self) -> bool {
        self.topic_alias.is_none() && self.subscription_ids.is_empty() && !self.dup
    }

    /// Number of the kind, by version, QoS and RETAIN flag: below [`KINDS`].
    fn kind(&self) -> usize {
        usize::from(self.version.is_v5()) * 6 + self.qos as usize * 2 + usize::from(self.retain)
    }
}

/// Kinds of plain receivers.
const KINDS: usize = 12;

/// PUBLISH packets of one message. The first of a kind is encoded straight into its output, since
/// most messages have one receiver; from the second on they are copied.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    bytes: Vec<u8>,
    /// Kinds of which there was one, as bits.
    used: u16,
    /// Kinds whose packet is among the bytes, likewise.
    kept: u16,
    packets: [KeptPacket; KINDS],
}

/// Where a packet lies in [`Templates::bytes`], and in it the Packet Identifier.
#[derive(Clone, Copy, Debug, Default)]
struct KeptPacket {
    start: u32,
    end: u32,
    packet_id: u32,
}

impl Templates {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        (self.used, self.kept) = (0, 0);
    }

    /// Appends the packet of a plain receiver to `out`.
    pub(crate) fn encode(
        &mut self,
        parts: PacketParts<'_>,
        outgoing: &Outgoing<'_>,
        out: &mut Vec<u8>,
    ) {
        let kind = outgoing.kind();
        let bit = 1 << kind;
        if self.used & bit == 0 {
            self.used |= bit;
            outgoing.packet(parts).encode(outgoing.version, out);
            return;
        }
        if self.kept & bit == 0 {
            self.kept |= bit;
            let start = self.bytes.len();
            let packet = outgoing.packet(parts);
            let packet_id = packet.encode(outgoing.version, &mut self.bytes);
            self.packets[kind] = KeptPacket {
                start: start as u32,
                end: self.bytes.len() as u32,
                packet_id: packet_id.map_or(0, |offset| offset - start) as u32,
            };
        }
        let packet = self.packets[kind];
        let at = out.len() + packet.packet_id as usize;
        out.extend_from_slice(&self.bytes[packet.start as usize..packet.end as usize]);
        if let Some(id) = outgoing.packet_id {
            out[at..at + 2].copy_from_slice(&id.get().to_be_bytes());
        }
    }
}
