//! Messages that operators publish: checked and routed like a client's, and answered when their
//! PUBACK would come.

use std::sync::Arc;

use martlet_codec::{
    PublishProperties, QoS, ReasonCode, TopicName, UserProperties, encode_user_property,
};
use martlet_permission::TenantId;

use crate::command::NewMessage;
use crate::event_interest::Wants;
use crate::id::{RecordNumber, SessionAddress};
use crate::message::Publication;
use crate::node::{Cx, Node};
use crate::operate::jobs::publish::PublishJob;
use crate::operate::step::Step;
use crate::report::{Answer, Published};
use crate::routing::{Origin, expires_at};
use crate::shard::{Shard, StoreState};
use crate::work::{BYTES_PER_UNIT, PACKET};

/// Messages routed in one step.
const MESSAGES_PER_STEP: usize = 64;
/// Approximate bytes of a PUBLISH packet beside topic and payload: they count against the limit of
/// packets.
const PACKET_OVERHEAD: usize = 64;

impl NewMessage {
    /// Length of all its texts, if each fits into a packet and has no null character
    /// [MQTT-1.5.4-2].
    fn text_bytes(&self) -> Option<usize> {
        let pairs = self.user_properties.iter();
        let texts = pairs.flat_map(|(key, value)| [key, value]);
        let mut texts = self.content_type.iter().chain(texts);
        if texts.any(|text| text.contains('\0')) {
            return None;
        }
        let single = [
            Some(self.topic.len()),
            self.content_type.as_ref().map(|text| text.len()),
            self.response_topic.as_ref().map(|text| text.len()),
            self.correlation_data.as_ref().map(|data| data.len()),
        ];
        let pairs = self.user_properties.iter();
        let pairs = pairs.flat_map(|(key, value)| [Some(key.len()), Some(value.len())]);
        let mut all = self.payload.len() + PACKET_OVERHEAD;
        for bytes in single.into_iter().chain(pairs).flatten() {
            if bytes > usize::from(u16::MAX) {
                return None;
            }
            all += bytes + 3;
        }
        Some(all)
    }

    /// Encodes its properties that are passed on, as on the wire.
    fn encode_forwarded(&self, out: &mut Vec<u8>) {
        let mut users = Vec::new();
        for (key, value) in &self.user_properties {
            encode_user_property(&mut users, key, value);
        }
        let properties = PublishProperties {
            payload_format_utf8: self.payload_is_utf8,
            content_type: self.content_type.as_deref(),
            response_topic: self.response_topic.as_deref(),
            correlation_data: self.correlation_data.as_deref(),
            user_properties: UserProperties::from_encoded(&users).unwrap_or_default(),
            ..PublishProperties::default()
        };
        properties.encode_forwarded(out);
    }
}

/// Where a message comes from that is not a client's.
pub(crate) struct NodePublisher {
    pub(crate) tenant: TenantId,
    /// The session of the part that publishes it; none is an operator.
    pub(crate) session: Option<SessionAddress>,
    /// Receipts are asked for.
    pub(crate) receipts: bool,
}

impl Shard {
    pub(super) fn publish_step<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        job: &mut PublishJob,
    ) -> Step {
        let messages = Arc::clone(&job.messages);
        let next = job.outcomes.len();
        for message in messages[next..].iter().take(MESSAGES_PER_STEP) {
            let (outcome, record) =
                self.publish_for_operator(cx, job.tenant, &job.publisher, message);
            job.outcomes.push(outcome);
            job.record = job.record.max(record);
            // The next one may be held back, perhaps since this one.
            if self.has_done_enough() || self.parts.holds.any() {
                break;
            }
        }
        match job.outcomes.len() < messages.len() {
            true => Step::More,
            false => Step::Done(
                Answer::Publish(core::mem::take(&mut job.outcomes)),
                job.record,
            ),
        }
    }

    /// Checks and routes one message.
    pub(super) fn publish_for_operator<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        publisher: &Arc<str>,
        message: &NewMessage,
    ) -> (Published, RecordNumber) {
        let by = NodePublisher {
            tenant,
            session: None,
            receipts: false,
        };
        self.publish_new(cx, by, message, |shard, cx, publication, matched| {
            if shard
                .observers
                .wants
                .any(Wants::PUBLISHED.and(Wants::TOPICS))
            {
                shard.notify_published_by(cx, publisher, publication, matched);
            }
        })
    }

    /// Checks and routes a message that is not a client's; `notify` gets it, and whether it matched
    /// a subscription.
    pub(crate) fn publish_new<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        by: NodePublisher,
        message: &NewMessage,
        notify: impl FnOnce(&mut Self, &mut Cx<'_, N>, &Publication<'_>, bool),
    ) -> (Published, RecordNumber) {
        let bytes = message.topic.len() + message.payload.len();
        self.work.add(PACKET + (bytes / BYTES_PER_UNIT) as u64);
        if let Err(reason) = self.check_new_message(message) {
            self.counters.publishes_refused += 1;
            return (Published::refused(reason), RecordNumber(0));
        }
        if !self.has_room_for(by.tenant, message) {
            self.counters.publishes_refused += 1;
            return (Published::short(), RecordNumber(0));
        }
        let mut forwarded = core::mem::take(&mut self.buffers.forwarded);
        forwarded.clear();
        message.encode_forwarded(&mut forwarded);
        let publication = Publication {
            id: match by.receipts {
                true => self.next_message_id_with_receipts(),
                false => self.next_message_id(),
            },
            tenant: by.tenant,
            publisher: by.session,
            topic: &message.topic,
            forwarded: &forwarded,
            payload: &message.payload,
            qos: message.qos,
            retain: message.retain,
            received_wall_ms: cx.now.wall_ms,
            expires_at_ms: expires_at(cx.now.mono_ms, message.message_expiry_secs),
            received_mono_ms: cx.now.mono_ms,
            hops: message.hops,
            is_will: false,
        };
        let id = publication.id;
        let origin = Origin {
            refusable: true,
            ..Origin::default()
        };
        let before = self.counters.matched;
        self.parts.lanes_chosen = 0;
        let routed = self.route(cx, publication, origin);
        if routed.retained_full.is_some() {
            self.buffers.forwarded = forwarded;
            self.counters.publishes_refused += 1;
            let refused = Published::refused(ReasonCode::QuotaExceeded);
            return (refused, RecordNumber(0));
        }
        notify(self, cx, &publication, routed.matched);
        let outcome = Published {
            reason: match routed.matched {
                true => ReasonCode::Success,
                false => ReasonCode::NoMatchingSubscribers,
            },
            id: Some(id),
            matched_locally: self.counters.matched - before,
            lanes: self.parts.lanes_chosen,
            other_shards: routed.other_shards.count_ones(),
            recorded: routed.record > RecordNumber(0),
            is_held: false,
            is_short: false,
        };
        self.buffers.forwarded = forwarded;
        (outcome, routed.record)
    }

    /// Checks what a client's PUBLISH is checked for, and what a client has checked itself.
    fn check_new_message(&self, message: &NewMessage) -> Result<(), ReasonCode> {
        let topic = &*message.topic;
        if TopicName::new(topic).is_err() || self.check_topic_text(topic).is_err() {
            return Err(ReasonCode::TopicNameInvalid);
        }
        if !martlet_permission::node_may_publish(topic) {
            return Err(ReasonCode::NotAuthorized);
        }
        let response = message.response_topic.as_deref();
        if response.is_some_and(|topic| TopicName::new(topic).is_err()) {
            return Err(ReasonCode::TopicNameInvalid);
        }
        if message.user_properties.len() > usize::from(self.settings.limits.user_properties) {
            return Err(ReasonCode::QuotaExceeded);
        }
        let bytes = message.text_bytes().ok_or(ReasonCode::MalformedPacket)?;
        if bytes > self.settings.limits.packet_bytes as usize
            || self.settings.limits.is_payload_too_long(&message.payload)
        {
            return Err(ReasonCode::PacketTooLarge);
        }
        if message.payload_is_utf8 == Some(true) && core::str::from_utf8(&message.payload).is_err()
        {
            return Err(ReasonCode::PayloadFormatInvalid);
        }
        Ok(())
    }

    /// Whether memory and the store have room for a message of this tenant.
    fn has_room_for(&self, tenant: TenantId, message: &NewMessage) -> bool {
        // An empty one takes a retained message away, which makes room.
        let clears = message.retain && message.payload.is_empty();
        let no_memory = self.memory.is_spent() && message.qos > QoS::AtMostOnce && !clears;
        let store = match clears {
            true => self.store.state,
            false => self.store.state_for(tenant),
        };
        let no_store = store >= StoreState::Full && message.grows_store();
        !no_memory && !no_store
    }
}
