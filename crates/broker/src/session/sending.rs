//! A PUBLISH packet into a connection's output: its flags, its Topic Alias, and what does not fit
//! (MQTT 5 sections 3.1.2.11 and 3.3).

use martlet_codec::QoS;
use martlet_permission::Actions;

use crate::counters::DropReason;
use crate::fault::{self, Fault};
use crate::message::expiry_left_secs;
use crate::node::{Cx, Node};
use crate::outgoing::{Outgoing, PacketParts};
use crate::routing::{MessageFrom, Sending};
use crate::shard::Shard;
use crate::work::BYTES_PER_UNIT;

impl Shard {
    /// Appends a PUBLISH packet to the connection's output, unless the client may not have it: what
    /// waited, or came by a share group, is asked for here. Nor may it exceed the client's Maximum
    /// Packet Size [MQTT-3.1.2-24].
    pub(crate) fn send_publish<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        source: MessageFrom<'_, '_>,
        how: Sending,
        subscription_ids: &[u32],
    ) -> Result<(), DropReason> {
        // What is just being routed was asked for when it was matched.
        if let MessageFrom::Held(message) = &source
            && let Some(session) = self.connections.at(index).session()
            && !self.permits(session, Actions::RECEIVE, message.topic())
            && !fault::is(Fault::QueuedUnchecked)
            && !(how.retain && fault::is(Fault::RetainedUnchecked))
        {
            return Err(DropReason::NotPermitted);
        }
        let (parts, expires_at_ms) = match &source {
            MessageFrom::Routing(routing) => {
                let publication = &routing.publication;
                (PacketParts::of(publication), publication.expires_at_ms)
            }
            MessageFrom::Held(message) => (message.contents().into(), message.expires_at_ms()),
        };
        let connection = self.connections.at(index);
        let v5 = connection.version.is_v5();
        let mut outgoing = Outgoing {
            version: connection.version,
            dup: how.dup,
            qos: how.qos,
            retain: how.retain,
            packet_id: how.packet_id,
            topic_alias: None,
            has_topic_alias: false,
            subscription_ids: if v5 { subscription_ids } else { &[] },
            expiry_secs: expiry_left_secs(expires_at_ms, cx.now.mono_ms),
        };
        let (mut alias_fits, mut alias_given) = (true, false);
        if connection.packet_bytes_max != u32::MAX {
            if connection.flags.part() {
                // It has no packets: its limit is there to lead here, at no cost for clients.
                self.hand_over(cx, index, source, how, subscription_ids);
                return Ok(());
            }
            // [MQTT-3.1.2-24], [MQTT-3.1.2-25]
            let bytes = outgoing.packet(parts).encoded_len(outgoing.version);
            let bytes_max = connection.packet_bytes_max as usize;
            if bytes > bytes_max {
                return Err(DropReason::PacketTooLarge);
            }
            alias_fits = bytes + TOPIC_ALIAS_BYTES <= bytes_max;
        }
        if v5 && alias_fits && connection.has_aliases() {
            let bytes_max = self.settings.limits.topic_alias_bytes as usize;
            alias_given = choose_alias(connection, parts.topic, bytes_max, &mut outgoing);
        }
        let output = connection.output_buffer(&mut self.buffers.pool);
        output.qos0 += u32::from(how.qos == QoS::AtMostOnce);
        let out = &mut output.bytes;
        match source {
            MessageFrom::Routing(routing) => {
                routing.encode(&outgoing, out);
                self.counters.publishes_sent_at_once += 1;
            }
            MessageFrom::Held(_) => {
                outgoing.packet(parts).encode(outgoing.version, out);
            }
        }
        let has_grown = connection.appended(cx, index) || alias_given;
        self.counters.packets_sent += 1;
        self.counters.publishes_sent += 1;
        self.counters.publish_bytes_sent += parts.payload.len() as u64;
        self.work.add((parts.payload.len() / BYTES_PER_UNIT) as u64);
        if has_grown {
            self.charge_buffers(index);
        }
        Ok(())
    }
}

/// Bytes that a Topic Alias adds to a packet at most: the property, and two lengths that grow.
const TOPIC_ALIAS_BYTES: usize = 5;

/// Uses or gives a Topic Alias, as long as the client has room for one [MQTT-3.1.2-26], and the
/// topics of all that it was given are no more than `bytes_max`; true if one was given.
/// None without a maximum [MQTT-3.1.2-27], none above it [MQTT-3.3.2-11].
fn choose_alias(
    connection: &mut crate::connection::Connection,
    topic: &[u8],
    bytes_max: usize,
    outgoing: &mut Outgoing<'_>,
) -> bool {
    let Some(aliases) = connection.aliases_mut() else {
        return false;
    };
    let Some(topic) = martlet_codec::text_of(topic) else {
        return false;
    };
    if let Some(&alias) = aliases.outbound.get(topic) {
        outgoing.topic_alias = Some(alias);
        outgoing.has_topic_alias = true;
        return false;
    }
    let next = aliases.outbound.len() as u16 + 1;
    if next <= aliases.outbound_max
        && aliases.outbound_bytes + topic.len() <= bytes_max
        && let Some(alias) = core::num::NonZeroU16::new(next)
    {
        aliases.outbound.insert(topic.into(), alias);
        aliases.outbound_bytes += topic.len();
        outgoing.topic_alias = Some(alias);
        return true;
    }
    false
}
