//! The sending side of a client: messages with their handshakes, subscriptions, and retransmission
//! after a reconnection (MQTT 5 sections 4.3 and 4.4).

use core::num::NonZeroU16;

use martlet_codec::{
    Ack, AckKind, PacketId, Publish, PublishProperties, QoS, ReasonCode, RetainHandling, Subscribe,
    SubscribeFilter, SubscriptionOptions, TopicName, UserProperties,
};

use crate::agenda::SECOND;
use crate::client::{Client, NEVER, Outgoing, Request};
use crate::facts::{Fact, MessageIndex};
use crate::identifiers::{next_number, on_wire};
use crate::ledger::MessageRow;
use crate::topics::{Class, TopicIndex};
use crate::world::Io;

/// The payload of a message: its number, then bytes derived from it.
pub(crate) fn payload(message: MessageIndex, padding: u64) -> Vec<u8> {
    let mut bytes = message.to_be_bytes().to_vec();
    bytes.extend((0..padding).map(|place| pad(message, place)));
    bytes
}

/// The message of a payload; `None` if the payload is not one of this run, complete and unaltered.
pub(crate) fn message_of(payload: &[u8]) -> Option<MessageIndex> {
    let (number, padding) = payload.split_at_checked(4)?;
    let message = MessageIndex::from_be_bytes(number.try_into().ok()?);
    let whole = (0..)
        .zip(padding)
        .all(|(place, byte)| pad(message, place) == *byte);
    whole.then_some(message)
}

fn pad(message: MessageIndex, place: u64) -> u8 {
    (u64::from(message) * 31 + place * 7) as u8
}

impl Client {
    /// A new Packet Identifier.
    fn next_packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id % u16::MAX + 1;
            let id = self.last_packet_id;
            let taken = self.outgoing.iter().any(|under| under.packet_id == id)
                || self.requests.iter().any(|request| request.packet_id == id);
            if !taken {
                return id;
            }
        }
    }

    pub(super) fn publish_some(&mut self, io: &mut Io<'_>) {
        let now_us = io.now_us();
        let Some(plan) = self.plan.publishing.clone() else {
            self.times.publish = NEVER;
            return;
        };
        self.times.publish = now_us + self.random.around(plan.every_us);
        for _ in 0..self.random.between(1, plan.burst) {
            let topic = self.random.pick(&plan.topics);
            let qos = self.random.pick(&plan.qos);
            if qos > QoS::AtMostOnce && self.outgoing.len() >= self.send_maximum {
                return;
            }
            let retain = io.observer.ledger.topics.class(topic) == Class::Retained;
            let empty = retain && self.random.percent(plan.clear_percent);
            let expires = self.plan.version.is_v5() && self.random.percent(plan.expiry_percent);
            let expiry_secs = expires.then(|| self.random.between(1, 60) as u32);
            let row = MessageRow {
                publisher: self.index,
                topic,
                qos,
                retain,
                empty,
                will: false,
                sent_us: now_us,
                sends: 0,
                acked_us: 0,
                refused: false,
                rotten: false,
                expires_us: expiry_secs.map_or(NEVER, |secs| now_us + u64::from(secs) * SECOND),
            };
            let message = io.observer.ledger.new_message(row);
            let packet_id = match qos {
                QoS::AtMostOnce => 0,
                _ => self.next_packet_id(),
            };
            let padding = self.random.below(plan.payload_bytes + 1);
            self.send_publish(io, message, packet_id, false, padding, expiry_secs);
            if qos > QoS::AtMostOnce {
                self.outgoing.push_back(Outgoing {
                    packet_id,
                    message,
                    qos,
                    released: false,
                });
            }
        }
    }

    /// The Topic Alias of a topic, and whether the node has it already. Clients with short
    /// payloads use no aliases, so that both forms are tested.
    fn alias_for(&mut self, topic: TopicIndex) -> Option<(NonZeroU16, bool)> {
        let plan = self.plan.publishing.as_ref();
        if plan.is_none_or(|plan| plan.payload_bytes < 200) {
            return None;
        }
        let aliases = &mut self.aliases_given;
        let place = aliases.iter().position(|known| *known == topic);
        if place.is_none() {
            if aliases.len() >= self.alias_maximum {
                return None;
            }
            aliases.push(topic);
        }
        let number = place.unwrap_or(aliases.len() - 1) + 1;
        Some((NonZeroU16::new(number as u16)?, place.is_some()))
    }

    fn send_publish(
        &mut self,
        io: &mut Io<'_>,
        message: MessageIndex,
        packet_id: u16,
        again: bool,
        padding: u64,
        expiry_secs: Option<u32>,
    ) {
        let row = *io.observer.ledger.message(message);
        let bytes = match row.empty {
            true => Vec::new(),
            false => payload(message, padding),
        };
        let name = io.observer.ledger.topics.name(row.topic);
        let alias = self.alias_for(row.topic);
        let name = match alias {
            Some((_, true)) => None,
            _ => TopicName::new(name).ok(),
        };
        let packet = Publish {
            dup: again,
            qos: row.qos,
            retain: row.retain,
            topic: name,
            packet_id: PacketId::new(packet_id),
            properties: PublishProperties {
                topic_alias: alias.map(|(alias, _)| alias),
                message_expiry_secs: expiry_secs,
                ..PublishProperties::default()
            },
            payload: &bytes,
        };
        packet.encode(self.plan.version, &mut self.output);
        io.fact(Fact::Published {
            client: self.index,
            message,
            again,
        });
    }

    /// Continues a session: sends unacknowledged packets again, in order [MQTT-4.4.0-1].
    pub(super) fn send_again(&mut self, io: &mut Io<'_>) {
        for place in 0..self.outgoing.len() {
            let Outgoing {
                packet_id,
                message,
                released,
                ..
            } = self.outgoing[place];
            if released {
                self.send_ack(AckKind::PubRel, packet_id, ReasonCode::Success);
            } else {
                let expires_us = io.observer.ledger.message(message).expires_us;
                let left_us = expires_us.saturating_sub(io.now_us());
                let expiry_secs = (expires_us != NEVER).then_some((left_us / SECOND) as u32);
                self.send_publish(io, message, packet_id, true, 0, expiry_secs);
            }
        }
    }

    pub(super) fn send_ack(&mut self, kind: AckKind, packet_id: u16, reason: ReasonCode) {
        if let Some(packet_id) = PacketId::new(packet_id) {
            Ack::new(packet_id, reason).encode(kind, self.plan.version, &mut self.output);
        }
    }

    /// Subscribes to the planned filters that are not granted.
    pub(super) fn subscribe_missing(&mut self, io: &mut Io<'_>) {
        let requested = |place: &usize| {
            self.requests
                .iter()
                .any(|request| request.places.contains(place))
        };
        let missing = 0..self.plan.subscriptions.len();
        let missing: Vec<usize> = missing
            .filter(|place| !self.granted[*place] && !requested(place))
            .collect();
        let together = self.random.percent(50);
        if together && !missing.is_empty() {
            self.subscribe(io, missing);
        } else {
            for place in missing {
                self.subscribe(io, vec![place]);
            }
        }
    }

    fn subscribe(&mut self, io: &mut Io<'_>, places: Vec<usize>) {
        let packet_id = self.next_packet_id();
        let v5 = self.plan.version.is_v5();
        if self.plan.identifies {
            self.identifier = next_number(self.identifier);
        }
        let identifier = self.identifier;
        let topics = &io.observer.ledger.topics;
        let filters: Vec<SubscribeFilter<'_>> = places
            .iter()
            .map(|place| {
                let plan = &self.plan.subscriptions[*place];
                SubscribeFilter {
                    filter: topics.filter(plan.filter),
                    options: SubscriptionOptions {
                        qos: plan.qos,
                        no_local: plan.no_local && v5,
                        retain_as_published: plan.retain_as_published && v5,
                        retain_handling: RetainHandling::SendAtSubscribe,
                    },
                }
            })
            .collect();
        let id = PacketId::new(packet_id).unwrap_or(PacketId::MIN);
        Subscribe::encode_parts(
            self.plan.version,
            id,
            on_wire(identifier),
            UserProperties::default(),
            &filters,
            &mut self.output,
        );
        for place in &places {
            let plan = self.plan.subscriptions[*place];
            io.fact(Fact::Subscribing {
                client: self.index,
                filter: plan.filter,
                qos: plan.qos,
                no_local: plan.no_local && v5,
                retain_as_published: plan.retain_as_published && v5,
                identifier,
            });
        }
        self.requests.push(Request {
            packet_id,
            places,
            leaving: false,
        });
    }

    /// Unsubscribes from a filter, or subscribes to it again.
    pub(super) fn resubscribe(&mut self, io: &mut Io<'_>) {
        if self.plan.subscriptions.is_empty() || !self.requests.is_empty() {
            return;
        }
        let place = self.random.below(self.plan.subscriptions.len() as u64) as usize;
        if !self.granted[place] || self.random.percent(50) {
            return self.subscribe(io, vec![place]);
        }
        let packet_id = self.next_packet_id();
        let id = PacketId::new(packet_id).unwrap_or(PacketId::MIN);
        let filter = self.filter(place);
        martlet_codec::Unsubscribe::encode_parts(
            self.plan.version,
            id,
            UserProperties::default(),
            &[io.observer.ledger.topics.filter(filter)],
            &mut self.output,
        );
        io.fact(Fact::Unsubscribing {
            client: self.index,
            filter,
        });
        self.requests.push(Request {
            packet_id,
            places: vec![place],
            leaving: true,
        });
    }

    /// Sends due acknowledgements, in order.
    pub(super) fn send_answers(&mut self, io: &mut Io<'_>) {
        let now_us = io.now_us();
        while let Some((_, kind, packet_id, reason)) =
            self.answers.pop_front_if(|(due, ..)| *due <= now_us)
        {
            self.send_ack(kind, packet_id, reason);
            io.fact(Fact::Answered {
                client: self.index,
                kind,
                packet_id,
                refused: reason.is_error(),
            });
        }
    }
}
