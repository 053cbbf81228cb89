//! The parts that are attached to a shard.

use std::collections::BTreeMap;

use martlet_codec::{PacketId, ReasonCode};

use crate::hash::Seed;
use crate::id::{ConnectionId, SessionId};
use crate::node::{Cx, Node};
use crate::part::bounds::PartQueue;
use crate::part::bounds::beyond_hold;
use crate::part::holds::Holds;
use crate::part::interface::OnFull;
use crate::part::interface::PartEvent;
use crate::part::interface::PartId;
use crate::part::lanes::Lanes;
use crate::part::receipts::due::Receipts;
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
    /// The run of the last [`PartEvent::Run`] that it got: none yet, or `u32::MAX` if it gets none
    /// more.
    pub(super) run: Option<u32>,
    /// Whether its session takes nothing more and is emptied.
    pub(super) is_left_over: bool,
    /// Entries that have come into its queue just now.
    pub(super) recent: RecentEntries,
}

/// The parts of a shard; there are few.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(super) attached: Vec<Part>,
    /// Parts that are attached once per shard.
    pub(crate) lanes: Lanes,
    /// Lanes that the message under way was chosen for, since an operator's message was begun.
    pub(crate) lanes_chosen: u64,
    /// Queues with bounds of their own, of parts that are attached and those that are not.
    pub(super) queues: BTreeMap<SessionId, PartQueue>,
    /// Receipts for what parts have published.
    pub(crate) receipts: Receipts,
    /// Parts of all shards that hold publishers back.
    pub(crate) holds: Holds,
}

impl Parts {
    pub(crate) fn new(seed: Seed) -> Self {
        Self {
            attached: Vec::new(),
            lanes: Lanes::default(),
            lanes_chosen: 0,
            queues: BTreeMap::new(),
            receipts: Receipts::new(seed),
            holds: Holds::default(),
        }
    }

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

    /// Sends a part an event whose record is durable now.
    pub(crate) fn notify<N: Node>(&self, cx: &mut Cx<'_, N>, id: PartId, event: PartEvent) {
        let mut attached = self.attached.iter();
        if attached.any(|part| part.id == id) {
            cx.effects.parts.push((id, event));
        }
    }

    /// Publishers wait at the bound of this queue.
    pub(crate) fn is_holding(&self, id: SessionId) -> bool {
        let queue = self.queues.get(&id);
        queue.is_some_and(|queue| queue.limits.bytes_max > 0 && queue.is_holding())
    }

    /// Messages with hops do not wait at the bound of this queue, see
    /// [`OnFull::HoldFromOutside`](super::OnFull::HoldFromOutside).
    pub(crate) fn passes_on(&self, id: SessionId) -> bool {
        let queue = self.queues.get(&id);
        queue.is_some_and(|queue| queue.limits.on_full == OnFull::HoldFromOutside)
    }

    /// Bytes that a queue may have after its publishers have begun to wait at this bound.
    pub(crate) fn bytes_beyond_hold(&self, id: SessionId, bytes_max: u64) -> u64 {
        let queue = self.queues.get(&id);
        let held_at = queue.map_or(0, |queue| queue.held_at);
        beyond_hold(bytes_max.max(held_at))
    }

    /// Whether the queue of a session has bounds of its own.
    pub(crate) fn has_bounds(&self, id: SessionId) -> bool {
        let queue = self.queues.get(&id);
        queue.is_some_and(|queue| queue.limits.bytes_max > 0)
    }
}
