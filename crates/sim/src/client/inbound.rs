//! The receiving side of a client: decodes packets, acts on them and reports facts.

use martlet_codec::{Ack, AckKind, ConnAck, Packet, Publish, QoS, ReasonCode, decode_packet};

use crate::agenda::SECOND;
use crate::client::outbound::message_of;
use crate::client::{Client, NEVER, Phase, SEND_MAXIMUM, Trouble};
use crate::facts::{Fact, Loss};
use crate::identifiers::Identifiers;
use crate::store::Lsn;
use crate::topics::TopicIndex;
use crate::world::Io;

impl Client {
    /// Handles bytes of its current connection; `durable`: the last durable record when the node
    /// sent them.
    pub fn receive(&mut self, io: &mut Io<'_>, bytes: &[u8], durable: Lsn) {
        self.heard_us = io.now_us();
        let mut buffer = core::mem::take(&mut self.buffer);
        buffer.extend_from_slice(bytes);
        let mut start = 0;
        while start < buffer.len() && self.phase != Phase::Away {
            match decode_packet(&buffer[start..], self.plan.version) {
                Ok(Some((packet, length))) => {
                    let row = &mut io.observer.ledger.clients[usize::from(self.index)];
                    row.packet_at = self.taken;
                    self.taken += length as u64;
                    self.receive_packet(io, &packet, durable);
                    start += length;
                }
                Ok(None) => break,
                Err(error) => {
                    let what = format!("{} got a malformed packet: {error}", self.plan.name);
                    io.observer.complain("well-formed packets", what);
                    return;
                }
            }
        }
        buffer.drain(..start);
        if self.phase != Phase::Away {
            self.buffer = buffer;
        }
        self.flush(io);
        self.reschedule(io);
    }

    fn receive_packet(&mut self, io: &mut Io<'_>, packet: &Packet<'_>, durable: Lsn) {
        let accepted = matches!(packet, Packet::ConnAck(_));
        if accepted != (self.phase == Phase::Connecting) {
            let what = format!("{} got {packet:?} while {:?}", self.plan.name, self.phase);
            return io.observer.complain("CONNACK first and once", what);
        }
        match packet {
            Packet::ConnAck(connack) => self.receive_connack(io, connack, durable),
            Packet::Publish(publish) => self.receive_publish(io, publish, durable),
            Packet::PubAck(ack) => self.receive_acknowledgement(io, ack, QoS::AtLeastOnce, durable),
            Packet::PubRec(ack) => self.receive_acknowledgement(io, ack, QoS::ExactlyOnce, durable),
            Packet::PubComp(ack) => self.receive_pubcomp(io, ack, durable),
            Packet::PubRel(ack) => {
                let packet_id = ack.packet_id.get();
                self.receipts.remove(&packet_id);
                io.fact(Fact::Released {
                    client: self.index,
                    packet_id,
                    durable,
                });
                self.answer(io, AckKind::PubComp, packet_id, ReasonCode::Success);
            }
            Packet::SubAck(ack) => {
                self.receive_answer(io, ack.packet_id.get(), ack.reason_codes, durable);
            }
            Packet::UnsubAck(ack) => {
                self.receive_answer(io, ack.packet_id.get(), ack.reason_codes, durable);
            }
            Packet::PingResp => self.times.deadline = NEVER,
            Packet::Disconnect(disconnect) => {
                io.network.close_up(io.agenda, self.link, true);
                self.lose(io, Loss::ByDisconnect(disconnect.reason.code()));
            }
            _ => {
                let what = format!("{} got {packet:?}", self.plan.name);
                io.observer.complain("a server's packets only", what);
            }
        }
    }

    fn receive_connack(&mut self, io: &mut Io<'_>, connack: &ConnAck<'_>, durable: Lsn) {
        let now_us = io.now_us();
        if connack.reason.is_error() {
            io.fact(Fact::Refused {
                client: self.index,
                reason: connack.reason.code(),
            });
            io.network.close_up(io.agenda, self.link, true);
            return self.lose(io, Loss::Ended);
        }
        self.phase = Phase::Online;
        self.times.deadline = NEVER;
        self.forgets = false;
        self.unanswered = false;
        let keep_alive_us = u64::from(self.plan.keep_alive_secs) * SECOND;
        self.times.ping = now_us + keep_alive_us * 8 / 10;
        if let Some(plan) = self.plan.publishing.as_ref().filter(|_| !self.settling) {
            self.times.publish = now_us + self.random.around(plan.every_us);
        }
        let maximum = connack.properties.topic_alias_maximum;
        self.alias_maximum = maximum.map_or(0, usize::from);
        let maximum = connack.properties.receive_maximum;
        self.send_maximum = maximum.map_or(SEND_MAXIMUM, |maximum| usize::from(maximum.get()));
        // A session may end while its client is far behind, and the CONNACK that reports it may
        // get lost. Then Session Present refers to a session that began with that CONNACK: the
        // client's state is of an older one. MQTT cannot show this; here the client acts as if it
        // had been reported.
        let session = io.observer.session_of(&self.plan.name);
        let known = core::mem::replace(&mut self.session, session);
        let is_other = known.is_some() && session.is_some() && known != session;
        if connack.session_present && is_other && io.observer.ledger.people.is_some() {
            // An old session of its user, perhaps in its previous tenant.
            io.network.close_up(io.agenda, self.link, true);
            self.lose(io, Loss::Crash);
            self.forgets = true;
            return self.forget();
        }
        let present = connack.session_present && !is_other;
        io.fact(Fact::Connected {
            client: self.index,
            present,
            resumed: connack.session_present,
            durable,
        });
        if present {
            self.send_again(io);
        } else {
            self.forget();
        }
        self.subscribe_missing(io);
    }

    fn receive_publish(&mut self, io: &mut Io<'_>, publish: &Publish<'_>, durable: Lsn) {
        let Some(topic) = self.topic_of(io, publish) else {
            let what = format!("{} got an unknown topic: {publish:?}", self.plan.name);
            return io.observer.complain("genuine messages", what);
        };
        let message = message_of(publish.payload);
        let known = io.observer.ledger.messages.len();
        let is_known = message.is_some_and(|message| (message as usize) < known);
        if !is_known && !publish.payload.is_empty() {
            let what = format!("{} got a payload of nobody", self.plan.name);
            return io.observer.complain("genuine messages", what);
        }
        let identifiers = publish.properties.subscription_ids.iter();
        let Some(identifiers) = Identifiers::from_wire(identifiers) else {
            let what = format!("{} got an unknown identifier: {publish:?}", self.plan.name);
            return io.observer.complain("Subscription Identifiers", what);
        };
        let packet_id = publish.packet_id.map_or(0, |id| id.get());
        let exactly_once = publish.qos == QoS::ExactlyOnce;
        // After a refusal another message with its Packet Identifier is new [MQTT-4.3.3-9],
        // whatever its DUP.
        if let Some(refused) = self.refused.get(&packet_id)
            && (!publish.dup || *refused != message)
        {
            self.refused.remove(&packet_id);
            self.receipts.remove(&packet_id);
        }
        let known = exactly_once && self.receipts.contains(&packet_id);
        io.fact(Fact::Arrived {
            client: self.index,
            message,
            topic,
            qos: publish.qos,
            dup: publish.dup,
            retain: publish.retain,
            packet_id,
            identifiers,
            known,
            durable,
        });
        let refused = !known && self.random.percent(self.plan.refuse_percent);
        let reason = match refused && self.plan.version.is_v5() {
            true => ReasonCode::ImplementationSpecificError,
            false => ReasonCode::Success,
        };
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.answer(io, AckKind::PubAck, packet_id, reason),
            QoS::ExactlyOnce => {
                self.receipts.insert(packet_id);
                if reason.is_error() {
                    self.refused.insert(packet_id, message);
                }
                self.answer(io, AckKind::PubRec, packet_id, reason);
            }
        }
    }

    fn topic_of(&mut self, io: &Io<'_>, publish: &Publish<'_>) -> Option<TopicIndex> {
        let named = publish
            .topic
            .and_then(|topic| io.observer.ledger.topics.find(topic.as_str()));
        let Some(alias) = publish.properties.topic_alias else {
            return named;
        };
        let place = usize::from(alias.get());
        if self.aliases.len() <= place {
            self.aliases.resize(place + 1, None);
        }
        if named.is_some() {
            self.aliases[place] = named;
        }
        self.aliases[place]
    }

    fn receive_acknowledgement(&mut self, io: &mut Io<'_>, ack: &Ack<'_>, qos: QoS, durable: Lsn) {
        let packet_id = ack.packet_id.get();
        let under_way = self
            .outgoing
            .iter()
            .position(|under| under.packet_id == packet_id);
        let Some(place) = under_way else {
            let what = format!("{} got an answer to nothing: {ack:?}", self.plan.name);
            return io.observer.complain("answers to questions", what);
        };
        let found = &mut self.outgoing[place];
        if found.qos != qos {
            let what = format!("{} got the wrong answer: {ack:?}", self.plan.name);
            return io.observer.complain("answers to questions", what);
        }
        let message = found.message;
        let refused = ack.reason.is_error();
        let again = core::mem::replace(&mut found.released, true);
        if !again {
            io.fact(Fact::Acknowledged {
                client: self.index,
                message,
                refused,
                durable,
            });
        }
        if qos == QoS::AtLeastOnce || refused {
            self.outgoing.remove(place);
        } else {
            self.send_ack(AckKind::PubRel, packet_id, ReasonCode::Success);
        }
    }

    fn receive_pubcomp(&mut self, io: &mut Io<'_>, ack: &Ack<'_>, durable: Lsn) {
        let packet_id = ack.packet_id.get();
        let under_way = self
            .outgoing
            .iter()
            .position(|under| under.packet_id == packet_id && under.released);
        if let Some(found) = under_way.and_then(|place| self.outgoing.remove(place)) {
            io.fact(Fact::Completed {
                client: self.index,
                packet_id,
                message: found.message,
                durable,
            });
        }
    }

    /// Handles SUBACK or UNSUBACK.
    fn receive_answer(&mut self, io: &mut Io<'_>, packet_id: u16, codes: &[u8], durable: Lsn) {
        let requested = self
            .requests
            .iter()
            .position(|request| request.packet_id == packet_id);
        let Some(place) = requested else {
            let what = format!("{} got an answer to no request", self.plan.name);
            return io.observer.complain("answers to questions", what);
        };
        let request = self.requests.remove(place);
        for (number, place) in request.places.iter().enumerate() {
            let filter = self.filter(*place);
            let client = self.index;
            if request.leaving {
                self.granted[*place] = false;
                io.fact(Fact::Unsubscribed { client, filter });
                if self.settling {
                    self.subscribe_missing(io);
                }
                continue;
            }
            let granted = codes.get(number).is_some_and(|code| *code < 0x80);
            self.granted[*place] = granted;
            io.fact(Fact::Subscribed {
                client,
                filter,
                granted,
                durable,
            });
            if self.settling && !granted {
                // It was refused before all permissions were granted.
                self.subscribe_missing(io);
            }
        }
    }

    /// Acknowledges, at once or after a delay, but never before earlier acknowledgements.
    fn answer(&mut self, io: &mut Io<'_>, kind: AckKind, packet_id: u16, reason: ReasonCode) {
        let delay_us = self.random.below(self.plan.answer_us + 1);
        let earliest = self.answers.back().map_or(0, |(due, ..)| *due);
        let due = earliest.max(io.now_us() + delay_us);
        self.answers.push_back((due, kind, packet_id, reason));
        self.send_answers(io);
    }

    /// Returns the kinds of trouble.
    pub fn troubles(&self) -> &[Trouble] {
        &self.plan.troubles
    }
}
