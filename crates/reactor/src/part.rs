//! Parts of the node: how other threads receive messages from a shard and settle them.
//!
//! Events for a part leave its shard by a [`PartOutlet`]. Calls of a part arrive by the control
//! lane of that shard's mailbox, through its [`PartLine`].

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use martlet_broker::{
    PartCall, PartEvent, PartId, PartLine, PartOutlet, PartPublish, Settlement, ShardId,
};

use crate::mailbox::{Control, Mailboxes};

/// The outlets of the parts of one shard.
#[derive(Default)]
pub(crate) struct Outlets {
    outlets: HashMap<PartId, Outlet>,
    /// Parts with events in this tick.
    told: Vec<PartId>,
}

struct Outlet {
    outlet: Box<dyn PartOutlet>,
    /// The part's events of this tick.
    events: Vec<PartEvent>,
}

impl Outlets {
    pub(crate) fn insert(&mut self, id: PartId, outlet: Box<dyn PartOutlet>) {
        let events = Vec::new();
        self.outlets.insert(id, Outlet { outlet, events });
    }

    /// Passes all events of this tick to the parts, one call per part.
    pub(crate) fn tell(&mut self, events: impl Iterator<Item = (PartId, PartEvent)>) {
        for (id, event) in events {
            let Some(outlet) = self.outlets.get_mut(&id) else {
                continue;
            };
            if outlet.events.is_empty() {
                self.told.push(id);
            }
            outlet.events.push(event);
        }
        for id in self.told.drain(..) {
            let Some(outlet) = self.outlets.get_mut(&id) else {
                continue;
            };
            let events = std::mem::take(&mut outlet.events);
            let is_over = matches!(events.last(), Some(PartEvent::Ended { .. }));
            outlet.outlet.notify_all(events);
            if is_over {
                self.outlets.remove(&id);
            }
        }
    }
}

/// A part that is attached, or will be. Dropping this detaches it.
pub(crate) struct AttachedPart {
    id: PartId,
    shard: ShardId,
    mailboxes: Arc<Mailboxes>,
}

impl AttachedPart {
    pub(crate) fn new(id: PartId, shard: ShardId, mailboxes: Arc<Mailboxes>) -> Self {
        Self {
            id,
            shard,
            mailboxes,
        }
    }

    fn call(&self, call: PartCall) {
        self.mailboxes.control(self.shard, Control::Part(call));
    }
}

impl PartLine for AttachedPart {
    fn settle(&self, settlements: Vec<Settlement>) {
        self.call(PartCall::Settle(self.id, settlements));
    }

    fn set_credit(&self, credit: u16) {
        self.call(PartCall::Credit(self.id, credit));
    }

    fn set_queue_bytes(&self, bytes_max: u64) {
        self.call(PartCall::QueueBytes(self.id, bytes_max));
    }

    fn publish(&self, publish: PartPublish) {
        self.call(PartCall::Publish(self.id, Box::new(publish)));
    }

    fn end(&self) {
        self.call(PartCall::End(self.id));
    }
}

impl Drop for AttachedPart {
    fn drop(&mut self) {
        self.call(PartCall::Detach(self.id));
    }
}

impl fmt::Debug for AttachedPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AttachedPart").field(&self.id).finish()
    }
}
