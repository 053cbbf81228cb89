//! Messages of other shards.

use std::collections::VecDeque;

use crate::effect::ShardMessage;
use crate::id::ShardId;
use crate::node::{Cx, Node};
use crate::part::interface::PartEvent;
use crate::shard::Shard;
use crate::work::{DELIVERY, INBOX};

impl Shard {
    /// Another shard's batch; it is emptied.
    pub fn receive_batch<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        from: ShardId,
        batch: &mut Vec<ShardMessage>,
    ) {
        for message in batch.drain(..) {
            // What comes from one shard stays in its order.
            if !self.waiting.inbox.is_empty() || self.has_done_enough() {
                self.waiting.inbox.push_back((from, message));
            } else {
                self.shard_message_received(cx, from, message);
            }
        }
    }

    /// Continues with the messages of other shards.
    pub(super) fn work_off_inbox<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        while let Some((from, message)) = self.waiting.inbox.pop_front() {
            self.shard_message_received(cx, from, message);
            if self.work.is_past(INBOX) {
                break;
            }
        }
        if self.waiting.inbox.is_empty() {
            self.waiting.inbox = VecDeque::new();
        }
    }

    fn shard_message_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        from: ShardId,
        message: ShardMessage,
    ) {
        match message {
            ShardMessage::Publish {
                message,
                recorded,
                had,
            } => {
                self.routed_message_received(cx, from, &message, recorded, had);
            }
            ShardMessage::MemoryShort => self.memory.relief.begin(cx.node, cx.now.mono_ms),
            ShardMessage::Routed(id) => self.routed_answer_received(cx, id),
            ShardMessage::Share(message) => self.share_received(cx, from, message),
            ShardMessage::Hold(hold) => self.parts.holds.add(hold),
            ShardMessage::HoldOver(part) => self.hold_is_over(part),
            ShardMessage::HoldPublisher { session, on } => self.publisher_held(session, on),
            ShardMessage::Receipt(part, receipt) => {
                self.work.add(DELIVERY);
                self.notify_part_of_session(cx, part, PartEvent::Receipt(*receipt));
            }
            ShardMessage::Receivers(message, count) => self.receivers_counted(cx, message, count),
        }
        self.settle(cx);
    }

    /// Whether messages of other shards wait here; later ones would wait behind them.
    pub fn is_behind(&self) -> bool {
        !self.waiting.inbox.is_empty()
    }
}
