//! The retained messages that a new subscription is owed (MQTT 5 sections 3.3.1.3 and 3.8.3.1):
//! read page by page, as the client takes them.
//!
//! It knows neither how the retained store finds them nor when a subscription asks for them.

use martlet_permission::Actions;

use crate::fault::{self, Fault};
use crate::hash::ClientKey;
use crate::id::SubscriptionIds;
use crate::node::{Cx, Node};
use crate::record::{Record, SubscriptionRecord};
use crate::shard::Shard;
use crate::subscribe::retained_pending::RetainedCursor;
use crate::work::{PACKET, RETAINED_MESSAGE, RETAINED_TOPIC};

/// Retained messages read for one session at a time.
const RETAINED_PAGE: usize = 64;
/// Retained messages wait while this many messages of the session do.
const RETAINED_BACKLOG: usize = 256;

impl Shard {
    /// Notes that a session is owed the retained messages of a filter.
    pub(crate) fn owe_retained(&mut self, session: u32, subscription: &SubscriptionRecord) {
        let state = self.sessions.at(session);
        let copy = state.subscriptions.next_retained_copy();
        let pending = state.subscriptions.retained_mut();
        let cursor = RetainedCursor {
            filter: subscription.filter.clone(),
            after: subscription.retained_after.clone(),
            qos: subscription.qos,
            no_local: subscription.no_local,
            subscription_id: subscription.subscription_id,
            copy,
        };
        pending.push(subscription.filter.clone(), cursor, &self.memory.gauge);
        self.queue_retained(session);
    }

    /// Puts a session on the list of those that have retained messages to be read.
    pub(crate) fn queue_retained(&mut self, session: u32) {
        let id = self.sessions.id_of(session);
        let state = self.sessions.at(session);
        if state.subscriptions.retained().is_some() && !state.flags.retained_queued() {
            state.flags.set_retained_queued(true);
            self.subscribing.retained_reads.push(id);
        }
    }

    /// Reads one page for one session; false if nothing is to be read.
    pub(crate) fn read_retained_page<N: Node>(&mut self, cx: &mut Cx<'_, N>) -> bool {
        let Some(id) = self.subscribing.retained_reads.next() else {
            return false;
        };
        let Some(index) = self.sessions.live(id) else {
            return true;
        };
        self.sessions.at(index).flags.set_retained_queued(false);
        if !self.wants_retained_page(index) {
            // Goes on when output has drained, acknowledgements have come, or the client is back.
            return true;
        }
        let state = self.sessions.at(index);
        let tenant = state.tenant;
        let Some(pending) = state.subscriptions.retained() else {
            return true;
        };
        let Some((place, mut cursor)) = pending.cursors.pop_first() else {
            state.subscriptions.retained_read();
            return true;
        };
        let own = self.no_local_key(index, cursor.no_local);
        let after = cursor.after.as_deref();
        let (filter, now_ms) = (&cursor.filter, cx.now.mono_ms);
        let page = cx
            .node
            .retained(|store| store.page(tenant, filter, own, after, RETAINED_PAGE, now_ms));
        let (found, steps) = (page.messages.len() as u64, page.steps as u64);
        self.work
            .add(found * RETAINED_MESSAGE + steps * RETAINED_TOPIC + PACKET);
        let mut complete = true;
        let mut last = None;
        for message in &page.messages {
            // Large ones may fill the output before the page is at its end.
            complete = self.wants_retained_page(index);
            if !complete {
                break;
            }
            last = Some(message.topic());
            if !self.permits(index, Actions::RECEIVE, message.topic())
                && !fault::is(Fault::RetainedUnchecked)
            {
                continue;
            }
            let mut ids = SubscriptionIds::new();
            if cursor.subscription_id != 0 {
                ids.push(cursor.subscription_id);
            }
            self.deliver_retained(cx, index, message, cursor.qos, ids, cursor.copy);
        }
        if let Some(last) = last {
            cursor.after = Some(last.into());
        }
        let is_end = complete && page.next.is_none();
        if is_end {
            self.record_retained(cx, index, &cursor.filter, None);
        } else if last.is_some() {
            self.record_retained(cx, index, &cursor.filter, cursor.after.clone());
        }
        let state = self.sessions.at(index);
        let pending = state.subscriptions.retained_mut();
        if is_end {
            pending.forget(&cursor.filter);
        } else {
            if complete {
                cursor.after = page.next;
            }
            pending.cursors.insert(place, cursor);
        }
        if pending.cursors.is_empty() {
            state.subscriptions.retained_read();
        }
        self.queue_retained(index);
        true
    }

    /// There are retained messages for a filter, or the search for them takes long.
    pub(super) fn has_retained<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        session: u32,
        filter: &str,
        no_local: bool,
    ) -> bool {
        let own = self.no_local_key(session, no_local);
        let (tenant, now_ms) = (self.sessions.at(session).tenant, cx.now.mono_ms);
        let page = cx
            .node
            .retained(|store| store.page(tenant, filter, own, None, 1, now_ms));
        self.work.add(page.steps as u64 * RETAINED_TOPIC);
        page.next.is_some() || !page.messages.is_empty()
    }

    /// The client whose retained messages a subscription does not bring: No Local asks who
    /// published a message, not when [MQTT-3.8.3-3].
    fn no_local_key(&mut self, session: u32, no_local: bool) -> Option<ClientKey> {
        let state = self.sessions.at(session);
        (no_local && !fault::is(Fault::NoLocalIgnored))
            .then(|| ClientKey::new(&self.settings, state.tenant, &state.client_id))
    }

    /// Retained messages of a filter are with the session up to a topic, or all. A small record: on
    /// a full disk there is room for it.
    fn record_retained<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        filter: &str,
        up_to: Option<Box<str>>,
    ) {
        let state = self.sessions.at(session);
        if !state.durable {
            return;
        }
        let epoch = state.epoch;
        let Some(subscriber) = self.own_subscription(session, filter) else {
            return;
        };
        let number = subscriber.number;
        let sent = Record::RetainedSent {
            epoch,
            number,
            up_to,
        };
        self.append(cx, sent);
    }

    /// The client is there, its SUBACK is out, and it has room for more: in its output, and in its
    /// queue, where retained messages must not push out one another.
    fn wants_retained_page(&mut self, index: u32) -> bool {
        let limits = &self.settings.limits;
        let output_max = (limits.output_bytes as usize / 4).max(1);
        let bounds = self.bounds_of_queue(self.sessions.id_of(index));
        let backlog_max = RETAINED_BACKLOG.min(bounds.messages.max(1) as usize);
        let bytes_max = (bounds.bytes / 2).max(1);
        let spent = self.memory.is_spent();
        let outbound = &self.sessions.at(index).outbound;
        let backlog = outbound.queue().len() + outbound.in_flight.len();
        let room = backlog < backlog_max && outbound.queue().bytes() < bytes_max;
        let Some(connection) = self.admitted_connection(index) else {
            return false;
        };
        if self.connections.at(connection).is_half_done() {
            // They go on when the answer to that packet is out.
            return false;
        }
        let connection = self.connections.at(connection);
        // With no memory left one at a time: each goes on when the one before has left.
        let room = room && (!spent || backlog == 0 && connection.output_len() == 0);
        room && connection.answers_gated == 0 && connection.output_len() < output_max
    }
}
