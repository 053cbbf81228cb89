//! Sends a store's answers to one shard.

use std::sync::Arc;

use martlet_broker::{ReadPage, RecordNumber, ShardId};

use crate::mailbox::{Control, Mailboxes};

/// Sends a store's answers to one shard.
#[derive(Clone, Debug)]
pub struct Durable {
    shard: ShardId,
    mailboxes: Arc<Mailboxes>,
}

impl Durable {
    pub(crate) fn new(shard: ShardId, mailboxes: Arc<Mailboxes>) -> Self {
        Self { shard, mailboxes }
    }

    /// Notifies the shard that all its records up to number `up_to` are durable.
    pub fn up_to(&self, up_to: RecordNumber) {
        self.mailboxes.durable(self.shard, up_to);
    }

    /// Delivers requested messages.
    pub fn messages_read(&self, page: ReadPage) {
        self.mailboxes
            .control(self.shard, Control::MessagesRead(page));
    }

    /// Notifies all shards that the value of [`Writer::state`](super::Writer::state) has changed.
    pub fn state_changed(&self) {
        for shard in 0..self.mailboxes.shard_count() {
            self.mailboxes.control(ShardId(shard), Control::StoreState);
        }
    }
}
