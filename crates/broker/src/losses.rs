//! Messages that sessions and share groups did not get: the counters of each of them, and the
//! events for operators.
//!
//! Operators see each client that lost messages, and why, without switching anything on, and
//! however many are lost. [`Event::MessagesLost`] is reported for a client and reason at once, and
//! then every 10 seconds with the number of messages dropped since. Events of single drops are
//! reported only on request.

pub(crate) mod lost;

use martlet_permission::{Limit, RefusalCause};

use crate::counters::DropReason;
use crate::effect::QueueOwner;
use crate::event::Event;
use crate::event_head::EventHead;
use crate::event_interest::Wants;
use crate::limits::QueueFull;
use crate::losses::lost::{LossNotice, Losses};
use crate::node::{Cx, Node};
use crate::shard::Shard;
use crate::shortened::{digest_work, shortened};
use crate::work::LOSS;

/// Loss events that are reported in one turn.
const NOTICES_PER_TURN: usize = 64;

impl Shard {
    /// Reports that a session lost messages. If that was reported a short time ago, further losses
    /// are reported later. The messages are counted already. `topic` is that of the first of them,
    /// or empty.
    pub(crate) fn notify_losses<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        reason: DropReason,
        topic: &str,
    ) {
        if LossNotice::of(reason) != LossNotice::AtEnd
            && self.is_observed(index, Wants::CONNECTIONS)
        {
            let owner = QueueOwner::Session(self.sessions.id_of(index));
            self.notify_losses_of(cx, owner, reason, topic);
        }
    }

    /// Reports that a session or a share group lost messages, likewise.
    pub(crate) fn notify_losses_of<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        owner: QueueOwner,
        reason: DropReason,
        topic: &str,
    ) {
        if LossNotice::of(reason) == LossNotice::AtEnd {
            return;
        }
        let losses = self.losses_of(owner);
        if losses.is_some_and(|losses| losses.begin(reason)) {
            self.notify_unreported(cx, owner, reason, None, topic);
            self.schedule_next_notice(cx.now.mono_ms, owner, reason);
        }
    }

    /// Schedules the report of how many messages a full queue loses, with the bound that it is at
    /// now. Another event reports that the queue is full.
    pub(crate) fn notify_queue_losses_later<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        owner: QueueOwner,
        limit: Limit,
    ) {
        let reason = DropReason::QueueFull;
        let Some(losses) = self.losses_of(owner) else {
            return;
        };
        losses.queue_limit = Some(limit);
        if losses.begin(reason) {
            self.schedule_next_notice(cx.now.mono_ms, owner, reason);
        }
    }

    /// Schedules the report of messages that were in the output of a closed connection, for the
    /// next turn.
    pub(crate) fn notify_losses_soon(&mut self, index: u32, reason: DropReason) {
        if self.is_observed(index, Wants::CONNECTIONS) {
            let owner = QueueOwner::Session(self.sessions.id_of(index));
            let losses = self.losses_of(owner);
            if losses.is_some_and(|losses| losses.begin(reason)) {
                self.timers.schedule_loss_notice(0, owner, reason);
            }
        }
    }

    /// A client has reconnected: reports the messages that it missed and that were not reported
    /// yet.
    pub(crate) fn notify_losses_while_away<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let reason = DropReason::ClientAway;
        let owner = QueueOwner::Session(self.sessions.id_of(index));
        let losses = self.losses_of(owner);
        if losses.is_some_and(|losses| losses.has_begun(reason)) {
            self.notify_unreported(cx, owner, reason, None, "");
            if let Some(losses) = self.losses_of(owner) {
                losses.end(reason);
            }
        }
    }

    /// A session or a share group has ended: reports all losses that were not reported yet. `ended`
    /// is the reason for which the session ended.
    pub(crate) fn notify_last_losses<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        owner: QueueOwner,
        ended: Option<RefusalCause>,
    ) {
        let is_observed = match owner {
            QueueOwner::Session(id) => self.is_observed(id.index, Wants::CONNECTIONS),
            QueueOwner::Group(_) => self.observers.wants.any(Wants::CONNECTIONS),
        };
        if is_observed && self.losses_of(owner).is_some() {
            for reason in DropReason::ALL {
                let ended = ended.filter(|_| *reason == DropReason::SessionEnded);
                self.notify_unreported(cx, owner, *reason, ended, "");
            }
        }
    }

    /// Reports the losses that are due.
    pub(crate) fn notify_due_losses<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        for _ in 0..NOTICES_PER_TURN {
            let Some((owner, reason)) = self.timers.losses.take_due(cx.now.mono_ms) else {
                break;
            };
            match self.notify_unreported(cx, owner, reason, None, "") {
                true => self.schedule_next_notice(cx.now.mono_ms, owner, reason),
                false => {
                    if let Some(losses) = self.losses_of(owner) {
                        losses.end(reason);
                    }
                }
            }
        }
        self.timers.await_losses();
    }

    fn schedule_next_notice(&mut self, now_ms: u64, owner: QueueOwner, reason: DropReason) {
        if let LossNotice::Every(every_ms) = LossNotice::of(reason) {
            self.timers
                .schedule_loss_notice(now_ms + every_ms, owner, reason);
        }
    }

    fn losses_of(&mut self, owner: QueueOwner) -> Option<&mut Losses> {
        match owner {
            QueueOwner::Session(id) => {
                let index = self.sessions.live(id)?;
                self.sessions.losses_if_any(index)
            }
            QueueOwner::Group(id) => self.groups.losses(id),
        }
    }

    /// Reports lost messages that were not reported yet; false if there are none.
    fn notify_unreported<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        owner: QueueOwner,
        reason: DropReason,
        ended: Option<RefusalCause>,
        topic: &str,
    ) -> bool {
        let Some(losses) = self.losses_of(owner) else {
            return false;
        };
        let count = losses.take_unreported(reason);
        if count == 0 {
            return false;
        }
        let limit = match reason {
            // The queue may have room by now.
            DropReason::QueueFull => losses.queue_limit,
            reason => limit_of(reason),
        };
        let head = match owner {
            QueueOwner::Session(id) => self.head_with_user(id.index),
            QueueOwner::Group(id) => match self.groups.name(id) {
                Some((tenant, filter)) => EventHead::new(tenant, filter),
                None => return false,
            },
        };
        self.work.add(LOSS + digest_work(topic));
        let event = Event::MessagesLost {
            topic: (&*shortened(topic)).into(),
            reason,
            count,
            limit: limit.map(|limit| self.reached(limit, None)),
            ended,
        };
        cx.effects.notify(head, event);
        true
    }

    /// Tells of a queue from which messages are dropped from now on.
    pub(crate) fn notify_if_queue_begins_to_drop<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
    ) {
        if !self
            .sessions
            .at(index)
            .outbound
            .queue_mut()
            .begins_to_drop()
        {
            return;
        }
        let id = self.sessions.id_of(index);
        self.sessions.dropping.insert(id);
        let messages = self.sessions.at(index).outbound.queue().len();
        let limit = self.limit_of_queue(index);
        let head = self.head_of(index);
        self.notify_queue_full(cx, head, messages, limit);
        let _ = self.sessions.losses(index);
        self.notify_queue_losses_later(cx, QueueOwner::Session(id), limit);
    }

    /// A queue loses messages from now on: reports that to operators.
    pub(crate) fn notify_queue_full<N: Node>(
        &self,
        cx: &mut Cx<'_, N>,
        head: EventHead,
        messages: usize,
        limit: Limit,
    ) {
        if self.observers.wants.any(Wants::CONNECTIONS) {
            let policy = match limit {
                Limit::PartQueue => QueueFull::DropOldest,
                _ => self.settings.queue_full,
            };
            cx.effects.notify(
                head,
                Event::QueueFull {
                    messages,
                    policy,
                    limit: self.reached(limit, None),
                },
            );
        }
    }
}

/// The limit at which messages are dropped for a reason. The limit of a queue depends on the queue.
pub(crate) fn limit_of(reason: DropReason) -> Option<Limit> {
    match reason {
        DropReason::OutputFull => Some(Limit::OutputBytes),
        DropReason::MemoryFull => Some(Limit::Memory),
        DropReason::ClientAway
        | DropReason::PartBusy
        | DropReason::QueueFull
        | DropReason::PacketTooLarge
        | DropReason::RefusedByReceiver
        | DropReason::SessionEnded
        | DropReason::ConnectionLost
        | DropReason::NoMember
        | DropReason::NotPermitted
        | DropReason::TooOld
        | DropReason::StoreFull
        | DropReason::StoreStalled
        | DropReason::StoreDamaged => None,
    }
}
