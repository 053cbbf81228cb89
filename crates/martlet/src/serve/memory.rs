//! Memory that is not used any more goes back to the system; what the control plane keeps counts
//! against the limit.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use martlet_control::Control;
use tokio::time::{MissedTickBehavior, interval};

/// How often both are seen to.
const EVERY: Duration = Duration::from_secs(1);

/// With a limit below this, freed memory goes back to the system at once: what waits to be used
/// again is as much as comes and goes meanwhile, and would be more than the limit.
const SMALL_LIMIT_BYTES: usize = 512 << 20;
const SOON: Duration = Duration::ZERO;

/// Sets how long freed memory is kept, by the node's limit.
pub(super) fn set_delay(limit_bytes: usize) {
    if limit_bytes < SMALL_LIMIT_BYTES {
        martlet_allocator::give_back_after(SOON);
    }
}

/// A block of this size is freed to the system's side of the allocator, not to a list of its own.
const BLOCK_BYTES: usize = 1 << 20;

/// The allocator keeps what was freed for a second, and looks whether that is over only when it
/// frees something large: a node at rest would hold what its start, or a burst, has taken for as
/// long as it rests. So a large block is taken and freed now and then; nothing is written to it.
pub(super) async fn keep(control: Arc<Control>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        control.count_memory();
        drop(black_box(Vec::<u8>::with_capacity(BLOCK_BYTES)));
    }
}
