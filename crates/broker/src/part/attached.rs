//! The parts that are attached to a shard.

use std::collections::BTreeMap;

use martlet_codec::{PacketId, ReasonCode};

use crate::id::{ConnectionId, SessionId};
use crate::part::bounds::PartQueue;
use crate::part::interface::PartId;
use crate::part::lanes::Lanes;
use crate::part::recent::RecentEntries;

/// A part that is attached to a shard.
#[derive(Debug)]
pub(crate) struct Part {
    pub(super) id: PartId,
    pub(super) connection: ConnectionId,
    /// Answers to its subscriptions, until it is attached.
    pub(super) granted: Vec<ReasonCode>,
    pub(super) session_present: bool,
    /// Deliveries to be made again, and when, monotonic milliseconds.
    pub(super) later: Vec<(u64, PacketId)>,
    /// The run that it was told of last, see [`PartEvent::Run`]: none yet, or `u32::MAX` if it is
    /// no lane.
    pub(super) run: Option<u32>,
    /// What has entered its queue just now.
    pub(super) recent: RecentEntries,
}

/// The parts of a shard; there are few.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(super) attached: Vec<Part>,
    /// Lanes of parts that are attached once per shard.
    pub(crate) lanes: Lanes,
    /// Lanes that the message under way was chosen for, since an operator's message was begun.
    pub(crate) lanes_chosen: u64,
    /// Queues with bounds of their own, of parts that are attached and those that are not.
    pub(super) queues: BTreeMap<SessionId, PartQueue>,
}

impl Parts {
    pub(super) fn find(&mut self, id: PartId) -> Option<&mut Part> {
        self.attached.iter_mut().find(|part| part.id == id)
    }

    pub(super) fn at(&mut self, connection: ConnectionId) -> Option<&mut Part> {
        let mut all = self.attached.iter_mut();
        all.find(|part| part.connection == connection)
    }

    pub(super) fn remove(&mut self, connection: ConnectionId) -> Option<Part> {
        let mut all = self.attached.iter();
        let place = all.position(|part| part.connection == connection)?;
        Some(self.attached.swap_remove(place))
    }
}
