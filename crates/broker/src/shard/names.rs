//! Names that a shard gives: of messages, sessions and their owners.

use martlet_permission::TenantId;

use crate::hash::{ClientKey, owner};
use crate::id::{
    MessageId, SessionAddress, SessionEpoch, ShardId, is_kept_for_receipts, next_for_receipts,
    numbered,
};
use crate::run::Run;
use crate::shard::Shard;

impl Shard {
    pub(crate) fn next_message_id(&mut self) -> MessageId {
        self.next_message += 1;
        if is_kept_for_receipts(self.next_message) {
            self.next_message += 1;
        }
        MessageId::new(self.id, self.next_message)
    }

    /// The name of a message that asks for receipts.
    pub(crate) fn next_message_id_with_receipts(&mut self) -> MessageId {
        self.next_message = next_for_receipts(self.next_message);
        MessageId::new(self.id, self.next_message)
    }

    /// Number of this run of the node, whose names may have come into the room of later ones.
    pub(crate) fn run(&self) -> u32 {
        self.run.number
    }

    /// Number of the last run before this one.
    pub(crate) fn last_run(&self) -> u32 {
        self.run.last
    }

    /// Messages and sessions get names of this run from now on. Without a store that is all that a
    /// run begins with.
    pub fn begin_names(&mut self, run: Run) {
        self.run = run;
        self.next_message = run.first;
        self.next_epoch = run.first;
    }

    pub(crate) fn next_epoch(&mut self) -> SessionEpoch {
        self.next_epoch += 1;
        SessionEpoch(numbered(self.id, self.next_epoch))
    }

    /// The shard that owns a session or share group.
    pub(crate) fn owner(&self, tenant: TenantId, name: &str) -> ShardId {
        owner(&self.settings, tenant, name, self.shard_count)
    }

    /// The Client Identifier that a message was published with or that a session has.
    pub(crate) fn client_key(&self, tenant: TenantId, client_id: &str) -> ClientKey {
        ClientKey::new(&self.settings, tenant, client_id)
    }

    pub(crate) fn address_of(&self, session: u32) -> SessionAddress {
        SessionAddress {
            shard: self.id,
            session: self.sessions.id_of(session),
        }
    }
}
