//! Wills: when a client's Will Message is published (MQTT 5 section 3.1.2.5).

use std::sync::Arc;

use martlet_codec::Will;
use martlet_permission::{Limit, TenantId};

use crate::fault::{self, Fault};
use crate::id::RecordNumber;
use crate::message::Publication;
use crate::node::{Cx, Node};
use crate::notify::observers::NOTIFY_PUBLISHED;
use crate::record::StoredWill;
use crate::routing::Origin;
use crate::shard::{RESERVE_WILL_BYTES, Shard};
use crate::timer::Timer;

/// Memory that a Will takes beside its text, in bytes: two reference counts, fields, three
/// allocations.
const WILL_OVERHEAD: usize = 176;

impl StoredWill {
    /// Returns how much of it has no fixed size, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + self.forwarded.len()
    }

    /// Keeps the Will of a CONNECT, its delay bounded by `delay_max_secs`.
    pub(crate) fn new(will: &Will<'_>, delay_max_secs: u32) -> Self {
        let mut forwarded = Vec::new();
        will.properties.encode_forwarded(&mut forwarded);
        Self {
            topic: will.topic.into(),
            payload: will.payload.into(),
            forwarded: forwarded.into(),
            qos: will.qos,
            retain: will.retain,
            message_expiry_secs: will.properties.message_expiry_secs,
            delay_secs: will.delay_secs.unwrap_or(0).min(delay_max_secs),
        }
    }
}

impl Shard {
    /// A session has this Will from now on, or none; its Will until then.
    pub(crate) fn replace_will(
        &mut self,
        session: u32,
        will: Option<Arc<StoredWill>>,
    ) -> Option<Arc<StoredWill>> {
        let bytes = |will: &Option<Arc<StoredWill>>| {
            will.as_ref().map_or(0, |will| will.bytes() + WILL_OVERHEAD)
        };
        let bytes_now = bytes(&will);
        let state = self.sessions.at(session);
        let tenant = state.tenant;
        let before = core::mem::replace(&mut state.will, will);
        self.memory.wills.add(&tenant, bytes_now);
        self.memory.wills.give_back(&tenant, bytes(&before));
        before
    }

    /// Why a session of a tenant may not have this Will, if it may not. `before` is the session, if
    /// it is there already: the Will takes the place of the one that it has, so only what it takes
    /// more counts.
    pub(crate) fn will_exceeds(
        &mut self,
        tenant: TenantId,
        before: Option<u32>,
        will: &StoredWill,
    ) -> Option<Limit> {
        let had = before.and_then(|session| self.sessions.at(session).will.as_ref());
        let had = had.map_or(0, |had| had.bytes() + WILL_OVERHEAD);
        let more = (will.bytes() + WILL_OVERHEAD).saturating_sub(had);
        let stops = match before {
            _ if more == 0 => false,
            Some(_) if will.bytes() <= RESERVE_WILL_BYTES => self.memory.growth.reserve_stops,
            Some(_) | None => self.memory.growth.wills_stop,
        };
        let limits = &self.settings.limits;
        let (bytes_max, wills) = (self.wills_bytes_max(), &self.memory.wills);
        let own = wills.of(&tenant);
        let share = limits
            .team_share()
            .beside(wills.beside(&tenant) as u64, bytes_max);
        let is_beyond_share = tenant != TenantId::default() && (own + more) as u64 > share;
        if will.bytes() > limits.will_bytes as usize {
            Some(Limit::WillBytes)
        } else if more > 0 && (wills.all() + more) as u64 > bytes_max {
            Some(Limit::WillsBytes)
        } else if more > 0 && is_beyond_share {
            Some(Limit::TeamWills)
        } else if stops {
            Some(Limit::MemoryKept)
        } else {
            None
        }
    }

    /// The connection of a session was lost, not ended by its client: the Will is due after its
    /// delay or when the session ends, whichever comes first [MQTT-3.1.2-8], [MQTT-3.1.3-9].
    pub(crate) fn will_after_loss<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        match self.will_delay_secs(index) {
            None => {}
            Some(0) => self.send_will(cx, index),
            Some(delay_secs) => {
                let due_ms = cx.now.mono_ms + u64::from(delay_secs) * 1000;
                let id = self.sessions.id_of(index);
                let timer = self.timers.wheel.arm(due_ms, Timer::WillDelay(id));
                self.sessions.at(index).will_timer = Some(timer);
            }
        }
    }

    /// Seconds between the loss of the connection and the Will; none: the session has no Will.
    pub(crate) fn will_delay_secs(&mut self, index: u32) -> Option<u32> {
        let session = self.sessions.at(index);
        let delay_secs = session.will.as_ref()?.delay_secs;
        Some(match fault::is(Fault::WillIgnoresDelay) {
            true => 0,
            false => delay_secs.min(session.expiry_secs),
        })
    }

    /// The Will is not needed any more: the client has sent DISCONNECT, or has reconnected in time.
    /// [MQTT-3.14.4-3]
    pub(crate) fn discard_will(&mut self, index: u32) {
        self.replace_will(index, None);
        let session = self.sessions.at(index);
        if let Some(timer) = session.will_timer.take() {
            self.timers.wheel.cancel(timer);
        }
    }

    /// The client may not publish to the Will's topic any more: it is not sent, and no restart
    /// sends it.
    fn will_refused<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, topic: &str) {
        self.counters.publishes_refused += 1;
        self.notify_will_forbidden(cx, index, topic);
        if self.sessions.at(index).recorded {
            let record = self.session_record(index);
            self.append(cx, record);
        }
    }

    /// Publishes the Will of a session, if one is left. Retained or not as in its CONNECT
    /// [MQTT-3.1.2-14], [MQTT-3.1.2-15].
    pub(crate) fn send_will<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let Some(will) = self.replace_will(index, None) else {
            return;
        };
        if fault::is(Fault::WillSentTwice) {
            self.replace_will(index, Some(will.clone()));
        }
        let session = self.sessions.at(index);
        let tenant = session.tenant;
        if let Some(timer) = session.will_timer.take() {
            self.timers.wheel.cancel(timer);
        }
        let publisher = self.address_of(index);
        let now = cx.now;
        let publication = Publication {
            id: self.next_message_id(),
            tenant,
            publisher: Some(publisher),
            topic: &will.topic,
            forwarded: &will.forwarded,
            payload: &will.payload,
            qos: will.qos,
            retain: will.retain,
            received_wall_ms: now.wall_ms,
            expires_at_ms: crate::routing::expires_at(now.mono_ms, will.message_expiry_secs),
            received_mono_ms: now.mono_ms,
            hops: 0,
            is_will: true,
        };
        let may = self.may_publish_own(index, &will.topic);
        if !may && !fault::is(Fault::WillUnchecked) {
            return self.will_refused(cx, index, &will.topic);
        }
        self.counters.wills_sent += 1;
        let session = self.sessions.at(index);
        let named = session.recorded && !fault::is(Fault::WillNotUsedUp);
        let will_of = named.then_some(session.epoch);
        let origin = Origin {
            will_of,
            ..Origin::default()
        };
        // A full retained store drops the retaining, not the Will.
        let routed = self.route(cx, publication, origin);
        if self.observers.wants.any(NOTIFY_PUBLISHED) {
            self.notify_published(cx, index, &publication, routed.matched);
        }
        if will_of.is_some() && routed.record == RecordNumber(0) {
            // It needed not be kept, but recovery must not send it again.
            let record = self.session_record(index);
            self.append(cx, record);
        }
    }
}
