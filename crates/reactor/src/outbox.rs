//! What one shard has for the others and could not yet be put into their mailboxes.
//!
//! Knows nothing of what a message means. Keeps the order of each pair of shards, and never
//! waits: who finds a mailbox full tries again at its next tick.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use martlet_broker::{ShardId, ShardMessage};

use crate::mailbox::{Batch, Mailbox, Mailboxes};

/// One reactor's outgoing batches.
#[derive(Debug)]
pub(crate) struct Outbox {
    from: ShardId,
    mailboxes: Arc<Mailboxes>,
    /// For each shard what found its mailbox full, oldest first.
    waiting: Vec<VecDeque<Batch>>,
    /// Batches in all of `waiting`.
    waiting_count: usize,
    batch_messages: usize,
}

impl Outbox {
    /// Batches have at most `batch_messages` messages.
    pub(crate) fn new(from: ShardId, mailboxes: Arc<Mailboxes>, batch_messages: usize) -> Self {
        let waiting = (0..mailboxes.shard_count())
            .map(|_| VecDeque::new())
            .collect();
        let batch_messages = batch_messages.max(1);
        Self {
            from,
            mailboxes,
            waiting,
            waiting_count: 0,
            batch_messages,
        }
    }

    /// Something waits for room in a mailbox.
    pub(crate) fn is_congested(&self) -> bool {
        self.waiting_count > 0
    }

    /// Sends what the tick that began `at` has gathered for `to`; `messages` is left empty.
    pub(crate) fn send(
        &mut self,
        to: ShardId,
        at: Instant,
        messages: &mut Vec<ShardMessage>,
        own: &Mailbox,
    ) {
        let mut rest = std::mem::replace(messages, own.spare());
        while rest.len() > self.batch_messages {
            let tail = rest.split_off(self.batch_messages);
            self.send_one(to, at, std::mem::replace(&mut rest, tail));
        }
        self.send_one(to, at, rest);
    }

    /// Tries again what found a mailbox full.
    pub(crate) fn retry(&mut self) {
        if !self.is_congested() {
            return;
        }
        for (to, waiting) in self.waiting.iter_mut().enumerate() {
            while let Some(batch) = waiting.pop_front() {
                match self.mailboxes.send(ShardId(to as u16), batch) {
                    Ok(()) => self.waiting_count -= 1,
                    Err(batch) => {
                        waiting.push_front(batch);
                        break;
                    }
                }
            }
        }
    }

    fn send_one(&mut self, to: ShardId, at: Instant, messages: Vec<ShardMessage>) {
        let from = self.from;
        let batch = Batch { from, at, messages };
        let waiting = &mut self.waiting[usize::from(to.0)];
        if waiting.is_empty() {
            match self.mailboxes.send(to, batch) {
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

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
