//! The answers to PUBLISH and PUBREL packets of a client (MQTT 5 section 4.3). What is between both
//! is in `receipts.rs`.

use std::net::IpAddr;
use std::sync::Arc;

use martlet_codec::{
    AckKind, PacketId, Publish, QoS, ReasonCode, TopicName, is_plain, level_count,
};
use martlet_permission::{self, Actions, Limit, Refusal, RefusalCause};

use crate::connected_client::UserName;
use crate::event::Event;
use crate::event_head::EventHead;
use crate::event_interest::Wants;
use crate::fault::{self, Fault};
use crate::id::{RecordNumber, SessionId};
use crate::message::{Message, Publication};
use crate::node::{Cx, Node};
use crate::notify::observers::NOTIFY_PUBLISHED;
use crate::record::Record;
use crate::retained::RetainedChange;
use crate::routing::{Origin, expires_at};
use crate::shard::{PacketError, PlainAck, Shard};
use crate::shortened::shortened;
use crate::subscribe::ANSWER_OVERHEAD;
use crate::work::{BYTES_PER_UNIT, RETAINED_CHANGE};

/// How a PUBLISH is answered.
pub(crate) struct PublishAnswer {
    reason: ReasonCode,
    record: RecordNumber,
}

impl PublishAnswer {
    /// Creates the answer to a PUBLISH that was taken and is not recorded.
    pub(crate) fn accepted() -> Self {
        Self {
            reason: ReasonCode::Success,
            record: RecordNumber(0),
        }
    }
}

/// Kind of a message whose client's rules do not permit it, or whose rules were not asked.
pub(crate) enum ScreenedPublish {
    /// The message is the client's own, and the client may publish it.
    Permitted,
    /// The message is the client's own, and the client may not publish it.
    Forbidden,
    /// The message was dealt with: this is its answer.
    Done(PublishAnswer),
}

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
        (index, id): (u32, SessionId),
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
            && let Some(answer) =
                self.publish_not_permitted(cx, (index, session), topic, publish, qos2)?
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
        (index, session): (u32, u32),
        topic: &str,
        publish: &Publish<'_>,
        qos2: Option<PacketId>,
    ) -> Result<Option<PublishAnswer>, PacketError> {
        match self.screened_publish(cx, (index, session), topic, publish, qos2)? {
            ScreenedPublish::Permitted => Ok(None),
            ScreenedPublish::Done(answer) => Ok(Some(answer)),
            ScreenedPublish::Forbidden => {
                self.counters.publishes_refused += 1;
                self.notify_publish_forbidden(cx, session, topic);
                Ok(Some(self.refused(index, ReasonCode::NotAuthorized)))
            }
        }
    }

    /// Whether a message of this Packet Identifier is between PUBLISH and PUBREL.
    pub(crate) fn has_receipt(&mut self, session: u32, packet_id: PacketId) -> bool {
        let receipts = &self.sessions.at(session).receipts;
        receipts.receipt(packet_id).is_some()
    }

    /// Where the client of a session is, if it is connected.
    pub(crate) fn peer_of(&mut self, session: u32) -> Option<(IpAddr, u16)> {
        let connection = self.sessions.at(session).connection()?;
        self.connections.at(connection).address()
    }

    /// Head of an event about the client of this session.
    pub(crate) fn head_of(&mut self, session: u32) -> EventHead {
        let session = self.sessions.at(session);
        EventHead::new(session.tenant, Arc::clone(&session.client_id))
    }

    /// Head of an event about the client of this session, with its user.
    pub(crate) fn head_with_user(&mut self, session: u32) -> EventHead {
        let user = self.user_of(session);
        self.head_of(session).with_user(user)
    }

    /// The user of a session: the name that its client has proved, or, where no proof is asked for,
    /// the one that it gives while it is connected.
    pub(crate) fn user_of(&mut self, session: u32) -> Option<UserName> {
        let session = self.sessions.at(session);
        if let Some(permit) = &session.permit {
            return permit.identity.user_name.clone().map(UserName::Proved);
        }
        let connection = session.connection()?;
        let claimed = self.connections.at(connection).user_name().cloned();
        claimed.map(UserName::Claimed)
    }

    pub(crate) fn notify_publish_forbidden<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        topic: &str,
    ) {
        self.notify_not_permitted(cx, session, topic, |why| why);
    }

    /// Notifies observers, likewise, of a Will that was due.
    pub(crate) fn notify_will_forbidden<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        topic: &str,
    ) {
        self.notify_not_permitted(cx, session, topic, |why| {
            let cause = match why.cause {
                RefusalCause::ServerTopic | RefusalCause::SharedFilter => {
                    RefusalCause::WillOnServerTopic
                }
                _ => RefusalCause::WillForbidden,
            };
            Refusal::operators_only(cause, format!("it was its Will: {}", why.detail()))
        });
    }

    fn notify_not_permitted<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        topic: &str,
        worded: impl FnOnce(Refusal) -> Refusal,
    ) {
        if self.is_observed(session, Wants::CONNECTIONS) {
            let why = worded(self.why_not_published(session, topic));
            self.notify_publish_refused(cx, session, topic, ReasonCode::NotAuthorized, why);
        }
    }

    fn why_not_published(&mut self, session: u32, topic: &str) -> Refusal {
        match martlet_permission::may_publish(topic) {
            false => martlet_permission::why_own(topic).into(),
            true => self.why_not(session, Actions::PUBLISH, topic),
        }
    }

    pub(crate) fn notify_publish_refused<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        topic: &str,
        reason: ReasonCode,
        why: Refusal,
    ) {
        if self.is_observed(session, Wants::CONNECTIONS) {
            let address = self.peer_of(session);
            cx.effects.notify(
                self.head_with_user(session).with_address(address),
                Event::PublishRefused {
                    topic: shortened(topic).into_owned(),
                    reason,
                    why,
                },
            );
        }
    }

    /// Notifies observers, likewise, for a limit of the client's listener or of the node.
    fn notify_publish_beyond<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        topic: &str,
        reason: ReasonCode,
        limit: Limit,
    ) {
        let connection = self.sessions.at(session).connection();
        let why = match connection {
            Some(index) => self.refusal(index, limit.into()),
            None => self.reached(limit, None).refusal(),
        };
        self.notify_publish_refused(cx, session, topic, reason, why);
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

    /// Replaces or clears the topic's retained message.
    /// Only for RETAIN 1 [MQTT-3.3.1-8]. What is retained belongs to no session
    /// [MQTT-3.1.1/3.1.2-7], [MQTT-3.1.1/3.3.1-7].
    pub(crate) fn retain<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        publication: &Publication<'_>,
        message: &mut Option<Message>,
    ) -> RetainedChange {
        self.work.add(RETAINED_CHANGE);
        if publication.payload.is_empty() {
            let (tenant, topic) = (publication.tenant, publication.topic);
            if !cx.node.retained(|store| store.has_topic(tenant, topic)) {
                return RetainedChange::Absent;
            }
            let held = self.copy(publication);
            *message = Some(held.clone());
            let now_ms = cx.now.mono_ms;
            let change = cx.node.retained(|store| store.clear(held, now_ms));
            if matches!(change, RetainedChange::Cleared { .. }) {
                self.note_cleared(publication);
            }
            return change;
        }
        let held = self.copy(publication);
        let session = publication
            .publisher
            .and_then(|address| self.sessions.get(address.session));
        let publisher = session.map(|session| self.client_key(session.tenant, &session.client_id));
        let limits = &self.settings.limits;
        let memory_is_short = self.memory.growth.retained_stops;
        let count_max = limits.retained_messages as usize;
        let bytes_configured = limits.retained_bytes as usize;
        let bytes_max = if memory_is_short { 0 } else { bytes_configured };
        let share = limits.team_share();
        let change = cx.node.retained(|store| {
            match store.exceeded_share(&held, share, count_max, bytes_configured) {
                Some(limit) => RetainedChange::Full(limit),
                None => store.store(held.clone(), publisher, count_max, bytes_max),
            }
        });
        *message = Some(held);
        match change {
            RetainedChange::Full(Limit::RetainedBytes) if memory_is_short => {
                RetainedChange::Full(Limit::MemoryKept)
            }
            change => change,
        }
    }

    /// v5 clients are told; towards v3 a refused message is acknowledged like any other, since
    /// 3.1.1 has no way to say no but closing [MQTT-3.1.1/3.3.5-2].
    pub(crate) fn refused(&mut self, index: u32, reason: ReasonCode) -> PublishAnswer {
        let v5 = self.connections.at(index).version.is_v5();
        PublishAnswer {
            reason: if v5 { reason } else { ReasonCode::Success },
            record: RecordNumber(0),
        }
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
        if reason == ReasonCode::Success
            && self.sends_short_ack(cx, index, (kind, packet_id), record)
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

    /// The limits of a Topic Name.
    pub(crate) fn check_topic(&self, topic: &str) -> Result<(), PacketError> {
        debug_assert!(TopicName::new(topic).is_ok());
        self.check_topic_text(topic)
    }

    /// Length, levels and characters of a Topic Name or Topic Filter.
    pub(crate) fn check_topic_text(&self, topic: &str) -> Result<(), PacketError> {
        let limits = &self.settings.limits;
        let levels_max = usize::from(limits.topic_levels);
        let is_too_long = topic.len() > usize::from(limits.topic_bytes);
        // A topic has at most one level more than it has bytes.
        if is_too_long || topic.len() >= levels_max && level_count(topic) > levels_max {
            let limit = match is_too_long {
                true => Limit::TopicBytes,
                false => Limit::TopicLevels,
            };
            return Err(PacketError::of(ReasonCode::TopicNameInvalid, limit));
        }
        if self.settings.refuse_control_characters
            && !is_plain(topic)
            && martlet_codec::has_control_characters(topic)
        {
            return Err(PacketError::rule(
                ReasonCode::TopicNameInvalid,
                "control character in topic (MQTT 5 section 1.5.4)",
            ));
        }
        Ok(())
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
}
