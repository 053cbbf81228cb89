//! Uses of a shard's memory, and what it has borrowed of the node's.

use std::sync::Arc;

use martlet_permission::{TenantId, Uses};

use crate::gauge::MemoryGauge;
use crate::memory::MemoryLoan;
use crate::memory_use::Growth;
use crate::node::{MemoryPressure, Node};
use crate::pressure::relief::Relief;
use crate::session::queue::Window;

/// Turns between two counts of what waits to be used again, which changes slowly.
const TURNS_PER_LOOK_AT_POOLS: u32 = 64;
/// Interval at which other shards are notified that memory is short, milliseconds.
const NOTICE_INTERVAL_MS: u64 = 100;
/// Turns between two looks at what is kept, while enough memory is left.
const TURNS_PER_NOTE: u32 = 8;
/// Change of what is kept, in bytes, at which it is noted anew.
const KEPT_STEP: usize = 64 * 1024;

/// Uses of a shard's memory, as far as they are counted here, and what it has borrowed.
#[derive(Debug)]
pub(crate) struct MemoryAccount {
    /// Gauge that counts the bytes of messages.
    pub(crate) gauge: Arc<MemoryGauge>,
    /// Gauge that counts the bytes of clients that are connected, or that their messages name.
    pub(crate) clients: Arc<MemoryGauge>,
    /// Bytes of the connections' buffers.
    pub(crate) buffers: usize,
    /// Bytes of what lies between sockets and MQTT.
    pub(crate) layers: usize,
    /// Bytes of the sessions' Wills, by tenant.
    pub(crate) wills: Uses<TenantId>,
    /// Bytes of tables that grow slowly, as counted last.
    pub(crate) tables: usize,
    /// Bytes that wait to be used again, as counted last.
    pub(crate) pools: usize,
    loan: MemoryLoan,
    /// How often it was settled.
    turns: u32,
    /// The node's memory, and whether it is short, for which the parts of lobby and routes were
    /// set.
    parts_of: (Option<usize>, bool),
    /// When other shards were last notified that memory is short, monotonic milliseconds.
    notified_ms: u64,
    /// Bytes of what is kept, as last reported to the node.
    kept_noted: usize,
    /// Kinds that may not grow, because what is kept takes too much of the node's memory.
    pub(crate) growth: Growth,
    /// Bytes that the subscriptions of all tenants may take on this shard. A tenant has a share.
    pub(crate) subscriptions_max: usize,
    /// Bytes that one client may hold, by the node's memory.
    pub(crate) client_bytes_max: usize,
    /// Bytes of output that may wait for one client now.
    pub(crate) output_bytes_max: usize,
    /// The search for clients that hold much, while memory is short.
    pub(crate) relief: Relief,
}

impl MemoryAccount {
    pub(crate) fn new(output_bytes_max: usize) -> Self {
        Self {
            gauge: Arc::default(),
            clients: Arc::default(),
            buffers: 0,
            layers: 0,
            wills: Uses::default(),
            tables: 0,
            pools: 0,
            loan: MemoryLoan::default(),
            turns: 0,
            parts_of: (None, false),
            notified_ms: 0,
            kept_noted: 0,
            growth: Growth::default(),
            subscriptions_max: usize::MAX,
            client_bytes_max: usize::MAX,
            output_bytes_max,
            relief: Relief::default(),
        }
    }

    /// The node had nothing more to lend when last asked, and the loan is used up.
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.loan.is_spent()
    }

    /// Little is left of the node's memory.
    pub(crate) fn is_short(&self) -> bool {
        let (_, is_short) = self.parts_of;
        is_short || self.is_spent()
    }

    /// A buffer takes `bytes`, and took `before`.
    #[inline]
    pub(crate) fn charge_buffers(&mut self, bytes: usize, before: usize) {
        self.buffers = self.buffers + bytes - before;
    }

    /// A turn ends. Returns whether what waits to be used again is to be counted now.
    pub(crate) fn end_turn(&mut self) -> bool {
        let looks = self.turns.is_multiple_of(TURNS_PER_LOOK_AT_POOLS);
        self.turns = self.turns.wrapping_add(1);
        looks
    }

    /// Adjusts the loan to the bytes in use.
    pub(crate) fn settle<N: Node>(&mut self, node: &N, used: usize, keeps_no_spare: bool) {
        self.loan.settle(node, used + self.pools, keeps_no_spare);
    }

    /// Whether to report in this turn what is kept, if that has changed much.
    pub(crate) fn looks_at_kept(&self, is_watched: bool) -> bool {
        is_watched || self.turns.is_multiple_of(TURNS_PER_NOTE)
    }

    /// Sets the bytes that are kept. Returns whether to report them to the node.
    pub(crate) fn notes_kept(&mut self, kept: usize, is_watched: bool) -> bool {
        let is_due = is_watched || kept.abs_diff(self.kept_noted) >= KEPT_STEP;
        if is_due {
            self.kept_noted = kept;
        }
        is_due
    }

    /// Whether parts of the memory are to be set anew.
    pub(crate) fn has_new_parts(&mut self, pressure: &MemoryPressure) -> bool {
        let parts_of = (pressure.limit, pressure.is_short);
        core::mem::replace(&mut self.parts_of, parts_of) != parts_of
    }

    /// Whether to notify other shards now that memory is short.
    pub(crate) fn is_shortage_notice_due(&mut self, now_ms: u64) -> bool {
        let is_due = now_ms >= self.notified_ms + NOTICE_INTERVAL_MS;
        if is_due {
            self.notified_ms = now_ms;
        }
        is_due
    }

    /// Returns the window for what is added: with memory spent, what is in the store is not in
    /// memory as well.
    pub(crate) fn window_for_more(&self, window: Window) -> Window {
        match window {
            Window::Front if self.is_spent() => Window::Nothing,
            window => window,
        }
    }
}
