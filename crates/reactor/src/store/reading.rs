//! The thread that reads messages back, so that the one that writes never waits for it.
//!
//! Where they lie the writing thread has found out, after it had written what was appended before.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::Receiver;
use martlet_broker::{MemoryGauge, Now, QueueOwner};
use martlet_persistence::{LocatedPage, Making, read_located};
use martlet_store::Disk;

use super::Durable;
use super::health::StoreHealth;

/// Attempts to read from a disk that gives errors.
const ATTEMPTS_MAX: u32 = 6;

/// Time before the second attempt; it doubles.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// A page to be read.
#[derive(Debug)]
pub(super) struct Page<F> {
    pub(super) owner: QueueOwner,
    pub(super) located: LocatedPage<F>,
    pub(super) now: Now,
    pub(super) gauge: Arc<MemoryGauge>,
    pub(super) answer: Durable,
}

/// Pages read together at most: queues that are emptied at the same time were often filled
/// together.
const TOGETHER_MAX: usize = 32;

/// Reads pages until nobody sends any more.
pub(super) fn read_pages<D: Disk>(disk: &D, pages: &Receiver<Page<D::File>>, health: &StoreHealth) {
    for first in pages {
        let more = pages.try_iter().take(TOGETHER_MAX - 1);
        let together: Vec<_> = std::iter::once(first).chain(more).collect();
        let wanted: Vec<_> = together
            .iter()
            .map(|page| {
                let making = Making {
                    now: page.now,
                    gauge: &page.gauge,
                };
                (&page.located, making)
            })
            .collect();
        let read = read_located(disk, &wanted, retry, |id, why| {
            health.unreadable(format!("message {:#x}: {why}", id.0));
        });
        for (page, messages) in together.iter().zip(read) {
            page.answer.messages_read(page.owner, messages);
        }
    }
}

/// An error of the disk may pass; a message is given up only after a while.
fn retry(attempts: u32) -> bool {
    if attempts >= ATTEMPTS_MAX {
        return false;
    }
    thread::sleep(RETRY_AFTER * 2_u32.pow(attempts - 1));
    true
}
