//! Memory that is not used any more goes back to the system; what the control plane keeps counts
//! against the limit.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use martlet_control::Control;
use tokio::time::{MissedTickBehavior, interval};

/// How often both are seen to.
const EVERY: Duration = Duration::from_secs(1);

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
