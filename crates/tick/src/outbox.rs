//! Messages of one shard for the others that did not yet fit into their mailboxes.
//!
//! The content of messages is not inspected. Keeps the order between each pair of shards, and never
//! waits: if a mailbox is full, sending is retried in the next tick.

use std::collections::VecDeque;
use std::time::Duration;

use martlet_broker::{ShardId, ShardMessage};

use crate::outside::{Batch, Mail};

/// One shard's outgoing batches.
#[derive(Debug)]
pub(crate) struct Outbox {
    from: ShardId,
    /// For each shard, the batches that found its mailbox full, oldest first.
    waiting: Vec<VecDeque<Batch>>,
    /// Number of batches in all of `waiting`.
    waiting_count: usize,
    batch_messages: usize,
}

impl Outbox {
    /// Creates an outbox whose batches have at most `batch_messages` messages.
    pub(crate) fn new(from: ShardId, shard_count: u16, batch_messages: usize) -> Self {
        let waiting = (0..shard_count).map(|_| VecDeque::new()).collect();
        let batch_messages = batch_messages.max(1);
        Self {
            from,
            waiting,
            waiting_count: 0,
            batch_messages,
        }
    }

    /// Whether any batch waits for room in a mailbox.
    pub(crate) fn is_congested(&self) -> bool {
        self.waiting_count > 0
    }

    /// Sends the messages for `to` of the tick that began `at`. `messages` is left empty.
    pub(crate) fn send(
        &mut self,
        mail: &mut impl Mail,
        to: ShardId,
        at: Duration,
        messages: &mut Vec<ShardMessage>,
    ) {
        let mut rest = std::mem::replace(messages, mail.spare());
        while rest.len() > self.batch_messages {
            let tail = rest.split_off(self.batch_messages);
            self.send_one(mail, to, at, std::mem::replace(&mut rest, tail));
        }
        self.send_one(mail, to, at, rest);
    }

    /// Sends the waiting batches again.
    pub(crate) fn retry(&mut self, mail: &mut impl Mail) {
        if !self.is_congested() {
            return;
        }
        for (to, waiting) in self.waiting.iter_mut().enumerate() {
            while let Some(batch) = waiting.pop_front() {
                match mail.send(ShardId(to as u16), batch) {
                    Ok(()) => self.waiting_count -= 1,
                    Err(batch) => {
                        waiting.push_front(batch);
                        break;
                    }
                }
            }
        }
    }

    fn send_one(
        &mut self,
        mail: &mut impl Mail,
        to: ShardId,
        at: Duration,
        messages: Vec<ShardMessage>,
    ) {
        let from = self.from;
        let batch = Batch { from, at, messages };
        let waiting = &mut self.waiting[usize::from(to.0)];
        if waiting.is_empty() {
            match mail.send(to, batch) {
                Ok(()) => return,
                Err(batch) => waiting.push_back(batch),
            }
        } else if let Some(last) = waiting.back_mut()
            && last.messages.len() + batch.messages.len() <= self.batch_messages
        {
            last.messages.extend(batch.messages);
            return;
        } else {
            waiting.push_back(batch);
        }
        self.waiting_count += 1;
    }
}
