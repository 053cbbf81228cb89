//! Which events shards report: by kind for all clients, or all events of the few that are traced.
//!
//! All events of a client come from the shard that owns its session, in order. The lobby of another
//! shard reports only refused clients. While no observer wants events, a message costs one
//! comparison of a word.

pub(crate) mod observers;

use core::ops::Bound;
use std::net::IpAddr;
use std::sync::Arc;

use martlet_codec::{FixedHeader, PacketType, QoS};
use martlet_permission::{Proof, RefusalCause, TenantId};

use crate::connected_client::UserName;
use crate::connection::buffer::UnreportedDelivery;
use crate::event::{DeliveredMessage, Event, PublishedMessage};
use crate::event_head::EventHead;
use crate::event_interest::Wants;
use crate::id::{ConnectionId, MessageId, SessionId};
use crate::message::{Message, Publication, age_ms};
use crate::node::{Cx, Node};
use crate::notify::observers::TraceScan;
use crate::report::SubscriptionInfo;
use crate::shard::Shard;

/// Number of connections or sessions that one step examines.
const PLACES_PER_STEP: u32 = 512;

impl Shard {
    /// Continues the scan for sessions to trace, or to trace no more. Returns whether there is more
    /// to do.
    pub(crate) fn scan_traced(&mut self, scan: &mut TraceScan) -> bool {
        if !scan.has_sessions {
            let after = scan.after.map_or(Bound::Unbounded, Bound::Excluded);
            let all = self.observers.traced.range((after, Bound::Unbounded));
            let some: Vec<SessionId> = all.take(PLACES_PER_STEP as usize).copied().collect();
            for id in &some {
                match self.sessions.live(*id) {
                    Some(session) => {
                        let traced = self.is_traced(session);
                        self.trace(session, traced);
                    }
                    None => drop(self.observers.traced.remove(id)),
                }
            }
            scan.after = some.last().copied();
            scan.has_sessions = some.len() < PLACES_PER_STEP as usize;
            return !scan.has_sessions || !self.observers.traced().addresses.is_empty();
        }
        let interest = Arc::clone(&self.observers.interest);
        let places = self.connections.places();
        let end = places.min(scan.next + PLACES_PER_STEP);
        for place in scan.next..end {
            let connection = self.connections.look_at(place);
            let Some(connection) = connection else {
                continue;
            };
            let address = connection.address().map(|(address, _)| address);
            if let Some(session) = connection.session()
                && address.is_some_and(|address| interest.traced.addresses.contains(&address))
            {
                self.trace(session, true);
            }
        }
        scan.next = end;
        end < places
    }

    pub(crate) fn trace(&mut self, session: u32, traced: bool) {
        let id = self.sessions.id_of(session);
        self.sessions.at(session).flags.set_traced(traced);
        match traced {
            true => drop(self.observers.traced.insert(id)),
            false => drop(self.observers.traced.remove(&id)),
        }
    }

    /// Whether observers want all events of this session.
    fn is_traced(&mut self, session: u32) -> bool {
        let state = self.sessions.at(session);
        let (tenant, client_id) = (state.tenant, Arc::clone(&state.client_id));
        let connection = state.connection();
        let address = connection.and_then(|index| self.connections.at(index).address());
        let address = address.map(|(address, _)| address);
        self.observers.wants.any(Wants::CLIENTS)
            && self.observers.traced().has(tenant, &client_id, address)
    }

    /// Decides whether a session that has a connection now is traced.
    pub(crate) fn begin_trace(&mut self, session: u32) {
        let traced = self.is_traced(session);
        if traced != self.sessions.at(session).flags.traced() {
            self.trace(session, traced);
        }
    }

    /// Whether observers want events of this kind of a session.
    #[inline]
    pub(crate) fn is_observed(&mut self, session: u32, kind: Wants) -> bool {
        self.observers.wants.any(kind.and(Wants::CLIENTS))
            && (self.observers.wants.any(kind) || self.sessions.at(session).flags.traced())
    }

    /// Whether observers want to know when a client connects or disconnects. Parts of the node are
    /// reported only if they are traced.
    pub(crate) fn is_presence_observed(&mut self, session: u32) -> bool {
        self.is_observed(session, Wants::CONNECTIONS) && {
            let found = self.sessions.at(session);
            found.flags.traced() || !found.client_id.starts_with('$')
        }
    }

    /// Whether observers want events of refused clients.
    pub(crate) fn is_refusal_observed(
        &self,
        client: Option<(TenantId, &str)>,
        address: Option<IpAddr>,
    ) -> bool {
        let (tenant, client_id) = client.unwrap_or((TenantId(0), ""));
        self.observers.wants.any(Wants::CONNECTIONS)
            || self.observers.wants.any(Wants::CLIENTS)
                && self.observers.traced().has(tenant, client_id, address)
    }

    /// Whether observers may want the outcome of a message for a session. The message is kept until
    /// then.
    #[inline]
    pub(crate) fn is_outcome_observed(&mut self, session: u32) -> bool {
        const KINDS: Wants = Wants::DROPS.and(Wants::DELIVERED).and(Wants::TOPICS);
        self.is_observed(session, KINDS)
    }

    fn is_topic_observed(&mut self, session: u32, kind: Wants, topic: &str) -> bool {
        self.is_observed(session, kind)
            || self.observers.wants.any(Wants::TOPICS) && self.observers.traced().has_topic(topic)
    }

    /// Whether observers want the drop of a message for a session.
    pub(crate) fn is_drop_observed(&mut self, session: u32, topic: &str) -> bool {
        self.is_topic_observed(session, Wants::DROPS, topic)
    }

    /// Whether observers want the drop of a message of a share group.
    pub(crate) fn is_group_drop_observed(&self, topic: &str) -> bool {
        self.observers.wants.any(Wants::DROPS)
            || self.observers.wants.any(Wants::TOPICS) && self.observers.traced().has_topic(topic)
    }

    /// Reports the client's proved name before the result of the CONNECT on that connection.
    pub(crate) fn notify_authenticated<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        tenant: TenantId,
        client_id: &Arc<str>,
        name: Arc<str>,
        proof: Proof,
    ) {
        let connection = self.connections.at(index);
        cx.effects.notify(
            EventHead::new(tenant, Arc::clone(client_id))
                .with_user(Some(UserName::Proved(name)))
                .with_address(connection.address()),
            Event::Authenticated {
                proof,
                listener: Arc::clone(connection.listener()),
            },
        );
    }

    pub(crate) fn notify_session_ended<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        cause: RefusalCause,
    ) {
        if self.is_presence_observed(session) {
            let event = Event::SessionEnded { cause };
            cx.effects.notify(self.head_of(session), event);
        }
    }

    pub(crate) fn notify_taken_over<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        old: u32,
        new: u32,
    ) {
        if self.is_presence_observed(session) {
            let address = self.connections.at(old).address();
            let by = self.connections.at(new).address();
            let head = self.head_of(session).with_address(address);
            cx.effects.notify(head, Event::TakenOver { by });
        }
    }

    pub(crate) fn notify_subscribed<N: Node>(&self, cx: &mut Cx<'_, N>, granted: SubscriptionInfo) {
        cx.effects.notify(
            EventHead::new(granted.tenant, granted.client_id),
            Event::Subscribed {
                filter: granted.filter,
                qos: granted.qos,
                no_local: granted.no_local,
                retain_as_published: granted.retain_as_published,
                subscription_id: granted.subscription_id,
            },
        );
    }

    pub(crate) fn notify_unsubscribed<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        filter: &str,
    ) {
        if self.is_observed(session, Wants::SUBSCRIPTIONS) {
            let filter = filter.into();
            cx.effects
                .notify(self.head_of(session), Event::Unsubscribed { filter });
        }
    }

    /// A message of a client was accepted.
    #[cold]
    pub(crate) fn notify_published<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        publication: &Publication<'_>,
        matched: bool,
    ) {
        if self.is_topic_observed(session, Wants::PUBLISHED, publication.topic) {
            let client_id = Arc::clone(&self.sessions.at(session).client_id);
            self.push_published(cx, client_id, publication, matched);
        }
    }

    /// A message of an operator was accepted.
    pub(crate) fn notify_published_by<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        publisher: &Arc<str>,
        publication: &Publication<'_>,
        matched: bool,
    ) {
        if self.observers.wants.any(Wants::PUBLISHED)
            || self.observers.wants.any(Wants::TOPICS)
                && self.observers.traced().has_topic(publication.topic)
        {
            self.push_published(cx, Arc::clone(publisher), publication, matched);
        }
    }

    fn push_published<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        client_id: Arc<str>,
        publication: &Publication<'_>,
        matched: bool,
    ) {
        let payload = publication.payload;
        let shown_bytes = payload.len().min(self.observers.interest.payload_bytes_max);
        cx.effects.notify(
            EventHead::new(publication.tenant, client_id),
            Event::Published(Box::new(PublishedMessage {
                topic: publication.topic.into(),
                id: publication.id,
                qos: publication.qos,
                retain: publication.retain,
                matched,
                payload_bytes: payload.len(),
                payload: payload[..shown_bytes].into(),
                at_ms: cx.now.wall_ms,
            })),
        );
    }

    /// A QoS 0 message is in the output: reports it as delivered when it has been written.
    #[cold]
    pub(crate) fn notify_when_written(&mut self, index: u32, publication: &Publication<'_>) {
        let topic = publication.topic;
        let Some(session) = self.connections.at(index).session() else {
            return;
        };
        if self.is_topic_observed(session, Wants::DELIVERED, topic) {
            let output = self
                .connections
                .at(index)
                .output_buffer(&mut self.buffers.pool);
            let left = output.qos0;
            output.unreported_deliveries.push_back(UnreportedDelivery {
                left,
                topic: topic.into(),
                id: publication.id,
                received_mono_ms: publication.received_mono_ms,
            });
        }
    }

    fn notify_written<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        written: Vec<UnreportedDelivery>,
    ) {
        for delivery in written {
            let latency_ms = age_ms(delivery.received_mono_ms, cx.now.mono_ms);
            cx.effects.notify(
                self.head_of(session),
                Event::Delivered(Box::new(DeliveredMessage {
                    topic: delivery.topic,
                    id: delivery.id,
                    qos: QoS::AtMostOnce,
                    latency_ms: Some(latency_ms),
                    at_ms: cx.now.wall_ms,
                })),
            );
        }
    }

    /// A message was acknowledged.
    #[cold]
    pub(crate) fn notify_acknowledged<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        id: MessageId,
        message: Option<&Message>,
        qos: QoS,
    ) {
        let topic = message.map_or("", |message| message.topic());
        if !self.is_topic_observed(session, Wants::DELIVERED, topic) {
            return;
        }
        let latency_ms = message.map(|message| message.age_ms(cx.now.mono_ms));
        cx.effects.notify(
            self.head_of(session),
            Event::Delivered(Box::new(DeliveredMessage {
                topic: topic.into(),
                id,
                qos,
                latency_ms,
                at_ms: cx.now.wall_ms,
            })),
        );
    }

    /// A packet of an accepted client was received.
    #[cold]
    pub(crate) fn notify_packet_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        header: &FixedHeader,
        body: &[u8],
    ) {
        let packet_id = header.packet_id(body);
        let length = body.len() as u32;
        self.notify_packet(cx, index, header.packet_type, packet_id, length, false);
    }

    pub(crate) fn notify_packet<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        packet_type: PacketType,
        packet_id: Option<u16>,
        remaining_bytes: u32,
        is_out: bool,
    ) {
        let owner = self.connections.at(index).owner();
        let session = owner.and_then(|owner| self.sessions.get(owner));
        if !self.observers.wants.any(Wants::PACKETS)
            && !session.is_some_and(|session| session.flags.traced())
        {
            return;
        }
        let head = match session {
            Some(session) => EventHead::new(session.tenant, Arc::clone(&session.client_id)),
            None => EventHead::unknown(),
        };
        cx.effects.notify(
            head,
            Event::Packet {
                is_out,
                packet_type,
                packet_id,
                remaining_bytes,
                at_ms: cx.now.wall_ms,
            },
        );
    }

    /// The next `count` bytes of the output are about to count as written.
    #[cold]
    pub(crate) fn notify_output_written<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        count: usize,
    ) {
        self.notify_packets_written(cx, id, count);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let written = connection.take_unreported_deliveries(connection.qos0_until(count));
        let owner = connection.owner();
        if let Some(session) = owner.and_then(|owner| self.sessions.live(owner)) {
            self.notify_written(cx, session, written);
        }
    }

    fn notify_packets_written<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        count: usize,
    ) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let session = connection.owner();
        let session = session.and_then(|owner| self.sessions.get(owner));
        if !self.observers.wants.any(Wants::PACKETS)
            && !session.is_some_and(|session| session.flags.traced())
        {
            return;
        }
        let packets = connection.packets_until(count);
        for (packet_type, packet_id, length) in packets {
            self.notify_packet(cx, id.index, packet_type, packet_id, length, true);
        }
    }
}
