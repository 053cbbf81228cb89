//! Bounds of the queue of a part.

use martlet_fault::{self as fault, Fault};

use crate::limits::QueueFull;
use crate::part::interface::{OnFull, PartQueueLimits, PartQueueState};

/// Bytes with which nobody waits, such as Wills, that may come to any queue after its publishers
/// have begun to wait.
const BEYOND_HOLD: u64 = 1024 * 1024;

/// The queue of a part with bounds of its own.
#[derive(Debug)]
pub(crate) struct PartQueue {
    pub(crate) limits: PartQueueLimits,
    /// Publishers wait.
    pub(crate) holds: bool,
    /// Bytes in it when they began to: what nobody waits with may still come, whatever the bound.
    pub(crate) held_at: u64,
    /// They wait because memory is short, and do as long as it is.
    pub(crate) holds_for_memory: bool,
    /// Since a restart the part has not been attached: when nobody waits for it any more,
    /// monotonic milliseconds.
    pub(super) attach_by_ms: Option<u64>,
    /// Whether it was not attached by then.
    pub(super) is_given_up: bool,
    /// The state that was last reported to the part.
    pub(super) reported: PartQueueState,
}

impl PartQueue {
    /// Number of bytes from which the state is reported at once, since the part may have room to
    /// lend. It is reported once for each bound.
    pub(super) fn notify_from_bytes(&self, bytes_max: u64) -> u64 {
        let near = bytes_max / 4 * 3;
        match self.reported.bytes_max == bytes_max && self.reported.bytes >= near {
            true => u64::MAX,
            false => near,
        }
    }

    /// Publishers wait at the bound.
    pub(super) fn is_holding(&self) -> bool {
        self.limits.on_full != OnFull::DropOldest && !self.is_given_up
    }
}

/// At how many bytes publishers begin to wait for a queue in memory, so that what is under way then
/// stays within `share` too.
pub(super) fn held_from(share: u64) -> u64 {
    let less = share.saturating_sub(BEYOND_HOLD) / 9 * 8;
    less.max(share / 2)
}

/// Returns what a queue whose publishers wait may have, for what nobody waits with.
pub(super) fn beyond_hold(bytes_max: u64) -> u64 {
    if fault::is(Fault::HoldDrops) {
        return bytes_max;
    }
    bytes_max
        .saturating_add(bytes_max / 8)
        .saturating_add(BEYOND_HOLD)
}

/// Bounds of a queue, and what happens at them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueBounds {
    pub(crate) messages: u32,
    pub(crate) bytes: u64,
    pub(crate) policy: QueueFull,
    /// Publishers wait where messages would be dropped.
    pub(crate) holds: bool,
    /// From this number of bytes on, the state of the queue is reported to the part at once.
    pub(crate) notify_from_bytes: u64,
}
