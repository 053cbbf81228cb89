//! Returns unused memory to the system, and counts the control plane's memory against the limit.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use martlet_control::Control;
use tokio::time::{MissedTickBehavior, interval};

/// Interval of both tasks.
const EVERY: Duration = Duration::from_secs(1);

/// With a lower limit, freed memory is returned to the system at once. Memory kept for reuse is as
/// much as is allocated and freed meanwhile, and could exceed the limit.
const SMALL_LIMIT_BYTES: usize = 512 << 20;
const SOON: Duration = Duration::ZERO;

/// Sets how long freed memory is kept, depending on the node's limit.
pub(super) fn set_delay(limit_bytes: usize) {
    if limit_bytes < SMALL_LIMIT_BYTES {
        martlet_allocator::give_back_after(SOON);
    }
}

/// A block of this size is freed to the shared part of the allocator and not kept in a free list.
const BLOCK_BYTES: usize = 1 << 20;

/// The allocator keeps freed memory for a second, but checks that time only when it frees a large
/// block. An idle node would keep the memory of its start, or of a burst, as long as it is idle. So
/// a large block is allocated and freed periodically; nothing is written to it.
pub(super) async fn keep(control: Arc<Control>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        control.count_memory();
        drop(black_box(Vec::<u8>::with_capacity(BLOCK_BYTES)));
    }
}
