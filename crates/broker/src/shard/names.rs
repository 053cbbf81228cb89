//! Names that a shard gives: of messages, sessions and their owners.

use martlet_permission::TenantId;

use crate::hash::{ClientKey, owner};
use crate::id::{MessageId, SessionAddress, SessionEpoch, ShardId, numbered};
use crate::run::Run;
use crate::shard::Shard;

impl Shard {
    pub(crate) fn next_message_id(&mut self) -> MessageId {
        MessageId::new(self.id, self.numbers.next_message())
    }

    /// The name of a message that asks for receipts.
    pub(crate) fn next_message_id_with_receipts(&mut self) -> MessageId {
        MessageId::new(self.id, self.numbers.next_message_with_receipts())
    }

    /// Number of this run of the node, whose names may have come into the room of later ones.
    pub(crate) fn run(&self) -> u32 {
        self.numbers.run().number
    }

    /// Number of the last run before this one.
    pub(crate) fn last_run(&self) -> u32 {
        self.numbers.run().last
    }

    /// Messages and sessions get names of this run from now on. Without a store that is all that a
    /// run begins with.
    pub fn begin_names(&mut self, run: Run) {
        self.numbers.begin(run);
    }

    pub(crate) fn next_epoch(&mut self) -> SessionEpoch {
        SessionEpoch(numbered(self.id, self.numbers.next_epoch()))
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
