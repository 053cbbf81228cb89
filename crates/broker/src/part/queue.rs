//! The queue of a part: bounds of its own, in bytes and in age, and how it is. A part that takes
//! nothing for days keeps as much as the operator has set, not as much as a client may.
//!
//! At the bound in bytes the oldest messages are dropped, or publishers wait (`hold.rs`). Messages
//! that have waited too long are dropped while the part is attached and while it is not.

use martlet_fault::{self as fault, Fault};

use super::{PartEvent, PartTerms};
use crate::counters::DropReason;
use crate::id::SessionId;
use crate::limits::QueueFull;
use crate::node::{Cx, Node};
use crate::part::bounds::PartQueue;
use crate::part::interface::{PartQueueLimits, PartQueueState};
use crate::record::Record;
use crate::session::queue::TakenEntry;
use crate::shard::Shard;
use crate::timer::Timer;
use crate::work::NODE;

/// Time between two looks at a queue.
const LOOKED_AT_EVERY_MS: u64 = 1000;

/// Time between two looks while the queue has more than it may: its bound was lowered.
const SHRINKS_EVERY_MS: u64 = 10;

/// Messages that are dropped in one look, for their age and for the bound, at most.
const DROPPED_AT_ONCE: usize = 1024;

/// Time after a start within which a part is attached again, milliseconds. For one that is not, its
/// sink was removed perhaps, no publisher waits any more.
const ATTACHED_WITHIN_MS: u64 = 60_000;

impl Shard {
    /// Sets the bounds of the queue of a part.
    pub(crate) fn bound_queue_of_part<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        limits: PartQueueLimits,
    ) {
        let id = self.sessions.id_of(session);
        // Its subscriptions may be others from now on.
        self.end_hold(cx, id);
        if limits == PartQueueLimits::default() {
            self.parts.queues.remove(&id);
            return;
        }
        let queue = PartQueue {
            limits,
            holds: false,
            held_at: 0,
            holds_for_memory: false,
            attach_by_ms: None,
            is_given_up: false,
            reported: PartQueueState::default(),
        };
        if self.parts.queues.insert(id, queue).is_none() {
            self.look_at_queue_later(cx, id, LOOKED_AT_EVERY_MS);
        }
    }

    /// As [`Shard::bound_queue_of_part`], for a part that may never be attached again: publishers
    /// wait for it for a limited time.
    pub(crate) fn bound_restored_queue<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        limits: PartQueueLimits,
    ) {
        self.bound_queue_of_part(cx, session, limits);
        let id = self.sessions.id_of(session);
        if let Some(queue) = self.parts.queues.get_mut(&id) {
            queue.attach_by_ms = Some(cx.now.mono_ms + ATTACHED_WITHIN_MS);
        }
    }

    /// Sets how many bytes the queue of a part may have, if it has a bound of its own. What is
    /// beyond it makes room for the next message, or publishers wait, as at any bound.
    pub(super) fn set_bytes_of_queue<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        bytes_max: u64,
    ) {
        let id = self.sessions.id_of(session);
        let queue = self.parts.queues.get_mut(&id);
        let Some(queue) = queue.filter(|queue| queue.limits.bytes_max > 0) else {
            return;
        };
        queue.limits.bytes_max = bytes_max.max(1);
        self.end_hold_if_room(cx, session);
    }

    /// The session of a part has ended.
    pub(crate) fn forget_queue_of_part<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: SessionId) {
        if !fault::is(Fault::HoldOutlivesSession) {
            self.end_hold(cx, id);
        }
        self.parts.queues.remove(&id);
    }

    /// The terms of the part whose session it is; none is a client's.
    pub(crate) fn terms_of_part(&mut self, session: u32) -> Option<PartTerms> {
        let id = self.sessions.id_of(session);
        let flags = self.sessions.at(session).flags;
        let queue = self.parts.queues.get(&id);
        flags.part().then(|| PartTerms {
            keeps_qos0: flags.keeps_qos0(),
            reach: self.parts.lanes.reach_of(id),
            queue: queue.map(|queue| queue.limits).unwrap_or_default(),
        })
    }

    /// A session as the store is to remember it.
    pub(crate) fn session_record(&mut self, session: u32) -> Record {
        let terms = self.terms_of_part(session);
        self.sessions.at(session).record(terms)
    }

    /// Looks at the queue of a part, and at what is left of earlier runs, again and again.
    pub(crate) fn look_at_queue_of_part<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: SessionId) {
        let Some(index) = self.sessions.live(id) else {
            return;
        };
        if self.parts.queues.contains_key(&id) {
            let has_more = self.drop_beyond_bound(cx, index, id);
            self.tend_queue_of_part(cx, id);
            self.notify_run(cx, index);
            let after_ms = match has_more {
                true => SHRINKS_EVERY_MS,
                false => LOOKED_AT_EVERY_MS,
            };
            self.look_at_queue_later(cx, id, after_ms);
        }
    }

    /// Drops what is too old in the queue of a part, ends a hold if there is room, and notifies the
    /// part how its queue is.
    pub(crate) fn tend_queue_of_part<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: SessionId) {
        let Some(index) = self.sessions.live(id) else {
            return;
        };
        let Some(queue) = self.parts.queues.get_mut(&id) else {
            return;
        };
        let age_max_secs = queue.limits.age_max_secs;
        if queue.attach_by_ms.is_some_and(|by| by <= cx.now.mono_ms) {
            queue.attach_by_ms = None;
            queue.is_given_up = !fault::is(Fault::HoldOutlivesPart);
            if queue.is_given_up {
                self.end_hold(cx, id);
            }
        }
        if age_max_secs > 0 {
            self.drop_too_old(cx, index, u64::from(age_max_secs) * 1000);
        }
        self.end_hold_if_room(cx, index);
        self.notify_part_queue(cx, index, id);
    }

    fn look_at_queue_later<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: SessionId, after_ms: u64) {
        let due_ms = cx.now.mono_ms + after_ms;
        self.timers.wheel.arm(due_ms, Timer::PartQueue(id));
    }

    /// Drops the oldest messages beyond the bound in bytes, some of them at once. Returns whether
    /// there are more.
    fn drop_beyond_bound<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        id: SessionId,
    ) -> bool {
        let bounds = self.bounds_of_queue(id);
        if bounds.holds || bounds.policy != QueueFull::DropOldest {
            return false;
        }
        for _ in 0..DROPPED_AT_ONCE {
            if self.sessions.at(index).outbound.queue().bytes() <= bounds.bytes {
                return false;
            }
            self.notify_if_queue_begins_to_drop(cx, index);
            if !self.drop_oldest_of_queue(cx, index) {
                return false;
            }
        }
        true
    }

    fn drop_too_old<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, age_max_ms: u64) {
        for _ in 0..DROPPED_AT_ONCE {
            let queue = self.sessions.at(index).outbound.queue_used();
            let mut age_ms = queue.and_then(|queue| queue.oldest_age_ms(cx.now.mono_ms));
            if fault::is(Fault::PartAgeFromAttachment) {
                let since_ms = self.sessions.at(index).connected_at_wall_ms();
                let since_ms = cx.now.wall_ms.saturating_sub(since_ms);
                age_ms = age_ms.map(|age_ms| age_ms.min(since_ms));
            }
            if age_ms.is_none_or(|age_ms| age_ms <= age_max_ms) {
                break;
            }
            let queue = self.sessions.at(index).outbound.queue_mut();
            let Some(entry) = queue.pop_front() else {
                break;
            };
            self.work.add(NODE);
            self.drop_entry(cx, index, TakenEntry::Held(entry), DropReason::TooOld);
        }
        // The age of a message is known once it has been read back.
        self.read_queue(cx, index);
    }

    /// Reports the state of its queue to a part.
    fn notify_part_queue<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, id: SessionId) {
        let bytes_max = self.bounds_of_queue(id).bytes;
        // A part gets `Attached` first.
        let connection = self.admitted_connection(index);
        let session = self.sessions.at(index);
        let accounting = &session.accounting;
        let queue = session.outbound.queue();
        let mut state = PartQueueState {
            messages: queue.len() as u64,
            bytes: queue.bytes(),
            bytes_max,
            oldest_wall_ms: queue.oldest_wall_ms(),
            holds: false,
            dropped: accounting.dropped(),
            expired: accounting.expired(),
        };
        let connection = connection.map(|index| self.connections.id_of(index));
        let attached = connection.and_then(|connection| self.parts.at(connection));
        let attached = attached.map(|part| part.id);
        let Some(queue) = self.parts.queues.get_mut(&id) else {
            return;
        };
        state.holds = queue.holds;
        if let Some(part) = attached
            && core::mem::replace(&mut queue.reported, state) != state
        {
            cx.effects.parts.push((part, PartEvent::Queue(state)));
        }
    }
}
