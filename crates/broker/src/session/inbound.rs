//! The answers to PUBLISH and PUBREL packets of a client (MQTT 5 section 4.3). What is between both
//! is in `receipts`, and refusals are in `refused_publish`.

use std::sync::Arc;

use martlet_codec::{AckKind, PacketId, Publish, QoS, ReasonCode, TopicName};
use martlet_permission::{self, Limit, Refusal, Rules};

use crate::connected_client::SharedClient;
use crate::fault::{self, Fault};
use crate::id::{RecordNumber, SessionId, SubscriptionIds};
use crate::message::Publication;
use crate::node::{Cx, Node};
use crate::notify::observers::NOTIFY_PUBLISHED;
use crate::record::Record;
use crate::routing::{Origin, expires_at};
use crate::screening::Screened;
use crate::session::permit::Permit;
use crate::session::refused_publish::PublishAnswer;
use crate::shard::{PacketError, PlainAck, Shard};
use crate::subscribe::ANSWER_OVERHEAD;
use crate::work::BYTES_PER_UNIT;

impl Shard {
    /// A PUBLISH came from the client of the connection at `index`.
    /// Answered as its QoS asks [MQTT-3.3.4-1], QoS 1 with PUBACK once we own it [MQTT-4.3.2-4].
    pub(crate) fn publish_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        publish: &Publish<'_>,
    ) -> Result<(), PacketError> {
        self.counters.publishes_received += 1;
        self.counters.publish_bytes_received += publish.payload.len() as u64;
        self.work
            .add((publish.payload.len() / BYTES_PER_UNIT) as u64);
        if let Err(error) = self.check_publish_allowed(index, publish) {
            return Err(self.publish_exceeds(cx, index, publish.topic, error));
        }
        // The name must outlive changes to the alias table, so an alias' topic is shared.
        let aliased = self.resolve_alias(index, publish)?;
        let topic = match (&aliased, publish.topic) {
            (Some(topic), _) => topic,
            (None, Some(topic)) => topic.as_str(),
            // The decoder has refused an empty Topic Name without a Topic Alias.
            (None, None) => {
                return Err(PacketError::protocol(
                    "PUBLISH without topic",
                    "MQTT-3.3.2-8",
                ));
            }
        };
        if (aliased.is_none() || publish.topic.is_some())
            && !self.router.cache.last_is_within_limits(topic)
            && let Err(error) = self.check_topic(topic)
        {
            return Err(self.publish_exceeds(cx, index, publish.topic, error));
        }
        let Some(session) = self.connections.at(index).session() else {
            return Ok(());
        };
        match (publish.qos, publish.packet_id) {
            (QoS::AtMostOnce, _) => {
                self.accept_publish(cx, index, session, topic, publish, None)?;
            }
            (QoS::AtLeastOnce, Some(packet_id)) => {
                let receipts = self.sessions.at(session).receipts.receipt_count();
                self.check_receive_maximum(index, receipts)?;
                let answer = self.accept_publish(cx, index, session, topic, publish, None)?;
                self.acknowledge(cx, index, AckKind::PubAck, packet_id, answer);
            }
            (QoS::ExactlyOnce, Some(packet_id)) => {
                self.publish_qos2(cx, index, session, topic, publish, packet_id)?;
            }
            (_, None) => {
                return Err(PacketError::malformed(
                    "Packet Identifier missing",
                    "MQTT-2.2.1-2",
                ));
            }
        }
        Ok(())
    }

    /// QoS 2, method A: the message is routed at its first PUBLISH; its identifier is remembered
    /// until PUBREL, and each further PUBLISH under it only answered again [MQTT-4.3.3-10].
    fn publish_qos2<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        session: u32,
        topic: &str,
        publish: &Publish<'_>,
        packet_id: PacketId,
    ) -> Result<(), PacketError> {
        let receipts = &mut self.sessions.at(session).receipts;
        if let Some(record) = receipts.receipt(packet_id)
            && !fault::is(Fault::ReceiptForgotten)
        {
            // Answers that wait for the store are bounded, those to repetitions too.
            self.check_receive_maximum(index, 0)?;
            let answer = PublishAnswer {
                reason: ReasonCode::Success,
                record,
            };
            self.acknowledge(cx, index, AckKind::PubRec, packet_id, answer);
            return Ok(());
        }
        let receipts = self.sessions.at(session).receipts.receipt_count();
        self.check_receive_maximum(index, receipts)?;
        let answer = self.accept_publish(cx, index, session, topic, publish, Some(packet_id))?;
        if !answer.reason.is_error() {
            let receipts = &mut self.sessions.at(session).receipts;
            receipts.insert_receipt(packet_id, answer.record, &self.memory.gauge);
        }
        self.acknowledge(cx, index, AckKind::PubRec, packet_id, answer);
        Ok(())
    }

    /// PUBREL: the identifier is free again [MQTT-4.3.3-11].
    /// The next PUBLISH under it is a new message [MQTT-4.3.3-12].
    pub(crate) fn pubrel_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        id: SessionId,
        packet_id: PacketId,
    ) {
        let session = self.sessions.at(id.index);
        let was_held = session.receipts.release(packet_id);
        let mut record = session.receipts.released();
        if was_held && session.durable && !fault::is(Fault::ReleaseNotRecorded) {
            let epoch = session.epoch;
            record = self.append(cx, Record::Released { epoch, packet_id });
            let receipts = &mut self.sessions.at(id.index).receipts;
            receipts.set_released(record);
        }
        let reason = if was_held {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        let early = fault::is(Fault::PubCompBeforeRecord);
        let record = if early { RecordNumber(0) } else { record };
        self.answer_ack(cx, index, AckKind::PubComp, packet_id, reason, record);
    }

    /// Permission, retained store, routing; answers the reason code and the record to wait for.
    pub(crate) fn accept_publish<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        session: u32,
        topic: &str,
        publish: &Publish<'_>,
        qos2: Option<PacketId>,
    ) -> Result<PublishAnswer, PacketError> {
        if self.settings.limits.is_payload_too_long(publish.payload) {
            self.counters.publishes_refused += 1;
            let reason = ReasonCode::ImplementationSpecificError;
            self.notify_publish_beyond(cx, session, topic, reason, Limit::PayloadBytes);
            return Ok(self.refused(index, reason));
        }
        if (!martlet_permission::may_publish(topic) || !self.may_publish(session, topic))
            && let Some(answer) = self.publish_not_permitted(cx, index, session, topic, publish)?
        {
            return Ok(answer);
        }
        // An empty one takes a retained message away, which makes room.
        let needs_memory =
            publish.qos > QoS::AtMostOnce && !(publish.retain && publish.payload.is_empty());
        if needs_memory && self.memory.is_spent() {
            self.counters.publishes_refused += 1;
            return match self.connections.at(index).version.is_v5() {
                true => {
                    let reason = ReasonCode::QuotaExceeded;
                    self.notify_publish_beyond(cx, session, topic, reason, Limit::Memory);
                    Ok(PublishAnswer {
                        reason: ReasonCode::QuotaExceeded,
                        record: RecordNumber(0),
                    })
                }
                false => Err(PacketError::of(ReasonCode::QuotaExceeded, Limit::Memory)),
            };
        }
        let mut forwarded = core::mem::take(&mut self.buffers.forwarded);
        forwarded.clear();
        let properties = &publish.properties;
        let forwarded_bytes = if properties.raw_is_forwardable {
            properties.raw
        } else {
            properties.encode_forwarded(&mut forwarded);
            &forwarded
        };
        self.note_activity(cx, session);
        let state = self.sessions.at(session);
        let receipt = qos2.filter(|_| state.durable).map(|id| (state.epoch, id));
        let publication = Publication {
            id: self.next_message_id(),
            tenant: self.sessions.at(session).tenant,
            publisher: Some(self.address_of(session)),
            topic,
            forwarded: forwarded_bytes,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            received_wall_ms: cx.now.wall_ms,
            expires_at_ms: expires_at(cx.now.mono_ms, properties.message_expiry_secs),
            received_mono_ms: cx.now.mono_ms,
            hops: 0,
            is_will: false,
        };
        let answer = self.route_accepted(cx, index, publication, receipt);
        self.buffers.forwarded = forwarded;
        answer
    }

    /// A message that the client's rules do not permit, or that is screened: its answer, or none if
    /// the client may publish it.
    #[cold]
    #[inline(never)] // It must not keep values for the usual message.
    fn publish_not_permitted<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        session: u32,
        topic: &str,
        publish: &Publish<'_>,
    ) -> Result<Option<PublishAnswer>, PacketError> {
        let permit = self.sessions.at(session).permit.as_ref();
        let is_screened = permit.is_some_and(|permit| permit.identity.screens.any());
        let screened = match is_screened {
            true => self.take_screened(index).unwrap_or(Screened::OfClient),
            false => Screened::OfClient,
        };
        Ok(Some(match screened {
            Screened::OfClient if is_screened && self.may_publish_own(session, topic) => {
                return Ok(None);
            }
            Screened::OfClient => {
                self.counters.publishes_refused += 1;
                self.notify_publish_forbidden(cx, session, topic);
                self.refused(index, ReasonCode::NotAuthorized)
            }
            Screened::Refused { reason, why } => {
                self.refuse_screened(cx, index, session, topic, reason, why)
            }
            Screened::Answered {
                topic: answered_on,
                payload,
                refused,
            } => {
                self.send_screening_answer(cx, session, &answered_on, &payload, publish.qos);
                match refused {
                    None => PublishAnswer::accepted(),
                    Some((reason, why)) => {
                        self.refuse_screened(cx, index, session, topic, reason, why)
                    }
                }
            }
            Screened::OfDevice {
                identity,
                last_revocation,
                payload,
            } => {
                let publish = Publish {
                    payload: &payload,
                    ..*publish
                };
                let permit = Box::new(Permit::new(*identity, last_revocation));
                self.publish_of_device(cx, index, session, topic, &publish, permit)?
            }
        }))
    }

    /// A PUBLISH beyond a limit ends its connection. Its topic is reported before that.
    #[cold]
    fn publish_exceeds<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        topic: Option<TopicName<'_>>,
        error: PacketError,
    ) -> PacketError {
        if let (Some(limit), Some(topic)) = (error.limit(), topic)
            && let Some(session) = self.connections.at(index).session()
        {
            self.counters.publishes_refused += 1;
            self.notify_publish_beyond(cx, session, topic.as_str(), error.reason, limit);
        }
        error
    }

    fn route_accepted<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        publication: Publication<'_>,
        receipt: Option<(crate::id::SessionEpoch, PacketId)>,
    ) -> Result<PublishAnswer, PacketError> {
        let v5 = self.connections.at(index).version.is_v5();
        let origin = Origin {
            receipt,
            refusable: v5,
            ..Origin::default()
        };
        let routed = self.route(cx, publication, origin);
        if let Some(limit) = routed.retained_full {
            let (topic, reason) = (publication.topic, ReasonCode::QuotaExceeded);
            if let Some(session) = self.connections.at(index).session() {
                self.notify_publish_beyond(cx, session, topic, reason, limit);
            }
            if v5 && publication.qos == QoS::AtMostOnce {
                return Err(PacketError::of(reason, limit));
            }
            if v5 {
                return Ok(self.refused(index, reason));
            }
        }
        if self.observers.wants.any(NOTIFY_PUBLISHED)
            && let Some(session) = self.connections.at(index).session()
        {
            self.notify_published(cx, session, &publication, routed.matched);
        }
        let nobody = !routed.matched && publication.qos > QoS::AtMostOnce;
        let reason = if nobody {
            ReasonCode::NoMatchingSubscribers
        } else {
            ReasonCode::Success
        };
        Ok(PublishAnswer {
            reason,
            record: routed.record,
        })
    }

    fn acknowledge<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        kind: AckKind,
        packet_id: PacketId,
        answer: PublishAnswer,
    ) {
        let early = fault::is(Fault::AckBeforeSync);
        let record = if early {
            RecordNumber(0)
        } else {
            answer.record
        };
        self.answer_ack(cx, index, kind, packet_id, answer.reason, record);
    }

    /// Sends PUBACK, PUBREC, PUBREL or PUBCOMP once `record` is durable.
    /// With the Packet Identifier of its PUBLISH [MQTT-2.2.1-5]; after an error it is free
    /// [MQTT-4.3.3-9].
    pub(crate) fn answer_ack<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        kind: AckKind,
        packet_id: PacketId,
        reason: ReasonCode,
        record: RecordNumber,
    ) {
        if reason == ReasonCode::Success && self.sends_short_ack(cx, index, kind, packet_id, record)
        {
            return;
        }
        let explained = match reason.is_error() {
            true => self.explanation(index, reason),
            false => None,
        };
        let ack = PlainAck {
            kind,
            packet_id,
            reason,
        };
        self.send_ack(cx, index, ack, explained, record);
    }

    /// The Reason String of an acknowledgement that says an error, if it may have one.
    fn explanation(&mut self, index: u32, reason: ReasonCode) -> Option<&'static str> {
        if !self.connections.at(index).version.is_v5() {
            return None;
        }
        let name = reason.name();
        let may = self.may_explain(index, name.len() + ANSWER_OVERHEAD);
        may.then_some(name)
    }

    /// A Reason String may be sent: the client wants problem information [MQTT-3.1.2-29] and takes
    /// a packet of `bytes` [MQTT-3.4.2-2], [MQTT-3.5.2-2], [MQTT-3.6.2-2], [MQTT-3.7.2-2]. User
    /// Properties are never sent [MQTT-3.4.2-3], [MQTT-3.5.2-3], [MQTT-3.6.2-3], [MQTT-3.7.2-3].
    pub(crate) fn may_explain(&mut self, index: u32, bytes: usize) -> bool {
        let connection = self.connections.at(index);
        connection.version.is_v5()
            && connection.flags.problem_information()
            && bytes <= connection.packet_bytes_max as usize
    }

    /// Checks for what the listener does not permit, and for what only a server may send.
    #[inline(always)] // As above: measured by `cargo instructions`.
    pub(crate) fn check_publish_allowed(
        &mut self,
        index: u32,
        publish: &Publish<'_>,
    ) -> Result<(), PacketError> {
        let connection = self.connections.at(index);
        let listener = connection.listener();
        if publish.qos > listener.maximum_qos {
            // [MQTT-3.2.2-11]
            return Err(PacketError::of(
                ReasonCode::QoSNotSupported,
                Limit::MaximumQos,
            ));
        }
        if publish.retain && !listener.retain_available {
            // [MQTT-3.2.2-14]
            return Err(PacketError::of(
                ReasonCode::RetainNotSupported,
                Limit::RetainAvailable,
            ));
        }
        if !connection.version.is_v5() || publish.properties.raw.is_empty() {
            return Ok(());
        }
        if !publish.properties.subscription_ids.is_empty() {
            return Err(PacketError::protocol(
                "Subscription Identifier",
                "MQTT-3.3.4-6",
            ));
        }
        self.check_user_properties(publish.properties.user_properties)
    }

    /// The topic that an alias stands for, learning it when both are there. None where no alias is
    /// used.
    /// Aliases up to the announced maximum are accepted [MQTT-3.3.2-12].
    #[inline(always)] // Else its second caller, which is rare, costs each message 20 instructions.
    pub(crate) fn resolve_alias(
        &mut self,
        index: u32,
        publish: &Publish<'_>,
    ) -> Result<Option<Arc<str>>, PacketError> {
        let Some(alias) = publish.properties.topic_alias else {
            return Ok(None);
        };
        let limits = &self.settings.limits;
        if alias.get() > limits.topic_alias_maximum {
            // [MQTT-3.3.2-9], [MQTT-3.2.2-18]
            return Err(PacketError::of(
                ReasonCode::TopicAliasInvalid,
                Limit::TopicAliasMaximum,
            ));
        }
        let bytes_max = limits.topic_alias_bytes as usize;
        let place = usize::from(alias.get()) - 1;
        let seed = self.seed.clone();
        let connection = self.connections.at(index);
        let Some(topic) = publish.topic else {
            let topic = connection.topic_of_alias(publish);
            return topic.map(Some).ok_or(PacketError::protocol(
                "Topic Alias not set before",
                "MQTT-3.3.2-7",
            ));
        };
        let aliases = connection.make_aliases(&seed);
        if aliases.inbound.len() <= place {
            aliases.inbound.resize(place + 1, None);
        }
        let replaced = aliases.inbound[place].as_ref().map_or(0, |old| old.len());
        aliases.inbound_bytes = aliases.inbound_bytes - replaced + topic.as_str().len();
        if aliases.inbound_bytes > bytes_max {
            return Err(PacketError::of(
                ReasonCode::QuotaExceeded,
                Limit::TopicAliasBytes,
            ));
        }
        let shared: Arc<str> = topic.as_str().into();
        aliases.inbound[place] = Some(shared.clone());
        Ok(Some(shared))
    }

    /// A client may not have more under way than it was told [MQTT-3.3.4-7], [MQTT-3.3.4-9]. v3
    /// clients cannot get it: those that never release QoS 2 messages are closed. `receipts` are
    /// its QoS 2 messages not yet released.
    fn check_receive_maximum(&mut self, index: u32, receipts: usize) -> Result<(), PacketError> {
        let connection = self.connections.at(index);
        let maximum = usize::from(self.settings.limits.receive_maximum);
        if receipts.max(usize::from(connection.publishes_gated)) >= maximum {
            return Err(PacketError::of(
                ReasonCode::ReceiveMaximumExceeded,
                Limit::ReceiveMaximum,
            ));
        }
        Ok(())
    }

    fn refuse_screened<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        session: u32,
        topic: &str,
        reason: ReasonCode,
        why: Refusal,
    ) -> PublishAnswer {
        self.counters.publishes_refused += 1;
        self.notify_publish_refused(cx, session, topic, reason, why);
        self.refused(index, reason)
    }

    /// A message that has shown the key of a device: it is routed as the device's.
    fn publish_of_device<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        session: u32,
        topic: &str,
        publish: &Publish<'_>,
        permit: Box<Permit>,
    ) -> Result<PublishAnswer, PacketError> {
        let tenant = self.sessions.at(session).tenant;
        if let Some(why) = self.why_not_of_device(tenant, topic, &permit) {
            let reason = ReasonCode::NotAuthorized;
            return Ok(self.refuse_screened(cx, index, session, topic, reason, why));
        }
        // For this message the client is the device: to rules, subscribers, events and sinks.
        let client = SharedClient::clone(self.connections.at(index).client());
        let name = permit.identity.user_name.clone();
        let gauge = Arc::clone(&self.memory.clients);
        let changed = self.connections.at(index).client_mut();
        changed.set_names(Arc::clone(&client.client_id), name, &gauge);
        changed.flags.set_user_is_proved(true);
        changed.flags.set_is_device(true);
        let mut permit = self.permits.in_force(permit);
        // Its rules were asked above, by the name of the device: the session has another one.
        permit.identity.rules = Arc::new(Rules::open());
        let own = self.sessions.set_permit(session, Some(permit));
        let qos2 = publish
            .packet_id
            .filter(|_| publish.qos == QoS::ExactlyOnce);
        let answer = self.accept_publish(cx, index, session, topic, publish, qos2);
        self.sessions.set_permit(session, own);
        *self.connections.at(index).client_mut() = (*client).clone();
        answer
    }

    /// Sends a message only to the client of a session: at the QoS of its subscription, or at QoS
    /// 0.
    fn send_screening_answer<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        topic: &str,
        payload: &[u8],
        qos: QoS,
    ) {
        // A session that is recorded would take the message into the store.
        let granted = match self.sessions.at(session).durable {
            true => QoS::AtMostOnce,
            false => self.qos_of_subscription(session, topic),
        };
        let publication = Publication {
            id: self.next_message_id(),
            tenant: self.sessions.at(session).tenant,
            publisher: None,
            topic,
            forwarded: &[],
            payload,
            qos,
            retain: false,
            received_wall_ms: cx.now.wall_ms,
            expires_at_ms: u64::MAX,
            received_mono_ms: cx.now.mono_ms,
            hops: 0,
            is_will: false,
        };
        let mut routing = self.buffers.begin_routing(publication, None);
        let qos = granted.min(qos);
        self.deliver(
            cx,
            session,
            &mut routing,
            qos,
            false,
            SubscriptionIds::new(),
        );
        self.buffers.end_routing(routing);
    }
}
